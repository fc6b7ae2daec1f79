//! Pushes against repositories that are not as they should be.

mod settle;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gix_hash::ObjectId;

use super::*;
use crate::interrupt::Interrupt;
use crate::limits::PushLimits;
use crate::protocol::receive::{Capabilities, PushRequest, RefCommand};
use crate::repository::fault::armed::die_at;
use crate::repository::testing::{git, git_id};
use crate::repository::{Repository, create};

/// A repository with one commit on `main` and another one upon it that no ref names.
fn repository() -> (tempfile::TempDir, PathBuf, ObjectId, ObjectId) {
    let dir = tempfile::tempdir().unwrap();
    let git_dir = create(&dir.path().join("r.git"), gix_hash::Kind::Sha1, "main").unwrap();
    let commit = |text: &[u8], parent: &[&str]| {
        let blob = git_id(&git_dir, &["hash-object", "-w", "--stdin"], text);
        let tree = git_id(
            &git_dir,
            &["mktree"],
            format!("100644 blob {blob}\ta\n").as_bytes(),
        );
        let tree = tree.to_string();
        git_id(&git_dir, &[&["commit-tree", &tree][..], parent].concat(), b"c\n")
    };
    let old = commit(b"old", &[]);
    let new = commit(b"new", &["-p", &old.to_string()]);
    git(
        &git_dir,
        &["update-ref", "refs/heads/main", &old.to_string()],
        b"",
    );
    (dir, git_dir, old, new)
}

/// What reading the push's pack does first.
struct Meanwhile<'a> {
    pack: &'a [u8],
    act: Option<Box<dyn FnOnce() + 'a>>,
}

impl Read for Meanwhile<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some(act) = self.act.take() {
            act();
        }
        self.pack.read(out)
    }
}

/// A push that makes refs.
fn request(commands: &[(&str, ObjectId)], capabilities: Capabilities) -> PushRequest {
    let commands = commands.iter().map(|&(name, new_id)| RefCommand {
        old_id: ObjectId::null(new_id.kind()),
        new_id,
        name: name.into(),
    });
    PushRequest {
        commands: commands.collect(),
        capabilities,
        push_options: Vec::new(),
    }
}

/// What a client asks for that listens on bands.
fn bands() -> Capabilities {
    Capabilities {
        report_status: true,
        side_band_64k: true,
        ..Capabilities::default()
    }
}

/// Pushes and returns all that the client hears.
fn answer(git_dir: &Path, request: &PushRequest, pack: &mut dyn Read) -> String {
    let repository = Arc::new(Repository::open(git_dir).unwrap());
    let limits = PushLimits {
        disk_reserve_bytes: 0,
        ..PushLimits::default()
    };
    let receiver = Receiver {
        repository: &repository,
        limits: &limits,
        interrupt: &Interrupt::new(),
        allows: &|_| Ok(()),
        standing: &|| Ok(()),
        committer: "a <a@b>".to_owned(),
        secrets: None,
    };
    let mut out = Vec::new();
    let mut reporter = Reporter::new(&mut out, &request.capabilities);
    receiver
        .run(request, &mut Input::new(pack), &mut reporter)
        .unwrap();
    String::from_utf8_lossy(&out).into_owned()
}

/// Pushes new refs and returns the report.
fn push(git_dir: &Path, commands: &[(&str, ObjectId)], pack: &mut dyn Read) -> String {
    let capabilities = Capabilities {
        report_status: true,
        ..Capabilities::default()
    };
    answer(git_dir, &request(commands, capabilities), pack)
}

fn pack_of(git_dir: &Path, revisions: &str) -> Vec<u8> {
    let pack = git(
        git_dir,
        &[
            "-c",
            "core.maxTreeDepth=4096",
            "pack-objects",
            "-q",
            "--revs",
            "--stdout",
        ],
        revisions.as_bytes(),
    );
    assert!(pack.starts_with(b"PACK"));
    pack
}

#[test]
fn a_ref_that_goes_while_the_pack_comes_vouches_for_nothing() {
    let (_dir, git_dir, old, new) = repository();
    let pack = pack_of(&git_dir, &format!("{new}\n^{old}\n"));
    let tree = git_id(&git_dir, &["rev-parse", &format!("{old}^{{tree}}")], b"").to_string();
    let act = || {
        // What a `git gc` may leave of a branch that was deleted.
        git(&git_dir, &["update-ref", "-d", "refs/heads/main"], b"");
        let (fan, rest) = tree.split_at(2);
        std::fs::remove_file(git_dir.join("objects").join(fan).join(rest)).unwrap();
    };
    let mut pack = Meanwhile {
        pack: &pack,
        act: Some(Box::new(act)),
    };
    let report = push(&git_dir, &[("refs/heads/new", new)], &mut pack);
    assert!(
        report.contains("ng refs/heads/new missing necessary objects"),
        "{report}"
    );
}

