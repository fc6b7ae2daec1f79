//! What is settled of a push, and when.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::receive_pack::commands::ended_early;

/// The client's end: what it has heard so far, and whether it still listens.
#[derive(Clone, Default)]
struct Heard {
    bytes: Rc<RefCell<Vec<u8>>>,
    is_gone: bool,
}

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.bytes.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Heard {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.borrow()).into_owned()
    }
}

/// One call of `settle`: the outcome, the error, what the client had heard, and where the refs were.
type Settled = (Outcome, Option<String>, String, Vec<Option<ObjectId>>);

/// Pushes as `serve` does, and returns all that was settled.
fn settled(
    git_dir: &Path,
    request: &PushRequest,
    pack: &mut dyn Read,
    heard: &Heard,
    interrupt: &Interrupt,
) -> Vec<Settled> {
    let repository = Arc::new(Repository::open(git_dir).unwrap());
    let limits = PushLimits {
        disk_reserve_bytes: 0,
        ..PushLimits::default()
    };
    let receiver = Receiver {
        repository: &repository,
        limits: &limits,
        interrupt,
        allows: &|_| Ok(()),
        standing: &|| Ok(()),
        committer: "a <a@b>".to_owned(),
        secrets: None,
    };
    let mut calls = Vec::new();
    let mut settle = |outcome: &Outcome, error: Option<&Error>| {
        let places = request.commands.iter().map(|command| {
            let name = String::from_utf8_lossy(&command.name);
            at(git_dir, &name)
        });
        calls.push((
            outcome.clone(),
            error.map(ToString::to_string),
            heard.text(),
            places.collect(),
        ));
    };
    let mut out = heard.clone();
    let mut reporter = Reporter::new(&mut out, &request.capabilities).settling(&mut settle);
    let ended = receiver.run(request, &mut Input::new(pack), &mut reporter);
    if let Err(err) = &ended {
        reporter.settle_failed(&request.commands, err, None);
    }
    calls
}

#[test]
fn a_push_is_settled_once_after_the_refs_moved_and_before_the_client_hears_of_it() {
    let (_dir, git_dir, old, new) = repository();
    let pack = pack_of(&git_dir, &format!("{new}\n^{old}\n"));
    let mut request = request(
        &[("refs/heads/new", new), ("refs/heads/main", new), ("HEAD", new)],
        bands(),
    );
    request.commands[1].old_id = old;
    let heard = Heard::default();
    let calls = settled(
        &git_dir,
        &request,
        &mut pack.as_slice(),
        &heard,
        &Interrupt::new(),
    );
    let [(outcome, None, before, places)] = calls.as_slice() else {
        panic!("{calls:?}");
    };
    assert!(!before.contains("refs/heads/new"), "{before}");
    assert_eq!(places[..2], [Some(new), Some(new)]);
    assert!(heard.text().contains("ok refs/heads/new\n"), "{}", heard.text());
    let told = |name: &str, old, end| RefOutcome {
        name: name.into(),
        old,
        new: Some(new),
        end,
    };
    let expected = Outcome {
        commands: 3,
        refused: 1,
        objects: 3,
        pack_bytes: pack.len() as u64,
        refs: vec![
            told("refs/heads/new", None, RefEnd::Moved),
            told("refs/heads/main", Some(old), RefEnd::Moved),
            told("HEAD", None, RefEnd::Refused("funny refname".to_owned())),
        ],
        refusal: None,
        is_unsure: false,
    };
    assert_eq!(outcome, &expected);
}

#[test]
fn a_client_that_goes_before_the_report_changes_nothing_about_what_was_settled() {
    let (_dir, git_dir, _, new) = repository();
    let pack = pack_of(&git_dir, &format!("{new}\n"));
    let heard = Heard {
        is_gone: true,
        ..Heard::default()
    };
    let capabilities = Capabilities {
        report_status: true,
        ..Capabilities::default()
    };
    let request = request(&[("refs/heads/new", new)], capabilities);
    let calls = settled(
        &git_dir,
        &request,
        &mut pack.as_slice(),
        &heard,
        &Interrupt::new(),
    );
    let [(outcome, None, ..)] = calls.as_slice() else {
        panic!("{calls:?}");
    };
    assert_eq!(outcome.refs[0].end, RefEnd::Moved);
}

