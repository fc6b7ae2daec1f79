//! Whether everything that new tips reach is there and can be walked again, at a cost that grows with what is new.
//!
//! An object that exists proves nothing of what it reaches: a `git gc` by somebody else may have left a commit and
//! removed its trees. So the walk goes down from the new tips and stops only where the repository's own refs vouch for
//! the rest. Spec: git-rev-list(1) `--objects --not --all`, which git's receive-pack runs for this.

use gix_hash::ObjectId;

use super::enumerate::{Request, enumerate};
use super::ingest::Ingested;
use super::{Error, commits};
use crate::interrupt::Interrupt;
use crate::repository::objects::{Location, Objects};
use crate::repository::quarantine::Connected;

/// Checks that all that `tips` reach can be read through `objects`, given that all that `vouched` reach can.
///
/// `progress` is told how many objects were found so far.
///
/// # Errors
///
/// [`Error::Missing`] names the first object that is not there, [`Error::Kind`] the first that is not of the kind that
/// it is named as, [`Error::TooDeep`] the first tree that nobody could fetch.
pub fn check(
    objects: &mut Objects,
    graph: Option<&gix_commitgraph::Graph>,
    tips: &[ObjectId],
    vouched: &[ObjectId],
    progress: &mut dyn FnMut(usize),
    interrupt: &Interrupt,
) -> Result<Connected, Error> {
    let request = Request {
        wants: tips,
        haves: vouched,
        tags: &[],
        strict: true,
        names_whole_pack: false,
    };
    enumerate(objects, graph, &request, progress, interrupt)?;
    Ok(Connected::proven())
}

/// Tells whether nothing has to be walked, because `pack` itself holds `tips` and all that its objects refer to, and no
/// tree of it can lie too deep. Then a push of a whole repository costs no second walk over it.
///
/// # Errors
///
/// When the pack that was just written cannot be read.
pub fn of_whole_pack(
    objects: &mut Objects,
    pack: &Ingested,
    tips: &[ObjectId],
) -> Result<Option<Connected>, Error> {
    if !pack.outside.is_empty() || !pack.is_depth_bounded {
        return Ok(None);
    }
    for tip in tips {
        let Some(Location::Packed { pack: place, .. }) = objects.locate(tip)? else {
            return Ok(None);
        };
        if objects
            .pack(place)
            .is_none_or(|found| found.index_path() != pack.index)
        {
            return Ok(None);
        }
    }
    Ok(Some(Connected::proven()))
}

/// For a pack of objects that the repository had before, all of them: they reach what they reached.
pub(super) fn of_present_objects() -> Connected {
    Connected::proven()
}

/// Tells whether `old` is an ancestor of `new`, or both are one commit.
///
/// # Errors
///
/// When a commit on the way is missing or corrupt.
pub fn is_fast_forward(
    objects: &mut Objects,
    graph: Option<&gix_commitgraph::Graph>,
    old: ObjectId,
    new: ObjectId,
    interrupt: &Interrupt,
) -> Result<bool, Error> {
    Ok(commits::reachable(objects, graph, &[new], &[old], interrupt)?.first() == Some(&true))
}
