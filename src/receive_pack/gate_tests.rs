//! Pushes about which the gate has something to say while they run.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use gix_hash::ObjectId;

use super::*;
use crate::auth::{Gate, Options, token};
use crate::names::{AccessPath, RepoPath};
use crate::protocol::receive::RefCommand;
use crate::repository::create;
use crate::repository::fault::armed::die_at;
use crate::store::{Actor, DATABASE_FILE, NewAccount, Role, Store, TokenLimits};

/// A repository, a pack of one commit that is not in it, and a way to grants.
struct Bench {
    dir: tempfile::TempDir,
    git_dir: PathBuf,
    tip: ObjectId,
    pack: Vec<u8>,
}

fn git(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = std::process::Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", "/nonexistent")
        .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@b")])
        .envs([("GIT_COMMITTER_NAME", "A"), ("GIT_COMMITTER_EMAIL", "a@b")])
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}");
    output.stdout
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let git_dir = create(&dir.path().join("r.git"), gix_hash::Kind::Sha1, "main").unwrap();
    let source = create(&dir.path().join("s.git"), gix_hash::Kind::Sha1, "main").unwrap();
    std::fs::write(source.join("empty"), "").unwrap();
    let tree = git(&source, &["hash-object", "-w", "-t", "tree", "empty"]);
    let tree = String::from_utf8(tree).unwrap();
    let commit = git(&source, &["commit-tree", tree.trim(), "-m", "x"]);
    let tip = ObjectId::from_hex(commit.trim_ascii()).unwrap();
    git(&source, &["update-ref", "refs/heads/main", &tip.to_string()]);
    let pack = git(&source, &["pack-objects", "-q", "--all", "--stdout"]);
    Bench {
        dir,
        git_dir,
        tip,
        pack,
    }
}

impl Bench {
    /// A grant by a token that ends after `expires` and may push to `refs`.
    fn grant(&self, expires: &str, refs: &[&str]) -> Grant<Push> {
        let store = Store::open(&self.dir.path().join(DATABASE_FILE)).unwrap();
        let account = NewAccount {
            name: "bob",
            password: None,
            is_admin: false,
            must_change_password: false,
        };
        store.create_account(&Actor::CommandLine, &account).unwrap();
        store
            .grant_access(
                &Actor::CommandLine,
                Some("bob"),
                &AccessPath::Server,
                Role::Contributor,
            )
            .unwrap();
        let limits = TokenLimits {
            refs: refs
                .iter()
                .map(|pattern| RefPattern::parse(pattern).unwrap())
                .collect(),
            ..TokenLimits::NONE
        };
        let new = token::CreateToken {
            account: "bob",
            name: "ci",
            scopes: "vso.code_write",
            expires_at: token::parse_expiry(expires, jiff::Timestamp::now()).unwrap(),
            limits: &limits,
        };
        let (_, plain) = token::create(&store, &Actor::CommandLine, &new).unwrap();
        let gate = Gate::new(store, Options::default());
        let bearer = format!("Bearer {}", plain.expose());
        let address = std::net::IpAddr::from([127, 0, 0, 1]);
        let principal = gate.authenticate(Some(bearer.as_bytes()), address).unwrap();
        let repository = RepoPath::parse("C/P/R").unwrap();
        gate.authorize_push(&principal, Some(&repository)).unwrap()
    }

    /// The request that makes `names` of the commit.
    fn request(&self, names: &[&str], capabilities: &str) -> Vec<u8> {
        let mut request = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let capabilities = if number == 0 {
                format!("\0{capabilities}")
            } else {
                String::new()
            };
            let line = format!(
                "{} {} {name}{capabilities}",
                ObjectId::null(self.tip.kind()),
                self.tip
            );
            request.extend_from_slice(format!("{:04x}{line}", line.len() + 4).as_bytes());
        }
        request.extend_from_slice(b"0000");
        request.extend_from_slice(&self.pack);
        request
    }

    fn push(
        &self,
        grant: &Grant<Push>,
        request: &mut dyn Read,
        standing: &dyn Fn() -> Result<(), String>,
        interrupt: &Interrupt,
    ) -> (Outcome, String) {
        let repository = Arc::new(Repository::open(&self.git_dir).unwrap());
        let limits = PushLimits {
            disk_reserve_bytes: 0,
            ..PushLimits::default()
        };
        let mut out = Tidy {
            objects: self.git_dir.join("objects"),
            said: Vec::new(),
        };
        let store = Store::open(&self.dir.path().join(DATABASE_FILE)).unwrap();
        let gate = Gate::new(store.clone(), Options::default());
        let mut settled = Vec::new();
        let asked = Asked {
            guard: &leak::Guard::new(store, Box::new(gate)),
            standing,
            settle: &mut |outcome, _error| settled.push(outcome.clone()),
        };
        serve(grant, asked, &repository, request, &limits, &mut out, interrupt).unwrap();
        assert_eq!(settled.len(), 1, "a push is settled once");
        (settled.remove(0), String::from_utf8_lossy(&out.said).into_owned())
    }

    fn refs(&self) -> String {
        String::from_utf8(git(&self.git_dir, &["for-each-ref", "--format=%(refname)"])).unwrap()
    }

    fn packs(&self) -> usize {
        std::fs::read_dir(self.git_dir.join("objects/pack"))
            .unwrap()
            .count()
    }
}

