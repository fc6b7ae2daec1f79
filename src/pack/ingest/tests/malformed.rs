//! Packs that are cut, damaged or made to hurt.

use super::packer::{Packer, deflated, delta, id_of, sealed};
use super::*;

fn refusal(pack: &[u8]) -> Error {
    refusal_with(pack, &options(HashKind::Sha1))
}

/// Takes in a pack that has to be refused, without a trace.
fn refusal_with(pack: &[u8], options: &Options) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let result = take_in(pack, dir.path(), &mut Nothing, options);
    assert_eq!(files(dir.path()), [""; 0], "nothing is left of a refused pack");
    result.map(|ingested| ingested.objects_count).unwrap_err()
}

macro_rules! assert_refused {
    ($pack:expr, $pattern:pat $(if $guard:expr)?) => {
        let error = refusal(&$pack);
        assert!(matches!(error, $pattern $(if $guard)?), "{error:?}");
    };
    ($pack:expr, with $options:expr => $pattern:pat) => {
        let error = refusal_with(&$pack, &$options);
        assert!(matches!(error, $pattern), "{error:?}");
    };
}

/// A whole object, one of each delta, and a tree that names them.
fn small_pack() -> Vec<u8> {
    let mut packer = Packer::new();
    let blob = packer.whole(Kind::Blob, b"hello, world\n");
    packer.ofs_delta(blob, &delta(13, &[(0, 5)], b" again\n"));
    packer.ref_delta(
        &id_of(Kind::Blob, b"hello, world\n"),
        &delta(13, &[(0, 12)], b"!\n"),
    );
    let mut tree = Vec::new();
    for (name, content) in [
        ("a", &b"hello, world\n"[..]),
        ("b", b"hello again\n"),
        ("c", b"hello, world!\n"),
    ] {
        write!(tree, "100644 {name}\0").unwrap();
        tree.extend_from_slice(id_of(Kind::Blob, content).as_slice());
    }
    packer.whole(Kind::Tree, &tree);
    packer.finish()
}

#[test]
fn a_pack_cut_at_any_byte_is_refused_and_leaves_no_file() {
    let pack = small_pack();
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        take_in(&pack, dir.path(), &mut Nothing, &options(HashKind::Sha1))
            .unwrap()
            .objects_count,
        4
    );
    for cut in 0..pack.len() {
        assert_refused!(pack[..cut], Error::Truncated { offset } if offset == cut as u64);
    }
}

#[test]
fn a_pack_with_any_bit_flipped_is_refused() {
    let pack = small_pack();
    for at in 0..pack.len() * 8 {
        let mut flipped = pack.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        refusal(&flipped);
    }
}

#[test]
fn a_damaged_pack_with_a_right_checksum_is_refused_or_indexed_as_git_does() {
    let pack = small_pack();
    let body = &pack[..pack.len() - 20];
    let mut options = options(HashKind::Sha1);
    options.fsck = None;
    for at in 0..body.len() * 8 {
        let mut flipped = body.to_vec();
        flipped[at / 8] ^= 1 << (at % 8);
        let dir = tempfile::tempdir().unwrap();
        match take_in(&sealed(flipped), dir.path(), &mut Nothing, &options) {
            Ok(ingested) => assert_index_is_gits("git", &ingested, HashKind::Sha1),
            Err(_) => assert_eq!(files(dir.path()), [""; 0]),
        }
    }
}

#[test]
fn what_follows_the_checksum_is_refused() {
    let mut pack = small_pack();
    pack.push(0);
    assert_refused!(pack, Error::TrailingGarbage);
    let mut pack = small_pack();
    pack.extend_from_slice(&small_pack());
    assert_refused!(pack, Error::TrailingGarbage);
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut pack = small_pack();
    let last = pack.len() - 1;
    pack[last] ^= 1;
    assert_refused!(pack, Error::Checksum);
}

