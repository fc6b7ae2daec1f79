//! What the gate tells the audit trail that is no part of a change.

use serde_json::{Value, json};

use super::{Gate, Principal, requester};
use crate::auth::client::Client;
use crate::auth::recorder::Recorder;
use crate::auth::refusal::Refusal;
use crate::auth::scope::Operation;
use crate::auth::trail::{RefusalOf, claim};
use crate::names::{NAME_BYTES_MAX, RepoPath};
use crate::store::{Actor, AuditAction, NewAuditEvent};

/// Longest path that was asked for, in bytes: three names, as a URL can have them.
const ASKED_BYTES_MAX: usize = 3 * NAME_BYTES_MAX + 2;

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

    /// Tells the trail that `principal` was refused `operation`, if it has a token: once a minute for each token,
    /// reason and repository, with the number of times.
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
        let (Some(verified), Some(reason)) = (principal.verified.as_deref(), refusal.reason()) else {
            return;
        };
        if asked.is_none() && matches!(refusal, Refusal::NotFound) {
            // A path that leads nowhere, whoever asks.
            return;
        }
        let kind = RefusalOf {
            token: verified.token_id.clone(),
            reason,
            repository: located.cloned(),
        };
        self.0.trail.refused(&kind, || {
            let asked = asked.filter(|asked| Some(*asked) != located);
            let details = json!({
                "operation": operation.name(),
                "asked": asked.map(|asked| claim(asked.to_string().as_bytes(), ASKED_BYTES_MAX)),
            });
            (requester(Some(verified), &principal.client), details)
        });
    }

    /// Tells the trail that a token that is known was refused before it was asked what for.
    pub(super) fn note_refused_credential(&self, client: &Client, refusal: &Refusal) {
        let (Some(token), Some(reason)) = (refusal.token(), refusal.reason()) else {
            return;
        };
        let kind = RefusalOf {
            token: token.clone(),
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
