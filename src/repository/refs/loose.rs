//! The content of one loose ref, or of HEAD: an object id or `ref: <name>`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bstr::{BStr, BString, ByteSlice};
use gix_hash::ObjectId;

use super::is_valid_name;
use super::stat::is_absence;

/// Bytes of a ref file that are read: a symbolic ref's target is a path, which Linux stops at 4096 bytes.
const CONTENT_BYTES_MAX: u64 = 4096 + 16;

/// What a ref file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    /// It points at an object.
    Id(ObjectId),
    /// It leads to the ref of this full name.
    Symref(BString),
    /// Neither; git leaves it out of every listing and refuses to move it.
    Broken,
}

/// The path of the ref `name`, of its lock or its log: names hold `/` where paths do.
pub(super) fn path(base: &Path, name: &BStr) -> PathBuf {
    base.join(std::ffi::OsStr::from_bytes(name))
}

/// Reads the ref at `path`; `None` if there is none, or a directory.
///
/// A symbolic link is what it was before git 1.5 wrote `ref: …`: a symbolic ref, if its text is a ref name. It is
/// never followed.
///
/// # Errors
///
/// Everything but absence.
pub(super) fn read(path: &Path, hash: gix_hash::Kind) -> io::Result<Option<Raw>> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let file_type = metadata.file_type();
    if file_type.is_dir() {
        return Ok(None);
    }
    if file_type.is_symlink() {
        return match fs::read_link(path) {
            Ok(target) => Ok(Some(symref(target.as_os_str().as_bytes()))),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        };
    }
    if !file_type.is_file() {
        return Ok(Some(Raw::Broken));
    }
    let mut content = Vec::with_capacity(80);
    match File::open(path).and_then(|file| file.take(CONTENT_BYTES_MAX).read_to_end(&mut content)) {
        Ok(_) => Ok(Some(parse(&content, hash))),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn symref(target: &[u8]) -> Raw {
    let target = target.as_bstr();
    if is_valid_name(target) {
        Raw::Symref(target.to_owned())
    } else {
        Raw::Broken
    }
}

/// Parses the content of a ref file as git's `parse_loose_ref_contents` does.
pub(super) fn parse(content: &[u8], hash: gix_hash::Kind) -> Raw {
    let content = content.trim_ascii_end();
    if let Some(target) = content.strip_prefix(b"ref:") {
        return symref(target.trim_ascii_start());
    }
    let Some((hex, rest)) = content.split_at_checked(hash.len_in_hex()) else {
        return Raw::Broken;
    };
    if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
        return Raw::Broken;
    }
    match ObjectId::from_hex(hex) {
        Ok(id) if !id.is_null() => Raw::Id(id),
        _ => Raw::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_read_as_git_reads_them() {
        let id = ObjectId::from_hex(&[b'1'; 40]).unwrap();
        let hex = "1".repeat(40);
        let cases = [
            (format!("{hex}\n"), Raw::Id(id)),
            (hex.clone(), Raw::Id(id)),
            (format!("{hex} trailing words\n"), Raw::Id(id)),
            (format!("{hex}1\n"), Raw::Broken),
            ("0".repeat(40), Raw::Broken),
            (hex[1..].to_owned(), Raw::Broken),
            (String::new(), Raw::Broken),
            (
                "ref: refs/heads/main\n".to_owned(),
                Raw::Symref("refs/heads/main".into()),
            ),
            (
                "ref:refs/heads/main".to_owned(),
                Raw::Symref("refs/heads/main".into()),
            ),
            ("ref: ../../etc/passwd\n".to_owned(), Raw::Broken),
            ("ref: \n".to_owned(), Raw::Broken),
        ];
        for (content, raw) in cases {
            assert_eq!(
                parse(content.as_bytes(), gix_hash::Kind::Sha1),
                raw,
                "{content:?}"
            );
        }
        assert_eq!(parse(hex.as_bytes(), gix_hash::Kind::Sha256), Raw::Broken);
    }

    #[test]
    fn symbolic_links_are_read_but_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        fs::write(&secret, "1".repeat(40)).unwrap();
        std::os::unix::fs::symlink(&secret, dir.path().join("out")).unwrap();
        std::os::unix::fs::symlink("refs/heads/main", dir.path().join("old")).unwrap();
        let read = |name: &str| read(&dir.path().join(name), gix_hash::Kind::Sha1).unwrap();
        assert_eq!(read("out"), Some(Raw::Broken));
        assert_eq!(read("old"), Some(Raw::Symref("refs/heads/main".into())));
        assert_eq!(read("none"), None);
    }
}