#[test]
fn what_is_no_pack_is_refused_by_name() {
    assert_refused!(b""[..], Error::Truncated { offset: 0 });
    assert_refused!(b"0000PACK"[..], Error::Signature);
    assert_refused!(b"PACK\0\0\0\x04\0\0\0\0"[..], Error::Version(4));
    for number in [0, 5] {
        let mut packer = Packer::new();
        packer.header(number, 0);
        packer.raw(&deflated(b""));
        assert_refused!(packer.finish(), Error::Type { offset: 12, .. });
    }
    let mut packer = Packer::new();
    packer.header(3, 5);
    packer.raw(b"this is no zlib stream");
    assert_refused!(packer.finish(), Error::Inflate { offset: 12 });
}

#[test]
fn a_pack_of_nothing_is_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let pack = Packer::new().finish();
    let ingested = take_in(&pack, dir.path(), &mut Nothing, &options(HashKind::Sha1)).unwrap();
    assert_eq!((ingested.objects_count, ingested.bytes_received), (0, 32));
    assert_index_is_gits("git", &ingested, HashKind::Sha1);
}

#[test]
fn a_size_that_is_not_that_of_the_content_is_refused() {
    for (claimed, content) in [(4, &b"hello"[..]), (6, b"hello"), (0, b"hello"), (1, b"")] {
        for number in [1, 3, 6] {
            let mut packer = Packer::new();
            let base = packer.whole(Kind::Blob, b"base");
            let offset = packer.header(number, claimed);
            if number == 6 {
                packer.distance(offset - base);
            }
            packer.raw(&deflated(content));
            assert_refused!(packer.finish(), Error::Size { .. });
        }
    }
}

#[test]
fn impossible_numbers_are_refused() {
    let mut packer = Packer::new();
    packer.header(3, 0);
    packer.raw(&[0xff; 12]);
    let mut bytes = packer.finish();
    bytes[12] = 0xb0;
    assert_refused!(bytes, Error::Header { offset: 12 });

    let mut packer = Packer::new();
    packer.whole(Kind::Blob, b"base");
    packer.header(6, 1);
    packer.raw(&[0xff; 20]);
    assert_refused!(packer.finish(), Error::Header { .. });

    for number in [1, 3, 7] {
        let mut packer = Packer::new();
        packer.header(number, 1 << 63);
        packer.raw(&[0; 20][..if number == 7 { 20 } else { 0 }]);
        packer.raw(&deflated(b"x"));
        assert_refused!(
            packer.finish(),
            Error::ObjectBytes {
                bytes: 0x8000_0000_0000_0000,
                ..
            }
        );
    }
    assert_refused!(
        Packer::new().finish_claiming(u32::MAX),
        Error::ObjectsCount {
            count: 0xffff_ffff,
            ..
        }
    );
    let most = Packer::new().finish_claiming(20_000_000);
    assert_refused!(most[..12], Error::Truncated { offset: 12 });
}

#[test]
fn a_base_that_is_no_entry_before_is_refused() {
    for distance in [0, 1, 3, 1 << 20, 1 << 56] {
        let mut packer = Packer::new();
        packer.whole(Kind::Blob, b"base");
        packer.header(6, 5);
        packer.distance(distance);
        packer.raw(&deflated(&delta(4, &[(0, 4)], b"")));
        assert_refused!(packer.finish(), Error::BaseOffset { .. });
    }
}

#[test]
fn deltas_that_do_not_apply_are_refused() {
    for bad in [
        delta(5, &[(0, 4)], b""),
        delta(4, &[(0, 5)], b""),
        vec![4, 1, 0],
        vec![4],
        vec![],
    ] {
        let mut packer = Packer::new();
        let base = packer.whole(Kind::Blob, b"base");
        packer.ofs_delta(base, &bad);
        assert_refused!(packer.finish(), Error::Delta { .. });
    }
}

#[test]
fn bases_that_are_nowhere_or_each_other_are_unresolved() {
    let (a, b) = (id_of(Kind::Blob, b"a"), id_of(Kind::Blob, b"b"));
    for thin in [false, true] {
        let options = Options {
            thin,
            ..options(HashKind::Sha1)
        };
        let mut packer = Packer::new();
        packer.ref_delta(&a, &delta(1, &[], b"b"));
        packer.ref_delta(&b, &delta(1, &[], b"a"));
        assert_refused!(packer.finish(), with options => Error::Unresolved { count: 2, .. });

        let mut packer = Packer::new();
        let upon_nothing = packer.ref_delta(&a, &delta(1, &[], b"b"));
        packer.ofs_delta(upon_nothing, &delta(1, &[], b"c"));
        let error = refusal_with(&packer.finish(), &options);
        assert!(
            matches!(error, Error::Unresolved { count: 2, base_id: Some(base_id) } if base_id == a),
            "{error:?}"
        );
        assert_eq!(error.to_string(), "pack has 2 unresolved deltas");
    }
}

