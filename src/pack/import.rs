//! Copying a repository or a bundle from the local disk into a repository here, by the way that pushes take.
//!
//! Spec: gitformat-bundle(5), gitrepository-layout(5).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bstr::{BString, ByteSlice};
use gix_hash::ObjectId;

use super::copy::{self, NoBases, copy};
use super::enumerate::{Request, enumerate};
use super::ingest::{self, Ingested, Progress};
use super::{connectivity, fsck};
use crate::interrupt::Interrupt;
use crate::limits::PushLimits;
use crate::repository::refs::{Head, RefChange, is_valid_name};
use crate::repository::{self, Repository};

/// Bytes of a bundle's header. A million refs with long names fit.
const BUNDLE_HEADER_BYTES_MAX: u64 = 256 << 20;

/// Refs that belong to one working copy and mean nothing elsewhere.
const LOCAL_REFS: [&str; 6] = [
    "refs/remotes/",
    "refs/stash",
    "refs/bisect/",
    "refs/worktree/",
    "refs/rewritten/",
    "refs/original/",
];

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle holds less than all objects.
    #[error(
        "the bundle builds on commits that it does not hold; make one with 'git bundle create FILE --all'"
    )]
    BundleIsPartial,
    /// The file is no bundle of version 2 or 3.
    #[error("'{}' is neither a repository nor a bundle: {what}", path.display())]
    NotASource {
        /// What was to be imported.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The source uses another hash than the target.
    #[error("the source names objects by {from}, the target by {to}")]
    ObjectFormat {
        /// The source's.
        from: gix_hash::Kind,
        /// The target's.
        to: gix_hash::Kind,
    },
    /// The source cannot be read.
    #[error("cannot read '{}'", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Objects of the source cannot be walked or read.
    #[error("the source is not whole")]
    Walk(#[from] super::Error),
    /// The pack was refused.
    #[error("the objects were not taken")]
    Ingest(#[from] ingest::Error),
    /// A ref was refused.
    #[error("ref '{name}' was not taken: {reason}")]
    Ref {
        /// Its name.
        name: BString,
        /// Why.
        reason: String,
    },
    /// The target cannot be written, or the source's refs not read.
    #[error(transparent)]
    Repository(#[from] repository::Error),
}

/// What was imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Objects in the new pack.
    pub objects: u64,
    /// Bytes of the new pack.
    pub bytes: u64,
    /// Refs that were made.
    pub refs: usize,
}

/// Something to import.
#[derive(Debug)]
pub struct Source {
    object_hash: gix_hash::Kind,
    head: Option<BString>,
    refs: Vec<(BString, ObjectId)>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Repository(Box<Repository>),
    /// A file whose pack starts at an offset.
    Bundle {
        path: PathBuf,
        pack_offset: u64,
    },
}

impl Source {
    /// Opens a bare or non-bare repository, or a bundle.
    ///
    /// # Errors
    ///
    /// When it is none of these, not whole (a shallow clone, a bundle with prerequisites), or unreadable.
    pub fn open(path: &Path) -> Result<Source, Error> {
        let meta = std::fs::metadata(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        if meta.is_file() {
            return open_bundle(path);
        }
        let dot_git = path.join(".git");
        let git_dir = if dot_git.is_dir() {
            dot_git
        } else if dot_git.is_file() {
            gitfile_target(&dot_git)?
        } else {
            path.to_owned()
        };
        if !git_dir.join("objects").is_dir() || !git_dir.join("HEAD").exists() {
            let what = "it has no HEAD or no objects".to_owned();
            return Err(Error::NotASource {
                path: path.to_owned(),
                what,
            });
        }
        let repository = Repository::open(&git_dir)?;
        let snapshot = repository.refs()?;
        let refs = snapshot
            .iter()
            .filter(|entry| !LOCAL_REFS.iter().any(|local| entry.name.starts_with_str(local)))
            .map(|entry| (entry.name.to_owned(), entry.id))
            .collect();
        let head = match snapshot.head() {
            Head::Symbolic { target, .. } => Some(target.clone()),
            Head::Detached(_) => None,
        };
        Ok(Source {
            object_hash: repository.object_hash(),
            head,
            refs,
            content: Content::Repository(Box::new(repository)),
        })
    }

    /// The hash that names its objects; the target must be made for the same.
    pub fn object_hash(&self) -> gix_hash::Kind {
        self.object_hash
    }

    /// The full name of the branch that its HEAD points at, if it is known.
    pub fn head(&self) -> Option<&BString> {
        self.head.as_ref()
    }

    /// Copies all refs and what they reach into `target`, which has none yet.
    ///
    /// `checks` tells which findings refuse an object; `None` takes what git could read.
    ///
    /// # Errors
    ///
    /// When something cannot be read, is refused, or is missing. `target` then has no ref, and no object of it.
    pub fn copy_into(
        &self,
        target: &Arc<Repository>,
        checks: Option<fsck::Options>,
        limits: &PushLimits,
        progress: &mut dyn FnMut(Progress),
        interrupt: &Interrupt,
    ) -> Result<Imported, Error> {
        if self.object_hash != target.object_hash() {
            return Err(Error::ObjectFormat {
                from: self.object_hash,
                to: target.object_hash(),
            });
        }
        if self.refs.is_empty() {
            self.set_head(target)?;
            return Ok(Imported::default());
        }
        let quarantine = target.quarantine()?;
        let options = ingest::Options {
            object_hash: self.object_hash,
            limits: limits.clone(),
            fsck: checks,
            thin: false,
            compression: target.settings().compression,
        };
        let pack = match &self.content {
            Content::Repository(repository) => {
                self.ingest_repository(repository, quarantine.pack_dir(), &options, progress, interrupt)?
            }
            Content::Bundle { path, pack_offset } => {
                let mut file = open_at(path, *pack_offset)?;
                ingest::ingest(
                    &mut file,
                    quarantine.pack_dir(),
                    &mut NoBases,
                    &options,
                    progress,
                    interrupt,
                )?
            }
        };
        let tips: Vec<ObjectId> = self.refs.iter().map(|(_, id)| *id).collect();
        let overlay = Arc::new(
            target
                .object_store()
                .overlay(quarantine.object_dir())
                .map_err(super::Error::from)?,
        );
        let mut objects = overlay.handle().map_err(super::Error::from)?;
        let connected = match connectivity::of_whole_pack(&mut objects, &pack, &tips)? {
            Some(connected) => connected,
            None => connectivity::check(&mut objects, None, &tips, &[], &mut |_| (), interrupt)?,
        };
        let migrated = quarantine.into_checked(&connected).migrate()?;
        let changes: Vec<RefChange> = self
            .refs
            .iter()
            .map(|(name, id)| RefChange {
                name: name.clone(),
                old: None,
                new: Some(*id),
            })
            .collect();
        for (change, result) in
            changes
                .iter()
                .zip(target.update_refs(&migrated, &changes, true, "import <import@patgate>")?)
        {
            result.map_err(|err| Error::Ref {
                name: change.name.clone(),
                reason: err.to_string(),
            })?;
        }
        self.set_head(target)?;
        Ok(Imported {
            objects: u64::from(pack.objects_count),
            bytes: pack.bytes_written,
            refs: changes.len(),
        })
    }

    fn set_head(&self, target: &Repository) -> Result<(), Error> {
        match &self.head {
            Some(head) if is_valid_name(head.as_ref()) => Ok(target.set_head(head.as_ref())?),
            _ => Ok(()),
        }
    }

    /// Copies all that the refs reach.
    fn ingest_repository(
        &self,
        repository: &Repository,
        dir: &Path,
        options: &ingest::Options,
        progress: &mut dyn FnMut(Progress),
        interrupt: &Interrupt,
    ) -> Result<Ingested, Error> {
        let mut objects = repository.objects()?;
        let graph = repository.object_store().commit_graph();
        let wants: Vec<ObjectId> = self.refs.iter().map(|(_, id)| *id).collect();
        let request = Request {
            wants: &wants,
            haves: &[],
            tags: &[],
            strict: false,
            names_whole_pack: false,
        };
        let list = enumerate(&mut objects, graph.as_deref(), &request, &mut |_| (), interrupt)?;
        Ok(copy(&mut objects, &list, dir, options, progress, interrupt)?)
    }
}

impl From<copy::Error> for Error {
    fn from(err: copy::Error) -> Self {
        match err {
            copy::Error::Ingest(err) => Error::Ingest(err),
            copy::Error::Pipe(source) => Error::Read {
                path: PathBuf::from("pipe"),
                source,
            },
            copy::Error::Write(err) => Error::Walk(err),
        }
    }
}

/// Where a `.git` file of a linked working tree or submodule points.
fn gitfile_target(path: &Path) -> Result<PathBuf, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let target = text
        .strip_prefix("gitdir: ")
        .map(str::trim_end)
        .ok_or_else(|| Error::NotASource {
            path: path.to_owned(),
            what: "its .git file names no directory".to_owned(),
        })?;
    let git_dir = path.parent().unwrap_or(Path::new("")).join(target);
    // A linked working tree keeps objects and refs in the main one's directory.
    match std::fs::read_to_string(git_dir.join("commondir")) {
        Ok(common) => Ok(git_dir.join(common.trim_end())),
        Err(_) => Ok(git_dir),
    }
}

fn open_at(path: &Path, offset: u64) -> Result<BufReader<File>, Error> {
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(read)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(offset)).map_err(read)?;
    Ok(BufReader::with_capacity(64 << 10, file))
}

fn open_bundle(path: &Path) -> Result<Source, Error> {
    let not = |what: &str| Error::NotASource {
        path: path.to_owned(),
        what: what.to_owned(),
    };
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut input = open_at(path, 0)?.take(BUNDLE_HEADER_BYTES_MAX);
    let mut offset = 0;
    let mut next_line = |line: &mut Vec<u8>| -> Result<(), Error> {
        line.clear();
        offset += input.read_until(b'\n', line).map_err(read)? as u64;
        line.pop()
            .filter(|last| *last == b'\n')
            .map(drop)
            .ok_or_else(|| not("its header has no end"))
    };
    let mut line = Vec::new();
    next_line(&mut line)?;
    if line != b"# v2 git bundle" && line != b"# v3 git bundle" {
        return Err(not("it does not begin as a bundle of version 2 or 3"));
    }
    let mut object_hash = gix_hash::Kind::Sha1;
    let mut refs: Vec<(BString, ObjectId)> = Vec::new();
    let mut head_id = None;
    loop {
        next_line(&mut line)?;
        if line.is_empty() {
            break;
        }
        if let Some(capability) = line.strip_prefix(b"@") {
            object_hash = match capability {
                b"object-format=sha1" => gix_hash::Kind::Sha1,
                b"object-format=sha256" => gix_hash::Kind::Sha256,
                other => return Err(not(&format!("it needs '{}'", other.escape_ascii()))),
            };
            continue;
        }
        if line.starts_with(b"-") {
            return Err(Error::BundleIsPartial);
        }
        let (hex, name) = line
            .split_once_str(" ")
            .ok_or_else(|| not("a line of its header names no ref"))?;
        let id = ObjectId::from_hex(hex).map_err(|_| not("a line of its header has no object id"))?;
        match name {
            b"HEAD" => head_id = Some(id),
            name if is_valid_name(name.as_bstr()) => refs.push((name.into(), id)),
            // The HEADs of linked working trees, which mean nothing elsewhere.
            name if !name.starts_with(b"refs/") => {}
            name => return Err(not(&format!("it names a ref '{}'", name.escape_ascii()))),
        }
    }
    // A bundle says what HEAD is, not which branch it points at.
    let head = head_id.and_then(|id| {
        let mut branches = refs
            .iter()
            .filter(|(name, at)| *at == id && name.starts_with_str("refs/heads/"));
        let first = branches.next()?;
        let main = refs
            .iter()
            .find(|(name, at)| *at == id && (name == "refs/heads/main" || name == "refs/heads/master"));
        Some(main.unwrap_or(first).0.clone())
    });
    refs.retain(|(name, _)| !LOCAL_REFS.iter().any(|local| name.starts_with_str(local)));
    if refs.is_empty() {
        return Err(not(
            "it holds no branch or tag; make one with 'git bundle create FILE --all'",
        ));
    }
    let content = Content::Bundle {
        path: path.to_owned(),
        pack_offset: offset,
    };
    Ok(Source {
        object_hash,
        head,
        refs,
        content,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_bundle_without_a_branch_or_tag_is_refused_rather_than_imported_as_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let script = "git init -q -b main . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m c \
            && git bundle create -q head HEAD && git bundle create -q all --all";
        let done = Command::new("sh")
            .args(["-c", script])
            .current_dir(dir.path())
            .status();
        assert!(done.unwrap().success());
        let refused = Source::open(&dir.path().join("head")).unwrap_err();
        assert!(refused.to_string().contains("--all"), "{refused}");
        let source = Source::open(&dir.path().join("all")).unwrap();
        assert_eq!(source.head().unwrap(), "refs/heads/main");
    }
}
