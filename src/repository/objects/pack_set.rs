//! Which packs and object directories there are at one moment.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Error;
use super::pack_file::Pack;

/// Alternates of alternates are followed this deep, as git does.
const ALTERNATES_DEPTH_MAX: usize = 5;

/// Object directories in all. git has no bound; a list longer than this is a mistake.
const OBJECT_DIRS_MAX: usize = 64;

/// A directory that changed this shortly before it was listed may change again within the same tick of the file
/// system's clock, and would then look unchanged.
const RACY: Duration = Duration::from_millis(100);

/// What `stat` says of a directory or file: differs when an entry was added, renamed or removed, or a file replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    device: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> Option<Stamp> {
        let meta = fs::metadata(path).ok()?;
        Some(Stamp {
            inode: meta.ino(),
            device: meta.dev(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            size: meta.size(),
        })
    }

    fn is_racy(&self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(SystemTime::UNIX_EPOCH) else {
            return true;
        };
        let (seconds, nanos) = self.modified.max(self.changed);
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
            return true;
        };
        Duration::new(seconds, nanos) + RACY > now
    }
}

/// One object directory and the stamps of what a listing depends on.
#[derive(Debug, Clone)]
struct ObjectDir {
    path: PathBuf,
    pack: Option<Stamp>,
    alternates: Option<Stamp>,
    is_racy: bool,
}

impl ObjectDir {
    fn read(path: &Path) -> ObjectDir {
        let now = SystemTime::now();
        let pack = Stamp::of(&path.join("pack"));
        let alternates = Stamp::of(&path.join("info/alternates"));
        let is_racy = [pack, alternates]
            .iter()
            .flatten()
            .any(|stamp| stamp.is_racy(now));
        ObjectDir {
            path: path.to_owned(),
            pack,
            alternates,
            is_racy,
        }
    }

    fn is_current(&self) -> bool {
        !self.is_racy
            && Stamp::of(&self.path.join("pack")) == self.pack
            && Stamp::of(&self.path.join("info/alternates")) == self.alternates
    }
}

/// A multi-pack-index and the packs it covers, in its own order.
pub(crate) struct MultiIndex {
    pub(crate) file: gix_pack::multi_index::File,
    pub(crate) packs: Vec<Arc<Pack>>,
}

impl std::fmt::Debug for MultiIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MultiIndex({})", self.file.path().display())
    }
}

/// All packs of one object database at one moment; never changed.
#[derive(Debug)]
pub(crate) struct PackSet {
    hash: gix_hash::Kind,
    dirs: Vec<ObjectDir>,
    pub(crate) packs: Vec<Arc<Pack>>,
    pub(crate) multi_indexes: Vec<Arc<MultiIndex>>,
}

impl PackSet {
    pub(crate) fn read(
        objects_dir: &Path,
        hash: gix_hash::Kind,
        known: Option<&PackSet>,
    ) -> Result<PackSet, Error> {
        let mut dirs = Vec::new();
        collect_dirs(objects_dir, 0, &mut dirs)?;
        let mut set = PackSet {
            hash,
            dirs,
            packs: Vec::new(),
            multi_indexes: Vec::new(),
        };
        set.list(known)?;
        Ok(set)
    }

    /// A set with `objects_dir` before everything that `below` has.
    pub(crate) fn overlay(objects_dir: &Path, below: &PackSet) -> Result<PackSet, Error> {
        let mut top = PackSet::read(objects_dir, below.hash, None)?;
        top.dirs.extend(below.dirs.iter().cloned());
        top.packs.extend(below.packs.iter().cloned());
        top.multi_indexes.extend(below.multi_indexes.iter().cloned());
        Ok(top)
    }

    pub(crate) fn is_current(&self) -> bool {
        self.dirs.iter().all(ObjectDir::is_current)
    }

    /// Lists the same directories again, keeping the packs that are still there open.
    pub(crate) fn reread(&self) -> Result<PackSet, Error> {
        let mut dirs: Vec<ObjectDir> = Vec::new();
        for dir in &self.dirs {
            if !dirs.iter().any(|known| known.path == dir.path) {
                collect_dirs(&dir.path, 0, &mut dirs)?;
            }
        }
        let mut set = PackSet {
            hash: self.hash,
            dirs,
            packs: Vec::new(),
            multi_indexes: Vec::new(),
        };
        set.list(Some(self))?;
        Ok(set)
    }

    /// The directory that the repository writes to itself.
    pub(crate) fn own_dir(&self) -> Option<&Path> {
        self.dirs.first().map(|dir| dir.path.as_path())
    }