#[test]
fn an_object_twice_in_a_pack_is_refused() {
    let mut packer = Packer::new();
    let base = packer.whole(Kind::Blob, b"base");
    packer.whole(Kind::Blob, b"twice");
    packer.ofs_delta(base, &delta(4, &[], b"twice"));
    let twice = id_of(Kind::Blob, b"twice");
    assert_refused!(packer.finish(), Error::Duplicate { id } if id == twice);
}

#[test]
fn a_base_by_id_that_is_twice_in_the_pack_is_refused() {
    let (a, b) = (id_of(Kind::Blob, b"a"), id_of(Kind::Blob, b"b"));
    let mut packer = Packer::new();
    packer.ref_delta(&b, &delta(1, &[], b"a"));
    packer.ref_delta(&a, &delta(1, &[], b"b"));
    packer.whole(Kind::Blob, b"a");
    assert_refused!(packer.finish(), Error::Duplicate { .. });
}

#[test]
fn a_chain_of_deltas_that_is_too_long_is_refused() {
    let chain = |depth: u32| {
        let mut packer = Packer::new();
        let mut base = packer.whole(Kind::Blob, b"0000000000");
        for at in 1..=depth {
            base = packer.ofs_delta(base, &delta(10, &[], format!("{at:010}").as_bytes()));
        }
        packer.finish()
    };
    assert_refused!(chain(10_000), Error::DeltaDepth { max: 4095, .. });
    assert_refused!(chain(4_096), Error::DeltaDepth { max: 4095, .. });
    let dir = tempfile::tempdir().unwrap();
    let ingested = take_in(&chain(4_095), dir.path(), &mut Nothing, &options(HashKind::Sha1)).unwrap();
    assert_index_is_gits("git", &ingested, HashKind::Sha1);
}

#[test]
fn limits_refuse_by_name() {
    let pack = small_pack();
    let limited = |change: fn(&mut PushLimits)| {
        let mut options = options(HashKind::Sha1);
        change(&mut options.limits);
        options
    };
    assert_refused!(pack, with limited(|limits| limits.pack_bytes_max = 100) => Error::PackBytes { max: 100 });
    assert_refused!(pack, with limited(|limits| limits.objects_count_max = 3) => Error::ObjectsCount { count: 4, max: 3 });
    assert_refused!(pack, with limited(|limits| limits.object_bytes_max = 12) => Error::ObjectBytes { bytes: 13, .. });
    assert_refused!(pack, with limited(|limits| limits.delta_depth_max = 0) => Error::DeltaDepth { .. });
    assert_refused!(pack, with limited(|limits| limits.inflated_bytes_max = 30) => Error::InflatedBytes { max: 30 });
    assert_refused!(pack, with limited(|limits| limits.disk_reserve_bytes = u64::MAX) => Error::DiskReserve);
    let error = refusal_with(&pack, &limited(|limits| limits.pack_bytes_max = 100));
    assert_eq!(error.fault(), Fault::Limit);
}

