use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::interrupt::Interrupt;
use crate::limits::PushLimits;
use crate::pack::fsck;
use crate::pack::ingest::{Bases, Ingested, Options, ingest_scanned};
use crate::repository::objects::{self, Objects};
use crate::repository::{Repository, create};

/// The secrets of these tests: `key_`, four letters, and the greatest of them once more.
const FORM: Form<'static> = Form {
    prefix: b"key_",
    bytes: 9,
    digest: &|text| {
        let (body, check) = text.strip_prefix(b"key_")?.split_at_checked(4)?;
        let is_secret = body.iter().all(u8::is_ascii_lowercase) && body.iter().max() == check.first();
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(body);
        is_secret.then_some(digest)
    },
};

const SECRET: &str = "key_dbcad";

fn digest(secret: &[u8]) -> Digest {
    (FORM.digest)(secret).expect("a secret")
}

/// One of many secrets.
fn numbered(number: usize) -> [u8; 9] {
    let mut text = *b"key_aaaaa";
    let mut rest = number;
    for letter in &mut text[4..8] {
        *letter = b'a' + u8::try_from(rest % 26).unwrap();
        rest /= 26;
    }
    text[8] = *text[4..8].iter().max().unwrap();
    text
}

fn id(number: u32) -> ObjectId {
    let mut id = [0; 20];
    id[..4].copy_from_slice(&number.to_be_bytes());
    ObjectId::Sha1(id)
}

/// What is found in an object that comes in these pieces.
fn in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Find> {
    let scanner = Scanner::new(FORM);
    let mut scan = scanner.pieces();
    pieces.into_iter().for_each(|piece| scan.feed(piece));
    scan.finish(&id(1), Kind::Blob);
    scanner.into_finds().list
}

fn whole(data: &[u8]) -> Vec<Find> {
    let scanner = Scanner::new(FORM);
    scanner.object(&id(1), Kind::Blob, data);
    scanner.into_finds().list
}

#[test]
fn a_secret_is_found_with_its_place() {
    let text = format!("some text {SECRET}, and more");
    let expected = Find {
        digest: digest(SECRET.as_bytes()),
        object: id(1),
        kind: Kind::Blob,
        bytes: text.len() as u64,
        offset: 10,
    };
    assert_eq!(whole(text.as_bytes()), [expected]);
}

#[test]
fn what_only_looks_like_a_secret_is_none() {
    for text in [
        "",
        "key_",
        "key_dbca",
        "key_dbcaa",
        "key_dbcac",
        "KEY_DBCAD",
        "key-dbcad",
        "key_db ad",
        "ey_dbcad",
    ] {
        assert_eq!(whole(text.as_bytes()), [], "{text:?}");
        assert_eq!(in_pieces(text.as_bytes().chunks(1)), [], "{text:?}");
    }
}

#[test]
fn whatever_stands_around_a_secret_it_is_found() {
    for text in [
        "key_dbcad",
        "xkey_dbcad",
        "key_dbcadd",
        "key_key_dbcad",
        "key_abkey_dbcad",
    ] {
        assert_eq!(whole(text.as_bytes()).len(), 1, "{text:?}");
    }
    assert_eq!(whole(b"key_dbcadkey_aaaaa").len(), 2);
}

#[test]
fn a_secret_is_found_wherever_the_object_is_cut() {
    let text = format!("key_ key_dbca {SECRET}{SECRET} {} key_dbc", "key_xyzaz");
    let text = text.as_bytes();
    let expected = whole(text);
    assert_eq!(expected.len(), 2);
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let pieces = [&text[..first], &text[first..second], &text[second..]];
            assert_eq!(in_pieces(pieces), expected, "cut at {first} and {second}");
        }
    }
    for size in 1..=text.len() {
        assert_eq!(in_pieces(text.chunks(size)), expected, "pieces of {size}");
    }
}

#[test]
fn a_secret_counts_once_in_an_object_at_its_first_place() {
    let text = format!("{0} {SECRET} {SECRET} {0}", "key_xyzaz");
    let found: Vec<u64> = whole(text.as_bytes()).iter().map(|find| find.offset).collect();
    assert_eq!(found, [0, 10]);
}

#[test]
fn each_object_that_holds_a_secret_is_remembered_up_to_the_bound() {
    let scanner = Scanner::new(FORM);
    let count = u32::try_from(REPEATS_COUNT_MAX).unwrap() + 100;
    for number in 0..count {
        scanner.object(&id(number), Kind::Blob, SECRET.as_bytes());
    }
    scanner.object(&id(count), Kind::Commit, b"key_xyzaz");
    let finds = scanner.into_finds();
    assert_eq!(finds.list.len(), 1 + REPEATS_COUNT_MAX + 1);
    assert!(
        finds.list.iter().any(|find| find.kind == Kind::Commit),
        "another secret has its place however often the first one came"
    );
    assert!(!finds.is_overfull);
}

