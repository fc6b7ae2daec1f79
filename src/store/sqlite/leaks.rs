//! Tokens that were seen where they should not be.

use rusqlite::{Connection, params};
use serde_json::json;

use super::{Sqlite, audit, now};
use crate::store::{Actor, AuditAction, Error, LiveToken, RevokeReason, TokenHash};

/// Seconds within which a token that stays live is not noted again as reported, because anybody who has it could fill
/// the trail.
const NOTE_SECONDS: i64 = 3600;

/// Why a token is revoked here.
const BECAUSE: &str = RevokeReason::Leaked.as_str();

/// Finds the token of a digest if it lives at `now`: by its present secret, or by one that a rotation replaced and that
/// is still valid.
fn find_live(connection: &Connection, hash: &TokenHash, now: i64) -> Result<Option<LiveToken>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT tokens.id, accounts.name, tokens.name FROM tokens JOIN accounts ON accounts.id = tokens.account_id \
         WHERE tokens.id IN (SELECT id FROM tokens WHERE digest = ?1 \
         UNION ALL SELECT token_id FROM retired_hashes WHERE hash = ?1 AND valid_until > ?2) \
         AND tokens.revoked_at IS NULL AND tokens.expires_at > ?2",
    )?;
    let mut rows = statement.query(params![hash.as_bytes().as_slice(), now])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some(LiveToken {
        hash: *hash,
        id: row
            .get::<_, String>(0)?
            .parse()
            .map_err(|_| Error::Corrupt("a token id"))?,
        account: row.get(1)?,
        name: row.get(2)?,
    }))
}

impl Sqlite {
    pub(in crate::store) fn live_tokens(&self, hashes: &[TokenHash]) -> Result<Vec<LiveToken>, Error> {
        self.read(|connection| {
            let now = now();
            let found = hashes.iter().map(|hash| find_live(connection, hash, now));
            found.filter_map(Result::transpose).collect()
        })
    }

    pub(in crate::store) fn report_leaked_token(
        &self,
        actor: &Actor,
        hash: &TokenHash,
        revokes: bool,
    ) -> Result<Option<LiveToken>, Error> {
        // Nearly all that is reported is no live token, and for that nobody has to wait for the one who writes.
        if self
            .read(|connection| find_live(connection, hash, now()))?
            .is_none()
        {
            return Ok(None);
        }
        self.write(|transaction| {
            let now = now();
            let Some(token) = find_live(transaction, hash, now)? else {
                return Ok(None);
            };
            let id = token.id.as_str();
            if !revokes {
                let is_noted: bool = transaction
                    .prepare_cached(
                        "SELECT EXISTS (SELECT 1 FROM audit_events WHERE subject_key = lower(?1) AND subject = ?1 \
                         AND action = ?2 AND at > ?3)",
                    )?
                    .query_row(
                        params![id, AuditAction::TokenLeak.as_str(), now - NOTE_SECONDS],
                        |row| row.get(0),
                    )?;
                if is_noted {
                    return Ok(Some(token));
                }
            }
            let details = json!({
                "account": token.account,
                "name": token.name,
                "found": "reported",
                "revoked": revokes,
            });
            audit::record(transaction, actor, AuditAction::TokenLeak, id, &details)?;
            if revokes {
                transaction.execute(
                    "UPDATE tokens SET revoked_at = ?2, revoked_because = ?3 WHERE id = ?1",
                    params![id, now, BECAUSE],
                )?;
                let details = json!({ "account": token.account, "name": token.name, "because": BECAUSE });
                audit::record(transaction, actor, AuditAction::TokenRevoke, id, &details)?;
            }
            Ok(Some(token))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::AuditFilter;
    use crate::store::{NewAccount, NewToken, TokenId, TokenLimits};

    const CLI: Actor = Actor::CommandLine;

    fn hash(byte: u8) -> TokenHash {
        TokenHash::new([byte; 32])
    }

    /// A database with one live token, whose present secret is 1 and whose former one was 2.
    fn database() -> (tempfile::TempDir, Sqlite, TokenId) {
        let directory = tempfile::tempdir().unwrap();
        let database = Sqlite::open(&directory.path().join("patgate.db")).unwrap();
        let account = NewAccount {
            name: "bob",
            password: None,
            is_admin: false,
            must_change_password: false,
        };
        let account = database.create_account(&CLI, &account).unwrap();
        let id: TokenId = "ABCDabcd".parse().unwrap();
        let new = NewToken {
            id: &id,
            hash: &hash(1),
            account: account.id,
            name: "ci",
            scopes: "vso.code",
            expires_at: jiff::Timestamp::from_second(now() + 3600).unwrap(),
            limits: &TokenLimits::NONE,
        };
        database.create_token(&CLI, &new).unwrap();
        database.write_in_test(
            "INSERT INTO retired_hashes VALUES (?1, ?2, 1, 1, ?3, ?3, 1)",
            now() + 60,
        );
        (directory, database, id)
    }

    impl Sqlite {
        /// Runs a statement about the former secret, the token and a moment.
        fn write_in_test(&self, statement: &str, moment: i64) {
            let values = params![[2u8; 32].as_slice(), "ABCDabcd", moment];
            self.write(|transaction| Ok(transaction.execute(statement, values)?))
                .unwrap();
        }
    }

    #[test]
    fn a_secret_that_was_replaced_counts_while_it_is_valid() {
        let (_directory, database, id) = database();
        let live = |database: &Sqlite| -> Vec<TokenHash> {
            let found = database.live_tokens(&[hash(3), hash(2), hash(1)]).unwrap();
            assert!(found.iter().all(|token| token.id == id));
            found.into_iter().map(|token| token.hash).collect()
        };
        assert_eq!(live(&database), [hash(2), hash(1)]);
        let statement = "UPDATE retired_hashes SET valid_until = ?3 WHERE hash = ?1 AND token_id = ?2";
        database.write_in_test(statement, now());
        assert_eq!(live(&database), [hash(1)]);
        database.write_in_test(statement, now() + 60);
        let reported = database.report_leaked_token(&CLI, &hash(2), true).unwrap();
        assert_eq!(reported.map(|token| token.id), Some(id.clone()));
        assert!(live(&database).is_empty(), "the token is revoked with both");
    }

    #[test]
    fn a_report_of_what_does_not_live_changes_nothing() {
        let (_directory, database, id) = database();
        assert_eq!(database.report_leaked_token(&CLI, &hash(3), true).unwrap(), None);
        let events = database.audit_events(&AuditFilter::latest(10)).unwrap().len();
        database.write_in_test(
            "UPDATE tokens SET expires_at = ?3 WHERE id = ?2 AND ?1 IS NOT NULL",
            now(),
        );
        assert_eq!(database.report_leaked_token(&CLI, &hash(1), true).unwrap(), None);
        assert_eq!(
            database.audit_events(&AuditFilter::latest(10)).unwrap().len(),
            events
        );
        assert_eq!(database.find_token(&id).unwrap().unwrap().revoked_at, None);
    }
}