#[test]
fn bases_of_a_thin_pack_count_against_the_limits() {
    struct One;
    impl Bases for One {
        fn find(&mut self, id: &gix_hash::oid, out: &mut Vec<u8>) -> Result<Option<Kind>, objects::Error> {
            out.extend_from_slice(&[b'x'; 1000]);
            Ok((id == id_of(Kind::Blob, &[b'x'; 1000])).then_some(Kind::Blob))
        }
    }
    let pack_upon = |base: &gix_hash::oid| {
        let mut packer = Packer::new();
        packer.ref_delta(&base.to_owned(), &delta(1000, &[(0, 10)], b""));
        packer.finish()
    };
    let pack = pack_upon(&id_of(Kind::Blob, &[b'x'; 1000]));
    let take_in = |change: &dyn Fn(&mut PushLimits)| {
        let mut options = Options {
            thin: true,
            ..options(HashKind::Sha1)
        };
        change(&mut options.limits);
        let dir = tempfile::tempdir().unwrap();
        let result = take_in(&pack, dir.path(), &mut One, &options);
        assert_eq!(files(dir.path()).is_empty(), result.is_err());
        result.map(|ingested| ingested.objects_count)
    };
    assert_eq!(take_in(&|_| {}).unwrap(), 2);
    assert!(matches!(
        take_in(&|limits| limits.objects_count_max = 1),
        Err(Error::ObjectsCount { count: 2, .. })
    ));
    assert!(matches!(
        take_in(&|limits| limits.object_bytes_max = 999),
        Err(Error::ObjectBytes { .. })
    ));
    assert!(matches!(
        take_in(&|limits| limits.inflated_bytes_max = 900),
        Err(Error::InflatedBytes { .. })
    ));
    assert!(matches!(
        take_in(&|limits| limits.pack_bytes_max = pack.len() as u64),
        Err(Error::PackBytes { .. })
    ));
}

#[test]
fn a_base_that_the_repository_has_damaged_is_named() {
    struct Damaged;
    impl Bases for Damaged {
        fn find(&mut self, _: &gix_hash::oid, out: &mut Vec<u8>) -> Result<Option<Kind>, objects::Error> {
            out.extend_from_slice(b"not what was asked for");
            Ok(Some(Kind::Blob))
        }
    }
    let base_id = id_of(Kind::Blob, b"base");
    let mut packer = Packer::new();
    packer.ref_delta(&base_id, &delta(4, &[(0, 4)], b"!"));
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        thin: true,
        ..options(HashKind::Sha1)
    };
    let error = take_in(&packer.finish(), dir.path(), &mut Damaged, &options).unwrap_err();
    assert!(
        matches!(error, Error::CorruptBase { id } if id == base_id),
        "{error:?}"
    );
    assert_eq!(error.fault(), Fault::Environment);
}

