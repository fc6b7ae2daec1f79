//! Exchanges of real gits, from `fixtures/wire`: decoded whole and in pieces, and encoded as git does.

use std::fs;
use std::path::{Path, PathBuf};

use bstr::{BStr, ByteSlice};
use gix_hash::{Kind, ObjectId};

use crate::limits::{FetchLimits, PushLimits};
use crate::protocol::pkt_line::{self, Packets, PktLine};
use crate::protocol::receive::{self, CommandDecoder, Progress, PushRequest};
use crate::protocol::{Service, Version, v0, v2};

/// A recorded file, as its name describes it.
struct Recording {
    scenario: String,
    path: PathBuf,
    client: String,
    bytes: Vec<u8>,
}

impl Recording {
    fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }

    fn hash(&self) -> Kind {
        if self.scenario.contains("sha256") {
            Kind::Sha256
        } else {
            Kind::Sha1
        }
    }

    /// The recorded version; the scenarios without one used 2.
    fn version(&self) -> Version {
        match self.scenario.rsplit_once("-v") {
            Some((_, "0")) => Version::V0,
            Some((_, "1")) => Version::V1,
            _ => Version::V2,
        }
    }
}

/// The recordings whose name ends in `suffix`, in their order.
fn recordings(suffix: &str) -> Vec<Recording> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire");
    let mut found = Vec::new();
    for folder in entries(&root).into_iter().filter(|path| path.is_dir()) {
        for path in entries(&folder) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(suffix) {
                let client = name.splitn(3, '-').take(2).collect::<Vec<_>>().join("-");
                let scenario = folder.file_name().unwrap().to_str().unwrap().to_owned();
                found.push(Recording {
                    scenario,
                    client,
                    bytes: fs::read(&path).unwrap(),
                    path,
                });
            }
        }
    }
    assert!(!found.is_empty(), "there are recordings of {suffix}");
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

fn join(words: &[(bool, &str)]) -> String {
    words
        .iter()
        .filter(|(is_set, _)| *is_set)
        .map(|(_, word)| format!(" {word}"))
        .collect()
}

fn describe(recording: &Recording) -> String {
    if recording.name().contains("git-receive-pack") {
        describe_push(&recording.bytes, recording.hash())
    } else if recording.version() == Version::V2 {
        describe_v2(&recording.bytes, recording.hash())
    } else {
        describe_v0(&recording.bytes, recording.hash())
    }
}

fn describe_v2(body: &[u8], hash: Kind) -> String {
    let request = match v2::decode_request(body, hash, &FetchLimits::default()) {
        Ok(request) => request.expect("git sends no request without a command"),
        Err(error) => return format!("refused: {error}"),
    };
    assert!(request.agent.is_some_and(|agent| agent.starts_with("git/2.")));
    let command = match &request.command {
        v2::Command::LsRefs(ls_refs) => {
            let flags = [
                (ls_refs.peel, "peel"),
                (ls_refs.symrefs, "symrefs"),
                (ls_refs.unborn, "unborn"),
            ];
            format!("ls-refs{} prefixes={}", join(&flags), ls_refs.prefixes.len())
        }
        v2::Command::Fetch(fetch) => {
            let flags = [
                (fetch.done, "done"),
                (fetch.wait_for_done, "wait-for-done"),
                (fetch.thin_pack, "thin-pack"),
                (fetch.no_progress, "no-progress"),
                (fetch.include_tag, "include-tag"),
                (fetch.ofs_delta, "ofs-delta"),
            ];
            format!(
                "fetch wants={} haves={}{}",
                fetch.wants.len(),
                fetch.haves.len(),
                join(&flags)
            )
        }
    };
    let options: String = request
        .server_options
        .iter()
        .map(|option| format!(" option={option}"))
        .collect();
    format!(
        "{command}{options}{}",
        join(&[(request.session_id.is_some(), "session-id")])
    )
}

