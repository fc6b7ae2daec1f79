//! Reading trees.

use std::cmp::Ordering;

use bstr::ByteSlice;
use gix_hash::{Kind as HashKind, oid};
use gix_object::Kind;

use super::names::{Special, special};
use super::{Finding, Link, Message, Options, report};

/// Bytes of a name that git takes for reasonable.
const NAME_BYTES_MAX: usize = 4096;

/// One entry, checked for nothing but its syntax.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    mode: u32,
    is_padded: bool,
    name: &'a [u8],
    id: &'a oid,
    len: usize,
}

impl<'a> Entry<'a> {
    /// Reads the entry that `data` begins with.
    fn read(data: &'a [u8], hash: HashKind) -> Option<Self> {
        let nul = data.find_byte(0)?;
        let head = data.get(..nul)?;
        let space = head.find_byte(b' ')?;
        let (digits, name) = (head.get(..space)?, head.get(space + 1..)?);
        if digits.is_empty() {
            return None;
        }
        let mut mode = 0u32;
        for digit in digits {
            // Over 16 bits nothing is a mode; it only has to stay so.
            mode = match digit {
                b'0'..=b'7' => (mode << 3 | u32::from(digit - b'0')) & 0xf_ffff,
                _ => return None,
            };
        }
        let len = nul + 1 + hash.len_in_bytes();
        let id = oid::try_from_bytes(data.get(nul + 1..len)?).ok()?;
        Some(Entry {
            mode,
            is_padded: digits.first() == Some(&b'0'),
            name,
            id,
            len,
        })
    }

    fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    fn is_symlink(&self) -> bool {
        self.mode & 0o170_000 == 0o120_000
    }

    /// What the entry refers to; `None` for submodules, whose commits are elsewhere.
    fn kind(&self) -> Option<Kind> {
        match self.mode & 0o170_000 {
            0o040_000 => Some(Kind::Tree),
            0o100_000 | 0o120_000 => Some(Kind::Blob),
            _ => None,
        }
    }
}

/// Reads a tree and tells `link` of its entries, submodules apart. Without `options` only its syntax is checked.
///
/// `base` is a tree that was read with the same options and found good; entries that the two share are neither
/// checked nor told again. A history's trees differ in one entry out of hundreds, so this is most of the work.
///
/// # Errors
///
/// The first finding that `options` refuse, and syntax that leaves no way to read on.
pub fn read(
    data: &[u8],
    base: Option<&[u8]>,
    hash: HashKind,
    options: Option<&Options>,
    link: &mut dyn FnMut(Link<'_>),
) -> Result<(), Finding> {
    let mut rest = data;
    let mut base = Base {
        rest: base.unwrap_or_default(),
        hash,
    };
    let mut previous: Option<&[u8]> = None;
    // Whether the entry before and the one that `base` is at follow each other in the base, too.
    let mut follows = false;
    let mut may_repeat = false;
    while !rest.is_empty() {
        if let Some(len) = base.same(rest) {
            if !follows {
                may_repeat |= check_order(previous, rest, hash, options)?;
            }
            previous = Some(rest);
            rest = rest.get(len..).unwrap_or_default();
            follows = true;
            continue;
        }
        let entry = Entry::read(rest, hash).ok_or(Finding::new(Message::BadTree))?;
        if base.pass(&entry) {
            follows = false;
            // What was passed may have uncovered an equal entry.
            continue;
        }
        may_repeat |= check_order(previous, rest, hash, options)?;
        check_entry(&entry, options)?;
        if let Some(kind) = entry.kind() {
            let is_gitmodules = kind == Kind::Blob
                && !entry.is_symlink()
                && special(entry.name) == Some(Special::DotGitmodules);
            link(Link {
                id: entry.id,
                kind,
                is_gitmodules,
            });
        }
        previous = Some(rest);
        rest = rest.get(entry.len..).unwrap_or_default();
        follows = false;
    }
    if may_repeat {
        check_repeated(data, hash, options)
    } else {
        Ok(())
    }
}

/// The entries of a base that are not behind the tree that is read.
struct Base<'a> {
    rest: &'a [u8],
    hash: HashKind,
}

