use std::path::{Path, PathBuf};
use std::sync::Arc;

use gix_hash::ObjectId;
use gix_object::Kind;

use super::*;
use crate::repository::testing::git_text;

fn git(dir: &Path, args: &[&str]) -> String {
    git_text(dir, args, b"")
}

/// A repository with 30 commits that change one long file, and a tag of a tag.
fn repository(format: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    git(
        dir.path(),
        &["init", "-q", "-b", "main", "--object-format", format],
    );
    for i in 0..30 {
        let text: String = (0..400)
            .map(|line| format!("line {line} {}\n", if line == i * 7 { i } else { 0 }))
            .collect();
        std::fs::write(dir.path().join("file"), text).unwrap();
        git(dir.path(), &["add", "."]);
        git(dir.path(), &["commit", "-qm", &format!("c{i}")]);
    }
    git(dir.path(), &["tag", "-am", "one", "one"]);
    git(dir.path(), &["tag", "-am", "two", "two", "one"]);
    let git_dir = dir.path().join(".git");
    (dir, git_dir)
}

fn open(git_dir: &Path, hash: gix_hash::Kind) -> Arc<ObjectStore> {
    Arc::new(ObjectStore::open(&git_dir.join("objects"), hash).unwrap())
}

/// Every object that git lists is read, is of the kind that git names, and hashes to its id.
fn assert_all_objects_are_read(git_dir: &Path, hash: gix_hash::Kind) -> usize {
    let mut objects = open(git_dir, hash).handle().unwrap();
    let list = git(git_dir, &["cat-file", "--batch-all-objects", "--batch-check"]);
    let mut count = 0;
    for line in list.lines() {
        let mut words = line.split(' ');
        let id = ObjectId::from_hex(words.next().unwrap().as_bytes()).unwrap();
        let kind = Kind::from_bytes(words.next().unwrap().as_bytes()).unwrap();
        let object = objects.read(&id).unwrap().unwrap();
        assert_eq!(object.kind, kind, "{line}");
        assert_eq!(objects.kind(&id).unwrap(), Some(kind), "{line}");
        assert_eq!(object.data.len().to_string(), words.next().unwrap(), "{line}");
        assert_eq!(
            gix_object::compute_hash(hash, kind, &object.data).unwrap(),
            id,
            "{line}"
        );
        count += 1;
    }
    count
}

#[test]
fn loose_packed_and_multi_pack_objects_are_read_in_both_hash_formats() {
    for (format, hash) in [("sha1", gix_hash::Kind::Sha1), ("sha256", gix_hash::Kind::Sha256)] {
        let (_dir, git_dir) = repository(format);
        let loose = assert_all_objects_are_read(&git_dir, hash);
        assert_eq!(loose, 92, "30 commits, trees and blobs, and two tags");
        git(&git_dir, &["repack", "-adfq", "--depth=50"]);
        assert_eq!(assert_all_objects_are_read(&git_dir, hash), loose);
        std::fs::write(git_dir.with_file_name("more"), "more").unwrap();
        git(git_dir.parent().unwrap(), &["add", "."]);
        git(git_dir.parent().unwrap(), &["commit", "-qm", "more"]);
        git(&git_dir, &["repack", "-dq"]);
        git(&git_dir, &["multi-pack-index", "write"]);
        assert_eq!(assert_all_objects_are_read(&git_dir, hash), loose + 3);
    }
}

#[test]
fn objects_of_an_alternate_are_found() {
    let (_dir, git_dir) = repository("sha1");
    let borrower = tempfile::tempdir().unwrap();
    git(
        borrower.path(),
        &[
            "clone",
            "-q",
            "--bare",
            "--shared",
            git_dir.to_str().unwrap(),
            "b.git",
        ],
    );
    let head = ObjectId::from_hex(git(&git_dir, &["rev-parse", "HEAD"]).trim().as_bytes()).unwrap();
    let store = open(&borrower.path().join("b.git"), gix_hash::Kind::Sha1);
    assert!(store.handle().unwrap().contains(&head).unwrap());
}

