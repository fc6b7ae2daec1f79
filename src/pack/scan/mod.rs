//! Looking for secrets in objects that come in, and for the commits and paths that lead to an object.
//!
//! Owns finding texts of one form in objects that come whole or in pieces, and a bounded memory of what was found. Does
//! not know what the texts open, which of them matter, or what becomes of them: the form and its recognition are given.
//! Invariants: no text is kept, only the digest that its recognition returns; a text is found however an object is cut
//! into pieces; what could not be remembered is told.

mod place;

#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use gix_hash::ObjectId;
use gix_object::Kind;
use memchr::memmem::Finder;
use zeroize::Zeroizing;

pub use place::{Place, places};

/// Different secrets that are remembered of one push. Who pushes more has them made up, or a list of old ones: of these
/// only those are kept that matter, where that can be told.
pub const SECRETS_COUNT_MAX: usize = 10_000;

/// Objects that are remembered besides the first of each secret: a file that holds one may have many versions.
const REPEATS_COUNT_MAX: usize = 10_000;

/// What a secret is known by; its length is that of a SHA-256.
pub type Digest = [u8; 32];

/// What secrets look like.
#[derive(Clone, Copy)]
pub struct Form<'a> {
    /// What each of them begins with; at least one byte.
    pub prefix: &'a [u8],
    /// Bytes of each of them, with the prefix.
    pub bytes: usize,
    /// Returns the digest of a text of that many bytes if it is a secret.
    pub digest: &'a (dyn Fn(&[u8]) -> Option<Digest> + Sync),
}

impl fmt::Debug for Form<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Knows which secrets matter.
pub trait Sift: Sync {
    /// Returns those of `digests`, at most [`SECRETS_COUNT_MAX`], that matter; None if that cannot be told. May block.
    fn matter(&self, digests: &[Digest]) -> Option<HashSet<Digest>>;
}

/// A secret in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Find {
    /// Which secret.
    pub digest: Digest,
    /// The object.
    pub object: ObjectId,
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub bytes: u64,
    /// Where in it the secret begins, the first time.
    pub offset: u64,
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finds {
    /// Each secret with the objects that hold it, as many of them as were remembered but at least one; in a fixed order.
    pub list: Vec<Find>,
    /// There were more than [`SECRETS_COUNT_MAX`] secrets, and some of which it is not known whether they matter are not in
    /// the list.
    pub is_overfull: bool,
}

/// Looks for secrets in the objects of one pack, on any number of threads.
pub struct Scanner<'a> {
    finder: Finder<'a>,
    form: Form<'a>,
    sift: Option<&'a dyn Sift>,
    memory: Mutex<Memory>,
}

impl fmt::Debug for Scanner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner")
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

/// What was found so far. A few hundred bytes a secret and a hundred a repeat, some megabytes at most.
#[derive(Default)]
struct Memory {
    secrets: HashMap<Digest, Vec<Find>>,
    repeats_count: usize,
    is_overfull: bool,
}

/// What was found in one object: each secret and where it begins first.
#[derive(Default)]
struct Found {
    offsets: HashMap<Digest, u64>,
    is_overfull: bool,
}

impl Found {
    fn add(&mut self, scanner: &Scanner<'_>, digest: Digest, offset: u64) {
        if self.offsets.contains_key(&digest) {
            return;
        }
        let is_full = self.offsets.len() >= SECRETS_COUNT_MAX;
        if is_full && (self.is_overfull || !scanner.make_room(&mut self.offsets)) {
            self.is_overfull = true;
            return;
        }
        self.offsets.insert(digest, offset);
    }
}