impl Base<'_> {
    fn entry_len(&self) -> Option<usize> {
        let len = self.rest.find_byte(0)? + 1 + self.hash.len_in_bytes();
        (len <= self.rest.len()).then_some(len)
    }

    /// Passes over the next entry if `data` begins with the same one, and returns its length.
    fn same(&mut self, data: &[u8]) -> Option<usize> {
        let len = self.entry_len()?;
        if !data.starts_with(self.rest.get(..len)?) {
            return None;
        }
        self.rest = self.rest.get(len..).unwrap_or_default();
        Some(len)
    }

    /// Passes over entries that come before `current`; tells whether there were any.
    fn pass(&mut self, current: &Entry<'_>) -> bool {
        let mut passed = false;
        while let Some(entry) = Entry::read(self.rest, self.hash) {
            if compare(&entry, current) != Ordering::Less {
                break;
            }
            self.rest = self.rest.get(entry.len..).unwrap_or_default();
            passed = true;
        }
        passed
    }
}

/// Checks that the entry `current` begins with may follow the one that `previous` begins with. Returns whether a file
/// and a directory of one name may be in the tree with others between them.
fn check_order(
    previous: Option<&[u8]>,
    current: &[u8],
    hash: HashKind,
    options: Option<&Options>,
) -> Result<bool, Finding> {
    let (Some(previous), Some(options)) = (previous, options) else {
        return Ok(false);
    };
    let (Some(previous), Some(current)) = (Entry::read(previous, hash), Entry::read(current, hash)) else {
        return Err(Finding::new(Message::BadTree));
    };
    if previous.name == current.name {
        options.report(Message::DuplicateEntries)?;
    } else if compare(&previous, &current) == Ordering::Greater {
        options.report(Message::TreeNotSorted)?;
    }
    // As `foo`, `foo.bar`, `foo/`: the names between begin with the one and go on below a slash.
    let below = |whole: &[u8], name: &[u8]| {
        whole
            .strip_prefix(name)
            .and_then(<[u8]>::first)
            .is_some_and(|byte| *byte < b'/')
    };
    Ok(!previous.is_dir() && below(current.name, previous.name)
        || current.is_dir() && below(previous.name, current.name))
}

/// Orders as git does: a directory's name as if it ended in a slash.
fn compare(a: &Entry<'_>, b: &Entry<'_>) -> Ordering {
    let common = a.name.len().min(b.name.len());
    let next = |entry: &Entry<'_>| {
        entry
            .name
            .get(common)
            .copied()
            .unwrap_or(if entry.is_dir() { b'/' } else { 0 })
    };
    a.name
        .get(..common)
        .cmp(&b.name.get(..common))
        .then_with(|| next(a).cmp(&next(b)))
}

fn check_entry(entry: &Entry<'_>, options: Option<&Options>) -> Result<(), Finding> {
    if options.is_none() {
        return Ok(());
    }
    let found = [
        (entry.name.is_empty(), Message::EmptyName),
        (entry.id.is_null(), Message::NullSha1),
        (entry.name.contains(&b'/'), Message::FullPathname),
        (entry.name == b".", Message::HasDot),
        (entry.name == b"..", Message::HasDotdot),
        (entry.is_padded, Message::ZeroPaddedFilemode),
        (!is_known_mode(entry.mode), Message::BadFilemode),
        (entry.name.len() > NAME_BYTES_MAX, Message::LargePathname),
    ];
    for (is_found, message) in found {
        if is_found {
            report(options, message)?;
        }
    }
    match special(entry.name) {
        Some(Special::DotGit) => report(options, Message::HasDotgit),
        Some(Special::DotGitmodules) if entry.is_symlink() => report(options, Message::GitmodulesSymlink),
        _ => Ok(()),
    }
}

/// Permission bits of files are let pass: early versions of git stored them as they were, and readers look at the
/// owner's execute bit alone. Anything else that is not one of the five modes would be read differently by each.
fn is_known_mode(mode: u32) -> bool {
    matches!(mode, 0o040_000 | 0o120_000 | 0o160_000) || (mode & !0o777 == 0o100_000)
}

/// Checks a sorted tree for a file and a directory of one name with others between them.
fn check_repeated(data: &[u8], hash: HashKind, options: Option<&Options>) -> Result<(), Finding> {
    // Files whose names the one that is looked at begins with, each the beginning of the next.
    let mut files: Vec<&[u8]> = Vec::new();
    let mut rest = data;
    while let Some(entry) = Entry::read(rest, hash) {
        while files.pop_if(|file| !entry.name.starts_with(file)).is_some() {}
        if files.last().is_some_and(|file| *file == entry.name) {
            return report(options, Message::DuplicateEntries);
        }
        if !entry.is_dir() {
            files.push(entry.name);
        }
        rest = rest.get(entry.len..).unwrap_or_default();
    }
    Ok(())
}
