//! The audit trail.

use rusqlite::{Connection, Transaction, params};
use serde_json::Value;

use super::{Sqlite, now, time};
use crate::store::{Actor, AuditAction, AuditEvent, Error};

/// Adds an event to the transaction whose change it tells of.
pub(super) fn record(
    transaction: &Transaction<'_>,
    actor: &Actor,
    action: AuditAction,
    subject: &str,
    details: &Value,
) -> Result<(), Error> {
    let (kind, account) = match actor {
        Actor::Account(name) => ("account", Some(name.as_str())),
        Actor::CommandLine => ("command line", None),
        Actor::Server => ("server", None),
    };
    transaction
        .prepare_cached(
            "INSERT INTO audit_events (at, actor, account, action, subject, details) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![now(), kind, account, action.as_str(), subject, details.to_string()])?;
    Ok(())
}

impl Sqlite {
    pub(in crate::store) fn record_event(
        &self,
        actor: &Actor,
        action: AuditAction,
        subject: &str,
        details: &Value,
    ) -> Result<(), Error> {
        self.write(|transaction| record(transaction, actor, action, subject, details))
    }

    pub(in crate::store) fn audit_events(&self, count_max: u32) -> Result<Vec<AuditEvent>, Error> {
        self.read(|connection| list(connection, count_max))
    }
}

fn list(connection: &Connection, count_max: u32) -> Result<Vec<AuditEvent>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT id, at, actor, account, action, subject, details FROM audit_events ORDER BY id DESC LIMIT ?1",
    )?;
    let mut rows = statement.query([count_max])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let actor = match (
            row.get::<_, String>(2)?.as_str(),
            row.get::<_, Option<String>>(3)?,
        ) {
            ("account", Some(name)) => Actor::Account(name),
            ("command line", _) => Actor::CommandLine,
            ("server", _) => Actor::Server,
            _ => return Err(Error::Corrupt("an audit event")),
        };
        let details: String = row.get(6)?;
        events.push(AuditEvent {
            id: row.get(0)?,
            at: time(row.get(1)?)?,
            actor,
            action: row.get(4)?,
            subject: row.get(5)?,
            details: serde_json::from_str(&details).map_err(|_| Error::Corrupt("an audit event"))?,
        });
    }
    Ok(events)
}
