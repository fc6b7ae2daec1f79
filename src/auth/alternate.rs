//! Alternate credentials: a second name and password of an account, for clients that cannot use a token.
//!
//! They are what there was before tokens, and the worse choice in every way: they open all code that the account may
//! touch, have no end and no name of their own in the trail, and are as good as the person who chose them. So they open
//! nothing unless the policy `alternate-credentials` is on and the account has one. In exchange a client gets in that
//! shortens passwords, or cannot store what it did not ask for.
//!
//! Neither the name nor the password may look like a token, so that the gate knows from the text alone what it was given,
//! and a token is never looked up as anything else.

use super::password;
use super::scope::Scopes;
use super::token::PREFIX;
use crate::secret::Secret;
use crate::store::{self, Actor, AlternateCredential, Store};

/// What an alternate credential opens: all code.
const SCOPE: &str = "vso.code_full";

/// Why an alternate credential was not set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be sent as the username of Basic, or looks like a token.
    #[error("the name holds a colon, which ends a name on the wire, or begins like a token")]
    Name,
    /// The password is too short or too long, or cannot be hashed.
    #[error(transparent)]
    Password(#[from] password::Error),
    /// The password would be taken for a token.
    #[error("the password begins with 'pgt_', as only tokens do")]
    PasswordIsToken,
    /// The password is the account's own.
    #[error("the password is that of the account itself")]
    PasswordReused,
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Gives an account an alternate credential, in place of one that it has.
///
/// # Errors
///
/// When there is no such account, another has the name, the name breaks a rule of [`store::check_label`], or either looks
/// like a token; when the password is too short or too long, or the account's own.
///
/// # Blocking
///
/// Some tens of milliseconds for each hash.
pub fn set(
    store: &Store,
    actor: &Actor,
    account: &str,
    name: &str,
    password: &Secret,
) -> Result<AlternateCredential, Error> {
    if name.contains(':') || looks_like_token(name) {
        return Err(Error::Name);
    }
    if looks_like_token(password.expose()) {
        return Err(Error::PasswordIsToken);
    }
    // Two that are the same would be found out together, and this one lies about in more places.
    let own = store.find_password_hash(account)?;
    if own.is_some() && password::verify(password, own.as_ref()) {
        return Err(Error::PasswordReused);
    }
    let hash = password::hash(password)?;
    Ok(store.set_alternate_credential(actor, account, name, &hash)?)
}

/// Whether `text` is a token, or was meant to be one.
pub fn looks_like_token(text: &str) -> bool {
    text.trim_start()
        .get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// The scopes that whoever has an alternate credential has.
pub fn scopes() -> Scopes {
    Scopes::parse_known(SCOPE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scope::Operation;
    use crate::store::{DATABASE_FILE, NewAccount};

    const CLI: Actor = Actor::CommandLine;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn what_looks_like_a_token_is_told_from_its_text() {
        for text in ["pgt_", "pgt_x", "PGT_ABC", "  pgt_x"] {
            assert!(looks_like_token(text), "{text:?}");
        }
        for text in ["", "pgt", "p", "bob", "xpgt_", "pät_x"] {
            assert!(!looks_like_token(text), "{text:?}");
        }
    }

    #[test]
    fn it_opens_all_code_and_administers_nothing() {
        let scopes = scopes();
        assert!(scopes.allows(Operation::Fetch) && scopes.allows(Operation::Push));
        assert!(scopes.allows(Operation::Manage));
        for name in [
            "vso.tokenadministration",
            "vso.tokens",
            "vso.auditlog",
            "app_token",
            "vso.project_manage",
        ] {
            assert!(!scopes.includes(name), "{name}");
        }
    }

    #[test]
    fn only_what_cannot_be_taken_for_something_else_is_set() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join(DATABASE_FILE)).unwrap();
        let own = password::hash(&secret("correct horse")).unwrap();
        let new = NewAccount {
            name: "bob",
            password: Some(&own),
            is_admin: false,
            must_change_password: false,
        };
        store.create_account(&CLI, &new).unwrap();
        let set = |account: &str, name: &str, text: &str| set(&store, &CLI, account, name, &secret(text));
        for name in ["a:b", "pgt_AAAAAAAA", "Pgt_x"] {
            assert!(
                matches!(set("bob", name, "battery staple"), Err(Error::Name)),
                "{name}"
            );
        }
        for name in ["", "a\nb", " bob"] {
            assert!(
                matches!(
                    set("bob", name, "battery staple"),
                    Err(Error::Store(store::Error::Label { .. }))
                ),
                "{name:?}"
            );
        }
        assert!(matches!(
            set("bob", "home", "pgt_battery staple"),
            Err(Error::PasswordIsToken)
        ));
        assert!(matches!(
            set("BOB", "home", "correct horse"),
            Err(Error::PasswordReused)
        ));
        assert!(matches!(
            set("bob", "home", "short"),
            Err(Error::Password(password::Error::TooShort))
        ));
        assert!(matches!(
            set("eve", "home", "battery staple"),
            Err(Error::Store(store::Error::AccountNotFound { .. }))
        ));
        assert!(store.alternate_credentials(None).unwrap().is_empty());
        assert_eq!(set("bob", "home", "battery staple").unwrap().name, "home");
        let (_, hash, _) = store.find_alternate_credential("HOME").unwrap().unwrap();
        assert!(password::verify(&secret("battery staple"), Some(&hash)));
    }
}
