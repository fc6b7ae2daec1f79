//! Tokens, found by their digest.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde_json::{Map, Value, json};

use super::{Sqlite, accounts, audit, now, time};
use crate::names::RepoPath;
use crate::store::{
    Account, AccountId, Actor, AuditAction, Error, NewToken, REPLACED_SECONDS, RetiredSecret, RevokeReason,
    TOKEN_ADDRESSES_COUNT, Token, TokenAddress, TokenChange, TokenHash, TokenId, TokenLimits, TokenOrder,
    TokenPage, TokenRotation, TokenState, TokenUse, check_label,
};

/// The columns that [`from_row`] reads, from the tables `tokens` and `accounts`.
const COLUMNS: &str = "tokens.id, accounts.name, tokens.name, tokens.scopes, tokens.created_at, tokens.expires_at, \
     tokens.limits, tokens.rotated_at, tokens.revoked_at, tokens.revoked_because, \
     tokens.last_used_at, tokens.last_used_from, tokens.last_used_with, tokens.last_used_for";
const COLUMNS_COUNT: usize = 14;
const TABLES: &str = "tokens JOIN accounts ON accounts.id = tokens.account_id";

/// Secrets of one token that stay known after they were replaced: the latest, when its owner has it rotated.
const RETIRED_COUNT_KEPT: i64 = 100;

/// Secrets of one token that are known at most: what a token that rotates itself replaces is not forgotten, and beyond
/// this it cannot.
const RETIRED_COUNT_MAX: i64 = 1000;

/// Tokens that one transaction revokes or deletes where there can be any number, so that others who write never wait long.
pub(super) const BATCH_COUNT: u32 = 500;

/// Time between two of them: whoever holds a lock and takes it again at once is faster than those who wait for it.
pub(super) const BATCH_PAUSE: Duration = Duration::from_millis(5);

/// Seconds within which a further use of a token is not written again.
const USE_SECONDS: i64 = 60;

fn from_row(row: &Row<'_>) -> Result<Token, Error> {
    let optional_time = |column: usize| row.get::<_, Option<i64>>(column)?.map(time).transpose();
    Ok(Token {
        id: row
            .get::<_, String>(0)?
            .parse()
            .map_err(|_| Error::Corrupt("a token id"))?,
        account: row.get(1)?,
        name: row.get(2)?,
        scopes: row.get(3)?,
        created_at: time(row.get(4)?)?,
        expires_at: time(row.get(5)?)?,
        limits: read_limits(row.get(6)?)?,
        rotated_at: optional_time(7)?,
        revoked_at: optional_time(8)?,
        revoked_because: row
            .get::<_, Option<String>>(9)?
            .and_then(|reason| reason.parse().ok()),
        last_used_at: optional_time(10)?,
        last_used_from: row
            .get::<_, Option<String>>(11)?
            .and_then(|address| address.parse().ok()),
        last_used_with: row.get(12)?,
        last_used_for: row.get(13)?,
    })
}

pub(super) fn find(connection: &Connection, id: &TokenId) -> Result<Option<Token>, Error> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM {TABLES} WHERE tokens.id = ?1"))?;
    let mut rows = statement.query([id.as_str()])?;
    rows.next()?.map(from_row).transpose()
}

/// Finds a token that must be there and not revoked.
fn require_unrevoked(connection: &Connection, id: &TokenId) -> Result<Token, Error> {
    let token = find(connection, id)?.ok_or_else(|| Error::TokenNotFound { id: id.clone() })?;
    if token.revoked_at.is_some() {
        return Err(Error::TokenRevoked { id: id.clone() });
    }
    Ok(token)
}

fn read_limits(column: Option<String>) -> Result<TokenLimits, Error> {
    match column {
        None => Ok(TokenLimits::NONE),
        Some(json) => TokenLimits::from_json(&json).ok_or(Error::Corrupt("the limits of a token")),
    }
}

fn limits_column(limits: &TokenLimits) -> Option<String> {
    (!limits.is_empty()).then(|| limits.to_json().to_string())
}

