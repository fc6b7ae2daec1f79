use bstr::{BStr, BString};
use gix_hash::{Kind, ObjectId};
use proptest::prelude::*;

use super::*;
use crate::protocol::Service;
use crate::protocol::pkt_line::{encode_data, encode_delim, encode_flush};

const ID: &str = "9ff558ac9346b9df941cb32de1f25a7695272ea8";
const OTHER_ID: &str = "445b10a2711eb4eb3fad2ab86fd750af84e5d0cf";

/// A request of these lines; `0000` and `0001` stand for themselves.
fn body(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        match *line {
            "0000" => encode_flush(&mut out),
            "0001" => encode_delim(&mut out),
            line => encode_data(&mut out, line.as_bytes()),
        }
    }
    out
}

fn decode(lines: &[&str]) -> Result<Option<UploadRequest>, Error> {
    decode_upload_request(&body(lines), Kind::Sha1, &FetchLimits::default())
}

fn capabilities_of(list: &str) -> Result<Capabilities, Error> {
    let want = format!("want {ID}{list}\n");
    Ok(decode(&[&want, "0000", "done"])?
        .expect("there is a want")
        .capabilities)
}

fn id(hex: &str) -> ObjectId {
    hex.parse().unwrap()
}

#[test]
fn nothing_or_a_flush_alone_is_no_request() {
    assert_eq!(decode(&[]), Ok(None));
    assert_eq!(decode(&["0000"]), Ok(None));
    assert_eq!(decode(&["0000", "0000"]), Ok(None));
    assert_eq!(decode(&["0000", "done"]), Err(Error::TrailingData));
}

#[test]
fn capabilities_are_read_as_git_reads_them() {
    let all = capabilities_of(
        " multi_ack_detailed no-done side-band-64k thin-pack no-progress include-tag ofs-delta deepen-since \
         deepen-not filter frotz agent=git/2.47.3 session-id=s-1 object-format=sha1 allow-tip-sha1-in-want",
    );
    let expected = Capabilities {
        multi_ack: MultiAck::Detailed,
        no_done: true,
        thin_pack: true,
        sideband: Mode::Large,
        ofs_delta: true,
        no_progress: true,
        include_tag: true,
        agent: Some("git/2.47.3".into()),
        session_id: Some("s-1".into()),
    };
    assert_eq!(all, Ok(expected));
    assert_eq!(capabilities_of(""), Ok(Capabilities::default()));
    assert_eq!(capabilities_of(" "), Ok(Capabilities::default()));
    assert_eq!(
        capabilities_of(" thin-packs no-thin-pack"),
        Ok(Capabilities::default())
    );

    let table = [
        (" multi_ack", MultiAck::Simple),
        (" multi_ack multi_ack_detailed", MultiAck::Detailed),
        ("  multi_ack_detailed\tmulti_ack ", MultiAck::Detailed),
        (" no-done", MultiAck::None),
    ];
    for (list, multi_ack) in table {
        assert_eq!(capabilities_of(list).unwrap().multi_ack, multi_ack, "{list}");
    }
    let table = [
        (" side-band", Mode::Small),
        (" side-band side-band-64k", Mode::Large),
        (" side-band-64k side-band", Mode::Large),
        (" ofs-delta", Mode::None),
    ];
    for (list, sideband) in table {
        assert_eq!(capabilities_of(list).unwrap().sideband, sideband, "{list}");
    }
}

#[test]
fn wants_haves_and_groups_are_read_and_repeated_ids_count_once() {
    let (want, other_want) = (
        format!("want {ID} ofs-delta\n"),
        format!("want {OTHER_ID} thin-pack"),
    );
    let (have, other_have) = (format!("have {ID}\n"), format!("have {OTHER_ID}"));
    let request = decode(&[
        &want,
        &other_want,
        &want,
        "0000",
        &have,
        &have,
        "0000",
        "0000",
        &other_have,
        &have,
        "done\n",
    ]);
    let capabilities = Capabilities {
        ofs_delta: true,
        thin_pack: true,
        ..Capabilities::default()
    };
    let expected = UploadRequest {
        wants: vec![id(ID), id(OTHER_ID)],
        capabilities,
        haves: vec![id(ID), id(OTHER_ID)],
        done: true,
        flushes: 2,
    };
    assert_eq!(request, Ok(Some(expected)));
}

