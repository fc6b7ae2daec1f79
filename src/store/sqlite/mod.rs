//! The store in one SQLite file.
//!
//! One connection writes, behind a mutex; a few read; one more only watches for changes. Write-ahead logging keeps
//! readers and the writer, also of other processes, out of each other's way, and `synchronous=FULL` makes a commit
//! last through a loss of power.

mod access;
mod accounts;
mod alternate;
mod audit;
mod idle;
mod leaks;
mod policies;
mod repository_ids;
mod rules;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{Error, Step};

/// What brings a database from one version to the next; `user_version` counts how many of them were applied.
const MIGRATIONS: [&str; 2] = [
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_token_life.sql"),
];

/// How long a statement waits for another process. A command line that writes needs milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle connections for reading that are kept.
const READERS_COUNT_MAX: usize = 4;

/// An open database.
#[derive(Debug)]
pub(super) struct Sqlite {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    observer: Mutex<Observer>,
}

/// Watches for commits. `PRAGMA data_version` tells a connection of every commit but its own, so this one never
/// writes.
#[derive(Debug)]
struct Observer {
    connection: Connection,
    data_version: i64,
    generation: u64,
}

impl Observer {
    fn data_version(&self) -> Result<i64, Error> {
        Ok(self
            .connection
            .prepare_cached("PRAGMA data_version")?
            .query_row([], |row| row.get(0))?)
    }
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<Sqlite, Error> {
        prepare_file(path).map_err(|error| open_error(path, &error))?;
        let mut writer = connect(path)?;
        migrate(&mut writer, path)?;
        let observer = connect_reader(path)?;
        Ok(Sqlite {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
            // Version 0 is never reported, so the first question reads the generation.
            observer: Mutex::new(Observer {
                connection: observer,
                data_version: 0,
                generation: 0,
            }),
        })
    }

    pub(super) fn generation(&self) -> Result<u64, Error> {
        let mut observer = lock(&self.observer);
        // The version is read before the generation: a commit between the two is seen again at the next question.
        // The other order would miss it for good.
        let data_version = observer.data_version()?;
        if data_version != observer.data_version {
            // A newer patgate may have brought the database to a version whose rules this one does not know.
            require_known_version(&observer.connection, &self.path)?;
            let generation: i64 = observer
                .connection
                .prepare_cached("SELECT value FROM generation WHERE id = 1")?
                .query_row([], |row| row.get(0))?;
            observer.generation = u64::try_from(generation).map_err(|_| Error::Corrupt("a generation"))?;
            observer.data_version = data_version;
        }
        Ok(observer.generation)
    }

    pub(super) fn data_version(&self) -> Result<i64, Error> {
        lock(&self.observer).data_version()
    }

    /// Runs `change` in a transaction that is committed if it succeeds and undone if not.
    fn write<T>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let mut connection = lock(&self.writer);
        // Immediate: a transaction that begins by reading and then writes is refused, without waiting, when another
        // process wrote in between.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let outcome = change(&transaction)?;
        transaction.commit()?;
        Ok(outcome)
    }

    /// Adds what breaks a foreign key with every event, at a moment when only the commit can notice.
    #[cfg(test)]
    pub(super) fn fail_commits(&self) {
        let batch = "CREATE TABLE doomed (x INTEGER REFERENCES accounts (id) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER doom AFTER INSERT ON audit_events BEGIN INSERT INTO doomed VALUES (-1); END;";
        lock(&self.writer).execute_batch(batch).unwrap();
    }

    /// Runs `change`, then `step`, in a transaction that is committed if both succeed and undone if not.
    fn write_with<T, E: From<Error>>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<(), Error>,
        step: Step<impl FnOnce() -> Result<T, E>, impl FnOnce(T, Error) -> E>,
    ) -> Result<T, E> {
        // Held until the step is undone, if it must be.
        let mut connection = lock(&self.writer);
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(Error::from)?;
        change(&transaction)?;
        let done = (step.run)()?;
        match transaction.commit() {
            Ok(()) => Ok(done),
            Err(error) => Err((step.undo)(done, error.into())),
        }
    }

    /// Runs `question` on one snapshot of the database.
    fn read<T>(&self, question: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let idle = lock(&self.readers).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect_reader(&self.path)?,
        };
        let transaction = connection.transaction()?;
        let outcome = question(&transaction)?;
        transaction.commit()?;
        let mut readers = lock(&self.readers);
        if readers.len() < READERS_COUNT_MAX {
            readers.push(connection);
        }
        Ok(outcome)
    }
}

/// A panic while the lock was held has at most left a transaction that its drop undid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_error(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Open {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// Makes the file and its directory, readable by the owner alone; SQLite gives its `-wal` and `-shm` the same mode.
///
/// An existing file must not be opened here: closing it again would drop the POSIX locks that connections of this
/// process hold on it (<https://www.sqlite.org/howtocorrupt.html>, "close() of a file descriptor").
fn prepare_file(path: &Path) -> std::io::Result<()> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => restrict(path),
        Err(error) => Err(error),
    }
}