/// Takes an answer that refuses everything: nothing of the push may be left when its client hears of it.
struct Tidy {
    objects: PathBuf,
    said: Vec<u8>,
}

impl Write for Tidy {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.said.extend_from_slice(data);
        if data.windows(3).any(|text| text == b"ng ") {
            let entries = std::fs::read_dir(&self.objects).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let left: Vec<String> = names.filter(|name| name.starts_with("tmp_objdir")).collect();
            assert!(left.is_empty(), "{left:?}");
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What reading the push does before its last bytes come.
struct Meanwhile<'a, F> {
    request: &'a [u8],
    act: F,
}

impl<F: FnMut()> Read for Meanwhile<'_, F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.request.len();
        if left <= 10 {
            (self.act)();
        }
        let piece = if left > 10 { left - 10 } else { left };
        let end = out.len().min(piece);
        self.request.read(out.split_at_mut(end).0)
    }
}

const REPORT: &str = "report-status object-format=sha1";
const TWO: [&str; 2] = ["refs/heads/a", "refs/heads/b"];

#[test]
fn a_grant_that_no_longer_holds_at_the_end_moves_nothing_and_leaves_nothing() {
    let bench = bench();
    let grant = bench.grant("90d", &[]);
    for capabilities in [REPORT, "report-status atomic"] {
        let request = bench.request(&TWO, capabilities);
        let refuse = || Err("It was\nrevoked.".to_owned());
        let (outcome, said) = bench.push(&grant, &mut request.as_slice(), &refuse, &Interrupt::new());
        assert!(said.contains("unpack ok\n"), "{said}");
        for name in TWO {
            assert!(said.contains(&format!("ng {name} It was revoked.\n")), "{said}");
        }
        assert_eq!((outcome.commands, outcome.refused, outcome.objects), (2, 2, 2));
        assert_eq!((bench.refs().as_str(), bench.packs()), ("", 0));
    }
}

#[test]
fn a_push_that_is_cut_reports_the_reason_for_each_ref_and_leaves_nothing() {
    let bench = bench();
    let grant = bench.grant("90d", &[]);
    let request = bench.request(&TWO, REPORT);
    let interrupt = Interrupt::new();
    let mut cut = Meanwhile {
        request: &request,
        act: || assert!(interrupt.trigger_because("It was revoked.")),
    };
    let (outcome, said) = bench.push(&grant, &mut cut, &|| Ok(()), &interrupt);
    assert!(said.contains("unpack It was revoked.\n"), "{said}");
    for name in TWO {
        assert!(said.contains(&format!("ng {name} It was revoked.\n")), "{said}");
    }
    assert_eq!((outcome.commands, outcome.refused), (2, 2));
    assert!(outcome.refusal.is_some(), "{outcome:?}");
    assert_eq!((bench.refs().as_str(), bench.packs()), ("", 0));
}

#[test]
fn a_push_is_cut_before_its_last_question_is_answered_or_never() {
    let bench = bench();
    let grant = bench.grant("90d", &[]);
    let request = bench.request(&TWO, REPORT);
    let interrupt = Interrupt::new();
    let cut_meanwhile = || {
        assert!(interrupt.trigger_because("It was revoked."));
        Ok(())
    };
    let (_, said) = bench.push(&grant, &mut request.as_slice(), &cut_meanwhile, &interrupt);
    assert!(said.contains("ng refs/heads/b It was revoked.\n"), "{said}");
    assert_eq!((bench.refs().as_str(), bench.packs()), ("", 0));

    let interrupt = Interrupt::new();
    let (outcome, said) = bench.push(&grant, &mut request.as_slice(), &|| Ok(()), &interrupt);
    assert!(said.contains("ok refs/heads/b\n"), "{said}");
    assert_eq!(outcome.refused, 0);
    assert!(!interrupt.trigger_because("Too late."));
    assert_eq!(bench.refs(), "refs/heads/a\nrefs/heads/b\n");
}

