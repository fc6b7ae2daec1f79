//! Finding out what client and server have in common, in stateless rounds.

use std::io::Write;

use gix_hash::ObjectId;
use hashbrown::HashSet;

use super::send::{PackOptions, send_pack};
use super::{Error, Outcome, View, refuse, wants};
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
    /// An answer of [`Common::is_enough`]: for good if it is yes, else until another common commit is found.
    is_enough: Option<bool>,
    /// How many common commits there must be before [`Common::is_enough_so_far`] looks again.
    next_look: usize,
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
            next_look: 1,
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
            if self.commits.insert(commit) && self.is_enough == Some(false) {
                self.is_enough = None;
            }
        }
        self.ids.push(id);
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

    /// The same for between two haves, where a wrong "no" costs little: walks the history only when there are twice as
    /// many common commits as at the last look, because a request can have a hundred thousand haves.
    fn is_enough_so_far(&mut self, objects: &mut Objects) -> Result<bool, Error> {
        if self.is_enough.is_none() && self.commits.len() >= self.next_look {
            self.next_look = self.commits.len() * 2;
            self.is_enough(objects)?;
        }
        Ok(self.is_enough == Some(true))
    }

    fn wants_reach_common(&self, objects: &mut Objects) -> Result<bool, Error> {
        let mut tips = Vec::new();
        for &want in self.wants {
            tips.extend(peel_to_commit(objects, want, &mut |_| ())?);
        }
        let graph = self.repository.object_store().commit_graph();
        let mut commits = Commits::new(objects, graph.as_deref(), self.interrupt);
        Ok(commits.all_reach(&tips, &self.commits, self.oldest)?)
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
    outcome: &mut Outcome,
) -> Result<bool, Error> {
    match wants::first_refused(repository, view, objects, ids, interrupt)? {
        None => Ok(true),
        Some(id) => {
            refuse(out, format!("upload-pack: not our ref {id}"), outcome)?;
            Ok(false)
        }
    }
}

pub(super) fn serve_v2(
    repository: &Repository,
    request: &Fetch,
    notice: Option<&str>,
    out: &mut dyn Write,
    interrupt: &Interrupt,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    *outcome = Outcome {
        command: "fetch",
        wants: request.wants.len(),
        haves: request.haves.len(),
        ..Outcome::default()
    };
    if request.wants.is_empty() && !request.wait_for_done {
        return Ok(());
    }
    let view = View::new(repository)?;
    let mut objects = repository.objects()?;
    if !check_wants(
        repository,
        &view,
        &mut objects,
        &request.wants,
        out,
        interrupt,
        outcome,
    )? {
        return Ok(());
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
            return Ok(());
        }
        section.end_ready(&mut buffer);
    } else if request.wait_for_done && !request.done {
        let section = AckSection::start(&mut buffer);
        section.end(&mut buffer);
        out.write_all(&buffer)?;
        return Ok(());
    }
    encode_packfile_header(&mut buffer);
    out.write_all(&buffer)?;
    let options = PackOptions {
        sideband: sideband::Mode::Large,
        thin: request.thin_pack,
        ofs_delta: request.ofs_delta,
        is_quiet: request.no_progress,
        include_tag: request.include_tag,
        notice,
    };
    send_pack(
        &view,
        &mut objects,
        &request.wants,
        &common.ids,
        options,
        out,
        interrupt,
        outcome,
    )
}

pub(super) fn serve_v0(
    repository: &Repository,
    request: &UploadRequest,
    notice: Option<&str>,
    out: &mut dyn Write,
    interrupt: &Interrupt,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    *outcome = Outcome {
        command: "fetch",
        wants: request.wants.len(),
        haves: request.haves.len(),
        ..Outcome::default()
    };
    let view = View::new(repository)?;
    let mut objects = repository.objects()?;
    if !check_wants(
        repository,
        &view,
        &mut objects,
        &request.wants,
        out,
        interrupt,
        outcome,
    )? {
        return Ok(());
    }
    let mut common = Common::new(repository, &request.wants, interrupt);
    let mut buffer = Vec::new();
    let sends_pack = acknowledge_v0(&mut common, &mut objects, request, &mut buffer)?;
    out.write_all(&buffer)?;
    if !sends_pack {
        return Ok(());
    }
    let capabilities = &request.capabilities;
    let options = PackOptions {
        sideband: capabilities.sideband,
        thin: capabilities.thin_pack,
        ofs_delta: capabilities.ofs_delta,
        is_quiet: capabilities.no_progress,
        include_tag: capabilities.include_tag,
        notice,
    };
    send_pack(
        &view,
        &mut objects,
        &request.wants,
        &common.ids,
        options,
        out,
        interrupt,
        outcome,
    )
}

