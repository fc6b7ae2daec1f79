//! Accounts and their password hashes.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde_json::{Value, json};

use super::{Sqlite, alternate, audit, now, policies, time, tokens};
use crate::store::{
    Account, AccountId, Actor, AuditAction, Error, LabelError, NewAccount, PasswordHash,
    RESERVED_ACCOUNT_NAMES, check_label,
};

/// The columns that [`from_row`] reads, from a table named `accounts`.
pub(super) const COLUMNS: &str = "accounts.id, accounts.name, accounts.is_admin, accounts.is_disabled, \
     accounts.must_change_password, accounts.password_hash IS NOT NULL, accounts.created_at";
pub(super) const COLUMNS_COUNT: usize = 7;

/// Reads an account from the columns of [`COLUMNS`], of which the first is column `at`.
pub(super) fn from_row(row: &Row<'_>, at: usize) -> Result<Account, Error> {
    Ok(Account {
        id: AccountId(row.get(at)?),
        name: row.get(at + 1)?,
        is_admin: row.get(at + 2)?,
        is_disabled: row.get(at + 3)?,
        must_change_password: row.get(at + 4)?,
        has_password: row.get(at + 5)?,
        created_at: time(row.get(at + 6)?)?,
    })
}

fn key(name: &str) -> String {
    name.to_lowercase()
}

pub(super) fn find(connection: &Connection, name: &str) -> Result<Option<Account>, Error> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM accounts WHERE name_key = ?1"))?;
    let mut rows = statement.query([key(name)])?;
    rows.next()?.map(|row| from_row(row, 0)).transpose()
}

/// Finds an account that must be there.
pub(super) fn require(connection: &Connection, name: &str) -> Result<Account, Error> {
    find(connection, name)?.ok_or_else(|| Error::AccountNotFound {
        name: name.to_owned(),
    })
}

/// Deletes an account whose `tokens` tokens are gone already, and whatever names it.
fn delete(transaction: &Transaction<'_>, actor: &Actor, account: &Account, tokens: u32) -> Result<(), Error> {
    alternate::remove(transaction, actor, account)?;
    policies::forget_account(transaction, actor, &account.name)?;
    let rights: i64 = transaction.query_row(
        "SELECT count(*) FROM access WHERE account_id = ?1",
        [account.id.0],
        |row| row.get(0),
    )?;
    transaction.execute("DELETE FROM accounts WHERE id = ?1", [account.id.0])?;
    let details = json!({ "tokens": tokens, "rights": rights });
    audit::record(
        transaction,
        actor,
        AuditAction::AccountDelete,
        &account.name,
        &details,
    )
}

impl Sqlite {
    pub(in crate::store) fn create_account(
        &self,
        actor: &Actor,
        new: &NewAccount<'_>,
    ) -> Result<Account, Error> {
        let refuse = |reason| Error::Label {
            name: new.name.to_owned(),
            reason,
        };
        check_label(new.name).map_err(refuse)?;
        if new.name.contains(',') || RESERVED_ACCOUNT_NAMES.contains(&key(new.name).as_str()) {
            return Err(refuse(LabelError::Reserved));
        }
        self.write(|transaction| {
            if find(transaction, new.name)?.is_some() {
                return Err(Error::AccountExists { name: new.name.to_owned() });
            }
            transaction.execute(
                "INSERT INTO accounts (name, name_key, password_hash, is_admin, is_disabled, must_change_password, created_at) \
                 VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6)",
                params![
                    new.name,
                    key(new.name),
                    new.password.map(PasswordHash::expose),
                    new.is_admin,
                    new.must_change_password,
                    now()
                ],
            )?;
            let details = json!({ "admin": new.is_admin });
            audit::record(transaction, actor, AuditAction::AccountCreate, new.name, &details)?;
            require(transaction, new.name)
        })
    }

    pub(in crate::store) fn find_account(&self, name: &str) -> Result<Option<Account>, Error> {
        self.read(|connection| find(connection, name))
    }

    pub(in crate::store) fn accounts(&self) -> Result<Vec<Account>, Error> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached(&format!("SELECT {COLUMNS} FROM accounts ORDER BY name_key"))?;
            let mut rows = statement.query([])?;
            let mut accounts = Vec::new();
            while let Some(row) = rows.next()? {
                accounts.push(from_row(row, 0)?);
            }
            Ok(accounts)
        })
    }

    pub(in crate::store) fn find_password_hash(&self, name: &str) -> Result<Option<PasswordHash>, Error> {
        self.read(|connection| {
            let hash: Option<Option<String>> = connection
                .prepare_cached("SELECT password_hash FROM accounts WHERE name_key = ?1")?
                .query_row([key(name)], |row| row.get(0))
                .optional()?;
            Ok(hash.flatten().map(PasswordHash::new))
        })
    }

    pub(in crate::store) fn find_account_with_password(
        &self,
        name: &str,
    ) -> Result<Option<(Account, Option<PasswordHash>)>, Error> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS}, password_hash FROM accounts WHERE name_key = ?1"
            ))?;
            let mut rows = statement.query([key(name)])?;
            match rows.next()? {
                Some(row) => {
                    let hash: Option<String> = row.get(COLUMNS_COUNT)?;
                    Ok(Some((from_row(row, 0)?, hash.map(PasswordHash::new))))
                }
                None => Ok(None),
            }
        })
    }

    pub(in crate::store) fn set_password(
        &self,
        actor: &Actor,
        name: &str,
        password: &PasswordHash,
        must_change: bool,
    ) -> Result<Account, Error> {
        let action = AuditAction::AccountSetPassword;
        self.change(
            actor,
            name,
            action,
            &json!({ "must_change": must_change }),
            |transaction, id| {
                transaction.execute(
                    "UPDATE accounts SET password_hash = ?2, must_change_password = ?3 WHERE id = ?1",
                    params![id.0, password.expose(), must_change],
                )
            },
        )
    }

    pub(in crate::store) fn set_account_disabled(
        &self,
        actor: &Actor,
        name: &str,
        is_disabled: bool,
    ) -> Result<Account, Error> {
        let action = if is_disabled {
            AuditAction::AccountDisable
        } else {
            AuditAction::AccountEnable
        };
        self.change(actor, name, action, &json!({}), |transaction, id| {
            transaction.execute(
                "UPDATE accounts SET is_disabled = ?2 WHERE id = ?1",
                params![id.0, is_disabled],
            )
        })
    }

    pub(in crate::store) fn delete_account(&self, actor: &Actor, name: &str) -> Result<Account, Error> {
        let mut tokens = 0;
        loop {
            let deleted = self.write(|transaction| {
                let account = require(transaction, name)?;
                let count = tokens::delete_some(transaction, actor, &account)?;
                tokens += count;
                if count >= tokens::BATCH_COUNT {
                    return Ok(None);
                }
                delete(transaction, actor, &account, tokens)?;
                Ok(Some(account))
            })?;
            if let Some(account) = deleted {
                return Ok(account);
            }
            std::thread::sleep(tokens::BATCH_PAUSE);
        }
    }

    /// Changes one account, records `action` and returns the account as it is then.
    fn change(
        &self,
        actor: &Actor,
        name: &str,
        action: AuditAction,
        details: &Value,
        change: impl FnOnce(&Transaction<'_>, AccountId) -> rusqlite::Result<usize>,
    ) -> Result<Account, Error> {
        self.write(|transaction| {
            let account = require(transaction, name)?;
            change(transaction, account.id)?;
            audit::record(transaction, actor, action, &account.name, details)?;
            require(transaction, name)
        })
    }
}