fn check_name(name: &str) -> Result<(), Error> {
    check_label(name).map_err(|reason| Error::Label {
        name: name.to_owned(),
        reason,
    })
}

/// Turns the refusal of a second token with one id or digest into an error that the caller can act on.
fn taken(error: rusqlite::Error, id: &TokenId) -> Error {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};

    match error.sqlite_error().map(|inner| inner.extended_code) {
        Some(SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_UNIQUE) => {
            Error::TokenExists { id: id.clone() }
        }
        _ => Error::Database(error),
    }
}

impl Sqlite {
    pub(in crate::store) fn create_token(&self, actor: &Actor, new: &NewToken<'_>) -> Result<Token, Error> {
        check_name(new.name)?;
        self.write(|transaction| {
            transaction
                .execute(
                    "INSERT INTO tokens (id, digest, account_id, name, scopes, created_at, expires_at, limits) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    params![
                        new.id.as_str(),
                        new.hash.as_bytes().as_slice(),
                        new.account.0,
                        new.name,
                        new.scopes,
                        now(),
                        new.expires_at.as_second(),
                        limits_column(new.limits)
                    ],
                )
                .map_err(|error| taken(error, new.id))?;
            note_limit_paths(transaction, new.id.as_str(), new.limits)?;
            let token = require_unrevoked(transaction, new.id)?;
            let mut details = json!({
                "account": token.account,
                "name": token.name,
                "scopes": token.scopes,
                "expires_at": token.expires_at.to_string(),
            });
            if !token.limits.is_empty()
                && let Some(details) = details.as_object_mut()
            {
                details.insert("limits".to_owned(), token.limits.to_json());
            }
            audit::record(
                transaction,
                actor,
                AuditAction::TokenCreate,
                new.id.as_str(),
                &details,
            )?;
            Ok(token)
        })
    }

    pub(in crate::store) fn find_token(&self, id: &TokenId) -> Result<Option<Token>, Error> {
        self.read(|connection| find(connection, id))
    }

    pub(in crate::store) fn find_token_by_hash(
        &self,
        hash: &TokenHash,
    ) -> Result<Option<(Token, Account)>, Error> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS}, {} FROM {TABLES} WHERE tokens.digest = ?1",
                accounts::COLUMNS
            ))?;
            let mut rows = statement.query([hash.as_bytes().as_slice()])?;
            match rows.next()? {
                Some(row) => Ok(Some((from_row(row)?, accounts::from_row(row, COLUMNS_COUNT)?))),
                None => Ok(None),
            }
        })
    }

    pub(in crate::store) fn token_hash(&self, id: &TokenId) -> Result<Option<TokenHash>, Error> {
        self.read(|connection| {
            let hash: Option<[u8; 32]> = connection
                .prepare_cached("SELECT digest FROM tokens WHERE id = ?1")?
                .query_row([id.as_str()], |row| row.get(0))
                .optional()?;
            Ok(hash.map(TokenHash::new))
        })
    }

    pub(in crate::store) fn tokens(&self, account: Option<&str>) -> Result<Vec<Token>, Error> {
        self.read(|connection| {
            let account = account
                .map(|name| accounts::require(connection, name))
                .transpose()?;
            list(connection, account.map(|account| account.id))
        })
    }

    pub(in crate::store) fn tokens_after(
        &self,
        account: AccountId,
        after: Option<&TokenId>,
        count_max: u32,
    ) -> Result<Vec<Token>, Error> {
        self.read(|connection| {
            let after = match after {
                None => i64::MIN,
                Some(id) => connection
                    .prepare_cached("SELECT rowid FROM tokens WHERE id = ?1 AND account_id = ?2")?
                    .query_row(params![id.as_str(), account.0], |row| row.get(0))
                    .optional()?
                    .ok_or_else(|| Error::TokenNotFound { id: id.clone() })?,
            };
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM {TABLES} WHERE tokens.account_id = ?1 AND tokens.rowid > ?2 \
                 ORDER BY tokens.rowid LIMIT ?3"
            ))?;
            let mut rows = statement.query(params![account.0, after, count_max])?;
            let mut tokens = Vec::new();
            while let Some(row) = rows.next()? {
                tokens.push(from_row(row)?);
            }
            Ok(tokens)
        })
    }

    pub(in crate::store) fn page_of_tokens(&self, page: &TokenPage<'_>) -> Result<Vec<Token>, Error> {
        // Written out, because SQLite sorts and limits within bounded memory only what it can see.
        const STATE: &str =
            "CASE WHEN tokens.revoked_at IS NOT NULL THEN 2 WHEN tokens.expires_at <= ?2 THEN 1 ELSE 0 END";
        let key = match page.order {
            TokenOrder::Name => "tokens.name COLLATE NOCASE",
            TokenOrder::End => "tokens.expires_at",
            TokenOrder::State => STATE,
        };
        let (comes_after, direction) = if page.is_descending {
            ("<", "DESC")
        } else {
            (">", "ASC")
        };
        let after: Option<rusqlite::types::Value> = page.after.map(|position| match page.order {
            TokenOrder::Name => position.name.clone().into(),
            TokenOrder::End => position.expires_at.as_second().into(),
            TokenOrder::State => rank(position.state).into(),
        });
        let is_wanted = |state| page.states.contains(&state);
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM {TABLES} WHERE tokens.account_id = ?1 AND CASE {STATE} \
                 WHEN 0 THEN ?3 WHEN 1 THEN ?4 ELSE ?5 END \
                 AND (?7 IS NULL OR ({key}, tokens.id) {comes_after} (?6, ?7)) \
                 ORDER BY {key} {direction}, tokens.id {direction} LIMIT ?8"
            ))?;
            let mut rows = statement.query(params![
                page.account.0,
                page.now.as_second(),
                is_wanted(TokenState::Active),
                is_wanted(TokenState::Expired),
                is_wanted(TokenState::Revoked),
                after,
                page.after.map(|position| position.id.as_str()),
                page.count_max,
            ])?;
            let mut tokens = Vec::new();
            while let Some(row) = rows.next()? {
                tokens.push(from_row(row)?);
            }
            Ok(tokens)
        })
    }

    pub(in crate::store) fn update_token(
        &self,
        actor: &Actor,
        id: &TokenId,
        change: &TokenChange<'_>,
    ) -> Result<Token, Error> {
        if let Some(name) = change.name {
            check_name(name)?;
        }
        self.write(|transaction| {
            let before = require_unrevoked(transaction, id)?;
            if change.before.is_some_and(|checked| !before.opens_as(checked)) {
                return Err(Error::TokenChanged { id: id.clone() });
            }
            let after = apply(transaction, &before, change)?;
            audit::record(
                transaction,
                actor,
                AuditAction::TokenUpdate,
                id.as_str(),
                &differences(&before, &after),
            )?;
            Ok(after)
        })
    }

    pub(in crate::store) fn rotate_token(
        &self,
        actor: &Actor,
        id: &TokenId,
        rotation: &TokenRotation<'_>,
    ) -> Result<Token, Error> {
        let change = TokenChange {
            expires_at: rotation.expires_at,
            scopes: rotation.narrowing.and_then(|narrowing| narrowing.scopes),
            limits: rotation.narrowing.and_then(|narrowing| narrowing.limits),
            ..TokenChange::default()
        };
        self.write(|transaction| {
            let before = require_unrevoked(transaction, id)?;
            if let Some(narrowing) = rotation.narrowing
                && (before.scopes != narrowing.before.scopes || before.limits != narrowing.before.limits)
            {
                return Err(Error::TokenChanged { id: id.clone() });
            }
            let now = now();
            let end = rotation
                .expires_at
                .map_or(before.expires_at, |end| end.min(before.expires_at));
            let valid_until = rotation
                .old_valid_until
                .map(|until| until.min(end).as_second())
                .filter(|until| *until > now);
            retire(transaction, id, rotation.is_by_itself, now, valid_until)?;
            let presented = rotation.presented.map(|hash| hash.as_bytes().as_slice());
            let replaced = transaction
                .execute(
                    "UPDATE tokens SET digest = ?2, rotated_at = ?3 WHERE id = ?1 AND digest = ifnull(?4, digest)",
                    params![id.as_str(), rotation.hash.as_bytes().as_slice(), now, presented],
                )
                .map_err(|error| taken(error, id))?;
            if replaced == 0 {
                return Err(Error::SecretReplaced { id: id.clone() });
            }
            let after = apply(transaction, &before, &change)?;
            let mut details = differences(&before, &after);
            if let Some(until) = valid_until
                && let Some(details) = details.as_object_mut()
            {
                details.insert("old_valid_until".to_owned(), json!(time(until)?.to_string()));
            }
            audit::record(
                transaction,
                actor,
                AuditAction::TokenRotate,
                id.as_str(),
                &details,
            )?;
            Ok(after)
        })
    }

    pub(in crate::store) fn find_retired_secret(
        &self,
        hash: &TokenHash,
    ) -> Result<Option<RetiredSecret>, Error> {
        self.read(|connection| find_retired(connection, hash))
    }

    pub(in crate::store) fn revoke_token(
        &self,
        actor: &Actor,
        id: &TokenId,
        because: RevokeReason,
    ) -> Result<Token, Error> {
        self.write(|transaction| {
            let token = require_unrevoked(transaction, id)?;
            revoke(transaction, actor, &token, because)
        })
    }

    pub(in crate::store) fn revoke_tokens(
        &self,
        actor: &Actor,
        ids: &[TokenId],
        because: RevokeReason,
    ) -> Result<Vec<Token>, Error> {
        self.write(|transaction| {
            let mut revoked = Vec::new();
            for id in ids {
                let token = find(transaction, id)?.ok_or_else(|| Error::TokenNotFound { id: id.clone() })?;
                if token.revoked_at.is_none() {
                    revoked.push(revoke(transaction, actor, &token, because)?);
                }
            }
            Ok(revoked)
        })
    }

    pub(in crate::store) fn revoke_each_token_of(
        &self,
        actor: &Actor,
        account: &str,
        because: RevokeReason,
        mut each: impl FnMut(Token),
    ) -> Result<(), Error> {
        let mut after = i64::MIN;
        loop {
            let (revoked, last) = self.write(|transaction| {
                let account = accounts::require(transaction, account)?;
                let (tokens, last) = unrevoked_after(transaction, account.id, after)?;
                let revoked = tokens
                    .iter()
                    .map(|token| revoke(transaction, actor, token, because))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok((revoked, last))
            })?;
            revoked.into_iter().for_each(&mut each);
            let Some(last) = last else {
                return Ok(());
            };
            after = last;
            std::thread::sleep(BATCH_PAUSE);
        }
    }

    pub(in crate::store) fn revoke_reused(
        &self,
        actor: &Actor,
        hash: &TokenHash,
    ) -> Result<Option<Token>, Error> {
        self.write(|transaction| {
            let Some(retired) = find_retired(transaction, hash)? else {
                return Ok(None);
            };
            let token = retired.token;
            if token.revoked_at.is_some() {
                return Ok(Some(token));
            }
            let details = json!({
                "account": token.account,
                "name": token.name,
                "retired_at": retired.retired_at.to_string(),
            });
            audit::record(
                transaction,
                actor,
                AuditAction::TokenReuse,
                token.id.as_str(),
                &details,
            )?;
            revoke(transaction, actor, &token, RevokeReason::Reused).map(Some)
        })
    }

    pub(in crate::store) fn record_token_uses(&self, uses: &[TokenUse]) -> Result<(), Error> {
        if uses.is_empty() {
            return Ok(());
        }
        self.write(|transaction| record_uses(transaction, uses))
    }

    pub(in crate::store) fn token_addresses(&self, id: &TokenId) -> Result<Vec<TokenAddress>, Error> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT address, last_used_at FROM token_addresses WHERE token_id = ?1 \
                 ORDER BY last_used_at DESC, address LIMIT ?2",
            )?;
            let mut rows = statement.query(params![id.as_str(), TOKEN_ADDRESSES_COUNT])?;
            let mut addresses = Vec::new();
            while let Some(row) = rows.next()? {
                let address: String = row.get(0)?;
                addresses.push(TokenAddress {
                    address: address.parse().map_err(|_| Error::Corrupt("an address"))?,
                    last_used_at: time(row.get(1)?)?,
                });
            }
            Ok(addresses)
        })
    }
}

