//! Which objects a client that has some commits needs for others.
//!
//! With something excluded the list is complete by induction over commits, parents first: all that a commit's tree
//! reaches is listed, or a parent has the same object at the same path, and all that the parent reaches was dealt with
//! before. The order matters: taken children first, two directories that change places could each vouch for what the
//! other holds. With nothing excluded every tree that was walked to its end has all that it holds listed, in any order.

mod bitmaps;

use std::collections::HashMap;
use std::hash::BuildHasher;

use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::Error;
use super::commits::{CommitIndex, Commits};
use super::depth::{Room, Rooms};
use super::id_hash::IdHash;
use super::trees::{DEPTH_MAX, EntryMode, TreeCursor};
use crate::interrupt::Interrupt;
use crate::repository::objects::ewah::Bits;
use crate::repository::objects::{Location, Objects, Pack};
use bitmaps::Reached;

/// Parents that a commit's tree is compared with. What a later one alone has is listed again, which costs bytes and
/// never leaves anything out; without a bound a commit of ten thousand parents would hold as many trees at once.
const COMPARED_PARENTS_MAX: usize = 16;

/// Bytes of the trees from a root down to where the walk is that are held at once. A push of some kilobytes can make
/// thousands of levels of many megabytes each; a directory of a million files has 40 MB.
const PATH_BYTES_MAX: usize = 256 << 20;

/// Bytes of the trees that those are compared with. Beyond, the walk goes on without comparing.
const COMPARED_BYTES_MAX: usize = 128 << 20;

/// A set of objects.
pub(crate) type IdSet = hashbrown::HashSet<ObjectId, IdHash>;

/// An object that goes along.
#[derive(Debug, Clone, Copy)]
pub struct ListedObject {
    /// Its id.
    pub id: ObjectId,
    /// Where it lies, by the handle that the list was made with.
    pub location: Location,
}

/// Objects to send, each once, in the order in which git sends them: commits, tags, trees, blobs, each newest first.
#[derive(Debug)]
pub struct ObjectList {
    /// All of a pack and nothing else: which, and how many objects it has. The others are empty then.
    whole_pack: Option<(u32, usize)>,
    objects: Vec<ListedObject>,
    places: HashTable<u32>,
    hasher: IdHash,
    /// Objects that the client has and that lie beside what is sent: what thin packs may use as bases.
    pub(crate) client_has: IdSet,
}

impl ObjectList {
    fn new() -> ObjectList {
        ObjectList {
            whole_pack: None,
            objects: Vec::new(),
            places: HashTable::new(),
            hasher: IdHash::default(),
            client_has: IdSet::default(),
        }
    }

    /// Makes a list of exactly `objects`, for packs whose content is decided elsewhere.
    pub fn of(objects: impl IntoIterator<Item = ListedObject>) -> ObjectList {
        let mut list = ObjectList::new();
        for object in objects {
            list.insert(object);
        }
        list
    }

    /// The pack that is wanted from its first to its last object, with nothing besides. Then [`ObjectList::objects`] is
    /// empty.
    pub fn whole_pack(&self) -> Option<u32> {
        self.whole_pack.map(|(pack, _)| pack)
    }

    /// The objects in the order in which they are sent.
    pub fn objects(&self) -> &[ListedObject] {
        &self.objects
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.whole_pack.map_or(self.objects.len(), |(_, objects)| objects)
    }

    /// Whether nothing is to be sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of `id` in [`ObjectList::objects`].
    pub fn place(&self, id: &oid) -> Option<usize> {
        let is_id = |&at: &u32| {
            self.objects
                .get(at as usize)
                .is_some_and(|object| *object.id == *id)
        };
        self.places
            .find(self.hasher.hash_one(id.as_bytes()), is_id)
            .map(|&at| at as usize)
    }

    /// Adds `object` unless it is there: a malformed tree may name a commit as a file.
    fn insert(&mut self, object: ListedObject) {
        let at = self.objects.len() as u32;
        let (objects, hasher) = (&self.objects, &self.hasher);
        let id_at = |&at: &u32| objects.get(at as usize).map(|object| object.id);
        let entry = self.places.entry(
            hasher.hash_one(object.id.as_bytes()),
            |at| id_at(at) == Some(object.id),
            |at| id_at(at).map_or(0, |id| hasher.hash_one(id.as_bytes())),
        );
        if let Entry::Vacant(vacant) = entry {
            vacant.insert(at);
            self.objects.push(object);
        }
    }
}

