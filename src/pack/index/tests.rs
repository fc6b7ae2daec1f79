use gix_hash::Kind;

use super::*;

#[test]
fn offsets_of_two_gibibytes_and_more_go_to_the_table_of_large_ones() {
    let ids: Vec<u8> = [[3u8; 20], [1; 20], [2; 20], [1; 20]].concat();
    let offsets = [12, (1 << 31) - 1, 1 << 31, (1 << 40) + 5];
    let crcs = [30, 10, 20, 11];
    let entries = Entries {
        hash: Kind::Sha1,
        ids: &ids,
        crcs: &crcs,
        offsets: &offsets,
    };
    let order = sort(&ids, Kind::Sha1);
    assert_eq!(order, [1, 3, 2, 0], "equal ids stay in pack order");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.idx");
    let checksum = ObjectId::from_hex(b"00000000000000000000000000000000000000ff").unwrap();
    let digest = write(
        &mut std::fs::File::create(&path).unwrap(),
        &entries,
        &order,
        &checksum,
    )
    .unwrap();

    let index = gix_pack::index::File::at(&path, Kind::Sha1).unwrap();
    assert_eq!(index.index_checksum(), digest);
    assert_eq!(index.pack_checksum(), checksum);
    let read: Vec<_> = index
        .iter()
        .map(|entry| (entry.oid.as_slice()[0], entry.pack_offset, entry.crc32))
        .collect();
    let expected = [
        (1, offsets[1], Some(10)),
        (1, offsets[3], Some(11)),
        (2, offsets[2], Some(20)),
        (3, 12, Some(30)),
    ];
    assert_eq!(read, expected);
}

#[test]
fn what_was_sorted_is_found() {
    let ids: Vec<u8> = [[3u8; 20], [1; 20], [2; 20], [1; 20]].concat();
    let order = sort(&ids, Kind::Sha1);
    let find = |byte: u8| find(&ids, Kind::Sha1, &order, &ObjectId::from([byte; 20]));
    assert_eq!(find(1), 0..2);
    assert_eq!(find(3), 3..4);
    assert!(find(0).is_empty() && find(4).is_empty());
}

#[test]
fn an_empty_pack_has_an_index() {
    let entries = Entries {
        hash: Kind::Sha256,
        ids: &[],
        crcs: &[],
        offsets: &[],
    };
    let mut out = Vec::new();
    write(
        &mut out,
        &entries,
        &sort(&[], Kind::Sha256),
        &ObjectId::null(Kind::Sha256),
    )
    .unwrap();
    assert_eq!(out.len(), 8 + 1024 + 2 * 32);
}
