//! Rules that revoke many tokens at once.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::{Sqlite, audit, now, time};
use crate::store::{Actor, AuditAction, Error, RevocationRule};

fn from_row(row: &Row<'_>) -> Result<RevocationRule, Error> {
    Ok(RevocationRule {
        id: row.get(0)?,
        scopes: row.get(1)?,
        created_before: time(row.get(2)?)?,
        made_at: time(row.get(3)?)?,
    })
}

fn list(connection: &Connection, id: Option<i64>) -> Result<Vec<RevocationRule>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT id, scopes, created_before, made_at FROM revocation_rules WHERE ?1 IS NULL OR id = ?1 ORDER BY id",
    )?;
    let mut rows = statement.query([id])?;
    let mut rules = Vec::new();
    while let Some(row) = rows.next()? {
        rules.push(from_row(row)?);
    }
    Ok(rules)
}

fn require(connection: &Connection, id: i64) -> Result<RevocationRule, Error> {
    list(connection, Some(id))?
        .pop()
        .ok_or(Error::RevocationRuleNotFound { id })
}

fn details(rule: &RevocationRule) -> Value {
    json!({ "scopes": rule.scopes, "created_before": rule.created_before.to_string() })
}

impl Sqlite {
    pub(in crate::store) fn create_revocation_rule(
        &self,
        actor: &Actor,
        scopes: &str,
        created_before: Timestamp,
    ) -> Result<RevocationRule, Error> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO revocation_rules (scopes, created_before, made_at) VALUES (?1, ?2, ?3)",
                params![scopes, created_before.as_second(), now()],
            )?;
            let rule = require(transaction, transaction.last_insert_rowid())?;
            let action = AuditAction::RevocationRuleCreate;
            audit::record(transaction, actor, action, &rule.id.to_string(), &details(&rule))?;
            Ok(rule)
        })
    }

    pub(in crate::store) fn delete_revocation_rule(
        &self,
        actor: &Actor,
        id: i64,
    ) -> Result<RevocationRule, Error> {
        self.write(|transaction| {
            let rule = require(transaction, id)?;
            transaction.execute("DELETE FROM revocation_rules WHERE id = ?1", [id])?;
            let action = AuditAction::RevocationRuleDelete;
            audit::record(transaction, actor, action, &id.to_string(), &details(&rule))?;
            Ok(rule)
        })
    }

    pub(in crate::store) fn revocation_rules(&self) -> Result<Vec<RevocationRule>, Error> {
        self.read(|connection| list(connection, None))
    }
}
