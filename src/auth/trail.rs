//! What the audit trail is told of those who are refused, and how often; and how it keeps what they said.
//!
//! Whoever is refused can come back a thousand times a second. So refusals of one kind leave an event a minute, with
//! the number of those that it stands for. What comes from outside is cut and holds no token before it is kept.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::clock::Clock;
use super::recorder::Recorder;
use super::throttle::{Throttle, network_of};
use super::token;
use crate::names::RepoPath;
use crate::secret::redact_tokens;
use crate::store::{Actor, AuditAction, NewAuditEvent, Requester, TokenId};

/// Time in which refusals of one kind leave one event.
const WINDOW: Duration = Duration::from_secs(60);

/// Kinds of refusals that are told apart; some 200 bytes each. Those beyond are counted together.
const KINDS_COUNT_MAX: usize = 4096;

/// Makes text from outside fit for the trail: as UTF-8, without the secrets of tokens, and cut to `bytes_max` bytes and
/// an ellipsis. Control characters stay, as JSON can keep them, and are escaped by whoever prints it.
pub fn claim(text: &[u8], bytes_max: usize) -> String {
    // Bounded before it is worked on; a replacement character is longer than the byte that it stands for.
    let (text, rest) = text.split_at(text.len().min(bytes_max.saturating_add(token::TOKEN_BYTES)));
    let text = String::from_utf8_lossy(text);
    let mut text = redact_tokens(&text, !rest.is_empty()).into_owned();
    if text.len() > bytes_max || !rest.is_empty() {
        let end = (0..=bytes_max.min(text.len()))
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Tells the recorder of refusals.
#[derive(Debug)]
pub(super) struct Trail {
    recorder: Recorder,
    clock: Clock,
    refusals: Mutex<Bound<RefusalOf>>,
    sign_ins: Mutex<Bound<SignInOf>>,
    unmoved: Mutex<Bound<UnmovedOf>>,
    fetches: Mutex<Bound<FetchOf>>,
}

/// What makes fetches alike of which not each leaves an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FetchOf {
    account: Option<String>,
    token: Option<TokenId>,
    /// As [`SignInOf::address`].
    address: Option<IpAddr>,
    repository: RepoPath,
    /// How they ended, in a word.
    outcome: String,
}

/// What somebody had who was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum CredentialOf {
    /// A token.
    Token(TokenId),
    /// The alternate credential of the account of this name.
    Alternate(String),
}

/// What makes refusals of one who is known alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RefusalOf {
    /// Who was refused.
    pub credential: CredentialOf,
    /// Why, in a word.
    pub reason: &'static str,
    /// Which repository, where there is one by the name.
    pub repository: Option<RepoPath>,
}

/// What makes refused sign-ins alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SignInOf {
    /// An IPv4 address, or the first of 2⁶⁴ of IPv6, which one customer holds whole.
    address: IpAddr,
    account: Option<String>,
    /// Why, where it was an alternate credential.
    alternate: Option<&'static str>,
}

/// What makes pushes of which nothing moved alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct UnmovedOf {
    /// The token, or the account where there is none.
    pub token: Option<TokenId>,
    /// The account.
    pub account: Option<String>,
    /// Where to.
    pub repository: RepoPath,
    /// How it ended, in a word.
    pub end: &'static str,
}

impl Trail {
    pub(super) fn new(recorder: Recorder, clock: Clock) -> Trail {
        Trail {
            recorder,
            clock,
            refusals: Mutex::new(Bound::new()),
            sign_ins: Mutex::new(Bound::new()),
            unmoved: Mutex::new(Bound::new()),
            fetches: Mutex::new(Bound::new()),
        }
    }

    /// Makes an event of this moment.
    pub(super) fn event(
        &self,
        actor: Actor,
        action: AuditAction,
        subject: &str,
        details: Value,
    ) -> NewAuditEvent {
        NewAuditEvent {
            at: self.clock.now(),
            actor,
            action,
            subject: subject.to_owned(),
            details,
        }
    }