/// Answers haves as upload-pack's `get_common_commits` does for one stateless request; true if the pack follows.
fn acknowledge_v0(
    common: &mut Common<'_>,
    objects: &mut Objects,
    request: &UploadRequest,
    out: &mut Vec<u8>,
) -> Result<bool, Error> {
    let multi_ack = request.capabilities.multi_ack;
    // How a client is told that the server knows enough.
    let enough = match multi_ack {
        MultiAck::Detailed => Some(AckStatus::Ready),
        MultiAck::Simple => Some(AckStatus::Continue),
        MultiAck::None => None,
    };
    let mut last = None;
    let mut missed_any = false;
    // A have after which the client was not told that it is enough, for want of a look.
    let mut unlooked = None;
    let mut is_ready = false;
    for &id in &request.haves {
        if common.add(objects, id)? {
            last = Some(id);
            unlooked = None;
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
        if let Some(status) = enough
            && common.is_enough_so_far(objects)?
        {
            is_ready |= multi_ack == MultiAck::Detailed;
            encode_ack(out, &id, status);
        }
        unlooked = common.is_enough.is_none().then_some(id);
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
    let told_at_the_end = match multi_ack {
        MultiAck::Detailed if !missed_any => last,
        _ => unlooked,
    };
    if let (Some(id), Some(status)) = (told_at_the_end, enough)
        && common.is_enough(objects)?
    {
        is_ready |= multi_ack == MultiAck::Detailed;
        encode_ack(out, &id, status);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::create;
    use crate::repository::testing::git_text;
    use std::sync::Arc;

    /// A line of `count` commits on main, oldest first, and one commit apart from them.
    fn repository(count: usize) -> (tempfile::TempDir, Arc<Repository>, Vec<ObjectId>, ObjectId) {
        let dir = tempfile::tempdir().unwrap();
        let git_dir = create(&dir.path().join("r.git"), gix_hash::Kind::Sha1, "main").unwrap();
        let mut stream = String::new();
        for (branch, count) in [("main", count), ("apart", 1)] {
            for date in 1..=count {
                stream += &format!(
                    "commit refs/heads/{branch}\ncommitter a <a@b> {date} +0000\ndata 5\n{branch:.4}\n\n"
                );
            }
        }
        let git = |args: &[&str], input: &str| git_text(&git_dir, args, input.as_bytes());
        git(&["fast-import", "--quiet"], &stream);
        let ids = |text: String| -> Vec<ObjectId> {
            text.lines()
                .map(|line| ObjectId::from_hex(line.as_bytes()).unwrap())
                .collect()
        };
        let line = ids(git(&["rev-list", "--reverse", "main"], ""));
        let apart = ids(git(&["rev-parse", "apart"], ""))[0];
        let repository = Arc::new(Repository::open(&git_dir).unwrap());
        (dir, repository, line, apart)
    }

    fn request(wants: Vec<ObjectId>, haves: Vec<ObjectId>) -> UploadRequest {
        let capabilities = crate::protocol::v0::Capabilities {
            multi_ack: MultiAck::Detailed,
            ..Default::default()
        };
        UploadRequest {
            wants,
            haves,
            capabilities,
            done: false,
            flushes: 1,
        }
    }

    fn acknowledged(repository: &Repository, request: &UploadRequest) -> String {
        let interrupt = Interrupt::new();
        let mut common = Common::new(repository, &request.wants, &interrupt);
        let mut out = Vec::new();
        acknowledge_v0(&mut common, &mut repository.objects().unwrap(), request, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn absent(number: usize) -> ObjectId {
        ObjectId::from_hex(format!("{number:040x}").as_bytes()).unwrap()
    }

    #[test]
    fn a_client_is_told_once_what_it_has_is_enough_also_between_two_looks() {
        let (_dir, repository, line, apart) = repository(8);
        let tip = *line.last().unwrap();
        let haves = vec![apart, absent(1), line[0], absent(2), line[1], absent(3)];
        let told = acknowledged(&repository, &request(vec![tip], haves));
        assert!(told.contains(&format!("ACK {} ready", absent(2))), "{told}");
        let other = vec![line[0], absent(1), line[1], absent(2), line[2], absent(3)];
        let told = acknowledged(&repository, &request(vec![apart, tip], other.clone()));
        assert!(!told.contains("ready"), "{told}");
        // Looks are taken at one and two common commits and at the end.
        let third = [&other[..4], &[apart, absent(3)]].concat();
        let told = acknowledged(&repository, &request(vec![apart, tip], third));
        assert!(told.contains(&format!("ACK {} ready", absent(3))), "{told}");
    }

    #[test]
    fn haves_that_never_suffice_do_not_make_the_server_walk_the_history_for_each() {
        let (_dir, repository, line, apart) = repository(1500);
        let haves: Vec<ObjectId> = (1..)
            .zip(&line)
            .flat_map(|(number, &id)| [id, absent(number)])
            .collect();
        let wants = [&line[1000..], &[apart]].concat();
        let request = request(wants, haves);
        let interrupt = Interrupt::new();
        let mut common = Common::new(&repository, &request.wants, &interrupt);
        let mut objects = repository.objects().unwrap();
        let mut looks = 0;
        for &id in &request.haves {
            if !common.add(&mut objects, id).unwrap() {
                let before = common.is_enough;
                assert!(!common.is_enough_so_far(&mut objects).unwrap());
                looks += usize::from(before.is_none() && common.is_enough.is_some());
            }
        }
        assert!((2..=12).contains(&looks), "{looks} looks");
    }
}
