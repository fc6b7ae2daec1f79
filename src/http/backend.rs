//! What stands behind the routes: the gate, the repositories and the engines, as one seam.
//!
//! [`Patgate`] is the real one. Everything else in `http` knows only the traits, so a test can put an engine of its own
//! behind the bridge. All methods block and run where that is allowed.

use std::io::{Read, Write};
use std::sync::Arc;

use super::error::HttpError;
use super::standing::Standing;
use super::trail;
use crate::auth::scope::Operation;
use crate::auth::{Client, Fetch, Gate, Grant, Principal, Push, Refusal, RefusalKind, leak};
use crate::interrupt::Interrupt;
use crate::limits::{FetchLimits, PushLimits};
use crate::names::RepoPath;
use crate::protocol::Version;
use crate::repository::{self, Repositories, Repository};
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

    /// Asks the gate for each repository that is there, and opens the first that it grants.
    ///
    /// A URL that can mean two repositories must not tell of the one that its reader may not see, so "not found" of one
    /// does not end the search, and neither does the challenge to an anonymous reader. Any other refusal does: whoever
    /// may fetch from the first of them must not push to the second by the same URL.
    fn open<Op>(
        &self,
        candidates: &[RepoPath],
        authorize: impl Fn(Option<&RepoPath>) -> Result<Grant<Op>, Refusal>,
    ) -> Result<(Grant<Op>, Arc<Repository>), Closed> {
        let mut hidden = None;
        let mut challenge = None;
        for candidate in candidates {
            let Some(located) = self.repositories.locate(candidate)? else {
                continue;
            };
            match authorize(Some(&located)) {
                Ok(grant) => {
                    let repository = self.repositories.open(&located)?;
                    return Ok((grant, repository));
                }
                Err(refusal) if refusal.kind() == RefusalKind::NotFound => {
                    hidden.get_or_insert(located);
                }
                Err(refusal) if refusal.kind() == RefusalKind::Unauthorized => {
                    challenge.get_or_insert((refusal, located));
                }
                Err(refusal) => return Err(Closed::Refused(refusal, Some(Box::new(located)))),
            }
        }
        match challenge {
            Some((refusal, located)) => Err(Closed::Refused(refusal, Some(Box::new(located)))),
            None => match authorize(None) {
                Err(refusal) => Err(Closed::Refused(refusal, hidden.map(Box::new))),
                Ok(_) => Err(Closed::Failed(HttpError::not_found())),
            },
        }
    }

    /// The same for those of `candidates` that the token is not limited to leave out; `authorize` is asked again while
    /// a transfer runs. A refusal is noted in the trail.
    fn grant<Op: 'static>(
        &self,
        principal: &Principal,
        candidates: &[RepoPath],
        operation: Operation,
        authorize: Authorize<Op>,
    ) -> Result<Granted<Op>, HttpError> {
        let opened = match self.gate.narrow(principal, candidates) {
            Ok(candidates) => self.open(&candidates, |located| authorize(&self.gate, principal, located)),
            Err(refusal) => Err(Closed::Refused(refusal, None)),
        };
        match opened {
            Ok((grant, repository)) => Ok(Granted {
                standing: self.standing(authorize, principal, &grant),
                gate: self.gate.clone(),
                leaks: Arc::clone(&self.leaks),
                grant,
                repository,
            }),
            Err(Closed::Refused(refusal, located)) => {
                let asked = candidates.first();
                self.gate
                    .note_refusal(principal, operation, located.as_deref(), asked, &refusal);
                Err(refusal.into())
            }
            Err(Closed::Failed(error)) => Err(error),
        }
    }

    /// The question that `authorize` answered with `grant`, to be asked again.
    fn standing<Op: 'static>(
        &self,
        authorize: Authorize<Op>,
        principal: &Principal,
        grant: &Grant<Op>,
    ) -> Standing {
        let (gate, principal) = (self.gate.clone(), principal.clone());
        let repository = grant.repository().clone();
        Standing::new(move || Ok(authorize(&gate, &principal, Some(&repository)).map(drop)?))
    }
}

/// What asks the gate for one kind of grant.
type Authorize<Op> = fn(&Gate, &Principal, Option<&RepoPath>) -> Result<Grant<Op>, Refusal>;

/// Why no repository was opened.
enum Closed {
    /// The gate refused it; which, if it is there.
    Refused(Refusal, Option<Box<RepoPath>>),
    /// Something failed.
    Failed(HttpError),
}

impl From<repository::Error> for Closed {
    fn from(error: repository::Error) -> Self {
        Closed::Failed(error.into())
    }
}

/// A grant and what it was given for.
#[derive(Debug)]
pub struct Granted<Op> {
    gate: Gate,
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
        self.grant(principal, candidates, Operation::Fetch, Gate::authorize_fetch)
    }

    fn open_push(&self, principal: &Principal, candidates: &[RepoPath]) -> Result<Granted<Push>, HttpError> {
        self.grant(principal, candidates, Operation::Push, Gate::authorize_push)
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
        let mut outcome = upload_pack::Outcome::default();
        let ended = upload_pack::serve(
            &self.grant,
            &self.repository,
            version,
            request,
            limits,
            out,
            interrupt,
            &mut outcome,
        );
        record.set_summary(&format!(
            "{} wants={} haves={} objects={} pack_bytes={}",
            outcome.command, outcome.wants, outcome.haves, outcome.objects, outcome.pack_bytes
        ));
        if let Some(details) = trail::fetch(&outcome, ended.as_ref().err()) {
            self.gate
                .note_fetch(self.grant.actor(), self.grant.repository(), details);
        }
        Ok(ended?)
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
        let mut settle = |outcome: &receive_pack::Outcome, error: Option<&receive_pack::Error>| {
            record.set_summary(&format!(
                "commands={} refused={} objects={} pack_bytes={}",
                outcome.commands, outcome.refused, outcome.objects, outcome.pack_bytes
            ));
            trail::settle_push(&self.gate, &self.grant, outcome, error);
        };
        let asked = receive_pack::Asked {
            guard: &self.leaks,
            standing: &|| self.standing.ask_in_words(),
            settle: &mut settle,
        };
        Ok(receive_pack::serve(
            &self.grant,
            asked,
            &self.repository,
            request,
            limits,
            out,
            interrupt,
        )?)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use hyper::StatusCode;

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
