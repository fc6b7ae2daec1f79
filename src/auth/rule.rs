//! Rules that revoke many tokens at once: everything that has a scope and was made before a moment.
//!
//! A rule touches no token. It is asked at the gate, so it holds for tokens that nobody has listed, from the next request
//! on, and taking it back brings them to life again. What counts is when a token got its secret: a rotation brings one
//! past the rule, because what the rule is against is secrets that got about. A token has a scope if it names it or one
//! that includes it; a rule against `vso.code` that spared `vso.code_write` would leave the code readable.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::scope::{ScopeError, Scopes};
use crate::store::{self, Actor, RevocationRule, Store, Token};

/// Why a rule was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The moment lies ahead, so that the rule would be against tokens that are still to be made.
    #[error("a rule is for what was made already: give a moment that has passed, or 'now'")]
    Future,
    /// The text is no moment.
    #[error(transparent)]
    Moment(#[from] MomentError),
    /// A scope is unknown.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A text is no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the moment is a date like '2027-01-31', a time like '2027-01-31T18:00:00Z', or 'now'")]
pub struct MomentError;

/// Reads a moment: `2027-01-31` is the beginning of that day in UTC.
///
/// # Errors
///
/// When it is neither a date nor a time nor `now`.
pub fn parse_moment(text: &str, now: Timestamp) -> Result<Timestamp, MomentError> {
    if text == "now" {
        return Ok(now);
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let date: Date = text.parse().map_err(|_| MomentError)?;
    let zoned = date.to_zoned(TimeZone::UTC).map_err(|_| MomentError)?;
    Ok(zoned.timestamp())
}

/// Makes a rule against everything that was made before `created_before` and has one of `scopes`, names with spaces
/// between; none means any.
///
/// # Errors
///
/// When a scope is unknown or the moment lies after `now`.
///
/// # Blocking
///
/// Until the second is over that `created_before` lies in, so that whatever is made after the rule lives.
pub fn create(
    store: &Store,
    actor: &Actor,
    scopes: &str,
    created_before: Timestamp,
    now: Timestamp,
) -> Result<RevocationRule, Error> {
    if created_before > now {
        return Err(Error::Future);
    }
    let scopes = match scopes.trim() {
        "" => Scopes::default(),
        text => text.parse()?,
    };
    let before = whole_second_after(created_before);
    let rule = store.create_revocation_rule(actor, &scopes.to_string(), before)?;
    let rest = before.duration_since(Timestamp::now());
    if rest.is_positive() && rest <= SignedDuration::from_secs(1) {
        std::thread::sleep(rest.unsigned_abs());
    }
    Ok(rule)
}

/// The store keeps whole seconds. Of those before the moment none may slip through for having been made in the same one,
/// so what is made in the rest of that second is meant, too.
fn whole_second_after(moment: Timestamp) -> Timestamp {
    let is_whole = moment.subsec_nanosecond() == 0;
    let second = moment.as_second() + i64::from(!is_whole);
    Timestamp::from_second(second).unwrap_or(moment)
}

/// All rules, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Rules(Vec<RevocationRule>);

impl Rules {
    /// Reads the rules that there are.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn load(store: &Store) -> Result<Rules, store::Error> {
        store.revocation_rules().map(Rules)
    }

    /// Finds the first rule against a secret that was made at `made_at` and has `scopes`.
    pub fn against(&self, scopes: Scopes, made_at: Timestamp) -> Option<&RevocationRule> {
        self.0
            .iter()
            .find(|rule| made_at < rule.created_before && has_one_of(scopes, &rule.scopes))
    }

    /// The same for a token's present secret.
    pub fn against_token(&self, token: &Token) -> Option<&RevocationRule> {
        self.against(Scopes::parse_known(&token.scopes), token.secret_made_at())
    }
}

impl From<Vec<RevocationRule>> for Rules {
    fn from(rules: Vec<RevocationRule>) -> Self {
        Rules(rules)
    }
}

/// Whether one of the scopes that `names` lists is in `scopes`, or `names` is empty. A name that a newer patgate stored
/// is in none.
fn has_one_of(scopes: Scopes, names: &str) -> bool {
    let mut names = names.split_ascii_whitespace().peekable();
    names.peek().is_none() || names.any(|name| scopes.includes(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::token::{self, CreateToken, parse_expiry};
    use crate::store::{DATABASE_FILE, NewAccount, TokenLimits};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn rule(id: i64, scopes: &str, created_before: &str) -> RevocationRule {
        RevocationRule {
            id,
            scopes: scopes.to_owned(),
            created_before: at(created_before),
            made_at: at("2026-11-22T10:30:00Z"),
        }
    }

    fn token(scopes: &str, created_at: &str, rotated_at: Option<&str>) -> Token {
        Token {
            id: "AAAAAAAA".parse().unwrap(),
            account: "bob".to_owned(),
            name: "laptop".to_owned(),
            scopes: scopes.to_owned(),
            created_at: at(created_at),
            expires_at: at("2027-11-22T10:30:00Z"),
            limits: TokenLimits::NONE,
            rotated_at: rotated_at.map(at),
            revoked_at: None,
            revoked_because: None,
            last_used_at: None,
            last_used_from: None,
            last_used_with: None,
            last_used_for: None,
        }
    }

    #[test]
    fn what_is_made_after_a_rule_lives_and_what_was_made_before_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join(DATABASE_FILE)).unwrap();
        let account = NewAccount {
            name: "bob",
            password: None,
            is_admin: false,
            must_change_password: false,
        };
        store.create_account(&Actor::CommandLine, &account).unwrap();
        let make = || {
            let new = CreateToken {
                account: "bob",
                name: "x",
                scopes: "vso.code",
                expires_at: parse_expiry("1d", Timestamp::now()).unwrap(),
                limits: &TokenLimits::NONE,
            };
            token::create(&store, &Actor::CommandLine, &new).unwrap().0
        };
        let before = make();
        let now = Timestamp::now();
        create(&store, &Actor::CommandLine, "vso.code", now, now).unwrap();
        let after = make();
        let rules = Rules::load(&store).unwrap();
        assert!(rules.against_token(&before).is_some());
        assert!(rules.against_token(&after).is_none());
    }

    #[test]
    fn a_rule_is_against_what_has_its_scope_and_is_older() {
        let rules = Rules::from(vec![
            rule(1, "vso.packaging vso.code_write", "2026-06-01T00:00:00Z"),
            rule(2, "app_token", "2026-09-01T00:00:00Z"),
        ]);
        let against = |scopes: &str, created_at: &str| {
            let token = token(scopes, created_at, None);
            rules.against_token(&token).map(|rule| rule.id)
        };
        assert_eq!(against("vso.code_write", "2026-05-31T23:59:59Z"), Some(1));
        assert_eq!(
            against("vso.code_write", "2026-06-01T00:00:00Z"),
            None,
            "half-open"
        );
        assert_eq!(
            against("vso.code_full", "2026-01-01T00:00:00Z"),
            Some(1),
            "it includes vso.code_write"
        );
        assert_eq!(against("vso.code", "2026-01-01T00:00:00Z"), None);
        assert_eq!(against("vso.work vso.packaging", "2026-01-01T00:00:00Z"), Some(1));
        assert_eq!(against("app_token", "2026-08-01T00:00:00Z"), Some(2));
        assert_eq!(against("app_token", "2026-09-01T00:00:00Z"), None);
        assert_eq!(against("vso.code_full", "2026-08-01T00:00:00Z"), None);
    }

    #[test]
    fn a_rule_without_scopes_is_against_all_of_them() {
        let rules = Rules::from(vec![rule(1, "", "2026-06-01T00:00:00Z")]);
        let against = |scopes: &str| rules.against_token(&token(scopes, "2026-01-01T00:00:00Z", None));
        assert!(against("vso.work").is_some());
        assert!(against("vso.of-a-newer-patgate").is_some());
        let strange = Rules::from(vec![rule(1, "vso.of-a-newer-patgate", "2026-06-01T00:00:00Z")]);
        assert!(
            strange
                .against_token(&token("vso.work", "2026-01-01T00:00:00Z", None))
                .is_none()
        );
    }

    #[test]
    fn a_new_secret_is_past_the_rule() {
        let rules = Rules::from(vec![rule(1, "vso.code", "2026-06-01T00:00:00Z")]);
        let rotated = |at| rules.against_token(&token("vso.code", "2026-01-01T00:00:00Z", Some(at)));
        assert!(rotated("2026-05-01T00:00:00Z").is_some());
        assert!(rotated("2026-06-02T00:00:00Z").is_none());
    }

    #[test]
    fn a_moment_is_a_day_a_time_or_now() {
        let now = at("2026-11-22T10:30:00Z");
        assert_eq!(parse_moment("now", now), Ok(now));
        assert_eq!(parse_moment("2026-01-31", now), Ok(at("2026-01-31T00:00:00Z")));
        assert_eq!(
            parse_moment("2026-01-31T18:00:00+02:00", now),
            Ok(at("2026-01-31T16:00:00Z"))
        );
        for text in ["", "90d", "yesterday", "2026-02-30", "31.01.2026"] {
            assert_eq!(parse_moment(text, now), Err(MomentError), "{text}");
        }
    }

    #[test]
    fn a_rule_is_made_only_of_what_makes_sense() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join(DATABASE_FILE)).unwrap();
        let now = at("2026-11-22T10:30:00Z");
        let make = |scopes: &str, before| create(&store, &Actor::CommandLine, scopes, before, now);
        assert_eq!(
            make(" vso.work  vso.code ", now).unwrap().scopes,
            "vso.code vso.work"
        );
        assert_eq!(make(" ", now).unwrap().scopes, "");
        let kept = |before| make("", at(before)).unwrap().created_before;
        assert_eq!(kept("2026-11-22T10:29:59Z"), at("2026-11-22T10:29:59Z"));
        assert_eq!(kept("2026-11-22T10:29:59.001Z"), now);
        assert!(matches!(
            make("vso.codes", now),
            Err(Error::Scope(ScopeError::Unknown { .. }))
        ));
        assert!(matches!(make("", at("2026-11-22T10:30:01Z")), Err(Error::Future)));
        let rules = Rules::load(&store).unwrap();
        assert_eq!(rules.0.len(), 4);
    }
}