/// Takes all rights on an existing database from everybody but its owner.
#[cfg(unix)]
fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn restrict(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let connect = || {
        // Without the URI flag, or a path that begins with "file:" would be read as options.
        let connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;",
        )?;
        Ok(connection)
    };
    connect().map_err(|error: rusqlite::Error| open_error(path, &error))
}

fn connect_reader(path: &Path) -> Result<Connection, Error> {
    let connection = connect(path)?;
    connection.execute_batch("PRAGMA query_only = ON")?;
    Ok(connection)
}

/// Returns the version of the database and the newest that is known, which is at least the first.
fn require_known_version(connection: &Connection, path: &Path) -> Result<(i64, i64), Error> {
    let found: i64 = connection
        .prepare_cached("PRAGMA user_version")?
        .query_row([], |row| row.get(0))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(Error::NewerSchema {
            path: path.to_owned(),
            found,
            known,
        });
    }
    Ok((found, known))
}

/// Applies the migrations that the database has not had, all or none.
fn migrate(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (found, known) = require_known_version(&transaction, path)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    if found < 0 || (found == 0) != (tables == 0) {
        return Err(Error::NotOurs {
            path: path.to_owned(),
        });
    }
    let applied = usize::try_from(found).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(applied) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

/// The present moment in whole seconds, which is what the database keeps.
fn now() -> i64 {
    Timestamp::now().as_second()
}

fn time(seconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_second(seconds).map_err(|_| Error::Corrupt("a time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::RepoPath;
    use crate::store::{Actor, AuditFilter};

    fn in_directory() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data/patgate.db");
        (directory, path)
    }

    #[test]
    fn a_newer_schema_is_refused_with_both_versions() {
        let (_directory, path) = in_directory();
        drop(Sqlite::open(&path).unwrap());
        connect(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        let error = Sqlite::open(&path).unwrap_err();
        assert!(
            matches!(
                error,
                Error::NewerSchema {
                    found: 99,
                    known: 2,
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("schema version 99"), "{error}");
    }

    #[test]
    fn a_database_of_another_program_is_left_alone() {
        let (_directory, path) = in_directory();
        prepare_file(&path).unwrap();
        connect(&path)
            .unwrap()
            .execute_batch("CREATE TABLE other (x)")
            .unwrap();
        assert!(matches!(Sqlite::open(&path), Err(Error::NotOurs { .. })));
    }

    #[test]
    fn a_file_that_is_no_database_is_refused_and_kept() {
        let (_directory, path) = in_directory();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "not a database, but somebody's notes ".repeat(100)).unwrap();
        assert!(matches!(Sqlite::open(&path), Err(Error::Open { .. })));
        assert!(fs::read_to_string(&path).unwrap().starts_with("not a database"));
    }

    #[test]
    fn a_new_database_can_be_opened_by_several_at_once() {
        let (_directory, path) = in_directory();
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Sqlite::open(&path).map(drop)))
                .collect();
            for one in all {
                one.join().unwrap().unwrap();
            }
        });
    }

    #[test]
    fn commits_are_durable_and_keys_are_enforced() {
        let (_directory, path) = in_directory();
        let database = Sqlite::open(&path).unwrap();
        let connection = lock(&database.writer);
        let pragma = |name: &str| {
            connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
                .unwrap()
        };
        assert_eq!(pragma("synchronous"), 2, "FULL");
        assert_eq!(pragma("foreign_keys"), 1);
        let mode: String = connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_files() {
        use std::os::unix::fs::PermissionsExt as _;

        let (_directory, path) = in_directory();
        let _database = Sqlite::open(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let _again = Sqlite::open(&path).unwrap();
        assert_eq!(mode(&path), 0o600, "rights that were added are taken away again");
    }

    #[test]
    fn readers_cannot_write() {
        let (_directory, path) = in_directory();
        let database = Sqlite::open(&path).unwrap();
        let outcome = database.read(|connection| Ok(connection.execute("DELETE FROM accounts", [])?));
        assert!(matches!(outcome, Err(Error::Database(_))));
    }

    #[test]
    fn a_rename_reads_no_token_but_those_that_are_limited_to_the_repository() {
        let (_directory, path) = in_directory();
        let database = Sqlite::open(&path).unwrap();
        let repo = |text: &str| RepoPath::parse(text).unwrap();
        let batch = "INSERT INTO accounts VALUES (1, 'Bob', 'bob', NULL, 0, 0, 0, 1);
             INSERT INTO tokens (id, digest, account_id, name, scopes, created_at, expires_at, limits)
             VALUES ('AAAAAAAA', zeroblob(32), 1, 'x', 'vso.code', 1, 2, 'not JSON');
             INSERT INTO token_limit_paths VALUES ('c/p/other', 'AAAAAAAA');";
        lock(&database.writer).execute_batch(batch).unwrap();
        let rename = |from: &str| {
            let step = Step {
                run: || Ok::<_, Error>(()),
                undo: |(), cause| cause,
            };
            database.rename_repository(&Actor::CommandLine, &repo(from), &repo("C/P/New"), step)
        };
        rename("C/P/Old").unwrap();
        assert!(matches!(rename("C/P/Other"), Err(Error::Corrupt(_))));
    }

    #[test]
    fn a_change_that_fails_leaves_nothing() {
        let (_directory, path) = in_directory();
        let database = Sqlite::open(&path).unwrap();
        let outcome: Result<(), Error> = database.write(|transaction| {
            transaction.execute("INSERT INTO audit_events (at, actor, action, subject, subject_key, details) VALUES (1, 'server', 'x', 'x', 'x', '{}')", [])?;
            Err(Error::EveryoneIsReader)
        });
        assert!(matches!(outcome, Err(Error::EveryoneIsReader)), "{outcome:?}");
        assert!(
            database
                .audit_events(&AuditFilter::latest(10))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_server_that_runs_while_a_newer_one_migrates_decides_nothing_any_more() {
        let (_directory, path) = in_directory();
        let database = Sqlite::open(&path).unwrap();
        let before = database.generation().unwrap();
        let version = |version: i64| {
            connect(&path)
                .unwrap()
                .pragma_update(None, "user_version", version)
                .unwrap();
        };
        version(3);
        for _ in 0..2 {
            let error = database.generation().unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::NewerSchema {
                        found: 3,
                        known: 2,
                        ..
                    }
                ),
                "{error}"
            );
        }
        version(2);
        assert_eq!(database.generation().unwrap(), before);
    }

    #[test]
    fn a_server_of_the_first_version_that_still_runs_finds_no_token_any_more() {
        // What its gate asks, word for word.
        const FIND: &str = "SELECT tokens.id, accounts.name, tokens.name, tokens.scopes, tokens.created_at, \
             tokens.expires_at, tokens.revoked_at, tokens.last_used_at, tokens.last_used_from, accounts.id, \
             accounts.name, accounts.is_admin, accounts.is_disabled, accounts.must_change_password, \
             accounts.password_hash IS NOT NULL, accounts.created_at \
             FROM tokens JOIN accounts ON accounts.id = tokens.account_id WHERE tokens.hash = ?1";
        const GENERATION: &str = "SELECT value FROM generation WHERE id = 1";

        let (_directory, path) = in_directory();
        prepare_file(&path).unwrap();
        let old = connect(&path).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.execute_batch(
            "INSERT INTO accounts VALUES (1, 'Bob', 'bob', NULL, 0, 0, 0, 1);
             INSERT INTO tokens VALUES ('AAAAAAAA', zeroblob(32), 1, 'laptop', 'vso.code', 1, 2, NULL, NULL, NULL);
             PRAGMA user_version = 1;",
        )
        .unwrap();
        let find = || -> rusqlite::Result<String> {
            old.prepare_cached(FIND)?
                .query_row([[0_u8; 32].as_slice()], |row| row.get(0))
        };
        let generation = || -> i64 { old.query_row(GENERATION, [], |row| row.get(0)).unwrap() };
        let before = generation();
        assert_eq!(find().unwrap(), "AAAAAAAA");
        drop(Sqlite::open(&path).unwrap());
        let error = find().unwrap_err().to_string();
        assert!(error.contains("no such column: tokens.hash"), "{error}");
        assert_ne!(generation(), before, "what it has in memory is void, too");
    }

    #[test]
    fn whoever_finds_the_database_locked_hears_that_it_is_busy() {
        let (_directory, path) = in_directory();
        let database = Sqlite::open(&path).unwrap();
        let mut other = connect(&path).unwrap();
        let _held = other
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .unwrap();
        lock(&database.writer).busy_timeout(Duration::ZERO).unwrap();
        assert!(database.write(|_| Ok(())).unwrap_err().is_busy());
        assert!(!Error::EveryoneIsReader.is_busy());
    }

    #[test]
    fn a_database_of_the_first_version_keeps_its_tokens_and_its_trail() {
        let (_directory, path) = in_directory();
        prepare_file(&path).unwrap();
        let old = connect(&path).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.execute_batch(
            "INSERT INTO accounts VALUES (1, 'Bob', 'bob', NULL, 0, 0, 0, 1);
             INSERT INTO tokens VALUES ('AAAAAAAA', zeroblob(32), 1, 'laptop', 'vso.code', 1, 2, NULL, NULL, NULL);
             INSERT INTO audit_events VALUES (7, 1, 'account', 'Bob', 'token.create', 'AAAAAAAA', '{}');
             PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(old);
        let database = Sqlite::open(&path).unwrap();
        let tokens = database.tokens(None).unwrap();
        assert_eq!(tokens.len(), 1);
        assert!(tokens[0].limits.is_empty());
        let events = database.audit_events(&AuditFilter::latest(10)).unwrap();
        assert_eq!((events[0].id, events[0].actor.to_string()), (7, "Bob".to_owned()));
        let version: i64 = connect(&path)
            .unwrap()
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(version, 2);
    }
}
