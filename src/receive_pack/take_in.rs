//! The pack into quarantine, and the checks that let it out.

use bstr::ByteSlice;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use hashbrown::HashSet;
use std::sync::Arc;

use super::commands::Commands;
use super::input::Input;
use super::report::Reporter;
use super::{CANNOT_WRITE, FAILED_TO_UPDATE, Receiver};
use crate::pack::connectivity;
use crate::pack::ingest::{self, Bases, Fault, Ingested};
use crate::pack::scan::Scanner;
use crate::pack::{self, fsck};
use crate::repository::objects::{self, Objects};
use crate::repository::quarantine::{Connected, Quarantine};
use crate::repository::refs::{Peeled, RefSnapshot};

/// Tips that are checked one by one when not all are whole, each at the cost of a walk. Those after them are refused.
const CHECKED_ALONE_MAX: usize = 256;

/// Objects that are checked between two looks at the clock.
const FOUND_PER_LOOK: usize = 1024;

/// How taking in ends early.
pub(super) enum Error {
    /// The pack is refused; the text is for the report.
    Unpack(String),
    /// The push cannot go on.
    Push(super::Error),
}

impl<E: Into<super::Error>> From<E> for Error {
    fn from(err: E) -> Self {
        Error::Push(err.into())
    }
}

/// What was pushed, where nobody sees it.
pub(super) struct Taken {
    pub(super) quarantine: Quarantine,
    /// None where no object was sent.
    pub(super) pack: Option<Ingested>,
}

/// Bases of thin packs, from what the repository has.
struct RepositoryBases(Objects);

impl Bases for RepositoryBases {
    fn find(&mut self, id: &oid, out: &mut Vec<u8>) -> Result<Option<Kind>, objects::Error> {
        let Some(object) = self.0.read(id)? else {
            return Ok(None);
        };
        out.extend_from_slice(&object.data);
        Ok(Some(object.kind))
    }
}

/// What git reports of tips that do not reach all that they need.
const MISSING: &str = "missing necessary objects";

/// What is wrong with what tips reach.
struct Flaw {
    /// For the report.
    status: &'static str,
    /// For people.
    text: String,
}

impl Flaw {
    /// Tells a flaw of what was pushed; what has other causes stays an error.
    fn of(err: pack::Error) -> Result<Flaw, super::Error> {
        let lacking = |what: String| Flaw {
            status: MISSING,
            text: format!("error: the push does not bring everything that it needs: {what}"),
        };
        match err {
            pack::Error::Missing(id) => Ok(lacking(format!("{id} is missing"))),
            pack::Error::Kind { .. } => Ok(lacking(err.to_string())),
            pack::Error::TooDeep(_) => Ok(Flaw {
                status: "exceeded maximum allowed tree depth",
                text: format!("fatal: {err}"),
            }),
            pack::Error::Interrupted => Err(super::Error::Interrupted),
            err => Err(err.into()),
        }
    }
}

