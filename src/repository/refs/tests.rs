use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bstr::BStr;

use super::*;
use crate::repository::testing::{Changed, Fixture, change, gits, must_update, our_refs, run_git, update};
use crate::repository::{Error, Repository, fault};

#[test]
fn a_snapshot_lists_what_git_lists() {
    for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
        let fixture = Fixture::with_hash(hash, 3);
        let hex: Vec<_> = fixture.commits.iter().map(|id| id.to_hex().to_string()).collect();
        let repository = fixture.open();
        assert!(repository.refs().unwrap().is_empty());
        fixture.git(&["update-ref", "refs/heads/main", &hex[0]]);
        fixture.git(&["update-ref", "refs/heads/packed", &hex[1]]);
        fixture.git(&["tag", "-a", "-m", "t", "v1", &hex[0]]);
        fixture.git(&["tag", "-a", "-m", "tt", "v2", "v1"]);
        fixture.git(&["pack-refs", "--all"]);
        fixture.git(&["update-ref", "refs/heads/main", &hex[2]]);
        fixture.git(&["update-ref", "refs/heads/a/b/c", &hex[1]]);
        fixture.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/packed"]);
        fixture.git(&["symbolic-ref", "refs/heads/dangling", "refs/heads/none"]);
        fixture.git(&["symbolic-ref", "refs/heads/circle", "refs/heads/circle2"]);
        fixture.git(&["symbolic-ref", "refs/heads/circle2", "refs/heads/circle"]);
        fs::write(fixture.dir().join("refs/heads/broken"), "what\n").unwrap();
        fs::write(fixture.dir().join("refs/heads/main.lock"), "").unwrap();
        assert_eq!(our_refs(&repository), fixture.git_refs());
        let snapshot = repository.refs().unwrap();
        let find = |name: &str| snapshot.find(name.into());
        assert_eq!(
            find("refs/remotes/origin/HEAD").unwrap().symref_target.unwrap(),
            "refs/heads/packed"
        );
        assert_eq!(find("refs/heads/packed").unwrap().peeled, Peeled::Known(None));
        assert_eq!(
            find("refs/tags/v2").unwrap().peeled,
            Peeled::Known(Some(fixture.commits[0]))
        );
        assert_eq!(find("refs/heads/main").unwrap().peeled, Peeled::Unknown);
        assert_eq!(find("refs/heads/broken"), None);
        let tag_id = find("refs/tags/v2").unwrap().id;
        assert_eq!(repository.peel(tag_id).unwrap(), Some(fixture.commits[0]));
        assert_eq!(repository.peel(fixture.commits[0]).unwrap(), None);
        let below: Vec<_> = snapshot
            .iter_prefix("refs/heads/p".into())
            .map(|entry| entry.name.to_owned())
            .collect();
        assert_eq!(below, ["refs/heads/packed"]);
        let head = Head::Symbolic {
            target: "refs/heads/main".into(),
            id: Some(fixture.commits[2]),
        };
        assert_eq!(*snapshot.head(), head);
    }
}

#[test]
fn three_thousand_loose_and_a_hundred_thousand_packed_refs_are_listed_as_git_lists_them() {
    let fixture = Fixture::new(2);
    let repository = fixture.open();
    let [a, b] = [fixture.commits[0].to_hex(), fixture.commits[1].to_hex()];
    let input: String = (0..3000)
        .map(|n| format!("create refs/heads/l/{n} {b}\n"))
        .collect();
    fixture.git_with_input(&["update-ref", "--stdin"], input.as_bytes());
    assert_eq!(our_refs(&repository), fixture.git_refs());
    let mut packed = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
    for n in 0..100_000 {
        packed += &format!("{a} refs/heads/l/{n:05}\n");
    }
    fs::write(fixture.dir().join("packed-refs"), packed).unwrap();
    assert_eq!(our_refs(&repository), fixture.git_refs());
    let snapshot = repository.refs().unwrap();
    assert_eq!(snapshot.iter_prefix("refs/heads/l/1234".into()).count(), 11);
    assert_eq!(
        snapshot.find("refs/heads/l/0".into()).unwrap().id,
        fixture.commits[1]
    );
}

