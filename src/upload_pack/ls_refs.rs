//! `ls-refs`: gitprotocol-v2(5).

use std::io::Write;

use bstr::{BStr, BString, ByteSlice};

use super::{BATCH_BYTES, Error, View};
use crate::protocol::pkt_line::encode_flush;
use crate::protocol::v2::{ListedRef, LsRefs, encode_listed_ref};
use crate::repository::Repository;
use crate::repository::refs::{Head, RefEntry};

pub(super) fn serve(repository: &Repository, arguments: &LsRefs, out: &mut dyn Write) -> Result<(), Error> {
    let view = View::new(repository)?;
    let mut buffer = Vec::with_capacity(BATCH_BYTES);
    let prefixes = outermost(&arguments.prefixes);
    if prefixes.is_empty() || prefixes.iter().any(|prefix| b"HEAD".starts_with(prefix)) {
        list_head(&view, arguments, &mut buffer)?;
    }
    if prefixes.is_empty() {
        for entry in view.refs.iter() {
            list_one(&view, arguments, &entry, &mut buffer, out)?;
        }
    }
    for prefix in prefixes {
        for entry in view.refs.iter_prefix(prefix) {
            list_one(&view, arguments, &entry, &mut buffer, out)?;
        }
    }
    encode_flush(&mut buffer);
    out.write_all(&buffer)?;
    Ok(())
}

/// The prefixes that are not themselves covered by another, sorted: walking them one by one lists each ref once, in
/// order.
fn outermost(prefixes: &[BString]) -> Vec<&BStr> {
    let mut sorted: Vec<&BStr> = prefixes.iter().map(|prefix| prefix.as_ref()).collect();
    sorted.sort_unstable();
    let mut kept: Vec<&BStr> = Vec::new();
    for prefix in sorted {
        if kept.last().is_none_or(|last| !prefix.starts_with(last)) {
            kept.push(prefix);
        }
    }
    kept
}

fn list_head(view: &View<'_>, arguments: &LsRefs, buffer: &mut Vec<u8>) -> Result<(), Error> {
    let (target, id) = view.head();
    let unborn = match view.refs.head() {
        Head::Symbolic { target, id: None } if view.shows(target.as_ref()) => Some(target.as_bstr()),
        _ => None,
    };
    let peeled = match id {
        Some(id) if arguments.peel => view.peel_id(id)?,
        _ => None,
    };
    let listed = match (id, unborn) {
        (Some(id), _) => ListedRef {
            name: BStr::new("HEAD"),
            id: Some(&id.clone()),
            symref_target: target.filter(|_| arguments.symrefs),
            peeled: peeled.as_deref(),
        },
        (None, Some(target)) if arguments.unborn && arguments.symrefs => ListedRef {
            name: BStr::new("HEAD"),
            id: None,
            symref_target: Some(target),
            peeled: None,
        },
        _ => return Ok(()),
    };
    encode_listed_ref(buffer, &listed)?;
    Ok(())
}

fn list_one(
    view: &View<'_>,
    arguments: &LsRefs,
    entry: &RefEntry<'_>,
    buffer: &mut Vec<u8>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    if !view.shows(entry.name) {
        return Ok(());
    }
    let peeled = if arguments.peel { view.peel(entry)? } else { None };
    let listed = ListedRef {
        name: entry.name,
        id: Some(&entry.id),
        symref_target: entry.symref_target.filter(|_| arguments.symrefs),
        peeled: peeled.as_deref(),
    };
    encode_listed_ref(buffer, &listed)?;
    if buffer.len() >= BATCH_BYTES {
        out.write_all(buffer)?;
        buffer.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_inside_others_are_dropped_and_the_rest_sorted() {
        let prefixes =
            ["refs/tags/", "refs/heads/a", "refs/heads/", "refs/heads/", "HEAD"].map(BString::from);
        assert_eq!(
            outermost(&prefixes),
            ["HEAD", "refs/heads/", "refs/tags/"].map(BStr::new)
        );
        assert_eq!(outermost(&["", "refs/"].map(BString::from)), [BStr::new("")]);
    }
}
