//! Moving refs without a push: for clients that name objects which the repository has already.
//!
//! What speaks against a change is what speaks against it in a push: hidden refs, names, the repository's settings, the
//! token's limits, objects that are missing or incomplete. Each change stands for itself. As in a push, the gate is asked
//! once more right before refs move, and until then all of it can be interrupted.

use std::collections::HashSet;
use std::sync::Arc;

use bstr::BStr;
use gix_hash::ObjectId;
use gix_object::Kind;

use super::commands::{ended_early, first_objection, kept, told};
use super::{Asked, Error, FAILED_TO_UPDATE, Outcome, RefEnd, committer};
use crate::auth::{Grant, Push, leak};
use crate::interrupt::Interrupt;
use crate::pack::{self, connectivity};
use crate::protocol::receive::RefCommand;
use crate::repository::quarantine::Connected;
use crate::repository::refs::{RefChange, RefChangeError, RefSnapshot};
use crate::repository::{self, Repository};
use crate::store::{LiveToken, TokenHash};

/// Objects that are checked one by one when not all are whole, each at the cost of a walk. Those after them are refused.
const CHECKED_ALONE_MAX: usize = 256;

/// Live tokens in the names of one request that the trail is told of.
const LEAKS_NOTED_MAX: usize = 100;

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// The ref is where it should be.
    Done,
    /// It was to be deleted, and was not there.
    Absent,
    /// It did not move.
    Refused(Refusal),
}

/// Why a ref did not move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A setting of the repository, in git's words.
    #[error("{0}")]
    Denied(String),
    /// Another change of refs takes too long; nothing moved.
    #[error("the repository is busy; try again in a moment")]
    Busy,
    /// The transaction failed on the way, and the ref may have moved all the same.
    #[error("{FAILED_TO_UPDATE}; list the refs to see which moved all the same")]
    Unsure,
    /// The name holds the live token with this public id.
    #[error(
        "the name holds the live token {0}; choose another, and revoke the token: patgate token revoke {0}"
    )]
    Secret(String),
    /// The name holds a token of which it cannot be told whether it lives.
    #[error("the server could not check the name for tokens; tell its administrator")]
    Unchecked,
    /// The gate, which was asked once more at the end.
    #[error("{0}")]
    Closed(String),
    /// No ref can have this name.
    #[error("no ref can have this name")]
    Name,
    /// The token's limits leave the ref out.
    #[error("the token may not change this ref")]
    Limited,
    /// The object is not there, or not all that it reaches.
    #[error("the repository has no such object, or not all that it refers to")]
    Missing,
    /// A branch can only be at a commit.
    #[error("a branch can only point at a commit")]
    NotACommit,
    /// The repository takes fast-forwards only.
    #[error("the change is no fast-forward, and the repository takes no other")]
    NotAFastForward,
    /// The ref is elsewhere, or cannot be made or locked.
    #[error(transparent)]
    Change(RefChangeError),
}

/// Moves refs by compare-and-swap, each for itself. One result for each command, in order; a null id stands for "does
/// not exist".
///
/// Right before anything moves, it is asked whether the grant still holds, and the interrupt is sealed. What became of
/// the changes is settled once, before this returns, as that of a push.
///
/// # Errors
///
/// When the repository fails before anything could move, or the interrupt is triggered before. Then no ref moved.
pub fn update_refs(
    grant: &Grant<Push>,
    asked: Asked<'_>,
    repository: &Arc<Repository>,
    commands: &[RefCommand],
    interrupt: &Interrupt,
) -> Result<Vec<Moved>, Error> {
    let Asked {
        guard,
        standing,
        settle,
    } = asked;
    let mover = Mover {
        grant,
        guard,
        standing,
        repository,
        interrupt,
    };
    match mover.run(commands) {
        Ok(done) => {
            settle(&done.outcome(commands), None);
            Ok(done.moved)
        }
        Err(error) => {
            settle(&ended_early(commands, interrupt.reason()), Some(&error));
            Err(error)
        }
    }
}

/// What became of a request.
struct Done {
    moved: Vec<Moved>,
    /// The transaction failed on the way, and some refs may have moved all the same.
    is_unsure: bool,
}

impl Done {
    fn outcome(&self, commands: &[RefCommand]) -> Outcome {
        let is_refused = |moved: &&Moved| matches!(moved, Moved::Refused(_));
        let refs = kept(commands).zip(&self.moved).map(|(command, moved)| {
            let end = match moved {
                Moved::Done | Moved::Absent => RefEnd::Moved,
                Moved::Refused(refusal) => RefEnd::Refused(refusal.to_string()),
            };
            told(command, end)
        });
        Outcome {
            commands: commands.len(),
            refused: self.moved.iter().filter(is_refused).count(),
            refs: refs.collect(),
            is_unsure: self.is_unsure,
            ..Outcome::default()
        }
    }
}

