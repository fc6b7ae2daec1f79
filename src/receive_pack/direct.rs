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

use super::commands::first_objection;
use super::{Error, committer};
use crate::auth::{Grant, Push};
use crate::interrupt::Interrupt;
use crate::pack::{self, connectivity};
use crate::protocol::receive::RefCommand;
use crate::repository::Repository;
use crate::repository::quarantine::Connected;
use crate::repository::refs::{RefChange, RefChangeError, RefSnapshot};

/// Objects that are checked one by one when not all are whole, each at the cost of a walk. Those after them are refused.
const CHECKED_ALONE_MAX: usize = 256;

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
/// Right before anything moves, `standing` is asked whether the grant still holds, and the interrupt is sealed.
///
/// # Errors
///
/// When the repository fails, or the interrupt is triggered before. Which refs moved by then the next snapshot shows.
pub fn update_refs(
    grant: &Grant<Push>,
    standing: &dyn Fn() -> Result<(), String>,
    repository: &Arc<Repository>,
    commands: &[RefCommand],
    interrupt: &Interrupt,
) -> Result<Vec<Moved>, Error> {
    let refs = repository.refs()?;
    let mut results: Vec<Option<Moved>> = commands
        .iter()
        .map(|command| objection(grant, repository, &refs, command))
        .collect();
    let connected = check_objects(repository, &refs, commands, &mut results, interrupt)?;
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
    if !changes.is_empty()
        && let Err(reason) = standing()
    {
        let closed =
            |result: Option<Moved>| result.unwrap_or(Moved::Refused(Refusal::Closed(reason.clone())));
        return Ok(results.into_iter().map(closed).collect());
    }
    // The last moment to stop: what follows is done to the end.
    if !interrupt.seal() {
        return Err(Error::Interrupted);
    }
    if !changes.is_empty() {
        let migrated = repository.quarantine()?.into_checked(&connected).migrate()?;
        let moved = repository.update_refs(&migrated, &changes, false, &committer(grant))?;
        for (place, moved) in places.into_iter().zip(moved) {
            if let Some(result) = results.get_mut(place) {
                *result = Some(match moved {
                    Ok(()) => Moved::Done,
                    Err(error) => Moved::Refused(Refusal::Change(error)),
                });
            }
        }
    }
    Ok(results
        .into_iter()
        .map(|result| result.unwrap_or(Moved::Absent))
        .collect())
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
