//! UUIDs, by which clients of Azure DevOps name everything.
//!
//! A repository's id is kept, because it outlives its name. All others are worked out from what they stand for: a token's
//! from its public id, and back, and the others from the installation's own id, too. They are version 8 of RFC 9562, so
//! that nobody takes them for random ones.

use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use crate::store::{AccountId, TokenId};

/// An `authorizationId` without the token in it.
const AUTHORIZATION: Uuid = Uuid::from_u128(0x0000_0000_0000_8000_8000_0000_0000_0000);

/// The id by which clients of Azure DevOps name a token: the letters of its public id, four at either end.
pub(super) fn authorization_id(token: &TokenId) -> Uuid {
    let mut bytes = AUTHORIZATION.into_bytes();
    let places = (0..4).chain(12..16);
    for (place, byte) in places.zip(token.as_str().bytes()) {
        if let Some(target) = bytes.get_mut(place) {
            *target = byte;
        }
    }
    Uuid::from_bytes(bytes)
}

/// The public id of the token that clients name by `id`; None for what [`authorization_id`] never makes. Whether there is
/// such a token, only the store knows.
pub(super) fn token_of_authorization(id: Uuid) -> Option<TokenId> {
    let bytes = id.as_bytes();
    let letters = [bytes.get(..4)?, bytes.get(12..)?].concat();
    let token: TokenId = String::from_utf8(letters).ok()?.parse().ok()?;
    (authorization_id(&token) == id).then_some(token)
}

/// The ids of one installation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ids {
    instance: Uuid,
}

impl Ids {
    /// Makes the ids of the installation with this id of its own.
    pub fn new(instance: Uuid) -> Ids {
        Ids { instance }
    }

    /// The installation's own id.
    pub fn instance(&self) -> Uuid {
        self.instance
    }

    /// The id of an account; it stays when the account gets another name, and no later account gets it.
    pub fn account(&self, id: AccountId) -> Uuid {
        self.derive("account", &id.to_string())
    }

    /// The id of a collection.
    pub fn collection(&self, name: &str) -> Uuid {
        self.derive("collection", &name.to_lowercase())
    }

    /// The id of a project.
    pub fn project(&self, collection: &str, name: &str) -> Uuid {
        self.derive("project", &format!("{collection}/{name}").to_lowercase())
    }

    /// The id of an event of the audit trail.
    pub fn event(&self, id: i64) -> Uuid {
        self.derive("audit event", &id.to_string())
    }

    /// Eight bytes that go with a text which is given to an account, and tell it again when it comes back from there.
    pub fn mark(&self, account: AccountId, text: &str) -> [u8; 8] {
        let digest = self.digest("mark", &format!("{account}/{text}"));
        let mut mark = [0; 8];
        for (byte, from) in mark.iter_mut().zip(digest) {
            *byte = from;
        }
        mark
    }

    fn derive(&self, kind: &str, key: &str) -> Uuid {
        Builder::from_custom_bytes(self.digest(kind, key)).into_uuid()
    }

    fn digest(&self, kind: &str, key: &str) -> [u8; 16] {
        let mut hasher = Sha256::new();
        hasher.update(self.instance.as_bytes());
        hasher.update(kind.as_bytes());
        hasher.update([0]);
        hasher.update(key.as_bytes());
        let digest = hasher.finalize();
        let mut bytes = [0; 16];
        for (byte, from) in bytes.iter_mut().zip(digest) {
            *byte = from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Ids {
        Ids::new(Uuid::from_u128(7))
    }

    #[test]
    fn ids_differ_by_what_they_stand_for_and_stay_the_same() {
        let all = [
            ids().collection("a"),
            ids().collection("b"),
            ids().project("a", "b"),
            ids().project("a", "a/b"),
            Ids::new(Uuid::from_u128(8)).collection("a"),
        ];
        for (at, id) in all.iter().enumerate() {
            assert_eq!(id.get_version_num(), 8);
            assert!(!all[..at].contains(id));
        }
        assert_eq!(ids().project("C", "Ünit"), ids().project("c", "üNIT"));
    }

    #[test]
    fn a_token_is_found_again_by_what_clients_call_it() {
        let token: TokenId = "AbCd12zZ".parse().unwrap();
        let id = authorization_id(&token);
        assert_eq!(id.to_string(), "41624364-0000-8000-8000-000031327a5a");
        assert_eq!(id.get_version_num(), 8);
        assert_eq!(token_of_authorization(id), Some(token));
        for other in [
            Uuid::nil(),
            Uuid::max(),
            AUTHORIZATION,
            Uuid::from_u128(id.as_u128() ^ (1 << 64)),
            Uuid::from_u128(id.as_u128() ^ (1 << 40)),
            Uuid::from_u128(id.as_u128() | 0x80),
            ids().collection("a"),
        ] {
            assert_eq!(token_of_authorization(other), None, "{other}");
        }
    }
}