/// The next unrevoked tokens of an account behind a row, and the row of the last one where there may be more of them.
fn unrevoked_after(
    connection: &Connection,
    account: AccountId,
    after: i64,
) -> Result<(Vec<Token>, Option<i64>), Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS}, tokens.rowid FROM {TABLES} \
         WHERE tokens.account_id = ?1 AND tokens.rowid > ?2 AND tokens.revoked_at IS NULL \
         ORDER BY tokens.rowid LIMIT ?3"
    ))?;
    let mut rows = statement.query(params![account.0, after, BATCH_COUNT])?;
    let mut tokens = Vec::new();
    let mut last = None;
    while let Some(row) = rows.next()? {
        tokens.push(from_row(row)?);
        last = Some(row.get(COLUMNS_COUNT)?);
    }
    let is_full = u32::try_from(tokens.len()).is_ok_and(|count| count >= BATCH_COUNT);
    Ok((tokens, last.filter(|_| is_full)))
}

/// Deletes tokens of an account that is to go, [`BATCH_COUNT`] at most, and returns how many. Those that were not revoked
/// leave an event, or nobody could say later which tokens ended with it.
pub(super) fn delete_some(
    transaction: &Transaction<'_>,
    actor: &Actor,
    account: &Account,
) -> Result<u32, Error> {
    let mut statement = transaction.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM {TABLES} WHERE tokens.account_id = ?1 ORDER BY tokens.rowid LIMIT ?2"
    ))?;
    let mut rows = statement.query(params![account.id.0, BATCH_COUNT])?;
    // All are read before the first is deleted, or the index would change under the walk.
    let mut tokens = Vec::new();
    while let Some(row) = rows.next()? {
        tokens.push(from_row(row)?);
    }
    let mut count = 0;
    let mut delete = transaction.prepare_cached("DELETE FROM tokens WHERE id = ?1")?;
    for token in &tokens {
        if token.revoked_at.is_none() {
            let details =
                json!({ "account": token.account, "name": token.name, "because": "account-deleted" });
            let id = token.id.as_str();
            audit::record(transaction, actor, AuditAction::TokenRevoke, id, &details)?;
        }
        delete.execute([token.id.as_str()])?;
        count += 1;
    }
    Ok(count)
}

