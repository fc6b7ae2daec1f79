//! Reading trees in place.

use std::sync::Arc;

use bstr::ByteSlice;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;

use super::Error;
use crate::repository::objects::{self, Objects};

/// Levels of trees below a root. git stops at 2,048 too (`core.maxTreeDepth`).
pub(crate) const DEPTH_MAX: usize = 2048;

/// What a tree says of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryMode {
    /// A directory.
    Tree,
    /// A file or a symbolic link.
    Blob,
    /// A commit of another repository, or a mode that nothing has.
    Gitlink,
}

/// One name in a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TreeEntry<'a> {
    pub(crate) mode: EntryMode,
    pub(crate) name: &'a [u8],
    pub(crate) id: &'a oid,
    /// The entry as it stands in the tree.
    pub(crate) raw: &'a [u8],
}

/// A tree in memory and how far it was read.
#[derive(Debug, Clone)]
pub(crate) struct TreeCursor {
    pub(crate) id: ObjectId,
    data: Arc<Vec<u8>>,
    at: usize,
}

impl TreeCursor {
    pub(crate) fn read(objects: &mut Objects, id: &oid) -> Result<TreeCursor, Error> {
        let object = objects.read(id)?.ok_or_else(|| Error::Missing(id.to_owned()))?;
        TreeCursor::new(id, object)
    }

    pub(crate) fn new(id: &oid, object: objects::Object) -> Result<TreeCursor, Error> {
        if object.kind != Kind::Tree {
            return Err(Error::Kind {
                id: id.to_owned(),
                actual: object.kind,
                expected: Kind::Tree,
            });
        }
        Ok(TreeCursor {
            id: id.to_owned(),
            data: object.data,
            at: 0,
        })
    }

    /// Bytes that it holds.
    pub(crate) fn byte_len(&self) -> usize {
        self.data.len()
    }

    /// Lets go of the bytes. Until [`TreeCursor::reload`] the tree looks empty.
    pub(crate) fn unload(&mut self) {
        self.data = Arc::default();
    }

    /// Reads the bytes again.
    pub(crate) fn reload(&mut self, objects: &mut Objects) -> Result<(), Error> {
        self.data = TreeCursor::read(objects, &self.id)?.data;
        Ok(())
    }

    /// The entry that is next, without passing over it.
    pub(crate) fn peek(&self) -> Result<Option<(TreeEntry<'_>, usize)>, Error> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        match parse_entry(rest, self.id.kind()) {
            Some((entry, len)) => Ok(Some((entry, self.at + len))),
            None => Err(objects::Error::corrupt(self.id, "the tree is malformed").into()),
        }
    }

    /// Goes on to where [`TreeCursor::peek`] said that the entry ends.
    pub(crate) fn advance_to(&mut self, end: usize) {
        self.at = end;
    }

    /// Passes over all entries up to the first that differs from what is next in `base`, in both. Tells whether there
    /// were any.
    ///
    /// Trees that are compared mostly differ in one entry of hundreds, and comparing bytes costs a small part of what
    /// reading entries does.
    pub(crate) fn skip_common(&mut self, base: &mut TreeCursor) -> bool {
        let ours = self.data.get(self.at..).unwrap_or_default();
        let theirs = base.data.get(base.at..).unwrap_or_default();
        let common = common_prefix(ours, theirs);
        let id_len = self.id.kind().len_in_bytes();
        let mut end = 0;
        while let Some(nul) = ours.get(end..common).and_then(|rest| rest.find_byte(0)) {
            let next = end + nul + 1 + id_len;
            if next > common {
                break;
            }
            end = next;
        }
        self.at += end;
        base.at += end;
        end > 0
    }

    /// Passes over the next entry if it is `raw`. Trees that are compared mostly differ in one entry, so that this
    /// answers nearly always, without reading the entry.
    pub(crate) fn skip_same(&mut self, raw: &[u8]) -> bool {
        let is_same = self.data.get(self.at..).is_some_and(|rest| rest.starts_with(raw));
        if is_same {
            self.at += raw.len();
        }
        is_same
    }

    /// Passes over names that sort before `name` and returns the id that the tree has for it with the same mode.
    pub(crate) fn seek(&mut self, name: &[u8], mode: EntryMode) -> Result<Option<ObjectId>, Error> {
        let is_tree = mode == EntryMode::Tree;
        loop {
            let Some((entry, end)) = self.peek()? else {
                return Ok(None);
            };
            match cmp_names(entry.name, entry.mode == EntryMode::Tree, name, is_tree) {
                std::cmp::Ordering::Less => self.at = end,
                std::cmp::Ordering::Equal => return Ok((entry.mode == mode).then(|| entry.id.to_owned())),
                std::cmp::Ordering::Greater => return Ok(None),
            }
        }
    }
}