#[test]
fn the_same_snapshot_is_given_until_something_changes_by_whatever_means() {
    let fixture = Fixture::new(2);
    let hex: Vec<_> = fixture.commits.iter().map(|id| id.to_hex().to_string()).collect();
    let repository = fixture.open();
    let mut last = repository.refs().unwrap();
    let mut expect_change = |what: &str| {
        let next = repository.refs().unwrap();
        assert!(!Arc::ptr_eq(&last, &next), "{what}");
        assert_eq!(our_refs(&repository), fixture.git_refs(), "{what}");
        assert!(Arc::ptr_eq(&next, &repository.refs().unwrap()), "{what}");
        last = next;
    };
    fixture.git(&["update-ref", "refs/heads/main", &hex[0]]);
    expect_change("a new loose ref");
    fs::write(fixture.dir().join("refs/heads/main"), format!("{}\n", hex[1])).unwrap();
    expect_change("a ref file written in place");
    fixture.git(&["pack-refs", "--all"]);
    expect_change("refs packed");
    fixture.git(&["update-ref", "-d", "refs/heads/main"]);
    expect_change("a packed ref deleted");
    fixture.git(&["symbolic-ref", "HEAD", "refs/heads/other"]);
    expect_change("HEAD moved");
    must_update(
        &repository,
        &[change("refs/heads/x", None, Some(fixture.commits[0]))],
    );
    expect_change("a ref pushed");
}

#[test]
fn head_may_be_unborn_or_detached_and_a_malformed_one_is_an_error() {
    let fixture = Fixture::new(1);
    let repository = fixture.open();
    let unborn = Head::Symbolic {
        target: "refs/heads/main".into(),
        id: None,
    };
    assert_eq!(*repository.refs().unwrap().head(), unborn);
    repository.set_head("refs/heads/x/y".into()).unwrap();
    assert_eq!(fixture.git(&["symbolic-ref", "HEAD"]), "refs/heads/x/y\n");
    fixture.git(&[
        "update-ref",
        "--no-deref",
        "HEAD",
        &fixture.commits[0].to_hex().to_string(),
    ]);
    assert_eq!(
        *repository.refs().unwrap().head(),
        Head::Detached(fixture.commits[0])
    );
    assert!(matches!(
        repository.set_head("refs/tags/x".into()),
        Err(Error::BranchName { .. })
    ));
    fs::write(fixture.dir().join("HEAD"), "ref: nowhere\n").unwrap();
    assert!(matches!(repository.refs(), Err(Error::Head)));
    assert!(matches!(Repository::open(&fixture.dir()), Err(Error::Head)));
}

/// `first` is always moved before `last`, so a state in which `last` is ahead never existed.
#[test]
fn every_snapshot_is_a_state_that_existed_while_stock_git_moves_and_packs_refs() {
    let fixture = Fixture::new(150);
    let repository = fixture.open();
    let names = ["refs/heads/m", "refs/heads/a", "refs/tags/z", "refs/heads/d/e"];
    must_update(
        &repository,
        &names.map(|name| change(name, None, Some(fixture.commits[0]))),
    );
    let is_done = AtomicBool::new(false);
    let mut seen = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut input = String::new();
            for id in &fixture.commits[1..] {
                for name in names {
                    input += &format!("start\nupdate {name} {}\ncommit\n", id.to_hex());
                }
            }
            fixture.git_with_input(&["update-ref", "--stdin"], input.as_bytes());
            is_done.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                // It gives up when it meets a lock, which is fine.
                run_git(&gits()[0], &fixture.dir(), &["pack-refs", "--all"], b"");
            }
        });
        while !is_done.load(Ordering::Acquire) || seen == 0 {
            let snapshot = repository.refs().unwrap();
            let at = names.map(|name| {
                let entry = snapshot
                    .find(name.into())
                    .unwrap_or_else(|| panic!("{name} is missing"));
                fixture.commits.binary_search(&entry.id).unwrap()
            });
            assert!(at.windows(2).all(|pair| pair[0] >= pair[1]), "torn: {at:?}");
            assert!(at[0] - at[3] <= 1, "torn: {at:?}");
            seen += 1;
        }
    });
    assert_eq!(our_refs(&repository), fixture.git_refs());
}

