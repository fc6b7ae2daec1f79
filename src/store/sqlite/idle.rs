//! Tokens that nobody uses any more.

use jiff::Timestamp;
use rusqlite::params;

use super::{Sqlite, time, tokens};
use crate::store::{Actor, Error, IdleToken, RevokeReason, Token, TokenId, TokenLimits};

/// When a token was last used, or else got its secret.
const SINCE: &str = "max(ifnull(last_used_at, 0), ifnull(rotated_at, 0), created_at)";

impl Sqlite {
    pub(in crate::store) fn idle_tokens(
        &self,
        since: Timestamp,
        now: Timestamp,
        after: Option<&TokenId>,
        count_max: u32,
    ) -> Result<Vec<IdleToken>, Error> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT id, limits, {SINCE} FROM tokens \
                 WHERE id > ?1 AND revoked_at IS NULL AND expires_at > ?2 AND {SINCE} <= ?3 ORDER BY id LIMIT ?4"
            ))?;
            let mut rows = statement.query(params![
                after.map_or("", TokenId::as_str),
                now.as_second(),
                since.as_second(),
                count_max
            ])?;
            let mut idle = Vec::new();
            while let Some(row) = rows.next()? {
                let id: String = row.get(0)?;
                let limits: Option<String> = row.get(1)?;
                let corrupt = || Error::Corrupt("the limits of a token");
                idle.push(IdleToken {
                    id: id.parse().map_err(|_| Error::Corrupt("a token id"))?,
                    limits: match limits {
                        None => TokenLimits::NONE,
                        Some(json) => TokenLimits::from_json(&json).ok_or_else(corrupt)?,
                    },
                    since: time(row.get(2)?)?,
                });
            }
            Ok(idle)
        })
    }

    pub(in crate::store) fn revoke_idle_tokens(
        &self,
        actor: &Actor,
        idle: &[(TokenId, Timestamp)],
    ) -> Result<Vec<Token>, Error> {
        self.write(|transaction| {
            let mut revoked = Vec::new();
            for (id, since) in idle {
                let is_idle = transaction
                    .prepare_cached(&format!(
                        "SELECT 1 FROM tokens WHERE id = ?1 AND revoked_at IS NULL AND {SINCE} <= ?2"
                    ))?
                    .exists(params![id.as_str(), since.as_second()])?;
                if is_idle && let Some(token) = tokens::find(transaction, id)? {
                    revoked.push(tokens::revoke(transaction, actor, &token, RevokeReason::Unused)?);
                }
            }
            Ok(revoked)
        })
    }
}