#[test]
fn a_pack_that_appears_later_is_seen_by_a_handle_that_was_there_before() {
    let (dir, git_dir) = repository("sha1");
    git(&git_dir, &["repack", "-adq"]);
    let store = open(&git_dir, gix_hash::Kind::Sha1);
    let mut objects = store.handle().unwrap();
    std::fs::write(dir.path().join("new"), "new").unwrap();
    git(dir.path(), &["add", "."]);
    git(dir.path(), &["commit", "-qm", "new"]);
    let head = ObjectId::from_hex(git(&git_dir, &["rev-parse", "HEAD"]).trim().as_bytes()).unwrap();
    let old = ObjectId::from_hex(git(&git_dir, &["rev-parse", "HEAD~1"]).trim().as_bytes()).unwrap();
    let place = objects.locate(&old).unwrap().unwrap();
    git(&git_dir, &["repack", "-dq"]);
    git(&git_dir, &["prune-packed"]);
    assert!(matches!(
        objects.locate(&head).unwrap(),
        Some(Location::Packed { .. })
    ));
    assert_eq!(
        objects.read_at(&old, place).unwrap().kind,
        Kind::Commit,
        "places given before stay good"
    );
}

#[test]
fn what_was_found_is_read_although_git_packs_and_removes_it_meanwhile() {
    let (_dir, git_dir) = repository("sha1");
    let head = ObjectId::from_hex(git(&git_dir, &["rev-parse", "HEAD"]).trim().as_bytes()).unwrap();
    let mut objects = open(&git_dir, gix_hash::Kind::Sha1).handle().unwrap();
    let place = objects.locate(&head).unwrap().unwrap();
    assert!(matches!(place, Location::Loose { .. }));
    git(&git_dir, &["repack", "-adq"]);
    assert_eq!(objects.kind_at(&head, place).unwrap(), Kind::Commit);
    assert_eq!(objects.read_at(&head, place).unwrap().kind, Kind::Commit);

    git(&git_dir, &["multi-pack-index", "write"]);
    let mut objects = open(&git_dir, gix_hash::Kind::Sha1).handle().unwrap();
    let Some(Location::Packed { pack, offset }) = objects.locate(&head).unwrap() else {
        panic!("it is packed");
    };
    git(&git_dir, &["-c", "pack.compression=0", "repack", "-adfFq"]);
    git(&git_dir, &["prune-packed"]);
    assert!(objects.raw_entry(pack, offset).is_ok());
}

#[test]
fn tags_are_peeled_to_what_they_finally_point_at() {
    let (_dir, git_dir) = repository("sha1");
    let id = |name: &str| ObjectId::from_hex(git(&git_dir, &["rev-parse", name]).trim().as_bytes()).unwrap();
    let mut objects = open(&git_dir, gix_hash::Kind::Sha1).handle().unwrap();
    assert_eq!(objects.peel(id("two")).unwrap(), Some(id("HEAD")));
    assert_eq!(objects.peel(id("HEAD")).unwrap(), None);
    assert_eq!(objects.peel(ObjectId::null(gix_hash::Kind::Sha1)).unwrap(), None);
}

#[test]
fn bytes_that_were_changed_on_disk_are_an_error_and_not_an_object() {
    let (_dir, git_dir) = repository("sha1");
    git(&git_dir, &["repack", "-adfq"]);
    let pack = std::fs::read_dir(git_dir.join("objects/pack"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ext| ext == "pack"))
        .unwrap();
    let whole = std::fs::read(&pack).unwrap();
    let ids: Vec<ObjectId> = git(
        &git_dir,
        &["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"],
    )
    .lines()
    .map(|line| ObjectId::from_hex(line.as_bytes()).unwrap())
    .collect();
    let mut permissions = std::fs::metadata(&pack).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&pack, permissions).unwrap();
    let mut errors = 0;
    for at in (12..whole.len() - 20).step_by(97) {
        let mut broken = whole.clone();
        broken[at] ^= 0x55;
        std::fs::write(&pack, &broken).unwrap();
        let mut objects = open(&git_dir, gix_hash::Kind::Sha1).handle().unwrap();
        for id in &ids {
            match objects.read(id) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{id} is in the index"),
                Err(_) => errors += 1,
            }
        }
    }
    assert!(
        errors > 0,
        "zlib's checksum or a header must have caught some of it"
    );
}