/// Syncing a large pack and waiting for another transaction take time after the checks.
#[test]
fn a_right_that_goes_while_the_pack_is_moved_in_moves_no_ref() {
    let bench = bench();
    let grant = bench.grant("90d", &[]);
    let request = bench.request(&TWO, REPORT);
    let asked = std::cell::Cell::new(0);
    let second = |answer: &dyn Fn() -> Result<(), String>| {
        asked.set(asked.get() + 1);
        match asked.get() {
            2 => answer(),
            _ => Ok(()),
        }
    };
    let refuse = || second(&|| Err("It was revoked.".to_owned()));
    let (outcome, said) = bench.push(&grant, &mut request.as_slice(), &refuse, &Interrupt::new());
    assert_eq!(asked.replace(0), 2);
    assert!(said.contains("ng refs/heads/b It was revoked.\n"), "{said}");
    assert_eq!((outcome.refused, bench.refs().as_str()), (2, ""));

    let interrupt = Interrupt::new();
    let cut = || {
        second(&|| {
            assert!(interrupt.trigger_because("It was cut."));
            Ok(())
        })
    };
    let (_, said) = bench.push(&grant, &mut request.as_slice(), &cut, &interrupt);
    assert!(said.contains("ng refs/heads/b It was cut.\n"), "{said}");
    assert_eq!(bench.refs(), "");
}

#[test]
fn a_client_without_a_report_hears_of_a_cut_on_the_error_band_or_not_at_all() {
    let bench = bench();
    let grant = bench.grant("5d", &[]);
    for (capabilities, expected) in [("side-band-64k", "0015\u{3}It was revoked.\n"), ("", "")] {
        let request = bench.request(&TWO, capabilities);
        let interrupt = Interrupt::new();
        let mut cut = Meanwhile {
            request: &request,
            act: || assert!(interrupt.trigger_because("It was revoked.")),
        };
        let (_, said) = bench.push(&grant, &mut cut, &|| Ok(()), &interrupt);
        assert_eq!(said, expected);
    }
}

#[test]
fn what_a_token_leaves_out_is_not_asked_of_the_repository() {
    let bench = bench();
    let grant = bench.grant(
        "90d",
        &[
            "refs/heads/ci/*",
            "refs/tags/a",
            "refs/tags/b",
            "refs/tags/c",
            "refs/tags/d",
        ],
    );
    let limited = "token limited to refs/heads/ci/*, refs/tags/a, refs/tags/b and 2 more";
    // The pack is no pack, and nobody looks at it.
    let mut request = bench.request(&TWO, REPORT);
    request.truncate(request.len() - bench.pack.len());
    request.extend_from_slice(b"garbage");
    let never = || panic!("nothing is left to ask about");
    let (outcome, said) = bench.push(&grant, &mut request.as_slice(), &never, &Interrupt::new());
    assert!(said.contains("unpack ok\n"), "{said}");
    for name in TWO {
        assert!(said.contains(&format!("ng {name} {limited}\n")), "{said}");
    }
    assert_eq!((outcome.commands, outcome.refused, outcome.objects), (2, 2, 0));
}

#[test]
fn a_notice_goes_on_band_2_before_the_report_and_nowhere_else() {
    let bench = bench();
    let grant = bench.grant("5d", &[]);
    let notice = format!("\u{2}{}\n", grant.notice().unwrap());
    let names = ["refs/heads/a"];
    let request = bench.request(&names, "report-status side-band-64k quiet");
    let (_, said) = bench.push(&grant, &mut request.as_slice(), &|| Ok(()), &Interrupt::new());
    assert_eq!(said.matches(&notice).count(), 1, "{said}");
    assert!(said.find(&notice) < said.find("unpack ok"), "{said}");
    let request = bench.request(&["refs/heads/c"], REPORT);
    let (_, said) = bench.push(&grant, &mut request.as_slice(), &|| Ok(()), &Interrupt::new());
    assert_eq!(said, "000eunpack ok\n0014ok refs/heads/c\n0000");
}

