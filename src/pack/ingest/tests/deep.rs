//! How deep trees lie in one another.

use super::packer::{Packer, delta, id_of};
use super::*;

fn entry(mode: &str, name: &str, kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut entry = format!("{mode} {name}\0").into_bytes();
    entry.extend_from_slice(id_of(kind, content).as_slice());
    entry
}

/// Adds a blob and trees of one name in one another, and returns the content of the outermost, which holds `levels`.
fn nested(packer: &mut Packer, levels: usize) -> Vec<u8> {
    packer.whole(Kind::Blob, b"x");
    let mut tree = entry("100644", "f", Kind::Blob, b"x");
    for _ in 0..levels {
        packer.whole(Kind::Tree, &tree);
        tree = entry("40000", "d", Kind::Tree, &tree);
    }
    tree
}

/// Whether the depth of a pack is told to be bounded, whichever number of threads looks at it.
fn is_depth_bounded(pack: &[u8]) -> bool {
    let told = [1, 2].map(|threads| {
        let mut options = options(HashKind::Sha1);
        options.limits.threads = threads;
        let dir = tempfile::tempdir().unwrap();
        let ingested = take_in(pack, dir.path(), &mut Nothing, &options).unwrap();
        assert_eq!(ingested.outside, []);
        ingested.is_depth_bounded
    });
    assert_eq!(told[0], told[1]);
    told[0]
}

#[test]
fn a_pack_is_depth_bounded_as_long_as_its_trees_lie_no_deeper_than_git_goes() {
    for (levels, expected) in [(3, true), (2048, true), (2049, false), (5000, false)] {
        let mut packer = Packer::new();
        let root = nested(&mut packer, levels);
        packer.whole(Kind::Tree, &root);
        assert_eq!(is_depth_bounded(&packer.finish()), expected, "{levels}");
    }
}

#[test]
fn what_a_tree_has_from_its_base_lies_in_it_too() {
    for (levels, expected) in [(2047, true), (2048, false)] {
        let mut packer = Packer::new();
        let base = nested(&mut packer, levels);
        let offset = packer.whole(Kind::Tree, &base);
        // The same directory and a file, and a root that only this one lies in.
        let file = entry("100644", "e", Kind::Blob, b"x");
        let instructions = delta(base.len() as u64, &[(0, base.len() as u32)], &file);
        packer.ofs_delta(offset, &instructions);
        let root = entry("40000", "d", Kind::Tree, &[base, file].concat());
        packer.whole(Kind::Tree, &root);
        assert_eq!(is_depth_bounded(&packer.finish()), expected, "{levels}");
    }
}

#[test]
fn a_common_history_is_depth_bounded() {
    let source = tempfile::tempdir().unwrap();
    history(source.path(), "sha1", 300);
    let pack = git(source.path(), &["pack-objects", "--all", "--stdout", "-q"], b"");
    let dir = tempfile::tempdir().unwrap();
    let ingested = take_in(&pack, dir.path(), &mut Nothing, &options(HashKind::Sha1)).unwrap();
    assert!(ingested.is_depth_bounded && ingested.objects_count > 2500);
}