#[test]
fn transactions_of_another_process_are_seen_whole() {
    let fixture = Fixture::new(40);
    let (writer, reader) = (fixture.open(), fixture.open());
    let names = ["refs/heads/a", "refs/heads/b/c", "refs/tags/z"];
    must_update(
        &writer,
        &names.map(|name| change(name, None, Some(fixture.commits[0]))),
    );
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for pair in fixture.commits.windows(2) {
                must_update(
                    &writer,
                    &names.map(|name| change(name, Some(pair[0]), Some(pair[1]))),
                );
            }
            is_done.store(true, Ordering::Release);
        });
        while !is_done.load(Ordering::Acquire) {
            let snapshot = reader.refs().unwrap();
            let ids = names.map(|name| snapshot.find(name.into()).unwrap().id);
            assert!(ids.iter().all(|id| *id == ids[0]), "half a transaction was seen");
        }
    });
}

#[test]
fn pushes_that_race_for_one_ref_are_won_by_one_each_time() {
    let fixture = Fixture::new(9);
    let (first, second) = (fixture.open(), fixture.open());
    let name = "refs/heads/main";
    must_update(&first, &[change(name, None, Some(fixture.commits[0]))]);
    let won: usize = std::thread::scope(|scope| {
        let racers = fixture.commits[1..].iter().enumerate().map(|(number, id)| {
            let repository = if number % 2 == 0 { &first } else { &second };
            let changes = [change(name, Some(fixture.commits[0]), Some(*id))];
            scope.spawn(move || update(repository, &changes, false).unwrap()[0].is_ok())
        });
        let racers: Vec<_> = racers.collect();
        racers
            .into_iter()
            .map(|racer| usize::from(racer.join().unwrap()))
            .sum()
    });
    assert_eq!(won, 1);
}

fn texts(changed: Changed) -> Vec<String> {
    changed
        .unwrap()
        .into_iter()
        .map(|result| result.map_or_else(|error| error.to_string(), |()| "ok".into()))
        .collect()
}

#[test]
fn refusals_are_in_gits_words() {
    let fixture = Fixture::new(3);
    let [a, b, c] = [0, 1, 2].map(|n| fixture.commits[n]);
    let repository = fixture.open();
    must_update(
        &repository,
        &[
            change("refs/heads/main", None, Some(a)),
            change("refs/heads/p", None, Some(a)),
        ],
    );
    fixture.git(&["pack-refs", "--all", "--prune"]);
    must_update(&repository, &[change("refs/heads/loose", None, Some(a))]);
    fs::write(fixture.dir().join("refs/heads/broken"), "what\n").unwrap();
    let changed = update(
        &repository,
        &[
            change("refs/heads/main", Some(b), Some(c)),
            change("refs/heads/main", None, Some(c)),
            change("refs/heads/none", Some(a), Some(c)),
            change("refs/heads/none", Some(a), None),
            change("refs/heads/p/q", None, Some(a)),
            change("refs/heads/loose/q", None, Some(a)),
            change("refs/heads", None, Some(a)),
            change("refs/heads/..", None, Some(a)),
            change("HEAD", None, Some(a)),
            change("refs/heads/broken", None, Some(a)),
            change(&format!("refs/heads/{}", "x".repeat(300)), None, Some(a)),
            change("refs/heads/p/none", Some(a), None),
            change("refs/heads/none", None, None),
        ],
        false,
    );
    let texts = texts(changed);
    let lock = "cannot lock ref 'refs/heads/";
    assert_eq!(texts[0], format!("{lock}main': is at {a} but expected {b}"));
    assert_eq!(texts[1], format!("{lock}main': reference already exists"));
    assert_eq!(
        texts[2],
        format!("{lock}none': reference is missing but expected {a}")
    );
    assert_eq!(texts[3], texts[2]);
    assert_eq!(
        texts[4],
        format!("{lock}p/q': 'refs/heads/p' exists; cannot create 'refs/heads/p/q'")
    );
    assert_eq!(
        texts[5],
        format!("{lock}loose/q': 'refs/heads/loose' exists; cannot create 'refs/heads/loose/q'")
    );
    assert!(
        texts[6].contains("' exists; cannot create 'refs/heads'"),
        "{}",
        texts[6]
    );
    assert!(texts[7].contains("funny ref") && texts[8].contains("funny ref"));
    assert!(texts[9].ends_with("reference broken"));
    assert!(texts[10].contains("unable to create"), "{}", texts[10]);
    assert_eq!(
        texts[11],
        format!("{lock}p/none': reference is missing but expected {a}")
    );
    assert_eq!(texts[12], "ok");
    fs::remove_file(fixture.dir().join("refs/heads/broken")).unwrap();
    assert_eq!(our_refs(&repository), fixture.git_refs());
    assert!(
        fixture.git(&["fsck", "--no-dangling"]).is_empty(),
        "nothing was harmed"
    );
}

