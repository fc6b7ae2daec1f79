use bstr::BStr;
use gix_hash::{Kind, ObjectId};
use proptest::prelude::*;

use super::*;
use crate::limits::PushLimits;
use crate::protocol::pkt_line::{encode_data, encode_delim, encode_flush};

const ID: &str = "9ff558ac9346b9df941cb32de1f25a7695272ea8";
const NULL: &str = "0000000000000000000000000000000000000000";

/// A request of these lines; `0000` and `0001` stand for themselves.
fn body(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        match *line {
            "0000" => encode_flush(&mut out),
            "0001" => encode_delim(&mut out),
            "" => out.extend_from_slice(b"0004"),
            line => encode_data(&mut out, line.as_bytes()),
        }
    }
    out
}

fn decoder() -> CommandDecoder {
    CommandDecoder::new(Kind::Sha1, &PushLimits::default(), true)
}

fn decode(lines: &[&str]) -> Result<Progress, Error> {
    decoder().push(&body(lines))
}

fn request_of(lines: &[&str]) -> Result<PushRequest, Error> {
    match decode(lines)? {
        Progress::Done {
            request: Some(request),
            ..
        } => Ok(request),
        other => panic!("a whole request was given: {other:?}"),
    }
}

fn command(old: &str, new: &str, name: &str) -> RefCommand {
    RefCommand {
        old_id: old.parse().unwrap(),
        new_id: new.parse().unwrap(),
        name: name.into(),
    }
}

#[test]
fn commands_and_capabilities_are_read() {
    let first = format!(
        "{ID} {NULL} refs/heads/a\0 report-status report-status-v2 side-band-64k quiet atomic delete-refs ofs-delta \
         frotz object-format=sha1 agent=git/2.47.3 session-id=s\u{e9}1"
    );
    let (second, third) = (
        format!("{NULL} {ID} refs/heads/b\n"),
        format!("{NULL} {NULL} with space"),
    );
    let expected = PushRequest {
        commands: vec![
            command(ID, NULL, "refs/heads/a"),
            command(NULL, ID, "refs/heads/b"),
            command(NULL, NULL, "with space"),
        ],
        capabilities: Capabilities {
            report_status: true,
            report_status_v2: true,
            side_band_64k: true,
            quiet: true,
            atomic: true,
            delete_refs: true,
            ofs_delta: true,
            push_options: false,
            agent: Some("git/2.47.3".into()),
            session_id: Some("s..1".into()),
        },
        push_options: vec![],
    };
    assert_eq!(request_of(&[&first, &second, &third, "0000"]), Ok(expected));
}

#[test]
fn a_client_without_capabilities_is_read() {
    let line = format!("{NULL} {ID} refs/heads/b\n");
    let request = request_of(&[&line, "0000"]).unwrap();
    assert_eq!(request.capabilities, Capabilities::default());
}

#[test]
fn everything_after_the_flush_is_the_pack() {
    let mut input = body(&[&format!("{NULL} {ID} refs/heads/b\0quiet"), "0000"]);
    let list_bytes = input.len();
    input.extend_from_slice(b"PACK0000");
    let Ok(Progress::Done { consumed, .. }) = decoder().push(&input) else {
        panic!("the list is whole")
    };
    assert_eq!(consumed, list_bytes);

    let mut decoder = decoder();
    let cut = list_bytes - 2;
    assert_eq!(decoder.push(&input[..cut]), Ok(Progress::NeedMore));
    let Ok(Progress::Done { consumed, .. }) = decoder.push(&input[cut..]) else {
        panic!("the list is whole")
    };
    assert_eq!(consumed, 2, "only bytes of the last piece count");
}

#[test]
fn a_flush_alone_is_the_probe_of_a_large_push() {
    assert_eq!(
        decode(&["0000"]),
        Ok(Progress::Done {
            request: None,
            consumed: 4
        })
    );
    let mut decoder = decoder();
    for piece in [&b"0"[..], b"", b"00"] {
        assert_eq!(decoder.push(piece), Ok(Progress::NeedMore));
    }
    assert_eq!(
        decoder.push(b"0PACK"),
        Ok(Progress::Done {
            request: None,
            consumed: 1
        })
    );
    assert_eq!(
        decoder.push(b"0000"),
        Ok(Progress::Done {
            request: None,
            consumed: 4
        }),
        "afterwards the decoder is as new"
    );
}

