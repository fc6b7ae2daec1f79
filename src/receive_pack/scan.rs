//! Live tokens in what is pushed: noticed while the pack comes in, told with their place, and refused unless the pusher
//! may push one and says so.
//!
//! Owns which objects and names count, the words of the refusal, and the push option. What a token is, which of them
//! live and who may push one, says [`Guard`]. An object that the repository has already is not new and does not count;
//! neither does the name of a ref that is there. All refs of a push are refused, because its pack is one.
//! Invariant: nothing that is said, logged or kept holds a token.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use bstr::ByteSlice;
use gix_hash::{ObjectId, oid};
use gix_object::{Kind, TreeRefIter};

use super::Receiver;
use super::commands::Commands;
use super::report::Reporter;
use super::take_in::Taken;
use crate::auth::leak::{self, AllowSecret, Guard, Notes, Permission};
use crate::auth::token::{PREFIX, TOKEN_BYTES};
use crate::auth::{Grant, Push};
use crate::pack::scan::{Digest, Find, Finds, Form, Place, SECRETS_COUNT_MAX, Scanner, Sift, places};
use crate::protocol::receive::PushRequest;
use crate::repository::objects::Objects;
use crate::repository::refs::RefSnapshot;
use crate::store::{self, LiveToken, TokenHash, is_invisible};

/// The push option by which somebody who may push a live token does.
pub const ALLOW_SECRET: &str = "patgate.allow-secret";

/// Live tokens of one push that are let in at most. Each is noted in the trail, and nobody needs so many.
const TOKENS_COUNT_MAX: usize = 100;

/// Places that are told of one push, and noted of one token.
const PLACES_COUNT_MAX: usize = 10;

/// Bytes of objects that are read once more to tell the line. Beyond, the offset is told.
const READ_BYTES_MAX: u64 = 256 << 20;

/// Bytes in which a NUL makes a file a binary one, as git has it.
const BINARY_BYTES: usize = 8000;

/// Letters of a path or the name of a ref that are shown.
const SHOWN_CHARS_MAX: usize = 300;

/// Digits of an id that are shown.
const ID_DIGITS: usize = 10;

/// What stands between live tokens and the repository, and who pushes.
pub(super) struct Secrets<'a> {
    pub(super) guard: &'a Guard,
    pub(super) grant: &'a Grant<Push>,
}

/// A scanner for tokens of this server or another of its kind. Where there are too many to remember, those are kept that
/// `guard` knows to live: a list of old ones is no reason to refuse a push.
pub(super) fn scanner(guard: &Guard) -> Scanner<'_> {
    let scanner = Scanner::new(Form {
        prefix: PREFIX.as_bytes(),
        bytes: TOKEN_BYTES,
        digest: &|text| leak::digest(text).map(|hash| *hash.as_bytes()),
    });
    scanner.sifting(guard)
}

impl Sift for Guard {
    fn matter(&self, digests: &[Digest]) -> Option<HashSet<Digest>> {
        let hashes: Vec<TokenHash> = digests.iter().copied().map(TokenHash::new).collect();
        match self.live_among(&hashes) {
            Ok(live) => Some(live.iter().map(|token| *token.hash.as_bytes()).collect()),
            Err(err) => {
                tracing::error!(
                    err = &err as &dyn std::error::Error,
                    "a push could not be checked for tokens"
                );
                None
            }
        }
    }
}

/// A live token, and where the push has it.
struct Leak {
    token: LiveToken,
    /// At most [`PLACES_COUNT_MAX`].
    places: Vec<String>,
    /// How many more there are, as far as they were looked for.
    more_places: usize,
    /// It is in an object, and not only in the names of refs.
    is_in_objects: bool,
}

/// What a push has that it should not.
#[derive(Default)]
struct Leaks {
    list: Vec<Leak>,
    /// There are more live tokens than are listed.
    are_more: bool,
    /// There are more texts in the form of tokens than could be checked.
    are_unchecked: bool,
}

/// Why the push cannot be judged.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Push(#[from] super::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Where a token is: in an object that has this id, under this path.
struct Spot<'a> {
    find: &'a Find,
    place: Option<&'a Place>,
}