#[test]
fn packed_refs_below_a_new_name_are_in_its_way_and_empty_directories_are_not() {
    let fixture = Fixture::new(1);
    let id = Some(fixture.commits[0]);
    let repository = fixture.open();
    must_update(&repository, &[change("refs/heads/d/e/f", None, id)]);
    fixture.git(&["pack-refs", "--all", "--prune"]);
    let refused = texts(update(&repository, &[change("refs/heads/d", None, id)], false));
    assert!(
        refused[0].contains("'refs/heads/d/e/f' exists; cannot create 'refs/heads/d'"),
        "{refused:?}"
    );
    must_update(&repository, &[change("refs/heads/d/e/f", id, None)]);
    fs::create_dir_all(fixture.dir().join("refs/heads/d/x/y")).unwrap();
    must_update(&repository, &[change("refs/heads/d", None, id)]);
    assert_eq!(our_refs(&repository), fixture.git_refs());
}

#[test]
fn one_push_may_replace_a_ref_by_one_below_it_unless_it_is_atomic() {
    let fixture = Fixture::new(1);
    let id = Some(fixture.commits[0]);
    let repository = fixture.open();
    must_update(&repository, &[change("refs/heads/a", None, id)]);
    let changes = [
        change("refs/heads/a", id, None),
        change("refs/heads/a/b", None, id),
    ];
    let refused = texts(update(&repository, &changes, true));
    assert!(refused[1].contains("cannot process 'refs/heads/a' and 'refs/heads/a/b' at the same time"));
    assert_eq!(refused[0], "atomic transaction failed");
    must_update(&repository, &changes);
    let twice = [change("refs/heads/n", None, id), change("refs/heads/n", id, None)];
    assert!(texts(update(&repository, &twice, true))[1].contains("multiple updates for ref 'refs/heads/n'"));
    must_update(&repository, &twice);
    assert_eq!(
        our_refs(&repository),
        format!("{} refs/heads/a/b\n", fixture.commits[0])
    );
}

#[test]
fn one_refusal_refuses_all_of_an_atomic_push_and_none_of_another() {
    let fixture = Fixture::new(2);
    let [a, b] = [0, 1].map(|n| Some(fixture.commits[n]));
    let repository = fixture.open();
    must_update(&repository, &[change("refs/heads/x", None, a)]);
    let changes = [
        change("refs/heads/new/1", None, a),
        change("refs/heads/x", b, a),
        change("refs/heads/new/2", None, a),
    ];
    let results = update(&repository, &changes, true).unwrap();
    assert_eq!(results[0], Err(RefChangeError::Atomic));
    assert!(matches!(results[1], Err(RefChangeError::Moved { .. })));
    assert_eq!(results[2], Err(RefChangeError::Atomic));
    assert!(!fixture.exists("refs/heads/new"), "no directory is left");
    let results = update(&repository, &changes, false).unwrap();
    assert!(results[0].is_ok() && results[1].is_err() && results[2].is_ok());
    assert_eq!(our_refs(&repository), fixture.git_refs());
}