/// Notes uses in a transaction that may do other things, too.
pub(super) fn record_uses(transaction: &Transaction<'_>, uses: &[TokenUse]) -> Result<(), Error> {
    // The token can have been deleted since, which must not keep the other uses from being noted.
    let mut note_address = transaction.prepare_cached(
        "INSERT INTO token_addresses (token_id, address, last_used_at) \
         SELECT id, ?2, ?3 FROM tokens WHERE id = ?1 \
         ON CONFLICT DO UPDATE SET last_used_at = excluded.last_used_at \
         WHERE token_addresses.last_used_at + ?4 <= excluded.last_used_at",
    )?;
    let mut forget_addresses = transaction.prepare_cached(
        "DELETE FROM token_addresses WHERE token_id = ?1 AND address NOT IN \
         (SELECT address FROM token_addresses WHERE token_id = ?1 ORDER BY last_used_at DESC, address LIMIT ?2)",
    )?;
    let mut note_use = transaction.prepare_cached(
        "UPDATE tokens SET last_used_at = ?2, last_used_from = ?3, last_used_with = ?4, last_used_for = ?5 \
         WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at <= ?2)",
    )?;
    for used in uses {
        let (id, at, from) = (used.id.as_str(), used.at.as_second(), used.from.to_string());
        if note_address.execute(params![id, from, at, USE_SECONDS])? == 0 {
            continue;
        }
        forget_addresses.execute(params![id, TOKEN_ADDRESSES_COUNT])?;
        note_use.execute(params![id, at, from, used.with, used.purpose])?;
    }
    Ok(())
}