impl Receiver<'_> {
    /// Refuses all commands if the push brings a live token, unless its pusher may bring one and asked to.
    pub(super) fn check_secrets(
        &self,
        secrets: &Secrets<'_>,
        request: &PushRequest,
        commands: &mut Commands<'_>,
        refs: &RefSnapshot,
        (taken, finds): (&Taken, &Finds),
        reporter: &mut Reporter<'_>,
    ) -> Result<(), super::Error> {
        if !commands.any_open() {
            return Ok(());
        }
        let judged = self
            .leaks(secrets, commands, refs, (taken, finds), reporter)
            .and_then(|leaks| self.judge(secrets, request, &leaks, commands, reporter));
        match judged {
            Ok(()) => Ok(()),
            Err(Error::Push(err)) => Err(err),
            Err(Error::Store(err)) => {
                tracing::error!(
                    err = &err as &dyn std::error::Error,
                    "a push could not be checked for tokens"
                );
                reporter
                    .say("fatal: the server cannot check the push for tokens; tell its administrator\n")?;
                commands.refuse_all("the server could not check the push");
                Ok(())
            }
        }
    }

    /// Finds the live tokens that the push brings.
    fn leaks(
        &self,
        secrets: &Secrets<'_>,
        commands: &Commands<'_>,
        refs: &RefSnapshot,
        (taken, finds): (&Taken, &Finds),
        reporter: &mut Reporter<'_>,
    ) -> Result<Leaks, Error> {
        let names = names_with_tokens(commands, refs);
        let mut leaks = Leaks {
            are_unchecked: finds.is_overfull,
            ..Leaks::default()
        };
        if finds.list.is_empty() && names.is_empty() {
            return Ok(leaks);
        }
        let digests: HashSet<Digest> = finds.list.iter().map(|find| find.digest).collect();
        let hashes: HashSet<TokenHash> = digests
            .into_iter()
            .map(TokenHash::new)
            .chain(names.iter().map(|(hash, _)| *hash))
            .collect();
        let hashes: Vec<TokenHash> = hashes.into_iter().collect();
        let mut live = secrets.guard.live_among(&hashes)?;
        live.sort_by(|a, b| a.id.cmp(&b.id));
        // Of a token that rotates, the old secret and the new one may both be there.
        let by_digest: HashMap<Digest, &LiveToken> =
            live.iter().map(|token| (*token.hash.as_bytes(), token)).collect();

        let mut known = self.repository.objects().map_err(super::Error::from)?;
        let mut found: Vec<&Find> = Vec::new();
        for find in &finds.list {
            let is_live = by_digest.contains_key(&find.digest);
            if is_live && !known.contains(&find.object).map_err(super::Error::from)? {
                found.push(find);
            }
        }
        for (hash, name) in &names {
            if let Some(token) = by_digest.get(hash.as_bytes()) {
                leaks.add(token, format!("the name of {}", shown(name)), false);
            }
        }
        if found.is_empty() {
            return Ok(leaks);
        }
        let overlay = self
            .repository
            .object_store()
            .overlay(taken.quarantine.object_dir())
            .map_err(super::Error::from)?;
        let mut objects = Arc::new(overlay).handle().map_err(super::Error::from)?;
        let walked = self.walk(&mut objects, &mut known, commands, &found, reporter)?;
        let mut reader = LineReader {
            objects: &mut objects,
            left_bytes: READ_BYTES_MAX,
        };
        // One path may have many versions that hold the same token: the first says enough.
        let mut told: HashSet<(&str, Option<&[u8]>, Option<&oid>)> = HashSet::new();
        for spot in spots(&found, &walked) {
            let Some(token) = by_digest.get(&spot.find.digest) else {
                continue;
            };
            let path = spot.place.map(|place| place.path.as_slice());
            let object = path.is_none().then_some(&*spot.find.object);
            if told.insert((token.id.as_str(), path, object)) {
                leaks.add_with(token, true, || reader.tell(&spot, commands));
            }
        }
        Ok(leaks)
    }

    /// Looks for the commits and paths of what was found. It only tells people where to look, so that an error leaves
    /// them with ids.
    fn walk(
        &self,
        objects: &mut Objects,
        known: &mut Objects,
        commands: &Commands<'_>,
        found: &[&Find],
        reporter: &mut Reporter<'_>,
    ) -> Result<Vec<Place>, super::Error> {
        let tips: Vec<ObjectId> = commands
            .open()
            .map(|(_, command)| command.new_id)
            .filter(|id| !id.is_null())
            .collect();
        let wanted = found
            .iter()
            .filter(|find| matches!(find.kind, Kind::Blob | Kind::Tree))
            .map(|find| find.object);
        let mut progress = || {
            // Whoever does not listen any more gets his push refused all the same.
            let _ = reporter.keep_alive();
        };
        match places(objects, known, &tips, wanted, &mut progress, self.interrupt) {
            Ok(places) => Ok(places),
            Err(crate::pack::Error::Interrupted) => Err(super::Error::Interrupted),
            Err(err) => {
                tracing::warn!(
                    err = &err as &dyn std::error::Error,
                    "the place of a token could not be found"
                );
                Ok(Vec::new())
            }
        }
    }

    fn judge(
        &self,
        secrets: &Secrets<'_>,
        request: &PushRequest,
        leaks: &Leaks,
        commands: &mut Commands<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Result<(), Error> {
        if leaks.list.is_empty() && !leaks.are_unchecked {
            return Ok(());
        }
        let permission = secrets.guard.permission(secrets.grant)?;
        let is_asked = request.push_options.iter().any(|option| option == ALLOW_SECRET);
        let is_allowed = is_asked && permission.is_given && !leaks.are_more;
        let notes = secrets.guard.notes(secrets.grant);
        for leak in &leaks.list {
            tracing::info!(leaked = %leak.token.id, is_allowed, "a push brings a live token");
            if !is_allowed {
                notes.token(&leak.token, &leak.places, false)?;
            }
        }
        if is_allowed {
            // Much can still speak against it.
            let brought: Vec<_> = leaks
                .list
                .iter()
                .map(|leak| (leak.token.clone(), leak.places.clone()))
                .collect();
            let are_unchecked = leaks.are_unchecked;
            reporter.when_settled(move |has_moved| note_allowed(&notes, &brought, are_unchecked, has_moved));
        }
        let text = if is_allowed {
            leaks.warning()
        } else {
            let takes_options = self.repository.settings().advertise_push_options;
            leaks.refusal(&permission, is_asked, takes_options)
        };
        let said = reporter.say(&text);
        if !is_allowed {
            commands.refuse_all(&leaks.status());
        }
        Ok(said.map_err(super::Error::from)?)
    }
}