#[test]
fn a_deleted_ref_is_gone_from_files_logs_and_packed_refs() {
    let fixture = Fixture::new(2);
    let [a, b] = [0, 1].map(|n| Some(fixture.commits[n]));
    fixture.git(&["config", "core.logAllRefUpdates", "true"]);
    let repository = fixture.open();
    must_update(
        &repository,
        &[
            change("refs/heads/x/y/z", None, a),
            change("refs/heads/main", None, a),
        ],
    );
    fixture.git(&["pack-refs", "--all"]);
    must_update(&repository, &[change("refs/heads/x/y/z", a, b)]);
    let log = fixture.git(&["reflog", "show", "--format=%H %gs", "refs/heads/x/y/z"]);
    assert_eq!(
        log,
        format!("{} push\n{} push\n", fixture.commits[1], fixture.commits[0])
    );
    assert!(fixture.exists("logs/HEAD"), "HEAD's log follows its branch");
    must_update(&repository, &[change("refs/heads/x/y/z", b, None)]);
    assert!(!fixture.exists("refs/heads/x") && !fixture.exists("logs/refs/heads/x"));
    assert!(fixture.exists("refs/heads"));
    assert_eq!(
        our_refs(&repository),
        format!("{} refs/heads/main\n", fixture.commits[0])
    );
    assert_eq!(our_refs(&repository), fixture.git_refs());
}

#[test]
fn many_updates_go_into_packed_refs_with_their_peeled_ids() {
    let fixture = Fixture::new(2);
    let [a, b] = [0, 1].map(|n| Some(fixture.commits[n]));
    let repository = fixture.open();
    must_update(
        &repository,
        &[
            change("refs/heads/n/7", None, a),
            change("refs/heads/gone", None, a),
        ],
    );
    fixture.git(&["tag", "-a", "-m", "t", "old", &fixture.commits[0].to_string()]);
    let tag = Some(
        repository
            .refs()
            .unwrap()
            .find("refs/tags/old".into())
            .unwrap()
            .id,
    );
    let mut changes: Vec<_> = (0..100)
        .map(|n| change(&format!("refs/heads/n/{n}"), if n == 7 { a } else { None }, b))
        .collect();
    changes.push(change("refs/tags/new", None, tag));
    changes.push(change("refs/heads/gone", a, None));
    must_update(&repository, &changes);
    assert!(!fixture.exists("refs/heads/n") && !fixture.exists("refs/heads/gone"));
    assert_eq!(our_refs(&repository), fixture.git_refs());
    let entry_peeled = repository
        .refs()
        .unwrap()
        .find("refs/tags/new".into())
        .unwrap()
        .peeled;
    assert_eq!(entry_peeled, Peeled::Known(a));
    for git in gits() {
        let (ok, text) = run_git(
            &git,
            &fixture.dir(),
            &["for-each-ref", "--format=%(*objectname)", "refs/tags/new"],
            b"",
        );
        assert!(ok, "{text}");
        assert_eq!(
            ObjectId::from_hex(text.trim().as_bytes()).unwrap(),
            fixture.commits[0]
        );
    }
}