fn list(connection: &Connection, account: Option<AccountId>) -> Result<Vec<Token>, Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM {TABLES} WHERE ?1 IS NULL OR tokens.account_id = ?1 \
         ORDER BY tokens.created_at, tokens.rowid"
    ))?;
    let mut rows = statement.query([account.map(|account| account.0)])?;
    let mut tokens = Vec::new();
    while let Some(row) = rows.next()? {
        tokens.push(from_row(row)?);
    }
    Ok(tokens)
}

/// The place of a state in [`TokenOrder::State`].
fn rank(state: TokenState) -> i64 {
    match state {
        TokenState::Active => 0,
        TokenState::Expired => 1,
        TokenState::Revoked => 2,
    }
}

/// Makes a change and returns the token as it is then.
fn apply(transaction: &Transaction<'_>, before: &Token, change: &TokenChange<'_>) -> Result<Token, Error> {
    let limits = change.limits_after(&before.limits);
    transaction.execute(
        "UPDATE tokens SET name = ifnull(?2, name), scopes = ifnull(?3, scopes), \
         expires_at = ifnull(?4, expires_at), limits = ?5 WHERE id = ?1",
        params![
            before.id.as_str(),
            change.name,
            change.scopes,
            change.expires_at.map(Timestamp::as_second),
            limits_column(&limits)
        ],
    )?;
    if limits.paths != before.limits.paths {
        note_limit_paths(transaction, before.id.as_str(), &limits)?;
    }
    require_unrevoked(transaction, &before.id)
}

