//! Who may do what where.

use hashbrown::HashMap;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde_json::json;

use super::{Sqlite, accounts, audit, repository_ids, tokens};
use crate::names::{AccessPath, RepoPath};
use crate::store::{Access, AccountId, Actor, AuditAction, Error, Role, Roles, Step};

/// Finds the number and the name of an account; everyone has neither.
fn who(connection: &Connection, account: Option<&str>) -> Result<(Option<i64>, Option<String>), Error> {
    let account = account
        .map(|name| accounts::require(connection, name))
        .transpose()?;
    Ok(account.map(|account| (account.id.0, account.name)).unzip())
}

fn role(number: i64) -> Result<Role, Error> {
    Role::from_number(number).ok_or(Error::Corrupt("a role"))
}

impl Sqlite {
    pub(in crate::store) fn grant_access(
        &self,
        actor: &Actor,
        account: Option<&str>,
        path: &AccessPath,
        role: Role,
    ) -> Result<(), Error> {
        if account.is_none() && role != Role::Reader {
            return Err(Error::EveryoneIsReader);
        }
        self.write(|transaction| {
            let (id, name) = who(transaction, account)?;
            transaction.execute(
                "DELETE FROM access WHERE path_key = ?1 AND ifnull(account_id, 0) = ifnull(?2, 0)",
                params![path.key(), id],
            )?;
            transaction.execute(
                "INSERT INTO access (account_id, path_key, path, role) VALUES (?1, ?2, ?3, ?4)",
                params![id, path.key(), path.to_string(), role.number()],
            )?;
            let details = json!({ "account": name, "role": role.as_str() });
            audit::record(
                transaction,
                actor,
                AuditAction::AccessGrant,
                &path.to_string(),
                &details,
            )
        })
    }

    pub(in crate::store) fn revoke_access(
        &self,
        actor: &Actor,
        account: Option<&str>,
        path: &AccessPath,
    ) -> Result<(), Error> {
        self.write(|transaction| {
            let (id, name) = who(transaction, account)?;
            let removed: Option<i64> = transaction
                .query_row(
                    "DELETE FROM access WHERE path_key = ?1 AND ifnull(account_id, 0) = ifnull(?2, 0) RETURNING role",
                    params![path.key(), id],
                    |row| row.get(0),
                )
                .optional()?;
            let Some(removed) = removed else {
                let who = name.map_or_else(|| "everyone".to_owned(), |name| format!("'{name}'"));
                return Err(Error::AccessNotFound { who, path: path.to_string() });
            };
            let details = json!({ "account": name, "role": role(removed)?.as_str() });
            audit::record(transaction, actor, AuditAction::AccessRevoke, &path.to_string(), &details)
        })
    }

    pub(in crate::store) fn access(&self, account: Option<&str>) -> Result<Vec<Access>, Error> {
        self.read(|connection| {
            let (id, _) = if account.is_some() {
                who(connection, account)?
            } else {
                (None, None)
            };
            let mut statement = connection.prepare_cached(
                "SELECT accounts.name, access.path, access.role \
                 FROM access LEFT JOIN accounts ON accounts.id = access.account_id \
                 WHERE ?1 IS NULL OR access.account_id = ?1 ORDER BY access.path_key, accounts.name_key",
            )?;
            let mut rows = statement.query([id])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let path: String = row.get(1)?;
                all.push(Access {
                    account: row.get(0)?,
                    path: AccessPath::parse(&path).map_err(|_| Error::Corrupt("a path"))?,
                    role: role(row.get(2)?)?,
                });
            }
            Ok(all)
        })
    }

    pub(in crate::store) fn role_on(
        &self,
        account: Option<AccountId>,
        repository: &RepoPath,
    ) -> Result<Option<Role>, Error> {
        let [server, collection, project, own] = AccessPath::keys_above(repository);
        self.read(|connection| {
            let greatest: Option<i64> = connection
                .prepare_cached(
                    "SELECT max(role) FROM access \
                     WHERE path_key IN (?1, ?2, ?3, ?4) AND (account_id IS NULL OR account_id = ?5)",
                )?
                .query_row(
                    params![server, collection, project, own, account.map(|account| account.0)],
                    |row| row.get(0),
                )?;
            greatest.map(role).transpose()
        })
    }

    pub(in crate::store) fn roles_below(
        &self,
        account: Option<AccountId>,
        place: &AccessPath,
    ) -> Result<Roles, Error> {
        let key = place.key();
        let above: Vec<&str> = key
            .match_indices('/')
            .filter_map(|(at, _)| key.get(..at))
            .collect();
        let account = account.map(|account| account.0);
        self.read(|connection| {
            // What lies below a path has a key between the path with '/' and the path with '0', which follows '/'.
            let mut statement = connection.prepare_cached(
                "SELECT path_key, max(role) FROM access WHERE (account_id IS NULL OR account_id = ?1) \
                 AND (?2 = '' OR path_key IN ('', ?2, ?3, ?4) \
                 OR (path_key > ?2 || '/' AND path_key < ?2 || '0')) GROUP BY path_key",
            )?;
            let mut rows = statement.query(params![account, key, above.first(), above.get(1)])?;
            let mut by_key = HashMap::new();
            while let Some(row) = rows.next()? {
                by_key.insert(row.get(0)?, role(row.get(1)?)?);
            }
            Ok(Roles::new(by_key))
        })
    }

    pub(in crate::store) fn rename_repository<T, E: From<Error>>(
        &self,
        actor: &Actor,
        from: &RepoPath,
        to: &RepoPath,
        step: Step<impl FnOnce() -> Result<T, E>, impl FnOnce(T, Error) -> E>,
    ) -> Result<T, E> {
        let change = |transaction: &Transaction<'_>| {
            let dropped = if from.key() == to.key() {
                0
            } else {
                transaction.execute("DELETE FROM access WHERE path_key = ?1", [to.key()])?
            };
            let moved = transaction.execute(
                "UPDATE access SET path_key = ?2, path = ?3 WHERE path_key = ?1",
                params![from.key(), to.key(), to.to_string()],
            )?;
            repository_ids::rename(transaction, from, to)?;
            let limited = tokens::rename_in_limits(transaction, from, to)?;
            let details = json!({
                "to": to.to_string(),
                "rights": moved,
                "rights_dropped": dropped,
                "limited_tokens": limited,
            });
            audit::record(
                transaction,
                actor,
                AuditAction::RepositoryRename,
                &from.to_string(),
                &details,
            )
        };
        self.write_with(change, step)
    }

    pub(in crate::store) fn delete_repository<T, E: From<Error>>(
        &self,
        actor: &Actor,
        repository: &RepoPath,
        step: Step<impl FnOnce() -> Result<T, E>, impl FnOnce(T, Error) -> E>,
    ) -> Result<T, E> {
        let change = |transaction: &Transaction<'_>| {
            let removed =
                transaction.execute("DELETE FROM access WHERE path_key = ?1", [repository.key()])?;
            repository_ids::delete(transaction, repository)?;
            let details = json!({ "rights": removed });
            audit::record(
                transaction,
                actor,
                AuditAction::RepositoryDelete,
                &repository.to_string(),
                &details,
            )
        };
        self.write_with(change, step)
    }
}