#[test]
fn a_request_may_end_after_its_wants_or_after_a_group() {
    let (want, have) = (format!("want {ID}"), format!("have {ID}"));
    let request = decode(&[&want, "0000"]).unwrap().unwrap();
    assert_eq!((request.flushes, request.done), (0, false));
    let request = decode(&[&want, "0000", &have, "0000"]).unwrap().unwrap();
    assert_eq!((request.flushes, request.done), (1, false));
    let request = decode(&[&want, "0000", "done"]).unwrap().unwrap();
    assert_eq!((request.flushes, request.done), (0, true));
    assert!(decode(&[&want, "0000", "done", "0000"]).is_ok());
    for lines in [&[&*want][..], &[&want, "0000", &have]] {
        assert_eq!(decode(lines), Err(Error::PktLine(pkt_line::Error::HungUp)));
    }
}

#[test]
fn what_breaks_the_protocol_is_refused_in_gits_words() {
    let (want, glued) = (format!("want {ID}"), format!("want {ID}ofs-delta"));
    let wide = format!("want {}", "ab".repeat(32));
    let table: [(&[&str], &str); 12] = [
        (
            &["frotz"],
            "git upload-pack: protocol error, expected to get object ID, not 'frotz'",
        ),
        (
            &["done"],
            "git upload-pack: protocol error, expected to get object ID, not 'done'",
        ),
        (
            &["want 9ff5"],
            "git upload-pack: protocol error, expected to get object ID, not 'want 9ff5'",
        ),
        (
            &[&glued],
            "git upload-pack: protocol error, expected to get object ID, not \
             'want 9ff558ac9346b9df941cb32de1f25a7695272ea8ofs-delta'",
        ),
        (&[&wide], "mismatched object format: server sha1; client sha256"),
        (
            &[&want, "0001"],
            "git upload-pack: protocol error, unexpected special packet",
        ),
        (
            &[&want, "0000", "have 9ff5"],
            "git upload-pack: expected SHA1 object, got 'have 9ff5'",
        ),
        (
            &[&want, "0000", &want],
            "git upload-pack: expected SHA1 list, got 'want 9ff558ac9346b9df941cb32de1f25a7695272ea8'",
        ),
        (
            &[&want, "0000", "0001"],
            "git upload-pack: protocol error, unexpected special packet",
        ),
        (
            &[&want, "0000", "done", "done"],
            "unexpected data after the end of the request",
        ),
        (
            &["want 9ff558ac9346b9df941cb32de1f25a7695272ea8 object-format=sha256"],
            "mismatched object format: server sha1; client sha256",
        ),
        (
            &["want 9ff558ac9346b9df941cb32de1f25a7695272ea8 object-format=md5"],
            "unknown object format 'md5'",
        ),
    ];
    for (lines, message) in table {
        assert_eq!(decode(lines).unwrap_err().to_string(), message, "{lines:?}");
    }
}

#[test]
fn features_that_are_not_offered_are_refused_by_name() {
    let (want, shallow) = (format!("want {ID}"), format!("shallow {ID}"));
    let table = [
        (&*shallow, Unsupported::Shallow),
        ("deepen 1", Unsupported::Deepen),
        ("deepen-since 1700000000", Unsupported::DeepenSince),
        ("deepen-not refs/heads/x", Unsupported::DeepenNot),
        ("filter blob:none", Unsupported::Filter),
    ];
    for (line, feature) in table {
        assert_eq!(
            decode(&[&want, line, "0000", "done"]),
            Err(Error::Unsupported(feature))
        );
    }
}

#[test]
fn bounds_are_held() {
    let limits = FetchLimits {
        request_bytes_max: 1000,
        wants_count_max: 2,
        haves_count_max: 1,
    };
    let decode = |lines: &[String]| {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        decode_upload_request(&body(&lines), Kind::Sha1, &limits).map(|_| ())
    };
    let want = |number: usize| format!("want {number:040x}");
    let have = |number: usize| format!("have {number:040x}");
    let flush = || "0000".to_owned();
    assert_eq!(
        decode(&[want(1), want(2), want(2), flush(), have(1), have(1), flush()]),
        Ok(())
    );
    assert_eq!(
        decode(&[want(1), want(2), want(3), flush()]),
        Err(Error::TooManyWants(2))
    );
    assert_eq!(
        decode(&[want(1), flush(), have(1), flush(), have(2)]),
        Err(Error::TooManyHaves(1))
    );
    assert_eq!(decode(&["x".repeat(1000)]), Err(Error::TooLarge(1000)));
}