fn describe_v0(body: &[u8], hash: Kind) -> String {
    let request = match v0::decode_upload_request(body, hash, &FetchLimits::default()) {
        Ok(request) => request.expect("git sends no request without wants"),
        Err(error) => return format!("refused: {error}"),
    };
    let capabilities = &request.capabilities;
    assert!(
        capabilities
            .agent
            .as_ref()
            .is_some_and(|agent| agent.starts_with("git/2."))
    );
    let flags = [
        (request.done, "done"),
        (capabilities.no_done, "no-done"),
        (capabilities.thin_pack, "thin-pack"),
        (capabilities.no_progress, "no-progress"),
        (capabilities.include_tag, "include-tag"),
        (capabilities.ofs_delta, "ofs-delta"),
        (capabilities.session_id.is_some(), "session-id"),
    ];
    format!(
        "wants={} haves={} flushes={} {:?} {:?}{}",
        request.wants.len(),
        request.haves.len(),
        request.flushes,
        capabilities.multi_ack,
        capabilities.sideband,
        join(&flags)
    )
}

fn describe_push(body: &[u8], hash: Kind) -> String {
    let request = match CommandDecoder::new(hash, &PushLimits::default(), true).push(body) {
        Ok(Progress::Done {
            request: Some(request),
            ..
        }) => request,
        Ok(Progress::Done { request: None, .. }) => return "probe".to_owned(),
        Ok(Progress::NeedMore) => panic!("git sends whole lists"),
        Err(error) => return format!("refused: {error}"),
    };
    let kind = |command: &receive::RefCommand| match (command.old_id.is_null(), command.new_id.is_null()) {
        (true, true) => "delete missing",
        (true, false) => "create",
        (false, true) => "delete",
        (false, false) => "update",
    };
    let commands = request
        .commands
        .iter()
        .map(|command| format!("{} {}", kind(command), command.name));
    let capabilities = &request.capabilities;
    assert!(
        capabilities
            .agent
            .as_ref()
            .is_some_and(|agent| agent.starts_with("git/2."))
    );
    let flags = [
        (capabilities.report_status, "report-status"),
        (capabilities.report_status_v2, "report-status-v2"),
        (capabilities.side_band_64k, "side-band-64k"),
        (capabilities.quiet, "quiet"),
        (capabilities.atomic, "atomic"),
        (capabilities.session_id.is_some(), "session-id"),
    ];
    let options: String = request
        .push_options
        .iter()
        .map(|option| format!(" option={option}"))
        .collect();
    format!(
        "{}:{}{options}",
        commands.collect::<Vec<_>>().join(", "),
        join(&flags)
    )
}

/// The scenarios of `expected.txt` with what their requests say, the same for every git that was recorded.
fn expected() -> Vec<(&'static str, Vec<&'static str>)> {
    let text = include_str!("../../../fixtures/wire/expected.txt");
    let sections = text.split("\n\n").map(|section| {
        let mut lines = section.trim().lines();
        (lines.next().unwrap(), lines.map(str::trim).collect())
    });
    sections.collect()
}

#[test]
fn every_recorded_request_says_what_its_scenario_did() {
    let recordings = recordings(".request");
    let mut described = 0;
    for (scenario, expected) in expected() {
        for client in ["git-2.39.5", "git-2.47.3"] {
            let requests = recordings
                .iter()
                .filter(|one| one.scenario == scenario && one.client == client);
            let descriptions: Vec<_> = requests.map(describe).collect();
            assert_eq!(descriptions, expected, "{scenario} by {client}");
            described += descriptions.len();
        }
    }
    assert_eq!(
        described,
        recordings.len(),
        "every recording belongs to a scenario of expected.txt"
    );
}

/// What a push decodes to that comes in these pieces: the list, and where the pack starts.
fn decode_push(hash: Kind, pieces: &[&[u8]]) -> Result<Option<(Option<PushRequest>, usize)>, receive::Error> {
    let mut decoder = CommandDecoder::new(hash, &PushLimits::default(), true);
    let mut before = 0;
    for piece in pieces {
        match decoder.push(piece)? {
            Progress::NeedMore => before += piece.len(),
            Progress::Done { request, consumed } => return Ok(Some((request, before + consumed))),
        }
    }
    Ok(None)
}

