//! Alternate credentials: a second name and password of an account.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde_json::json;

use super::{Sqlite, accounts, audit, now, time};
use crate::store::{Account, Actor, AlternateCredential, AuditAction, Error, PasswordHash, check_label};

fn key(name: &str) -> String {
    name.to_lowercase()
}

fn from_row(row: &Row<'_>) -> Result<AlternateCredential, Error> {
    Ok(AlternateCredential {
        account: row.get(0)?,
        name: row.get(1)?,
        created_at: time(row.get(2)?)?,
    })
}

fn list(connection: &Connection, account: Option<&Account>) -> Result<Vec<AlternateCredential>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT accounts.name, alternate.name, alternate.created_at \
         FROM alternate_credentials AS alternate JOIN accounts ON accounts.id = alternate.account_id \
         WHERE ?1 IS NULL OR accounts.id = ?1 ORDER BY accounts.name_key",
    )?;
    let mut rows = statement.query([account.map(|account| account.id.0)])?;
    let mut credentials = Vec::new();
    while let Some(row) = rows.next()? {
        credentials.push(from_row(row)?);
    }
    Ok(credentials)
}

fn require(connection: &Connection, account: &Account) -> Result<AlternateCredential, Error> {
    list(connection, Some(account))?
        .pop()
        .ok_or_else(|| Error::AlternateCredentialNotFound {
            account: account.name.clone(),
        })
}

/// Takes away what an account has, with an event; None if it has none.
pub(super) fn remove(
    transaction: &Transaction<'_>,
    actor: &Actor,
    account: &Account,
) -> Result<Option<AlternateCredential>, Error> {
    let Some(credential) = list(transaction, Some(account))?.pop() else {
        return Ok(None);
    };
    transaction.execute(
        "DELETE FROM alternate_credentials WHERE account_id = ?1",
        [account.id.0],
    )?;
    let details = json!({ "name": credential.name });
    let action = AuditAction::AlternateCredentialRemove;
    audit::record(transaction, actor, action, &account.name, &details)?;
    Ok(Some(credential))
}

impl Sqlite {
    pub(in crate::store) fn set_alternate_credential(
        &self,
        actor: &Actor,
        account: &str,
        name: &str,
        password: &PasswordHash,
    ) -> Result<AlternateCredential, Error> {
        check_label(name).map_err(|reason| Error::Label {
            name: name.to_owned(),
            reason,
        })?;
        self.write(|transaction| {
            let account = accounts::require(transaction, account)?;
            let owner: Option<i64> = transaction
                .prepare_cached("SELECT account_id FROM alternate_credentials WHERE name_key = ?1")?
                .query_row([key(name)], |row| row.get(0))
                .optional()?;
            if owner.is_some_and(|owner| owner != account.id.0) {
                return Err(Error::AlternateNameTaken { name: name.to_owned() });
            }
            transaction.execute(
                "INSERT INTO alternate_credentials (account_id, name, name_key, password_hash, created_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (account_id) DO UPDATE SET name = excluded.name, \
                 name_key = excluded.name_key, password_hash = excluded.password_hash, created_at = excluded.created_at",
                params![account.id.0, name, key(name), password.expose(), now()],
            )?;
            let details = json!({ "name": name });
            let action = AuditAction::AlternateCredentialSet;
            audit::record(transaction, actor, action, &account.name, &details)?;
            require(transaction, &account)
        })
    }

    pub(in crate::store) fn remove_alternate_credential(
        &self,
        actor: &Actor,
        account: &str,
    ) -> Result<AlternateCredential, Error> {
        self.write(|transaction| {
            let account = accounts::require(transaction, account)?;
            remove(transaction, actor, &account)?.ok_or_else(|| Error::AlternateCredentialNotFound {
                account: account.name.clone(),
            })
        })
    }

    pub(in crate::store) fn alternate_credentials(
        &self,
        account: Option<&str>,
    ) -> Result<Vec<AlternateCredential>, Error> {
        self.read(|connection| {
            let account = account
                .map(|name| accounts::require(connection, name))
                .transpose()?;
            list(connection, account.as_ref())
        })
    }

    pub(in crate::store) fn find_alternate_credential(
        &self,
        name: &str,
    ) -> Result<Option<(AlternateCredential, PasswordHash, Account)>, Error> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT accounts.name, alternate.name, alternate.created_at, alternate.password_hash, {} \
                 FROM alternate_credentials AS alternate JOIN accounts ON accounts.id = alternate.account_id \
                 WHERE alternate.name_key = ?1",
                accounts::COLUMNS
            ))?;
            let mut rows = statement.query([key(name)])?;
            match rows.next()? {
                Some(row) => Ok(Some((
                    from_row(row)?,
                    PasswordHash::new(row.get(3)?),
                    accounts::from_row(row, 4)?,
                ))),
                None => Ok(None),
            }
        })
    }
}
