//! Finding out what client and server have in common, in stateless rounds.

use std::io::Write;

use gix_hash::ObjectId;
use hashbrown::HashSet;

use super::send::{PackOptions, send_pack};
use super::{Error, Outcome, View, wants, write_error};
use crate::interrupt::Interrupt;
use crate::pack::commits::Commits;
use crate::pack::enumerate::peel_to_commit;
use crate::protocol::sideband;
use crate::protocol::v0::{AckStatus, MultiAck, UploadRequest, encode_ack, encode_nak};
use crate::protocol::v2::{AckSection, Fetch, encode_packfile_header};
use crate::repository::Repository;
use crate::repository::objects::Objects;

/// What the server knows to be common, and whether that is enough.
struct Common<'a> {
    repository: &'a Repository,
    interrupt: &'a Interrupt,
    wants: &'a [ObjectId],
    ids: Vec<ObjectId>,
    commits: HashSet<ObjectId>,
    /// The oldest of `commits`, in seconds.
    oldest: i64,
    /// An answer of [`Common::is_enough`], until another common object is found.
    is_enough: Option<bool>,
}

impl<'a> Common<'a> {
    fn new(repository: &'a Repository, wants: &'a [ObjectId], interrupt: &'a Interrupt) -> Common<'a> {
        Common {
            repository,
            interrupt,
            wants,
            ids: Vec::new(),
            commits: HashSet::new(),
            oldest: i64::MAX,
            is_enough: None,
        }
    }

    /// Notes that the client has `id`; false if the server does not have it.
    fn add(&mut self, objects: &mut Objects, id: ObjectId) -> Result<bool, Error> {
        if objects.locate_known(&id).is_none() {
            return Ok(false);
        }
        if let Some(commit) = peel_to_commit(objects, id, &mut |_| ())? {
            let date = Commits::new(objects, None, self.interrupt).date(commit)?;
            self.oldest = self.oldest.min(date);
            self.commits.insert(commit);
        }
        self.ids.push(id);
        self.is_enough = None;
        Ok(true)
    }

    /// Whether every want reaches something common, so that more haves would only make the pack a little smaller.
    fn is_enough(&mut self, objects: &mut Objects) -> Result<bool, Error> {
        if let Some(known) = self.is_enough {
            return Ok(known);
        }
        let answer = !self.commits.is_empty() && self.wants_reach_common(objects)?;
        self.is_enough = Some(answer);
        Ok(answer)
    }

    fn wants_reach_common(&self, objects: &mut Objects) -> Result<bool, Error> {
        let mut tips = Vec::new();
        for &want in self.wants {
            tips.extend(peel_to_commit(objects, want, &mut |_| ())?);
        }
        let graph = self.repository.object_store().commit_graph();
        let mut commits = Commits::new(objects, graph.as_deref(), self.interrupt);
        for tip in tips {
            if !commits.reaches_any(tip, &self.commits, self.oldest)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Refuses wants as git does; true if all may be asked for.
fn check_wants(
    repository: &Repository,
    view: &View<'_>,
    objects: &mut Objects,
    ids: &[ObjectId],
    out: &mut dyn Write,
    interrupt: &Interrupt,
) -> Result<bool, Error> {
    match wants::first_refused(repository, view, objects, ids, interrupt)? {
        None => Ok(true),
        Some(id) => {
            write_error(out, &format!("upload-pack: not our ref {id}"))?;
            Ok(false)
        }
    }
}

pub(super) fn serve_v2(
    repository: &Repository,
    request: &Fetch,
    out: &mut dyn Write,
    interrupt: &Interrupt,
) -> Result<Outcome, Error> {
    let mut outcome = Outcome {
        command: "fetch",
        wants: request.wants.len(),
        haves: request.haves.len(),
        ..Outcome::default()
    };
    if request.wants.is_empty() && !request.wait_for_done {
        return Ok(outcome);
    }
    let view = View::new(repository)?;
    let mut objects = repository.objects()?;
    if !check_wants(repository, &view, &mut objects, &request.wants, out, interrupt)? {
        return Ok(outcome);
    }
    let mut common = Common::new(repository, &request.wants, interrupt);
    let mut buffer = Vec::new();
    // Without haves there is nothing to acknowledge, and with `done` nobody reads it: git goes straight to the pack.
    let acknowledges = !request.done && !request.haves.is_empty();
    let mut section = acknowledges.then(|| AckSection::start(&mut buffer));
    for &id in &request.haves {
        if common.add(&mut objects, id)?
            && let Some(section) = &mut section
        {
            section.ack(&mut buffer, &id);
        }
    }
    if let Some(section) = section {
        if request.wait_for_done || !common.is_enough(&mut objects)? {
            section.end(&mut buffer);
            out.write_all(&buffer)?;
            return Ok(outcome);
        }
        section.end_ready(&mut buffer);
    } else if request.wait_for_done && !request.done {
        let section = AckSection::start(&mut buffer);
        section.end(&mut buffer);
        out.write_all(&buffer)?;
        return Ok(outcome);
    }
    encode_packfile_header(&mut buffer);
    out.write_all(&buffer)?;
    let options = PackOptions {
        sideband: sideband::Mode::Large,
        thin: request.thin_pack,
        ofs_delta: request.ofs_delta,
        is_quiet: request.no_progress,
        include_tag: request.include_tag,
    };
    let written = send_pack(
        &view,
        &mut objects,
        &request.wants,
        &common.ids,
        options,
        out,
        interrupt,
    )?;
    outcome.objects = written.objects;
    outcome.pack_bytes = written.bytes;
    Ok(outcome)
}

pub(super) fn serve_v0(
    repository: &Repository,
    request: &UploadRequest,
    out: &mut dyn Write,
    interrupt: &Interrupt,
) -> Result<Outcome, Error> {
    let mut outcome = Outcome {
        command: "fetch",
        wants: request.wants.len(),
        haves: request.haves.len(),
        ..Outcome::default()
    };
    let view = View::new(repository)?;
    let mut objects = repository.objects()?;
    if !check_wants(repository, &view, &mut objects, &request.wants, out, interrupt)? {
        return Ok(outcome);
    }
    let mut common = Common::new(repository, &request.wants, interrupt);
    let mut buffer = Vec::new();
    let sends_pack = acknowledge_v0(&mut common, &mut objects, request, &mut buffer)?;
    out.write_all(&buffer)?;
    if !sends_pack {
        return Ok(outcome);
    }
    let capabilities = &request.capabilities;
    let options = PackOptions {
        sideband: capabilities.sideband,
        thin: capabilities.thin_pack,
        ofs_delta: capabilities.ofs_delta,
        is_quiet: capabilities.no_progress,
        include_tag: capabilities.include_tag,
    };
    let written = send_pack(
        &view,
        &mut objects,
        &request.wants,
        &common.ids,
        options,
        out,
        interrupt,
    )?;
    outcome.objects = written.objects;
    outcome.pack_bytes = written.bytes;
    Ok(outcome)
}

/// Answers haves as upload-pack's `get_common_commits` does for one stateless request; true if the pack follows.
fn acknowledge_v0(
    common: &mut Common<'_>,
    objects: &mut Objects,
    request: &UploadRequest,
    out: &mut Vec<u8>,
) -> Result<bool, Error> {
    let multi_ack = request.capabilities.multi_ack;
    let mut last = None;
    let mut missed_any = false;
    let mut is_ready = false;
    for &id in &request.haves {
        if common.add(objects, id)? {
            last = Some(id);
            match multi_ack {
                MultiAck::Detailed => encode_ack(out, &id, AckStatus::Common),
                MultiAck::Simple => encode_ack(out, &id, AckStatus::Continue),
                MultiAck::None if common.ids.len() == 1 => encode_ack(out, &id, AckStatus::Final),
                MultiAck::None => {}
            }
            continue;
        }
        missed_any = true;
        // The client goes on down a history that the server does not have: tell it that it need not.
        if multi_ack != MultiAck::None && common.is_enough(objects)? {
            is_ready |= multi_ack == MultiAck::Detailed;
            let status = if multi_ack == MultiAck::Detailed {
                AckStatus::Ready
            } else {
                AckStatus::Continue
            };
            encode_ack(out, &id, status);
        }
    }
    if request.done {
        match last {
            Some(id) if multi_ack != MultiAck::None => encode_ack(out, &id, AckStatus::Final),
            Some(_) => {}
            None => encode_nak(out),
        }
        return Ok(true);
    }
    if request.flushes == 0 {
        return Ok(false);
    }
    if let Some(id) = last
        && multi_ack == MultiAck::Detailed
        && !missed_any
        && common.is_enough(objects)?
    {
        is_ready = true;
        encode_ack(out, &id, AckStatus::Ready);
    }
    if common.ids.is_empty() || multi_ack != MultiAck::None {
        encode_nak(out);
    }
    match last {
        Some(id) if request.capabilities.no_done && is_ready => {
            encode_ack(out, &id, AckStatus::Final);
            Ok(true)
        }
        _ => Ok(false),
    }
}