/// How many bytes `a` and `b` begin with in common.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 64;
    let same_steps = a
        .chunks_exact(STEP)
        .zip(b.chunks_exact(STEP))
        .take_while(|(a, b)| a == b)
        .count()
        * STEP;
    let rest = |bytes| <[u8]>::get(bytes, same_steps..).unwrap_or_default();
    same_steps + rest(a).iter().zip(rest(b)).take_while(|(a, b)| a == b).count()
}

/// git's order of names in a tree: as if a directory's name ended in '/'.
fn cmp_names(a: &[u8], a_is_tree: bool, b: &[u8], b_is_tree: bool) -> std::cmp::Ordering {
    let common = a.len().min(b.len());
    let (a_head, a_tail) = a.split_at(common);
    let (b_head, b_tail) = b.split_at(common);
    let next = |tail: &[u8], is_tree: bool| tail.first().copied().or(is_tree.then_some(b'/'));
    a_head
        .cmp(b_head)
        .then_with(|| next(a_tail, a_is_tree).cmp(&next(b_tail, b_is_tree)))
}

fn parse_entry(bytes: &[u8], hash: gix_hash::Kind) -> Option<(TreeEntry<'_>, usize)> {
    let mut mode = 0u32;
    let mut at = 0;
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        match byte {
            b' ' if at > 1 => break,
            // Only four of the lower 16 bits matter; git reads any number of digits.
            b'0'..=b'7' => mode = (mode << 3 | u32::from(byte - b'0')) & 0xf_ffff,
            _ => return None,
        }
    }
    let rest = bytes.get(at..)?;
    let len = rest.find_byte(0)?;
    let name = rest.get(..len)?;
    let id = rest.get(len + 1..len + 1 + hash.len_in_bytes())?;
    let mode = match mode & 0o170_000 {
        0o040_000 => EntryMode::Tree,
        0o100_000 | 0o120_000 => EntryMode::Blob,
        // What git has no name for it takes for a submodule (`canon_mode`), so that its object need not be here.
        _ => EntryMode::Gitlink,
    };
    let end = at + len + 1 + id.len();
    Some((
        TreeEntry {
            mode,
            name,
            id: oid::try_from_bytes(id).ok()?,
            raw: bytes.get(..end)?,
        },
        end,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(entries: &[(&str, u8)]) -> TreeCursor {
        let mut data = Vec::new();
        for (name, byte) in entries {
            data.extend_from_slice(b"100644 ");
            data.extend_from_slice(name.as_bytes());
            data.push(0);
            data.extend_from_slice(&[*byte; 20]);
        }
        TreeCursor {
            id: ObjectId::null(gix_hash::Kind::Sha1),
            data: Arc::new(data),
            at: 0,
        }
    }

    fn names(mut cursor: TreeCursor) -> Vec<String> {
        let mut names = Vec::new();
        while let Some((entry, end)) = cursor.peek().unwrap() {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            cursor.advance_to(end);
        }
        names
    }

    #[test]
    fn common_entries_are_passed_over_up_to_the_first_that_differs() {
        let all: Vec<(String, u8)> = (0..40u8).map(|n| (format!("file{n:02}"), n)).collect();
        let entries: Vec<(&str, u8)> = all.iter().map(|(name, byte)| (name.as_str(), *byte)).collect();
        for changed in 0..entries.len() {
            let mut other = entries.clone();
            other[changed].1 = 0xff;
            let (mut ours, mut base) = (tree(&other), tree(&entries));
            ours.skip_common(&mut base);
            assert_eq!(names(ours).len(), entries.len() - changed, "entry {changed}");
            assert_eq!(names(base).len(), entries.len() - changed, "entry {changed}");
        }
        let (mut ours, mut base) = (tree(&entries), tree(&entries));
        ours.skip_common(&mut base);
        assert!(names(ours).is_empty() && names(base).is_empty());
    }

    #[test]
    fn an_entry_that_only_begins_alike_is_not_passed_over() {
        // The ids differ in their last byte, and one tree ends inside what the other goes on with.
        let (mut ours, mut base) = (tree(&[("a", 1), ("b", 2)]), tree(&[("a", 1)]));
        ours.skip_common(&mut base);
        assert_eq!((names(ours), names(base)), (vec!["b".to_owned()], vec![]));
        let mut ours = tree(&[("a", 1)]);
        Arc::get_mut(&mut ours.data).unwrap()[27] = 9;
        let mut base = tree(&[("a", 1)]);
        ours.skip_common(&mut base);
        assert_eq!(names(ours), ["a"]);
    }

    #[test]
    fn names_are_sought_in_git_s_order() {
        let mut base = tree(&[("a", 1), ("c", 3), ("d", 4)]);
        assert_eq!(base.seek(b"b", EntryMode::Blob).unwrap(), None);
        assert!(base.seek(b"c", EntryMode::Blob).unwrap().is_some());
        // A directory sorts as if its name ended in a slash, so the file of its name lies before it.
        assert_eq!(base.seek(b"d", EntryMode::Tree).unwrap(), None);
        assert!(names(base).is_empty());
    }
}
