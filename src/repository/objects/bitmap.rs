//! The reachability bitmaps of one pack, as `git repack -b` writes them.
//!
//! Owns the file `pack-….bitmap`: for some commits of the pack, the set of all objects of it that they reach. Numbers in
//! a set are places in the order of the pack. Does not know what is asked of it.
//!
//! Invariants: a bitmap is used only with the very pack it was made for, and only if its own checksum is right, because a
//! wrong bit would leave an object out of a clone without anybody noticing. Spec: gitformat-bitmap(5), version 1.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use gix_hash::{ObjectId, oid};
use hashbrown::HashMap;

use super::ewah::{self, Bits};

/// Largest file that is read; one of a pack of fifty million objects is about that large.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Sets that one set may be told as a difference to, one after another. git writes at most 160.
const CHAIN_MAX: usize = 1024;

/// All objects a stored commit reaches lie in the pack.
const FLAG_FULL_DAG: u16 = 1;
/// The format knows these besides; they add tables behind the sets, which are not needed here.
const FLAG_HASH_CACHE: u16 = 4;
const FLAG_LOOKUP_TABLE: u16 = 16;
const FLAG_PSEUDO_MERGES: u16 = 32;

/// Why a bitmap file is not used. Nothing is lost by that but time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes contradict the format or themselves.
    #[error("{0}")]
    Corrupt(&'static str),
    /// It was made for another pack.
    #[error("it belongs to another pack")]
    Foreign,
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It has a version or flag that is not known.
    #[error("it has a format that is not known here")]
    Unknown,
}

/// The bitmaps of one pack.
pub struct PackBitmaps {
    bytes: Vec<u8>,
    objects: usize,
    stored: Vec<Stored>,
    by_commit: HashMap<ObjectId, usize>,
}

/// One set in the file.
struct Stored {
    /// Where its compressed form starts.
    at: usize,
    /// The stored set that it is the difference to.
    base: Option<usize>,
}

impl std::fmt::Debug for PackBitmaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackBitmaps({} commits)", self.stored.len())
    }
}

impl PackBitmaps {
    /// Reads the bitmaps of the pack that `index` is of; None if there is no such file.
    ///
    /// # Errors
    ///
    /// When the file is not of that pack, or damaged, or too large.
    pub fn read(path: &Path, index: &gix_pack::index::File) -> Result<Option<PackBitmaps>, Error> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err.into()),
        };
        if file.metadata()?.len() > FILE_BYTES_MAX {
            return Err(Error::Corrupt("it is larger than 1 GiB"));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        PackBitmaps::parse(bytes, index).map(Some)
    }

    fn parse(bytes: Vec<u8>, index: &gix_pack::index::File) -> Result<PackBitmaps, Error> {
        let cut = || Error::Corrupt("it is cut off");
        let hash = index.object_hash();
        let checksum = index.pack_checksum();
        let mut hasher = gix_hash::hasher(hash);
        let content_len = bytes.len().checked_sub(hash.len_in_bytes()).ok_or_else(cut)?;
        let (content, trailer) = bytes.split_at(content_len);
        hasher.update(content);
        let actual = hasher
            .try_finalize()
            .map_err(|_| Error::Corrupt("its checksum cannot be made"))?;
        if actual.as_bytes() != trailer {
            return Err(Error::Corrupt("its checksum is wrong"));
        }

        let mut at = 0;
        let mut take = |len: usize| {
            let piece = content.get(at..at + len);
            at += len;
            piece.ok_or_else(cut)
        };
        if take(4)? != b"BITM" {
            return Err(Error::Unknown);
        }
        let version = be_u16(take(2)?);
        let flags = be_u16(take(2)?);
        let known = FLAG_FULL_DAG | FLAG_HASH_CACHE | FLAG_LOOKUP_TABLE | FLAG_PSEUDO_MERGES;
        if version != 1 || flags & !known != 0 || flags & FLAG_FULL_DAG == 0 {
            return Err(Error::Unknown);
        }
        let count = be_u32(take(4)?);
        if take(hash.len_in_bytes())? != checksum.as_bytes() {
            return Err(Error::Foreign);
        }
        // The sets of all commits, trees, blobs and tags come first.
        for _ in 0..4 {
            at += compressed_len(content, at)?;
        }
        let mut stored: Vec<Stored> = Vec::new();
        let mut by_commit = HashMap::new();
        for number in 0..count as usize {
            let head = content.get(at..at + 6).ok_or_else(cut)?;
            let (place, rest) = head.split_at(4);
            let place = be_u32(place);
            let distance = usize::from(rest.first().copied().unwrap_or_default());
            at += 6;
            if place >= index.num_objects() {
                return Err(Error::Corrupt("it names an object that the pack does not have"));
            }
            let base = match distance {
                0 => None,
                _ => Some(
                    number
                        .checked_sub(distance)
                        .ok_or(Error::Corrupt("a set is the difference to none"))?,
                ),
            };
            stored.push(Stored { at, base });
            by_commit.insert(index.oid_at_index(place).to_owned(), number);
            at += compressed_len(content, at)?;
        }
        Ok(PackBitmaps {
            objects: index.num_objects() as usize,
            bytes,
            stored,
            by_commit,
        })
    }

    /// How many objects the pack has: the bound of the sets.
    pub fn num_objects(&self) -> usize {
        self.objects
    }

    /// Whether the set of `commit` is stored.
    pub fn has(&self, commit: &oid) -> bool {
        self.by_commit.contains_key(commit)
    }

    /// Everything that `commit` reaches, itself too, as places in the order of the pack; None if that is not stored.
    ///
    /// # Errors
    ///
    /// When the stored set is malformed.
    pub fn reachable_from(&self, commit: &oid) -> Result<Option<Bits>, Error> {
        let Some(&number) = self.by_commit.get(commit) else {
            return Ok(None);
        };
        let mut bits = Bits::new(self.objects);
        let mut next = Some(number);
        for _ in 0..CHAIN_MAX {
            let Some(stored) = next.and_then(|number| self.stored.get(number)) else {
                return Ok(Some(bits));
            };
            bits.toggle_compressed(self.bytes.get(stored.at..).unwrap_or_default())
                .map_err(|_| Error::Corrupt("a set is malformed"))?;
            next = stored.base;
        }
        Err(Error::Corrupt("a set is the difference to too many"))
    }
}

