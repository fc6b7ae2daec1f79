use bstr::{BStr, BString};
use gix_hash::{Kind, ObjectId};
use proptest::prelude::*;

use super::*;
use crate::protocol::pkt_line::{encode_data, encode_delim, encode_flush, encode_line, encode_response_end};

const ID: &str = "9ff558ac9346b9df941cb32de1f25a7695272ea8";
const OTHER_ID: &str = "445b10a2711eb4eb3fad2ab86fd750af84e5d0cf";

/// A request of these lines; `0000` to `0002` stand for themselves.
fn body(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        match *line {
            "0000" => encode_flush(&mut out),
            "0001" => encode_delim(&mut out),
            "0002" => encode_response_end(&mut out),
            "" => out.extend_from_slice(b"0004"),
            line => encode_data(&mut out, line.as_bytes()),
        }
    }
    out
}

fn decode(lines: &[&str]) -> Result<Option<Request>, Error> {
    decode_request(&body(lines), Kind::Sha1, &FetchLimits::default())
}

fn fetch_of(lines: &[&str]) -> Result<Fetch, Error> {
    let mut request = vec!["command=fetch", "object-format=sha1", "0001"];
    request.extend(lines);
    request.push("0000");
    match decode(&request)?.expect("there is a command").command {
        Command::Fetch(fetch) => Ok(fetch),
        Command::LsRefs(_) => panic!("fetch was asked for"),
    }
}

fn ls_refs_of(body: &[u8]) -> Result<LsRefs, Error> {
    match decode_request(body, Kind::Sha1, &FetchLimits::default())?
        .expect("there is a command")
        .command
    {
        Command::LsRefs(ls_refs) => Ok(ls_refs),
        Command::Fetch(_) => panic!("ls-refs was asked for"),
    }
}

fn id(hex: &str) -> ObjectId {
    hex.parse().unwrap()
}

#[test]
fn nothing_or_a_flush_alone_is_no_request() {
    assert_eq!(decode_request(b"", Kind::Sha1, &FetchLimits::default()), Ok(None));
    assert_eq!(decode(&["0000"]), Ok(None));
    assert_eq!(decode(&["0000", "0000"]), Ok(None));
    assert_eq!(decode(&["0000", "command=fetch"]), Err(Error::TrailingData));
}

#[test]
fn ls_refs_with_all_arguments_is_read() {
    let request = decode(&[
        "command=ls-refs\n",
        "agent=git/2.47.3",
        "object-format=sha1",
        "session-id=a b",
        "server-option=one",
        "server-option=two=2\n",
        "server-option",
        "0001",
        "peel\n",
        "symrefs",
        "unborn",
        "ref-prefix refs/heads/",
        "ref-prefix ",
        "0000",
    ]);
    let command = Command::LsRefs(LsRefs {
        peel: true,
        symrefs: true,
        unborn: true,
        prefixes: vec!["refs/heads/".into(), "".into()],
    });
    assert_eq!(
        request,
        Ok(Some(Request {
            command,
            agent: Some("git/2.47.3".into()),
            session_id: Some("a.b".into()),
            server_options: vec!["one".into(), "two=2".into()],
        }))
    );
}

#[test]
fn arguments_may_be_left_out() {
    let request = decode(&["command=ls-refs", "0000"]).unwrap().unwrap();
    assert_eq!(request.command, Command::LsRefs(LsRefs::default()));
    let request = decode(&["agent=x", "command=fetch", "0001", "0000"])
        .unwrap()
        .unwrap();
    assert_eq!(request.command, Command::Fetch(Fetch::default()));
}

#[test]
fn fetch_with_all_arguments_is_read_and_repeated_ids_count_once() {
    let (want, other_want) = (format!("want {ID}\n"), format!("want {OTHER_ID}"));
    let (have, upper_have) = (format!("have {ID}"), format!("have {}", ID.to_uppercase()));
    let lines = [
        &*want,
        &other_want,
        &want,
        &have,
        &upper_have,
        "done",
        "wait-for-done",
        "thin-pack",
        "ofs-delta",
        "no-progress",
        "include-tag",
    ];
    let expected = Fetch {
        wants: vec![id(ID), id(OTHER_ID)],
        haves: vec![id(ID)],
        done: true,
        wait_for_done: true,
        thin_pack: true,
        no_progress: true,
        include_tag: true,
        ofs_delta: true,
    };
    assert_eq!(fetch_of(&lines), Ok(expected));
}