/// Keeps by which paths a token is found that is limited to them.
fn note_limit_paths(transaction: &Transaction<'_>, id: &str, limits: &TokenLimits) -> Result<(), Error> {
    transaction
        .prepare_cached("DELETE FROM token_limit_paths WHERE token_id = ?1")?
        .execute([id])?;
    let mut statement = transaction
        .prepare_cached("INSERT OR IGNORE INTO token_limit_paths (path_key, token_id) VALUES (?1, ?2)")?;
    for path in &limits.paths {
        statement.execute([path.key().as_str(), id])?;
    }
    Ok(())
}

/// Lets limits follow a repository to its new name, and returns how many tokens had one that names it.
///
/// Limits that name the new one stay: they cannot be dropped without opening more, and give no right by themselves.
pub(super) fn rename_in_limits(
    transaction: &Transaction<'_>,
    from: &RepoPath,
    to: &RepoPath,
) -> Result<usize, Error> {
    let mut limited: Vec<(String, TokenLimits)> = Vec::new();
    {
        let mut statement = transaction.prepare_cached(
            "SELECT tokens.id, tokens.limits FROM token_limit_paths \
             JOIN tokens ON tokens.id = token_limit_paths.token_id WHERE token_limit_paths.path_key = ?1",
        )?;
        let mut rows = statement.query([from.key()])?;
        while let Some(row) = rows.next()? {
            let mut limits = read_limits(Some(row.get(1)?))?;
            if limits.rename(from, to) {
                limited.push((row.get(0)?, limits));
            }
        }
    }
    let mut statement = transaction.prepare_cached("UPDATE tokens SET limits = ?2 WHERE id = ?1")?;
    for (id, limits) in &limited {
        statement.execute(params![id, limits_column(limits)])?;
        note_limit_paths(transaction, id, limits)?;
    }
    Ok(limited.len())
}

