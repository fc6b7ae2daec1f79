//! What stands behind the routes: the gate, the repositories and the engines, as one seam.
//!
//! [`Patgate`] is the real one. Everything else in `http` knows only the traits, so a test can put an engine of its own
//! behind the bridge. All methods block and run where that is allowed.

use std::io::{Read, Write};
use std::sync::Arc;

use hyper::StatusCode;

use super::error::HttpError;
use super::standing::Standing;
use crate::auth::{Client, Fetch, Gate, Grant, Principal, Push, Refusal, leak};
use crate::interrupt::Interrupt;
use crate::limits::{FetchLimits, PushLimits};
use crate::names::RepoPath;
use crate::protocol::Version;
use crate::repository::{Repositories, Repository};
use crate::telemetry::Record;
use crate::{receive_pack, upload_pack};

/// What the REST interface works on.
#[derive(Debug, Clone)]
pub struct Services {
    /// The gate, and the store behind it.
    pub gate: Gate,
    /// The repositories.
    pub repositories: Arc<Repositories>,
}

/// The gate and the repositories.
pub trait Backend: Send + Sync + 'static {
    /// Who asks.
    type Principal: Send + Sync + 'static;
    /// The right to fetch from one repository, and the repository.
    type Fetch: FetchAccess;
    /// The right to push to one repository, and the repository.
    type Push: PushAccess;

    /// What the REST interface works on; None if there is none.
    fn services(&self) -> Option<Services> {
        None
    }

    /// Tells who asks. `authorization` is the header's value as received.
    ///
    /// # Errors
    ///
    /// The gate's refusal.
    fn authenticate(
        &self,
        authorization: Option<&[u8]>,
        client: Client,
    ) -> Result<Self::Principal, HttpError>;

    /// A number that is another one after every change of what the gate decides by.
    ///
    /// # Errors
    ///
    /// When it cannot be told.
    fn generation(&self) -> Result<u64, HttpError>;

    /// Notes in the log who asks.
    fn note(&self, principal: &Self::Principal, record: &Record);

    /// Lets `principal` fetch from the first of `candidates` that there is and that it may see.
    ///
    /// # Errors
    ///
    /// The gate's refusal, the same whether there is no repository or none to be seen.
    fn open_fetch(
        &self,
        principal: &Self::Principal,
        candidates: &[RepoPath],
    ) -> Result<Self::Fetch, HttpError>;

    /// Lets `principal` push to the first of `candidates` that there is and that it may see.
    ///
    /// # Errors
    ///
    /// As [`Backend::open_fetch`].
    fn open_push(
        &self,
        principal: &Self::Principal,
        candidates: &[RepoPath],
    ) -> Result<Self::Push, HttpError>;

    /// How many events could not be written to the audit trail.
    fn audit_events_lost(&self) -> u64 {
        0
    }
}

/// One repository to fetch from.
pub trait FetchAccess: Send + 'static {
    /// Its name.
    fn repository(&self) -> &RepoPath;

    /// The question whether the transfer may go on.
    fn standing(&self) -> Standing;

    /// Writes the body of `info/refs?service=git-upload-pack`.
    ///
    /// # Errors
    ///
    /// Whatever is not said inside the protocol.
    fn advertise(&self, version: Version, out: &mut dyn Write) -> Result<(), HttpError>;

    /// Answers `POST git-upload-pack`.
    ///
    /// # Errors
    ///
    /// Whatever is not said inside the protocol.
    fn serve(
        &self,
        version: Version,
        request: &[u8],
        limits: &FetchLimits,
        out: &mut dyn Write,
        interrupt: &Interrupt,
        record: &Record,
    ) -> Result<(), HttpError>;
}

/// One repository to push to.
pub trait PushAccess: Send + 'static {
    /// Its name.
    fn repository(&self) -> &RepoPath;

    /// The question whether the transfer may go on.
    fn standing(&self) -> Standing;

    /// Writes the body of `info/refs?service=git-receive-pack`.
    ///
    /// # Errors
    ///
    /// Whatever is not said inside the protocol.
    fn advertise(&self, version: Version, out: &mut dyn Write) -> Result<(), HttpError>;

    /// Answers `POST git-receive-pack`.
    ///
    /// # Errors
    ///
    /// Whatever is not said inside the protocol.
    fn serve(
        &self,
        request: &mut dyn Read,
        limits: &PushLimits,
        out: &mut dyn Write,
        interrupt: &Interrupt,
        record: &Record,
    ) -> Result<(), HttpError>;
}

/// The gate before the repositories on disk.
#[derive(Debug)]
pub struct Patgate {
    gate: Gate,
    leaks: Arc<leak::Guard>,
    repositories: Arc<Repositories>,
}