impl<'a> Scanner<'a> {
    /// Makes a scanner that has found nothing.
    pub fn new(form: Form<'a>) -> Scanner<'a> {
        Scanner {
            finder: Finder::new(form.prefix),
            form,
            sift: None,
            memory: Mutex::default(),
        }
    }

    /// Has `sift` say what to keep where more is found than can be remembered.
    #[must_use]
    pub fn sifting(self, sift: &'a dyn Sift) -> Scanner<'a> {
        Scanner {
            sift: Some(sift),
            ..self
        }
    }

    /// Forgets what does not matter; false if that leaves too little room to be worth the next look.
    fn make_room<V>(&self, found: &mut HashMap<Digest, V>) -> bool {
        let digests: Vec<Digest> = found.keys().copied().collect();
        let Some(matter) = self.sift.and_then(|sift| sift.matter(&digests)) else {
            return false;
        };
        found.retain(|digest, _| matter.contains(digest));
        found.len() <= SECRETS_COUNT_MAX / 2
    }

    /// Calls `found` with each secret in `text`, and where it begins. Nothing of it is remembered.
    pub fn each(&self, text: &[u8], found: &mut dyn FnMut(Digest, usize)) {
        for at in self.finder.find_iter(text) {
            let secret = at.checked_add(self.form.bytes).and_then(|end| text.get(at..end));
            if let Some(digest) = secret.and_then(self.form.digest) {
                found(digest, at);
            }
        }
    }

    /// Looks through a whole object.
    pub fn object(&self, id: &ObjectId, kind: Kind, data: &[u8]) {
        let mut found = Found::default();
        self.each(data, &mut |digest, at| found.add(self, digest, at as u64));
        self.remember(found, id, kind, data.len() as u64);
    }

    /// Begins to look through an object that comes in pieces.
    pub fn pieces(&self) -> Pieces<'_> {
        Pieces {
            scanner: self,
            carry: Zeroizing::new(Vec::with_capacity(self.form.bytes.saturating_mul(2))),
            bytes: 0,
            found: Found::default(),
        }
    }

    fn remember(&self, found: Found, object: &ObjectId, kind: Kind, bytes: u64) {
        if found.offsets.is_empty() {
            return;
        }
        // Under this lock nothing is left half-changed by a panic.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.is_overfull |= found.is_overfull;
        for (digest, offset) in found.offsets {
            let find = Find {
                digest,
                object: *object,
                kind,
                bytes,
                offset,
            };
            memory.add(self, find);
        }
    }

    /// Returns what was found.
    pub fn into_finds(self) -> Finds {
        let memory = self.memory.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<Find> = memory.secrets.into_values().flatten().collect();
        list.sort_unstable_by_key(|find| (find.object, find.offset));
        Finds {
            list,
            is_overfull: memory.is_overfull,
        }
    }
}

impl Memory {
    fn add(&mut self, scanner: &Scanner<'_>, find: Find) {
        let is_full = self.secrets.len() >= SECRETS_COUNT_MAX && !self.secrets.contains_key(&find.digest);
        if is_full {
            if self.is_overfull || !scanner.make_room(&mut self.secrets) {
                self.is_overfull = true;
                return;
            }
            self.repeats_count = self
                .secrets
                .values()
                .map(|finds| finds.len().saturating_sub(1))
                .sum();
        }
        match self.secrets.entry(find.digest) {
            Entry::Vacant(entry) => {
                entry.insert(vec![find]);
            }
            Entry::Occupied(mut entry) if self.repeats_count < REPEATS_COUNT_MAX => {
                self.repeats_count += 1;
                entry.get_mut().push(find);
            }
            Entry::Occupied(_) => {}
        }
    }
}

/// One object that comes in pieces of any size.
pub struct Pieces<'a> {
    scanner: &'a Scanner<'a>,
    /// The last bytes, one less than a secret has: where one begins that goes on in the next piece. Made with room for
    /// all that is ever in it, because growing would leave a copy behind.
    carry: Zeroizing<Vec<u8>>,
    /// Bytes so far.
    bytes: u64,
    found: Found,
}

impl fmt::Debug for Pieces<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Pieces<'_> {
    /// Looks through the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        let Pieces {
            scanner,
            carry,
            bytes,
            found,
        } = self;
        let carry_max = scanner.form.bytes.saturating_sub(1);
        let (head, tail) = piece.split_at_checked(carry_max).unwrap_or((piece, &[]));
        let begin = *bytes - carry.len() as u64;
        let carried = carry.len();
        carry.extend_from_slice(head);
        if carried > 0 {
            scanner.each(carry, &mut |digest, at| {
                // Those that begin behind it are found in the piece itself.
                if at < carried {
                    found.add(scanner, digest, begin + at as u64);
                }
            });
        }
        scanner.each(piece, &mut |digest, at| {
            found.add(scanner, digest, *bytes + at as u64)
        });
        if tail.is_empty() {
            let surplus = carry.len().saturating_sub(carry_max);
            carry.drain(..surplus);
        } else {
            let last = piece.len().saturating_sub(carry_max);
            carry.clear();
            carry.extend_from_slice(piece.get(last..).unwrap_or_default());
        }
        *bytes += piece.len() as u64;
    }

    /// Remembers what was found, now that the object has its name.
    pub fn finish(self, id: &ObjectId, kind: Kind) {
        self.scanner.remember(self.found, id, kind, self.bytes);
    }
}