#[test]
fn a_push_is_refused_whose_tree_names_a_commit_of_the_repository_as_a_file() {
    let (_dir, git_dir, old, new) = repository();
    let mut tree = b"100644 a\0".to_vec();
    tree.extend_from_slice(old.as_slice());
    let hash = ["hash-object", "-w", "--literally", "-t", "tree", "--stdin"];
    let tree = git_id(&git_dir, &hash, &tree);
    let odd = git_id(&git_dir, &["commit-tree", &tree.to_string()], b"c\n");
    let objects = format!("{odd}\n{tree}\n");
    let pack = git(&git_dir, &["pack-objects", "-q", "--stdout"], objects.as_bytes());
    git(&git_dir, &["update-ref", "refs/heads/new", &new.to_string()], b"");
    let report = push(&git_dir, &[("refs/heads/odd", odd)], &mut pack.as_slice());
    assert!(
        report.contains("ng refs/heads/odd missing necessary objects"),
        "{report}"
    );
    let pack = pack_of(&git_dir, &format!("{new}\n"));
    let report = push(&git_dir, &[("refs/heads/good", new)], &mut pack.as_slice());
    assert!(report.contains("ok refs/heads/good"), "{report}");
}

#[test]
fn a_broken_ref_does_not_stand_in_the_way_of_other_pushes() {
    let (_dir, git_dir, _, new) = repository();
    std::fs::write(git_dir.join("refs/heads/broken"), format!("{}\n", "7".repeat(40))).unwrap();
    let pack = pack_of(&git_dir, &format!("{new}\n"));
    let beside = git_id(&git_dir, &["rev-parse", &format!("{new}^{{tree}}")], b"");
    let tag = format!("object {beside}\ntype tree\ntag t\ntagger a <a@b> 0 +0000\n\nt\n");
    let tag = git_id(&git_dir, &["mktag"], tag.as_bytes());
    let only_tag = git(
        &git_dir,
        &["pack-objects", "-q", "--stdout"],
        format!("{tag}\n").as_bytes(),
    );
    let report = push(&git_dir, &[("refs/tags/t", tag)], &mut only_tag.as_slice());
    assert!(report.contains("ok refs/tags/t"), "{report}");
    let report = push(&git_dir, &[("refs/heads/new", new)], &mut pack.as_slice());
    assert!(report.contains("ok refs/heads/new"), "{report}");
}

/// What `work` returns, and the errors that it writes to the log.
fn with_errors_logged<T>(work: impl FnOnce() -> T) -> (T, String) {
    let (mut reader, writer) = io::pipe().unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(writer))
        .finish();
    let result = tracing::subscriber::with_default(subscriber, work);
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    (result, log)
}

/// Where a ref is by the next look at the repository.
fn at(git_dir: &Path, name: &str) -> Option<ObjectId> {
    let refs = Repository::open(git_dir).unwrap().refs().unwrap();
    refs.find(name.into()).map(|entry| entry.id)
}

#[test]
fn a_pack_that_cannot_be_moved_in_is_told_in_the_report_and_its_cause_in_the_log_alone() {
    let (_dir, git_dir, _, new) = repository();
    let pack_dir = git_dir.join("objects/pack");
    let pack = pack_of(&git_dir, &format!("{new}\n"));
    std::fs::remove_dir(&pack_dir).unwrap();
    std::os::unix::fs::symlink("/nonexistent", &pack_dir).unwrap();
    let request = request(&[("refs/heads/a", new), ("refs/heads/b", new)], bands());
    let (told, log) = with_errors_logged(|| answer(&git_dir, &request, &mut pack.as_slice()));
    assert!(told.contains("unpack ok\n"), "{told}");
    for name in ["a", "b"] {
        let line = format!("ng refs/heads/{name} unable to migrate objects to permanent storage\n");
        assert!(told.contains(&line), "{told}");
        assert_eq!(at(&git_dir, &format!("refs/heads/{name}")), None);
    }
    assert!(told.contains("administrator"), "{told}");
    assert!(!told.contains("r.git") && log.contains("r.git"), "{told}{log}");
}

