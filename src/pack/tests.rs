mod bitmaps;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gix_hash::ObjectId;
use hashbrown::HashSet;

use super::enumerate::{ObjectList, Request, enumerate};
use super::write::{Options, Written, write};
use super::{Error, commits, connectivity};
use crate::interrupt::Interrupt;
use crate::repository::objects::{ObjectStore, Objects};
use crate::repository::testing;

const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;

fn git(dir: &Path, args: &[&str]) -> String {
    git_with_input(dir, args, b"")
}

fn git_with_input(dir: &Path, args: &[&str], input: &[u8]) -> String {
    testing::git_text(dir, args, input)
}

fn id(dir: &Path, name: &str) -> ObjectId {
    ObjectId::from_hex(git(dir, &["rev-parse", name]).trim().as_bytes()).unwrap()
}

/// A small generator of numbers, so that a failing history can be made again from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A bare repository with a random history: merges, recurring blobs and trees, reverts, skewed dates.
fn random_repository(seed: u64, commits: u64) -> (tempfile::TempDir, PathBuf, Vec<ObjectId>) {
    let dir = tempfile::tempdir().unwrap();
    let git_dir = dir.path().join("r.git");
    git(dir.path(), &["init", "-q", "--bare", "-b", "main", "r.git"]);
    let mut random = Random(seed);
    let mut script = Vec::new();
    for n in 1..=commits {
        let date = 1_700_000_000 + n * 60 - random.below(4) * 100;
        let branch = random.below(3);
        let parent = if n == 1 {
            0
        } else {
            1 + random.below(n - 1).max(n.saturating_sub(6)).min(n - 2)
        };
        writeln!(
            script,
            "commit refs/heads/b{branch}\nmark :{n}\ncommitter a <a@example.com> {date} +0000"
        )
        .unwrap();
        writeln!(script, "data 2\nc\n").unwrap();
        if parent > 0 {
            writeln!(script, "from :{parent}").unwrap();
            if random.below(4) == 0 && n > 3 {
                writeln!(script, "merge :{}", 1 + random.below(n - 2)).unwrap();
            }
        }
        for _ in 0..=random.below(4) {
            let (a, b) = (random.below(3), random.below(3));
            match random.below(6) {
                0 => writeln!(script, "D d{a}/e{b}").unwrap(),
                // Few texts in many places: blobs and trees recur elsewhere and come back.
                _ => {
                    let text: String = (0..60)
                        .map(|line| format!("{line} {}\n", if line == a * 9 { random.below(9) } else { 0 }))
                        .collect();
                    writeln!(
                        script,
                        "M 100644 inline d{a}/e{b}/f{}\ndata {}\n{text}",
                        random.below(5),
                        text.len()
                    )
                    .unwrap();
                }
            }
        }
        writeln!(script).unwrap();
    }
    git_with_input(&git_dir, &["fast-import", "--quiet", "--force"], &script);
    let ids = git(&git_dir, &["rev-list", "--all"])
        .lines()
        .map(|line| ObjectId::from_hex(line.as_bytes()).unwrap())
        .collect();
    (dir, git_dir, ids)
}

fn store(git_dir: &Path) -> Arc<ObjectStore> {
    Arc::new(ObjectStore::open(&git_dir.join("objects"), SHA1).unwrap())
}

fn list(objects: &mut Objects, wants: &[ObjectId], haves: &[ObjectId]) -> ObjectList {
    let request = Request {
        wants,
        haves,
        tags: &[],
        strict: false,
        names_whole_pack: false,
    };
    enumerate(objects, None, &request, &mut |_| (), &Interrupt::new()).unwrap()
}

fn ids_of(list: &ObjectList) -> BTreeSet<ObjectId> {
    list.objects().iter().map(|object| object.id).collect()
}