/// Moves `main` without a push.
fn moved_directly(
    bench: &Bench,
    standing: &dyn Fn() -> Result<(), String>,
    interrupt: &Interrupt,
    name: &str,
) -> (Result<Vec<direct::Moved>, Error>, Outcome) {
    let grant = bench.grant("30d", &[]);
    git(
        &bench.dir.path().join("s.git"),
        &["push", "-q", "../r.git", "main"],
    );
    let repository = Arc::new(Repository::open(&bench.git_dir).unwrap());
    let store = Store::open(&bench.dir.path().join(DATABASE_FILE)).unwrap();
    let gate = Gate::new(store.clone(), Options::default());
    let mut settled = Vec::new();
    let asked = Asked {
        guard: &leak::Guard::new(store, Box::new(gate)),
        standing,
        settle: &mut |outcome, _error| settled.push(outcome.clone()),
    };
    let command = RefCommand {
        old_id: ObjectId::null(bench.tip.kind()),
        new_id: bench.tip,
        name: name.into(),
    };
    let moved = direct::update_refs(&grant, asked, &repository, &[command], interrupt);
    assert_eq!(settled.len(), 1, "it is settled once");
    (moved, settled.remove(0))
}

#[test]
fn a_ref_that_is_moved_without_a_push_stays_where_the_gate_closes_meanwhile() {
    let bench = bench();
    let closed = || Err("It was revoked.".to_owned());
    let (moved, outcome) = moved_directly(&bench, &closed, &Interrupt::new(), "refs/heads/a");
    let refusal = direct::Refusal::Closed("It was revoked.".to_owned());
    assert_eq!(moved.unwrap(), [direct::Moved::Refused(refusal)]);
    assert_eq!((outcome.commands, outcome.refused), (1, 1));
    assert_eq!(bench.refs(), "refs/heads/main\n");
}

#[test]
fn a_ref_that_is_moved_without_a_push_can_be_stopped_until_it_moves() {
    let bench = bench();
    let interrupt = Interrupt::new();
    // As the gate answers, somebody else cuts it.
    let cut_meanwhile = || {
        assert!(interrupt.trigger_because("It was revoked."));
        Ok(())
    };
    let (moved, outcome) = moved_directly(&bench, &cut_meanwhile, &interrupt, "refs/heads/a");
    assert!(matches!(moved, Err(Error::Interrupted)), "{moved:?}");
    assert_eq!(outcome.refusal.as_deref(), Some("It was revoked."));
    assert_eq!(bench.refs(), "refs/heads/main\n");
}

#[test]
fn a_ref_that_is_moved_without_a_push_is_settled_as_a_push() {
    let bench = bench();
    let interrupt = Interrupt::new();
    let (moved, outcome) = moved_directly(&bench, &|| Ok(()), &interrupt, "refs/heads/a");
    assert_eq!(moved.unwrap(), [direct::Moved::Done]);
    assert!(!interrupt.trigger_because("Too late."), "it is sealed");
    let made = RefOutcome {
        name: "refs/heads/a".into(),
        old: None,
        new: Some(bench.tip),
        end: RefEnd::Moved,
    };
    assert_eq!((outcome.refs, outcome.is_unsure), (vec![made], false));
    assert_eq!(bench.refs(), "refs/heads/a\nrefs/heads/main\n");
}

#[test]
fn a_transaction_that_dies_without_a_push_is_answered_and_settled() {
    let mut seen = 0;
    for index in 0.. {
        let bench = bench();
        let interrupt = Interrupt::new();
        let (told, died) = die_at(index, || {
            moved_directly(&bench, &|| Ok(()), &interrupt, "refs/heads/a")
        });
        let (moved, outcome) = told;
        if died.is_none() {
            assert_eq!(moved.unwrap(), [direct::Moved::Done]);
            break;
        }
        if let Ok(moved) = moved {
            seen += 1;
            assert_eq!(moved.len(), 1, "{died:?}");
            let is_refused = matches!(moved.as_slice(), [direct::Moved::Refused(_)]);
            assert_eq!(outcome.is_unsure, is_refused, "{died:?}");
        }
        assert_eq!(outcome.commands, 1, "{died:?}");
    }
    assert!(seen > 0, "no failure of the transaction was seen");
}
