//! `patgate repo import`, `maintain` and `fsck`: what a repository holds.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{Records, open_root, require};
use crate::cli::args::CommonArgs;
use crate::cli::output::{CliError, Console};
use crate::interrupt::Interrupt;
use crate::names::RepoPath;
use crate::pack::import::Source;
use crate::pack::ingest::Progress;
use crate::pack::{fsck as checks, maintain as joining, verify};
use crate::repository::registry::CreateOptions;
use crate::store::AuditAction;

/// How often a line of progress is drawn anew.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// A line on stderr that is drawn over and over, if a person looks at it.
struct Meter {
    is_shown: bool,
    last: Option<Instant>,
}

impl Meter {
    fn new() -> Meter {
        Meter {
            is_shown: std::io::stderr().is_terminal(),
            last: None,
        }
    }

    fn draw(&mut self, text: &dyn Fn() -> String) {
        if !self.is_shown || self.last.is_some_and(|last| last.elapsed() < DRAW_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let _ = write!(std::io::stderr(), "\r\x1b[K{}", text());
    }

    fn clear(&mut self) {
        if self.last.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// Makes SIGINT and SIGTERM end what is done in order, so that no half of it stays; a second one ends it at once.
pub(super) fn until_signalled() -> Result<Interrupt, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _entered = runtime.enter();
    let (mut interrupted, mut terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let interrupt = Interrupt::new();
    let flag = interrupt.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let mut next =
                    async || tokio::select! { _ = interrupted.recv() => {} _ = terminated.recv() => {} };
                next().await;
                flag.trigger();
                next().await;
                std::process::exit(1);
            });
        })?;
    Ok(interrupt)
}

pub(super) fn import(
    source: &Path,
    path: &RepoPath,
    no_check: bool,
    is_public: bool,
    interrupt: &Interrupt,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let repositories = open_root(common)?;
    let config = common.resolve()?;
    let records = Records(common.create_store()?);
    let opened = Source::open(source).map_err(|error| CliError::from_error(&error))?;
    let default_branch = opened
        .head()
        .map(ToString::to_string)
        .and_then(|head| head.strip_prefix("refs/heads/").map(str::to_owned))
        .unwrap_or_else(|| "main".to_owned());
    let options = CreateOptions {
        object_hash: opened.object_hash(),
        default_branch,
    };
    repositories.require_free(path)?;
    // It has no name before it is whole, so nobody sees half of it, and nothing is left of one that fails.
    let new = repositories.prepare(&options)?;
    let target = Arc::new(new.open()?);
    let mut meter = Meter::new();
    let checked = (!no_check).then(checks::Options::default);
    let imported = opened.copy_into(
        &target,
        checked,
        &config.limits.push,
        &mut |progress| {
            meter.draw(&|| match progress {
                Progress::Receiving { objects, total, .. } => {
                    format!("copying objects: {objects} of {total}")
                }
                Progress::Resolving { deltas, total } => format!("resolving deltas: {deltas} of {total}"),
            });
        },
        interrupt,
    );
    meter.clear();
    let imported = match imported {
        Ok(imported) => imported,
        Err(error) => {
            if interrupt.is_triggered() {
                return Err(CliError::failure("interrupted: nothing was imported"));
            }
            let failed = CliError::from_error(&error);
            return Err(match error {
                crate::pack::import::Error::Ingest(crate::pack::ingest::Error::Fsck { .. }) => {
                    failed.hint("--no-check takes objects that a push could not bring")
                }
                _ => failed,
            });
        }
    };
    let details = json!({ "objects": imported.objects, "bytes": imported.bytes, "refs": imported.refs });
    drop(target);
    records
        .registrar(&repositories)
        .place(&new, path, AuditAction::RepositoryImport, &details)?;
    records.make_public(path, is_public)?;
    console.note(&format!(
        "made '{path}' with {} refs, {} objects and {} bytes",
        imported.refs, imported.objects, imported.bytes
    ));
    Ok(())
}

pub(super) fn maintain(path: &RepoPath, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    let repositories = open_root(common)?;
    let config = common.resolve()?;
    let path = require(&repositories, path)?;
    let repository = repositories.open(&path)?;
    let done = joining::maintain(&repository, &config.limits.push, &until_signalled()?)
        .map_err(|error| CliError::from_error(&error))?;
    if done == joining::Maintained::default() {
        console.note(&format!("'{path}' needs nothing"));
    } else {
        console.note(&format!(
            "joined {} packs and {} loose objects of '{path}' into one pack of {} objects",
            done.packs, done.loose, done.objects
        ));
    }
    Ok(())
}

pub(super) fn fsck(
    path: &RepoPath,
    as_json: bool,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let repositories = open_root(common)?;
    let path = require(&repositories, path)?;
    let repository = repositories.open(&path)?;
    let mut meter = Meter::new();
    let report = verify::verify(
        &repository,
        &mut |objects| meter.draw(&|| format!("reading objects: {objects}")),
        &until_signalled()?,
    )
    .map_err(|error| CliError::from_error(&error))?;
    meter.clear();
    if as_json {
        console.print_json(&json!({
            "path": path.to_string(),
            "objects": report.objects,
            "findings": report.findings,
        }))?;
    } else {
        for finding in &report.findings {
            console.print(finding)?;
        }
        console.note(&format!("read {} objects of '{path}'", report.objects));
    }
    match report.findings.len() {
        0 => Ok(()),
        count => Err(CliError::failure(format!("'{path}' has {count} problems")).hint(
            "restore what is missing from a clone or a backup, with 'git fetch' or by copying its packs",
        )),
    }
}
