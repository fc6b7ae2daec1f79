//! Reading a whole repository to see that it is whole: every object is what its name says, is well-formed, and
//! everything that refs reach is there. Spec: git-fsck(1).

use gix_hash::ObjectId;

use super::{Error, connectivity, fsck};
use crate::interrupt::Interrupt;
use crate::repository::objects::{self, Location, Objects};
use crate::repository::{self, Repository};

/// Findings that are kept; a repository with more has one problem, not a thousand.
const FINDINGS_COUNT_MAX: usize = 1000;

/// Times that a repository is read before damage is believed.
const LOOKS_MAX: usize = 3;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Objects that were read.
    pub objects: u64,
    /// What is wrong, a line each; at most 1,000.
    pub findings: Vec<String>,
}

/// Why the repository could not be read through.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A directory or the refs cannot be read.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The object database cannot be listed.
    #[error(transparent)]
    Objects(#[from] objects::Error),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Reads every object of `repository`, and then all that its refs reach.
///
/// `progress` is told how many objects were read.
///
/// # Errors
///
/// When a directory cannot be read or the interrupt was triggered; damage is a finding, not an error.
pub fn verify(
    repository: &Repository,
    progress: &mut dyn FnMut(u64),
    interrupt: &Interrupt,
) -> Result<Report, VerifyError> {
    for _ in 1..LOOKS_MAX {
        let report = look(repository, progress, interrupt)?;
        if report.findings.is_empty() {
            return Ok(report);
        }
        // A `git gc` moves objects while they are read; what is damaged stays damaged.
        repository.object_store().refresh()?;
    }
    look(repository, progress, interrupt)
}

fn look(
    repository: &Repository,
    progress: &mut dyn FnMut(u64),
    interrupt: &Interrupt,
) -> Result<Report, VerifyError> {
    let mut report = Report::default();
    let mut objects = repository.objects()?;
    let options = fsck::Options::default();
    for (place, pack) in objects.packs().to_vec().iter().enumerate() {
        if pack.index().is_none() {
            report.note(format!(
                "pack '{}' has no usable index",
                pack.index_path().display()
            ));
        }
        for (offset, id) in pack.objects() {
            if interrupt.is_triggered() {
                return Err(VerifyError::Interrupted);
            }
            report.read_one(
                &mut objects,
                id,
                Location::Packed {
                    pack: place as u32,
                    offset,
                },
                &options,
            );
            progress(report.objects);
        }
    }
    for (id, location) in objects.loose()? {
        if interrupt.is_triggered() {
            return Err(VerifyError::Interrupted);
        }
        report.read_one(&mut objects, id, location, &options);
        progress(report.objects);
    }
    let tips: Vec<ObjectId> = repository.refs()?.iter().map(|entry| entry.id).collect();
    match connectivity::check(&mut objects, None, &tips, &[], &mut |_| (), interrupt) {
        Ok(_) => {}
        Err(Error::Interrupted) => return Err(VerifyError::Interrupted),
        Err(err) => report.note(format!("the refs do not reach everything: {err}")),
    }
    Ok(report)
}

impl Report {
    fn note(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_COUNT_MAX {
            self.findings.push(finding);
        }
    }

    fn read_one(&mut self, objects: &mut Objects, id: ObjectId, location: Location, options: &fsck::Options) {
        self.objects += 1;
        let hash = objects.object_hash();
        let object = match objects.read_at(&id, location) {
            Ok(object) => object,
            Err(err) => return self.note(err.to_string()),
        };
        match gix_object::compute_hash(hash, object.kind, &object.data) {
            Ok(actual) if actual == id => {}
            Ok(actual) => return self.note(format!("object {id} hashes to {actual}")),
            Err(err) => return self.note(format!("object {id}: {err}")),
        }
        if let Err(finding) = fsck::check(object.kind, &object.data, hash, options) {
            self.note(format!("object {id}: {finding}"));
        }
    }
}
