//! What the gate tells the audit trail that is no part of a change.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Gate, Principal, lock, requester};
use crate::auth::client::Client;
use crate::auth::grant::{Grant, Push};
use crate::auth::policy::Policies;
use crate::auth::recorder::Recorder;
use crate::auth::refusal::Refusal;
use crate::auth::scope::Operation;
use crate::auth::trail::{CredentialOf, RefusalOf, UnmovedOf, claim};
use crate::names::{NAME_BYTES_MAX, RepoPath};
use crate::store::{self, Actor, AuditAction, NewAuditEvent, Requester};

/// Longest path that was asked for, in bytes: three names, as a URL can have them.
const ASKED_BYTES_MAX: usize = 3 * NAME_BYTES_MAX + 2;

/// Rows that one transaction of a sweep changes, so that requests which write never wait long.
const BATCH_COUNT: u32 = 500;

/// Time between two of them: whoever holds a lock and takes it again at once is faster than those who wait for it.
const BATCH_PAUSE: Duration = Duration::from_millis(5);

/// How far the date may move against the time that has passed between two sweeps. A machine that slept has moved, too.
const JUMP_MAX: Duration = Duration::from_secs(60 * 60);

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Repeats `change`, which changes as many rows as it is told at most, until there are no more. Returns how many it
/// changed, and the error that ended it, if one did.
fn in_batches(
    mut change: impl FnMut(u32) -> Result<usize, store::Error>,
) -> (usize, Result<(), store::Error>) {
    let mut total = 0;
    loop {
        match change(BATCH_COUNT) {
            Ok(changed) => {
                total += changed;
                if u32::try_from(changed).is_ok_and(|changed| changed < BATCH_COUNT) {
                    return (total, Ok(()));
                }
            }
            Err(error) => return (total, Err(error)),
        }
        std::thread::sleep(BATCH_PAUSE);
    }
}

impl Gate {
    /// Where events of the audit trail go that are not part of a change.
    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// Makes an event of this moment, to be handed to [`Gate::recorder`].
    ///
    /// `details` is a JSON object in which whatever comes from outside was bounded, as by
    /// [`claim`](crate::auth::trail::claim).
    pub fn event(&self, actor: Actor, action: AuditAction, subject: &str, details: Value) -> NewAuditEvent {
        self.0.trail.event(actor, action, subject, details)
    }

    /// Tells the trail of a fetch of `repository`; `details` say in `outcome` how it ended, `ok` or otherwise, and what was
    /// asked for. Those that did not go well, and all of anonymous readers, leave one event a minute for each address (or
    /// /64), repository and outcome, with the number of times.
    ///
    /// # Blocking
    ///
    /// As [`Recorder::record`].
    pub fn note_fetch(&self, actor: Actor, repository: &RepoPath, details: Value) {
        let requester = match actor {
            Actor::Client(requester) => requester,
            Actor::CommandLine | Actor::Server => Requester::default(),
        };
        self.0.trail.fetched(requester, repository, details);
    }

    /// Tells the trail that `principal` was refused `operation`, if it has a credential: once a minute for each of
    /// these, reason and repository, with the number of times.
    ///
    /// `located` is the repository that it was refused, as it is spelled on disk; `asked` the one that was asked for,
    /// whether it is there or not.
    ///
    /// # Blocking
    ///
    /// As [`Recorder::record`].
    pub fn note_refusal(
        &self,
        principal: &Principal,
        operation: Operation,
        located: Option<&RepoPath>,
        asked: Option<&RepoPath>,
        refusal: &Refusal,
    ) {
        let Some(reason) = refusal.reason() else {
            return;
        };
        let (credential, requester) = match (&principal.verified, &principal.alternate) {
            (Some(verified), _) => (
                CredentialOf::Token(verified.token_id.clone()),
                requester(Some(&**verified), &principal.client),
            ),
            (None, Some(alternate)) => (
                CredentialOf::Alternate(alternate.account.name.clone()),
                alternate.requester(&principal.client),
            ),
            (None, None) => return,
        };
        if asked.is_none() && matches!(refusal, Refusal::NotFound) {
            // A path that leads nowhere, whoever asks.
            return;
        }
        let kind = RefusalOf {
            credential,
            reason,
            repository: located.cloned(),
        };
        self.0.trail.refused(&kind, || {
            let asked = asked.filter(|asked| Some(*asked) != located);
            let details = json!({
                "operation": operation.name(),
                "asked": asked.map(|asked| claim(asked.to_string().as_bytes(), ASKED_BYTES_MAX)),
            });
            (requester, details)
        });
    }

