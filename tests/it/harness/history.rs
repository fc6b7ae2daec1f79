//! Random histories from a seed: merges, renames, tags of tags, deep trees, big blobs, mode changes, submodule
//! entries, reverts, rewinds and deletions, written through `git fast-import`.
//!
//! The same seed makes the same history, whatever it is pushed to or served by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Git;

/// A bare repository whose history grows step by step.
pub struct History {
    git: Git,
    dir: PathBuf,
    rng: StdRng,
    branches: BTreeMap<String, Tree>,
    tags: Vec<String>,
    /// Branches that the fast-import of this step has written to.
    known: BTreeSet<String>,
    next: u32,
}

/// Modes of the files of a branch's tip by path.
type Tree = BTreeMap<String, &'static str>;

const SUBMODULE: &str = "160000";

impl History {
    /// Starts a history in the bare repository `dir`, which is made.
    pub fn new(git: &Git, dir: &Path, seed: u64) -> History {
        git.init_bare(dir);
        let rng = StdRng::seed_from_u64(seed);
        History {
            git: git.clone(),
            dir: dir.to_owned(),
            rng,
            branches: BTreeMap::new(),
            tags: Vec::new(),
            known: BTreeSet::new(),
            next: 0,
        }
    }

    /// The repository.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a few commits, and now and then moves refs in the ways that refs move.
    pub fn step(&mut self) {
        let mut stream = Vec::new();
        self.known.clear();
        for _ in 0..self.rng.random_range(1..=6) {
            self.commit(&mut stream);
        }
        if self.rng.random_bool(0.4) {
            self.tag(&mut stream);
        }
        stream.extend_from_slice(b"done\n");
        self.git
            .feed(
                &self.dir,
                &["fast-import", "--quiet", "--force", "--done"],
                &stream,
            )
            .ok();
        if self.rng.random_bool(0.3) {
            self.tag_a_tag();
        }
        if self.rng.random_bool(0.2) {
            self.rewind();
        }
        if self.rng.random_bool(0.2) {
            self.delete();
        }
    }

    /// Stores what is there in another way, as maintenance by other tools does.
    pub fn rearrange(&mut self) {
        match self.rng.random_range(0..7) {
            0 => drop(self.git.ok(&self.dir, &["pack-refs", "--all"])),
            1 => drop(self.git.ok(&self.dir, &["repack", "-d", "--quiet"])),
            2 => drop(self.git.ok(&self.dir, &["repack", "-a", "-d", "--quiet"])),
            3 => drop(self.git.ok(&self.dir, &["gc", "--quiet", "--prune=now"])),
            4 => drop(self.git.ok(
                &self.dir,
                &["commit-graph", "write", "--reachable", "--no-progress"],
            )),
            5 => {
                self.git.ok(&self.dir, &["repack", "-d", "--quiet"]);
                self.git.ok(&self.dir, &["multi-pack-index", "write"]);
            }
            _ => {}
        }
    }

    /// How this step's fast-import is told where a branch stands: by name when it wrote to it, else as on disk.
    fn tip(&self, branch: &str) -> String {
        let at = if self.known.contains(branch) { "" } else { "^0" };
        format!("refs/heads/{branch}{at}")
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn pick(&mut self, count: usize) -> usize {
        self.rng.random_range(0..count)
    }

    fn commit(&mut self, stream: &mut Vec<u8>) {
        let names: Vec<String> = self.branches.keys().cloned().collect();
        let is_new = names.is_empty() || (names.len() < 6 && self.rng.random_bool(0.15));
        let number = self.number();
        let (name, parent) = if is_new {
            let name = if names.is_empty() {
                "main".to_owned()
            } else {
                format!("topic/{number}")
            };
            // One in four starts a history of its own.
            let parent = (!names.is_empty() && self.rng.random_bool(0.75))
                .then(|| names[self.pick(names.len())].clone());
            (name, parent)
        } else {
            (names[self.pick(names.len())].clone(), None)
        };
        let mut tree = self
            .branches
            .get(parent.as_ref().unwrap_or(&name))
            .cloned()
            .unwrap_or_default();

        let seconds = 1_600_000_000 + u64::from(number) * 60;
        line(stream, &format!("commit refs/heads/{name}"));
        for role in [
            "author A U Thor <author@example.com>",
            "committer C O Mitter <committer@example.com>",
        ] {
            line(stream, &format!("{role} {seconds} +0100"));
        }
        data(
            stream,
            format!("Change {number}\n\nWith a body: naïve, 日本.\n").as_bytes(),
        );
        match &parent {
            Some(parent) => line(stream, &format!("from {}", self.tip(parent))),
            // fast-import knows a branch that it has written to, and must be told where any other one stands.
            None if !is_new && !self.known.contains(&name) => {
                line(stream, &format!("from {}", self.tip(&name)))
            }
            None => {}
        }
        self.known.insert(name.clone());
        if !is_new && names.len() > 1 && self.rng.random_bool(0.3) {
            for _ in 0..self.rng.random_range(1..=3) {
                let other = names[self.pick(names.len())].clone();
                if other != name {
                    line(stream, &format!("merge {}", self.tip(&other)));
                }
            }
        }
        // One in twenty changes nothing.
        if !self.rng.random_bool(0.05) || tree.is_empty() {
            for _ in 0..self.rng.random_range(1..=5) {
                self.change(stream, &mut tree);
            }
        }
        stream.push(b'\n');
        self.branches.insert(name, tree);
    }

    fn change(&mut self, stream: &mut Vec<u8>, tree: &mut Tree) {
        let paths: Vec<String> = tree.keys().cloned().collect();
        let kind = if paths.len() < 2 {
            0
        } else {
            self.rng.random_range(0..12)
        };
        match kind {
            // Deletes, and brings the file back later as often as not: an add picks from few names.
            0 if !paths.is_empty() && self.rng.random_bool(0.1) => {
                let path = &paths[self.pick(paths.len())];
                line(stream, &format!("D {path}"));
                tree.remove(path);
            }
            8 => {
                let from = paths[self.pick(paths.len())].clone();
                let to = format!(
                    "moved/{}/{}",
                    self.number(),
                    from.rsplit('/').next().unwrap_or("file")
                );
                line(stream, &format!("R {from} {to}"));
                if let Some(mode) = tree.remove(&from) {
                    tree.insert(to, mode);
                }
            }
            9 => {
                let path = format!("module-{}", self.pick(3));
                let id: String = (0..40)
                    .map(|_| char::from(b"0123456789abcdef"[self.pick(16)]))
                    .collect();
                line(stream, &format!("M {SUBMODULE} {id} {path}"));
                tree.insert(path, SUBMODULE);
            }
            10 => {
                let path = format!("link-{}", self.pick(3));
                line(stream, &format!("M 120000 inline {path}"));
                data(stream, format!("file-{}", self.pick(20)).as_bytes());
                tree.insert(path, "120000");
            }
            _ => {
                let path = self.path();
                let mode = if self.rng.random_bool(0.2) {
                    "100755"
                } else {
                    "100644"
                };
                let text = self.content();
                line(stream, &format!("M {mode} inline {path}"));
                data(stream, &text);
                tree.insert(path, mode);
            }
        }
    }

    fn path(&mut self) -> String {
        let file = format!("file-{}", self.pick(20));
        match self.rng.random_range(0..10) {
            0 => format!("{}/{file}", ["deep"; 30].join("/")),
            1..=4 => format!("dir-{}/{file}", self.pick(5)),
            5 => format!("dir-{}/sub-{}/{file}", self.pick(5), self.pick(3)),
            _ => file,
        }
    }

    fn content(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..40) {
            0 => Vec::new(),
            // Does not deflate, and is larger than any buffer on its way.
            1 => {
                let mut bytes = vec![0; self.rng.random_range(200_000..700_000)];
                self.rng.fill(bytes.as_mut_slice());
                bytes
            }
            2 => vec![b'a'; self.rng.random_range(100_000..1_000_000)],
            // Long text with a small change: what deltas are for.
            _ => {
                let mut text = String::new();
                let changed = self.pick(200);
                for line in 0..200 {
                    let number = if line == changed { self.number() } else { 0 };
                    let _ = writeln!(text, "line {line} of a file that changes a little: {number}");
                }
                text.into_bytes()
            }
        }
    }