#[test]
fn what_breaks_the_protocol_is_refused_in_gits_words() {
    let table: [(&[&str], &str); 20] = [
        (&["agent=x", "0000"], "no command requested"),
        (&["0001", "0000"], "no command requested"),
        (&["frotz", "0000"], "unknown capability 'frotz'"),
        (&["", "0000"], "unknown capability ''"),
        (&["ls-refs", "0000"], "unknown capability 'ls-refs'"),
        (
            &["server-options=x", "0000"],
            "unknown capability 'server-options=x'",
        ),
        (&["command=", "0000"], "invalid command ''"),
        (&["command=agent", "0000"], "invalid command 'agent'"),
        (&["command=bundle-uri", "0000"], "invalid command 'bundle-uri'"),
        (&["command=fetch=1", "0000"], "invalid command 'fetch=1'"),
        (
            &["command=fetch", "command=ls-refs"],
            "command 'ls-refs' requested after already requesting command 'fetch'",
        ),
        (
            &["command=fetch", "object-format"],
            "object-format capability requires an argument",
        ),
        (
            &["command=fetch", "object-format=md5"],
            "unknown object format 'md5'",
        ),
        (
            &["command=fetch", "object-format=sha256", "0000"],
            "mismatched object format: server sha1; client sha256",
        ),
        (
            &["command=ls-refs", "0001", "frotz", "0000"],
            "unexpected line: 'frotz'",
        ),
        (
            &["command=ls-refs", "0001", "peel", "0001"],
            "expected flush after ls-refs arguments",
        ),
        (
            &["command=fetch", "0001", "0002"],
            "expected flush after fetch arguments",
        ),
        (&["command=fetch", "0002"], "unexpected response end packet"),
        (&["command=fetch", "0001"], "the remote end hung up unexpectedly"),
        (&["command=fetch"], "the remote end hung up unexpectedly"),
    ];
    for (lines, message) in table {
        assert_eq!(decode(lines).unwrap_err().to_string(), message, "{lines:?}");
    }
}

