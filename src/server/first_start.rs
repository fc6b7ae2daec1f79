//! The first start on an empty data directory: an administrator, a sample repository and a token for it.
//!
//! Invariant: what is made is printed once, and only what was printed counts as done. A mark in the data directory says
//! that a first start is under way; whoever finds it begins again, with a new password and a new token, since those of
//! the start that was cut short were never shown to anyone.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::auth::{password, token};
use crate::names::{self, RepoPath};
use crate::repository::registry::CreateOptions;
use crate::repository::{self, Repositories};
use crate::secret::Secret;
use crate::store::{self, Actor, NewAccount, RevokeReason, Store, TokenLimits};

/// The administrator's name.
pub const ADMIN: &str = "admin";

/// The sample repository.
const SAMPLE: &str = "DefaultCollection/Sample/Sample";

const TOKEN_NAME: &str = "first start";
const TOKEN_SCOPE: &str = "vso.code_write";
const TOKEN_DAYS: i64 = 30;

/// Says that a first start has begun and nobody was told of it.
const MARK: &str = "first-start";

const README: &str = "# Sample

This repository was made when patgate was first started. Clone it, change it, push it:

    git commit --allow-empty -m 'My first commit'
    git push

Make repositories of your own with `patgate repo create`, accounts with `patgate user add`, and tokens with
`patgate token create`.
";

