//! Policies: text under a name, for the whole server or for a collection.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde_json::json;

use super::{Sqlite, audit};
use crate::store::{Actor, AuditAction, Error, StoredPolicy};

/// What the whole server is kept under.
const SERVER: &str = "";

/// The policy whose value is names of accounts with commas between, and that value without any.
const NAMES_ACCOUNTS: &str = "creation";
const NOBODY: &str = "nobody";

fn key(collection: Option<&str>) -> String {
    collection.map_or_else(|| SERVER.to_owned(), str::to_lowercase)
}

/// What an event of a policy is about: the place where it holds.
fn subject(collection: Option<&str>) -> &str {
    collection.unwrap_or("/")
}

fn find(connection: &Connection, collection: Option<&str>, name: &str) -> Result<Option<String>, Error> {
    let value = connection
        .prepare_cached("SELECT value FROM policies WHERE collection_key = ?1 AND name = ?2")?
        .query_row(params![key(collection), name], |row| row.get(0))
        .optional()?;
    Ok(value)
}

/// Takes the name of an account out of policies that name accounts, with an event for each: whoever gets the name next is
/// somebody else. Where nobody else was named, it is nobody from then on.
pub(super) fn forget_account(
    transaction: &Transaction<'_>,
    actor: &Actor,
    account: &str,
) -> Result<(), Error> {
    let mut naming: Vec<(String, String, String)> = Vec::new();
    {
        let mut statement = transaction
            .prepare_cached("SELECT collection_key, collection, value FROM policies WHERE name = ?1")?;
        let mut rows = statement.query([NAMES_ACCOUNTS])?;
        while let Some(row) = rows.next()? {
            naming.push((row.get(0)?, row.get(1)?, row.get(2)?));
        }
    }
    for (key, collection, before) in naming {
        let names = || before.split(',').map(str::trim);
        let others: Vec<&str> = names()
            .filter(|name| name.to_lowercase() != account.to_lowercase())
            .collect();
        if others.len() == names().count() {
            continue;
        }
        let after = if others.is_empty() {
            NOBODY.to_owned()
        } else {
            others.join(", ")
        };
        transaction.execute(
            "UPDATE policies SET value = ?3 WHERE collection_key = ?1 AND name = ?2",
            params![key, NAMES_ACCOUNTS, after],
        )?;
        let collection = (key != SERVER).then_some(collection);
        let details = json!({
            "policy": NAMES_ACCOUNTS,
            "collection": collection,
            "from": before,
            "to": after,
            "because": "account-deleted",
            "account": account,
        });
        audit::record(
            transaction,
            actor,
            AuditAction::PolicySet,
            subject(collection.as_deref()),
            &details,
        )?;
    }
    Ok(())
}

impl Sqlite {
    pub(in crate::store) fn set_policy(
        &self,
        actor: &Actor,
        collection: Option<&str>,
        name: &str,
        value: &str,
    ) -> Result<Option<String>, Error> {
        self.write(|transaction| {
            let before = find(transaction, collection, name)?;
            transaction.execute(
                "INSERT INTO policies (collection_key, collection, name, value) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (collection_key, name) DO UPDATE SET collection = excluded.collection, value = excluded.value",
                params![key(collection), collection.unwrap_or(SERVER), name, value],
            )?;
            let details = json!({ "policy": name, "collection": collection, "from": before, "to": value });
            audit::record(
                transaction,
                actor,
                AuditAction::PolicySet,
                subject(collection),
                &details,
            )?;
            Ok(before)
        })
    }

    pub(in crate::store) fn remove_policy(
        &self,
        actor: &Actor,
        collection: Option<&str>,
        name: &str,
    ) -> Result<String, Error> {
        self.write(|transaction| {
            let before = find(transaction, collection, name)?.ok_or_else(|| Error::PolicyNotFound {
                name: name.to_owned(),
                collection: collection.map(str::to_owned),
            })?;
            transaction.execute(
                "DELETE FROM policies WHERE collection_key = ?1 AND name = ?2",
                params![key(collection), name],
            )?;
            let details = json!({ "policy": name, "collection": collection, "from": before });
            audit::record(
                transaction,
                actor,
                AuditAction::PolicyRemove,
                subject(collection),
                &details,
            )?;
            Ok(before)
        })
    }

    pub(in crate::store) fn policies(&self) -> Result<Vec<StoredPolicy>, Error> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT collection_key, collection, name, value FROM policies ORDER BY collection_key, name",
            )?;
            let mut rows = statement.query([])?;
            let mut policies = Vec::new();
            while let Some(row) = rows.next()? {
                let is_server = row.get::<_, String>(0)? == SERVER;
                policies.push(StoredPolicy {
                    collection: if is_server { None } else { Some(row.get(1)?) },
                    name: row.get(2)?,
                    value: row.get(3)?,
                });
            }
            Ok(policies)
        })
    }
}
