//! A clone's objects from the bitmaps of a pack: what they say that the wanted commits reach, and by walking what lies
//! above. Spec: gitformat-pack(5), "Pack bitmaps".
//!
//! A bitmap that cannot be read is as if there were none; one that is wrong about what is reachable sends too much or
//! too little, which is what the checksum of its file is for.

use std::collections::HashMap;
use std::sync::Arc;

use gix_hash::{ObjectId, oid};
use gix_object::Kind;

use super::{IdSet, Known, ListedObject, ObjectList, Request, Walk, tag_target};
use crate::interrupt::Interrupt;
use crate::pack::Error;
use crate::pack::commits::{CommitIndex, Commits};
use crate::repository::objects::ewah::Bits;
use crate::repository::objects::{self, Location, Objects, Pack};

/// What bitmaps say that some tips reach, and the commits above these.
pub(super) struct Reached {
    pack_no: u32,
    pack: Arc<Pack>,
    /// Objects of the pack, by their place in its order.
    bits: Bits,
    /// Commits that no bitmap covers, newest first, as id and tree, with the tree of a child that comes before.
    commits: Vec<NewCommit>,
}

/// A commit that no bitmap covers.
struct NewCommit {
    id: ObjectId,
    tree: ObjectId,
    /// The tree of a child of it that comes before.
    child_tree: Option<ObjectId>,
}

impl Reached {
    /// Looks for a pack with bitmaps and walks from `tips` down to commits of which they say everything; None if there
    /// is no such pack.
    pub(super) fn by_bitmaps(
        objects: &mut Objects,
        graph: Option<&gix_commitgraph::Graph>,
        tips: &[ObjectId],
        progress: &mut dyn FnMut(usize),
        interrupt: &Interrupt,
    ) -> Result<Option<Reached>, Error> {
        let with_bitmaps = (0u32..)
            .zip(objects.packs())
            .filter(|(_, pack)| pack.bitmaps().is_some());
        let Some((pack_no, pack)) = with_bitmaps.max_by_key(|(_, pack)| pack.num_objects()) else {
            return Ok(None);
        };
        let pack = Arc::clone(pack);
        let Some(bitmaps) = pack.bitmaps() else {
            return Ok(None);
        };
        let mut bits = Bits::new(bitmaps.num_objects());
        let mut commits = Commits::new(objects, graph, interrupt);
        let mut is_known = |id: &oid| {
            if pack.place_of(id).is_some_and(|place| bits.contains(place)) {
                return true;
            }
            // A damaged set is as if there were none.
            let Ok(Some(reached)) = bitmaps.reachable_from(id) else {
                return false;
            };
            bits.add(&reached);
            true
        };
        let found = commits.reach(tips, &mut is_known, progress)?;
        let mut children: HashMap<CommitIndex, ObjectId> = HashMap::new();
        let mut above = Vec::new();
        for commit in found {
            let (id, tree) = (commits.id(commit), commits.tree(commit));
            // It was met before a bitmap that covers it.
            if pack.place_of(&id).is_some_and(|place| bits.contains(place)) {
                continue;
            }
            let child_tree = children.remove(&commit);
            above.push(NewCommit { id, tree, child_tree });
            for &parent in commits.parents(commit) {
                children.entry(parent).or_insert(tree);
            }
        }
        Ok(Some(Reached {
            pack_no,
            pack,
            bits,
            commits: above,
        }))
    }

    /// Lists what was reached: new commits, tags, the pack's objects in its order, new trees and blobs.
    pub(super) fn list(
        self,
        objects: &mut Objects,
        request: &Request<'_>,
        tags: Vec<ObjectId>,
        others: Vec<(ObjectId, Kind)>,
        progress: &mut dyn FnMut(usize),
        interrupt: &Interrupt,
    ) -> Result<ObjectList, Error> {
        let Reached {
            pack_no,
            pack,
            mut bits,
            commits,
        } = self;
        // No commit reaches a tag, so no stored set has one.
        let mut new_tags = Vec::new();
        let mut add_tag = |bits: &mut Bits, tag: ObjectId| match pack.place_of(&tag) {
            Some(place) => {
                bits.insert(place);
            }
            None => new_tags.push(tag),
        };
        for tag in tags {
            add_tag(&mut bits, tag);
        }
        let new_commits: IdSet = commits.iter().map(|commit| commit.id).collect();
        for &(tag, target) in request.tags {
            let is_below = new_commits.contains(&target)
                || pack.place_of(&target).is_some_and(|place| bits.contains(place));
            let mut at = tag;
            while is_below && at != target && objects.kind(&at)? == Some(Kind::Tag) {
                add_tag(&mut bits, at);
                at = tag_target(objects, at)?;
            }
        }
        let known = Known {
            pack: &pack,
            bits: &bits,
        };
        let mut walk = Walk::new(Some(known), false, progress, interrupt);
        for commit in &commits {
            walk.add_listed(objects, commit.id)?;
        }
        for tag in new_tags {
            walk.add_listed(objects, tag)?;
        }
        for commit in &commits {
            let child = commit.child_tree.map(|tree| (tree, false));
            walk.add_tree(objects, commit.tree, child.as_slice())?;
        }
        walk.add_others(objects, others)?;
        let has_all = bits.count() == pack.num_objects() as usize;
        if request.names_whole_pack && has_all && walk.is_empty() {
            walk.list.whole_pack = Some((pack_no, pack.num_objects() as usize));
            return Ok(walk.list);
        }
        for place in bits.iter() {
            let missing = || objects::Error::corrupt(place, "a bitmap names it, and the pack lacks it");
            let (offset, id) = pack.at_place(place).ok_or_else(missing)?;
            let location = Location::Packed {
                pack: pack_no,
                offset,
            };
            walk.list.insert(ListedObject { id, location });
        }
        Ok(walk.finish())
    }
}