    fn record(&self, actor: Actor, action: AuditAction, subject: &str, details: Value) {
        self.recorder.record(self.event(actor, action, subject, details));
    }

    /// Notes that a credential was refused. `requester` and `details`, which are worked out only if they are needed, say who
    /// had it and what for.
    pub(super) fn refused(&self, kind: &RefusalOf, about: impl FnOnce() -> (Requester, Value)) {
        let Some(times) = lock(&self.refusals).count(kind, self.clock.elapsed()) else {
            return;
        };
        let (requester, details) = about();
        self.record_refusal(kind, requester, details, times);
    }

    fn record_refusal(&self, kind: &RefusalOf, requester: Requester, mut details: Value, times: u64) {
        put(&mut details, "reason", json!(kind.reason));
        put(&mut details, "times", json!(times));
        let action = match kind.credential {
            CredentialOf::Token(_) => AuditAction::TokenRefuse,
            CredentialOf::Alternate(_) => {
                put(&mut details, "alternate", json!(true));
                put(
                    &mut details,
                    "repository",
                    json!(kind.repository.as_ref().map(ToString::to_string)),
                );
                AuditAction::SignInRefuse
            }
        };
        self.record(Actor::Client(requester), action, &kind.subject(), details);
    }

    /// Notes that of a push nothing moved. `details` are worked out only if they are needed: they can be large, and such a
    /// push costs its client next to nothing.
    pub(super) fn unmoved(&self, kind: &UnmovedOf, actor: Actor, details: impl FnOnce() -> Value) {
        let Some(times) = lock(&self.unmoved).count(kind, self.clock.elapsed()) else {
            return;
        };
        let mut details = details();
        put(&mut details, "times", json!(times));
        let subject = kind.repository.to_string();
        self.record(actor, AuditAction::GitPush, &subject, details);
    }

    /// Notes that a password was wrong. `account` is the account whose name was given, if there is one: what was typed
    /// instead of a name is not kept, because it may be a password.
    pub(super) fn sign_in_refused(&self, client: &Client, account: Option<&str>) {
        self.password_refused(client, account, None);
    }

    /// The same of an alternate credential, which can be refused for other reasons, too.
    pub(super) fn alternate_refused(
        &self,
        client: &Client,
        account: Option<&str>,
        reason: Option<&'static str>,
    ) {
        self.password_refused(client, account, reason);
    }

    fn password_refused(&self, client: &Client, account: Option<&str>, alternate: Option<&'static str>) {
        let kind = SignInOf {
            address: network_of(client.address),
            account: account.map(str::to_owned),
            alternate,
        };
        if let Some(times) = lock(&self.sign_ins).count(&kind, self.clock.elapsed()) {
            self.record_sign_in_refusal(&kind, client.requester(None), times);
        }
    }

    fn record_sign_in_refusal(&self, kind: &SignInOf, requester: Requester, times: u64) {
        let mut details = json!({ "times": times });
        if let Some(reason) = kind.alternate {
            put(&mut details, "alternate", json!(true));
            put(&mut details, "reason", json!(reason));
        }
        let subject = kind.account.as_deref().unwrap_or_default();
        self.record(
            Actor::Client(requester),
            AuditAction::SignInRefuse,
            subject,
            details,
        );
    }

    /// Notes that somebody came in by an alternate credential of `account`.
    pub(super) fn signed_in_by_alternate(&self, requester: Requester, account: &str) {
        let details = json!({ "alternate": true });
        self.record(Actor::Client(requester), AuditAction::SignIn, account, details);
    }

