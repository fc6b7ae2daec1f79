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