/// What all steps of one request share.
struct Mover<'a> {
    grant: &'a Grant<Push>,
    guard: &'a leak::Guard,
    standing: &'a dyn Fn() -> Result<(), String>,
    repository: &'a Arc<Repository>,
    interrupt: &'a Interrupt,
}

impl Mover<'_> {
    fn run(&self, commands: &[RefCommand]) -> Result<Done, Error> {
        let repository = self.repository;
        let refs = repository.refs()?;
        let mut results: Vec<Option<Moved>> = commands
            .iter()
            .map(|command| objection(self.grant, repository, &refs, command))
            .collect();
        self.refuse_secrets(&refs, commands, &mut results);
        let connected = check_objects(repository, &refs, commands, &mut results, self.interrupt)?;
        let mut places = Vec::new();
        let mut changes = Vec::new();
        for (place, command) in commands.iter().enumerate() {
            if results.get(place).is_some_and(Option::is_none) {
                let known = |id: ObjectId| (!id.is_null()).then_some(id);
                places.push(place);
                changes.push(RefChange {
                    name: command.name.clone(),
                    old: known(command.old_id),
                    new: known(command.new_id),
                });
            }
        }
        let mut is_unsure = false;
        if !changes.is_empty() {
            let migrated = repository.quarantine()?.into_checked(&connected).migrate()?;
            let mut refusal = None;
            // The last moment to stop, when nothing is left to wait for: what follows is done to the end.
            let mut may_begin = || match (self.standing)() {
                Ok(()) => self.interrupt.seal(),
                Err(reason) => {
                    refusal = Some(reason);
                    false
                }
            };
            let committer = committer(self.grant);
            match repository.update_refs_if(&migrated, &changes, false, &committer, &mut may_begin) {
                Err(repository::Error::Withdrawn) => {
                    let reason = refusal.ok_or(Error::Interrupted)?;
                    return Ok(Done::refusing(results, &Refusal::Closed(reason)));
                }
                Ok(moved) => {
                    for (place, moved) in places.into_iter().zip(moved) {
                        if let Some(result) = results.get_mut(place) {
                            *result = Some(match moved {
                                Ok(()) => Moved::Done,
                                Err(error) => Moved::Refused(Refusal::Change(error)),
                            });
                        }
                    }
                }
                Err(err) => {
                    tracing::error!(err = &err as &dyn std::error::Error, "refs could not be moved");
                    is_unsure = !matches!(err, repository::Error::TransactionBusy);
                    let refusal = if is_unsure { Refusal::Unsure } else { Refusal::Busy };
                    return Ok(Done {
                        is_unsure,
                        ..Done::refusing(results, &refusal)
                    });
                }
            }
        }
        let moved = results.into_iter().map(|result| result.unwrap_or(Moved::Absent));
        Ok(Done {
            moved: moved.collect(),
            is_unsure,
        })
    }

    /// Refuses names of new refs that hold a live token, as a push of them is. There is no way to ask for one here.
    fn refuse_secrets(&self, refs: &RefSnapshot, commands: &[RefCommand], results: &mut [Option<Moved>]) {
        let mut named: Vec<(usize, TokenHash)> = Vec::new();
        for (place, command) in commands.iter().enumerate() {
            let is_new = results.get(place).is_some_and(Option::is_none)
                && !command.new_id.is_null()
                && refs.find(command.name.as_ref()).is_none();
            if is_new {
                leak::each_token(&command.name, &mut |_, hash| {
                    named.push((place, hash));
                    true
                });
            }
        }
        if named.is_empty() {
            return;
        }
        let hashes: HashSet<TokenHash> = named.iter().map(|(_, hash)| *hash).collect();
        let hashes: Vec<TokenHash> = hashes.into_iter().collect();
        let live = self.guard.live_among(&hashes);
        if let Err(err) = &live {
            tracing::error!(
                err = err as &dyn std::error::Error,
                "names of refs could not be checked for tokens"
            );
        }
        let mut noted = HashSet::new();
        for (place, hash) in named {
            let refusal = match &live {
                Err(_) => Refusal::Unchecked,
                Ok(live) => match live.iter().find(|token| token.hash == hash) {
                    None => continue,
                    Some(token) => {
                        if noted.insert(hash) && noted.len() <= LEAKS_NOTED_MAX {
                            self.note_leak(token);
                        }
                        Refusal::Secret(token.id.to_string())
                    }
                },
            };
            if let Some(result) = results.get_mut(place) {
                *result = Some(Moved::Refused(refusal));
            }
        }
    }

    fn note_leak(&self, token: &LiveToken) {
        let place = ["the name of a ref".to_owned()];
        if let Err(err) = self.guard.notes(self.grant).token(token, &place, false) {
            tracing::error!(
                err = &err as &dyn std::error::Error,
                leaked = %token.id,
                "a live token in the name of a ref could not be noted"
            );
        }
    }
}

