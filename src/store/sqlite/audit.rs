//! The audit trail.

use rusqlite::{Connection, Row, Transaction, params};
use serde_json::Value;

use super::{Sqlite, now, time};
use crate::store::{Actor, AuditAction, AuditEvent, Error, Requester, TokenId};

/// Adds an event to the transaction whose change it tells of.
pub(super) fn record(
    transaction: &Transaction<'_>,
    actor: &Actor,
    action: AuditAction,
    subject: &str,
    details: &Value,
) -> Result<(), Error> {
    let nobody = Requester::default();
    let (kind, requester) = match actor {
        Actor::Client(requester) => ("client", requester),
        Actor::CommandLine => ("command line", &nobody),
        Actor::Server => ("server", &nobody),
    };
    transaction
        .prepare_cached(
            "INSERT INTO audit_events (at, actor, account, token_id, address, agent, action, subject, subject_key, details) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            now(),
            kind,
            requester.account,
            requester.token.as_ref().map(TokenId::as_str),
            requester.address.map(|address| address.to_string()),
            requester.agent,
            action.as_str(),
            subject,
            subject.to_lowercase(),
            details.to_string()
        ])?;
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

/// The columns that [`from_row`] reads.
const COLUMNS: &str = "id, at, actor, account, token_id, address, agent, action, subject, details";

fn list(connection: &Connection, count_max: u32) -> Result<Vec<AuditEvent>, Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM audit_events ORDER BY id DESC LIMIT ?1"
    ))?;
    let mut rows = statement.query([count_max])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(from_row(row)?);
    }
    Ok(events)
}

fn from_row(row: &Row<'_>) -> Result<AuditEvent, Error> {
    let corrupt = || Error::Corrupt("an audit event");
    let actor = match row.get::<_, String>(2)?.as_str() {
        "client" => Actor::Client(Requester {
            account: row.get(3)?,
            token: row
                .get::<_, Option<String>>(4)?
                .map(|id| id.parse())
                .transpose()
                .map_err(|_| corrupt())?,
            address: row
                .get::<_, Option<String>>(5)?
                .map(|address| address.parse())
                .transpose()
                .map_err(|_| corrupt())?,
            agent: row.get(6)?,
        }),
        "command line" => Actor::CommandLine,
        "server" => Actor::Server,
        _ => return Err(corrupt()),
    };
    let details: String = row.get(9)?;
    Ok(AuditEvent {
        id: row.get(0)?,
        at: time(row.get(1)?)?,
        actor,
        action: row.get(7)?,
        subject: row.get(8)?,
        details: serde_json::from_str(&details).map_err(|_| corrupt())?,
    })
}
