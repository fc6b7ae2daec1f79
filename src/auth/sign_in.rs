//! Signing in with the name and the password of an account, for what no token may do: making and changing tokens.
//!
//! Git never comes this way. Failures count for the address, for the name from that address, and for the name; a refusal does not tell whether there is
//! such an account, or whether it is disabled.

use serde_json::json;

use super::client::Client;
use super::clock::Clock;
use super::refusal::Refusal;
use super::throttle::Throttle;
use super::token::{ParseError, PlainToken};
use super::trail::Trail;
use super::verifier::{Denied, Kind, Verdict, Verifier};
use crate::secret::Secret;
use crate::store::{Account, Actor, AuditAction, PasswordHash, Store};

/// Somebody who has given the password of an account.
#[derive(Debug, Clone)]
pub struct SignedIn {
    account: Account,
    client: Client,
    /// What the password was verified against. As long as it stays the same, so does the password.
    hash: PasswordHash,
    /// When that was, as the store counts.
    generation: u64,
}

impl SignedIn {
    /// The account, as it was when the password was checked.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Where the request came from.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Who the audit trail says it was.
    pub fn actor(&self) -> Actor {
        Actor::Client(self.client.requester(Some(self.account.name.clone())))
    }
}

/// What of the gate a password passes.
pub(super) struct Door<'a> {
    pub store: &'a Store,
    pub throttle: &'a Throttle,
    pub verifier: &'a Verifier,
    pub trail: &'a Trail,
    pub clock: &'a Clock,
}

/// Lets somebody in by name and password; see `Gate::sign_in`.
pub(super) fn sign_in(
    door: &Door<'_>,
    name: &str,
    password: &Secret,
    client: Client,
) -> Result<SignedIn, Refusal> {
    if !matches!(PlainToken::parse(password.expose()), Err(ParseError::Shape)) {
        return Err(Refusal::PasswordNeeded);
    }
    let now = door.clock.elapsed();
    // Before the account is read: what changes in between makes it look older than it is, never newer.
    let generation = door.store.generation()?;
    let attempt = door
        .verifier
        .attempt(Kind::Account, name, password)
        .from(client.address);
    // Whoever was let in a moment ago does not guess.
    if !door.verifier.is_remembered(&attempt, generation, now)
        && let Some(wait) = door.throttle.wait(client.address, now)
    {
        return Err(Refusal::Throttled { wait });
    }
    let found = door.store.find_account_with_password(name)?;
    let known = found.as_ref().map(|(account, _)| account.name.clone());
    // A disabled account is verified as one that is not there, or the time would tell that its password was right.
    let (account, hash) = match found {
        Some((account, hash)) if !account.is_disabled => (Some(account), hash),
        _ => (None, None),
    };
    let verdict = door.verifier.verify(&attempt, hash.as_ref(), generation, now)?;
    let proven = account.zip(hash).filter(|_| verdict != Verdict::Wrong);
    let proven = proven.map(|(account, hash)| SignedIn {
        account,
        client: client.clone(),
        hash,
        generation,
    });
    // Verifying takes a while, and others come first: by now the password may be another.
    let proven = proven.map(|signed_in| sign_in_again(door.store, &signed_in));
    let signed_in = match proven {
        Some(Ok(signed_in)) => Some(signed_in),
        None | Some(Err(Refusal::SignInFailed)) => None,
        Some(Err(refusal)) => return Err(refusal),
    };
    let Some(signed_in) = signed_in else {
        door.trail.failed(door.throttle, &client);
        door.trail.sign_in_refused(&client, known.as_deref());
        return Err(Refusal::SignInFailed);
    };
    if signed_in.account.must_change_password {
        return Err(Refusal::PasswordMustChange {
            account: signed_in.account.name,
        });
    }
    // A script signs in with each of its requests; one event a minute tells as much.
    if verdict == Verdict::Right {
        let subject = &signed_in.account.name;
        door.store
            .record_event(&signed_in.actor(), AuditAction::SignIn, subject, &json!({}))?;
    }
    Ok(signed_in)
}