#[test]
fn bad_arguments_of_fetch_are_refused_in_gits_words() {
    let long = format!("want {ID}{ID}");
    let table = [
        ("want", "unexpected line: 'want'"),
        (
            "want 9ff5",
            "git upload-pack: protocol error, expected to get oid, not 'want 9ff5'",
        ),
        (
            &*long,
            "git upload-pack: protocol error, expected to get oid, not \
             'want 9ff558ac9346b9df941cb32de1f25a7695272ea89ff558ac9346b9df941cb32de1f25a7695272ea8'",
        ),
        ("have zz", "git upload-pack: expected SHA1 object, got 'have zz'"),
        ("Done", "unexpected line: 'Done'"),
        ("thin-pack=1", "unexpected line: 'thin-pack=1'"),
        ("\u{1b}]0;x\u{7}\nb", "unexpected line: '?]0;x??b'"),
    ];
    for (line, message) in table {
        assert_eq!(fetch_of(&[line]).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_clients_line_is_repeated_in_part_only() {
    let error = fetch_of(&[&"x".repeat(60_000)]).unwrap_err();
    assert_eq!(error, Error::UnexpectedLine(format!("{}…", "x".repeat(200))));
}

#[test]
fn features_that_are_not_offered_are_refused_by_name() {
    let shallow = format!("shallow {ID}");
    let table = [
        (&*shallow, "shallow"),
        ("deepen 1", "deepen"),
        ("deepen-since 1700000000", "deepen-since"),
        ("deepen-not refs/heads/x", "deepen-not"),
        ("deepen-relative", "deepen-relative"),
        ("filter blob:none", "filter"),
        ("want-ref refs/heads/main", "want-ref"),
        ("sideband-all", "sideband-all"),
        ("packfile-uris https", "packfile-uris"),
    ];
    for (line, name) in table {
        let error = fetch_of(&[line, "done"]).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{line}");
        let message = error.to_string();
        assert!(message.contains(&format!("'{name}'")), "{message}");
        assert!(
            message.starts_with("this server does not support ") && !message.contains('\n'),
            "{message}"
        );
    }
}

#[test]
fn a_sha256_repository_takes_sha256_clients_only() {
    let limits = FetchLimits::default();
    let want = format!("want {}", "ab".repeat(32));
    let request = body(&["command=fetch", "object-format=sha256", "0001", &want, "0000"]);
    let request = decode_request(&request, Kind::Sha256, &limits).unwrap().unwrap();
    let Command::Fetch(fetch) = request.command else {
        panic!("fetch was asked for")
    };
    assert_eq!(fetch.wants, [id(&"ab".repeat(32))]);

    let error = decode_request(&body(&["command=ls-refs", "0000"]), Kind::Sha256, &limits).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mismatched object format: server sha256; client sha1"
    );
}

#[test]
fn trailing_bytes_are_refused_and_trailing_flushes_are_not() {
    let lines = ["command=ls-refs", "0001", "0000"];
    assert!(decode(&[&lines[..], &["0000", "0000"]].concat()).is_ok());
    for garbage in ["0001", "command=fetch", "x\n"] {
        assert_eq!(
            decode(&[&lines[..], &[garbage]].concat()),
            Err(Error::TrailingData)
        );
    }
    let mut raw = body(&lines);
    raw.push(b'0');
    assert_eq!(ls_refs_of(&raw), Err(Error::TrailingData));
}

#[test]
fn with_65536_prefixes_a_listing_is_not_restricted() {
    for (count, kept) in [(65535, 65535), (65536, 0), (70_000, 0)] {
        let mut request = body(&["command=ls-refs", "0001"]);
        for number in 0..count {
            encode_data(&mut request, format!("ref-prefix refs/heads/{number}").as_bytes());
        }
        encode_flush(&mut request);
        assert_eq!(ls_refs_of(&request).unwrap().prefixes.len(), kept);
    }
}

#[test]
fn bounds_are_held() {
    let wants: Vec<String> = (0..4).map(|number| format!("want {number:040x}")).collect();
    let haves: Vec<String> = (0..4).map(|number| format!("have {number:040x}")).collect();
    let request = |lines: &[String], count: usize| {
        let mut request = vec!["command=fetch", "0001"];
        request.extend(lines.iter().take(count).map(String::as_str));
        request.extend(lines.first().map(String::as_str));
        request.push("0000");
        body(&request)
    };
    let limits = FetchLimits {
        request_bytes_max: 300,
        wants_count_max: 3,
        haves_count_max: 2,
    };
    let outcome = |body: &[u8]| decode_request(body, Kind::Sha1, &limits).map(|_| ());
    assert_eq!(outcome(&request(&wants, 3)), Ok(()), "a repeated want is one");
    assert_eq!(outcome(&request(&wants, 4)), Err(Error::TooManyWants(3)));
    assert_eq!(outcome(&request(&haves, 2)), Ok(()), "a repeated have is one");
    assert_eq!(outcome(&request(&haves, 3)), Err(Error::TooManyHaves(2)));
    assert_eq!(outcome(&[b'0'; 300]), Ok(()));
    assert_eq!(outcome(&[b'0'; 304]), Err(Error::TooLarge(300)));

    let mut lines = vec!["command=fetch"];
    lines.resize(1 + SERVER_OPTIONS_COUNT_MAX, "server-option=x");
    lines.push("0000");
    assert!(decode_request(&body(&lines), Kind::Sha1, &FetchLimits::default()).is_ok());
    lines.insert(1, "server-option=x");
    let error = decode_request(&body(&lines), Kind::Sha1, &FetchLimits::default());
    assert_eq!(error, Err(Error::TooManyServerOptions));
}

#[test]
fn a_request_cut_at_any_byte_is_a_hang_up_or_no_request() {
    let want = format!("want {ID}\n");
    let whole = body(&["command=fetch", "agent=x", "0001", &want, "done", "0000"]);
    for cut in 1..whole.len() {
        let error = decode_request(&whole[..cut], Kind::Sha1, &FetchLimits::default());
        assert_eq!(
            error,
            Err(Error::PktLine(pkt_line::Error::HungUp)),
            "cut at {cut}"
        );
    }
}

#[test]
fn the_advertisement_is_gits_without_what_is_not_offered() {
    let mut out = Vec::new();
    let mut advertisement = Advertisement {
        agent: "patgate/1",
        object_format: Kind::Sha256,
        session_id: Some("s1"),
    };
    encode_advertisement(&mut out, &advertisement);
    let expected = body(&[
        "version 2\n",
        "agent=patgate/1\n",
        "ls-refs=unborn\n",
        "fetch=wait-for-done\n",
        "server-option\n",
        "object-format=sha256\n",
        "session-id=s1\n",
        "0000",
    ]);
    assert_eq!(BStr::new(&out), BStr::new(&expected));
    advertisement.session_id = None;
    let mut out = Vec::new();
    encode_advertisement(&mut out, &advertisement);
    assert!(!out.windows(10).any(|word| word == b"session-id"));
}

#[test]
fn listed_refs_have_their_attributes_in_gits_order() {
    let (id, peeled) = (id(ID), id(OTHER_ID));
    let mut out = Vec::new();
    let listed = ListedRef {
        name: "HEAD".into(),
        id: Some(&id),
        symref_target: Some("refs/heads/main".into()),
        peeled: None,
    };
    encode_listed_ref(&mut out, &listed).unwrap();
    encode_listed_ref(&mut out, &ListedRef { id: None, ..listed }).unwrap();
    let tag = ListedRef {
        name: "refs/tags/v1".into(),
        id: Some(&id),
        symref_target: None,
        peeled: Some(&peeled),
    };
    encode_listed_ref(&mut out, &tag).unwrap();
    let expected = body(&[
        &format!("{ID} HEAD symref-target:refs/heads/main\n"),
        "unborn HEAD symref-target:refs/heads/main\n",
        &format!("{ID} refs/tags/v1 peeled:{OTHER_ID}\n"),
    ]);
    assert_eq!(BStr::new(&out), BStr::new(&expected));

    let name = BString::from("x".repeat(65_510));
    let error = encode_listed_ref(
        &mut out,
        &ListedRef {
            name: name.as_ref(),
            ..tag
        },
    );
    assert_eq!(error, Err(pkt_line::Error::TooLong));
    assert_eq!(out, expected, "a name that does not fit leaves no half of a line");
}

#[test]
fn an_acknowledgment_section_ends_as_its_sequel_needs() {
    let mut out = Vec::new();
    let mut section = AckSection::start(&mut out);
    section.ack(&mut out, &id(ID));
    section.ack(&mut out, &id(&"ab".repeat(32)));
    section.end_ready(&mut out);
    encode_packfile_header(&mut out);
    AckSection::start(&mut out).end(&mut out);
    AckSection::start(&mut out).end_ready(&mut out);
    let expected = body(&[
        "acknowledgments\n",
        &format!("ACK {ID}\n"),
        &format!("ACK {}\n", "ab".repeat(32)),
        "ready\n",
        "0001",
        "packfile\n",
        "acknowledgments\n",
        "NAK\n",
        "0000",
        "acknowledgments\n",
        "NAK\n",
        "ready\n",
        "0001",
    ]);
    assert_eq!(BStr::new(&out), BStr::new(&expected));
}

fn ids() -> impl Strategy<Value = Vec<ObjectId>> {
    proptest::collection::btree_set(any::<[u8; 20]>(), 0..20)
        .prop_map(|set| set.into_iter().map(ObjectId::Sha1).collect())
}

fn push_flags(lines: &mut Vec<String>, flags: &[(bool, &str)]) {
    lines.extend(
        flags
            .iter()
            .filter(|(is_set, _)| *is_set)
            .map(|(_, name)| (*name).to_owned()),
    );
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_for_fetch(
        wants in ids(), haves in ids(), flags in any::<[bool; 6]>(), agent in "[!-~]{1,20}",
    ) {
        let [done, wait_for_done, thin_pack, no_progress, include_tag, ofs_delta] = flags;
        let fetch = Fetch { wants, haves, done, wait_for_done, thin_pack, no_progress, include_tag, ofs_delta };
        let mut lines = vec!["command=fetch".to_owned(), format!("agent={agent}"), "0001".to_owned()];
        lines.extend(fetch.wants.iter().map(|id| format!("want {id}\n")));
        lines.extend(fetch.haves.iter().map(|id| format!("have {id}")));
        push_flags(&mut lines, &[
            (done, "done"), (wait_for_done, "wait-for-done"), (thin_pack, "thin-pack"),
            (no_progress, "no-progress"), (include_tag, "include-tag"), (ofs_delta, "ofs-delta"),
        ]);
        lines.push("0000".to_owned());
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let request = decode(&lines).unwrap().unwrap();
        prop_assert_eq!(request.command, Command::Fetch(fetch));
        prop_assert_eq!(request.agent, Some(agent));
    }

    #[test]
    fn what_is_encoded_is_decoded_for_ls_refs(
        flags in any::<[bool; 3]>(), prefixes in proptest::collection::vec("[ -~]{0,40}", 0..10),
        options in proptest::collection::vec("[ -~]{0,40}", 0..5),
    ) {
        let [peel, symrefs, unborn] = flags;
        let mut lines = vec!["command=ls-refs".to_owned()];
        lines.extend(options.iter().map(|option| format!("server-option={option}")));
        lines.push("0001".to_owned());
        push_flags(&mut lines, &[(peel, "peel"), (symrefs, "symrefs"), (unborn, "unborn")]);
        lines.extend(prefixes.iter().map(|prefix| format!("ref-prefix {prefix}\n")));
        lines.push("0000".to_owned());
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let request = decode(&lines).unwrap().unwrap();
        let prefixes = prefixes.into_iter().map(BString::from).collect();
        prop_assert_eq!(request.command, Command::LsRefs(LsRefs { peel, symrefs, unborn, prefixes }));
        prop_assert_eq!(request.server_options, options.into_iter().map(BString::from).collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(mut head in proptest::collection::vec(any::<u8>(), 0..60), tail: Vec<u8>) {
        let limits = FetchLimits::default();
        let _ = decode_request(&head, Kind::Sha1, &limits);
        let mut request = Vec::new();
        encode_line(&mut request, |out| out.append(&mut head)).unwrap();
        request.extend_from_slice(&tail);
        if let Err(error) = decode_request(&request, Kind::Sha256, &limits) {
            prop_assert!(error.to_string().len() < 1000);
        }
    }
}
