//! Which objects a client may ask for: tips of refs that it may see, and commits that those reach.
//!
//! An object that merely exists is not enough: it may belong to a hidden ref, to a ref that was deleted, or to another
//! repository that lends its objects.

use gix_hash::ObjectId;
use hashbrown::HashSet;

use super::{Error, View};
use crate::interrupt::Interrupt;
use crate::pack::commits::reachable;
use crate::repository::Repository;
use crate::repository::objects::Objects;

/// Returns the first of `wants` that may not be asked for.
pub(super) fn first_refused(
    repository: &Repository,
    view: &View<'_>,
    objects: &mut Objects,
    wants: &[ObjectId],
    interrupt: &Interrupt,
) -> Result<Option<ObjectId>, Error> {
    let settings = repository.settings();
    let mut open: HashSet<ObjectId> = wants.iter().copied().collect();
    if let (_, Some(id)) = view.head() {
        open.remove(&id);
    }
    for entry in view.refs.iter() {
        if open.is_empty() {
            break;
        }
        if settings.allow_tip_sha1_in_want || view.shows(entry.name) {
            open.remove(&entry.id);
        }
    }
    if settings.allow_any_sha1_in_want {
        for want in wants.iter().filter(|want| open.contains(*want)) {
            if !objects.contains(want)? {
                return Ok(Some(*want));
            }
        }
        return Ok(None);
    }
    if open.is_empty() {
        return Ok(None);
    }
    let mut commits = Vec::new();
    for &want in wants.iter().filter(|want| open.contains(*want)) {
        // Only commits are found by walking history. Other objects are named by those who walk trees themselves.
        if objects.kind(&want)? != Some(gix_object::Kind::Commit) {
            return Ok(Some(want));
        }
        commits.push(want);
    }
    let mut tips = Vec::new();
    for entry in view.refs.iter().filter(|entry| view.shows(entry.name)) {
        let tip = view.peel(&entry)?.unwrap_or(entry.id);
        if objects.kind(&tip)? == Some(gix_object::Kind::Commit) {
            tips.push(tip);
        }
    }
    if let (_, Some(id)) = view.head() {
        tips.push(id);
    }
    let graph = repository.object_store().commit_graph();
    let answer = reachable(objects, graph.as_deref(), &tips, &commits, interrupt)?;
    Ok(commits
        .iter()
        .zip(answer)
        .find(|(_, is_reachable)| !is_reachable)
        .map(|(&want, _)| want))
}