#[test]
fn a_recorded_push_cut_at_any_byte_gives_the_same_commands() {
    for recording in recordings("git-receive-pack.request") {
        let body = recording.bytes.as_slice();
        let decode = |pieces: &[&[u8]]| decode_push(recording.hash(), pieces);
        let whole = decode(&[body]);
        for cut in 0..body.len() {
            let (head, tail) = body.split_at(cut);
            assert_eq!(
                decode(&[head, tail]),
                whole,
                "{} cut at {cut}",
                recording.path.display()
            );
        }
        let bytes: Vec<_> = body.chunks(1).collect();
        assert_eq!(decode(&bytes), whole, "{} byte by byte", recording.path.display());

        let Ok(whole) = whole else { continue };
        let (request, end) = whole.expect("whole lists were recorded");
        let only_deletes = request
            .iter()
            .flat_map(|request| &request.commands)
            .all(|one| one.new_id.is_null());
        let pack = &body[end..];
        assert_eq!(pack.is_empty(), only_deletes, "{}", recording.path.display());
        assert!(
            pack.is_empty() || pack.starts_with(b"PACK"),
            "{}",
            recording.path.display()
        );
    }
}

#[test]
fn a_recorded_fetch_cut_at_any_byte_is_not_taken_for_whole() {
    let limits = FetchLimits::default();
    let hung_up = pkt_line::Error::HungUp;
    for recording in recordings("git-upload-pack.request") {
        let (body, hash) = (recording.bytes.as_slice(), recording.hash());
        for cut in 1..body.len() {
            let head = &body[..cut];
            // A feature that is refused is refused as soon as its line is there.
            if recording.version() == Version::V2 {
                let decoded = v2::decode_request(head, hash, &limits);
                let refused = matches!(decoded, Err(v2::Error::Unsupported(_)));
                assert!(
                    refused || decoded == Err(v2::Error::PktLine(hung_up.clone())),
                    "{} cut at {cut}: {decoded:?}",
                    recording.path.display()
                );
            } else {
                let decoded = v0::decode_upload_request(head, hash, &limits);
                let refused = matches!(decoded, Err(v0::Error::Unsupported(_)));
                let is_shorter_request = decoded.is_ok() && head.ends_with(b"0000");
                assert!(
                    refused || is_shorter_request || decoded == Err(v0::Error::PktLine(hung_up.clone())),
                    "{} cut at {cut}: {decoded:?}",
                    recording.path.display()
                );
            }
        }
    }
}

/// The lines of an answer; special packets are none.
fn lines(answer: &[u8]) -> Vec<Option<&[u8]>> {
    let mut packets = Packets::new(answer);
    let mut lines = Vec::new();
    while !packets.is_at_end() {
        lines.push(packets.read().unwrap().text());
    }
    lines
}

#[test]
fn advertisements_of_version_2_are_gits() {
    let mut compared = 0;
    for recording in recordings("info-refs.response") {
        if recording.version() != Version::V2 || recording.scenario.starts_with("push-") {
            continue;
        }
        let advertisement = v2::Advertisement {
            agent: "git/2.47.3",
            object_format: recording.hash(),
            session_id: None,
        };
        let mut ours = Vec::new();
        v2::encode_advertisement(&mut ours, &advertisement);
        let gits = recording
            .bytes
            .replace("0020fetch=shallow wait-for-done\n", "0018fetch=wait-for-done\n");
        assert_eq!(BStr::new(&ours), BStr::new(&gits), "{}", recording.path.display());
        compared += 1;
    }
    assert!(
        compared >= 3,
        "empty, SHA-1 and SHA-256 repositories were recorded"
    );
}

#[test]
fn advertisements_of_versions_0_and_1_are_gits() {
    let mut compared = 0;
    for recording in recordings("info-refs.response") {
        let is_push = recording.scenario.starts_with("push-");
        if recording.version() == Version::V2 && !is_push {
            continue;
        }
        let ours = advertise_again(&recording, is_push);
        // The first ref's line is shorter for want of the features; its length is not compared.
        let missing = " shallow deepen-since deepen-not deepen-relative";
        let gits: Vec<_> = lines(&recording.bytes)
            .into_iter()
            .map(|line| line.map(|line| line.replace(missing, "")))
            .collect();
        let ours: Vec<_> = lines(&ours)
            .into_iter()
            .map(|line| line.map(<[u8]>::to_vec))
            .collect();
        assert_eq!(ours, gits, "{}", recording.path.display());
        compared += 1;
    }
    assert!(
        compared >= 6,
        "both services, both hash functions and an empty repository were recorded"
    );
}