impl Patgate {
    /// Puts `gate` before `repositories`.
    pub fn new(gate: Gate, repositories: Repositories) -> Self {
        let leaks = leak::Guard::new(gate.store().clone(), Box::new(gate.clone()));
        Patgate {
            gate,
            leaks: Arc::new(leaks),
            repositories: Arc::new(repositories),
        }
    }

    /// What stands between tokens and where they should not be.
    pub fn leaks(&self) -> &Arc<leak::Guard> {
        &self.leaks
    }

    fn granted<Op>(&self, grant: Grant<Op>, repository: Arc<Repository>, standing: Standing) -> Granted<Op> {
        Granted {
            grant,
            leaks: Arc::clone(&self.leaks),
            repository,
            standing,
        }
    }

    /// Asks the gate for each repository that is there, and opens the first that it grants.
    ///
    /// A URL that can mean two repositories must not tell of the one that its reader may not see, so "not found" of one
    /// does not end the search, and neither does the challenge to an anonymous reader. Any other refusal does: whoever
    /// may fetch from the first of them must not push to the second by the same URL.
    fn open<Op>(
        &self,
        candidates: &[RepoPath],
        authorize: impl Fn(Option<&RepoPath>) -> Result<Grant<Op>, HttpError>,
    ) -> Result<(Grant<Op>, Arc<Repository>), HttpError> {
        let mut refusal = None;
        for candidate in candidates {
            let Some(located) = self.repositories.locate(candidate)? else {
                continue;
            };
            match authorize(Some(&located)) {
                Ok(grant) => {
                    let repository = self.repositories.open(&located)?;
                    return Ok((grant, repository));
                }
                Err(error) if error.status() == StatusCode::NOT_FOUND => {}
                Err(error) if error.status() == StatusCode::UNAUTHORIZED => {
                    refusal = refusal.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        match refusal {
            Some(error) => Err(error),
            None => match authorize(None) {
                Err(error) => Err(error),
                Ok(_) => Err(HttpError::not_found()),
            },
        }
    }

    /// The question that `authorize` answered with `grant`, to be asked again.
    fn standing<Op: 'static>(
        &self,
        authorize: fn(&Gate, &Principal, Option<&RepoPath>) -> Result<Grant<Op>, Refusal>,
        principal: &Principal,
        grant: &Grant<Op>,
    ) -> Standing {
        let (gate, principal) = (self.gate.clone(), principal.clone());
        let repository = grant.repository().clone();
        Standing::new(move || Ok(authorize(&gate, &principal, Some(&repository)).map(drop)?))
    }
}

/// A grant and what it was given for.
#[derive(Debug)]
pub struct Granted<Op> {
    grant: Grant<Op>,
    leaks: Arc<leak::Guard>,
    repository: Arc<Repository>,
    standing: Standing,
}

impl Backend for Patgate {
    type Principal = Principal;
    type Fetch = Granted<Fetch>;
    type Push = Granted<Push>;

    fn services(&self) -> Option<Services> {
        Some(Services {
            gate: self.gate.clone(),
            repositories: Arc::clone(&self.repositories),
        })
    }

    fn authenticate(&self, authorization: Option<&[u8]>, client: Client) -> Result<Principal, HttpError> {
        self.gate
            .authenticate(authorization, client)
            .map_err(HttpError::from)
    }

    fn generation(&self) -> Result<u64, HttpError> {
        let generation = self.gate.store().generation();
        generation.map_err(|error| Refusal::from(error).into())
    }

    fn note(&self, principal: &Principal, record: &Record) {
        record.set_principal(principal.account(), principal.token_id());
    }

    fn open_fetch(
        &self,
        principal: &Principal,
        candidates: &[RepoPath],
    ) -> Result<Granted<Fetch>, HttpError> {
        let candidates = self.gate.narrow(principal, candidates)?;
        let authorize = |located: Option<&RepoPath>| Ok(self.gate.authorize_fetch(principal, located)?);
        let (grant, repository) = self.open(&candidates, authorize)?;
        let standing = self.standing(Gate::authorize_fetch, principal, &grant);
        Ok(self.granted(grant, repository, standing))
    }

    fn open_push(&self, principal: &Principal, candidates: &[RepoPath]) -> Result<Granted<Push>, HttpError> {
        let candidates = self.gate.narrow(principal, candidates)?;
        let authorize = |located: Option<&RepoPath>| Ok(self.gate.authorize_push(principal, located)?);
        let (grant, repository) = self.open(&candidates, authorize)?;
        let standing = self.standing(Gate::authorize_push, principal, &grant);
        Ok(self.granted(grant, repository, standing))
    }

    fn audit_events_lost(&self) -> u64 {
        self.gate.recorder().lost_count()
    }
}

impl FetchAccess for Granted<Fetch> {
    fn repository(&self) -> &RepoPath {
        self.grant.repository()
    }

    fn standing(&self) -> Standing {
        self.standing.clone()
    }

    fn advertise(&self, version: Version, out: &mut dyn Write) -> Result<(), HttpError> {
        upload_pack::advertise(&self.grant, &self.repository, version, out).map_err(HttpError::from)
    }

    fn serve(
        &self,
        version: Version,
        request: &[u8],
        limits: &FetchLimits,
        out: &mut dyn Write,
        interrupt: &Interrupt,
        record: &Record,
    ) -> Result<(), HttpError> {
        let outcome = upload_pack::serve(
            &self.grant,
            &self.repository,
            version,
            request,
            limits,
            out,
            interrupt,
        )?;
        record.set_summary(&format!(
            "{} wants={} haves={} objects={} pack_bytes={}",
            outcome.command, outcome.wants, outcome.haves, outcome.objects, outcome.pack_bytes
        ));
        Ok(())
    }
}

impl PushAccess for Granted<Push> {
    fn repository(&self) -> &RepoPath {
        self.grant.repository()
    }

    fn standing(&self) -> Standing {
        self.standing.clone()
    }

    fn advertise(&self, version: Version, out: &mut dyn Write) -> Result<(), HttpError> {
        receive_pack::advertise(&self.grant, &self.repository, version, out).map_err(HttpError::from)
    }

    fn serve(
        &self,
        request: &mut dyn Read,
        limits: &PushLimits,
        out: &mut dyn Write,
        interrupt: &Interrupt,
        record: &Record,
    ) -> Result<(), HttpError> {
        let asked = receive_pack::Asked {
            guard: &self.leaks,
            standing: &|| self.standing.ask_in_words(),
        };
        let outcome = receive_pack::serve(
            &self.grant,
            asked,
            &self.repository,
            request,
            limits,
            out,
            interrupt,
        )?;
        record.set_summary(&format!(
            "commands={} refused={} objects={} pack_bytes={}",
            outcome.commands, outcome.refused, outcome.objects, outcome.pack_bytes
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::auth::{Options, token};
    use crate::names::AccessPath;
    use crate::repository::registry::{self, CreateOptions};
    use crate::store::{Actor, DATABASE_FILE, NewAccount, Role, Store, TokenLimits};

    #[test]
    fn one_url_means_the_same_repository_to_fetches_and_pushes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join(DATABASE_FILE)).unwrap();
        let repositories = Repositories::at(dir.path().join("repos"), registry::Options::default()).unwrap();
        let account = NewAccount {
            name: "bob",
            password: None,
            is_admin: false,
            must_change_password: false,
        };
        store.create_account(&Actor::CommandLine, &account).unwrap();
        let candidates = ["X/R/R", "DefaultCollection/X/R"].map(|path| RepoPath::parse(path).unwrap());
        for path in &candidates {
            let options = CreateOptions {
                object_hash: gix_hash::Kind::Sha1,
                default_branch: "main".to_owned(),
            };
            repositories.create(path, &options).unwrap();
        }
        let grant = |at: usize, role| {
            let path = AccessPath::Repository(candidates[at].clone());
            store
                .grant_access(&Actor::CommandLine, Some("bob"), &path, role)
                .unwrap();
        };
        let new = token::CreateToken {
            account: "bob",
            name: "laptop",
            scopes: "vso.code_write",
            expires_at: token::parse_expiry("1d", jiff::Timestamp::now()).unwrap(),
            limits: &TokenLimits::NONE,
        };
        let (_, plain) = token::create(&store, &Actor::CommandLine, &new).unwrap();
        let patgate = Patgate::new(Gate::new(store.clone(), Options::default()), repositories);
        let bearer = format!("Bearer {}", plain.expose());
        let principal = patgate
            .authenticate(
                Some(bearer.as_bytes()),
                Client::from(IpAddr::from([127, 0, 0, 1])),
            )
            .unwrap();
        let fetch = || {
            let opened = patgate.open_fetch(&principal, &candidates);
            opened
                .map(|access| access.repository().clone())
                .map_err(|error| error.status())
        };
        let push = || {
            let opened = patgate.open_push(&principal, &candidates);
            opened
                .map(|access| access.repository().clone())
                .map_err(|error| error.status())
        };

        assert_eq!(
            (fetch(), push()),
            (Err(StatusCode::NOT_FOUND), Err(StatusCode::NOT_FOUND))
        );
        grant(1, Role::Contributor);
        assert_eq!(
            (fetch(), push()),
            (Ok(candidates[1].clone()), Ok(candidates[1].clone())),
            "the first is hidden"
        );
        grant(0, Role::Reader);
        assert_eq!(
            (fetch(), push()),
            (Ok(candidates[0].clone()), Err(StatusCode::FORBIDDEN)),
            "a push must not land in another repository than the fetch before it"
        );
        grant(0, Role::Contributor);
        assert_eq!(
            (fetch(), push()),
            (Ok(candidates[0].clone()), Ok(candidates[0].clone()))
        );
    }
}