impl Receiver<'_> {
    pub(super) fn take_in(
        &self,
        input: &mut Input<'_>,
        scanner: Option<&Scanner<'_>>,
        reporter: &mut Reporter<'_>,
    ) -> Result<Taken, Error> {
        let settings = self.repository.settings();
        let quarantine = match self.repository.quarantine() {
            Ok(quarantine) => quarantine,
            Err(err) => {
                tracing::error!(
                    err = &err as &dyn std::error::Error,
                    "a pack could not be taken in"
                );
                reporter.say(&format!("fatal: {CANNOT_WRITE}\n"))?;
                return Err(Error::Unpack("the server could not store the pack".to_owned()));
            }
        };
        let mut limits = self.limits.clone();
        if settings.max_input_size > 0 {
            limits.pack_bytes_max = limits.pack_bytes_max.min(settings.max_input_size);
        }
        let options = ingest::Options {
            object_hash: self.repository.object_hash(),
            limits,
            fsck: settings.fsck_objects.then(fsck::Options::default),
            thin: true,
            compression: settings.compression,
        };
        let mut bases = RepositoryBases(self.repository.objects()?);
        let mut gone = None;
        let ingested = ingest::ingest_scanned(
            input,
            quarantine.pack_dir(),
            &mut bases,
            &options,
            scanner,
            &mut |progress| {
                if let Err(err) = reporter.progress(progress) {
                    gone.get_or_insert(err);
                    self.interrupt.trigger();
                }
            },
            self.interrupt,
        );
        if let Some(err) = gone {
            return Err(Error::Push(super::Error::Write(err)));
        }
        match ingested {
            Ok(pack) if pack.objects_count == 0 => {
                // A ref that is made from what is there already comes with an empty pack, which is not worth a file.
                for path in [Some(&pack.pack), Some(&pack.index), pack.rev.as_ref()]
                    .into_iter()
                    .flatten()
                {
                    std::fs::remove_file(path)?;
                }
                Ok(Taken {
                    quarantine,
                    pack: None,
                })
            }
            Ok(pack) => Ok(Taken {
                quarantine,
                pack: Some(pack),
            }),
            // A request that ends because nobody wants it any more is not the client's fault.
            Err(_) if self.interrupt.is_triggered() => Err(Error::Push(super::Error::Interrupted)),
            Err(err) => match err.fault() {
                Fault::Interrupted => Err(Error::Push(super::Error::Interrupted)),
                Fault::Peer | Fault::Limit => {
                    tracing::info!(%err, "a pack was refused");
                    reporter.say(&format!("fatal: {err}\n"))?;
                    Err(Error::Unpack("index-pack abnormal exit".to_owned()))
                }
                Fault::Environment => {
                    tracing::error!(
                        err = &err as &dyn std::error::Error,
                        "a pack could not be taken in"
                    );
                    let told = match err {
                        // Names a file of the server.
                        ingest::Error::Write { .. } => CANNOT_WRITE.to_owned(),
                        err => err.to_string(),
                    };
                    reporter.say(&format!("fatal: {told}\n"))?;
                    Err(Error::Unpack("the server could not store the pack".to_owned()))
                }
            },
        }
    }

    /// Refuses what the objects speak against; the proof, if anything is left, lets the quarantine out.
    pub(super) fn check(
        &self,
        commands: &mut Commands<'_>,
        refs: &RefSnapshot,
        taken: &Taken,
        reporter: &mut Reporter<'_>,
    ) -> Result<Option<Connected>, super::Error> {
        let overlay = Arc::new(
            self.repository
                .object_store()
                .overlay(taken.quarantine.object_dir())?,
        );
        let mut objects = overlay.handle()?;
        let graph = self.repository.object_store().commit_graph();
        let settings = self.repository.settings();
        let mut tips = Vec::new();
        for (place, command) in commands.open().collect::<Vec<_>>() {
            reporter.keep_alive()?;
            if command.new_id.is_null() {
                continue;
            }
            let Some(kind) = objects.kind(&command.new_id)? else {
                commands.refuse(place, "bad pack");
                continue;
            };
            let is_branch = command.name.starts_with_str("refs/heads/");
            if is_branch && kind != Kind::Commit {
                reporter.say(&format!(
                    "error: cannot update ref '{0}': trying to write non-commit object {1} to branch '{0}'\n",
                    command.name, command.new_id
                ))?;
                commands.refuse(place, FAILED_TO_UPDATE);
                continue;
            }
            tips.push((place, command));
        }
        let connected = self.check_connected(commands, refs, taken, &mut objects, &tips, reporter)?;
        for (place, command) in tips {
            let is_checked = settings.deny_non_fast_forwards
                && command.name.starts_with_str("refs/heads/")
                && !command.old_id.is_null()
                && commands.is_open(place);
            if is_checked {
                let (old, new) = (command.old_id, command.new_id);
                let is_fast_forward = objects.kind(&old)? == Some(Kind::Commit)
                    && connectivity::is_fast_forward(
                        &mut objects,
                        graph.as_deref(),
                        old,
                        new,
                        self.interrupt,
                    )?;
                if !is_fast_forward {
                    reporter.say(&format!(
                        "error: denying non-fast-forward {} (you should pull first)\n",
                        command.name
                    ))?;
                    commands.refuse(place, "non-fast-forward");
                }
            }
        }
        Ok(connected)
    }

    fn check_connected(
        &self,
        commands: &mut Commands<'_>,
        refs: &RefSnapshot,
        taken: &Taken,
        objects: &mut Objects,
        tips: &[(usize, &crate::protocol::receive::RefCommand)],
        reporter: &mut Reporter<'_>,
    ) -> Result<Option<Connected>, super::Error> {
        let ids: Vec<ObjectId> = tips.iter().map(|(_, command)| command.new_id).collect();
        if let Some(pack) = &taken.pack
            && let Some(connected) = connectivity::of_whole_pack(objects, pack, &ids)?
        {
            return Ok(Some(connected));
        }
        let vouched = self.vouched(refs, taken.pack.as_ref(), &ids)?;
        let graph = self.repository.object_store().commit_graph();
        let check = |objects: &mut Objects, ids: &[ObjectId], reporter: &mut Reporter<'_>| {
            let mut progress = |found: usize| {
                if found.is_multiple_of(FOUND_PER_LOOK) {
                    // Who does not listen any more still gets his push checked and finished.
                    let _ = reporter.keep_alive();
                }
            };
            connectivity::check(
                objects,
                graph.as_deref(),
                ids,
                &vouched,
                &mut progress,
                self.interrupt,
            )
        };
        let flaw = match check(objects, &ids, reporter) {
            Ok(connected) => return Ok(Some(connected)),
            Err(err) => Flaw::of(err)?.text,
        };
        tracing::info!(%flaw, "a push is refused for what its tips reach");
        reporter.say(&format!("{flaw}\n"))?;
        // One at a time, to let those through that are whole.
        let mut proof = None;
        for (number, (place, command)) in tips.iter().enumerate() {
            if number >= CHECKED_ALONE_MAX {
                commands.refuse(*place, MISSING);
                continue;
            }
            match check(objects, &[command.new_id], reporter) {
                Ok(connected) => proof = Some(connected),
                Err(err) => commands.refuse(*place, Flaw::of(err)?.status),
            }
        }
        if proof.is_none() && commands.any_open() {
            // Deletions are left, which need no object.
            proof = Some(check(objects, &[], reporter)?);
        }
        Ok(proof)
    }

    /// Ids that refs vouch for, enough of them to stop the walk: those next to the push if refs name all of these,
    /// which is what a push on top of a branch looks like, else all.
    fn vouched(
        &self,
        refs: &RefSnapshot,
        pack: Option<&Ingested>,
        tips: &[ObjectId],
    ) -> Result<Vec<ObjectId>, super::Error> {
        let mut objects = self.repository.objects()?;
        let mut near: HashSet<ObjectId> = HashSet::new();
        for tip in tips {
            if objects.contains(tip)? {
                near.insert(*tip);
            }
        }
        let links = pack.map(|pack| pack.outside.as_slice()).unwrap_or_default();
        near.extend(
            links
                .iter()
                .filter(|link| link.kind == Kind::Commit)
                .map(|link| link.id),
        );
        let mut named = HashSet::new();
        let mut all = Vec::new();
        for entry in refs.iter() {
            let peeled = match entry.peeled {
                Peeled::Known(peeled) => peeled,
                Peeled::Unknown => None,
            };
            named.extend(
                [Some(entry.id), peeled]
                    .into_iter()
                    .flatten()
                    .filter(|id| near.contains(id)),
            );
            all.push(entry.id);
        }
        let is_enough = !near.is_empty() && named.len() == near.len();
        Ok(if is_enough {
            named.into_iter().collect()
        } else {
            all
        })
    }
}