/// Notes what was let in, now that it is known whether it came in.
fn note_allowed(notes: &Notes, brought: &[(LiveToken, Vec<String>)], are_unchecked: bool, has_moved: bool) {
    let noted = brought
        .iter()
        .try_for_each(|(token, places)| notes.token(token, places, has_moved))
        .and_then(|()| match are_unchecked && has_moved {
            true => notes.unchecked(),
            false => Ok(()),
        });
    if let Err(err) = noted {
        tracing::error!(
            err = &err as &dyn std::error::Error,
            "a push brought live tokens, and the trail cannot be told"
        );
    }
}

/// Tokens in the names of the refs that the push would make. They take less room than the names, which are bounded.
fn names_with_tokens<'a>(commands: &Commands<'a>, refs: &RefSnapshot) -> Vec<(TokenHash, &'a [u8])> {
    let mut names = Vec::new();
    for (_, command) in commands.open().filter(|(_, command)| !command.new_id.is_null()) {
        let is_there = || refs.find(command.name.as_bstr()).is_some();
        leak::each_token(&command.name, &mut |_, hash| {
            let is_new = !is_there();
            if is_new {
                names.push((hash, command.name.as_slice()));
            }
            is_new
        });
    }
    names
}

/// What was found with where it is: first what has a path, in the order of the commits, then the rest.
fn spots<'a>(found: &[&'a Find], places: &'a [Place]) -> Vec<Spot<'a>> {
    let mut by_object: HashMap<&oid, Vec<&'a Find>> = HashMap::new();
    for find in found {
        by_object.entry(&find.object).or_default().push(find);
    }
    let mut spots = Vec::new();
    let mut placed: HashSet<&oid> = HashSet::new();
    for place in places {
        placed.insert(&place.object);
        for find in by_object.get(&*place.object).into_iter().flatten() {
            spots.push(Spot {
                find,
                place: Some(place),
            });
        }
    }
    for find in found.iter().filter(|find| !placed.contains(&*find.object)) {
        spots.push(Spot { find, place: None });
    }
    spots
}