    /// Tells the trail of a push of which nothing moved: once a minute for each token, repository and `end`, which says in a
    /// word how it ended, with the number of times. `details` are as for [`Gate::event`].
    ///
    /// # Blocking
    ///
    /// While the queue of the trail is full.
    pub fn note_unmoved(&self, grant: &Grant<Push>, end: &'static str, details: impl FnOnce() -> Value) {
        let kind = UnmovedOf {
            token: grant.token().cloned(),
            account: grant.account().map(str::to_owned),
            repository: grant.repository().clone(),
            end,
        };
        self.0.trail.unmoved(&kind, grant.actor(), details);
    }

    /// Does what is due from time to time, about once an hour: tells the trail of tokens that came to their end, and of
    /// refusals that it left out, revokes tokens that nobody uses, and removes from the trail what is older than the
    /// policies say. What fails is logged, and is
    /// due again the next time. Where the date has jumped since the last time, nothing is revoked or removed this once.
    ///
    /// # Blocking
    ///
    /// For as long as there is something to do, in transactions of some milliseconds.
    pub fn sweep(&self, now: Timestamp) {
        self.0.trail.sweep();
        let (_, expired) = in_batches(|count_max| self.0.store.record_expired_tokens(now, count_max));
        if let Err(error) = expired {
            tracing::error!(cause = %error, "cannot note which tokens came to their end");
        }
        if self.has_date_jumped() {
            // A clock that was set wrong would take away what is not to be had back.
            tracing::warn!(
                date = %now,
                "the date has jumped since the last sweep: nothing is revoked for not being used, and no old event \
                 removed, until the next one"
            );
            return;
        }
        if let Err(error) = self.revoke_idle() {
            tracing::error!(cause = %error, "cannot revoke tokens that nobody uses");
        }
        if let Err(error) = self.prune(now) {
            tracing::error!(cause = %error, "cannot remove old events from the audit trail");
        }
    }

    /// Whether the date and the time that has passed since this was last asked differ by more than [`JUMP_MAX`].
    fn has_date_jumped(&self) -> bool {
        let clock = &self.0.options.clock;
        let (date, elapsed) = (clock.now(), clock.elapsed());
        let Some((date_before, elapsed_before)) = lock(&self.0.swept_at).replace((date, elapsed)) else {
            return false;
        };
        let by_date = date.duration_since(date_before);
        let passed =
            SignedDuration::try_from(elapsed.saturating_sub(elapsed_before)).unwrap_or(SignedDuration::MAX);
        by_date.saturating_sub(passed).unsigned_abs() > JUMP_MAX
    }

    /// Removes events that are older than they are to be kept. They go by whole days (UTC), so that what is removed, and
    /// the event that says so, comes once a day.
    fn prune(&self, now: Timestamp) -> Result<(), store::Error> {
        let Some(days) = Policies::load(&self.0.store)?.server().audit_retention() else {
            return Ok(());
        };
        let today = now.as_second().div_euclid(DAY_SECONDS);
        let first = today
            .saturating_sub(days.get().into())
            .saturating_mul(DAY_SECONDS);
        // There is nothing from before time began.
        let before = Timestamp::from_second(first).unwrap_or(Timestamp::MIN);
        let told_at = self.0.options.clock.now();
        let prune = |count_max| self.0.store.prune_audit_events(before, told_at, count_max);
        in_batches(prune).1
    }

    /// Tells the trail that a token that is known was refused before it was asked what for.
    pub(super) fn note_refused_credential(&self, client: &Client, refusal: &Refusal) {
        let (Some(token), Some(reason)) = (refusal.token(), refusal.reason()) else {
            return;
        };
        let kind = RefusalOf {
            credential: CredentialOf::Token(token.clone()),
            reason,
            repository: None,
        };
        self.0.trail.refused(&kind, || {
            // Who owns it, the refusal need not know. A store that cannot say fails the event, too.
            let owner = self.0.store.find_token(token).ok().flatten();
            let mut requester = client.requester(owner.map(|token| token.account));
            requester.token = Some(token.clone());
            (requester, json!({}))
        });
    }
}
