//! The `packed-refs` file: reading it whole, looking names up in it, and writing a new one.
//!
//! Lines are checked once, when the file is read, and an index of their offsets is kept, so that look-ups are binary
//! searches and nothing that is asked later can fail. gitrepository-layout(5) and git's `refs/packed-backend.c` say
//! what a line is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;

use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;

use super::stat::{Stat, is_absence};
use super::{Peeled, is_valid_name};
use crate::repository::{Error, IoContext};

/// The first line of a file that says of every ref what it peels to. The space at the end is git's.
const HEADER: &[u8] = b"# pack-refs with: peeled fully-peeled sorted \n";

/// A `packed-refs` file in memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PackedRefs {
    data: Vec<u8>,
    /// Offsets of the lines that hold a ref, in the order of the names.
    starts: Vec<u32>,
    /// Likewise of the lines whose name is no ref's. They are not shown, but stay in the file, as with git.
    left_out: Vec<u32>,
    hash: gix_hash::Kind,
    traits: Traits,
}

/// What the header promises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Traits {
    /// Tags below `refs/tags/` have their peeled id.
    peeled: bool,
    /// All tags have it.
    fully_peeled: bool,
}

/// One line, with its peeled line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackedRef<'a> {
    pub(super) name: &'a BStr,
    pub(super) id: ObjectId,
    pub(super) peeled: Peeled,
}

impl PackedRefs {
    /// A file that is not there.
    pub(super) fn empty(hash: gix_hash::Kind) -> Self {
        let traits = Traits {
            peeled: true,
            fully_peeled: true,
        };
        PackedRefs {
            data: Vec::new(),
            starts: Vec::new(),
            left_out: Vec::new(),
            hash,
            traits,
        }
    }