    fn tag(&mut self, stream: &mut Vec<u8>) {
        let names: Vec<String> = self.branches.keys().cloned().collect();
        let (branch, number) = (names[self.pick(names.len())].clone(), self.number());
        if self.rng.random_bool(0.5) {
            let name = format!("v{number}");
            line(stream, &format!("tag {name}\nfrom {}", self.tip(&branch)));
            line(
                stream,
                &format!(
                    "tagger T Agger <tagger@example.com> {} +0000",
                    1_600_000_000 + number
                ),
            );
            data(stream, format!("Version {number}\n").as_bytes());
            self.tags.push(name);
        } else {
            line(
                stream,
                &format!("reset refs/tags/light-{number}\nfrom {}\n", self.tip(&branch)),
            );
        }
    }

    fn tag_a_tag(&mut self) {
        if self.tags.is_empty() {
            return;
        }
        let (at, number) = (self.pick(self.tags.len()), self.number());
        let inner = self.tags[at].clone();
        let name = format!("nested-{number}");
        self.git.ok(
            &self.dir,
            &[
                "tag",
                "--annotate",
                "--message",
                "A tag of a tag",
                &name,
                &format!("refs/tags/{inner}"),
            ],
        );
        self.tags.push(name);
    }

    fn rewind(&mut self) {
        let names: Vec<String> = self.branches.keys().cloned().collect();
        let name = names[self.pick(names.len())].clone();
        let parent = self.git.run(
            &self.dir,
            &[
                "rev-parse",
                "--verify",
                "--quiet",
                &format!("refs/heads/{name}~1"),
            ],
        );
        if !parent.is_ok() {
            return;
        }
        self.git.ok(
            &self.dir,
            &["update-ref", &format!("refs/heads/{name}"), &parent.out()],
        );
        let listed = self.git.ok(
            &self.dir,
            &["ls-tree", "-r", "--format=%(objectmode) %(path)", &parent.out()],
        );
        let tree = listed
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(mode, path)| {
                let mode = ["100644", "100755", "120000", SUBMODULE]
                    .into_iter()
                    .find(|known| *known == mode);
                (path.to_owned(), mode.expect("one of four modes"))
            });
        let tree = tree.collect();
        self.branches.insert(name, tree);
    }

    fn delete(&mut self) {
        let names: Vec<String> = self
            .branches
            .keys()
            .filter(|name| *name != "main")
            .cloned()
            .collect();
        if names.is_empty() {
            return;
        }
        let name = names[self.pick(names.len())].clone();
        self.git
            .ok(&self.dir, &["update-ref", "-d", &format!("refs/heads/{name}")]);
        self.branches.remove(&name);
    }
}

fn line(stream: &mut Vec<u8>, text: &str) {
    stream.extend_from_slice(text.as_bytes());
    stream.push(b'\n');
}

fn data(stream: &mut Vec<u8>, bytes: &[u8]) {
    line(stream, &format!("data {}", bytes.len()));
    stream.extend_from_slice(bytes);
    stream.push(b'\n');
}