#[test]
fn a_symbolic_ref_stands_for_its_target() {
    let fixture = Fixture::new(2);
    let [a, b] = [0, 1].map(|n| Some(fixture.commits[n]));
    let repository = fixture.open();
    fixture.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/real"]);
    must_update(&repository, &[change("refs/heads/alias", None, a)]);
    assert_eq!(
        repository
            .refs()
            .unwrap()
            .find("refs/heads/real".into())
            .unwrap()
            .id,
        fixture.commits[0]
    );
    must_update(
        &repository,
        &[change("refs/heads/alias", a, b), change("refs/heads/real", a, b)],
    );
    let inconsistent = [
        change("refs/heads/alias", b, a),
        change("refs/heads/real", b, None),
    ];
    for result in update(&repository, &inconsistent, false).unwrap() {
        assert_eq!(result.unwrap_err().status(), "inconsistent aliased update");
    }
    fixture.git(&["symbolic-ref", "refs/heads/circle", "refs/heads/circle"]);
    let refused = update(&repository, &[change("refs/heads/circle", None, a)], false).unwrap();
    assert_eq!(refused[0].clone().unwrap_err().status(), "broken symref");
}

#[test]
fn locks_of_stock_git_are_waited_for_and_respected() {
    let fixture = Fixture::new(2);
    let [a, b] = [0, 1].map(|n| Some(fixture.commits[n]));
    let repository = fixture.open();
    must_update(
        &repository,
        &[change("refs/heads/x", None, a), change("refs/heads/y", None, a)],
    );
    let foreign = |name: &str| fs::write(fixture.dir().join(name), "").unwrap();
    foreign("refs/heads/x.lock");
    foreign("packed-refs.lock");
    let changes = [
        change("refs/heads/x", a, b),
        change("refs/heads/y", a, b),
        change("refs/heads/y", b, None),
    ];
    let texts = texts(update(&repository, &changes, false));
    assert!(
        texts[0].contains("Unable to create 'refs/heads/x.lock': File exists"),
        "{}",
        texts[0]
    );
    assert_eq!(texts[1], "ok");
    assert!(
        texts[2].contains("'packed-refs.lock': File exists"),
        "{}",
        texts[2]
    );
    assert_eq!(fs::read(fixture.dir().join("packed-refs.lock")).unwrap(), b"");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // git does this when it is done; our transaction is waiting then, or comes after.
            fs::remove_file(fixture.dir().join("refs/heads/x.lock")).unwrap();
            fs::remove_file(fixture.dir().join("packed-refs.lock")).unwrap();
        });
        must_update(&repository, &[change("refs/heads/x", a, None)]);
    });
}

/// Leaves the repository as a process that died at each point in turn would, and opens it anew.
fn crash_everywhere(
    prepare: &dyn Fn(&Fixture),
    changes: &dyn Fn(&Fixture) -> Vec<RefChange>,
    points_min: usize,
) {
    let mut index = 0;
    let mut outcomes = [0, 0];
    loop {
        let fixture = Fixture::new(2);
        prepare(&fixture);
        let changes = changes(&fixture);
        let repository = fixture.open();
        let before = our_refs(&repository);
        let (result, died) = fault::armed::die_at(index, || update(&repository, &changes, true));
        drop(repository);
        let repository = fixture.open();
        let after = our_refs(&repository);
        assert_eq!(after, fixture.git_refs(), "died at {died:?}");
        let moved = changes.iter().all(|change| {
            repository
                .refs()
                .unwrap()
                .find(BStr::new(&change.name))
                .map(|entry| entry.id)
                == change.new
        });
        assert!(moved || after == before, "half moved: died at {died:?}");
        outcomes[usize::from(moved)] += 1;
        let left = run_git(&gits()[0], &fixture.dir(), &["fsck", "--no-dangling"], b"");
        assert!(left.0, "{}", left.1);
        assert!(
            leftovers(&fixture.dir()).is_empty(),
            "{:?}: died at {died:?}",
            leftovers(&fixture.dir())
        );
        must_update(
            &repository,
            &[change("refs/heads/next", None, Some(fixture.commits[0]))],
        );
        if died.is_none() {
            assert!(moved && result.unwrap().iter().all(Result::is_ok));
            break;
        }
        index += 1;
    }
    assert!(
        index >= points_min && outcomes[0] > 0 && outcomes[1] > 1,
        "{index} points, {outcomes:?}"
    );
}