    /// Reads the file at `path` with the stat that belongs to the content; both are `None` and empty if it is absent.
    ///
    /// # Errors
    ///
    /// When it cannot be read or a line is not one that git writes.
    pub(super) fn read(path: &Path, hash: gix_hash::Kind) -> Result<(Option<Stat>, Self), Error> {
        // A link could lead out of the repository, and git never makes one.
        if Stat::of(path).at("read", path)?.is_none() {
            return Ok((None, PackedRefs::empty(hash)));
        }
        if path.is_symlink() {
            return Err(Error::PackedRefs {
                what: "it is a symbolic link",
            });
        }
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if is_absence(&error) => return Ok((None, PackedRefs::empty(hash))),
            Err(error) => return Err(error).at("open", path),
        };
        let metadata = file.metadata().at("read", path)?;
        // Offsets are kept in 32 bits; 4 GiB hold over sixty million refs.
        let size = u32::try_from(metadata.len()).map_err(|_| Error::PackedRefs {
            what: "it is over 4 GiB",
        })?;
        let mut data = Vec::with_capacity(size as usize + 1);
        Read::by_ref(&mut file)
            .take(u64::from(u32::MAX))
            .read_to_end(&mut data)
            .at("read", path)?;
        Ok((Some(Stat::from(&metadata)), PackedRefs::parse(data, hash)?))
    }

    fn parse(data: Vec<u8>, hash: gix_hash::Kind) -> Result<Self, Error> {
        if data.last().is_some_and(|last| *last != b'\n') {
            return Err(Error::PackedRefs {
                what: "its last line is cut off",
            });
        }
        let mut traits = Traits::default();
        let mut starts: Vec<u32> = Vec::with_capacity(data.len() / 64);
        let mut left_out: Vec<u32> = Vec::new();
        let mut is_sorted = true;
        let mut previous: Option<&BStr> = None;
        let mut may_peel = false;
        let mut offset = 0usize;
        for line in data.lines_with_terminator() {
            let start = offset;
            offset += line.len();
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if let Some(words) = line.strip_prefix(b"# pack-refs with:").filter(|_| start == 0) {
                let has = |word: &str| {
                    words
                        .split(|byte| *byte == b' ')
                        .any(|one| one == word.as_bytes())
                };
                traits = Traits {
                    peeled: has("peeled"),
                    fully_peeled: has("fully-peeled"),
                };
            } else if let Some(hex) = line.strip_prefix(b"^") {
                let is_id = hex.len() == hash.len_in_hex() && ObjectId::from_hex(hex).is_ok();
                if !is_id || !std::mem::take(&mut may_peel) {
                    return Err(Error::PackedRefs {
                        what: "a peeled id is malformed or follows no ref",
                    });
                }
            } else if !line.starts_with(b"#") {
                let name = check_line(line, hash)?;
                may_peel = true;
                let start = u32::try_from(start).map_err(|_| Error::PackedRefs {
                    what: "it is over 4 GiB",
                })?;
                if !is_valid_name(name) {
                    tracing::warn!(%name, "packed ref with an invalid name is left out");
                    left_out.push(start);
                    continue;
                }
                is_sorted &= previous.is_none_or(|previous| previous < name);
                previous = Some(name);
                starts.push(start);
            }
        }
        let mut packed = PackedRefs {
            data,
            starts,
            left_out: Vec::new(),
            hash,
            traits,
        };
        if !is_sorted {
            let starts = std::mem::take(&mut packed.starts);
            packed.starts = packed.sorted(starts);
        }
        packed.left_out = packed.sorted(left_out);
        Ok(packed)
    }

    /// Puts offsets of lines in the order of the names. Of two lines for one name the later stands.
    fn sorted(&self, mut starts: Vec<u32>) -> Vec<u32> {
        starts.sort_by(|a, b| self.name_at(*a).cmp(self.name_at(*b)).then(b.cmp(a)));
        starts.dedup_by(|a, b| self.name_at(*a) == self.name_at(*b));
        starts
    }

    fn line_at(&self, start: u32) -> &[u8] {
        let rest = self.data.get(start as usize..).unwrap_or_default();
        rest.find_byte(b'\n')
            .and_then(|end| rest.get(..end))
            .unwrap_or(rest)
    }

    fn name_at(&self, start: u32) -> &BStr {
        self.line_at(start)
            .get(self.hash.len_in_hex() + 1..)
            .unwrap_or_default()
            .as_bstr()
    }

    /// The ref at `index` in the order of names.
    pub(super) fn entry(&self, index: usize) -> Option<PackedRef<'_>> {
        self.entry_at(*self.starts.get(index)?)
    }

    fn entry_at(&self, start: u32) -> Option<PackedRef<'_>> {
        let line = self.line_at(start);
        let (hex, name) = line.split_at_checked(self.hash.len_in_hex())?;
        let name = name.get(1..)?.as_bstr();
        let id = ObjectId::from_hex(hex).ok()?;
        let after = self
            .data
            .get(start as usize + line.len() + 1..)
            .unwrap_or_default();
        let peeled = match after.strip_prefix(b"^") {
            Some(rest) => {
                let hex = rest.get(..self.hash.len_in_hex())?;
                Peeled::Known(Some(ObjectId::from_hex(hex).ok()?))
            }
            None if self.traits.fully_peeled || (self.traits.peeled && name.starts_with(b"refs/tags/")) => {
                Peeled::Known(None)
            }
            None => Peeled::Unknown,
        };
        Some(PackedRef { name, id, peeled })
    }

    /// The ref with this name.
    pub(super) fn find(&self, name: &BStr) -> Option<PackedRef<'_>> {
        let index = self
            .starts
            .binary_search_by(|start| self.name_at(*start).cmp(name))
            .ok()?;
        self.entry(index)
    }

    /// The indices of all refs whose name begins with `prefix`, by binary search.
    pub(super) fn prefix_range(&self, prefix: &BStr) -> Range<usize> {
        let from = self.starts.partition_point(|start| self.name_at(*start) < prefix);
        let tail = self.starts.get(from..).unwrap_or_default();
        let count = tail.partition_point(|start| self.name_at(*start).starts_with(prefix));
        from..from + count
    }

    /// All refs in the order of their names.
    #[cfg(test)]
    fn iter(&self) -> impl Iterator<Item = PackedRef<'_>> {
        (0..self.starts.len()).filter_map(|index| self.entry(index))
    }

    /// Writes what the file becomes with `edits`: sorted by name, each a new id with what it peels to, or a deletion.
    ///
    /// `peel` is asked for refs of which an old header does not tell. Lines whose name is no ref's are kept.
    ///
    /// # Errors
    ///
    /// When writing fails.
    pub(super) fn write_with(
        &self,
        edits: &[PackedEdit],
        peel: &mut dyn FnMut(ObjectId) -> Option<ObjectId>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        out.write_all(HEADER)?;
        let mut edits = edits.iter().peekable();
        let mut shown = self.starts.iter().copied().peekable();
        let mut left_out = self.left_out.iter().copied().peekable();
        // Both in one order, which the header promises.
        let merged = std::iter::from_fn(|| match (shown.peek(), left_out.peek()) {
            (Some(&a), Some(&b)) if self.name_at(b) < self.name_at(a) => left_out.next(),
            (None, _) => left_out.next(),
            _ => shown.next(),
        });
        for kept in merged.filter_map(|start| self.entry_at(start)) {
            while let Some(edit) = edits.next_if(|edit| edit.name < *kept.name) {
                edit.write(out)?;
            }
            if let Some(edit) = edits.next_if(|edit| edit.name == *kept.name) {
                edit.write(out)?;
                continue;
            }
            let peeled = match kept.peeled {
                Peeled::Known(peeled) => peeled,
                Peeled::Unknown => peel(kept.id),
            };
            write_line(out, kept.name, &kept.id, peeled.as_ref())?;
        }
        edits.try_for_each(|edit| edit.write(out))
    }
}

