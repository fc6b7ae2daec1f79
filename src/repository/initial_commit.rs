//! The first commit of a new repository, written as loose objects (gitformat-loose(5)).

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bstr::{BString, ByteSlice};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix_hash::ObjectId;
use gix_object::Kind;
use gix_object::tree::{Entry, EntryKind};

use super::quarantine::Migrated;
use super::refs::{RefChange, RefChangeError};
use super::{Error, IoContext, Repository, durable, signature};

/// The files and directories of one directory.
#[derive(Debug, Default)]
struct Dir<'a> {
    files: BTreeMap<&'a str, &'a [u8]>,
    dirs: BTreeMap<&'a str, Dir<'a>>,
}

impl<'a> Dir<'a> {
    fn add(&mut self, path: &'a str, content: &'a [u8]) {
        match path.split_once('/') {
            Some((dir, rest)) => self.dirs.entry(dir).or_default().add(rest, content),
            None => {
                self.files.insert(path, content);
            }
        }
    }
}

impl Repository {
    /// Writes a commit without parents that holds `files` (path with `/`, content) and points the branch of HEAD at
    /// it. `author` is `Name <email>`, with or without ` seconds ±hhmm` after it; it is the committer too.
    ///
    /// # Errors
    ///
    /// When HEAD is no branch or has commits, or the system fails; objects that were written by then stay.
    pub fn write_initial_commit(
        &self,
        files: &[(&str, &[u8])],
        message: &str,
        author: &str,
    ) -> Result<ObjectId, Error> {
        let branch = self.refs.head_target()?.ok_or(Error::Head)?;
        if self.refs()?.find(branch.as_bstr()).is_some() {
            return Err(Error::NotEmpty { branch });
        }
        let mut root = Dir::default();
        for (path, content) in files {
            root.add(path, content);
        }
        let tree_id = self.write_dir(&root)?;
        let author = signature::complete(author);
        let message = message.trim_end();
        let commit = format!(
            "tree {}\nauthor {author}\ncommitter {author}\n\n{message}\n",
            tree_id.to_hex()
        );
        let commit_id = self.write_loose(Kind::Commit, commit.as_bytes())?;
        let change = RefChange {
            name: branch.clone(),
            old: None,
            new: Some(commit_id),
        };
        let results = self.update_refs(&Migrated::written_in_place(), &[change], true, &author)?;
        match results.into_iter().next() {
            Some(Ok(())) => Ok(commit_id),
            Some(Err(RefChangeError::Locked { .. })) => Err(Error::TransactionBusy),
            _ => Err(Error::NotEmpty { branch }),
        }
    }

    fn write_dir(&self, dir: &Dir<'_>) -> Result<ObjectId, Error> {
        let mut entries = Vec::new();
        for (name, content) in &dir.files {
            let oid = self.write_loose(Kind::Blob, content)?;
            entries.push(Entry {
                mode: EntryKind::Blob.into(),
                filename: BString::from(*name),
                oid,
            });
        }
        for (name, dir) in &dir.dirs {
            let oid = self.write_dir(dir)?;
            entries.push(Entry {
                mode: EntryKind::Tree.into(),
                filename: BString::from(*name),
                oid,
            });
        }
        entries.sort();
        let mut data = Vec::new();
        gix_object::WriteTo::write_to(&gix_object::Tree { entries }, &mut data)
            .at("write a tree in", self.git_dir())?;
        self.write_loose(Kind::Tree, &data)
    }

    /// Writes a loose object durably.
    fn write_loose(&self, kind: Kind, data: &[u8]) -> Result<ObjectId, Error> {
        let objects = self.git_dir().join("objects");
        let id = gix_object::compute_hash(self.object_hash(), kind, data)
            .map_err(io::Error::other)
            .at("hash an object for", &objects)?;
        let hex = id.to_hex().to_string();
        let (fan_out, rest) = hex.split_at_checked(2).unwrap_or_default();
        let dir = objects.join(fan_out);
        durable::create_dirs(&dir).at("make", &dir)?;
        write_object(&objects, &dir.join(rest), kind, data).at("write an object in", &objects)?;
        durable::sync_dir(&dir).at("sync", &dir)?;
        Ok(id)
    }
}

fn write_object(objects: &Path, path: &Path, kind: Kind, data: &[u8]) -> io::Result<()> {
    if fs::exists(path)? {
        return Ok(());
    }
    // git prune removes leftovers of this name.
    let file = tempfile::Builder::new().prefix("tmp_obj_").tempfile_in(objects)?;
    let mut encoder = ZlibEncoder::new(file, Compression::default());
    encoder.write_all(&gix_object::encode::loose_header(kind, data.len() as u64))?;
    encoder.write_all(data)?;
    let file = encoder.finish()?;
    file.as_file().set_permissions(Permissions::from_mode(0o444))?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}
