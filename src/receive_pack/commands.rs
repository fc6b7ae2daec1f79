//! The commands of one push and what became of each, in git's words.

use bstr::BStr;
use gix_hash::ObjectId;

use super::FAILED_TO_UPDATE;
use super::{NAMES_KEPT_BYTES_MAX, Outcome, REFS_KEPT_MAX, RefEnd, RefOutcome};
use crate::protocol::receive::{CommandStatus, RefCommand};
use crate::repository::hidden::is_hidden;
use crate::repository::refs::{Head, RefChange, RefSnapshot, is_valid_name};
use crate::repository::settings::Settings;

/// Where a command stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nothing speaks against it so far.
    Open,
    /// The ref is where it should be.
    Done,
    /// It will not move, for this reason.
    Refused(String),
}

/// The commands of one push.
pub(super) struct Commands<'a> {
    commands: &'a [RefCommand],
    states: Vec<State>,
    refs: &'a RefSnapshot,
    is_unsure: bool,
}

impl<'a> Commands<'a> {
    /// Takes the commands over and refuses what the names and the repository's settings speak against.
    pub(super) fn new(
        commands: &'a [RefCommand],
        refs: &'a RefSnapshot,
        settings: &Settings,
    ) -> Commands<'a> {
        let states = commands
            .iter()
            .map(|command| match first_objection(command, refs, settings) {
                Some(reason) => State::Refused(reason.to_owned()),
                None => State::Open,
            })
            .collect();
        Commands {
            commands,
            states,
            refs,
            is_unsure: false,
        }
    }

    /// Whether a pack follows: git sends one unless all commands delete.
    pub(super) fn bring_a_pack(&self) -> bool {
        self.commands.iter().any(|command| !command.new_id.is_null())
    }

    /// The commands that are still open, with their places.
    pub(super) fn open(&self) -> impl Iterator<Item = (usize, &'a RefCommand)> {
        self.commands
            .iter()
            .enumerate()
            .filter(|(place, _)| self.is_open(*place))
    }

    pub(super) fn any_open(&self) -> bool {
        self.states.contains(&State::Open)
    }

    pub(super) fn is_open(&self, place: usize) -> bool {
        self.states.get(place) == Some(&State::Open)
    }

    pub(super) fn refuse(&mut self, place: usize, reason: &str) {
        if let Some(state) = self.states.get_mut(place) {
            *state = State::Refused(reason.to_owned());
        }
    }

    /// Refuses all that are open.
    pub(super) fn refuse_all(&mut self, reason: &str) {
        for state in self.states.iter_mut().filter(|state| **state == State::Open) {
            *state = State::Refused(reason.to_owned());
        }
    }

    pub(super) fn moved(&mut self, place: usize) {
        if let Some(state) = self.states.get_mut(place) {
            *state = State::Done;
        }
    }

    /// Notes that some of what is refused may have moved all the same.
    pub(super) fn unsure(&mut self) {
        self.is_unsure = true;
    }

    pub(super) fn refused_count(&self) -> usize {
        self.states
            .iter()
            .filter(|state| matches!(state, State::Refused(_)))
            .count()
    }

    /// What the open commands change, with their places. A deletion of what is not there is done already.
    pub(super) fn changes(&mut self) -> (Vec<usize>, Vec<RefChange>) {
        let mut places = Vec::new();
        let mut changes = Vec::new();
        let mut done = Vec::new();
        for (place, command) in self.open() {
            let known = |id: ObjectId| (!id.is_null()).then_some(id);
            let mut old = known(command.old_id);
            let new = known(command.new_id);
            if new.is_none() && old.is_none() {
                // The client deletes a ref that it was not told of, whatever it points at.
                old = self.refs.find(command.name.as_ref()).map(|entry| entry.id);
                if old.is_none() {
                    done.push(place);
                    continue;
                }
            }
            places.push(place);
            changes.push(RefChange {
                name: command.name.clone(),
                old,
                new,
            });
        }
        for place in done {
            self.moved(place);
        }
        (places, changes)
    }

    /// What becomes of the push if nothing moves any more.
    pub(super) fn outcome(&self) -> Outcome {
        let refs = kept(self.commands).zip(&self.states).map(|(command, state)| {
            let end = match state {
                State::Done => RefEnd::Moved,
                State::Refused(reason) => RefEnd::Refused(reason.clone()),
                State::Open => RefEnd::Untouched,
            };
            let mut outcome = told(command, end);
            if outcome.old.is_none() && outcome.new.is_none() {
                outcome.old = self.refs.find(command.name.as_ref()).map(|entry| entry.id);
            }
            outcome
        });
        Outcome {
            commands: self.commands.len(),
            refused: self.refused_count(),
            refs: refs.collect(),
            is_unsure: self.is_unsure,
            ..Outcome::default()
        }
    }

    /// The report's lines.
    pub(super) fn statuses(&self) -> Vec<(&'a BStr, CommandStatus)> {
        let status = |state: &State| match state {
            State::Done => CommandStatus::Ok,
            State::Refused(reason) => CommandStatus::Ng(reason.clone()),
            State::Open => CommandStatus::Ng(FAILED_TO_UPDATE.to_owned()),
        };
        self.commands
            .iter()
            .map(|command| command.name.as_ref())
            .zip(self.states.iter().map(status))
            .collect()
    }
}

/// What became of commands that nobody came to; `reason` is what the client hears for each of them, if it does.
pub(super) fn ended_early(commands: &[RefCommand], reason: Option<&str>) -> Outcome {
    Outcome {
        commands: commands.len(),
        refused: reason.map_or(0, |_| commands.len()),
        refs: kept(commands)
            .map(|command| told(command, RefEnd::Untouched))
            .collect(),
        refusal: reason.map(str::to_owned),
        ..Outcome::default()
    }
}

/// The first commands, as far as the outcome tells of them.
pub(super) fn kept(commands: &[RefCommand]) -> impl Iterator<Item = &RefCommand> {
    let mut bytes = 0;
    commands.iter().take(REFS_KEPT_MAX).take_while(move |command| {
        bytes += command.name.len();
        bytes <= NAMES_KEPT_BYTES_MAX
    })
}

/// Tells of one command.
pub(super) fn told(command: &RefCommand, end: RefEnd) -> RefOutcome {
    let known = |id: ObjectId| (!id.is_null()).then_some(id);
    RefOutcome {
        name: command.name.clone(),
        old: known(command.old_id),
        new: known(command.new_id),
        end,
    }
}

/// What speaks against a command before anything is read: in the order in which git-receive-pack asks.
pub(super) fn first_objection(
    command: &RefCommand,
    refs: &RefSnapshot,
    settings: &Settings,
) -> Option<&'static str> {
    let name: &BStr = command.name.as_ref();
    let is_deletion = command.new_id.is_null();
    if is_hidden(&settings.receive_hide_refs, name) {
        return Some(if is_deletion {
            "deny deleting a hidden ref"
        } else {
            "deny updating a hidden ref"
        });
    }
    if !is_valid_name(name) {
        return Some("funny refname");
    }
    if !is_deletion {
        // A name directly below refs/ can only go away.
        let has_two_levels = name.iter().filter(|&&byte| byte == b'/').count() > 1;
        return (!has_two_levels).then_some("funny refname");
    }
    if settings.deny_deletes && name.starts_with(b"refs/heads/") {
        return Some("deletion prohibited");
    }
    let is_current = matches!(refs.head(), Head::Symbolic { target, .. } if target == &command.name);
    (is_current && settings.deny_delete_current).then_some("deletion of the current branch prohibited")
}