#[test]
fn a_push_that_ends_without_a_report_is_settled_with_the_error() {
    let (_dir, git_dir, _, new) = repository();
    let pack = pack_of(&git_dir, &format!("{new}\n"));
    let interrupt = Interrupt::new();
    interrupt.trigger();
    let request = request(&[("refs/heads/new", new)], bands());
    let calls = settled(
        &git_dir,
        &request,
        &mut pack.as_slice(),
        &Heard::default(),
        &interrupt,
    );
    let [(outcome, Some(error), _, places)] = calls.as_slice() else {
        panic!("{calls:?}");
    };
    assert_eq!(error, "the push was interrupted before any ref moved");
    assert_eq!(outcome.refs[0].end, RefEnd::Untouched);
    assert_eq!(places, &[None]);
}

#[test]
fn a_pack_that_is_refused_is_settled_with_the_reason() {
    let (_dir, git_dir, _, new) = repository();
    let request = request(&[("refs/heads/new", new)], bands());
    let mut garbage: &[u8] = b"PACK but no more";
    let calls = settled(
        &git_dir,
        &request,
        &mut garbage,
        &Heard::default(),
        &Interrupt::new(),
    );
    let [(outcome, None, ..)] = calls.as_slice() else {
        panic!("{calls:?}");
    };
    assert_eq!((outcome.commands, outcome.refused), (1, 1));
    assert!(outcome.refusal.is_some());
    assert_eq!(outcome.refs[0].end, RefEnd::Refused("unpacker error".to_owned()));
}

#[test]
fn of_many_refs_the_first_are_kept_and_all_are_counted() {
    let (_dir, git_dir, old, _) = repository();
    let of = |names: Vec<String>| {
        let commands: Vec<(&str, ObjectId)> = names.iter().map(|name| (name.as_str(), old)).collect();
        let repository = Repository::open(&git_dir).unwrap();
        let (request, refs) = (request(&commands, bands()), repository.refs().unwrap());
        let outcome = Commands::new(&request.commands, &refs, repository.settings()).outcome();
        assert_eq!(
            ended_early(&request.commands, None).refs.len(),
            outcome.refs.len(),
            "whether it failed or not"
        );
        (outcome.commands, outcome.refs.len())
    };
    let names =
        |count: usize, bytes: usize| (0..count).map(|at| format!("refs/heads/{at:0bytes$}")).collect();
    assert_eq!(of(names(10_000, 5)), (10_000, REFS_KEPT_MAX));
    assert_eq!(of(names(900, 1013)), (900, NAMES_KEPT_BYTES_MAX / 1024));
}

#[test]
fn a_deleted_ref_is_told_with_what_it_pointed_at() {
    let (_dir, git_dir, old, _) = repository();
    let mut request = request(&[("refs/heads/gone", old)], bands());
    git(
        &git_dir,
        &["update-ref", "refs/heads/gone", &old.to_string()],
        b"",
    );
    // A client that deletes a ref by a name that it was not told.
    request.commands[0].new_id = ObjectId::null(gix_hash::Kind::Sha1);
    let calls = settled(
        &git_dir,
        &request,
        &mut &b""[..],
        &Heard::default(),
        &Interrupt::new(),
    );
    let [(outcome, None, _, places)] = calls.as_slice() else {
        panic!("{calls:?}");
    };
    assert_eq!((outcome.refs[0].old, outcome.refs[0].new), (Some(old), None));
    assert_eq!(
        (&outcome.refs[0].end, places.as_slice()),
        (&RefEnd::Moved, &[None][..])
    );
}
