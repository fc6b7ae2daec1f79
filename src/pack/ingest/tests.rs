//! Packs of real repositories, against the real git.

use std::io::Write as _;
use std::path::Path;

use gix_hash::Kind as HashKind;
use gix_object::Kind;

use super::*;
use crate::repository::testing::{git, run};

mod deep;
mod hostile;
mod malformed;
mod packer;

/// The gits of this machine, the default one first.
fn gits() -> Vec<&'static str> {
    let mut gits = vec!["git"];
    gits.extend(
        ["/usr/bin/git", "/usr/local/bin/git"]
            .into_iter()
            .filter(|path| Path::new(path).exists()),
    );
    gits
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap().trim().to_owned()
}

/// A repository whose history has what makes packs interesting: deltas, tags, modes, a large blob that changes.
fn history(dir: &Path, object_format: &str, commits: usize) {
    git(
        dir,
        &[
            "init",
            "-q",
            "-b",
            "main",
            &format!("--object-format={object_format}"),
            ".",
        ],
        b"",
    );
    let mut stream = Vec::new();
    let mut seed = 7u64;
    let mut random = move || {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        seed >> 33
    };
    let mut large = Vec::new();
    for _ in 0..60_000 {
        large.extend_from_slice(&random().to_le_bytes());
    }
    for commit in 0..commits {
        write!(stream, "commit refs/heads/main\nmark :{}\n", commit + 1).unwrap();
        writeln!(
            stream,
            "author A <a@example.com> {} +0100",
            1_600_000_000 + commit
        )
        .unwrap();
        writeln!(
            stream,
            "committer C <c@example.com> {} +0100",
            1_600_000_000 + commit
        )
        .unwrap();
        let message = format!("change {commit}\n\nwith a body {}\n", random());
        write!(stream, "data {}\n{message}\n", message.len()).unwrap();
        for _ in 0..3 {
            let path = format!("dir{}/sub{}/file{}", random() % 4, random() % 3, random() % 5);
            let lines: String = (0..40 + random() % 40)
                .map(|line| match random() % 9 {
                    0 => format!("line {line} {}\n", random()),
                    _ => format!("line {line} as always\n"),
                })
                .collect();
            let mode = if random() % 5 == 0 { "100755" } else { "100644" };
            write!(stream, "M {mode} inline {path}\ndata {}\n{lines}\n", lines.len()).unwrap();
        }
        if commit % 10 == 0 {
            large.truncate(large.len() - 1);
            let at = random() as usize % large.len();
            large[at] ^= 1;
            write!(stream, "M 100644 inline large\ndata {}\n", large.len()).unwrap();
            stream.extend_from_slice(&large);
            stream.push(b'\n');
            write!(stream, "M 120000 inline link{commit}\ndata 5\nlarge\n").unwrap();
        }
    }
    for tag in 0..3 {
        write!(
            stream,
            "tag v{tag}\nfrom :{}\ntagger T <t@example.com> 1600000000 +0000\ndata 2\nv\n",
            tag + 1
        )
        .unwrap();
    }
    git(dir, &["fast-import", "--quiet"], &stream);
}

struct Repository<'a>(&'a Path);

impl Bases for Repository<'_> {
    fn find(&mut self, id: &gix_hash::oid, out: &mut Vec<u8>) -> Result<Option<Kind>, objects::Error> {
        let id = id.to_string();
        let found = run(Path::new("git"), self.0, &["cat-file", "-t", &id], b"");
        if !found.success {
            return Ok(None);
        }
        let kind = text(found.stdout);
        out.extend_from_slice(&git(self.0, &["cat-file", &kind, &id], b""));
        Ok(Some(Kind::from_bytes(kind.as_bytes()).unwrap()))
    }
}

struct Nothing;

impl Bases for Nothing {
    fn find(&mut self, _: &gix_hash::oid, _: &mut Vec<u8>) -> Result<Option<Kind>, objects::Error> {
        Ok(None)
    }
}

fn options(object_hash: HashKind) -> Options {
    Options {
        object_hash,
        limits: PushLimits {
            disk_reserve_bytes: 0,
            ..PushLimits::default()
        },
        fsck: Some(fsck::Options::default()),
        thin: false,
        compression: 6,
    }
}