#[test]
fn whatever_fails_while_a_push_is_moved_in_is_told_in_the_report_and_nothing_is_ok() {
    let mut met = Vec::new();
    for is_atomic in [false, true] {
        for index in 0.. {
            let (_dir, git_dir, old, new) = repository();
            let pack = pack_of(&git_dir, &format!("{new}\n"));
            let names = ["refs/heads/a", "refs/heads/b", "refs/heads/main"];
            let mut request = request(&[(names[0], new), (names[1], new), (names[2], new)], bands());
            request.capabilities.atomic = is_atomic;
            request.commands[2].old_id = old;
            let work = || answer(&git_dir, &request, &mut pack.as_slice());
            let ((told, died), log) = with_errors_logged(|| die_at(index, work));
            let moved = names.map(|name| at(&git_dir, name) == Some(new));
            let Some(died) = died else {
                assert_eq!(
                    (told.matches("ok refs/").count(), moved),
                    (3, [true; 3]),
                    "{told}"
                );
                assert_eq!(log, "");
                break;
            };
            let is_pack = died.starts_with("pack ") || died.starts_with("packs ");
            let words = match (is_pack, is_atomic) {
                (true, _) => "unable to migrate objects to permanent storage",
                (false, true) => "atomic transaction failed",
                (false, false) => "failed to update ref",
            };
            assert!(
                told.contains("unpack ok\n") && !told.contains("ok refs/"),
                "{died}: {told}"
            );
            for name in names {
                assert!(told.contains(&format!("ng {name} {words}\n")), "{died}: {told}");
            }
            assert!(
                moved == [false; 3] || (!is_pack && moved == [true; 3]),
                "{died}: {moved:?}"
            );
            assert!(log.contains(died), "{died}: {log}");
            assert!(!told.contains("r.git") && !told.contains(died), "{died}: {told}");
            met.push((is_pack, moved[0]));
        }
    }
    // Before the refs, before they are sure to move, and after.
    for kind in [(true, false), (false, false), (false, true)] {
        assert!(met.contains(&kind), "{met:?}");
    }
}

#[test]
fn a_pack_that_cannot_be_stored_is_told_without_the_names_of_files() {
    let (_dir, git_dir, _, new) = repository();
    let pack = pack_of(&git_dir, &format!("{new}\n"));
    let act = || {
        for entry in std::fs::read_dir(git_dir.join("objects")).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().contains("incoming") {
                std::fs::remove_dir_all(path).unwrap();
            }
        }
    };
    let mut pack = Meanwhile {
        pack: &pack,
        act: Some(Box::new(act)),
    };
    let request = request(&[("refs/heads/new", new)], bands());
    let (told, log) = with_errors_logged(|| answer(&git_dir, &request, &mut pack));
    assert!(
        told.contains("unpack the server could not store the pack\n"),
        "{told}"
    );
    assert!(told.contains("ng refs/heads/new unpacker error\n"), "{told}");
    assert!(!told.contains("r.git") && log.contains("r.git"), "{told}{log}");
}

/// A commit upon `parent`, if there is one, with a file below `levels` directories of one name.
fn deep_commit(git_dir: &Path, levels: usize, parent: Option<ObjectId>) -> ObjectId {
    let from = parent.map_or_else(String::new, |parent| format!("from {parent}\n"));
    let script = format!(
        "commit refs/heads/deep\ncommitter a <a@b> 1700000000 +0000\ndata 1\nc\n{from}M 100644 inline {}f\ndata 1\nx\n",
        "d/".repeat(levels)
    );
    git(git_dir, &["fast-import", "--quiet", "--force"], script.as_bytes());
    let commit = git_id(git_dir, &["rev-parse", "refs/heads/deep"], b"");
    git(git_dir, &["update-ref", "-d", "refs/heads/deep"], b"");
    commit
}

#[test]
fn trees_that_git_would_not_walk_are_refused_in_its_words_and_those_that_it_walks_are_taken() {
    for (levels, is_fine) in [(2048, true), (2049, false)] {
        let (_source_dir, source, ..) = repository();
        let alone = deep_commit(&source, levels, None);
        let main = git_id(&source, &["rev-parse", "refs/heads/main"], b"");
        let upon = deep_commit(&source, levels, Some(main));
        for (tip, without) in [(alone, String::new()), (upon, format!("^{main}\n"))] {
            let (_dir, git_dir, ..) = repository();
            let pack = pack_of(&source, &format!("{tip}\n{without}"));
            let request = request(&[("refs/heads/deep", tip)], bands());
            let told = answer(&git_dir, &request, &mut pack.as_slice());
            if is_fine {
                assert!(told.contains("ok refs/heads/deep\n"), "{told}");
                git(&git_dir, &["fsck", "--full", "--strict"], b"");
                continue;
            }
            let why = "exceeded maximum allowed tree depth";
            assert!(told.contains(&format!("fatal: {why}: tree ")), "{told}");
            assert!(told.contains("unpack ok\n"), "{told}");
            assert!(told.contains(&format!("ng refs/heads/deep {why}\n")), "{told}");
            assert_eq!(at(&git_dir, "refs/heads/deep"), None);
        }
    }
}
