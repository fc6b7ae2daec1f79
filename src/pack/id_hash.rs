//! Hashing of object ids for tables.
//!
//! An id is a hash already, but clients choose objects: with its own bits as the place in a table, some hours of trying
//! would find ids that all fall into one. So eight bytes of it are mixed with secrets of this process.

use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

/// Makes [`IdHasher`]s.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdHash {
    secrets: (u64, u64),
}

impl Default for IdHash {
    fn default() -> Self {
        static SECRETS: OnceLock<(u64, u64)> = OnceLock::new();
        IdHash {
            secrets: *SECRETS.get_or_init(|| (rand::random(), rand::random::<u64>() | 1)),
        }
    }
}

impl BuildHasher for IdHash {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher {
            secrets: self.secrets,
            state: 0,
        }
    }
}

/// Takes one object id.
pub(crate) struct IdHasher {
    secrets: (u64, u64),
    state: u64,
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        // An id may be written behind its kind, which all ids of a table share and which is shorter.
        if let Some(head) = bytes.first_chunk::<8>() {
            let product = u128::from(u64::from_ne_bytes(*head) ^ self.secrets.0) * u128::from(self.secrets.1);
            self.state = (product >> 64) as u64 ^ product as u64;
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn write_isize(&mut self, _kind: isize) {}

    fn write_u8(&mut self, _kind: u8) {}

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use gix_hash::ObjectId;

    use super::*;

    #[test]
    fn ids_that_share_their_low_bits_do_not_share_a_place() {
        let hasher = IdHash::default();
        let places: std::collections::HashSet<u64> = (0..=255u8)
            .map(|byte| {
                let mut id = [7u8; 20];
                id[7] = byte;
                hasher.hash_one(ObjectId::from_bytes_or_panic(&id)) % 4096
            })
            .collect();
        assert!(
            places.len() > 200,
            "256 ids fell into {} of 4,096 places",
            places.len()
        );
    }

    #[test]
    fn an_id_and_its_bytes_have_one_hash() {
        let hasher = IdHash::default();
        let id = ObjectId::from_bytes_or_panic(&[3; 32]);
        assert_eq!(hasher.hash_one(id), hasher.hash_one(id.as_slice()));
    }
}
