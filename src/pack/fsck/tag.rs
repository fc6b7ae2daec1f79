//! Reading tags.

use bstr::ByteSlice;
use gix_hash::Kind as HashKind;
use gix_object::Kind;

use super::names::is_tag_name;
use super::{Finding, Link, Message, Options, ident};

/// Reads a tag and tells `link` of its target. Without `options` only what that needs is checked.
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
    let target = ident::line(&mut rest, b"object ").ok_or(Finding::new(Message::MissingObject))?;
    let target_id = ident::id(target, hash).ok_or(Finding::new(Message::BadObjectSha1))?;
    let kind = ident::line(&mut rest, b"type ").ok_or(Finding::new(Message::MissingTypeEntry))?;
    let kind = match kind {
        b"commit" => Kind::Commit,
        b"tree" => Kind::Tree,
        b"blob" => Kind::Blob,
        b"tag" => Kind::Tag,
        _ => return Err(Finding::new(Message::BadType)),
    };
    link(Link {
        id: &target_id,
        kind,
        is_gitmodules: false,
    });
    let Some(options) = options else { return Ok(()) };
    let name = ident::line(&mut rest, b"tag ").ok_or(Finding::new(Message::MissingTagEntry))?;
    if !is_tag_name(name.as_bstr()) {
        options.report(Message::BadTagName)?;
    }
    match ident::line(&mut rest, b"tagger ") {
        Some(tagger) => ident::check(tagger, options)?,
        None => options.report(Message::MissingTaggerEntry)?,
    }
    let signed = ident::line(&mut rest, b"gpgsig ").or_else(|| ident::line(&mut rest, b"gpgsig-sha256 "));
    if signed.is_some() {
        while ident::line(&mut rest, b" ").is_some() {}
    }
    if !rest.is_empty() {
        options.report(Message::ExtraHeaderEntry)?;
    }
    Ok(())
}