fn leftovers(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() {
            found.extend(leftovers(&path));
        } else if name.ends_with(".lock") || name.starts_with("patgate-tmp") || name.contains("journal") {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_crash_at_any_point_of_a_small_push_leaves_all_or_nothing() {
    let prepare = |fixture: &Fixture| {
        let a = Some(fixture.commits[0]);
        let repository = fixture.open();
        let names = ["refs/heads/packed", "refs/heads/both", "refs/heads/main"];
        must_update(&repository, &names.map(|name| change(name, None, a)));
        fixture.git(&["pack-refs", "--all", "--prune"]);
        must_update(
            &repository,
            &[change("refs/heads/both", a, Some(fixture.commits[1]))],
        );
    };
    let changes = |fixture: &Fixture| {
        let [a, b] = [0, 1].map(|n| Some(fixture.commits[n]));
        vec![
            change("refs/heads/both", b, None),
            change("refs/heads/main", a, b),
            change("refs/heads/new/deep", None, b),
            change("refs/heads/packed", a, None),
        ]
    };
    crash_everywhere(&prepare, &changes, 10);
}

#[test]
fn a_crash_at_any_point_of_a_large_push_leaves_all_or_nothing() {
    let prepare = |fixture: &Fixture| {
        let repository = fixture.open();
        let names = ["refs/heads/n/1", "refs/heads/n/2"];
        must_update(
            &repository,
            &names.map(|name| change(name, None, Some(fixture.commits[0]))),
        );
    };
    let changes = |fixture: &Fixture| {
        let [a, b] = [0, 1].map(|n| Some(fixture.commits[n]));
        let old = |n| if n == 1 || n == 2 { a } else { None };
        (0..70)
            .map(|n| change(&format!("refs/heads/n/{n}"), old(n), b))
            .collect()
    };
    crash_everywhere(&prepare, &changes, 8);
}

#[test]
fn a_crash_at_any_point_of_a_single_change_leaves_all_or_nothing() {
    let prepare = |fixture: &Fixture| {
        must_update(
            &fixture.open(),
            &[change("refs/heads/x", None, Some(fixture.commits[0]))],
        );
        fixture.git(&["pack-refs", "--all"]);
    };
    let update = |fixture: &Fixture| {
        vec![change(
            "refs/heads/x",
            Some(fixture.commits[0]),
            Some(fixture.commits[1]),
        )]
    };
    let delete = |fixture: &Fixture| vec![change("refs/heads/x", Some(fixture.commits[0]), None)];
    crash_everywhere(&prepare, &update, 4);
    crash_everywhere(&prepare, &delete, 4);
}

#[test]
fn a_running_repository_finishes_what_another_process_left() {
    let fixture = Fixture::new(2);
    let [a, b] = [0, 1].map(|n| Some(fixture.commits[n]));
    let running = fixture.open();
    let changes = [change("refs/heads/x", None, a), change("refs/heads/y", None, b)];
    let mut index = 0;
    while !fixture.exists("patgate-ref-journal") {
        let dying = fixture.open();
        let (_, died) = fault::armed::die_at(index, || update(&dying, &changes, true));
        assert!(died.is_some(), "the transaction has a journal");
        index += 1;
    }
    assert_eq!(
        our_refs(&running),
        format!("{} refs/heads/x\n{} refs/heads/y\n", a.unwrap(), b.unwrap())
    );
    assert!(!fixture.exists("patgate-ref-journal"));
}

#[test]
fn a_damaged_journal_stops_everything_by_name() {
    let fixture = Fixture::new(1);
    let repository = fixture.open();
    must_update(
        &repository,
        &[change("refs/heads/x", None, Some(fixture.commits[0]))],
    );
    fs::write(fixture.dir().join("patgate-ref-journal"), "nonsense").unwrap();
    assert!(matches!(repository.refs(), Err(Error::Journal { .. })));
    assert!(matches!(
        update(&repository, &[], false),
        Err(Error::Journal { .. })
    ));
}