/// Why the first start failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file in the data directory cannot be read or written.
    #[error("cannot {what} '{}': {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The sample repository's name is none.
    #[error("the name of the sample repository {0}")]
    Name(#[from] names::Error),
    /// The password could not be hashed.
    #[error(transparent)]
    Password(#[from] password::Error),
    /// The sample repository could not be made.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The account could not be made.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The token could not be made.
    #[error(transparent)]
    Token(#[from] token::Error),
    /// The token cannot end when it should.
    #[error(transparent)]
    TokenExpiry(#[from] token::ExpiryError),
}

/// What was made, to be shown once.
#[derive(Debug)]
pub struct FirstStart {
    /// The administrator's password, to be changed at the first sign-in.
    pub password: Secret,
    /// The administrator's token.
    pub token: Secret,
    /// The sample repository, if one was asked for.
    pub sample: Option<RepoPath>,
    mark: PathBuf,
}

impl FirstStart {
    /// Says that everything was shown: the next start is no first one.
    ///
    /// # Errors
    ///
    /// When the mark cannot be removed.
    pub fn shown(self) -> Result<(), Error> {
        fs::remove_file(&self.mark).map_err(at("remove", &self.mark))
    }
}

/// Makes what a new server needs; `None` if `store` has accounts already.
///
/// # Errors
///
/// When something cannot be made. The next start tries again.
pub fn prepare(
    data_dir: &Path,
    store: &Store,
    repositories: &Repositories,
    with_sample: bool,
) -> Result<Option<FirstStart>, Error> {
    let mark = data_dir.join(MARK);
    if !mark.exists() {
        if !store.accounts()?.is_empty() {
            return Ok(None);
        }
        let written = File::create(&mark).and_then(|file| file.sync_all());
        written
            .and_then(|()| File::open(data_dir)?.sync_all())
            .map_err(at("write", &mark))?;
    }
    let password = make_admin(store)?;
    let sample = if with_sample {
        Some(make_sample(repositories)?)
    } else {
        None
    };
    let token = make_token(store)?;
    Ok(Some(FirstStart {
        password,
        token,
        sample,
        mark,
    }))
}

fn make_admin(store: &Store) -> Result<Secret, Error> {
    let password = password::generate()?;
    let hash = password::hash(&password)?;
    if store.find_account(ADMIN)?.is_some() {
        store.set_password(&Actor::Server, ADMIN, &hash, true)?;
    } else {
        let admin = NewAccount {
            name: ADMIN,
            password: Some(&hash),
            is_admin: true,
            must_change_password: true,
        };
        store.create_account(&Actor::Server, &admin)?;
    }
    Ok(password)
}

fn make_sample(repositories: &Repositories) -> Result<RepoPath, Error> {
    let path = RepoPath::parse(SAMPLE)?;
    let (path, repository) = match repositories.locate(&path)? {
        Some(located) => {
            let repository = repositories.open(&located)?;
            (located, repository)
        }
        None => {
            let options = CreateOptions {
                object_hash: gix_hash::Kind::Sha1,
                default_branch: "main".to_owned(),
            };
            let repository = repositories.create(&path, &options)?;
            (path, repository)
        }
    };
    if repository.refs()?.is_empty() {
        let files: [(&str, &[u8]); 1] = [("README.md", README.as_bytes())];
        repository.write_initial_commit(&files, "Add a README\n", "patgate <patgate@localhost>")?;
    }
    Ok(path)
}

fn make_token(store: &Store) -> Result<Secret, Error> {
    for old in store.tokens(Some(ADMIN))? {
        if old.name == TOKEN_NAME && old.revoked_at.is_none() {
            store.revoke_token(&Actor::Server, &old.id, RevokeReason::Replaced)?;
        }
    }
    let expires_at = token::expiry_in_days(TOKEN_DAYS, Timestamp::now())?;
    let new = token::CreateToken {
        account: ADMIN,
        name: TOKEN_NAME,
        scopes: TOKEN_SCOPE,
        expires_at,
        limits: &TokenLimits::NONE,
    };
    let (_, plain) = token::create(store, &Actor::Server, &new)?;
    Ok(Secret::new(plain.expose().to_owned()))
}

fn at(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        what,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::registry;
    use crate::store::DATABASE_FILE;

    struct Place {
        dir: tempfile::TempDir,
        store: Store,
        repositories: Repositories,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("data").join(DATABASE_FILE)).unwrap();
            let repositories =
                Repositories::at(dir.path().join("repos"), registry::Options::default()).unwrap();
            Place {
                dir,
                store,
                repositories,
            }
        }

        fn prepare(&self, with_sample: bool) -> Option<FirstStart> {
            prepare(
                &self.dir.path().join("data"),
                &self.store,
                &self.repositories,
                with_sample,
            )
            .unwrap()
        }

        fn live_tokens(&self) -> usize {
            self.store
                .tokens(None)
                .unwrap()
                .iter()
                .filter(|token| token.revoked_at.is_none())
                .count()
        }
    }

    #[test]
    fn a_first_start_happens_once() {
        let place = Place::new();
        let first = place.prepare(true).unwrap();
        let sample = first.sample.clone().unwrap();
        let repository = place.repositories.open(&sample).unwrap();
        assert!(
            repository
                .refs()
                .unwrap()
                .find("refs/heads/main".into())
                .is_some()
        );
        assert!(
            place
                .store
                .find_account(ADMIN)
                .unwrap()
                .unwrap()
                .must_change_password
        );
        first.shown().unwrap();
        assert!(place.prepare(true).is_none());
        assert_eq!(place.live_tokens(), 1);
    }

    #[test]
    fn a_first_start_that_nobody_saw_is_done_again_with_new_secrets() {
        let place = Place::new();
        let lost = place.prepare(true).unwrap();
        let again = place.prepare(true).unwrap();
        assert_ne!(lost.password.expose(), again.password.expose());
        assert_ne!(lost.token.expose(), again.token.expose());
        let hash = place.store.find_password_hash(ADMIN).unwrap();
        assert!(password::verify(&again.password, hash.as_ref()));
        assert!(!password::verify(&lost.password, hash.as_ref()));
        assert_eq!(place.live_tokens(), 1, "the token that nobody saw is revoked");
    }

    #[test]
    fn a_start_that_was_cut_at_any_step_is_finished_by_the_next() {
        let steps: [fn(&Place); 3] = [
            |_| {},
            |place| drop(make_admin(&place.store).unwrap()),
            |place| {
                make_admin(&place.store).unwrap();
                let options = CreateOptions {
                    object_hash: gix_hash::Kind::Sha1,
                    default_branch: "main".into(),
                };
                place
                    .repositories
                    .create(&RepoPath::parse(SAMPLE).unwrap(), &options)
                    .unwrap();
            },
        ];
        for step in steps {
            let place = Place::new();
            fs::write(place.dir.path().join("data").join(MARK), "").unwrap();
            step(&place);
            let first = place.prepare(true).unwrap();
            let repository = place.repositories.open(&first.sample.unwrap()).unwrap();
            assert!(!repository.refs().unwrap().is_empty());
        }
    }

    #[test]
    fn a_server_with_accounts_is_not_new_and_a_sample_can_be_left_out() {
        let place = Place::new();
        assert!(place.prepare(false).unwrap().sample.is_none());
        assert_eq!(place.repositories.list().unwrap(), []);
        let place = Place::new();
        let account = NewAccount {
            name: "ann",
            password: None,
            is_admin: false,
            must_change_password: false,
        };
        place.store.create_account(&Actor::CommandLine, &account).unwrap();
        assert!(place.prepare(true).is_none());
    }
}