fn take_in(pack: &[u8], dir: &Path, bases: &mut dyn Bases, options: &Options) -> Result<Ingested, Error> {
    let mut progress = |_| {};
    ingest(&mut &*pack, dir, bases, options, &mut progress, &Interrupt::new())
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Indexes the pack with git and compares.
fn assert_index_is_gits(git: &str, ingested: &Ingested, hash: HashKind) {
    let dir = tempfile::tempdir().unwrap();
    let pack = dir.path().join("x.pack");
    std::fs::copy(&ingested.pack, &pack).unwrap();
    let format = format!(
        "--object-format={}",
        if hash == HashKind::Sha1 { "sha1" } else { "sha256" }
    );
    let index_pack = ["index-pack", &format, "--rev-index", "x.pack"];
    let ran = run(Path::new(git), dir.path(), &index_pack, b"");
    assert!(ran.success, "{}", ran.stderr);
    assert!(
        std::fs::read(dir.path().join("x.idx")).unwrap() == std::fs::read(&ingested.index).unwrap(),
        "the index differs from that of {git}"
    );
    if let Some(rev) = &ingested.rev {
        assert!(
            std::fs::read(dir.path().join("x.rev")).unwrap() == std::fs::read(rev).unwrap(),
            "the reverse index differs from that of {git}"
        );
    }
}

#[test]
fn a_whole_repository_is_indexed_as_git_does() {
    for hash in [HashKind::Sha1, HashKind::Sha256] {
        let source = tempfile::tempdir().unwrap();
        history(
            source.path(),
            if hash == HashKind::Sha1 { "sha1" } else { "sha256" },
            120,
        );
        for delta in [&["--delta-base-offset"][..], &[]] {
            let mut args = vec!["pack-objects", "--stdout", "--revs", "--all", "-q", "--depth=20"];
            args.extend(delta);
            let pack = git(source.path(), &args, b"");
            for threads in [1, 2] {
                let target = tempfile::tempdir().unwrap();
                let mut options = options(hash);
                options.limits.threads = threads;
                let ingested = take_in(&pack, target.path(), &mut Nothing, &options).unwrap();
                assert_eq!(ingested.bytes_received, pack.len() as u64);
                assert_eq!(ingested.outside, [], "all history is in the pack");
                assert!(
                    std::fs::read(&ingested.pack).unwrap() == pack,
                    "the pack is kept as it came"
                );
                for git in gits() {
                    assert_index_is_gits(git, &ingested, hash);
                }
            }
        }
    }
}

/// A pack of what `new` has and `old` has not, its deltas partly upon objects of `old`.
fn thin_pack(source: &Path, new: &str, old: &str, with_offsets: bool) -> Vec<u8> {
    let mut args = vec!["pack-objects", "--thin", "--stdout", "--revs", "-q"];
    if with_offsets {
        args.push("--delta-base-offset");
    }
    git(source, &args, format!("{new}\n^{old}\n").as_bytes())
}

#[test]
fn a_thin_pack_is_completed() {
    let source = tempfile::tempdir().unwrap();
    history(source.path(), "sha1", 120);
    let mut appended_count = 0;
    for with_offsets in [true, false] {
        let server = tempfile::tempdir().unwrap();
        git(server.path(), &["init", "-q", "--bare", "."], b"");
        git(
            source.path(),
            &[
                "push",
                "-q",
                server.path().to_str().unwrap(),
                "main~40:refs/heads/main",
            ],
            b"",
        );
        let pack = thin_pack(source.path(), "main", "main~40", with_offsets);
        let target = tempfile::tempdir().unwrap();
        let refused = take_in(
            &pack,
            target.path(),
            &mut Repository(server.path()),
            &options(HashKind::Sha1),
        );
        assert!(
            matches!(refused, Err(Error::Unresolved { base_id: Some(_), .. })),
            "{refused:?}"
        );
        assert_eq!(files(target.path()), [""; 0], "nothing is left of a refused pack");

        let options = Options {
            thin: true,
            ..options(HashKind::Sha1)
        };
        let ingested = take_in(&pack, target.path(), &mut Repository(server.path()), &options).unwrap();
        appended_count += ingested.objects_count - ingested.objects_received;
        assert!(ingested.bytes_written > ingested.bytes_received);
        for git in gits() {
            assert_index_is_gits(git, &ingested, HashKind::Sha1);
        }
        git(
            server.path(),
            &["verify-pack", ingested.index.to_str().unwrap()],
            b"",
        );

        // The objects are those that git makes of it.
        let completed = git(server.path(), &["index-pack", "--stdin", "--fix-thin"], &pack);
        let completed = text(completed).split('\t').nth(1).unwrap().to_owned();
        let by_git = text(git(
            server.path(),
            &["show-index"],
            &std::fs::read(server.path().join(format!("objects/pack/pack-{completed}.idx"))).unwrap(),
        ));
        let by_us = text(git(
            server.path(),
            &["show-index"],
            &std::fs::read(&ingested.index).unwrap(),
        ));
        let ids = |listing: &str| -> Vec<String> {
            listing
                .lines()
                .map(|line| line.split(' ').nth(1).unwrap().to_owned())
                .collect()
        };
        assert_eq!(ids(&by_us), ids(&by_git));

        // Everything that the pack refers to besides is what the server has, and it has all of it.
        assert!(!ingested.outside.is_empty());
        assert!(ingested.outside.is_sorted());
        for link in &ingested.outside {
            let kind = text(git(server.path(), &["cat-file", "-t", &link.id.to_string()], b""));
            assert_eq!(kind.as_bytes(), link.kind.as_bytes(), "{}", link.id);
        }
    }
    assert!(appended_count > 10, "the packs were thin");
}

#[test]
fn what_the_repository_reads_of_a_taken_in_pack_is_whole() {
    let source = tempfile::tempdir().unwrap();
    history(source.path(), "sha1", 60);
    let pack = git(
        source.path(),
        &["pack-objects", "--stdout", "--revs", "--all", "-q"],
        b"",
    );
    let server = tempfile::tempdir().unwrap();
    git(server.path(), &["init", "-q", "--bare", "."], b"");
    let pack_dir = server.path().join("objects/pack");
    let ingested = take_in(&pack, &pack_dir, &mut Nothing, &options(HashKind::Sha1)).unwrap();
    assert_eq!(ingested.rev, None, "a small pack has no reverse index");
    assert_eq!(
        files(&pack_dir),
        [
            format!("pack-{}.idx", ingested.checksum),
            format!("pack-{}.pack", ingested.checksum)
        ]
    );
    let tip = text(git(source.path(), &["rev-parse", "main"], b""));
    git(server.path(), &["update-ref", "refs/heads/main", &tip], b"");
    for git in gits() {
        let fsck = ["fsck", "--strict", "--full"];
        let ran = run(Path::new(git), server.path(), &fsck, b"");
        assert!(ran.success && !ran.stderr.contains("error"), "{}", ran.stderr);
    }
    let count = text(git(
        source.path(),
        &["rev-list", "--objects", "--all", "--count"],
        b"",
    ));
    assert_eq!(count, ingested.objects_count.to_string());
}

#[test]
fn a_pack_that_is_large_enough_gets_a_reverse_index() {
    let source = tempfile::tempdir().unwrap();
    git(source.path(), &["init", "-q", "."], b"");
    let mut stream = Vec::new();
    for blob in 0..REV_OBJECTS_MIN {
        let content = format!("{blob}\n");
        write!(
            stream,
            "blob\nmark :{}\ndata {}\n{content}\n",
            blob + 1,
            content.len()
        )
        .unwrap();
    }
    let listed = {
        let marks = source.path().join("marks");
        let marks_arg = format!("--export-marks={}", marks.display());
        git(
            source.path(),
            &[
                "-c",
                "fastimport.unpackLimit=1",
                "fast-import",
                "--quiet",
                &marks_arg,
            ],
            &stream,
        );
        let marks = std::fs::read_to_string(marks).unwrap();
        marks
            .lines()
            .map(|line| format!("{}\n", line.split(' ').nth(1).unwrap()))
            .collect::<String>()
    };
    let pack = git(
        source.path(),
        &["pack-objects", "--stdout", "-q", "--window=0"],
        listed.as_bytes(),
    );
    let target = tempfile::tempdir().unwrap();
    let ingested = take_in(&pack, target.path(), &mut Nothing, &options(HashKind::Sha1)).unwrap();
    assert!(ingested.rev.is_some());
    for git in gits() {
        assert_index_is_gits(git, &ingested, HashKind::Sha1);
    }
}
