//! The arguments of the two commands of protocol 2, from the delim-pkt to the flush-pkt.

use std::collections::HashSet;

use gix_hash::{Kind, ObjectId};

use super::{Error, Fetch, LsRefs, PREFIXES_COUNT_MAX};
use crate::limits::FetchLimits;
use crate::protocol::Unsupported;
use crate::protocol::line::{object_id, quoted};
use crate::protocol::pkt_line::{Packets, PktLine};

/// Reads on to the flush-pkt.
pub(super) fn read_ls_refs(packets: &mut Packets<'_>, ls_refs: &mut LsRefs) -> Result<(), Error> {
    let mut prefixes_count = 0;
    while let Some(line) = next_argument(packets, "ls-refs")? {
        match line {
            b"peel" => ls_refs.peel = true,
            b"symrefs" => ls_refs.symrefs = true,
            b"unborn" => ls_refs.unborn = true,
            _ => {
                let Some(prefix) = line.strip_prefix(b"ref-prefix ") else {
                    return Err(Error::UnexpectedLine(quoted(line)));
                };
                prefixes_count += 1;
                if prefixes_count < PREFIXES_COUNT_MAX {
                    ls_refs.prefixes.push(prefix.into());
                }
            }
        }
    }
    // Some of the prefixes would leave refs out that the client asked for; all refs are what it can filter.
    if prefixes_count >= PREFIXES_COUNT_MAX {
        ls_refs.prefixes = Vec::new();
    }
    Ok(())
}

/// Reads on to the flush-pkt.
pub(super) fn read_fetch(
    packets: &mut Packets<'_>,
    hash: Kind,
    limits: &FetchLimits,
    fetch: &mut Fetch,
) -> Result<(), Error> {
    let mut wanted = HashSet::new();
    let mut had = HashSet::new();
    while let Some(line) = next_argument(packets, "fetch")? {
        if let Some(hex) = line.strip_prefix(b"want ") {
            let id = object_id(hex, hash).ok_or_else(|| Error::BadWant(quoted(line)))?;
            add_once(
                id,
                &mut wanted,
                &mut fetch.wants,
                limits.wants_count_max,
                Error::TooManyWants,
            )?;
        } else if let Some(hex) = line.strip_prefix(b"have ") {
            let id = object_id(hex, hash).ok_or_else(|| Error::BadHave(quoted(line)))?;
            add_once(
                id,
                &mut had,
                &mut fetch.haves,
                limits.haves_count_max,
                Error::TooManyHaves,
            )?;
        } else {
            match line {
                b"done" => fetch.done = true,
                b"wait-for-done" => fetch.wait_for_done = true,
                b"thin-pack" => fetch.thin_pack = true,
                b"ofs-delta" => fetch.ofs_delta = true,
                b"no-progress" => fetch.no_progress = true,
                b"include-tag" => fetch.include_tag = true,
                _ => {
                    return Err(match Unsupported::in_fetch_line(line) {
                        Some(feature) => feature.into(),
                        None => Error::UnexpectedLine(quoted(line)),
                    });
                }
            }
        }
    }
    Ok(())
}

/// The next line; none at the flush-pkt.
fn next_argument<'a>(packets: &mut Packets<'a>, command: &'static str) -> Result<Option<&'a [u8]>, Error> {
    match packets.read()? {
        PktLine::Flush => Ok(None),
        line => line.text().map(Some).ok_or(Error::ExpectedFlush(command)),
    }
}

/// Adds `id` to the list unless it is there already; fails when the list then has more than `count_max`.
fn add_once(
    id: ObjectId,
    seen: &mut HashSet<ObjectId>,
    list: &mut Vec<ObjectId>,
    count_max: usize,
    error: fn(usize) -> Error,
) -> Result<(), Error> {
    if seen.insert(id) {
        if list.len() >= count_max {
            return Err(error(count_max));
        }
        list.push(id);
    }
    Ok(())
}