/// Moves the present digest of a token among the retired ones, valid until `valid_until` if that is given, and ends the
/// overlap of the one before it.
///
/// Were a token that rotates itself to promise an overlap, or to push old digests out, whoever stole it could keep its
/// owner's secret from being noticed.
fn retire(
    transaction: &Transaction<'_>,
    id: &TokenId,
    is_by_itself: bool,
    now: i64,
    valid_until: Option<i64>,
) -> Result<(), Error> {
    let (last, kept): (i64, i64) = transaction
        .prepare_cached("SELECT ifnull(max(number), 0), count(*) FROM retired_hashes WHERE token_id = ?1")?
        .query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if is_by_itself && kept >= RETIRED_COUNT_MAX {
        return Err(Error::RotatedTooOften { id: id.clone() });
    }
    transaction.execute(
        "UPDATE retired_hashes SET valid_until = NULL, \
         promised_until = max(ifnull(promised_until, 0), min(valid_until, ?2) + ?3) \
         WHERE token_id = ?1 AND valid_until IS NOT NULL",
        params![id.as_str(), now, REPLACED_SECONDS],
    )?;
    let promised_until = valid_until
        .filter(|_| !is_by_itself)
        .unwrap_or(now)
        .max(now + REPLACED_SECONDS);
    transaction.execute(
        "INSERT INTO retired_hashes (hash, token_id, made_at, retired_at, valid_until, promised_until, number) \
         SELECT digest, id, ifnull(rotated_at, created_at), ?2, ?3, ?4, ?5 FROM tokens WHERE id = ?1",
        params![id.as_str(), now, valid_until, promised_until, last + 1],
    )?;
    if !is_by_itself {
        transaction.execute(
            "DELETE FROM retired_hashes WHERE token_id = ?1 AND number <= ?2",
            params![id.as_str(), last + 1 - RETIRED_COUNT_KEPT],
        )?;
    }
    Ok(())
}

fn find_retired(connection: &Connection, hash: &TokenHash) -> Result<Option<RetiredSecret>, Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS}, {}, retired_hashes.retired_at, retired_hashes.valid_until, \
         retired_hashes.promised_until, retired_hashes.made_at FROM retired_hashes CROSS JOIN {TABLES} \
         WHERE retired_hashes.hash = ?1 AND tokens.id = retired_hashes.token_id",
        accounts::COLUMNS
    ))?;
    let mut rows = statement.query([hash.as_bytes().as_slice()])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let after = COLUMNS_COUNT + accounts::COLUMNS_COUNT;
    let optional_time = |column: usize| row.get::<_, Option<i64>>(column)?.map(time).transpose();
    Ok(Some(RetiredSecret {
        token: from_row(row)?,
        account: accounts::from_row(row, COLUMNS_COUNT)?,
        retired_at: time(row.get(after)?)?,
        valid_until: optional_time(after + 1)?,
        promised_until: optional_time(after + 2)?,
        made_at: time(row.get(after + 3)?)?,
    }))
}

/// Revokes a token that is not revoked, and returns it as it is then.
pub(super) fn revoke(
    transaction: &Transaction<'_>,
    actor: &Actor,
    token: &Token,
    because: RevokeReason,
) -> Result<Token, Error> {
    transaction
        .prepare_cached("UPDATE tokens SET revoked_at = ?2, revoked_because = ?3 WHERE id = ?1")?
        .execute(params![token.id.as_str(), now(), because.as_str()])?;
    let details = json!({
        "account": token.account,
        "name": token.name,
        "because": because.as_str(),
    });
    audit::record(
        transaction,
        actor,
        AuditAction::TokenRevoke,
        token.id.as_str(),
        &details,
    )?;
    find(transaction, &token.id)?.ok_or_else(|| Error::TokenNotFound { id: token.id.clone() })
}

/// What differs between two states of a token, as old and new value.
fn differences(before: &Token, after: &Token) -> Value {
    let mut changed = Map::new();
    let mut compare = |field: &str, from: &dyn ToString, to: &dyn ToString| {
        let (from, to) = (from.to_string(), to.to_string());
        if from != to {
            changed.insert(field.to_owned(), json!({ "from": from, "to": to }));
        }
    };
    compare("name", &before.name, &after.name);
    compare("scopes", &before.scopes, &after.scopes);
    compare("expires_at", &before.expires_at, &after.expires_at);
    if before.limits != after.limits {
        let change = json!({ "from": before.limits.to_json(), "to": after.limits.to_json() });
        changed.insert("limits".to_owned(), change);
    }
    Value::Object(changed)
}
