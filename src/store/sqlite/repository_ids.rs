//! The ids of repositories and of the installation.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use uuid::{Builder, Uuid};

use super::Sqlite;
use crate::names::RepoPath;
use crate::store::Error;

/// A random id; it is no secret.
fn random() -> Uuid {
    Builder::from_random_bytes(rand::random()).into_uuid()
}

fn parse(text: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(text).map_err(|_| Error::Corrupt("an id"))
}

fn find_id(connection: &Connection, key: &str) -> Result<Option<Uuid>, Error> {
    let found: Option<String> = connection
        .prepare_cached("SELECT id FROM repository_ids WHERE path_key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    found.as_deref().map(parse).transpose()
}

fn find_instance(connection: &Connection) -> Result<Option<Uuid>, Error> {
    let found: Option<String> = connection
        .query_row("SELECT uuid FROM instance WHERE id = 1", [], |row| row.get(0))
        .optional()?;
    found.as_deref().map(parse).transpose()
}

/// Moves the id of a repository to its new name, where an id of what had it before is dropped.
pub(super) fn rename(transaction: &Transaction<'_>, from: &RepoPath, to: &RepoPath) -> Result<(), Error> {
    if from.key() != to.key() {
        transaction.execute("DELETE FROM repository_ids WHERE path_key = ?1", [to.key()])?;
    }
    transaction.execute(
        "UPDATE repository_ids SET path_key = ?2, path = ?3 WHERE path_key = ?1",
        params![from.key(), to.key(), to.to_string()],
    )?;
    Ok(())
}

/// Removes the id of a repository, so that a later one of the same name does not get it.
pub(super) fn delete(transaction: &Transaction<'_>, repository: &RepoPath) -> Result<(), Error> {
    transaction.execute(
        "DELETE FROM repository_ids WHERE path_key = ?1",
        [repository.key()],
    )?;
    Ok(())
}

impl Sqlite {
    pub(in crate::store) fn instance_id(&self) -> Result<Uuid, Error> {
        if let Some(id) = self.read(find_instance)? {
            return Ok(id);
        }
        self.write(|transaction| {
            // Another process may have been first.
            if let Some(id) = find_instance(transaction)? {
                return Ok(id);
            }
            let id = random();
            transaction.execute("INSERT INTO instance (id, uuid) VALUES (1, ?1)", [id.to_string()])?;
            Ok(id)
        })
    }

    pub(in crate::store) fn repository_ids(&self, repositories: &[RepoPath]) -> Result<Vec<Uuid>, Error> {
        let known: Vec<Option<Uuid>> = self.read(|connection| {
            let mut found = Vec::with_capacity(repositories.len());
            for repository in repositories {
                found.push(find_id(connection, &repository.key())?);
            }
            Ok(found)
        })?;
        // Most lists have nothing new, and must not wait for whoever writes.
        if let Some(ids) = known.iter().copied().collect::<Option<Vec<_>>>() {
            return Ok(ids);
        }
        self.write(|transaction| {
            let mut ids = Vec::with_capacity(repositories.len());
            for repository in repositories {
                let key = repository.key();
                let id = match find_id(transaction, &key)? {
                    Some(id) => id,
                    None => {
                        let id = random();
                        transaction
                            .prepare_cached(
                                "INSERT INTO repository_ids (id, path_key, path) VALUES (?1, ?2, ?3)",
                            )?
                            .execute(params![id.to_string(), key, repository.to_string()])?;
                        id
                    }
                };
                ids.push(id);
            }
            Ok(ids)
        })
    }

    pub(in crate::store) fn find_repository(&self, id: Uuid) -> Result<Option<RepoPath>, Error> {
        self.read(|connection| {
            let found: Option<String> = connection
                .prepare_cached("SELECT path FROM repository_ids WHERE id = ?1")?
                .query_row([id.to_string()], |row| row.get(0))
                .optional()?;
            let parse = |path: String| RepoPath::parse(&path).map_err(|_| Error::Corrupt("a path"));
            found.map(parse).transpose()
        })
    }
}