/// Reads objects once more to say where in them something is.
struct LineReader<'a> {
    objects: &'a mut Objects,
    left_bytes: u64,
}

impl LineReader<'_> {
    /// Says where a token is, in words that fit behind "in".
    fn tell(&mut self, spot: &Spot<'_>, commands: &Commands<'_>) -> String {
        let Spot { find, place } = spot;
        let id = find.object.to_hex_with_len(ID_DIGITS);
        match find.kind {
            Kind::Commit => format!("the {} of commit {id}", self.part(find)),
            Kind::Tag => {
                let part = self.part(find);
                let named = commands.open().find(|(_, command)| command.new_id == find.object);
                match named {
                    Some((_, command)) => format!("the {part} of the tag {}", shown(&command.name)),
                    None => format!("the {part} of the tag object {id}"),
                }
            }
            Kind::Tree => match place {
                Some(place) => {
                    let name = self.name(find, &place.path);
                    format!("the name of {}{}", shown(&name), of_commit(place))
                }
                None => format!("a name in the tree {}", find.object),
            },
            Kind::Blob => match place {
                Some(place) => {
                    let position = self.position(find);
                    format!("{}{position}{}", shown(&place.path), of_commit(place))
                }
                None => format!("the blob {}", find.object),
            },
        }
    }

    fn read(&mut self, find: &Find) -> Option<Arc<Vec<u8>>> {
        self.left_bytes = self.left_bytes.checked_sub(find.bytes)?;
        // An error leaves the reader with less to read, not the push with another end.
        self.objects
            .read(&find.object)
            .ok()
            .flatten()
            .map(|object| object.data)
    }

    /// `:12`, the line, for text.
    fn position(&mut self, find: &Find) -> String {
        let offset = usize::try_from(find.offset).unwrap_or(usize::MAX);
        let data = self.read(find);
        let before = data.as_ref().and_then(|data| data.get(..offset));
        let is_binary = |data: &[u8]| data.iter().take(BINARY_BYTES).any(|&byte| byte == 0);
        match (before, data.as_ref()) {
            (Some(before), Some(data)) if !is_binary(data) => {
                format!(":{}", memchr::memchr_iter(b'\n', before).count() + 1)
            }
            _ => format!(" at byte {}", find.offset),
        }
    }

    /// Whether a token stands in the message of a commit or tag, or before it.
    fn part(&mut self, find: &Find) -> &'static str {
        let header_bytes = self
            .read(find)
            .and_then(|data| data.find(b"\n\n"))
            .map_or(0, |at| at as u64);
        if find.offset < header_bytes {
            "header"
        } else {
            "message"
        }
    }

    /// The path of the entry that has the token in its name, in the tree that lies under `path`.
    fn name(&mut self, find: &Find, path: &[u8]) -> Vec<u8> {
        let mut full = path.to_vec();
        let Some(data) = self.read(find) else {
            return full;
        };
        let entries = TreeRefIter::from_bytes(&data, find.object.kind()).filter_map(Result::ok);
        for entry in entries {
            let mut is_it = false;
            leak::each_token(entry.filename, &mut |_, hash| {
                is_it = *hash.as_bytes() == find.digest;
                !is_it
            });
            if is_it {
                if !full.is_empty() {
                    full.push(b'/');
                }
                full.extend_from_slice(entry.filename);
                break;
            }
        }
        full
    }
}

fn of_commit(place: &Place) -> String {
    place.commit.map_or_else(String::new, |commit| {
        format!(" of commit {}", commit.to_hex_with_len(ID_DIGITS))
    })
}

/// A path or the name of a ref as it may be printed: without tokens, without what a terminal would act on, and not too
/// long.
fn shown(name: &[u8]) -> String {
    let clean = leak::redact(name);
    let mut text = String::new();
    for (count, c) in clean.to_str_lossy().chars().enumerate() {
        if count >= SHOWN_CHARS_MAX {
            text.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) {
            text.extend(c.escape_unicode());
        } else {
            text.push(c);
        }
    }
    text
}

impl Leaks {
    fn add(&mut self, token: &LiveToken, place: String, is_in_objects: bool) {
        self.add_with(token, is_in_objects, || place);
    }

