//! Packs that are small and make work or memory large, each in a process of its own whose peak is measured.

use std::process::Command;

use super::packer::{Packer, deflated, delta, id_of};
use super::*;

/// A name in the environment of a process that runs one case of
/// [`hostile_packs_are_refused_in_bounded_memory`] alone.
const CASE_VARIABLE: &str = "PATGATE_TEST_HOSTILE_PACK";

/// Bytes that a process which takes in a hostile pack may have in memory, over those of the test and the pack.
const PEAK_BYTES_MAX: u64 = 160 << 20;

struct Hostile {
    name: &'static str,
    pack: fn() -> Vec<u8>,
    is_expected: fn(&Result<Ingested, Error>) -> bool,
}

/// Objects of at most 16 MiB, and 1 GiB of them.
fn hostile_limits() -> PushLimits {
    PushLimits {
        object_bytes_max: 16 << 20,
        inflated_bytes_max: 1 << 30,
        disk_reserve_bytes: 0,
        ..PushLimits::default()
    }
}

const HOSTILE: &[Hostile] = &[
    Hostile {
        name: "a chain of deltas, each twice its base",
        pack: || {
            let mut packer = Packer::new();
            let mut len = 1u32 << 12;
            let mut base = packer.whole(Kind::Blob, &vec![0; len as usize]);
            for _ in 0..20 {
                base = packer.ofs_delta(base, &delta(u64::from(len), &[(0, len), (0, len)], b""));
                len = len.saturating_mul(2).min(0xff_ffff);
            }
            packer.finish()
        },
        is_expected: |result| matches!(result, Err(Error::ObjectBytes { .. } | Error::Delta { .. })),
    },
    Hostile {
        name: "many large deltas upon one base",
        pack: || {
            let mut packer = Packer::new();
            let len = 15u32 << 20;
            let base = packer.whole(Kind::Blob, &vec![0; len as usize]);
            for at in 0..1000u32 {
                packer.ofs_delta(base, &delta(u64::from(len), &[(0, len)], &at.to_le_bytes()));
            }
            packer.finish()
        },
        is_expected: |result| matches!(result, Err(Error::InflatedBytes { .. })),
    },
    Hostile {
        name: "large bases that all wait for a second delta",
        pack: || comb(24, 4 << 20),
        is_expected: |result| matches!(result, Ok(ingested) if ingested.objects_count == 48),
    },
    Hostile {
        name: "a small stream that inflates to more than it says",
        pack: || {
            let mut packer = Packer::new();
            packer.header(3, 10);
            packer.raw(&deflated(&vec![0; 64 << 20]));
            packer.finish()
        },
        is_expected: |result| matches!(result, Err(Error::Size { .. })),
    },
    Hostile {
        name: "a commit that is too large",
        pack: || {
            let mut packer = Packer::new();
            packer.whole(Kind::Commit, &vec![b'x'; 17 << 20]);
            packer.finish()
        },
        is_expected: |result| matches!(result, Err(Error::ObjectBytes { .. })),
    },
    Hostile {
        name: "as many objects as can be claimed",
        pack: || Packer::new().finish_claiming(20_000_000),
        is_expected: |result| result.is_err(),
    },
    Hostile {
        name: "a tree of three hundred thousand entries",
        pack: || {
            let mut tree = Vec::new();
            for at in 0..300_000u32 {
                write!(tree, "100644 {at:06}\0").unwrap();
                tree.extend_from_slice(id_of(Kind::Blob, &at.to_le_bytes()).as_slice());
            }
            let mut packer = Packer::new();
            packer.whole(Kind::Tree, &tree);
            packer.finish()
        },
        is_expected: |result| matches!(result, Ok(ingested) if ingested.outside.len() == 300_000),
    },
    Hostile {
        name: "trees in one another, fifty thousand deep",
        pack: || {
            let mut packer = Packer::new();
            let mut id = id_of(Kind::Tree, b"");
            packer.whole(Kind::Tree, b"");
            for _ in 0..50_000 {
                let tree = [&b"40000 d\0"[..], id.as_slice()].concat();
                packer.whole(Kind::Tree, &tree);
                id = id_of(Kind::Tree, &tree);
            }
            packer.finish()
        },
        is_expected: |result| matches!(result, Ok(ingested) if ingested.outside.is_empty()),
    },
];

/// Large objects, each a REF_DELTA upon the one before and the base of one more, which is resolved last.
fn comb(count: u32, len: u32) -> Vec<u8> {
    let mut packer = Packer::new();
    let mut content = vec![0u8; len as usize];
    packer.whole(Kind::Blob, &content);
    for at in 1..=count {
        let base_id = id_of(Kind::Blob, &content);
        let tail = at.to_le_bytes();
        let tooth = delta(u64::from(len), &[(0, len - 5)], &[b"t", &tail[..]].concat());
        let bone = delta(u64::from(len), &[(0, len - 4)], &tail);
        packer.ref_delta(&base_id, &bone);
        if at < count {
            packer.ref_delta(&base_id, &tooth);
        }
        content.truncate(len as usize - 4);
        content.extend_from_slice(&tail);
    }
    packer.finish()
}

fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn hostile_packs_are_refused_in_bounded_memory() {
    if let Ok(path) = std::env::var(CASE_VARIABLE) {
        // The pack comes from a file, so that making it does not count.
        let path = Path::new(&path);
        let name = path.file_name().unwrap().to_str().unwrap();
        let case = HOSTILE.iter().find(|case| case.name == name).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            limits: hostile_limits(),
            ..options(HashKind::Sha1)
        };
        let mut input = File::open(path).unwrap();
        let before = peak_bytes();
        let result = ingest(
            &mut input,
            dir.path(),
            &mut Nothing,
            &options,
            &mut |_| {},
            &Interrupt::new(),
        );
        assert!((case.is_expected)(&result), "{name}: {result:?}");
        let grown = peak_bytes() - before;
        assert!(grown < PEAK_BYTES_MAX, "{name}: {grown} bytes");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for case in HOSTILE {
        let path = dir.path().join(case.name);
        std::fs::write(&path, (case.pack)()).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "pack::ingest::tests::hostile::hostile_packs_are_refused_in_bounded_memory",
            ])
            .env(CASE_VARIABLE, &path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {text}", case.name);
        assert!(text.contains("1 passed"), "{}: the case ran: {text}", case.name);
    }
}