#[test]
fn more_secrets_than_are_remembered_are_told_of() {
    let all: Vec<[u8; 9]> = (0..=SECRETS_COUNT_MAX).map(numbered).collect();
    let (few, many) = (all[1..].concat(), all.concat());
    for (text, is_overfull) in [(&few, false), (&many, true)] {
        let scanner = Scanner::new(FORM);
        scanner.object(&id(1), Kind::Blob, text);
        scanner.object(&id(2), Kind::Blob, text);
        let finds = scanner.into_finds();
        assert_eq!(finds.is_overfull, is_overfull);
        assert_eq!(finds.list.len(), SECRETS_COUNT_MAX + REPEATS_COUNT_MAX);

        let scanner = Scanner::new(FORM);
        for (number, secret) in (0..).zip(text.chunks(9)) {
            scanner.object(&id(number), Kind::Blob, secret);
        }
        let finds = scanner.into_finds();
        assert_eq!(finds.is_overfull, is_overfull, "one an object");
        assert_eq!(finds.list.len(), SECRETS_COUNT_MAX);
    }
}

/// Says that one secret matters, or that it does not know.
struct Only(Option<Digest>);

impl Sift for Only {
    fn matter(&self, digests: &[Digest]) -> Option<HashSet<Digest>> {
        assert!(digests.len() <= SECRETS_COUNT_MAX);
        let only = self.0?;
        Some(digests.iter().copied().filter(|digest| *digest == only).collect())
    }
}

#[test]
fn of_more_secrets_than_are_remembered_those_are_kept_that_matter() {
    let all: Vec<[u8; 9]> = (0..3 * SECRETS_COUNT_MAX).map(numbered).collect();
    let text = all.concat();
    for place in [0, SECRETS_COUNT_MAX, 3 * SECRETS_COUNT_MAX - 1] {
        let wanted = digest(&all[place]);
        let only = Only(Some(wanted));
        let in_one = Scanner::new(FORM).sifting(&only);
        in_one.object(&id(1), Kind::Blob, &text);
        let in_many = Scanner::new(FORM).sifting(&only);
        for (number, secret) in (0..).zip(text.chunks(9)) {
            in_many.object(&id(number), Kind::Blob, secret);
        }
        for scanner in [in_one, in_many] {
            let finds = scanner.into_finds();
            assert!(!finds.is_overfull && finds.list.len() <= SECRETS_COUNT_MAX);
            assert!(finds.list.iter().any(|find| find.digest == wanted), "{place}");
        }
    }
    let nobody_knows = Only(None);
    let scanner = Scanner::new(FORM).sifting(&nobody_knows);
    scanner.object(&id(1), Kind::Blob, &text);
    assert!(scanner.into_finds().is_overfull);
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_what_the_whole_gives(text in "(key_|[a-d]|key_dbcad|k|_| ){0,60}", cuts: Vec<u8>) {
        let mut rest = text.as_bytes();
        let mut pieces = Vec::new();
        for cut in cuts {
            let (piece, tail) = rest.split_at(rest.len().min(usize::from(cut) % 32));
            pieces.push(piece);
            rest = tail;
        }
        pieces.push(rest);
        prop_assert_eq!(in_pieces(pieces), whole(text.as_bytes()));
    }
}

/// A repository of the real git, with what a history is made of.
struct Source {
    dir: tempfile::TempDir,
}

impl Source {
    fn new() -> Source {
        let source = Source {
            dir: tempfile::tempdir().unwrap(),
        };
        source.git(&["init", "-q", "-b", "main", "."], b"");
        source
    }

