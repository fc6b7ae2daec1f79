//! Lists that are made from bitmaps hold what a walk would find.

use super::*;

/// A repository whose older half lies in a pack with bitmaps and the rest in another pack.
fn half_with_bitmaps(seed: u64) -> (tempfile::TempDir, PathBuf, Vec<ObjectId>) {
    let (dir, source, ids) = random_repository(seed, 60);
    let git_dir = dir.path().join("half.git");
    git(dir.path(), &["init", "-q", "--bare", "-b", "main", "half.git"]);
    let url = source.to_str().unwrap();
    let old = ids[ids.len() / 2].to_string();
    git(&git_dir, &["fetch", "-q", url, &format!("{old}:refs/heads/old")]);
    git(&git_dir, &["repack", "-adbq"]);
    git(
        &git_dir,
        &["-c", "fetch.unpackLimit=1", "fetch", "-q", url, "+refs/*:refs/*"],
    );
    assert_eq!(
        git(&git_dir, &["count-objects", "-v"]).lines().nth(3),
        Some("packs: 2")
    );
    (dir, git_dir, ids)
}

fn has_bitmaps(objects: &Objects) -> bool {
    objects.packs().iter().any(|pack| pack.bitmaps().is_some())
}

#[test]
fn a_clone_from_bitmaps_lists_exactly_what_git_lists() {
    for seed in [1, 2, 3] {
        let (_dir, git_dir, ids) = half_with_bitmaps(seed);
        let mut objects = store(&git_dir).handle().unwrap();
        assert!(has_bitmaps(&objects));
        let mut random = Random(seed);
        for _ in 0..8 {
            let wants: Vec<ObjectId> = (0..=random.below(3))
                .map(|_| ids[random.below(ids.len() as u64) as usize])
                .collect();
            let found = list(&mut objects, &wants, &[]);
            assert_eq!(
                ids_of(&found),
                rev_list(&git_dir, &wants, &[]),
                "seed {seed}: {wants:?}"
            );
            assert_eq!(ids_of(&found).len(), found.len(), "nothing twice");
            let (bytes, _) = pack(&mut objects, &found, PLAIN);
            git_with_input(&git_dir, &["index-pack", "--strict", "--stdin", "--keep"], &bytes);
            for kept in glob_keep(&git_dir) {
                std::fs::remove_file(kept).unwrap();
            }
        }
    }
}

fn glob_keep(git_dir: &Path) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(git_dir.join("objects/pack")).unwrap();
    dir.map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "keep"))
        .collect()
}

#[test]
fn tags_and_trees_that_are_wanted_go_along_beside_bitmaps() {
    let (_dir, git_dir, ids) = half_with_bitmaps(4);
    git(&git_dir, &["tag", "-a", "-m", "new", "new", &ids[0].to_string()]);
    git(&git_dir, &["tag", "-a", "-m", "above", "above", "new"]);
    let (new, above) = (id(&git_dir, "new"), id(&git_dir, "above"));
    let tree = id(&git_dir, &format!("{}^{{tree}}", ids[1]));
    let mut objects = store(&git_dir).handle().unwrap();
    assert!(has_bitmaps(&objects));
    for wants in [
        vec![above],
        vec![tree],
        vec![new, tree],
        vec![above, *ids.last().unwrap()],
    ] {
        let found = list(&mut objects, &wants, &[]);
        assert_eq!(ids_of(&found), rev_list(&git_dir, &wants, &[]), "{wants:?}");
    }
    let request = Request {
        wants: &[ids[0]],
        tags: &[(above, ids[0])],
        names_whole_pack: true,
        ..Request::default()
    };
    let found = enumerate(&mut objects, None, &request, &mut |_| (), &Interrupt::new()).unwrap();
    let mut expected = rev_list(&git_dir, &[above], &[]);
    assert_eq!(ids_of(&found), expected, "the tag comes with its commit");
    expected.remove(&above);
    expected.remove(&new);
    assert_eq!(ids_of(&list(&mut objects, &[ids[0]], &[])), expected);
}

#[test]
fn a_whole_pack_goes_out_byte_for_byte_and_only_when_exactly_it_is_wanted() {
    let (_dir, git_dir, ids) = random_repository(5, 40);
    git(&git_dir, &["tag", "-a", "-m", "t", "t", &ids[3].to_string()]);
    git(&git_dir, &["repack", "-adbq"]);
    let mut tips: Vec<ObjectId> = git(&git_dir, &["for-each-ref", "--format=%(objectname)"])
        .lines()
        .map(|line| ObjectId::from_hex(line.as_bytes()).unwrap())
        .collect();
    let mut objects = store(&git_dir).handle().unwrap();
    let mut ask = |wants: &[ObjectId], tags: &[(ObjectId, ObjectId)], names_whole_pack| {
        let request = Request {
            wants,
            tags,
            names_whole_pack,
            ..Request::default()
        };
        let found = enumerate(&mut objects, None, &request, &mut |_| (), &Interrupt::new()).unwrap();
        let (bytes, _) = pack(&mut objects, &found, PLAIN);
        (found.whole_pack().is_some(), found.len(), bytes)
    };
    let (is_whole, count, bytes) = ask(&tips, &[], true);
    let path = std::fs::read_dir(git_dir.join("objects/pack")).unwrap();
    let path = path
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ext| ext == "pack"));
    assert!(is_whole);
    assert_eq!(bytes, std::fs::read(path.unwrap()).unwrap());
    assert_eq!(count, rev_list(&git_dir, &tips, &[]).len());

    assert!(!ask(&tips, &[], false).0, "a client without ofs-delta");
    assert!(!ask(&tips[..1], &[], true).0, "less than the pack");
    git(&git_dir, &["tag", "-a", "-m", "u", "u", &ids[0].to_string()]);
    let late = id(&git_dir, "u");
    let (is_whole, count_with_tag, _) = ask(&tips, &[(late, ids[0])], true);
    assert_eq!(
        (is_whole, count_with_tag),
        (false, count + 1),
        "a tag beside the pack"
    );
    tips.push(late);
    assert_eq!(ask(&tips, &[], true).1, count + 1);
}

#[test]
fn bitmaps_that_appear_or_go_while_the_store_is_open_are_noticed() {
    let (_dir, git_dir, ids) = random_repository(6, 20);
    git(&git_dir, &["-c", "repack.writeBitmaps=false", "repack", "-adq"]);
    let store = store(&git_dir);
    assert!(!has_bitmaps(&store.handle().unwrap()));
    git(&git_dir, &["repack", "-adbq"]);
    let mut objects = store.handle().unwrap();
    assert!(has_bitmaps(&objects));
    assert_eq!(
        ids_of(&list(&mut objects, &ids[..1], &[])),
        rev_list(&git_dir, &ids[..1], &[])
    );
    for entry in std::fs::read_dir(git_dir.join("objects/pack")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "bitmap") {
            std::fs::write(&path, b"BITM").unwrap();
        }
    }
    let damaged = super::store(&git_dir);
    let mut objects = damaged.handle().unwrap();
    assert!(!has_bitmaps(&objects), "a damaged one is not used");
    assert_eq!(
        ids_of(&list(&mut objects, &ids[..1], &[])),
        rev_list(&git_dir, &ids[..1], &[])
    );
}