    pub(crate) fn object_dirs(&self) -> impl Iterator<Item = &Path> {
        self.dirs.iter().map(|dir| dir.path.as_path())
    }

    fn list(&mut self, known: Option<&PackSet>) -> Result<(), Error> {
        let mut open: HashMap<&Path, &Arc<Pack>> = HashMap::new();
        if let Some(known) = known {
            open.extend(known.packs.iter().map(|pack| (pack.index_path(), pack)));
        }
        for dir in &self.dirs {
            let pack_dir = dir.path.join("pack");
            let mut found: Vec<(SystemTime, Arc<Pack>)> = Vec::new();
            let entries = match fs::read_dir(&pack_dir) {
                Ok(entries) => entries,
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                Err(err) => return Err(Error::io(&pack_dir)(err)),
            };
            let mut indexes: Vec<PathBuf> = Vec::new();
            let mut with_bitmaps: HashSet<PathBuf> = HashSet::new();
            for entry in entries {
                let path = entry.map_err(Error::io(&pack_dir))?.path();
                match path.extension().and_then(|ext| ext.to_str()) {
                    Some("idx") => indexes.push(path),
                    Some("bitmap") => {
                        with_bitmaps.insert(path.with_extension("idx"));
                    }
                    _ => {}
                }
            }
            for path in indexes {
                let has_bitmaps = with_bitmaps.contains(&path);
                // A pack that a concurrent `git gc` removes between two looks is as if it had never been there.
                let Ok(meta) = fs::metadata(path.with_extension("pack")) else {
                    continue;
                };
                let pack = match open.get(path.as_path()) {
                    Some(pack) if pack.is_file(&meta, has_bitmaps) => Arc::clone(pack),
                    _ => Arc::new(Pack::new(path, &meta, self.hash, has_bitmaps)),
                };
                found.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), pack));
            }
            // Newest first: what was pushed last is asked for most.
            found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.index_path().cmp(b.1.index_path())));
            let packs: Vec<Arc<Pack>> = found.into_iter().map(|(_, pack)| pack).collect();
            self.multi_indexes
                .extend(read_multi_index(&pack_dir, &packs, self.hash, known));
            self.packs.extend(packs);
        }
        Ok(())
    }
}

/// Reads `multi-pack-index` if there is one and all of its packs are among `packs`.
fn read_multi_index(
    pack_dir: &Path,
    packs: &[Arc<Pack>],
    hash: gix_hash::Kind,
    known: Option<&PackSet>,
) -> Option<Arc<MultiIndex>> {
    let path = pack_dir.join("multi-pack-index");
    let file = gix_pack::multi_index::File::at(&path, None).ok()?;
    if file.object_hash() != hash {
        return None;
    }
    let mut members = Vec::new();
    for name in file.index_names() {
        let Some(pack) = packs
            .iter()
            .find(|pack| pack.index_path().file_name() == Some(name.as_os_str()))
        else {
            tracing::debug!(path = %path.display(), "the multi-pack-index names a pack that is gone: not used");
            return None;
        };
        members.push(Arc::clone(pack));
    }
    let same = known.and_then(|known| {
        known.multi_indexes.iter().find(|midx| {
            midx.file.path() == path
                && midx.file.checksum() == file.checksum()
                && midx.packs.len() == members.len()
                && midx.packs.iter().zip(&members).all(|(a, b)| Arc::ptr_eq(a, b))
        })
    });
    Some(same.map_or_else(|| Arc::new(MultiIndex { file, packs: members }), Arc::clone))
}

fn collect_dirs(dir: &Path, depth: usize, out: &mut Vec<ObjectDir>) -> Result<(), Error> {
    if out.len() >= OBJECT_DIRS_MAX || out.iter().any(|known| known.path == dir) {
        return Ok(());
    }
    let entry = ObjectDir::read(dir);
    let has_alternates = entry.alternates.is_some();
    out.push(entry);
    if !has_alternates || depth >= ALTERNATES_DEPTH_MAX {
        return Ok(());
    }
    let list = dir.join("info/alternates");
    let text = fs::read(&list).map_err(Error::io(&list))?;
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(line));
        let path = if path.is_absolute() {
            path.to_owned()
        } else {
            dir.join(path)
        };
        match path.canonicalize() {
            Ok(path) => collect_dirs(&path, depth + 1, out)?,
            Err(_) => {
                tracing::warn!(path = %path.display(), "an alternate object directory is not there: left out")
            }
        }
    }
    Ok(())
}