    /// Notes a fetch of `repository`, whose `details` say how it ended: each that went well and was not anonymous, and of
    /// the others one a minute for each kind. What those ask for costs nothing to make up.
    pub(super) fn fetched(&self, requester: Requester, repository: &RepoPath, mut details: Value) {
        let outcome = details
            .get("outcome")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if requester.account.is_none() || outcome != "ok" {
            let kind = FetchOf {
                account: requester.account.clone(),
                token: requester.token.clone(),
                address: requester.address.map(network_of),
                repository: repository.clone(),
                outcome,
            };
            let Some(times) = lock(&self.fetches).count(&kind, self.clock.elapsed()) else {
                return;
            };
            put(&mut details, "times", json!(times));
        }
        let action = AuditAction::GitFetch;
        self.record(Actor::Client(requester), action, &repository.to_string(), details);
    }

    /// Counts a failure of `client` against its address, and notes when that has to wait from now on.
    pub(super) fn failed(&self, throttle: &Throttle, client: &Client) {
        if let Some(failures) = throttle.fail(client.address, self.clock.elapsed()) {
            let actor = Actor::Client(client.requester(None));
            let subject = client.address.to_string();
            let details = json!({ "failures": failures });
            self.record(actor, AuditAction::CredentialRefuse, &subject, details);
        }
    }

    /// Tells of refusals that left no event because nothing like them came later.
    pub(super) fn sweep(&self) {
        self.tell_left_out(self.clock.elapsed());
    }

    /// The same, though more like them may come.
    pub(super) fn flush(&self) {
        self.tell_left_out(Duration::MAX);
    }

    fn tell_left_out(&self, now: Duration) {
        let (refusals, others) = lock(&self.refusals).take(now);
        for (kind, times) in refusals {
            let requester = match &kind.credential {
                CredentialOf::Token(token) => Requester {
                    token: Some(token.clone()),
                    ..Requester::default()
                },
                CredentialOf::Alternate(account) => Requester {
                    account: Some(account.clone()),
                    ..Requester::default()
                },
            };
            self.record_refusal(&kind, requester, json!({}), times);
        }
        let (sign_ins, other_sign_ins) = lock(&self.sign_ins).take(now);
        for (kind, times) in sign_ins {
            let requester = Requester {
                address: Some(kind.address),
                ..Requester::default()
            };
            self.record_sign_in_refusal(&kind, requester, times);
        }
        let (unmoved, other_unmoved) = lock(&self.unmoved).take(now);
        for (kind, times) in unmoved {
            let requester = Requester {
                token: kind.token,
                account: kind.account,
                ..Requester::default()
            };
            let details = json!({ "outcome": kind.end, "refs": [], "times": times });
            self.record(
                Actor::Client(requester),
                AuditAction::GitPush,
                &kind.repository.to_string(),
                details,
            );
        }
        let (fetches, other_fetches) = lock(&self.fetches).take(now);
        for (kind, times) in fetches {
            let requester = Requester {
                account: kind.account,
                token: kind.token,
                address: kind.address,
                agent: None,
            };
            let details = json!({ "outcome": kind.outcome, "times": times });
            let subject = kind.repository.to_string();
            self.record(Actor::Client(requester), AuditAction::GitFetch, &subject, details);
        }
        for (action, times) in [
            (AuditAction::GitFetch, other_fetches),
            (AuditAction::TokenRefuse, others),
            (AuditAction::SignInRefuse, other_sign_ins),
            (AuditAction::GitPush, other_unmoved),
        ] {
            if times > 0 {
                let details = json!({ "reason": "too many kinds to tell apart", "times": times });
                self.record(Actor::Server, action, "/", details);
            }
        }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.flush();
    }
}

impl RefusalOf {
    fn subject(&self) -> Cow<'_, str> {
        match (&self.credential, &self.repository) {
            (CredentialOf::Alternate(account), _) => Cow::Borrowed(account),
            (CredentialOf::Token(_), Some(repository)) => Cow::Owned(repository.to_string()),
            (CredentialOf::Token(token), None) => Cow::Borrowed(token.as_str()),
        }
    }
}