#[test]
fn objects_that_disagree_about_a_kind_are_refused() {
    let blob_id = id_of(Kind::Blob, b"blob");
    let mut tree = b"40000 directory\0".to_vec();
    tree.extend_from_slice(blob_id.as_slice());
    let mut packer = Packer::new();
    packer.whole(Kind::Tree, &tree);
    packer.whole(Kind::Blob, b"blob");
    let error = refusal(&packer.finish());
    assert!(
        matches!(
            error,
            Error::LinkKind {
                expected: Kind::Tree,
                actual: Kind::Blob,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        format!("object {blob_id} is a blob, not a tree")
    );
}

#[test]
fn what_a_pack_refers_to_and_does_not_have_is_listed_with_its_kind() {
    let ids: Vec<_> = (0..4u8).map(|at| id_of(Kind::Blob, &[at])).collect();
    let mut tree = Vec::new();
    for (entry, id) in [
        ("100644 a", ids[0]),
        ("40000 b", ids[1]),
        ("160000 c", ids[2]),
        ("120000 d", ids[0]),
    ] {
        tree.extend_from_slice(entry.as_bytes());
        tree.push(0);
        tree.extend_from_slice(id.as_slice());
    }
    let tree_id = id_of(Kind::Tree, &tree);
    let person = "A <a@example.com> 1 +0000";
    let commit = format!(
        "tree {tree_id}\nparent {}\nauthor {person}\ncommitter {person}\n\nm\n",
        ids[3]
    );
    let tag = format!("object {}\ntype tag\ntag t\ntagger {person}\n\nm\n", ids[0]);
    let mut packer = Packer::new();
    packer.whole(Kind::Commit, commit.as_bytes());
    packer.whole(Kind::Tree, &tree);
    packer.whole(Kind::Tag, tag.as_bytes());
    let dir = tempfile::tempdir().unwrap();
    let ingested = take_in(
        &packer.finish(),
        dir.path(),
        &mut Nothing,
        &options(HashKind::Sha1),
    )
    .unwrap();
    let mut expected = vec![
        Link {
            id: ids[0],
            kind: Kind::Blob,
        },
        Link {
            id: ids[0],
            kind: Kind::Tag,
        },
        Link {
            id: ids[1],
            kind: Kind::Tree,
        },
        Link {
            id: ids[3],
            kind: Kind::Commit,
        },
    ];
    expected.sort();
    assert_eq!(ingested.outside, expected);
}

#[test]
fn links_of_a_tree_that_is_a_delta_are_the_same_as_of_a_whole_one() {
    let id = |at: u32| id_of(Kind::Blob, &at.to_le_bytes());
    let tree = |entries: &mut dyn Iterator<Item = (u32, u32)>| {
        let mut tree = Vec::new();
        for (name, content) in entries {
            write!(tree, "100644 file{name:03}\0").unwrap();
            tree.extend_from_slice(id(content).as_slice());
        }
        tree
    };
    let base = tree(&mut (0..100).map(|at| (at, at)));
    let changes: [&dyn Fn(u32) -> Option<(u32, u32)>; 4] = [
        &|at| Some((at, if at == 50 { 1000 } else { at })),
        &|at| (at != 3).then_some((at, at)),
        &|at| Some((at, at + 500)),
        &|at| Some((if at >= 99 { 200 } else { at }, at)),
    ];
    for change in changes {
        let changed = tree(&mut (0..100).filter_map(change));
        let outside = |packer: Packer| {
            let dir = tempfile::tempdir().unwrap();
            take_in(
                &packer.finish(),
                dir.path(),
                &mut Nothing,
                &options(HashKind::Sha1),
            )
            .unwrap()
            .outside
        };
        let mut as_delta = Packer::new();
        let offset = as_delta.whole(Kind::Tree, &base);
        as_delta.ofs_delta(offset, &delta(base.len() as u64, &[], &changed));
        let mut as_whole = Packer::new();
        as_whole.whole(Kind::Tree, &base);
        as_whole.whole(Kind::Tree, &changed);
        assert_eq!(outside(as_delta), outside(as_whole));
    }
}

#[test]
fn links_of_a_tree_upon_a_base_from_the_repository_are_all_told() {
    struct HasTree(Vec<u8>);
    impl Bases for HasTree {
        fn find(&mut self, id: &gix_hash::oid, out: &mut Vec<u8>) -> Result<Option<Kind>, objects::Error> {
            out.extend_from_slice(&self.0);
            Ok((id == id_of(Kind::Tree, &self.0)).then_some(Kind::Tree))
        }
    }
    let base = [&b"100644 a\0"[..], &[1; 20], b"100644 b\0", &[2; 20]].concat();
    let base_id = id_of(Kind::Tree, &base);
    let upper = [&b"40000 d\0"[..], base_id.as_slice()].concat();
    let mut packer = Packer::new();
    packer.ref_delta(&base_id, &delta(base.len() as u64, &[(0, 49)], &[3; 9]));
    packer.whole(Kind::Tree, &upper);
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        thin: true,
        ..options(HashKind::Sha1)
    };
    let ingested = take_in(&packer.finish(), dir.path(), &mut HasTree(base), &options).unwrap();
    let changed = [[2; 11].as_slice(), &[3; 9]].concat();
    // The base is in the pack file now, but what it refers to may be nowhere.
    let mut expected = vec![
        Link {
            id: ObjectId::from([1; 20]),
            kind: Kind::Blob,
        },
        Link {
            id: ObjectId::try_from(changed.as_slice()).unwrap(),
            kind: Kind::Blob,
        },
        Link {
            id: base_id,
            kind: Kind::Tree,
        },
    ];
    expected.sort();
    assert_eq!(ingested.outside, expected);
}

#[test]
fn content_that_fsck_refuses_is_refused_in_deltas_too() {
    let mut good = b"100644 a\0".to_vec();
    good.extend_from_slice(&[1; 20]);
    let mut bad = good.clone();
    bad.extend_from_slice(b"40000 git~1\0");
    bad.extend_from_slice(&[1; 20]);
    let mut packer = Packer::new();
    let base = packer.whole(Kind::Tree, &good);
    packer.ofs_delta(
        base,
        &delta(good.len() as u64, &[(0, good.len() as u32)], &bad[good.len()..]),
    );
    let pack = packer.finish();
    let error = refusal(&pack);
    assert!(
        matches!(&error, Error::Fsck { id, finding } if *id == id_of(Kind::Tree, &bad)
            && finding.message == fsck::Message::HasDotgit),
        "{error:?}"
    );
    let dir = tempfile::tempdir().unwrap();
    let unchecked = Options {
        fsck: None,
        ..options(HashKind::Sha1)
    };
    assert_eq!(
        take_in(&pack, dir.path(), &mut Nothing, &unchecked)
            .unwrap()
            .objects_count,
        2
    );
}

#[test]
fn gitmodules_are_checked_wherever_their_blob_is() {
    let bad = b"[submodule \"x\"]\n\turl = -uhelp\n\tpath = x\n";
    let good = b"[submodule \"x\"]\n\turl = https://example.com/x\n\tpath = x\n";
    let tree = |content: &[u8]| {
        let mut tree = b"100644 .gitmodules\0".to_vec();
        tree.extend_from_slice(id_of(Kind::Blob, content).as_slice());
        tree
    };
    let refused = |packer: Packer| {
        let error = refusal(&packer.finish());
        assert!(
            matches!(&error, Error::Fsck { id, finding } if *id == id_of(Kind::Blob, bad)
                && finding.message == fsck::Message::GitmodulesUrl),
            "{error:?}"
        );
    };
    let mut tree_first = Packer::new();
    tree_first.whole(Kind::Tree, &tree(bad));
    tree_first.whole(Kind::Blob, bad);
    refused(tree_first);

    let mut as_delta = Packer::new();
    let base = as_delta.whole(Kind::Blob, good);
    as_delta.ofs_delta(base, &delta(good.len() as u64, &[], bad));
    as_delta.whole(Kind::Tree, &tree(bad));
    refused(as_delta);

    let mut as_ref_delta = Packer::new();
    as_ref_delta.whole(Kind::Tree, &tree(bad));
    as_ref_delta.ref_delta(&id_of(Kind::Blob, good), &delta(good.len() as u64, &[], bad));
    as_ref_delta.whole(Kind::Blob, good);
    refused(as_ref_delta);

    // As a mere blob it is nobody's business, until a tree of a later push calls it .gitmodules.
    let mut blob_only = Packer::new();
    blob_only.whole(Kind::Blob, bad);
    let dir = tempfile::tempdir().unwrap();
    take_in(
        &blob_only.finish(),
        dir.path(),
        &mut Nothing,
        &options(HashKind::Sha1),
    )
    .unwrap();
    struct HasBlob(&'static [u8]);
    impl Bases for HasBlob {
        fn find(&mut self, id: &gix_hash::oid, out: &mut Vec<u8>) -> Result<Option<Kind>, objects::Error> {
            out.extend_from_slice(self.0);
            Ok((id == id_of(Kind::Blob, self.0)).then_some(Kind::Blob))
        }
    }
    let mut tree_only = Packer::new();
    tree_only.whole(Kind::Tree, &tree(bad));
    let error = take_in(
        &tree_only.finish(),
        dir.path(),
        &mut HasBlob(bad),
        &options(HashKind::Sha1),
    );
    assert!(matches!(error, Err(Error::Fsck { .. })), "{error:?}");
}

#[test]
fn an_interrupt_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let interrupt = Interrupt::new();
    let pack = small_pack();
    let mut stop_at_resolving = |progress| {
        if matches!(progress, Progress::Receiving { objects: 4, .. }) {
            interrupt.trigger();
        }
    };
    let options = options(HashKind::Sha1);
    let mut input = pack.as_slice();
    let result = ingest(
        &mut input,
        dir.path(),
        &mut Nothing,
        &options,
        &mut stop_at_resolving,
        &interrupt,
    );
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    assert_eq!(files(dir.path()), [""; 0]);
}

#[test]
fn a_stream_that_fails_is_told_with_its_reason() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("connection lost"))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let options = options(HashKind::Sha1);
    let result = ingest(
        &mut Failing,
        dir.path(),
        &mut Nothing,
        &options,
        &mut |_| {},
        &Interrupt::new(),
    );
    assert!(matches!(result, Err(Error::Read(_))), "{result:?}");
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let result = take_in(&small_pack(), &missing, &mut Nothing, &options(HashKind::Sha1));
    assert!(matches!(result, Err(Error::Write { .. })), "{result:?}");
}