/// Encodes the refs of a recorded advertisement.
fn advertise_again(recording: &Recording, is_push: bool) -> Vec<u8> {
    let (agent, object_format) = ("git/2.47.3", recording.hash());
    let is_empty = recording.scenario.contains("empty");
    let mut out = Vec::new();
    let mut list = if is_push {
        v0::encode_service_header(&mut out, Service::ReceivePack);
        v0::RefAdvertisement::receive_pack(&v0::ReceivePackCapabilities {
            push_options: false,
            agent,
            object_format,
            session_id: None,
        })
    } else {
        v0::encode_service_header(&mut out, Service::UploadPack);
        v0::RefAdvertisement::upload_pack(&v0::UploadPackCapabilities {
            agent,
            object_format,
            session_id: None,
            head_target: (!is_empty).then_some("refs/heads/main".into()),
            allow_tip_sha1_in_want: false,
            allow_reachable_sha1_in_want: false,
        })
    };
    if recording.version() == Version::V1 {
        v0::encode_version_1(&mut out);
    }
    let mut refs: Vec<(ObjectId, &BStr, Option<ObjectId>)> = Vec::new();
    for line in lines(&recording.bytes).into_iter().flatten() {
        let line = line.split(|&byte| byte == 0).next().unwrap();
        let Some((hex, name)) = line.split_once_str(" ") else {
            continue;
        };
        let Ok(id) = ObjectId::from_hex(hex) else { continue };
        match name.strip_suffix(b"^{}") {
            Some(b"capabilities") => {}
            Some(_) => refs.last_mut().unwrap().2 = Some(id),
            None => refs.push((id, BStr::new(name), None)),
        }
    }
    assert_eq!(refs.is_empty(), is_empty);
    for (id, name, peeled) in refs {
        list.encode_ref(&mut out, &id, name, peeled.as_deref()).unwrap();
    }
    list.finish(&mut out).unwrap();
    out
}

#[test]
fn listings_of_refs_are_gits() {
    for recording in recordings("ls-refs.response") {
        let mut ours = Vec::new();
        for line in lines(&recording.bytes).into_iter().flatten() {
            let mut words = line.split_str(" ");
            let id = ObjectId::from_hex(words.next().unwrap()).ok();
            let name = BStr::new(words.next().unwrap());
            let (mut symref_target, mut peeled) = (None, None);
            for word in words {
                match word.split_once_str(":").unwrap() {
                    (b"symref-target", target) => symref_target = Some(BStr::new(target)),
                    (_, hex) => peeled = Some(ObjectId::from_hex(hex).unwrap()),
                }
            }
            let listed = v2::ListedRef {
                name,
                id: id.as_deref(),
                symref_target,
                peeled: peeled.as_deref(),
            };
            v2::encode_listed_ref(&mut ours, &listed).unwrap();
        }
        pkt_line::encode_flush(&mut ours);
        assert_eq!(
            BStr::new(&ours),
            BStr::new(&recording.bytes),
            "{}",
            recording.path.display()
        );
    }
}

#[test]
fn recorded_messages_are_packets_from_end_to_end() {
    for recording in recordings(".response")
        .into_iter()
        .chain(recordings("git-upload-pack.request"))
    {
        let mut packets = Packets::new(&recording.bytes);
        let mut again = Vec::new();
        while !packets.is_at_end() {
            match packets.read().unwrap() {
                PktLine::Data(payload) => pkt_line::encode_data(&mut again, payload),
                PktLine::Flush => pkt_line::encode_flush(&mut again),
                PktLine::Delim => pkt_line::encode_delim(&mut again),
                PktLine::ResponseEnd => pkt_line::encode_response_end(&mut again),
            }
        }
        assert_eq!(
            BStr::new(&again),
            BStr::new(&recording.bytes),
            "{}",
            recording.path.display()
        );
    }
}