fn put(details: &mut Value, field: &str, value: Value) {
    if let Some(details) = details.as_object_mut() {
        details.insert(field.to_owned(), value);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets one of each kind through in a [`WINDOW`], and counts the others.
#[derive(Debug)]
struct Bound<K> {
    kinds: HashMap<K, Kind>,
    /// Of kinds for which there was no room.
    others: u64,
}

#[derive(Debug)]
struct Kind {
    until: Duration,
    left_out: u64,
}

impl<K: Hash + Eq + Clone> Bound<K> {
    fn new() -> Bound<K> {
        Bound {
            kinds: HashMap::new(),
            others: 0,
        }
    }

    /// Returns how many an event stands for, if there is to be one.
    fn count(&mut self, kind: &K, now: Duration) -> Option<u64> {
        let until = now.saturating_add(WINDOW);
        if let Some(known) = self.kinds.get_mut(kind) {
            known.left_out += 1;
            if now < known.until {
                return None;
            }
            known.until = until;
            return Some(std::mem::take(&mut known.left_out));
        }
        if self.kinds.len() >= KINDS_COUNT_MAX {
            self.kinds
                .retain(|_, known| now < known.until || known.left_out > 0);
        }
        if self.kinds.len() >= KINDS_COUNT_MAX {
            self.others += 1;
            return None;
        }
        self.kinds.insert(kind.clone(), Kind { until, left_out: 0 });
        Some(1)
    }

    /// Forgets what is over, and returns what was left out of it.
    fn take(&mut self, now: Duration) -> (Vec<(K, u64)>, u64) {
        let over = self.kinds.extract_if(|_, known| now >= known.until);
        let left_out = over
            .filter(|(_, known)| known.left_out > 0)
            .map(|(kind, known)| (kind, known.left_out))
            .collect();
        (left_out, std::mem::take(&mut self.others))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::store::{AuditEvent, AuditFilter, DATABASE_FILE, Store};

    const START: Duration = Duration::from_secs(1000);

    /// A trail whose clock stands still, and all that it told, oldest first.
    fn trail() -> (Trail, impl Fn() -> Vec<AuditEvent>) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join(DATABASE_FILE)).unwrap();
        let recorder = Recorder::start(store.clone());
        let trail = Trail::new(recorder.clone(), Clock::manual(Timestamp::now()));
        let events = move || {
            let _kept = &directory;
            recorder.flush();
            let mut events = store.audit_events(&AuditFilter::latest(1000)).unwrap();
            events.reverse();
            events
        };
        (trail, events)
    }

    #[test]
    fn what_is_kept_of_text_from_outside_is_short_and_holds_no_token() {
        let secret = "0123456789".repeat(5) + "ab";
        let whole = format!("pgt_{secret}");
        assert_eq!(claim(b"refs/heads/main", 100), "refs/heads/main");
        assert_eq!(claim(b"a\xff\x1b[2J", 100), "a\u{fffd}\u{1b}[2J");
        assert_eq!(claim("é".repeat(100).as_bytes(), 5), "éé…");
        assert_eq!(claim(&[0xff; 9], 7), "\u{fffd}\u{fffd}…");
        assert_eq!(claim(b"abc", 3), "abc");
        assert_eq!(claim(b"pgt_short pgt_", 100), "pgt_short pgt_");
        assert_eq!(
            claim(format!("x/{whole}/{whole}").as_bytes(), 100),
            "x/pgt_01234567…/pgt_01234567…"
        );
        // One that is cut in the middle is not kept either.
        for bytes_max in 0..100 {
            let kept = claim(format!("{whole}pgt_{secret}").as_bytes(), bytes_max);
            assert!(!kept.contains("0123456789"), "{kept}");
        }
        assert_eq!(
            claim(format!("{}{whole}", "x".repeat(90)).as_bytes(), 100).len(),
            103
        );
    }

    #[test]
    fn guesses_from_one_network_are_alike() {
        let (trail, events) = trail();
        let from = |address: &str| Client::from(address.parse::<IpAddr>().unwrap());
        for address in ["2001:db8::1", "2001:db8::2:3", "::ffff:192.0.2.1", "192.0.2.1"] {
            trail.sign_in_refused(&from(address), Some("bob"));
        }
        trail.sign_in_refused(&from("2001:db8:0:1::1"), Some("bob"));
        let times: Vec<Value> = events().into_iter().map(|event| event.details).collect();
        assert_eq!(times, vec![json!({ "times": 1 }); 3]);
        trail.flush();
        assert_eq!(events().len(), 5, "and the rest of two of them");
    }

    #[test]
    fn fetches_that_cost_nothing_leave_an_event_a_minute() {
        let (trail, events) = trail();
        let repository = RepoPath::parse("C/P/R").unwrap();
        let fetch = |account: Option<&str>, address: &str, outcome: &str| {
            let requester = Requester {
                account: account.map(str::to_owned),
                address: Some(address.parse().unwrap()),
                ..Requester::default()
            };
            trail.fetched(requester, &repository, json!({ "outcome": outcome, "wants": 1 }));
        };
        for number in 0..100 {
            fetch(None, &format!("2001:db8::{number}"), "refused");
            fetch(Some("bob"), "192.0.2.1", "interrupted");
            fetch(None, "192.0.2.2", "ok");
        }
        let told = events();
        assert_eq!(told.len(), 3);
        assert!(
            told.iter()
                .all(|event| event.details["times"] == 1 && event.details["wants"] == 1)
        );
        for _ in 0..3 {
            fetch(Some("bob"), "192.0.2.1", "ok");
        }
        assert_eq!(
            events().len(),
            6,
            "what somebody who is known got is told each time"
        );
        trail.flush();
        let left: Vec<Value> = events().into_iter().skip(6).map(|event| event.details).collect();
        assert_eq!(left.len(), 3);
        assert!(left.iter().all(|details| details["times"] == 99), "{left:?}");
    }

    #[test]
    fn of_refusals_alike_one_a_minute_passes_and_the_others_are_counted() {
        let mut bound = Bound::new();
        assert_eq!(bound.count(&"a", START), Some(1));
        assert_eq!(bound.count(&"a", START), None);
        assert_eq!(
            bound.count(&"b", START),
            Some(1),
            "another kind has its own minute"
        );
        assert_eq!(bound.count(&"a", START + WINDOW - Duration::from_secs(1)), None);
        assert_eq!(bound.count(&"a", START + WINDOW), Some(3));
        assert_eq!(bound.count(&"a", START + WINDOW), None);
        assert_eq!(
            bound.take(START + WINDOW),
            (vec![], 0),
            "a minute that runs is left alone"
        );
        assert_eq!(bound.take(START + 2 * WINDOW), (vec![("a", 1)], 0));
        assert!(bound.kinds.is_empty());
        assert_eq!(bound.count(&"a", START + 2 * WINDOW), Some(1));
    }

    #[test]
    fn the_kinds_that_are_told_apart_are_bounded() {
        let mut bound = Bound::new();
        let count_max = u64::try_from(KINDS_COUNT_MAX).unwrap();
        for kind in 0..count_max {
            assert_eq!(bound.count(&kind, START), Some(1));
        }
        assert_eq!(bound.count(&count_max, START), None);
        assert_eq!(bound.count(&0, START), None);
        assert_eq!(bound.kinds.len(), KINDS_COUNT_MAX);
        // Those that are over make room, but not before they were told of.
        assert_eq!(bound.count(&count_max, START + WINDOW), Some(1));
        assert_eq!(bound.kinds.len(), 2);
        assert_eq!(bound.take(START + 2 * WINDOW), (vec![(0, 1)], 1));
    }
}