fn compressed_len(content: &[u8], at: usize) -> Result<usize, Error> {
    ewah::compressed_len(content.get(at..).unwrap_or_default()).map_err(|_| Error::Corrupt("it is cut off"))
}

fn be_u16(bytes: &[u8]) -> u16 {
    bytes.try_into().map_or(0, u16::from_be_bytes)
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    fn run(dir: &Path, script: &str) -> String {
        let out = Command::new("sh")
            .args(["-ec", script])
            .current_dir(dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", "/nonexistent")
            .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@b")])
            .envs([("GIT_COMMITTER_NAME", "A"), ("GIT_COMMITTER_EMAIL", "a@b")])
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }

    /// A repository of 300 commits with branches, packed with bitmaps.
    fn packed(configuration: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        run(
            dir.path(),
            &format!(
                "git init -q -b main .; {configuration}
                 for i in $(seq 1 300); do
                   printf 'commit refs/heads/b%d\ncommitter A <a@b> %d +0000\ndata 1\nx\n' $((i % 7)) $((i * 100))
                   printf 'M 100644 inline d%d/f%d\ndata %d\n%s\n' $((i % 11)) $i ${{#i}} $i
                 done | git fast-import --quiet
                 git tag -a -m t v1 b3
                 git repack -adbq"
            ),
        );
        let path = run(dir.path(), "ls $PWD/.git/objects/pack/*.bitmap");
        (dir, PathBuf::from(path.trim()))
    }

    fn index_of(path: &Path) -> gix_pack::index::File {
        gix_pack::index::File::at(path.with_extension("idx"), gix_hash::Kind::Sha1).unwrap()
    }

    #[test]
    fn every_stored_set_is_what_git_says_its_commit_reaches() {
        for configuration in [
            "",
            "git config pack.writeBitmapHashCache false",
            "git config pack.writeBitmapLookupTable true",
        ] {
            let (dir, path) = packed(configuration);
            let index = index_of(&path);
            let bitmaps = PackBitmaps::read(&path, &index).unwrap().unwrap();
            let mut in_pack_order: Vec<(u64, ObjectId)> =
                index.iter().map(|entry| (entry.pack_offset, entry.oid)).collect();
            in_pack_order.sort();
            assert!(bitmaps.stored.len() >= 7, "{}", bitmaps.stored.len());
            for commit in bitmaps.by_commit.keys() {
                let listed = run(
                    dir.path(),
                    &format!("git rev-list --objects {commit} | cut -c1-40"),
                );
                let listed: BTreeSet<&str> = listed.lines().collect();
                let bits = bitmaps.reachable_from(commit).unwrap().unwrap();
                let ours: Vec<String> = bits.iter().map(|at| in_pack_order[at].1.to_string()).collect();
                assert_eq!(ours.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed);
            }
            assert!(
                bitmaps
                    .reachable_from(&ObjectId::null(gix_hash::Kind::Sha1))
                    .unwrap()
                    .is_none()
            );
        }
    }

    #[test]
    fn a_file_of_another_pack_or_damaged_or_cut_is_not_used() {
        let (_dir, path) = packed("");
        let index = index_of(&path);
        let good = std::fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(97) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(PackBitmaps::parse(bad, &index).is_err(), "byte {at}");
            assert!(
                PackBitmaps::parse(good[..at].to_vec(), &index).is_err(),
                "cut at {at}"
            );
        }
        let (_other_dir, other) =
            packed("git commit-tree -m x $(git mktree </dev/null) >c; git update-ref refs/heads/x $(cat c)");
        assert!(matches!(
            PackBitmaps::parse(good, &index_of(&other)),
            Err(Error::Foreign)
        ));
        assert!(
            PackBitmaps::read(Path::new("/nonexistent"), &index)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn lying_counts_behind_a_right_checksum_are_refused() {
        let (_dir, path) = packed("");
        let index = index_of(&path);
        let good = std::fs::read(&path).unwrap();
        let content = good.len() - 20;
        let resealed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good[..content].to_vec();
            change(&mut bytes);
            let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
            hasher.update(&bytes);
            bytes.extend_from_slice(hasher.try_finalize().unwrap().as_bytes());
            PackBitmaps::parse(bytes, &index)
        };
        assert!(resealed(&|_| ()).is_ok());
        assert!(
            resealed(&|bytes| bytes[8..12].fill(0xff)).is_err(),
            "more sets than there are bytes"
        );
        assert!(
            resealed(&|bytes| bytes[36..40].fill(0xff)).is_err(),
            "a set of four billion words"
        );
        assert!(matches!(resealed(&|bytes| bytes[5] = 2), Err(Error::Unknown)));
        assert!(matches!(resealed(&|bytes| bytes[7] = 0x80), Err(Error::Unknown)));
    }
}