    /// Adds a place; `tell` is asked for it if there is room.
    fn add_with(&mut self, token: &LiveToken, is_in_objects: bool, tell: impl FnOnce() -> String) {
        let at = match self.list.iter().position(|leak| leak.token.id == token.id) {
            Some(at) => at,
            None if self.list.len() >= TOKENS_COUNT_MAX => {
                self.are_more = true;
                return;
            }
            None => {
                self.list.push(Leak {
                    token: token.clone(),
                    places: Vec::new(),
                    more_places: 0,
                    is_in_objects: false,
                });
                self.list.len() - 1
            }
        };
        if let Some(leak) = self.list.get_mut(at) {
            leak.is_in_objects |= is_in_objects;
            if leak.places.len() < PLACES_COUNT_MAX {
                leak.places.push(tell());
            } else {
                leak.more_places += 1;
            }
        }
    }

    /// The reason in the report.
    fn status(&self) -> String {
        match self.list.as_slice() {
            [] => "too many tokens to check".to_owned(),
            [leak] => format!("live token {} in the push", leak.token.id),
            _ => "live tokens in the push".to_owned(),
        }
    }

    /// One line for each place, as many as are told, each beginning with `prefix`.
    fn lines(&self, prefix: &str) -> String {
        let mut text = String::new();
        let mut left = PLACES_COUNT_MAX;
        let mut more = 0;
        for leak in &self.list {
            more += leak.more_places;
            for place in &leak.places {
                if left == 0 {
                    more += 1;
                    continue;
                }
                left -= 1;
                // Writing to a string does not fail.
                let _ = writeln!(
                    text,
                    "{prefix}This push contains a live personal access token ({}, '{}') in {place}.",
                    leak.token.id, leak.token.name
                );
            }
        }
        if more > 0 || self.are_more {
            let places = if self.are_more {
                "more places".to_owned()
            } else if more == 1 {
                "1 more place".to_owned()
            } else {
                format!("{more} more places")
            };
            let _ = writeln!(text, "{prefix}It contains live tokens in {places}.");
        }
        if self.are_unchecked {
            let _ = writeln!(
                text,
                "{prefix}This push contains more than {SECRETS_COUNT_MAX} texts in the form of personal access tokens, and not \
                 all of them could be checked."
            );
        }
        text
    }

    /// The commands that revoke what was found.
    fn revocations(&self) -> String {
        let commands = self
            .list
            .iter()
            .take(PLACES_COUNT_MAX)
            .map(|leak| format!("patgate token revoke {}", leak.token.id));
        let tokens = if self.list.len() == 1 { "token" } else { "tokens" };
        format!("revoke the {tokens}: {}", commands.collect::<Vec<_>>().join(", "))
    }

    /// What the pusher reads of a push that was let in.
    fn warning(&self) -> String {
        let mut text = self.lines("warning: ");
        if !self.list.is_empty() {
            let _ = writeln!(
                text,
                "warning: It is let in because of {ALLOW_SECRET}. If that was a mistake, {}",
                self.revocations()
            );
        }
        text
    }

    /// What the pusher reads of a push that was refused: what is wrong, and how to go on.
    fn refusal(&self, permission: &Permission, is_asked: bool, takes_options: bool) -> String {
        let mut text = self.lines("");
        if self.list.is_empty() {
            text.push_str("Push fewer commits at a time.");
        } else {
            let it = if self.list.len() == 1 { "it" } else { "them" };
            let remedy = if self.list.iter().any(|leak| leak.is_in_objects) {
                format!("Remove {it} from the commits")
            } else {
                "Choose another name".to_owned()
            };
            let _ = write!(text, "{remedy}, and {}.", self.revocations());
        }
        match permission.who {
            _ if self.are_more => {
                let _ = write!(text, " Nobody may push more than {TOKENS_COUNT_MAX} live tokens.");
            }
            _ if !takes_options => {}
            _ if permission.is_given => {
                let _ = write!(text, " If it must be pushed: git push -o {ALLOW_SECRET}");
            }
            AllowSecret::Administrators if is_asked => {
                let _ = write!(
                    text,
                    " Only an administrator of this repository may push with {ALLOW_SECRET}."
                );
            }
            AllowSecret::Administrators => {
                text.push_str(" An administrator of this repository could push it.")
            }
            _ if is_asked => {
                let _ = write!(text, " Nobody may push with {ALLOW_SECRET} here.");
            }
            _ => {}
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests;