    fn git(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        git(self.dir.path(), args, input)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn commit(&self) -> ObjectId {
        self.git(&["add", "-A"], b"");
        self.git(&["commit", "-q", "-m", "c", "--allow-empty"], b"");
        self.id("HEAD")
    }

    fn id(&self, revision: &str) -> ObjectId {
        ObjectId::from_hex(self.git(&["rev-parse", revision], b"").trim_ascii()).unwrap()
    }

    /// A pack of what `revisions` say, as a push sends it.
    fn pack(&self, revisions: &str) -> Vec<u8> {
        let args = ["pack-objects", "-q", "--thin", "--revs", "--stdout"];
        self.git(&args, revisions.as_bytes())
    }

    /// A bare repository here, with what `revision` reaches under `main`.
    fn bare(&self, name: &str, revision: &str) -> Repository {
        let dir = create(&self.dir.path().join(name), gix_hash::Kind::Sha1, "main").unwrap();
        let url = dir.to_str().unwrap();
        self.git(&["push", "-q", url, &format!("{revision}:refs/heads/main")], b"");
        Repository::open(&dir).unwrap()
    }
}

fn git(dir: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", "/nonexistent")
        .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@b")])
        .envs([("GIT_COMMITTER_NAME", "A"), ("GIT_COMMITTER_EMAIL", "a@b")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {args:?}");
    output.stdout
}

struct Known(Objects);

impl Bases for Known {
    fn find(&mut self, id: &gix_hash::oid, out: &mut Vec<u8>) -> Result<Option<Kind>, objects::Error> {
        let Some(object) = self.0.read(id)? else {
            return Ok(None);
        };
        out.extend_from_slice(&object.data);
        Ok(Some(object.kind))
    }
}

/// What is found in a pack that comes to `target`.
fn take_in(pack: &[u8], target: &Repository, threads: usize) -> (Ingested, Vec<Find>) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        object_hash: gix_hash::Kind::Sha1,
        limits: PushLimits {
            disk_reserve_bytes: 0,
            threads,
            ..PushLimits::default()
        },
        fsck: Some(fsck::Options::default()),
        thin: true,
        compression: 1,
    };
    let scanner = Scanner::new(FORM);
    let mut bases = Known(target.objects().unwrap());
    let ingested = ingest_scanned(
        &mut &*pack,
        dir.path(),
        &mut bases,
        &options,
        Some(&scanner),
        &mut |_| (),
        &Interrupt::new(),
    );
    (ingested.unwrap(), scanner.into_finds().list)
}

/// A text that does not compress, so that changing a line of it makes a delta.
fn noise(lines: u32) -> String {
    let mut state = 1u32;
    let mut line = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("{state:08x}\n")
    };
    (0..lines).map(|_| line()).collect()
}

#[test]
fn every_object_of_a_pack_is_looked_through_and_nothing_else() {
    let source = Source::new();
    // A base that the target has holds a secret; only its delta is sent.
    source.write("base", format!("key_aaaaa\n{}", noise(2000)));
    source.write("clean", noise(2000));
    source.write("kept", "key_bbbbb\n");
    source.commit();
    let target = source.bare("target", "HEAD");
    source.write("base", noise(2000));
    let lines = noise(2000);
    let (head, tail) = lines.split_at(9 * 1000);
    // A delta upon a base that is not sent, and whose text is in the middle of it.
    source.write("clean", format!("{head}key_ccccc\n{tail}"));
    source.write("small", "key_ddddd");
    source.write(
        "large",
        [vec![0; 200 << 10], b"key_eeeee".to_vec(), vec![1; 65527]].concat(),
    );
    source.write("a key_fffff name/x", "x");
    source.git(&["add", "-A"], b"");
    source.git(&["commit", "-q", "-m", "subject\n\nkey_ggggg"], b"");
    source.git(&["tag", "-m", "key_hhhhh", "v1"], b"");
    // A version that is a delta upon another new one.
    source.write("clean", format!("{head}key_ccccc\nkey_iiiii\n{tail}"));
    source.commit();
    let pack = source.pack("HEAD\nv1\n^HEAD~2\n");
    for threads in [1, 2] {
        let (ingested, finds) = take_in(&pack, &target, threads);
        assert!(
            ingested.objects_count > ingested.objects_received,
            "the pack is thin, or the test is none"
        );
        let mut found: Vec<(Digest, ObjectId, Kind)> = finds
            .iter()
            .map(|find| (find.digest, find.object, find.kind))
            .collect();
        let mut expected = [
            ("key_ccccc", "HEAD~1:clean", Kind::Blob),
            ("key_ccccc", "HEAD:clean", Kind::Blob),
            ("key_ddddd", "HEAD:small", Kind::Blob),
            ("key_eeeee", "HEAD:large", Kind::Blob),
            ("key_fffff", "HEAD~1^{tree}", Kind::Tree),
            ("key_fffff", "HEAD^{tree}", Kind::Tree),
            ("key_ggggg", "HEAD~1", Kind::Commit),
            ("key_hhhhh", "v1", Kind::Tag),
            ("key_iiiii", "HEAD:clean", Kind::Blob),
        ]
        .map(|(secret, revision, kind)| (digest(secret.as_bytes()), source.id(revision), kind));
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{threads} threads");
        let large = finds
            .iter()
            .find(|find| find.object == source.id("HEAD:large"))
            .unwrap();
        assert_eq!((large.offset, large.bytes), (200 << 10, (200 << 10) + 9 + 65527));
    }
}

/// The places of `wanted` that `tips` lead to, as lines of commit and path.
fn places_of(source: &Source, known: &str, tips: &[&str], wanted: &[&str]) -> Vec<String> {
    let all = Repository::open(&source.dir.path().join(".git")).unwrap();
    let known = source.bare("known", known);
    let found = places(
        &mut all.objects().unwrap(),
        &mut known.objects().unwrap(),
        &tips.iter().map(|tip| source.id(tip)).collect::<Vec<_>>(),
        wanted.iter().map(|revision| source.id(revision)),
        &mut || (),
        &Interrupt::new(),
    );
    std::fs::remove_dir_all(source.dir.path().join("known")).unwrap();
    let name = |place: Place| {
        let commit = place
            .commit
            .map_or_else(|| "none".to_owned(), |id| id.to_string());
        format!("{commit} {}", place.path)
    };
    found.unwrap().into_iter().map(name).collect()
}

