//! What looking for tokens costs a push: processor time of taking in a pack with and without it, in turns, and how fast
//! the scanner alone is.
//!
//!     cargo bench --bench scan -- PACK [ROUNDS]

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement ends by panicking when it cannot be made"
)]

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use gix_object::Kind;
use patgate::auth::leak;
use patgate::auth::token::{PREFIX, TOKEN_BYTES};
use patgate::interrupt::Interrupt;
use patgate::limits::PushLimits;
use patgate::pack::fsck;
use patgate::pack::ingest::{Bases, Options, ingest_scanned};
use patgate::pack::scan::{Form, Scanner};
use patgate::repository::objects;

/// Bytes that the scanner alone looks through in one turn.
const ALONE_BYTES: usize = 1 << 30;

struct Nothing;

impl Bases for Nothing {
    fn find(&mut self, _: &gix_hash::oid, _: &mut Vec<u8>) -> Result<Option<Kind>, objects::Error> {
        Ok(None)
    }
}

fn scanner() -> Scanner<'static> {
    Scanner::new(Form {
        prefix: PREFIX.as_bytes(),
        bytes: TOKEN_BYTES,
        digest: &|text| leak::digest(text).map(|hash| *hash.as_bytes()),
    })
}

/// Processor time of all threads so far.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = |at: usize| fields.split(' ').nth(at).unwrap().parse::<u64>().unwrap();
    // utime and stime, in hundredths of a second; proc_pid_stat(5).
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Takes the pack in and returns the processor time that it took.
fn take_in(pack: &Path, scanner: Option<&Scanner<'_>>) -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        object_hash: gix_hash::Kind::Sha1,
        limits: PushLimits::default(),
        fsck: Some(fsck::Options::default()),
        thin: true,
        compression: -1,
    };
    let before = processor_time();
    ingest_scanned(
        &mut File::open(pack).unwrap(),
        dir.path(),
        &mut Nothing,
        &options,
        scanner,
        &mut |_| (),
        &Interrupt::new(),
    )
    .expect("a pack of a whole repository");
    processor_time() - before
}

fn alone(what: &str, data: &[u8], piece: usize) {
    let scanner = scanner();
    let start = Instant::now();
    let mut bytes = 0;
    while bytes < ALONE_BYTES {
        for piece in data.chunks(piece) {
            scanner.each(black_box(piece), &mut |_, _| ());
        }
        bytes += data.len();
    }
    let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e9;
    println!("scanner alone, {what} in pieces of {piece}: {rate:.1} GB/s");
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    // What lists or runs all targets gives no pack, and measures nothing.
    let Some(pack) = args.first().map(Path::new).filter(|pack| pack.is_file()) else {
        return;
    };
    let rounds: u32 = args.get(1).map_or(5, |count| count.parse().unwrap());
    let text = include_str!("../src/pack/scan/mod.rs").repeat(64);
    for piece in [256, 4 << 10, 64 << 10] {
        alone("text", text.as_bytes(), piece);
    }
    let noise = std::fs::read(pack).unwrap();
    alone("noise", noise.get(..1 << 20).unwrap_or(&noise), 64 << 10);
    drop(noise);

    take_in(pack, None);
    let (mut without, mut with) = (Duration::ZERO, Duration::ZERO);
    for round in 0..rounds {
        let scanner = scanner();
        let (one, other) = if round % 2 == 0 {
            let one = take_in(pack, None);
            (one, take_in(pack, Some(&scanner)))
        } else {
            let other = take_in(pack, Some(&scanner));
            (take_in(pack, None), other)
        };
        println!("round {round}: {one:.2?} without, {other:.2?} with");
        without += one;
        with += other;
    }
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!(
        "taking in {}: {ratio:.4} times the processor time",
        pack.display()
    );
}