fn rev_list(git_dir: &Path, wants: &[ObjectId], haves: &[ObjectId]) -> BTreeSet<ObjectId> {
    let mut args = vec![
        "rev-list".to_owned(),
        "--objects".to_owned(),
        "--no-object-names".to_owned(),
    ];
    args.extend(wants.iter().map(ToString::to_string));
    args.extend(haves.iter().map(|id| format!("^{id}")));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    git(git_dir, &args)
        .lines()
        .map(|line| ObjectId::from_hex(line.as_bytes()).unwrap())
        .collect()
}

fn pack(objects: &mut Objects, list: &ObjectList, options: Options) -> (Vec<u8>, Written) {
    let mut out = Vec::new();
    let written = write(objects, list, options, &mut out, &mut |_| (), &Interrupt::new()).unwrap();
    assert_eq!(written.bytes, out.len() as u64);
    assert_eq!(written.objects, list.len() as u64);
    (out, written)
}

const PLAIN: Options = Options {
    thin: false,
    ofs_delta: true,
    compression: -1,
};
const THIN: Options = Options {
    thin: true,
    ofs_delta: true,
    compression: -1,
};

#[test]
fn a_clone_lists_exactly_what_git_lists() {
    for seed in 0..6 {
        let (_dir, git_dir, ids) = random_repository(seed, 40);
        let mut objects = store(&git_dir).handle().unwrap();
        for &want in ids.iter().step_by(5) {
            assert_eq!(
                ids_of(&list(&mut objects, &[want], &[])),
                rev_list(&git_dir, &[want], &[]),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_fetch_lists_all_that_is_missing_and_little_else() {
    for seed in 10..18 {
        let (_dir, git_dir, ids) = random_repository(seed, 50);
        let mut objects = store(&git_dir).handle().unwrap();
        let mut random = Random(seed);
        let (mut ours, mut gits) = (0, 0);
        for _ in 0..25 {
            let mut pick = || ids[random.below(ids.len() as u64) as usize];
            let (wants, haves) = ([pick(), pick()], [pick(), pick()]);
            let had = rev_list(&git_dir, &haves, &[]);
            let needed: BTreeSet<ObjectId> = rev_list(&git_dir, &wants, &[])
                .difference(&had)
                .copied()
                .collect();
            let listed = ids_of(&list(&mut objects, &wants, &haves));
            assert!(
                needed.is_subset(&listed),
                "seed {seed}, wants {wants:?}, haves {haves:?}"
            );
            ours += listed.len();
            gits += needed.len();
        }
        assert!(
            ours <= gits + gits / 4 + 20,
            "seed {seed}: {ours} objects were listed where {gits} were needed"
        );
    }
}

#[test]
fn directories_that_change_places_do_not_vouch_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q", "-b", "main"]);
    let commit = |files: &[(&str, &str)], message: &str| {
        for path in ["p", "q"] {
            let _ = std::fs::remove_dir_all(dir.path().join(path));
        }
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        git(dir.path(), &["add", "-A"]);
        git(dir.path(), &["commit", "-qm", message, "--allow-empty"]);
        id(dir.path(), "HEAD")
    };
    let base = commit(&[], "base");
    commit(
        &[("p/x", "shared"), ("p/a", "a"), ("q/x", "shared"), ("q/b", "b")],
        "one",
    );
    let tip = commit(
        &[("q/x", "shared"), ("q/a", "a"), ("p/x", "shared"), ("p/b", "b")],
        "swapped",
    );
    let git_dir = dir.path().join(".git");
    let mut objects = store(&git_dir).handle().unwrap();
    assert_eq!(
        ids_of(&list(&mut objects, &[tip], &[base])),
        rev_list(&git_dir, &[tip], &[base])
    );
}

/// Stores a tree of `entries`, each "mode name" and an id, however odd, and a commit of it.
fn commit_of_tree(git_dir: &Path, entries: &[(&str, ObjectId)], parents: &[ObjectId]) -> ObjectId {
    let mut tree = Vec::new();
    for (head, id) in entries {
        tree.extend_from_slice(head.as_bytes());
        tree.push(0);
        tree.extend_from_slice(id.as_slice());
    }
    let hash = ["hash-object", "-w", "--literally", "-t", "tree", "--stdin"];
    let tree = git_with_input(git_dir, &hash, &tree);
    let mut args = vec!["commit-tree".to_owned(), tree.trim().to_owned()];
    for parent in parents {
        args.extend(["-p".to_owned(), parent.to_string()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    ObjectId::from_hex(git_with_input(git_dir, &args, b"c\n").trim().as_bytes()).unwrap()
}

#[test]
fn modes_with_many_digits_are_read_and_those_that_nothing_has_need_no_object() {
    let (_dir, git_dir, ids) = random_repository(70, 2);
    let absent = ObjectId::from_hex(&[b'7'; 40]).unwrap();
    let tree = id(&git_dir, &format!("{}^{{tree}}", ids[0]));
    let blob = git_with_input(&git_dir, &["hash-object", "-w", "--stdin"], b"x");
    let blob = ObjectId::from_hex(blob.trim().as_bytes()).unwrap();
    let entries = [
        ("00000000100644 a", blob),
        ("30000 b", absent),
        ("000000000040000 c", tree),
        ("1160000 d", absent),
    ];
    let commit = commit_of_tree(&git_dir, &entries, &[]);
    let mut objects = store(&git_dir).handle().unwrap();
    assert_eq!(
        ids_of(&list(&mut objects, &[commit], &[])),
        rev_list(&git_dir, &[commit], &[])
    );
}

#[test]
fn a_commit_that_a_tree_names_as_a_file_is_listed_once() {
    let (_dir, git_dir, ids) = random_repository(71, 3);
    let commit = commit_of_tree(&git_dir, &[("100644 a", ids[0])], &ids[..1]);
    let mut objects = store(&git_dir).handle().unwrap();
    let listed = list(&mut objects, &[commit], &[]);
    assert_eq!(listed.len(), ids_of(&listed).len());
}

#[test]
fn packs_are_accepted_by_git_from_loose_and_packed_objects_with_and_without_ofs_delta() {
    let (_dir, git_dir, ids) = random_repository(3, 60);
    let want = ids[0];
    for repack in [false, true] {
        if repack {
            git(&git_dir, &["repack", "-adfq", "--depth=50", "--window=20"]);
        } else {
            git_with_input(&git_dir, &["unpack-objects", "-q"], &{
                let pack = std::fs::read_dir(git_dir.join("objects/pack")).unwrap();
                let pack = pack
                    .map(|e| e.unwrap().path())
                    .find(|p| p.extension().is_some_and(|e| e == "pack"))
                    .unwrap();
                let bytes = std::fs::read(&pack).unwrap();
                std::fs::remove_file(pack.with_extension("idx")).unwrap();
                std::fs::remove_file(&pack).unwrap();
                bytes
            });
        }
        let mut objects = store(&git_dir).handle().unwrap();
        let listed = list(&mut objects, &[want], &[]);
        for ofs_delta in [false, true] {
            let (bytes, written) = pack(&mut objects, &listed, Options { ofs_delta, ..PLAIN });
            assert_eq!(
                written.reused_deltas > 0,
                repack,
                "deltas are copied where there are any"
            );
            let target = tempfile::tempdir().unwrap();
            git(target.path(), &["init", "-q", "--bare", "."]);
            git_with_input(target.path(), &["index-pack", "--strict", "--stdin"], &bytes);
            let got = git(
                target.path(),
                &["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"],
            );
            let got: BTreeSet<ObjectId> = got
                .lines()
                .map(|l| ObjectId::from_hex(l.as_bytes()).unwrap())
                .collect();
            assert_eq!(got, ids_of(&listed));
        }
    }
}

#[test]
fn a_thin_pack_completes_what_the_client_has() {
    for seed in 20..26 {
        let (_dir, git_dir, ids) = random_repository(seed, 60);
        git(&git_dir, &["repack", "-adfq", "--depth=50", "--window=20"]);
        let mut objects = store(&git_dir).handle().unwrap();
        let mut random = Random(seed);
        for _ in 0..6 {
            let want = ids[random.below(ids.len() as u64 / 2) as usize];
            let have = ids[random.below(ids.len() as u64) as usize];
            let client = tempfile::tempdir().unwrap();
            git(client.path(), &["init", "-q", "--bare", "."]);
            let had = list(&mut objects, &[have], &[]);
            let (bytes, _) = pack(&mut objects, &had, PLAIN);
            git_with_input(client.path(), &["index-pack", "--stdin"], &bytes);
            let listed = list(&mut objects, &[want], &[have]);
            let (bytes, written) = pack(&mut objects, &listed, THIN);
            if written.objects > 0 {
                git_with_input(client.path(), &["index-pack", "--stdin", "--fix-thin"], &bytes);
            }
            git(client.path(), &["update-ref", "refs/heads/x", &want.to_string()]);
            git(client.path(), &["fsck", "--strict", "--full"]);
        }
    }
}

#[test]
fn thin_packs_use_bases_that_the_client_has() {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q", "-b", "main"]);
    let text: String = (0..2000)
        .map(|line| format!("line {line} {}\n", line * 7919 % 1000))
        .collect();
    std::fs::write(dir.path().join("f"), &text).unwrap();
    git(dir.path(), &["add", "."]);
    git(dir.path(), &["commit", "-qm", "one"]);
    let old = id(dir.path(), "HEAD");
    std::fs::write(dir.path().join("f"), text.replace("line 7 ", "row 7 ")).unwrap();
    git(dir.path(), &["commit", "-qam", "two"]);
    let new = id(dir.path(), "HEAD");
    // What a push of the second commit leaves: its blob as a delta against the first one's, in a pack of its own.
    let pack_objects = [
        "pack-objects",
        "--thin",
        "--stdout",
        "--revs",
        "-q",
        "--delta-base-offset",
    ];
    let thin = testing::git(dir.path(), &pack_objects, format!("{new}\n^{old}\n").as_bytes());
    let server = tempfile::tempdir().unwrap();
    git(server.path(), &["init", "-q", "--bare", "."]);
    let mut objects = store(&dir.path().join(".git")).handle().unwrap();
    let first = list(&mut objects, &[old], &[]);
    git_with_input(
        server.path(),
        &["index-pack", "--stdin"],
        &pack(&mut objects, &first, PLAIN).0,
    );
    git_with_input(server.path(), &["index-pack", "--stdin", "--fix-thin"], &thin);
    let mut objects = store(server.path()).handle().unwrap();
    let listed = list(&mut objects, &[new], &[old]);
    let (bytes, written) = pack(&mut objects, &listed, THIN);
    assert_eq!(written.deltas, 1);
    assert!(bytes.len() < 1000, "a one-line change took {} bytes", bytes.len());
    let (bytes, written) = pack(&mut objects, &listed, PLAIN);
    assert_eq!(written.deltas, 0);
    assert!(bytes.len() > 5000);
}

#[test]
fn reachability_is_what_git_says() {
    for seed in 30..34 {
        let (_dir, git_dir, ids) = random_repository(seed, 40);
        let mut objects = store(&git_dir).handle().unwrap();
        for &tip in ids.iter().step_by(7) {
            let expected: BTreeSet<String> = git(&git_dir, &["rev-list", &tip.to_string()])
                .lines()
                .map(str::to_owned)
                .collect();
            let answer = commits::reachable(&mut objects, None, &[tip], &ids, &Interrupt::new()).unwrap();
            for (id, is_reachable) in ids.iter().zip(answer) {
                assert_eq!(
                    is_reachable,
                    expected.contains(&id.to_string()),
                    "seed {seed}: {id} from {tip}"
                );
            }
        }
    }
}

#[test]
fn all_tips_reach_a_target_exactly_when_git_finds_one_below_each() {
    let (_dir, git_dir, ids) = random_repository(35, 40);
    let mut objects = store(&git_dir).handle().unwrap();
    let mut random = Random(35);
    let mut seen = [0, 0];
    for _ in 0..60 {
        let mut pick = || ids[random.below(ids.len() as u64) as usize];
        let (tips, targets) = ([pick(), pick(), pick()], HashSet::from([pick(), pick()]));
        let expected = tips.iter().all(|tip| {
            git(&git_dir, &["rev-list", &tip.to_string()])
                .lines()
                .any(|line| targets.contains(&ObjectId::from_hex(line.as_bytes()).unwrap()))
        });
        let interrupt = Interrupt::new();
        let mut commits = commits::Commits::new(&mut objects, None, &interrupt);
        assert_eq!(
            commits.all_reach(&tips, &targets, 0).unwrap(),
            expected,
            "{tips:?} to {targets:?}"
        );
        seen[usize::from(expected)] += 1;
        // What is older than all targets is not looked at.
        assert!(
            !commits.all_reach(&tips, &targets, i64::MAX).unwrap()
                || tips.iter().all(|id| targets.contains(id))
        );
    }
    assert!(seen.iter().all(|&count| count > 5), "{seen:?}");
}

#[test]
fn a_commit_graph_changes_nothing_but_the_cost() {
    let (_dir, git_dir, ids) = random_repository(40, 60);
    let mut objects = store(&git_dir).handle().unwrap();
    git(&git_dir, &["commit-graph", "write", "--reachable"]);
    let graph = gix_commitgraph::at(git_dir.join("objects/info"), SHA1, None).unwrap();
    for pair in ids.windows(2).step_by(6) {
        let request = Request {
            wants: &pair[..1],
            haves: &pair[1..],
            tags: &[],
            strict: false,
            names_whole_pack: false,
        };
        let with = enumerate(
            &mut objects,
            Some(&graph),
            &request,
            &mut |_| (),
            &Interrupt::new(),
        )
        .unwrap();
        assert_eq!(ids_of(&with), ids_of(&list(&mut objects, &pair[..1], &pair[1..])));
    }
}

#[test]
fn a_missing_tree_blob_or_commit_is_found_by_the_connectivity_check() {
    let (_dir, git_dir, ids) = random_repository(50, 12);
    let all = rev_list(&git_dir, &[ids[0]], &[]);
    let loose = tempfile::tempdir().unwrap();
    git(loose.path(), &["init", "-q", "--bare", "."]);
    let mut objects = store(&git_dir).handle().unwrap();
    let whole = list(&mut objects, &[ids[0]], &[]);
    let (bytes, _) = pack(&mut objects, &whole, PLAIN);
    git_with_input(loose.path(), &["unpack-objects", "-q"], &bytes);
    let check = || {
        connectivity::check(
            &mut store(loose.path()).handle().unwrap(),
            None,
            &[ids[0]],
            &[],
            &mut |_| (),
            &Interrupt::new(),
        )
    };
    assert!(check().is_ok());
    for id in all {
        let hex = id.to_string();
        let path = loose.path().join("objects").join(&hex[..2]).join(&hex[2..]);
        let kept = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(
            matches!(check(), Err(Error::Missing(missing)) if missing == id),
            "{id} is gone"
        );
        std::fs::write(&path, kept).unwrap();
    }
}

#[test]
fn an_object_that_is_named_as_another_kind_is_found_by_the_connectivity_check() {
    let (_dir, git_dir, ids) = random_repository(72, 3);
    let tree = id(&git_dir, &format!("{}^{{tree}}", ids[0]));
    for (entry, expected) in [("100644 a", "blob"), ("40000 a", "tree")] {
        let odd = if expected == "blob" {
            [ids[0], tree]
        } else {
            [ids[0]; 2]
        };
        for named in odd {
            let commit = commit_of_tree(&git_dir, &[(entry, named)], &[]);
            let checked = connectivity::check(
                &mut store(&git_dir).handle().unwrap(),
                None,
                &[commit],
                &[],
                &mut |_| (),
                &Interrupt::new(),
            );
            assert!(
                matches!(&checked, Err(Error::Kind { id, expected: kind, .. }) if *id == named && kind.to_string() == expected),
                "{checked:?}"
            );
        }
    }
}

#[test]
fn a_have_that_is_missing_or_leads_nowhere_counts_for_nothing() {
    let (_dir, git_dir, ids) = random_repository(73, 6);
    let absent = ObjectId::from_hex(&[b'7'; 40]).unwrap();
    let tag = format!("object {absent}\ntype commit\ntag t\ntagger a <a@b> 0 +0000\n\nt\n");
    let hash = ["hash-object", "-w", "--literally", "-t", "tag", "--stdin"];
    let tag = git_with_input(&git_dir, &hash, tag.as_bytes());
    let tag = ObjectId::from_hex(tag.trim().as_bytes()).unwrap();
    let mut objects = store(&git_dir).handle().unwrap();
    assert_eq!(
        ids_of(&list(&mut objects, &ids[..1], &[absent, tag, ids[5]])),
        ids_of(&list(&mut objects, &ids[..1], &ids[5..]))
    );
}

#[test]
fn a_merge_of_many_parents_is_listed_whole() {
    let (_dir, git_dir, ids) = random_repository(74, 2);
    let blob = |text: String| {
        let id = git_with_input(&git_dir, &["hash-object", "-w", "--stdin"], text.as_bytes());
        ObjectId::from_hex(id.trim().as_bytes()).unwrap()
    };
    let parents: Vec<ObjectId> = (0..40)
        .map(|n| commit_of_tree(&git_dir, &[("100644 a", blob(format!("{n}")))], &ids[..1]))
        .collect();
    let last = blob("39".to_owned());
    let merge = commit_of_tree(
        &git_dir,
        &[("100644 a", last), ("100644 b", blob("new".to_owned()))],
        &parents,
    );
    let mut objects = store(&git_dir).handle().unwrap();
    for haves in [&parents[..20], &parents[20..], &ids[..1]] {
        let listed = ids_of(&list(&mut objects, &[merge], haves));
        assert!(rev_list(&git_dir, &[merge], haves).is_subset(&listed));
    }
}

#[test]
fn trees_that_are_too_large_to_be_held_level_by_level_are_walked_to_their_ends() {
    let (_dir, git_dir, ids) = random_repository(75, 2);
    let blob = |text: String| {
        let id = git_with_input(&git_dir, &["hash-object", "-w", "--stdin"], text.as_bytes());
        ObjectId::from_hex(id.trim().as_bytes()).unwrap()
    };
    let mut wide = Vec::new();
    let name = "n".repeat(4000);
    let many = blob("x".to_owned());
    for n in 0..8000 {
        wide.extend_from_slice(format!("100644 {name}{n:05}\0").as_bytes());
        wide.extend_from_slice(many.as_slice());
    }
    // Thirty megabytes a level, and behind the directory a file that only this level has.
    let mut below = None;
    for level in 0..10 {
        let mut tree = wide.clone();
        if let Some(below) = below {
            tree.extend_from_slice(b"40000 y\0");
            tree.extend_from_slice(ObjectId::as_slice(&below));
        }
        tree.extend_from_slice(b"100644 z\0");
        tree.extend_from_slice(blob(format!("{level}")).as_slice());
        let hash = ["hash-object", "-w", "--literally", "-t", "tree", "--stdin"];
        let id = git_with_input(&git_dir, &hash, &tree);
        below = Some(ObjectId::from_hex(id.trim().as_bytes()).unwrap());
    }
    let root = below.unwrap().to_string();
    let commit = git_with_input(&git_dir, &["commit-tree", &root], b"c\n");
    let commit = ObjectId::from_hex(commit.trim().as_bytes()).unwrap();
    let mut objects = store(&git_dir).handle().unwrap();
    let listed = ids_of(&list(&mut objects, &[commit], &ids[..1]));
    assert_eq!(listed, rev_list(&git_dir, &[commit], &ids[..1]));
    assert!(listed.len() > 20);
}

/// What `script` of git fast-import makes, one commit a line of `from` marks, in a new repository.
fn imported(script: &str) -> (tempfile::TempDir, PathBuf, Vec<ObjectId>) {
    let dir = tempfile::tempdir().unwrap();
    let git_dir = dir.path().join("r.git");
    git(dir.path(), &["init", "-q", "--bare", "-b", "main", "r.git"]);
    git_with_input(&git_dir, &["fast-import", "--quiet"], script.as_bytes());
    let ids = git(&git_dir, &["rev-list", "--reverse", "--topo-order", "main"]);
    let ids = ids
        .lines()
        .map(|line| ObjectId::from_hex(line.as_bytes()).unwrap());
    let ids = ids.collect();
    (dir, git_dir, ids)
}

/// A line of commits, each with changes in the words of git fast-import.
fn line_of(changes: &[String]) -> String {
    let commits = changes.iter().map(|change| {
        format!("commit refs/heads/main\ncommitter a <a@b> 1700000000 +0000\ndata 1\nc\n{change}\n")
    });
    commits.collect()
}

/// A file that lies below `levels` directories, all of one name.
fn deep_file(levels: usize) -> String {
    format!("{}f", "d/".repeat(levels))
}

fn checked(git_dir: &Path, tip: ObjectId, vouched: &[ObjectId]) -> Result<(), Error> {
    let mut objects = store(git_dir).handle().unwrap();
    let none = &mut |_| ();
    connectivity::check(&mut objects, None, &[tip], vouched, none, &Interrupt::new()).map(drop)
}

#[test]
fn a_tree_may_lie_as_deep_as_git_lets_it_and_no_deeper() {
    for (levels, is_fine) in [(2048, true), (2049, false)] {
        let file = format!("M 100644 inline {}\ndata 1\nx\n", deep_file(levels));
        let (_dir, git_dir, ids) = imported(&line_of(&[String::new(), file]));
        for vouched in [&ids[..0], &ids[..1]] {
            let checked = checked(&git_dir, ids[1], vouched);
            assert_eq!(checked.is_ok(), is_fine, "{levels} levels: {checked:?}");
            let Err(err) = checked else { continue };
            assert!(matches!(err, Error::TooDeep(_)), "{err:?}");
            assert!(err.to_string().starts_with("exceeded maximum allowed tree depth"));
        }
    }
}

#[test]
fn a_tree_that_was_met_where_it_may_stand_is_still_too_deep_elsewhere() {
    let moved = "R x y/y/x\n".to_owned();
    let touched = "M 100644 inline x/new\ndata 1\nn\n".to_owned();
    for (levels, is_fine) in [(2047, false), (2045, true), (2044, true)] {
        let file = format!("M 100644 inline x/{}\ndata 1\nx\n", deep_file(levels));
        let script = line_of(&[String::new(), file, touched.clone(), moved.clone()]);
        let (_dir, git_dir, ids) = imported(&script);
        // Where the tree is: in what is checked, or known from before and only named by what is.
        for vouched in [&ids[..1], &ids[1..2]] {
            assert!(checked(&git_dir, ids[2], vouched).is_ok(), "{levels}");
            let checked = checked(&git_dir, ids[3], vouched);
            assert_eq!(checked.is_ok(), is_fine, "{levels}: {checked:?}");
            assert!(is_fine || matches!(checked, Err(Error::TooDeep(_))));
        }
    }
}

#[test]
fn an_interrupt_stops_the_walk_and_the_pack() {
    let (_dir, git_dir, ids) = random_repository(60, 20);
    let mut objects = store(&git_dir).handle().unwrap();
    let listed = list(&mut objects, &[ids[0]], &[]);
    let interrupt = Interrupt::new();
    interrupt.trigger();
    let request = Request {
        wants: &ids[..1],
        haves: &[],
        tags: &[],
        strict: false,
        names_whole_pack: false,
    };
    assert!(matches!(
        enumerate(&mut objects, None, &request, &mut |_| (), &interrupt),
        Err(Error::Interrupted)
    ));
    let mut out = Vec::new();
    let result = write(&mut objects, &listed, PLAIN, &mut out, &mut |_| (), &interrupt);
    assert!(matches!(result, Err(Error::Interrupted)));
}