#[test]
fn an_object_has_the_place_in_the_commit_that_brought_it() {
    let source = Source::new();
    source.write("old/file", "old");
    source.commit();
    source.git(&["tag", "start"], b"");
    source.write("dir/deep/file", "secret");
    source.write("dir/other", "x");
    let first = source.commit();
    source.write("dir/other", "y");
    source.commit();
    source.git(&["mv", "dir", "moved"], b"");
    source.commit();
    source.write("again", "secret");
    source.write("two", "second");
    source.write("three", "second");
    let last = source.commit();
    assert_eq!(
        places_of(&source, "start", &["HEAD"], &[&format!("{first}:dir/deep/file")]),
        [format!("{first} dir/deep/file")]
    );
    let both = places_of(&source, "start", &["HEAD"], &["HEAD:again", "HEAD:two"]);
    assert_eq!(
        both,
        [
            format!("{first} dir/deep/file"),
            format!("{last} three"),
            format!("{last} two")
        ],
        "an object keeps the first commit that has it, with every path there"
    );
    assert_eq!(
        places_of(&source, "start", &["HEAD"], &["HEAD:old/file"]),
        [""; 0],
        "what is known is not looked through"
    );
    assert_eq!(
        places_of(
            &source,
            "start",
            &["HEAD"],
            &[&format!("{first}:dir/deep"), "HEAD^{tree}"]
        ),
        [format!("{first} dir/deep"), format!("{last} ")],
        "directories have places too"
    );
    assert_eq!(places_of(&source, "start", &["start"], &["HEAD:again"]), [""; 0]);
}

#[test]
fn merges_tags_and_bare_trees_lead_to_objects() {
    let source = Source::new();
    source.write("file", "old");
    source.commit();
    source.git(&["tag", "start"], b"");
    source.git(&["checkout", "-q", "-b", "side"], b"");
    source.write("side", "by the side");
    let side = source.commit();
    source.git(&["checkout", "-q", "main"], b"");
    source.write("main", "by main");
    let main = source.commit();
    source.git(&["merge", "-q", "--no-commit", "side"], b"");
    source.write("evil", "by the merge");
    let merge = source.commit();
    source.git(&["tag", "-m", "t", "inner", "HEAD"], b"");
    source.git(&["tag", "-m", "t", "outer", "inner"], b"");
    source.git(&["tag", "-m", "t", "tree", "HEAD^{tree}"], b"");
    source.git(&["tag", "-m", "t", "blob", "HEAD:evil"], b"");
    let wanted = ["HEAD:evil", "HEAD:side", "HEAD:main"];
    for tip in ["HEAD", "outer"] {
        let mut places = places_of(&source, "start", &[tip], &wanted);
        let mut expected = vec![
            format!("{merge} evil"),
            format!("{side} side"),
            format!("{main} main"),
        ];
        assert_eq!(
            places.last(),
            expected.first(),
            "parents come before their children"
        );
        places.sort();
        expected.sort();
        assert_eq!(places, expected, "{tip}");
    }
    assert_eq!(
        places_of(&source, "start", &["tree"], &["HEAD:evil"]),
        ["none evil"]
    );
    assert_eq!(places_of(&source, "start", &["blob"], &["HEAD:evil"]), [""; 0]);
}

#[test]
fn a_walk_ends_when_it_is_interrupted_and_passes_over_what_is_missing() {
    let source = Source::new();
    source.write("file", "old");
    source.commit();
    source.git(&["tag", "start"], b"");
    source.write("dir/file", "a");
    source.write("file", "b");
    source.commit();
    let known = source.bare("known", "start");
    let all = Repository::open(&source.dir.path().join(".git")).unwrap();
    let interrupt = Interrupt::new();
    interrupt.trigger();
    let walk = |interrupt: &Interrupt| {
        places(
            &mut all.objects().unwrap(),
            &mut known.objects().unwrap(),
            &[source.id("HEAD")],
            [source.id("HEAD:file")],
            &mut || (),
            interrupt,
        )
    };
    assert!(matches!(walk(&interrupt), Err(crate::pack::Error::Interrupted)));
    let dir = source.id("HEAD:dir").to_string();
    std::fs::remove_file(
        source
            .dir
            .path()
            .join(".git/objects")
            .join(&dir[..2])
            .join(&dir[2..]),
    )
    .unwrap();
    assert_eq!(walk(&Interrupt::new()).unwrap().len(), 1);
}