#[test]
fn what_breaks_the_protocol_is_refused_in_gits_words() {
    let line = |tail: &str| format!("{NULL} {ID}{tail}");
    let wide = format!("{} {} refs/heads/a", "0".repeat(64), "ab".repeat(32));
    let table = [
        (
            line(""),
            format!("protocol error: expected old/new/ref, got '{NULL} {ID}'"),
        ),
        (
            line(" "),
            format!("protocol error: expected old/new/ref, got '{NULL} {ID} '"),
        ),
        (
            line("\trefs/heads/a"),
            format!("protocol error: expected old/new/ref, got '{NULL} {ID}?refs/heads/a'"),
        ),
        (
            "frotz".into(),
            "protocol error: expected old/new/ref, got 'frotz'".into(),
        ),
        (
            String::new(),
            "protocol error: expected old/new/ref, got ''".into(),
        ),
        (
            ID.into(),
            format!("protocol error: expected old/new/ref, got '{ID}'"),
        ),
        (
            format!("{ID} zz"),
            format!("protocol error: expected old/new/ref, got '{ID} zz'"),
        ),
        (
            wide.clone(),
            format!("protocol error: expected old/new/ref, got '{wide}'"),
        ),
        ("0001".into(), "protocol error: got an unexpected packet".into()),
        (
            line(" a\0object-format=sha256"),
            "error: unsupported object format 'sha256'".into(),
        ),
        (
            line(" a\0object-format="),
            "error: unsupported object format ''".into(),
        ),
    ];
    for (line, message) in table {
        assert_eq!(decode(&[&line, "0000"]).unwrap_err().to_string(), message);
    }
    assert_eq!(
        decoder().push(b"PACK").unwrap_err().to_string(),
        "protocol error: bad line length character: PACK"
    );
}

#[test]
fn features_that_are_not_offered_are_refused_by_name() {
    let shallow = format!("shallow {ID}");
    let cert = format!("{NULL} {ID} a\0push-cert=nonce");
    let table = [
        (&*shallow, Unsupported::ShallowPush, "'shallow'"),
        ("push-cert\0quiet", Unsupported::PushCert, "'push-cert'"),
        ("push-cert\n", Unsupported::PushCert, "'push-cert'"),
        (&cert, Unsupported::PushCert, "'push-cert'"),
    ];
    for (line, feature, name) in table {
        assert_eq!(decode(&[line, "0000"]), Err(Error::Unsupported(feature)));
        assert!(feature.to_string().contains(name));
    }
}

#[test]
fn a_sha256_repository_takes_sha256_clients_only() {
    let decode = |line: &str| {
        CommandDecoder::new(Kind::Sha256, &PushLimits::default(), false).push(&body(&[line, "0000"]))
    };
    let ids = format!("{} {} refs/heads/a", "0".repeat(64), "ab".repeat(32));
    let Ok(Progress::Done {
        request: Some(request),
        ..
    }) = decode(&format!("{ids}\0object-format=sha256"))
    else {
        panic!("the formats agree")
    };
    assert_eq!(
        request.commands,
        [command(&"0".repeat(64), &"ab".repeat(32), "refs/heads/a")]
    );
    let error = decode(&format!("{ids}\0quiet")).unwrap_err();
    assert_eq!(error.to_string(), "error: unsupported object format 'sha1'");
}

#[test]
fn bounds_are_held() {
    let line = format!("{NULL} {ID} refs/heads/a");
    let packet_bytes = line.len() + 4;
    let limits = PushLimits {
        commands_count_max: 2,
        commands_bytes_max: 3 * packet_bytes + 4,
        ..PushLimits::default()
    };
    let decode = |lines: &[&str]| CommandDecoder::new(Kind::Sha1, &limits, true).push(&body(lines));
    assert!(decode(&[&line, &line, "0000"]).is_ok());
    assert_eq!(
        decode(&[&line, &line, &line, "0000"]),
        Err(Error::TooManyCommands(2))
    );
    let long = format!("{line}{}", "a".repeat(2 * packet_bytes + 4));
    assert!(decode(&[&long, "0000"]).is_err());
    assert_eq!(
        decode(&[&long, "0000"]),
        Err(Error::TooLarge(3 * packet_bytes + 4))
    );
    assert!(
        decode(&[&long[..long.len() - 4], "0000"]).is_ok(),
        "the flush-pkt counts too"
    );
}

fn with_options() -> String {
    format!("{NULL} {ID} refs/heads/a\0report-status push-options")
}