/// One change of the file.
#[derive(Debug)]
pub(super) struct PackedEdit {
    pub(super) name: BString,
    /// The new id and what it peels to; `None` takes the ref out.
    pub(super) new: Option<(ObjectId, Option<ObjectId>)>,
}

impl PackedEdit {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.new {
            Some((id, peeled)) => write_line(out, self.name.as_bstr(), id, peeled.as_ref()),
            None => Ok(()),
        }
    }
}

fn write_line(out: &mut dyn Write, name: &BStr, id: &ObjectId, peeled: Option<&ObjectId>) -> io::Result<()> {
    id.write_hex_to(out)?;
    out.write_all(b" ")?;
    out.write_all(name)?;
    out.write_all(b"\n")?;
    if let Some(peeled) = peeled {
        out.write_all(b"^")?;
        peeled.write_hex_to(out)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Checks `<hex> <name>` and gives back the name.
fn check_line(line: &[u8], hash: gix_hash::Kind) -> Result<&BStr, Error> {
    let malformed = Error::PackedRefs {
        what: "a line is not of the form '<object id> <ref>'",
    };
    let Some((hex, name)) = line.split_at_checked(hash.len_in_hex()) else {
        return Err(malformed);
    };
    match name.strip_prefix(b" ") {
        Some(name) if !name.is_empty() && ObjectId::from_hex(hex).is_ok() => Ok(name.as_bstr()),
        _ => Err(malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<PackedRefs, Error> {
        PackedRefs::parse(text.as_bytes().to_vec(), gix_hash::Kind::Sha1)
    }

    fn id(digit: char) -> ObjectId {
        ObjectId::from_hex(digit.to_string().repeat(40).as_bytes()).unwrap()
    }

    fn line(digit: char, name: &str) -> String {
        format!("{} {name}\n", digit.to_string().repeat(40))
    }

    #[test]
    fn peeled_ids_are_known_as_far_as_the_header_says() {
        let body = [
            line('1', "refs/heads/a"),
            line('2', "refs/tags/t"),
            format!("^{}\n", "3".repeat(40)),
        ]
        .concat();
        let known = |header: &str, name: &str| {
            parsed(&format!("{header}{body}"))
                .unwrap()
                .find(name.into())
                .unwrap()
                .peeled
        };
        assert_eq!(known("", "refs/heads/a"), Peeled::Unknown);
        assert_eq!(known("", "refs/tags/t"), Peeled::Known(Some(id('3'))));
        assert_eq!(
            known("# pack-refs with: peeled \n", "refs/heads/a"),
            Peeled::Unknown
        );
        assert_eq!(
            known("# pack-refs with: peeled fully-peeled sorted \n", "refs/heads/a"),
            Peeled::Known(None)
        );
    }

    #[test]
    fn names_out_of_order_are_sorted_and_the_later_of_two_lines_stands() {
        let text = [line('1', "refs/b"), line('2', "refs/a"), line('3', "refs/b")].concat();
        let packed = parsed(&text).unwrap();
        let all: Vec<_> = packed
            .iter()
            .map(|entry| (entry.name.to_string(), entry.id))
            .collect();
        assert_eq!(
            all,
            [("refs/a".to_owned(), id('2')), ("refs/b".to_owned(), id('3'))]
        );
    }

    #[test]
    fn a_rewrite_keeps_lines_that_are_not_shown_in_the_order_of_the_names() {
        let odd = [line('1', "refs/heads/a..b"), line('2', "refs/heads/z z")];
        let peeled = format!("^{}\n", "3".repeat(40));
        let text = [
            String::from_utf8(HEADER.to_vec()).unwrap(),
            odd[0].clone(),
            peeled.clone(),
            line('4', "refs/heads/b"),
            line('5', "refs/heads/c"),
            odd[1].clone(),
        ];
        let packed = parsed(&text.concat()).unwrap();
        assert_eq!(packed.iter().count(), 2);
        let edits = [PackedEdit {
            name: "refs/heads/c".into(),
            new: None,
        }];
        let mut out = Vec::new();
        packed.write_with(&edits, &mut |_| None, &mut out).unwrap();
        let expected = [&text[..4], &text[5..]].concat().concat();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn prefixes_are_byte_prefixes() {
        let names = [
            "refs/heads/a",
            "refs/heads/a/b",
            "refs/heads/ab",
            "refs/heads/b",
            "refs/tags/a",
        ];
        let text: String = names.iter().map(|name| line('1', name)).collect();
        let packed = parsed(&text).unwrap();
        assert_eq!(packed.prefix_range("refs/heads/a".into()), 0..3);
        assert_eq!(packed.prefix_range("refs/heads/a/".into()), 1..2);
        assert_eq!(packed.prefix_range("".into()), 0..5);
        assert_eq!(packed.prefix_range("refs/zzz".into()), 5..5);
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_or_whole_up_to_there() {
        let text = [
            line('1', "refs/a"),
            line('2', "refs/b"),
            format!("^{}\n", "3".repeat(40)),
        ]
        .concat();
        for cut in 0..text.len() {
            match parsed(&text[..cut]) {
                Ok(packed) => assert!(
                    text[..cut].is_empty() || text[..cut].ends_with('\n'),
                    "{packed:?}"
                ),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        assert!(parsed(&format!("^{}\n", "3".repeat(40))).is_err());
        assert!(parsed("nonsense\n").is_err());
    }

    #[test]
    fn a_rewrite_applies_edits_in_order_and_peels_what_an_old_header_left_open() {
        let packed =
            parsed(&[line('1', "refs/b"), line('2', "refs/d"), line('4', "refs/e")].concat()).unwrap();
        let edits = [
            PackedEdit {
                name: "refs/a".into(),
                new: Some((id('5'), Some(id('6')))),
            },
            PackedEdit {
                name: "refs/b".into(),
                new: Some((id('7'), None)),
            },
            PackedEdit {
                name: "refs/d".into(),
                new: None,
            },
            PackedEdit {
                name: "refs/f".into(),
                new: Some((id('8'), None)),
            },
            PackedEdit {
                name: "refs/g".into(),
                new: None,
            },
        ];
        let mut out = Vec::new();
        packed
            .write_with(
                &edits,
                &mut |asked| (asked == id('4')).then_some(id('9')),
                &mut out,
            )
            .unwrap();
        let expected = [
            String::from_utf8(HEADER.to_vec()).unwrap(),
            line('5', "refs/a"),
            format!("^{}\n", "6".repeat(40)),
            line('7', "refs/b"),
            line('4', "refs/e"),
            format!("^{}\n", "9".repeat(40)),
            line('8', "refs/f"),
        ];
        assert_eq!(String::from_utf8(out).unwrap(), expected.concat());
    }
}
