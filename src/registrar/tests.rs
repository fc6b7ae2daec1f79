use super::*;
use crate::names::AccessPath;
use crate::repository::registry::{CreateOptions, Options};
use crate::store::{AuditFilter, DATABASE_FILE, NewAccount, Role};

struct Fixture {
    store: Store,
    repositories: Repositories,
    _directory: tempfile::TempDir,
}

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join(DATABASE_FILE)).unwrap();
    let bob = NewAccount {
        name: "bob",
        password: None,
        is_admin: false,
        must_change_password: false,
    };
    store.create_account(&Actor::CommandLine, &bob).unwrap();
    Fixture {
        store,
        repositories: Repositories::at(directory.path().join("repos"), Options::default()).unwrap(),
        _directory: directory,
    }
}

fn options() -> CreateOptions {
    CreateOptions {
        object_hash: gix_hash::Kind::Sha1,
        default_branch: "main".to_owned(),
    }
}

impl Fixture {
    fn registrar(&self) -> Registrar<'_> {
        Registrar {
            store: &self.store,
            repositories: &self.repositories,
            actor: &Actor::CommandLine,
        }
    }

    fn grant(&self, on: &str) {
        self.store
            .grant_access(
                &Actor::CommandLine,
                Some("bob"),
                &AccessPath::Repository(path(on)),
                Role::Reader,
            )
            .unwrap();
    }

    /// The repositories, the rights, and the actions in the trail that concern repositories, oldest first.
    fn state(&self) -> (Vec<String>, Vec<String>, Vec<String>) {
        let listed = self.repositories.list().unwrap();
        let access = self.store.access(None).unwrap();
        let events = self.store.audit_events(&AuditFilter::latest(100)).unwrap();
        (
            listed.iter().map(ToString::to_string).collect(),
            access.iter().map(|access| access.path.to_string()).collect(),
            events
                .into_iter()
                .rev()
                .map(|event| event.action)
                .filter(|action| action.starts_with("repository."))
                .collect(),
        )
    }
}

#[test]
fn a_rename_that_fails_on_disk_or_in_the_store_changes_neither() {
    let f = fixture();
    f.repositories.create(&path("C/P/Old"), &options()).unwrap();
    std::fs::create_dir(f.repositories.root().join("C/P/New.git")).unwrap();
    f.grant("C/P/Old");
    f.grant("C/P/New");
    let before = f.state();
    let refused = f.registrar().rename(&path("C/P/Old"), &path("C/P/New"));
    assert!(
        matches!(refused, Err(Error::Repository(repository::Error::Exists { .. }))),
        "{refused:?}"
    );
    assert_eq!(f.state(), before);

    std::fs::remove_dir(f.repositories.root().join("C/P/New.git")).unwrap();
    f.store.fail_commits();
    let failed = f.registrar().rename(&path("C/P/Old"), &path("C/Q/New"));
    assert!(matches!(failed, Err(Error::Store(_))), "{failed:?}");
    assert_eq!(f.state(), before);
    assert!(
        !f.repositories.root().join("C/Q").exists(),
        "nothing is left of the new name"
    );
}

#[test]
fn what_is_made_is_noted_or_not_made() {
    let f = fixture();
    f.registrar().create(&path("C/P/One"), &options()).unwrap();
    assert_eq!(f.state().2, ["repository.create"]);
    let taken = f.registrar().create(&path("C/P/ONE"), &options());
    assert!(
        matches!(
            taken,
            Err(Error::Repository(repository::Error::CaseConflict { .. }))
        ),
        "{taken:?}"
    );
    let new = f.repositories.prepare(&options()).unwrap();
    let taken = f
        .registrar()
        .place(&new, &path("C/P/One"), AuditAction::RepositoryImport, &json!({}));
    assert!(
        matches!(taken, Err(Error::Repository(repository::Error::Exists { .. }))),
        "{taken:?}"
    );
    let before = f.state();
    assert_eq!(
        before.2,
        ["repository.create"],
        "what was refused is not in the trail"
    );
    f.store.fail_commits();
    let failed = f.registrar().create(&path("D/P/Two"), &options());
    assert!(matches!(failed, Err(Error::Store(_))), "{failed:?}");
    assert_eq!(f.state(), before);
    assert!(!f.repositories.root().join("D").exists());
}

#[test]
fn what_is_deleted_is_noted_or_stays_with_its_rights() {
    let f = fixture();
    f.repositories.create(&path("C/P/R"), &options()).unwrap();
    for name in ["C/P/R", "C/P/Gone"] {
        f.grant(name);
    }
    let before = f.state();
    let missing = f.registrar().delete(&path("C/P/Gone"));
    assert!(
        matches!(missing, Err(Error::Repository(repository::Error::Missing { .. }))),
        "{missing:?}"
    );
    assert_eq!(f.state(), before, "nothing says that it was deleted");
    f.store.fail_commits();
    let failed = f.registrar().delete(&path("C/P/R"));
    assert!(matches!(failed, Err(Error::Store(_))), "{failed:?}");
    assert_eq!(f.state(), before);
    f.repositories.open(&path("C/P/R")).unwrap();
}

#[test]
fn a_default_branch_is_noted_or_stays() {
    let f = fixture();
    let at = path("C/P/R");
    f.repositories.create(&at, &options()).unwrap();
    let head = || std::fs::read_to_string(f.repositories.root().join("C/P/R.git/HEAD")).unwrap();
    f.registrar().set_default_branch(&at, "refs/heads/trunk").unwrap();
    assert_eq!(head(), "ref: refs/heads/trunk\n");
    assert!(f.registrar().set_default_branch(&at, "refs/tags/x").is_err());
    assert_eq!(f.state().2, ["repository.update"]);
    f.store.fail_commits();
    let failed = f.registrar().set_default_branch(&at, "refs/heads/live");
    assert!(matches!(failed, Err(Error::Store(_))), "{failed:?}");
    assert_eq!(head(), "ref: refs/heads/trunk\n");
}