#[test]
fn push_options_follow_the_commands_where_the_client_says_so() {
    let options_of = |lines: &[&str]| request_of(lines).map(|request| request.push_options);
    let first = with_options();
    let second = format!("{NULL} {ID} refs/heads/b\n");
    assert_eq!(
        options_of(&[
            &first,
            &second,
            "0000",
            "ci.skip\n",
            "a=b c",
            "",
            "\u{e9}",
            "0000"
        ]),
        Ok(vec!["ci.skip".into(), "a=b c".into(), "".into(), "\u{e9}".into()])
    );
    assert_eq!(options_of(&[&first, "0000", "0000"]), Ok(vec![]));
    assert_eq!(
        decode(&[&first, "0000"]),
        Ok(Progress::NeedMore),
        "the options are still to come"
    );
    assert_eq!(
        options_of(&[
            &format!("{NULL} {ID} refs/heads/a\0quiet"),
            "0000",
            "ci.skip",
            "0000"
        ]),
        Ok(vec![]),
        "what follows is the pack if no options were announced"
    );
}

#[test]
fn push_options_cut_at_any_byte_are_the_same() {
    let mut input = body(&[
        &with_options(),
        "0000",
        "patgate.allow-secret",
        "ci.skip\n",
        "0000",
    ]);
    let end = input.len();
    input.extend_from_slice(b"PACK");
    let whole = decode_in_pieces(&input, usize::MAX).unwrap();
    let request = whole.clone().unwrap().0.unwrap();
    assert_eq!(request.push_options, ["patgate.allow-secret", "ci.skip"]);
    for cut in 0..end {
        let mut decoder = decoder();
        assert_eq!(
            decoder.push(&input[..cut]),
            Ok(Progress::NeedMore),
            "cut at {cut}"
        );
        let Ok(Progress::Done { request, consumed }) = decoder.push(&input[cut..]) else {
            panic!("the lists are whole, cut at {cut}")
        };
        assert_eq!((request, cut + consumed), whole.clone().unwrap(), "cut at {cut}");
    }
    let mut decoder = decoder();
    for byte in &input[..end - 1] {
        assert_eq!(decoder.push(&[*byte]), Ok(Progress::NeedMore));
    }
    assert!(matches!(
        decoder.push(&input[end - 1..end]),
        Ok(Progress::Done { consumed: 1, .. })
    ));
    assert_eq!(
        decoder.push(b"0000"),
        Ok(Progress::Done {
            request: None,
            consumed: 4
        }),
        "afterwards the decoder is as new"
    );
}

#[test]
fn push_options_are_bounded_and_hold_no_control_characters() {
    let limits = PushLimits {
        push_options_count_max: 3,
        push_options_bytes_max: 10,
        ..PushLimits::default()
    };
    let decode = |options: &[&str]| {
        let first = with_options();
        let lines = [&[&*first, "0000"], options, &["0000"]].concat();
        CommandDecoder::new(Kind::Sha1, &limits, true)
            .push(&body(&lines))
            .map(|progress| matches!(progress, Progress::Done { .. }))
    };
    assert_eq!(decode(&["a", "b", "12345678"]), Ok(true));
    assert_eq!(
        decode(&["a", "b", "123456789"]),
        Err(Error::PushOptionsTooLarge(10))
    );
    assert_eq!(decode(&["a", "", "", ""]), Err(Error::TooManyPushOptions(3)));
    for bad in ["a\nb", "\n\n", "a\0b", "a\tb", "\x1b[2J", "\x7f", "a\r\n"] {
        assert_eq!(decode(&[bad]), Err(Error::PushOptionControl), "{bad:?}");
    }
    assert_eq!(decode(&["0001"]), Err(Error::SpecialPacket));
    let text = Error::PushOptionControl.to_string();
    assert!(text.starts_with("push options must not have new line characters"));
}

#[test]
fn push_options_that_were_not_offered_are_refused_in_gits_words() {
    let decoded = CommandDecoder::new(Kind::Sha1, &PushLimits::default(), false).push(&body(&[
        &with_options(),
        "0000",
        "ci.skip",
        "0000",
    ]));
    assert_eq!(decoded, Err(Error::Unsupported(Unsupported::PushOptions)));
    let text = Unsupported::PushOptions.to_string();
    assert!(
        text.starts_with("the receiving end does not support push options"),
        "{text}"
    );
}

#[test]
fn a_name_may_fill_the_largest_packet() {
    let name = "x".repeat(65_516 - 82);
    let line = format!("{NULL} {ID} {name}");
    assert_eq!(line.len(), 65_516);
    assert_eq!(
        request_of(&[&line, "0000"]).unwrap().commands,
        [command(NULL, ID, &name)]
    );
}

