//! Reading trees in place.

use std::sync::Arc;

use gix_hash::{ObjectId, oid};
use gix_object::Kind;

use super::Error;
use crate::repository::objects::{self, Objects};

/// Levels of trees. git stops at 2,048 too (`core.maxTreeDepth`).
pub(crate) const DEPTH_MAX: usize = 2048;

/// What a tree says of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryMode {
    /// A directory.
    Tree,
    /// A file or a symbolic link.
    Blob,
    /// A commit of another repository.
    Gitlink,
}

/// One name in a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TreeEntry<'a> {
    pub(crate) mode: EntryMode,
    pub(crate) name: &'a [u8],
    pub(crate) id: &'a oid,
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
            b'0'..=b'7' if at <= 7 => mode = mode * 8 + u32::from(byte - b'0'),
            _ => return None,
        }
    }
    let rest = bytes.get(at..)?;
    let len = rest.iter().position(|&byte| byte == 0)?;
    let name = rest.get(..len)?;
    let raw = rest.get(len + 1..len + 1 + hash.len_in_bytes())?;
    let mode = match mode & 0o170_000 {
        0o040_000 => EntryMode::Tree,
        0o160_000 => EntryMode::Gitlink,
        _ => EntryMode::Blob,
    };
    let id = oid::try_from_bytes(raw).ok()?;
    Some((TreeEntry { mode, name, id }, at + len + 1 + raw.len()))
}
