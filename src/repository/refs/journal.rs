//! The journal of a transaction that takes more than one step on disk: renaming it into place is the commit point.
//!
//! A journal that a crash left is carried out by whoever comes next. Carrying out is idempotent: a ref that is not at
//! its old value any more was moved already, or by somebody since.

use std::fs;
use std::path::{Path, PathBuf};

use bstr::{BString, ByteSlice};
use gix_hash::ObjectId;

use super::is_valid_name;
use super::stat::{Stat, is_absence};
use crate::repository::{Error, IoContext, durable, fault};

/// Name of the file in the git directory.
const FILE_NAME: &str = "patgate-ref-journal";

/// First line of the file.
const HEADER: &[u8] = b"patgate ref journal 1\n";

/// One ref that moves. `None` stands for "does not exist".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) name: BString,
    pub(super) old: Option<ObjectId>,
    pub(super) new: Option<ObjectId>,
}

fn path(git_dir: &Path) -> PathBuf {
    git_dir.join(FILE_NAME)
}

/// Tells whether there is a journal.
pub(super) fn exists(git_dir: &Path) -> Result<bool, Error> {
    let path = path(git_dir);
    Ok(Stat::of(&path).at("read", &path)?.is_some())
}

/// Writes the journal; once this returns, the transaction will be carried out whatever happens.
pub(super) fn write(git_dir: &Path, moves: &[Move], hash: gix_hash::Kind) -> Result<(), Error> {
    let path = path(git_dir);
    let content = encode(moves, hash);
    durable::replace(&path, &content, git_dir).at("write", &path)?;
    fault::point("journal renamed").at("write", &path)?;
    durable::sync_dir(git_dir).at("sync", git_dir)
}

/// Reads a journal that a crash left; `None` if there is none.
pub(super) fn read(git_dir: &Path, hash: gix_hash::Kind) -> Result<Option<Vec<Move>>, Error> {
    let path = path(git_dir);
    match fs::read(&path) {
        Ok(content) => decode(&content, hash).map(Some).ok_or(Error::Journal { path }),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error).at("read", &path),
    }
}

/// Removes the journal, durably: one that came back after power loss would undo what was pushed since.
pub(super) fn remove(git_dir: &Path) -> Result<(), Error> {
    let path = path(git_dir);
    fs::remove_file(&path).at("remove", &path)?;
    fault::point("journal removed").at("remove", &path)?;
    durable::sync_dir(git_dir).at("sync", git_dir)
}

fn encode(moves: &[Move], hash: gix_hash::Kind) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    for one in moves {
        for id in [one.old, one.new] {
            out.extend_from_slice(id.unwrap_or(hash.null()).to_hex().to_string().as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(&one.name);
        out.push(b'\n');
    }
    let checksum = crc32fast::hash(&out);
    out.extend_from_slice(format!("end {checksum:08x}\n").as_bytes());
    out
}

fn decode(content: &[u8], hash: gix_hash::Kind) -> Option<Vec<Move>> {
    // "end ", eight digits, line feed.
    let (body, end) = content.split_at_checked(content.len().checked_sub(13)?)?;
    if end != format!("end {:08x}\n", crc32fast::hash(body)).as_bytes() {
        return None;
    }
    body.strip_prefix(HEADER)?
        .lines()
        .map(|line| decode_line(line, hash))
        .collect()
}

fn decode_line(line: &[u8], hash: gix_hash::Kind) -> Option<Move> {
    let id = |text: &[u8]| {
        let id = ObjectId::from_hex(text).ok().filter(|id| id.kind() == hash)?;
        Some((!id.is_null()).then_some(id))
    };
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let (old, new, name) = (id(words.next()?)?, id(words.next()?)?, words.next()?.as_bstr());
    is_valid_name(name).then(|| Move {
        name: name.to_owned(),
        old,
        new,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_as_written_and_refused_when_cut_or_changed_anywhere() {
        for hash in [gix_hash::Kind::Sha1, gix_hash::Kind::Sha256] {
            let id = ObjectId::from_hex(&vec![b'7'; hash.len_in_hex()]).unwrap();
            let moves = [
                Move {
                    name: "refs/heads/a".into(),
                    old: None,
                    new: Some(id),
                },
                Move {
                    name: "refs/heads/ü".into(),
                    old: Some(id),
                    new: None,
                },
            ];
            let content = encode(&moves, hash);
            assert_eq!(decode(&content, hash).unwrap(), moves);
            for at in 0..content.len() {
                assert_eq!(decode(&content[..at], hash), None, "cut at {at}");
                let mut changed = content.clone();
                changed[at] ^= 1;
                assert_eq!(decode(&changed, hash), None, "changed at {at}");
            }
        }
    }
}