/// What holds now for somebody whose password was right before; see `Gate::sign_in_again`.
pub(super) fn sign_in_again(store: &Store, before: &SignedIn) -> Result<SignedIn, Refusal> {
    // Before the account is read, as above.
    let generation = store.generation()?;
    if generation == before.generation {
        return Ok(before.clone());
    }
    let found = store.find_account_with_password(&before.account.name)?;
    let (account, hash) = found
        .and_then(|(account, hash)| Some((account, hash?)))
        // Of another account of this name, or with another password, nothing was proven.
        .filter(|(account, hash)| {
            !account.is_disabled && account.id == before.account.id && hash.expose() == before.hash.expose()
        })
        .ok_or(Refusal::SignInFailed)?;
    if account.must_change_password {
        return Err(Refusal::PasswordMustChange {
            account: account.name,
        });
    }
    Ok(SignedIn {
        account,
        client: before.client.clone(),
        hash,
        generation,
    })
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Busy(wait) => Refusal::PasswordsBusy { wait },
            Denied::TooOften(wait) => Refusal::PasswordThrottled { wait },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::auth::token::{self, CreateToken, expiry_in_days};
    use crate::auth::{Gate, Options, RefusalKind, password};
    use crate::store::{AuditFilter, DATABASE_FILE, NewAccount, Requester, TokenLimits};

    const CLI: Actor = Actor::CommandLine;
    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const RIGHT: &str = "correct horse";
    const WRONG: &str = "battery staple";

    struct Fixture {
        gate: Gate,
        clock: Clock,
        elsewhere: Store,
        _directory: tempfile::TempDir,
    }

    /// A gate, and the account bob with a password.
    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DATABASE_FILE);
        let clock = Clock::manual(Timestamp::now());
        let options = Options {
            clock: clock.clone(),
            ..Options::default()
        };
        let f = Fixture {
            gate: Gate::new(Store::open(&path).unwrap(), options),
            clock,
            elsewhere: Store::open(&path).unwrap(),
            _directory: directory,
        };
        f.account("bob", Some(RIGHT), false);
        f
    }

    impl Fixture {
        fn account(&self, name: &str, password: Option<&str>, must_change_password: bool) {
            let hash = password.map(|text| password::hash(&secret(text)).unwrap());
            let new = NewAccount {
                name,
                password: hash.as_ref(),
                is_admin: false,
                must_change_password,
            };
            self.elsewhere.create_account(&CLI, &new).unwrap();
        }

        fn sign_in(&self, name: &str, text: &str) -> Result<SignedIn, Refusal> {
            self.gate.sign_in(name, &secret(text), CLIENT)
        }

        fn events(&self) -> Vec<String> {
            let events = self.elsewhere.audit_events(&AuditFilter::latest(100)).unwrap();
            events
                .into_iter()
                .filter(|event| event.action == "account.sign-in")
                .map(|event| format!("{} {}", event.actor, event.subject))
                .collect()
        }
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[track_caller]
    fn refused(outcome: Result<SignedIn, Refusal>, status: u16) -> String {
        let refusal = outcome.unwrap_err();
        assert_eq!(refusal.kind().status(), status, "{refusal}");
        refusal.to_string()
    }

    #[test]
    fn the_name_and_the_password_of_an_account_sign_in() {
        let f = fixture();
        let client = Client::new(CLIENT, Some(b"curl/8"));
        let signed_in = f.gate.sign_in("BOB", &secret(RIGHT), client.clone()).unwrap();
        assert_eq!(signed_in.account().name, "bob");
        assert_eq!(signed_in.client(), &client);
        let expected = Requester {
            account: Some("bob".to_owned()),
            token: None,
            address: Some(CLIENT),
            agent: Some("curl/8".to_owned()),
        };
        assert_eq!(signed_in.actor(), Actor::Client(expected));
        assert!(!format!("{signed_in:?} {:?}", f.gate).contains(RIGHT));
    }

    #[test]
    fn a_script_that_signs_in_with_each_request_leaves_one_event_a_minute() {
        let f = fixture();
        for _ in 0..3 {
            f.sign_in("bob", RIGHT).unwrap();
        }
        assert_eq!(f.events(), ["bob bob"]);
        f.clock.advance(Duration::from_secs(60));
        f.sign_in("bob", RIGHT).unwrap();
        assert_eq!(f.events().len(), 2);
    }

    #[test]
    fn whoever_signed_in_is_let_go_on_only_with_the_password_and_the_account_of_now() {
        let f = fixture();
        let set_password = |text: &str| {
            let hash = password::hash(&secret(text)).unwrap();
            f.elsewhere.set_password(&CLI, "bob", &hash, false).unwrap();
        };
        let signed_in = f.sign_in("bob", RIGHT).unwrap();
        f.account("eve", Some(WRONG), false);
        let again = f.gate.sign_in_again(&signed_in).unwrap();
        assert_eq!(again.account(), signed_in.account(), "what changed was another's");
        f.elsewhere.set_account_disabled(&CLI, "bob", true).unwrap();
        refused(f.gate.sign_in_again(&signed_in), 401);
        f.elsewhere.set_account_disabled(&CLI, "bob", false).unwrap();
        f.gate.sign_in_again(&signed_in).unwrap();
        set_password(WRONG);
        refused(f.gate.sign_in_again(&signed_in), 401);
        set_password(RIGHT);
        refused(f.gate.sign_in_again(&signed_in), 401);
        let signed_in = f.sign_in("bob", RIGHT).unwrap();
        f.elsewhere.delete_account(&CLI, "bob").unwrap();
        refused(f.gate.sign_in_again(&signed_in), 401);
    }

    #[test]
    fn a_refusal_does_not_tell_which_accounts_there_are() {
        let f = fixture();
        f.account("disabled", Some(RIGHT), true);
        f.elsewhere.set_account_disabled(&CLI, "disabled", true).unwrap();
        f.account("machine", None, false);
        let wrong = refused(f.sign_in("bob", WRONG), 401);
        for (name, text) in [
            ("nobody", RIGHT),
            ("", RIGHT),
            ("disabled", RIGHT),
            ("disabled", RIGHT),
            ("disabled", WRONG),
            ("machine", RIGHT),
            ("machine", "no account has this one"),
            ("bob", ""),
        ] {
            assert_eq!(refused(f.sign_in(name, text), 401), wrong, "{name} {text}");
        }
        assert_eq!(f.events().len(), 0);
    }

    #[test]
    fn a_refused_sign_in_is_noted_by_the_name_of_an_account_and_by_no_other() {
        let f = fixture();
        for _ in 0..3 {
            refused(f.sign_in("BOB", WRONG), 401);
        }
        refused(f.sign_in(RIGHT, "bob"), 401);
        f.gate.flush();
        let events = |f: &Fixture| {
            let mut events = f.elsewhere.audit_events(&AuditFilter::latest(100)).unwrap();
            events.retain(|event| event.action == "account.sign-in-refuse");
            events.reverse();
            events
                .into_iter()
                .map(|event| (event.subject, event.details["times"].as_u64().unwrap()))
                .collect::<Vec<_>>()
        };
        let first = [("bob".to_owned(), 1), (String::new(), 1)];
        assert_eq!(events(&f), first, "what was typed by mistake may be a password");
        f.gate.shutdown();
        assert_eq!(
            events(&f)[2..],
            [("bob".to_owned(), 2)],
            "nothing is left out in the end"
        );
    }

    #[test]
    fn a_first_password_has_to_be_changed_before() {
        let f = fixture();
        f.account("admin", Some(RIGHT), true);
        let text = refused(f.sign_in("admin", RIGHT), 403);
        assert!(text.contains("patgate user set-password 'admin'"), "{text}");
        assert!(refused(f.sign_in("admin", WRONG), 401).contains("no account"));
    }

    #[test]
    fn a_token_signs_nobody_in_and_is_no_failure() {
        let f = fixture();
        let new = CreateToken {
            account: "bob",
            name: "laptop",
            scopes: "app_token",
            expires_at: expiry_in_days(1, Timestamp::now()).unwrap(),
            limits: &TokenLimits::NONE,
        };
        let (_, plain) = token::create(&f.elsewhere, &CLI, &new).unwrap();
        for _ in 0..100 {
            assert!(refused(f.sign_in("bob", plain.expose()), 403).contains("A token cannot make"));
        }
        f.sign_in("bob", RIGHT).unwrap();
    }

    #[test]
    fn one_account_is_not_guessed_at_from_many_addresses() {
        let f = fixture();
        let from = |last: u8, text: &str| {
            f.gate
                .sign_in("bob", &secret(text), IpAddr::from([198, 51, 100, last]))
        };
        // Each address tries no more than it may by itself.
        for last in 0..50 {
            refused(from(last, WRONG), 401);
        }
        let refusal = from(50, RIGHT).unwrap_err();
        assert_eq!(
            (refusal.kind(), refusal.retry_after()),
            (RefusalKind::TooManyRequests, Some(3))
        );
        f.clock.advance(Duration::from_secs(3));
        from(50, RIGHT).unwrap();
        refused(from(51, WRONG), 401);
        refused(from(52, WRONG), 429);
        // Whoever was let in a moment ago does not guess.
        from(53, RIGHT).unwrap();
    }

    #[test]
    fn one_address_guesses_five_times_and_locks_nobody_else_out() {
        let f = fixture();
        for _ in 0..5 {
            refused(f.sign_in("bob", WRONG), 401);
        }
        let refusal = f.sign_in("bob", RIGHT).unwrap_err();
        assert_eq!(
            (refusal.kind(), refusal.retry_after()),
            (RefusalKind::TooManyRequests, Some(12))
        );
        let elsewhere = IpAddr::from([192, 0, 2, 2]);
        f.gate.sign_in("bob", &secret(RIGHT), elsewhere).unwrap();
    }

    #[test]
    fn an_address_that_fails_too_often_waits_unless_it_was_let_in_a_moment_ago() {
        let f = fixture();
        f.account("eve", Some(RIGHT), false);
        f.sign_in("bob", RIGHT).unwrap();
        for number in 0..20 {
            refused(f.sign_in(&format!("guess {number}"), WRONG), 401);
        }
        assert!(refused(f.sign_in("eve", RIGHT), 429).contains("from this address"));
        f.sign_in("bob", RIGHT).unwrap();
        let elsewhere = IpAddr::from([192, 0, 2, 2]);
        f.gate.sign_in("eve", &secret(RIGHT), elsewhere).unwrap();
    }

    #[test]
    fn what_changes_while_a_password_waits_to_be_verified_holds() {
        type Act = fn(&Store);
        let acts: [(Act, Option<u16>); 5] = [
            (|_| {}, None),
            // Something else has changed.
            (
                |store| {
                    drop(
                        store
                            .create_account(
                                &CLI,
                                &NewAccount {
                                    name: "eve",
                                    password: None,
                                    is_admin: false,
                                    must_change_password: false,
                                },
                            )
                            .unwrap(),
                    )
                },
                None,
            ),
            (
                |store| {
                    let hash = password::hash(&secret(WRONG)).unwrap();
                    store.set_password(&CLI, "bob", &hash, false).unwrap();
                },
                Some(401),
            ),
            (
                |store| drop(store.set_account_disabled(&CLI, "bob", true).unwrap()),
                Some(401),
            ),
            (
                |store| drop(store.delete_account(&CLI, "bob").unwrap()),
                Some(401),
            ),
        ];
        for (act, status) in acts {
            let f = fixture();
            let (verifier, throttle) = (
                Verifier::new(),
                Throttle::new(crate::auth::throttle::Settings::default()),
            );
            let recorder = crate::auth::recorder::Recorder::start(f.elsewhere.clone());
            let trail = Trail::new(recorder, f.clock.clone());
            let door = Door {
                store: &f.elsewhere,
                throttle: &throttle,
                verifier: &verifier,
                trail: &trail,
                clock: &f.clock,
            };
            let places = verifier.take_all_places();
            let outcome = std::thread::scope(|scope| {
                let waiting = scope.spawn(|| sign_in(&door, "bob", &secret(RIGHT), CLIENT.into()));
                verifier.await_waiting(1);
                act(&f.elsewhere);
                drop(places);
                waiting.join().unwrap()
            });
            match status {
                None => assert_eq!(outcome.unwrap().account().name, "bob"),
                Some(status) => drop(refused(outcome, status)),
            }
        }
    }

    #[test]
    fn a_new_password_holds_at_once() {
        let f = fixture();
        f.sign_in("bob", RIGHT).unwrap();
        let hash = password::hash(&secret(WRONG)).unwrap();
        f.elsewhere.set_password(&CLI, "bob", &hash, false).unwrap();
        refused(f.sign_in("bob", RIGHT), 401);
        f.sign_in("bob", WRONG).unwrap();
        f.elsewhere.set_account_disabled(&CLI, "bob", true).unwrap();
        refused(f.sign_in("bob", WRONG), 401);
    }
}
