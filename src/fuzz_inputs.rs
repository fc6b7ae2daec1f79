//! The kept inputs of the fuzz targets, for the tests of what they feed.

use std::fs;
use std::path::Path;

/// Calls `check` with every kept input of `target`; seeds there are always, artifacts only after finds.
pub(crate) fn replay(target: &str, check: impl Fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut count = 0;
    for kept in ["seeds", "artifacts"] {
        let Ok(entries) = fs::read_dir(fuzz.join(kept).join(target)) else {
            continue;
        };
        for entry in entries {
            check(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
    }
    assert!(count > 0, "{target} has seeds");
}
