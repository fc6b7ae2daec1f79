//! The refs of one moment: loose ones laid over the packed ones, symbolic ones resolved.

use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;

use super::loose::Raw;
use super::packed::{PackedRef, PackedRefs};
use super::scan::{LooseFile, Scan};
use super::{Head, Peeled, RefEntry};
use crate::repository::Error;

/// How many symbolic refs may lead to one another; git's `SYMREF_MAXDEPTH`.
pub(super) const SYMREF_DEPTH_MAX: usize = 5;

/// All refs at one moment. Refs that point at nothing (dangling symbolic refs, broken files) are left out, as git
/// leaves them out.
#[derive(Debug)]
pub struct RefSnapshot {
    head: Head,
    /// In the order of the names; each hides the packed ref of its name.
    loose: Vec<LooseRef>,
    packed: Arc<PackedRefs>,
}

#[derive(Debug)]
struct LooseRef {
    name: BString,
    /// `None` where the ref is to be left out.
    value: Option<Value>,
}

#[derive(Debug)]
struct Value {
    id: ObjectId,
    symref_target: Option<BString>,
}

impl RefSnapshot {
    /// Puts together what a pass read.
    pub(super) fn new(scan: &Scan) -> Result<RefSnapshot, Error> {
        let find = |name: &BStr| match scan.loose.binary_search_by(|file| file.name.as_bstr().cmp(name)) {
            Ok(index) => scan.loose.get(index).map(|file| file.raw.clone()),
            Err(_) => scan.packed.find(name).map(|entry| Raw::Id(entry.id)),
        };
        let loose = scan.loose.iter().map(|file| LooseRef {
            name: file.name.clone(),
            value: value(file, &find),
        });
        let head = match &scan.head {
            Raw::Id(id) => Head::Detached(*id),
            Raw::Broken => return Err(Error::Head),
            Raw::Symref(target) => match resolve(target.clone(), &find) {
                Resolved::At(target, id) => Head::Symbolic { target, id: Some(id) },
                Resolved::Unborn(target) => Head::Symbolic { target, id: None },
                Resolved::Broken => return Err(Error::Head),
            },
        };
        Ok(RefSnapshot {
            head,
            loose: loose.collect(),
            packed: Arc::clone(&scan.packed),
        })
    }

    /// Returns where HEAD points.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the ref of this full name; HEAD is not among them.
    pub fn find(&self, name: &BStr) -> Option<RefEntry<'_>> {
        match self
            .loose
            .binary_search_by(|entry| entry.name.as_bstr().cmp(name))
        {
            Ok(index) => self.loose.get(index).and_then(LooseRef::entry),
            Err(_) => self.packed.find(name).map(RefEntry::from),
        }
    }

    /// Iterates over all refs in the order of their names, HEAD not among them.
    pub fn iter(&self) -> Box<dyn Iterator<Item = RefEntry<'_>> + '_> {
        self.iter_prefix(BStr::new(""))
    }

    /// Iterates over the refs whose name begins with the bytes of `prefix`, found without walking the others.
    pub fn iter_prefix<'a>(&'a self, prefix: &BStr) -> Box<dyn Iterator<Item = RefEntry<'a>> + 'a> {
        let from = self.loose.partition_point(|entry| entry.name < *prefix);
        let loose = self.loose.get(from..).unwrap_or_default();
        let count = loose.partition_point(|entry| entry.name.starts_with(prefix));
        Box::new(Merge {
            loose: loose.get(..count).unwrap_or_default().iter().peekable(),
            packed: self.packed.as_ref(),
            range: self.packed.prefix_range(prefix).peekable(),
        })
    }

    /// Tells whether there is no ref at all.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl<'a> From<PackedRef<'a>> for RefEntry<'a> {
    fn from(packed: PackedRef<'a>) -> Self {
        RefEntry {
            name: packed.name,
            id: packed.id,
            symref_target: None,
            peeled: packed.peeled,
        }
    }
}

impl LooseRef {
    fn entry(&self) -> Option<RefEntry<'_>> {
        let value = self.value.as_ref()?;
        Some(RefEntry {
            name: self.name.as_bstr(),
            id: value.id,
            symref_target: value.symref_target.as_ref().map(|target| target.as_bstr()),
            peeled: Peeled::Unknown,
        })
    }
}

/// Both sources in one order; of two refs with one name the loose one stands.
struct Merge<'a> {
    loose: Peekable<std::slice::Iter<'a, LooseRef>>,
    packed: &'a PackedRefs,
    range: Peekable<Range<usize>>,
}

impl<'a> Iterator for Merge<'a> {
    type Item = RefEntry<'a>;

    fn next(&mut self) -> Option<RefEntry<'a>> {
        loop {
            let packed = self.range.peek().and_then(|index| self.packed.entry(*index));
            let Some(loose) = self.loose.peek() else {
                self.range.next()?;
                match packed {
                    Some(packed) => return Some(packed.into()),
                    None => continue,
                }
            };
            match packed {
                Some(packed) if packed.name < loose.name.as_bstr() => {
                    self.range.next();
                    return Some(packed.into());
                }
                Some(packed) if packed.name == loose.name.as_bstr() => {
                    self.range.next();
                }
                _ => {}
            }
            if let Some(entry) = self.loose.next().and_then(LooseRef::entry) {
                return Some(entry);
            }
        }
    }
}

/// Where a chain of symbolic refs ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// At a ref that points at an object.
    At(BString, ObjectId),
    /// At a name that no ref has.
    Unborn(BString),
    /// In a circle, in a chain that is too long, or at a broken file.
    Broken,
}

/// Follows symbolic refs from `name` on.
pub(super) fn resolve(mut name: BString, find: &dyn Fn(&BStr) -> Option<Raw>) -> Resolved {
    for _ in 0..SYMREF_DEPTH_MAX {
        match find(name.as_bstr()) {
            None => return Resolved::Unborn(name),
            Some(Raw::Id(id)) => return Resolved::At(name, id),
            Some(Raw::Symref(target)) => name = target,
            Some(Raw::Broken) => return Resolved::Broken,
        }
    }
    Resolved::Broken
}

fn value(file: &LooseFile, find: &dyn Fn(&BStr) -> Option<Raw>) -> Option<Value> {
    match &file.raw {
        Raw::Id(id) => Some(Value {
            id: *id,
            symref_target: None,
        }),
        Raw::Symref(target) => match resolve(target.clone(), find) {
            Resolved::At(target, id) => Some(Value {
                id,
                symref_target: Some(target),
            }),
            Resolved::Unborn(_) | Resolved::Broken => {
                tracing::warn!(name = %file.name, %target, "symbolic ref that leads nowhere is left out");
                None
            }
        },
        Raw::Broken => {
            tracing::warn!(name = %file.name, "broken ref is left out");
            None
        }
    }
}
