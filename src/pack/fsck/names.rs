//! Names of tree entries that some file system takes for something of git's.

use bstr::{BStr, ByteSlice};
use gix_validate::path::component;

/// What is special about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    /// HFS+, NTFS or a file system without case takes it for `.git`.
    DotGit,
    /// Likewise for `.gitmodules`.
    DotGitmodules,
}

/// Tells what is special about `name`. A backslash separates names on Windows, so each part of one counts.
pub(super) fn special(name: &[u8]) -> Option<Special> {
    // Everything special begins with a dot, the letter or tilde of a short name, or a code point HFS+ ignores.
    if name
        .first()
        .is_some_and(|first| !matches!(first, b'.' | b'g' | b'G' | b'~' | 0x80..))
        && !name.contains(&b'\\')
    {
        return None;
    }
    let mut found = one(name, true);
    for part in name.split(|byte| *byte == b'\\') {
        match one(part, false) {
            Some(Special::DotGit) => return Some(Special::DotGit),
            Some(Special::DotGitmodules) => found = found.or(Some(Special::DotGitmodules)),
            None => {}
        }
    }
    found
}

fn one(name: &[u8], hfs: bool) -> Option<Special> {
    let options = component::Options {
        protect_windows: false,
        protect_hfs: hfs,
        protect_ntfs: true,
    };
    match component(name.as_bstr(), Some(component::Mode::Symlink), options) {
        Err(component::Error::DotGitDir) => Some(Special::DotGit),
        Err(component::Error::SymlinkedGitModules) => Some(Special::DotGitmodules),
        _ => None,
    }
}

/// Tells whether `name` can be the name of a tag, below `refs/tags/`.
pub(super) fn is_tag_name(name: &BStr) -> bool {
    let mut full = b"refs/tags/".to_vec();
    full.extend_from_slice(name);
    gix_validate::reference::name(full.as_bstr()).is_ok()
}