#[test]
fn the_first_ref_carries_the_capabilities() {
    let (id, peeled) = (id(ID), id(OTHER_ID));
    let mut out = Vec::new();
    encode_service_header(&mut out, Service::UploadPack);
    encode_version_1(&mut out);
    let mut list = RefAdvertisement::upload_pack(&UploadPackCapabilities {
        agent: "patgate/1",
        object_format: Kind::Sha1,
        session_id: Some("s1"),
        head_target: Some("refs/heads/main".into()),
        allow_tip_sha1_in_want: true,
        allow_reachable_sha1_in_want: true,
    });
    let too_long = BString::from("x".repeat(65_516));
    assert_eq!(
        list.encode_ref(&mut out, &id, too_long.as_ref(), None),
        Err(pkt_line::Error::TooLong)
    );
    list.encode_ref(&mut out, &id, "HEAD".into(), None).unwrap();
    // Fits itself, but not with the suffix of the peeled line.
    let too_long = BString::from("x".repeat(65_516 - 42));
    assert_eq!(
        list.encode_ref(&mut out, &id, too_long.as_ref(), Some(&peeled)),
        Err(pkt_line::Error::TooLong)
    );
    list.encode_ref(&mut out, &id, "refs/tags/v1".into(), Some(&peeled))
        .unwrap();
    list.finish(&mut out).unwrap();
    let expected = body(&[
        "# service=git-upload-pack\n",
        "0000",
        "version 1\n",
        &format!(
            "{ID} HEAD\0multi_ack thin-pack side-band side-band-64k ofs-delta no-progress include-tag \
             multi_ack_detailed allow-tip-sha1-in-want allow-reachable-sha1-in-want no-done \
             symref=HEAD:refs/heads/main session-id=s1 object-format=sha1 agent=patgate/1\n"
        ),
        &format!("{ID} refs/tags/v1\n"),
        &format!("{OTHER_ID} refs/tags/v1^{{}}\n"),
        "0000",
    ]);
    assert_eq!(BStr::new(&out), BStr::new(&expected));
}

#[test]
fn a_list_without_refs_has_the_capabilities_on_the_null_id() {
    let capabilities = ReceivePackCapabilities {
        push_options: true,
        agent: "patgate/1",
        object_format: Kind::Sha256,
        session_id: None,
    };
    let mut out = Vec::new();
    RefAdvertisement::receive_pack(&capabilities)
        .finish(&mut out)
        .unwrap();
    let expected = body(&[
        &format!(
            "{} capabilities^{{}}\0report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta \
             push-options object-format=sha256 agent=patgate/1\n",
            "0".repeat(64)
        ),
        "0000",
    ]);
    assert_eq!(BStr::new(&out), BStr::new(&expected));
}

#[test]
fn acknowledgments_are_lines_of_their_status() {
    let mut out = Vec::new();
    for status in [
        AckStatus::Common,
        AckStatus::Ready,
        AckStatus::Continue,
        AckStatus::Final,
    ] {
        encode_ack(&mut out, &id(ID), status);
    }
    encode_ack(&mut out, &id(&"ab".repeat(32)), AckStatus::Final);
    encode_nak(&mut out);
    let expected = body(&[
        &format!("ACK {ID} common\n"),
        &format!("ACK {ID} ready\n"),
        &format!("ACK {ID} continue\n"),
        &format!("ACK {ID}\n"),
        &format!("ACK {}\n", "ab".repeat(32)),
        "NAK\n",
    ]);
    assert_eq!(BStr::new(&out), BStr::new(&expected));
}

fn ids() -> impl Strategy<Value = Vec<ObjectId>> {
    proptest::collection::btree_set(any::<[u8; 32]>(), 0..20)
        .prop_map(|set| set.into_iter().map(ObjectId::Sha256).collect())
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(wants in ids(), haves in ids(), done: bool, group in 1_usize..8) {
        let mut lines: Vec<String> = wants.iter().map(|id| format!("want {id}\n")).collect();
        lines.push("0000".into());
        let mut flushes = 0;
        for group in haves.chunks(group) {
            lines.extend(group.iter().map(|id| format!("have {id}")));
            lines.push("0000".into());
            flushes += 1;
        }
        if done {
            lines.push("done\n".into());
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let request = decode_upload_request(&body(&lines), Kind::Sha256, &FetchLimits::default());
        if !wants.is_empty() {
            let capabilities = Capabilities::default();
            let expected = UploadRequest { wants, capabilities, haves, done, flushes };
            prop_assert_eq!(request, Ok(Some(expected)));
        } else if haves.is_empty() && !done {
            prop_assert_eq!(request, Ok(None));
        } else {
            prop_assert!(request.is_err());
        }
    }

    #[test]
    fn any_lines_are_decoded_or_refused(lines in proptest::collection::vec("(want |have |done|0000|deepen |[ -~]){1,4}", 0..8)) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        if let Err(error) = decode(&lines) {
            prop_assert!(error.to_string().len() < 1000);
        }
    }
}