/// What to list.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// Tips that the client wants: commits, tags, or any other object.
    pub wants: &'a [ObjectId],
    /// What it has, with all that it reaches: commits and tags; other kinds only count for themselves, and what is
    /// missing here for nothing.
    pub haves: &'a [ObjectId],
    /// Tags, as id and what they finally point at: listed where that is listed too (`include-tag`).
    pub tags: &'a [(ObjectId, ObjectId)],
    /// Be as strict as with a push: look at what trees name as files, which costs a look at each and may be something
    /// else, and hold a tree's depth against the bound wherever it is met, not only where it is met first.
    pub strict: bool,
    /// Where exactly the objects of one pack are wanted, say just that.
    pub names_whole_pack: bool,
}

/// Lists what `request` asks for. `progress` is told how many objects were found so far, now and then.
///
/// # Bounds
///
/// Some 100 bytes of memory for an object that is listed, and as much for a commit that was visited; 400 MB for trees,
/// or one of more than that.
///
/// # Errors
///
/// When an object on the way is missing or corrupt, or the interrupt was triggered.
pub fn enumerate(
    objects: &mut Objects,
    graph: Option<&gix_commitgraph::Graph>,
    request: &Request<'_>,
    progress: &mut dyn FnMut(usize),
    interrupt: &Interrupt,
) -> Result<ObjectList, Error> {
    let mut client_has = IdSet::default();
    let mut excluded = Vec::new();
    for &id in request.haves {
        client_has.insert(id);
        match peel_to_commit(objects, id, &mut |tag| {
            client_has.insert(tag);
        }) {
            Ok(commit) => excluded.extend(commit),
            // A broken ref, or a tag whose commit was pruned: it vouches for nothing, and stands in nobody's way.
            Err(Error::Missing(_)) => {}
            Err(err) => return Err(err),
        }
    }
    let mut tips = Vec::new();
    let mut tags = Vec::new();
    let mut others = Vec::new();
    for &id in request.wants {
        sort_want(objects, id, &client_has, &mut tips, &mut tags, &mut others)?;
    }

    // Small differences are found faster by walking than from the bitmaps of both sides.
    if request.haves.is_empty()
        && !request.strict
        && let Some(reached) = Reached::by_bitmaps(objects, graph, &tips, progress, interrupt)?
    {
        return reached.list(objects, request, tags, others, progress, interrupt);
    }

    let mut commits = Commits::new(objects, graph, interrupt);
    let found = commits.walk(&tips, &excluded, progress)?;
    let mut walk = Walk::new(None, request.strict, progress, interrupt);
    walk.list.client_has = client_has;
    for &commit in &found {
        let id = commits.id(commit);
        walk.add_listed(commits.objects(), id)?;
    }
    let commit_count = walk.list.len();
    for id in tags {
        walk.add_listed(commits.objects(), id)?;
    }
    let has_boundary = !excluded.is_empty();
    if has_boundary {
        for commit in commits.parents_first(&found) {
            let parents: Vec<(ObjectId, bool)> = commits
                .parents(commit)
                .iter()
                .take(COMPARED_PARENTS_MAX)
                .map(|&parent| (commits.tree(parent), commits.is_uninteresting(parent)))
                .collect();
            let tree = commits.tree(commit);
            walk.add_tree(commits.objects(), tree, &parents)?;
        }
        walk.trees.reverse();
        walk.blobs.reverse();
    } else {
        walk.add_all_trees(&mut commits, &found)?;
    }
    walk.add_others(commits.objects(), others)?;
    walk.add_tags_of(commits.objects(), request.tags, commit_count)?;
    Ok(walk.finish())
}

/// Follows tags from `id` down to a commit, telling every tag on the way; `None` where they lead elsewhere.
pub(crate) fn peel_to_commit(
    objects: &mut Objects,
    id: ObjectId,
    tag: &mut dyn FnMut(ObjectId),
) -> Result<Option<ObjectId>, Error> {
    let mut at = id;
    loop {
        match objects.kind(&at)?.ok_or(Error::Missing(at))? {
            Kind::Commit => return Ok(Some(at)),
            Kind::Tag => {
                tag(at);
                at = tag_target(objects, at)?;
            }
            Kind::Tree | Kind::Blob => return Ok(None),
        }
    }
}

