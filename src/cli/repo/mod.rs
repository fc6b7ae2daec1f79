//! `patgate repo`: the repositories below the root.
//!
//! Works on the directory itself, whether a server runs on it or not: a running one sees every change at its next
//! request. Rights and the audit trail are kept in the store, which [`Records`] alone talks to.

mod content;

use std::io::BufRead;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::args::CommonArgs;
use super::output::{CliError, Console, Table, confirm};
use crate::names::{AccessPath, RepoPath};
use crate::registrar::{self, Registrar};
use crate::repository::registry::{CreateOptions, Options};
use crate::repository::{Error, Repositories};
use crate::store::{Actor, Role, Store};

/// What can be done with repositories.
#[derive(Debug, Subcommand)]
pub enum RepoCommand {
    /// Make an empty repository.
    #[command(after_help = "\
PATH is COLLECTION/PROJECT/REPO; PROJECT/REPO lies in DefaultCollection, and REPO alone in a project of its name.

Examples:
  patgate repo create Web/site
  patgate repo create Contoso/Web/site --default-branch trunk
  patgate repo create docs --public")]
    Create {
        /// The repository.
        path: String,
        /// The hash that objects are named by.
        #[arg(long, value_name = "FORMAT", default_value = "sha1")]
        object_format: ObjectFormat,
        /// The branch that a clone checks out.
        #[arg(long, value_name = "NAME", default_value = "main")]
        default_branch: String,
        /// Let everyone who has a token fetch from it.
        #[arg(long)]
        public: bool,
    },
    /// List the repositories.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Copy a repository or a bundle from the local disk.
    #[command(after_help = "\
SOURCE is a bare or other repository, or a bundle with all objects. Its refs come along, but for those of remotes and
of a working copy. Every object is checked as in a push; --no-check takes old history that git itself can read.

Examples:
  patgate repo import ../site.git Web/site
  patgate repo import /srv/backup/site.bundle Contoso/Web/site")]
    Import {
        /// The repository or bundle.
        source: PathBuf,
        /// The repository that is made.
        path: String,
        /// Take objects that a push could not bring.
        #[arg(long)]
        no_check: bool,
        /// Let everyone who has a token fetch from it.
        #[arg(long)]
        public: bool,
    },
    /// Join small packs and loose objects; nothing is lost, whether it is reachable or not.
    #[command(after_help = "\
Example:
  patgate repo maintain Web/site")]
    Maintain {
        /// The repository.
        path: String,
    },
    /// Read a whole repository and tell what is damaged or missing.
    #[command(after_help = "\
The exit status is 1 if anything is.

Example:
  patgate repo fsck Web/site --json")]
    Fsck {
        /// The repository.
        path: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give a repository another name. Roles on it go along.
    #[command(after_help = "\
Example:
  patgate repo rename Web/site Web/www")]
    Rename {
        /// The repository.
        from: String,
        /// Its new path.
        to: String,
    },
    /// Delete a repository, with all its history and the roles on it.
    #[command(after_help = "\
Examples:
  patgate repo delete Web/site
  patgate repo delete Web/site --yes")]
    Delete {
        /// The repository.
        path: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// The hash that objects are named by, as git calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ObjectFormat {
    /// SHA-1, which every git reads.
    Sha1,
    /// SHA-256; git 2.29 or newer.
    Sha256,
}

impl From<ObjectFormat> for gix_hash::Kind {
    fn from(format: ObjectFormat) -> Self {
        match format {
            ObjectFormat::Sha1 => gix_hash::Kind::Sha1,
            ObjectFormat::Sha256 => gix_hash::Kind::Sha256,
        }
    }
}

pub(super) fn run(command: RepoCommand, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    match command {
        RepoCommand::Create {
            path,
            object_format,
            default_branch,
            public,
        } => {
            let path = parse_path(&path)?;
            let options = CreateOptions {
                object_hash: object_format.into(),
                default_branch,
            };
            create(&path, &options, public, common, console)
        }
        RepoCommand::List { json } => list(json, common, console),
        RepoCommand::Import {
            source,
            path,
            no_check,
            public,
        } => {
            let (path, interrupt) = (parse_path(&path)?, content::until_signalled()?);
            content::import(&source, &path, no_check, public, &interrupt, common, console)
        }
        RepoCommand::Maintain { path } => content::maintain(&parse_path(&path)?, common, console),
        RepoCommand::Fsck { path, json } => content::fsck(&parse_path(&path)?, json, common, console),
        RepoCommand::Rename { from, to } => rename(&parse_path(&from)?, &parse_path(&to)?, common, console),
        RepoCommand::Delete { path, yes } => {
            let path = parse_path(&path)?;
            delete(&path, yes, &mut std::io::stdin().lock(), common, console)
        }
    }
}

fn create(
    path: &RepoPath,
    options: &CreateOptions,
    is_public: bool,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let repositories = open_root(common)?;
    let records = Records(common.create_store()?);
    records.registrar(&repositories).create(path, options)?;
    records.make_public(path, is_public)?;
    console.note(&format!(
        "made '{path}'; its address is https://SERVER{}",
        path.url_path()
    ));
    if !is_public {
        console.note(&format!(
            "give others a role on it: patgate access grant USER contributor '{path}'"
        ));
    }
    Ok(())
}

fn list(as_json: bool, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    let repositories = open_root(common)?;
    let all = repositories.list()?;
    if as_json {
        return console.print_json(
            &all.iter()
                .map(|path| to_json(&repositories, path))
                .collect::<Value>(),
        );
    }
    let mut table = Table::new(&["REPOSITORY", "FORMAT", "STATE"]);
    for path in &all {
        // One that cannot be opened is listed too, with the reason: it is what the operator is looking for.
        let (format, state) = match repositories.open(path) {
            Ok(repository) => (repository.object_hash().to_string(), "ok".to_owned()),
            Err(error) => (String::new(), error.to_string()),
        };
        table.row([path.to_string(), format, state]);
    }
    console.print_table(
        &table,
        "there are no repositories: make one with 'patgate repo create PATH'",
    )
}

fn to_json(repositories: &Repositories, path: &RepoPath) -> Value {
    let opened = repositories.open(path);
    json!({
        "path": path.to_string(),
        "collection": path.collection(),
        "project": path.project(),
        "name": path.repository(),
        "url_path": path.url_path(),
        "object_format": opened.as_ref().ok().map(|repository| repository.object_hash().to_string()),
        "error": opened.as_ref().err().map(ToString::to_string),
    })
}

fn rename(
    from: &RepoPath,
    to: &RepoPath,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let repositories = open_root(common)?;
    let from = require(&repositories, from)?;
    let records = Records(common.create_store()?);
    if let Some(existing) = repositories.locate(to)?.filter(|existing| *existing != from) {
        return Err(Error::Exists {
            path: existing.to_string(),
        }
        .into());
    }
    records.registrar(&repositories).rename(&from, to)?;
    console.note(&format!(
        "'{from}' is now '{to}'; clones need its new address: git remote set-url origin https://SERVER{}",
        to.url_path()
    ));
    Ok(())
}

fn delete(
    path: &RepoPath,
    is_certain: bool,
    answer: &mut dyn BufRead,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let repositories = open_root(common)?;
    let path = require(&repositories, path)?;
    if !is_certain {
        let warning = format!("This deletes '{path}' with all its history.");
        confirm(&warning, &[path.repository(), &path.to_string()], answer, console)?;
    }
    let records = Records(common.create_store()?);
    records.registrar(&repositories).delete(&path)?;
    console.note(&format!("deleted '{path}'"));
    Ok(())
}

fn open_root(common: &CommonArgs) -> Result<Repositories, CliError> {
    let config = common.resolve()?;
    let options = Options {
        follow_symlinks: config.follow_symlinks,
        ..Options::default()
    };
    Ok(Repositories::at(config.repos, options)?)
}

fn parse_path(text: &str) -> Result<RepoPath, CliError> {
    RepoPath::parse(text).map_err(|error| {
        CliError::usage(format!("the path '{text}' {error}"))
            .hint("give COLLECTION/PROJECT/REPO, or PROJECT/REPO in the default collection")
    })
}

/// Finds a repository in any case of letters.
fn require(repositories: &Repositories, path: &RepoPath) -> Result<RepoPath, CliError> {
    repositories.locate(path)?.ok_or_else(|| {
        CliError::failure(format!("there is no repository '{path}'")).hint("'patgate repo list' shows all")
    })
}

/// What the store keeps about repositories.
struct Records(Store);

impl Records {
    fn make_public(&self, path: &RepoPath, is_public: bool) -> Result<(), CliError> {
        if is_public {
            let place = AccessPath::Repository(path.clone());
            self.0
                .grant_access(&Actor::CommandLine, None, &place, Role::Reader)?;
        }
        Ok(())
    }

    fn registrar<'a>(&'a self, repositories: &'a Repositories) -> Registrar<'a> {
        Registrar {
            store: &self.0,
            repositories,
            actor: &Actor::CommandLine,
        }
    }
}

impl From<registrar::Error> for CliError {
    fn from(error: registrar::Error) -> Self {
        match error {
            registrar::Error::Repository(error) => error.into(),
            registrar::Error::Store(error) => error.into(),
            registrar::Error::Left { .. } => CliError::from_error(&error),
        }
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        let hint = match &error {
            Error::CaseConflict { .. } | Error::Exists { .. } | Error::Missing { .. } => {
                Some("'patgate repo list' shows which repositories there are")
            }
            Error::BranchName { .. } => Some("give a branch name such as main"),
            Error::Io { .. } => {
                Some("check that the disk has room and that you may write to the repository root")
            }
            _ => None,
        };
        let text = CliError::from_error(&error);
        match hint {
            Some(hint) => text.hint(hint),
            None => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::store::AuditFilter;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Fixture {
        root: tempfile::TempDir,
        stdout: Captured,
    }

    impl Fixture {
        fn new() -> Fixture {
            Fixture {
                root: tempfile::tempdir().unwrap(),
                stdout: Captured::default(),
            }
        }

        fn common(&self) -> CommonArgs {
            CommonArgs {
                data_dir: Some(self.root.path().join("data")),
                repos: Some(self.root.path().join("repos")),
                ..CommonArgs::default()
            }
        }

        fn console(&self) -> Console {
            Console::new(Box::new(self.stdout.clone()), Box::new(std::io::sink()))
        }

        fn run(&self, command: RepoCommand) -> Result<(), CliError> {
            run(command, &self.common(), &mut self.console())
        }

        fn create(&self, path: &str, public: bool) -> Result<(), CliError> {
            let (object_format, default_branch) = (ObjectFormat::Sha256, "trunk".to_owned());
            self.run(RepoCommand::Create {
                path: path.to_owned(),
                object_format,
                default_branch,
                public,
            })
        }

        fn listed(&self) -> Vec<String> {
            self.stdout.0.lock().unwrap().clear();
            self.run(RepoCommand::List { json: true }).unwrap();
            let all: Value = serde_json::from_slice(&self.stdout.0.lock().unwrap()).unwrap();
            all.as_array()
                .unwrap()
                .iter()
                .map(|one| one["path"].as_str().unwrap().to_owned())
                .collect()
        }

        fn access(&self) -> Vec<String> {
            let all = self.common().create_store().unwrap().access(None).unwrap();
            all.iter().map(|access| access.path.to_string()).collect()
        }
    }

    #[test]
    fn a_repository_is_made_renamed_and_deleted_with_its_roles_and_audited() {
        let fixture = Fixture::new();
        fixture.create("Web/site", true).unwrap();
        assert_eq!(fixture.listed(), ["DefaultCollection/Web/site"]);
        assert_eq!(fixture.access(), ["DefaultCollection/Web/site"]);
        assert!(fixture.create("web/SITE", false).is_err());
        let (from, to) = ("web/site".to_owned(), "C/P/R".to_owned());
        fixture.run(RepoCommand::Rename { from, to }).unwrap();
        assert_eq!(
            (fixture.listed(), fixture.access()),
            (vec!["C/P/R".to_owned()], vec!["C/P/R".to_owned()])
        );
        fixture
            .run(RepoCommand::Delete {
                path: "c/p/r".into(),
                yes: true,
            })
            .unwrap();
        assert!(fixture.listed().is_empty() && fixture.access().is_empty());
        let events = fixture
            .common()
            .create_store()
            .unwrap()
            .audit_events(&AuditFilter::latest(100))
            .unwrap();
        for action in ["repository.create", "repository.rename", "repository.delete"] {
            assert!(events.iter().any(|event| event.action == action), "{action}");
        }
    }

    #[test]
    fn a_repository_is_deleted_only_when_its_name_is_typed() {
        let fixture = Fixture::new();
        fixture.create("C/P/R", false).unwrap();
        let path = RepoPath::parse("C/P/R").unwrap();
        let delete = |answer: &[u8]| {
            delete(
                &path,
                false,
                &mut &*answer,
                &fixture.common(),
                &mut fixture.console(),
            )
        };
        for answer in [&b""[..], b"y\n", b"P\n"] {
            assert!(delete(answer).is_err());
        }
        assert_eq!(fixture.listed(), ["C/P/R"]);
        delete(b"R\n").unwrap();
        assert!(fixture.listed().is_empty());
    }

    #[test]
    fn an_import_that_is_interrupted_leaves_no_repository() {
        let fixture = Fixture::new();
        fixture.create("S/S/S", false).unwrap();
        let source = open_root(&fixture.common()).unwrap();
        let files: [(&str, &[u8]); 1] = [("README", b"text")];
        source
            .open(&RepoPath::parse("S/S/S").unwrap())
            .unwrap()
            .write_initial_commit(&files, "First\n", "a <a@localhost>")
            .unwrap();
        let source = source.root().join("S/S/S.git");
        let path = RepoPath::parse("C/P/R").unwrap();
        let import = |interrupt: &crate::interrupt::Interrupt| {
            let (common, console) = (fixture.common(), &mut fixture.console());
            content::import(&source, &path, false, false, interrupt, &common, console)
        };
        let interrupt = crate::interrupt::Interrupt::new();
        interrupt.trigger();
        assert_eq!(import(&interrupt).unwrap_err().status(), 1);
        assert_eq!(fixture.listed(), ["S/S/S"]);
        import(&crate::interrupt::Interrupt::new()).unwrap();
        assert_eq!(fixture.listed(), ["C/P/R", "S/S/S"]);
    }

    #[test]
    fn a_repository_that_cannot_be_opened_is_listed_with_the_reason() {
        let fixture = Fixture::new();
        fixture.create("C/P/R", false).unwrap();
        let config = fixture.root.path().join("repos/C/P/R.git/config");
        std::fs::write(config, "[core]\nrepositoryformatversion = 7\n").unwrap();
        fixture.run(RepoCommand::List { json: false }).unwrap();
        let text = String::from_utf8(fixture.stdout.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.contains("C/P/R") && text.contains("format version 7"),
            "{text}"
        );
    }

    #[test]
    fn paths_that_make_no_sense_are_wrong_usage() {
        let fixture = Fixture::new();
        assert_eq!(fixture.create("../x", false).unwrap_err().status(), 2);
        assert_eq!(
            fixture
                .run(RepoCommand::Delete {
                    path: "x".into(),
                    yes: true
                })
                .unwrap_err()
                .status(),
            1
        );
    }
}