#[test]
fn a_report_says_what_became_of_everything() {
    let statuses = [
        (BStr::new("refs/heads/a"), CommandStatus::Ok),
        (
            BStr::new("refs/heads/b"),
            CommandStatus::Ng("non-fast-forward".into()),
        ),
    ];
    let mut out = Vec::new();
    encode_report(&mut out, Ok(()), &statuses);
    encode_report(&mut out, Err("index-pack\nabnormal exit"), &[]);
    let expected = body(&[
        "unpack ok\n",
        "ok refs/heads/a\n",
        "ng refs/heads/b non-fast-forward\n",
        "0000",
        "unpack index-pack abnormal exit\n",
        "0000",
    ]);
    assert_eq!(BStr::new(&out), BStr::new(&expected));

    let name = "x".repeat(65_516 - 82);
    let mut out = Vec::new();
    encode_report(
        &mut out,
        Ok(()),
        &[(BStr::new(&name), CommandStatus::Ng("é".repeat(40_000)))],
    );
    assert_eq!(out.len(), 14 + 65_520 + 4, "a line that is too long is cut");
}

/// What the whole of `input` decodes to when it comes in pieces of `piece` bytes: with how much was consumed.
fn decode_in_pieces(input: &[u8], piece: usize) -> Result<Option<(Option<PushRequest>, usize)>, Error> {
    let mut decoder = decoder();
    let mut before = 0;
    for piece in input.chunks(piece) {
        match decoder.push(piece)? {
            Progress::NeedMore => before += piece.len(),
            Progress::Done { request, consumed } => return Ok(Some((request, before + consumed))),
        }
    }
    Ok(None)
}

fn commands() -> impl Strategy<Value = Vec<RefCommand>> {
    let name = proptest::collection::vec(1_u8..=255, 1..40)
        .prop_filter("a newline at the end is the line's", |name| {
            name.last() != Some(&b'\n')
        });
    let command = (any::<[u8; 20]>(), any::<[u8; 20]>(), name).prop_map(|(old, new, name)| RefCommand {
        old_id: ObjectId::Sha1(old),
        new_id: ObjectId::Sha1(new),
        name: name.into(),
    });
    proptest::collection::vec(command, 0..8)
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_in_pieces_of_any_size(commands in commands(), piece in 1_usize..200, pack: Vec<u8>) {
        let mut input = Vec::new();
        for (index, command) in commands.iter().enumerate() {
            let mut line = format!("{} {} ", command.old_id, command.new_id).into_bytes();
            line.extend_from_slice(&command.name);
            if index == 0 {
                line.extend_from_slice(b"\0 report-status atomic");
            }
            encode_data(&mut input, &line);
        }
        encode_flush(&mut input);
        let list_bytes = input.len();
        input.extend_from_slice(&pack);
        let capabilities = Capabilities { report_status: true, atomic: true, ..Capabilities::default() };
        let push_options = Vec::new();
        let request = (!commands.is_empty()).then_some(PushRequest { commands, capabilities, push_options });
        prop_assert_eq!(decode_in_pieces(&input, piece), Ok(Some((request, list_bytes))));
    }

    #[test]
    fn push_options_that_are_encoded_are_decoded_in_pieces_of_any_size(
        // None that `body` takes for a special packet.
        options in proptest::collection::vec("|[a-z][ -~\u{e9}]{0,40}", 0..8), piece in 1_usize..200, pack: Vec<u8>,
    ) {
        let mut input = body(&[&with_options(), "0000"]);
        for option in &options {
            input.extend(body(&[option]));
        }
        encode_flush(&mut input);
        let end = input.len();
        input.extend_from_slice(&pack);
        let (request, consumed) = decode_in_pieces(&input, piece)?.unwrap();
        prop_assert_eq!(consumed, end);
        prop_assert_eq!(request.unwrap().push_options, options);
    }

    #[test]
    fn any_bytes_give_the_same_in_pieces_of_any_size(
        lines in proptest::collection::vec("(0{40} |0{64} |quiet|push-options|\\x00|[ -~]){1,6}", 0..5),
        tail: Vec<u8>, piece in 1_usize..60,
    ) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut input = body(&lines);
        input.extend_from_slice(&tail);
        prop_assert_eq!(decode_in_pieces(&input, piece), decode_in_pieces(&input, usize::MAX));
    }
}