/// What the tag `id` points at.
fn tag_target(objects: &mut Objects, id: ObjectId) -> Result<ObjectId, Error> {
    let object = objects.read(&id)?.ok_or(Error::Missing(id))?;
    gix_object::TagRefIter::from_bytes(&object.data, objects.object_hash())
        .target_id()
        .map_err(|err| crate::repository::objects::Error::corrupt(id, err).into())
}

fn sort_want(
    objects: &mut Objects,
    id: ObjectId,
    client_has: &IdSet,
    tips: &mut Vec<ObjectId>,
    tags: &mut Vec<ObjectId>,
    others: &mut Vec<(ObjectId, Kind)>,
) -> Result<(), Error> {
    let mut at = id;
    loop {
        match objects.kind(&at)?.ok_or(Error::Missing(at))? {
            Kind::Commit => {
                tips.push(at);
                return Ok(());
            }
            Kind::Tag => {
                if !client_has.contains(&at) {
                    tags.push(at);
                }
                at = tag_target(objects, at)?;
            }
            kind @ (Kind::Tree | Kind::Blob) => {
                if !client_has.contains(&at) {
                    others.push((at, kind));
                }
                return Ok(());
            }
        }
    }
}

/// Objects of a pack that go along in any case.
#[derive(Clone, Copy)]
struct Known<'a> {
    pack: &'a Pack,
    bits: &'a Bits,
}

impl Known<'_> {
    fn contains(&self, id: &oid) -> bool {
        self.pack
            .place_of(id)
            .is_some_and(|place| self.bits.contains(place))
    }
}

struct Walk<'a> {
    list: ObjectList,
    /// What needs no listing one by one.
    known: Option<Known<'a>>,
    trees: Vec<ListedObject>,
    blobs: Vec<ListedObject>,
    /// Trees and blobs that were met, listed or had.
    seen: IdSet,
    /// Kept where the walk is strict.
    rooms: Option<Rooms>,
    progress: &'a mut dyn FnMut(usize),
    interrupt: &'a Interrupt,
}

/// A tree that is being listed and what its commit's parents have at the same path.
struct Level {
    tree: TreeCursor,
    bases: Vec<(TreeCursor, bool)>,
    /// Bytes of the bases of this level and of all above it.
    compared_bytes: usize,
    room: Room,
    /// Whether it was listed before, and is walked for its depth alone.
    is_measured: bool,
}

/// What is known of a tree that a directory names.
enum Met {
    /// It is to be listed, unless it was.
    New,
    /// It was listed, and may stand where it is met.
    Known(Room),
    /// It was listed, and may be too deep where it is met.
    Unsure,
}

/// The levels from a root down to where the walk is. Those that are far above are let go of when all together are too
/// large, and read again when the walk comes back. Before one is let go of again as much has been walked anew.
#[derive(Default)]
struct Path {
    levels: Vec<Level>,
    /// The first level that is in memory.
    loaded: usize,
    loaded_bytes: usize,
}

impl Path {
    fn push(&mut self, level: Level) {
        self.loaded_bytes += level.tree.byte_len();
        self.levels.push(level);
        while self.loaded_bytes > PATH_BYTES_MAX && self.loaded + 1 < self.levels.len() {
            if let Some(level) = self.levels.get_mut(self.loaded) {
                self.loaded_bytes -= level.tree.byte_len();
                level.tree.unload();
            }
            self.loaded += 1;
        }
    }

    fn pop(&mut self, objects: &mut Objects) -> Result<Option<Level>, Error> {
        let Some(popped) = self.levels.pop() else {
            return Ok(None);
        };
        self.loaded_bytes -= popped.tree.byte_len();
        if self.loaded >= self.levels.len()
            && let Some(last) = self.levels.last_mut()
        {
            last.tree.reload(objects)?;
            self.loaded_bytes += last.tree.byte_len();
            self.loaded = self.levels.len() - 1;
        }
        Ok(Some(popped))
    }
}

