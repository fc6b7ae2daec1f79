use std::os::unix::fs::symlink;

use super::*;
use crate::repository::testing::{change, gits, must_update, our_refs, run_git};

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

fn options(object_hash: gix_hash::Kind) -> CreateOptions {
    CreateOptions {
        object_hash,
        default_branch: "main".into(),
    }
}

fn registry(root: &Path) -> Repositories {
    Repositories::at(root.to_owned(), Options::default()).unwrap()
}

fn created(names: &[&str]) -> (tempfile::TempDir, Repositories) {
    let root = tempfile::tempdir().unwrap();
    let repositories = registry(root.path());
    for name in names {
        repositories
            .create(&path(name), &options(gix_hash::Kind::Sha1))
            .unwrap();
    }
    (root, repositories)
}

fn listed(repositories: &Repositories) -> Vec<String> {
    repositories
        .list()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn what_is_made_is_found_in_any_case_and_listed() {
    let (_root, repositories) = created(&["C/P/R", "C/P/A b", "Sample"]);
    assert_eq!(
        listed(&repositories),
        ["C/P/A b", "C/P/R", "DefaultCollection/Sample/Sample"]
    );
    assert_eq!(
        repositories.locate(&path("c/p/r")).unwrap().unwrap().to_string(),
        "C/P/R"
    );
    assert_eq!(repositories.locate(&path("C/P/none")).unwrap(), None);
    assert!(
        matches!(repositories.open(&path("c/p/r")), Err(Error::Missing { .. })),
        "open wants the spelling of locate"
    );
}

#[test]
fn the_spelling_that_was_asked_for_comes_first_and_others_are_tried_whole() {
    let (root, repositories) = created(&["C/P/R"]);
    for other in ["C/p/r.git", "c/P/R.git", "c/P/Only.git"] {
        create(&root.path().join(other), gix_hash::Kind::Sha1, "main").unwrap();
    }
    for name in ["C/P/R", "C/p/r", "c/P/R"] {
        assert_eq!(
            repositories.locate(&path(name)).unwrap().unwrap().to_string(),
            name
        );
    }
    assert_eq!(
        repositories
            .locate(&path("C/P/only"))
            .unwrap()
            .unwrap()
            .to_string(),
        "c/P/Only"
    );
}

#[test]
fn a_part_of_the_server_is_listed_in_any_case() {
    let (root, repositories) = created(&["C/P/R", "C/P/A b", "C/Q/R", "D/P/R"]);
    let below = |place: &str| {
        let all = repositories
            .list_below(&AccessPath::parse(place).unwrap())
            .unwrap();
        all.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(below("/").len(), 4);
    assert_eq!(below("c"), ["C/P/A b", "C/P/R", "C/Q/R"]);
    assert_eq!(below("c/p"), ["C/P/A b", "C/P/R"]);
    assert_eq!(below("C/P/r"), ["C/P/R"]);
    for nothing in ["X", "C/X", "C/P/X"] {
        assert!(below(nothing).is_empty(), "{nothing}");
    }
    create(&root.path().join("c/p/r.git"), gix_hash::Kind::Sha1, "main").unwrap();
    assert_eq!(below("C/P"), ["C/P/A b", "C/P/R", "c/p/r"]);
}

#[test]
fn a_new_repository_is_put_where_its_project_is() {
    let (_root, repositories) = created(&["Acme/Web/Shop"]);
    let spell = |name: &str| repositories.spell(&path(name)).unwrap().to_string();
    assert_eq!(spell("acme/WEB/new"), "Acme/Web/new");
    assert_eq!(spell("acme/Fresh/New"), "Acme/Fresh/New");
    assert_eq!(spell("other/web/New"), "other/web/New");
    assert!(repositories.changed_at(&path("Acme/Web/Shop")).unwrap().is_some());
    assert_eq!(repositories.changed_at(&path("Acme/Web/None")).unwrap(), None);
}

#[test]
fn a_name_that_differs_only_in_case_is_refused() {
    let (_root, repositories) = created(&["C/P/R"]);
    let create = |name: &str| repositories.create(&path(name), &options(gix_hash::Kind::Sha1));
    assert!(matches!(create("C/P/R"), Err(Error::Exists { .. })));
    for (name, existing) in [("C/P/r", "C/P/R"), ("C/p/X", "C/P"), ("c/Q/X", "C")] {
        let error = create(name).unwrap_err();
        assert!(
            matches!(&error, Error::CaseConflict { existing: found } if found == existing),
            "{error}"
        );
    }
    repositories.rename(&path("C/P/R"), &path("C/P/r")).unwrap();
    assert_eq!(listed(&repositories), ["C/P/r"]);
}

#[test]
fn both_gits_accept_push_to_and_clone_what_is_made_with_either_hash() {
    for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
        for git in gits() {
            let root = tempfile::tempdir().unwrap();
            let repositories = registry(root.path());
            let repository = repositories.create(&path("C/P/R"), &options(hash)).unwrap();
            let files: [(&str, &[u8]); 3] = [("README.md", b"# R\n"), ("a/b", b"x"), ("a.txt", b"")];
            let commit_id = repository
                .write_initial_commit(&files, "First", "A <a@b>")
                .unwrap();
            assert_eq!(our_refs(&repository), format!("{commit_id} refs/heads/main\n"));
            assert!(
                repository
                    .write_initial_commit(&files, "Again", "A <a@b>")
                    .is_err()
            );
            let must = |dir: &Path, args: &[&str]| {
                let (ok, text) = run_git(&git, dir, args, b"");
                assert!(ok, "{} {args:?}: {text}", git.display());
                text
            };
            let git_dir = repository.git_dir();
            assert!(
                must(git_dir, &["fsck", "--strict", "--no-progress"])
                    .trim()
                    .is_empty()
            );
            must(
                root.path(),
                &["clone", "--quiet", git_dir.to_str().unwrap(), "work"],
            );
            let work = root.path().join("work");
            assert_eq!(fs::read(work.join("a/b")).unwrap(), b"x");
            must(&work, &["commit", "--quiet", "--allow-empty", "-m", "second"]);
            must(
                &work,
                &["push", "--quiet", "origin", "HEAD", "HEAD:refs/heads/x/y"],
            );
            let ours = our_refs(&repository);
            assert_eq!(
                ours,
                must(git_dir, &["for-each-ref", "--format=%(objectname) %(refname)"])
            );
            assert_eq!(ours.lines().count(), 2);
        }
    }
}

#[test]
fn an_open_repository_is_kept_while_it_is_the_same_on_disk() {
    let (root, repositories) = created(&["C/P/R"]);
    let open = || repositories.open(&path("C/P/R")).unwrap();
    let first = open();
    assert!(Arc::ptr_eq(&first, &open()));
    let git_dir = first.git_dir().to_owned();
    let (ok, text) = run_git(
        &gits()[0],
        &git_dir,
        &["config", "receive.denyDeletes", "true"],
        b"",
    );
    assert!(ok, "{text}");
    let second = open();
    assert!(!Arc::ptr_eq(&first, &second) && second.settings().deny_deletes);
    fs::rename(&git_dir, root.path().join("away")).unwrap();
    assert!(repositories.open(&path("C/P/R")).is_err());
    assert_eq!(repositories.locate(&path("C/P/R")).unwrap(), None);
    create(&git_dir, gix_hash::Kind::Sha256, "main").unwrap();
    assert_eq!(open().object_hash(), gix_hash::Kind::Sha256);
}

#[test]
fn no_more_repositories_stay_open_than_allowed() {
    let (root, _) = created(&["C/P/a", "C/P/b", "C/P/c"]);
    let options = Options {
        open_repositories_max: 2,
        ..Options::default()
    };
    let repositories = Repositories::at(root.path().to_owned(), options).unwrap();
    let [a, b] = ["C/P/a", "C/P/b"].map(|name| repositories.open(&path(name)).unwrap());
    assert!(Arc::ptr_eq(&a, &repositories.open(&path("C/P/a")).unwrap()));
    repositories.open(&path("C/P/c")).unwrap();
    assert!(Arc::ptr_eq(&a, &repositories.open(&path("C/P/a")).unwrap()));
    assert!(!Arc::ptr_eq(&b, &repositories.open(&path("C/P/b")).unwrap()));
}

#[test]
fn symbolic_links_are_followed_only_when_that_is_wanted() {
    let (root, repositories) = created(&["C/P/R"]);
    let outside = tempfile::tempdir().unwrap();
    create(&outside.path().join("X.git"), gix_hash::Kind::Sha1, "main").unwrap();
    symlink(outside.path().join("X.git"), root.path().join("C/P/X.git")).unwrap();
    symlink(outside.path(), root.path().join("C/Q")).unwrap();
    fs::create_dir(root.path().join("C/P/half.git")).unwrap();
    assert_eq!(listed(&repositories), ["C/P/R"]);
    assert_eq!(repositories.locate(&path("C/P/X")).unwrap(), None);
    assert!(repositories.open(&path("C/Q/X")).is_err());
    let options = Options {
        follow_symlinks: true,
        ..Options::default()
    };
    let following = Repositories::at(root.path().to_owned(), options).unwrap();
    assert_eq!(listed(&following), ["C/P/R", "C/P/X", "C/Q/X"]);
    following.open(&path("C/Q/X")).unwrap();
}

#[test]
fn a_deleted_or_moved_repository_leaves_no_empty_directory() {
    let (root, repositories) = created(&["C/P/R", "D/Q/S"]);
    repositories.delete(&path("C/P/R")).unwrap();
    assert!(!root.path().join("C").exists());
    assert!(matches!(
        repositories.delete(&path("C/P/R")),
        Err(Error::Missing { .. })
    ));
    repositories.rename(&path("D/Q/S"), &path("E/Q/T")).unwrap();
    assert_eq!(listed(&repositories), ["E/Q/T"]);
    assert!(!root.path().join("D").exists());
    repositories.open(&path("E/Q/T")).unwrap();
    let names: Vec<_> = fs::read_dir(root.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(names, ["E"]);
}

#[test]
fn the_sweep_removes_what_crashes_left_and_passes_over_what_cannot_be_opened() {
    let (root, repositories) = created(&["C/P/R", "C/P/bad"]);
    fs::create_dir_all(root.path().join(".patgate-new-1/repository.git")).unwrap();
    fs::create_dir_all(root.path().join(".patgate-trash-1/x")).unwrap();
    fs::write(root.path().join("C/P/bad.git/config"), "[core\n").unwrap();
    let live = root.path().join(".patgate-new-2");
    fs::create_dir(&live).unwrap();
    let alive = File::open(&live).unwrap();
    alive.lock().unwrap();
    repositories.sweep().unwrap();
    assert!(!root.path().join(".patgate-new-1").exists() && !root.path().join(".patgate-trash-1").exists());
    assert!(live.exists());
    let repository = repositories.open(&path("C/P/R")).unwrap();
    let commit_id = repository
        .write_initial_commit(&[("f", b"x")], "First", "A <a@b>")
        .unwrap();
    must_update(&repository, &[change("refs/heads/x", None, Some(commit_id))]);
}

#[test]
fn what_is_no_served_repository_is_refused_by_name() {
    let (root, repositories) = created(&["C/P/R"]);
    let git_dir = root.path().join("C/P/R.git");
    fs::write(git_dir.join("shallow"), "x\n").unwrap();
    assert!(matches!(repositories.open(&path("C/P/R")), Err(Error::Shallow)));
    fs::write(git_dir.join("shallow"), "").unwrap();
    repositories.open(&path("C/P/R")).unwrap();
    fs::remove_dir_all(git_dir.join("refs")).unwrap();
    assert!(matches!(
        Repository::open(&git_dir),
        Err(Error::NotARepository { .. })
    ));
    let (ok, text) = run_git(&gits()[0], root.path(), &["init", "--quiet", "work"], b"");
    assert!(ok, "{text}");
    let repository = Repository::open(&root.path().join("work/.git")).unwrap();
    assert!(!repository.settings().is_bare);
}

#[test]
fn a_discarded_repository_is_safe_from_sweeps_until_it_is_restored_or_removed() {
    let (root, repositories) = created(&["C/P/R"]);
    let discarded = repositories.discard(&path("C/P/R")).unwrap();
    assert!(listed(&repositories).is_empty());
    registry(root.path()).sweep().unwrap();
    repositories.restore(discarded).unwrap();
    assert_eq!(listed(&repositories), ["C/P/R"]);
    repositories.open(&path("C/P/R")).unwrap();

    let discarded = repositories.discard(&path("C/P/R")).unwrap();
    repositories
        .create(&path("C/P/R"), &options(gix_hash::Kind::Sha1))
        .unwrap();
    let (error, place) = repositories.restore(discarded).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    repositories.sweep().unwrap();
    assert!(
        place.join("repository.git/HEAD").exists(),
        "what nobody wanted to delete is kept"
    );

    repositories.discard(&path("C/P/R")).unwrap().remove();
    assert_eq!(
        fs::read_dir(root.path()).unwrap().count(),
        1,
        "only what was kept"
    );
}
