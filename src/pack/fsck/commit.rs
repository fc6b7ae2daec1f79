//! Reading commits.

use gix_hash::Kind as HashKind;
use gix_object::Kind;

use super::{Finding, Link, Message, Options, ident, report};

/// Reads a commit and tells `link` of its tree and parents. Without `options` only what that needs is checked.
///
/// # Errors
///
/// The first finding that `options` refuse, and a header that cannot be read.
pub fn read(
    data: &[u8],
    hash: HashKind,
    options: Option<&Options>,
    link: &mut dyn FnMut(Link<'_>),
) -> Result<(), Finding> {
    let mut rest = ident::header(data, options)?;
    let tree = ident::line(&mut rest, b"tree ").ok_or(Finding::new(Message::MissingTree))?;
    let tree_id = ident::id(tree, hash).ok_or(Finding::new(Message::BadTreeSha1))?;
    link(Link {
        id: &tree_id,
        kind: Kind::Tree,
        is_gitmodules: false,
    });
    while let Some(parent) = ident::line(&mut rest, b"parent ") {
        let parent_id = ident::id(parent, hash).ok_or(Finding::new(Message::BadParentSha1))?;
        link(Link {
            id: &parent_id,
            kind: Kind::Commit,
            is_gitmodules: false,
        });
    }
    let Some(options) = options else { return Ok(()) };
    let mut authors_count = 0;
    while let Some(author) = ident::line(&mut rest, b"author ") {
        authors_count += 1;
        ident::check(author, options)?;
    }
    match authors_count {
        0 => options.report(Message::MissingAuthor)?,
        1 => {}
        _ => options.report(Message::MultipleAuthors)?,
    }
    match ident::line(&mut rest, b"committer ") {
        Some(committer) => ident::check(committer, options)?,
        None => options.report(Message::MissingCommitter)?,
    }
    if data.contains(&0) {
        report(Some(options), Message::NulInCommit)?;
    }
    Ok(())
}