impl<'a> Walk<'a> {
    fn new(
        known: Option<Known<'a>>,
        strict: bool,
        progress: &'a mut dyn FnMut(usize),
        interrupt: &'a Interrupt,
    ) -> Walk<'a> {
        Walk {
            list: ObjectList::new(),
            known,
            trees: Vec::new(),
            blobs: Vec::new(),
            seen: IdSet::default(),
            rooms: strict.then(Rooms::default),
            progress,
            interrupt,
        }
    }

    /// Whether nothing was listed.
    fn is_empty(&self) -> bool {
        self.list.is_empty() && self.trees.is_empty() && self.blobs.is_empty()
    }

    /// Notes that `id` was met; true if it was not before and must be listed.
    fn is_new(&mut self, id: &oid) -> bool {
        !self.known.is_some_and(|known| known.contains(id)) && self.seen.insert(id.to_owned())
    }

    /// Lists the trees of all of `found`, where nothing is excluded. All is to be listed then, so whatever was walked to
    /// its end vouches for what it holds: a commit's tree is compared with that of a child, which came before.
    fn add_all_trees(&mut self, commits: &mut Commits<'_>, found: &[CommitIndex]) -> Result<(), Error> {
        let mut children: HashMap<CommitIndex, ObjectId> = HashMap::new();
        for &commit in found {
            let tree = commits.tree(commit);
            let child = children.remove(&commit).map(|tree| (tree, false));
            self.add_tree(commits.objects(), tree, child.as_slice())?;
            for &parent in commits.parents(commit) {
                children.entry(parent).or_insert(tree);
            }
        }
        Ok(())
    }

    /// Lists trees and blobs that are wanted by themselves.
    fn add_others(&mut self, objects: &mut Objects, others: Vec<(ObjectId, Kind)>) -> Result<(), Error> {
        for (id, kind) in others {
            match kind {
                Kind::Tree => self.add_tree(objects, id, &[])?,
                _ => self.add_blob(objects, &id)?,
            }
        }
        Ok(())
    }

    fn locate(objects: &mut Objects, id: &oid) -> Result<ListedObject, Error> {
        let location = objects.locate(id)?.ok_or_else(|| Error::Missing(id.to_owned()))?;
        Ok(ListedObject {
            id: id.to_owned(),
            location,
        })
    }

    /// Lists a commit or a tag.
    fn add_listed(&mut self, objects: &mut Objects, id: ObjectId) -> Result<(), Error> {
        self.list.insert(Self::locate(objects, &id)?);
        Ok(())
    }

    fn add_blob(&mut self, objects: &mut Objects, id: &oid) -> Result<(), Error> {
        if self.is_new(id) {
            let listed = Self::locate(objects, id)?;
            if self.rooms.is_some() {
                let actual = objects.kind_at(id, listed.location)?;
                if actual != Kind::Blob {
                    return Err(Error::Kind {
                        id: id.to_owned(),
                        actual,
                        expected: Kind::Blob,
                    });
                }
            }
            self.blobs.push(listed);
            (self.progress)(self.list.len() + self.trees.len() + self.blobs.len());
        }
        Ok(())
    }

    /// Lists the tree `root` and all in it that was not met and that `parents` (their root trees, and whether the
    /// client has them) do not have at the same path.
    fn add_tree(
        &mut self,
        objects: &mut Objects,
        root: ObjectId,
        parents: &[(ObjectId, bool)],
    ) -> Result<(), Error> {
        if parents.iter().any(|&(tree, _)| tree == root) {
            return Ok(());
        }
        let mut path = Path::default();
        if let Some(level) = self.enter(objects, &root, parents, 0, false)? {
            path.push(level);
        }
        loop {
            // Where what the last level holds stands.
            let depth = path.levels.len();
            let Some(level) = path.levels.last_mut() else {
                return Ok(());
            };
            // What the client has is looked at entry by entry, because thin packs may use it.
            if let Some((base, false)) = level.bases.first_mut()
                && level.tree.skip_common(base)
            {
                level.room.hold(Room::had_at(depth));
            }
            let Some((entry, end)) = level.tree.peek()? else {
                self.leave(objects, &mut path)?;
                continue;
            };
            let (mode, id) = (entry.mode, entry.id.to_owned());
            let mut below: Vec<(ObjectId, bool)> = Vec::new();
            let mut is_had = mode == EntryMode::Gitlink;
            for (base, client_has) in &mut level.bases {
                if is_had {
                    break;
                }
                if base.skip_same(entry.raw) {
                    is_had = true;
                    if *client_has {
                        self.list.client_has.insert(id);
                    }
                    continue;
                }
                if let Some(base_id) = base.seek(entry.name, mode)? {
                    is_had = base_id == id;
                    if *client_has {
                        self.list.client_has.insert(base_id);
                    }
                    below.push((base_id, *client_has));
                }
            }
            level.tree.advance_to(end);
            match (mode, is_had) {
                (EntryMode::Gitlink, _) | (EntryMode::Blob, true) => {}
                (EntryMode::Blob, false) if level.is_measured => {}
                (EntryMode::Blob, false) => self.add_blob(objects, &id)?,
                (EntryMode::Tree, true) => {
                    if let Some(rooms) = &self.rooms {
                        level.room.hold(rooms.had(&id, depth));
                    }
                }
                (EntryMode::Tree, false) => {
                    let compared_bytes = level.compared_bytes;
                    let entered = match self.met(&id, depth, level.is_measured)? {
                        Met::Known(room) => {
                            level.room.hold(room);
                            None
                        }
                        Met::Unsure => self.enter(objects, &id, &[], compared_bytes, true)?,
                        Met::New => self.enter(objects, &id, &below, compared_bytes, false)?,
                    };
                    if let Some(entered) = entered {
                        if depth > DEPTH_MAX {
                            return Err(Error::TooDeep(id));
                        }
                        path.push(entered);
                    }
                }
            }
        }
    }

    /// What a strict walk knows of the tree `id`, which it meets at `depth`.
    fn met(&self, id: &ObjectId, depth: usize, is_measured: bool) -> Result<Met, Error> {
        let Some(rooms) = &self.rooms else {
            return Ok(Met::New);
        };
        if !is_measured && !self.seen.contains(id) {
            return Ok(Met::New);
        }
        let Some(room) = rooms.find(id) else {
            return Ok(Met::Unsure);
        };
        match room.allows(depth) {
            Some(false) => Err(Error::TooDeep(*id)),
            Some(true) if room.is_exact() || !is_measured => Ok(Met::Known(room)),
            _ => Ok(Met::Unsure),
        }
    }

    /// Lists the tree itself if it was not met, and opens it and its bases, to which `compared_bytes` are added. One
    /// that is measured is opened whether or not it was met, and not listed.
    fn enter(
        &mut self,
        objects: &mut Objects,
        id: &oid,
        bases: &[(ObjectId, bool)],
        mut compared_bytes: usize,
        is_measured: bool,
    ) -> Result<Option<Level>, Error> {
        if self.interrupt.is_triggered() {
            return Err(Error::Interrupted);
        }
        if !is_measured && !self.is_new(id) {
            return Ok(None);
        }
        let listed = Self::locate(objects, id)?;
        if !is_measured {
            self.trees.push(listed);
        }
        (self.progress)(self.list.len() + self.trees.len() + self.blobs.len());
        let tree = TreeCursor::new(id, objects.read_at(id, listed.location)?)?;
        let mut opened = Vec::with_capacity(bases.len());
        for (base, client_has) in bases {
            if *client_has {
                self.list.client_has.insert(*base);
            }
            match TreeCursor::read(objects, base) {
                Ok(tree) if compared_bytes + tree.byte_len() <= COMPARED_BYTES_MAX => {
                    compared_bytes += tree.byte_len();
                    opened.push((tree, *client_has));
                }
                Ok(_) => {}
                // What the other side has need not be whole here.
                Err(Error::Missing(_)) if *client_has => {}
                Err(err) => return Err(err),
            }
        }
        Ok(Some(Level {
            tree,
            bases: opened,
            compared_bytes,
            room: Room::EMPTY,
            is_measured,
        }))
    }

    /// Goes back up from a tree that was walked to its end.
    fn leave(&mut self, objects: &mut Objects, path: &mut Path) -> Result<(), Error> {
        let left = path.pop(objects)?;
        if let Some(level) = left
            && let Some(rooms) = &mut self.rooms
        {
            let room = rooms.insert(level.tree.id, level.room);
            if let Some(above) = path.levels.last_mut() {
                above.room.hold(room);
            }
        }
        Ok(())
    }

    fn add_tags_of(
        &mut self,
        objects: &mut Objects,
        tags: &[(ObjectId, ObjectId)],
        commits: usize,
    ) -> Result<(), Error> {
        for &(tag, target) in tags {
            let is_listed = self.list.place(&target).is_some_and(|place| place < commits);
            if !is_listed || self.list.client_has.contains(&tag) {
                continue;
            }
            let mut at = tag;
            while at != target && objects.kind(&at)? == Some(Kind::Tag) {
                self.add_listed(objects, at)?;
                at = tag_target(objects, at)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> ObjectList {
        let mut list = self.list;
        for object in self.trees.into_iter().chain(self.blobs) {
            list.insert(object);
        }
        list
    }
}