impl Done {
    /// Refuses what nothing was decided about.
    fn refusing(results: Vec<Option<Moved>>, refusal: &Refusal) -> Done {
        let moved = results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| Moved::Refused(refusal.clone())));
        Done {
            moved: moved.collect(),
            is_unsure: false,
        }
    }
}

/// What speaks against a command before an object is read, or makes it needless.
fn objection(
    grant: &Grant<Push>,
    repository: &Repository,
    refs: &RefSnapshot,
    command: &RefCommand,
) -> Option<Moved> {
    let name: &BStr = command.name.as_ref();
    if !grant.allows_ref(name) {
        return Some(Moved::Refused(Refusal::Limited));
    }
    if let Some(reason) = first_objection(command, refs, repository.settings()) {
        return Some(Moved::Refused(match reason {
            "funny refname" => Refusal::Name,
            reason => Refusal::Denied(reason.to_owned()),
        }));
    }
    let is_absent = || refs.find(name).is_none();
    (command.new_id.is_null() && is_absent()).then_some(Moved::Absent)
}

/// Refuses what the objects speak against, and proves that what is left is whole.
fn check_objects(
    repository: &Repository,
    refs: &RefSnapshot,
    commands: &[RefCommand],
    results: &mut [Option<Moved>],
    interrupt: &Interrupt,
) -> Result<Connected, Error> {
    let mut objects = repository.objects()?;
    let graph = repository.object_store().commit_graph();
    let vouched: Vec<ObjectId> = refs.iter().map(|entry| entry.id).collect();
    let known: HashSet<ObjectId> = vouched.iter().copied().collect();
    let mut fresh = Vec::new();
    for (place, command) in commands.iter().enumerate() {
        let Some(result) = results.get_mut(place).filter(|result| result.is_none()) else {
            continue;
        };
        if command.new_id.is_null() {
            continue;
        }
        let is_branch = command.name.starts_with(b"refs/heads/");
        *result = match objects.kind(&command.new_id)? {
            None => Some(Moved::Refused(Refusal::Missing)),
            Some(kind) if is_branch && kind != Kind::Commit => Some(Moved::Refused(Refusal::NotACommit)),
            Some(_) => None,
        };
        let is_checked =
            repository.settings().deny_non_fast_forwards && is_branch && !command.old_id.is_null();
        if result.is_none() && is_checked {
            let (old, new) = (command.old_id, command.new_id);
            let is_fast_forward = objects.kind(&old)? == Some(Kind::Commit)
                && connectivity::is_fast_forward(&mut objects, graph.as_deref(), old, new, interrupt)?;
            if !is_fast_forward {
                *result = Some(Moved::Refused(Refusal::NotAFastForward));
            }
        }
        if result.is_none() && !known.contains(&command.new_id) {
            fresh.push((place, command.new_id));
        }
    }
    let mut check = |tips: &[ObjectId], vouched: &[ObjectId]| {
        let checked = connectivity::check(
            &mut objects,
            graph.as_deref(),
            tips,
            vouched,
            &mut |_| {},
            interrupt,
        );
        match checked {
            Ok(connected) => Ok(Some(connected)),
            Err(pack::Error::Missing(_) | pack::Error::Kind { .. } | pack::Error::TooDeep(_)) => Ok(None),
            Err(error) => Err(Error::from(error)),
        }
    };
    let tips: Vec<ObjectId> = fresh.iter().map(|(_, id)| *id).collect();
    if !tips.is_empty()
        && let Some(connected) = check(&tips, &vouched)?
    {
        return Ok(connected);
    }
    // One at a time, to let those through that are whole.
    let mut proof = None;
    for (number, (place, id)) in fresh.into_iter().enumerate() {
        let connected = if number < CHECKED_ALONE_MAX {
            check(&[id], &vouched)?
        } else {
            None
        };
        match connected {
            Some(connected) => proof = Some(connected),
            None => {
                if let Some(result) = results.get_mut(place) {
                    *result = Some(Moved::Refused(Refusal::Missing));
                }
            }
        }
    }
    match proof {
        Some(proof) => Ok(proof),
        // What refs vouch for and what goes needs no object that is not there.
        None => Ok(connectivity::check(
            &mut repository.objects()?,
            None,
            &[],
            &[],
            &mut |_| {},
            interrupt,
        )?),
    }
}
