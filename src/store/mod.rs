//! Accounts, tokens, access, policies and the audit trail, kept on disk.
//!
//! **Owns** the records and their consistency: every change is one transaction together with its audit event, and is
//! durable when the method returns. **Does not know** HTTP, git objects, what a scope permits or how a password is
//! hashed. **Invariants**: of a token only its SHA-256 is kept; a name is unique without regard to case;
//! [`Store::generation`] changes with everything that a decision of the gate can depend on, whoever changed it.
//! **Spec**: <https://www.sqlite.org/wal.html>, <https://www.sqlite.org/pragma.html#pragma_data_version>.

mod records;
mod sqlite;

#[cfg(test)]
mod conformance;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

pub use records::{
    Access, Account, AccountId, Actor, AlternateCredential, AuditAction, AuditEvent, AuditFilter, EVERYONE,
    IdleToken, LABEL_BYTES_MAX, LabelError, LiveToken, NewAccount, NewAuditEvent, NewToken, PasswordHash,
    REPLACED_SECONDS, RESERVED_ACCOUNT_NAMES, Requester, RetiredSecret, RevocationRule, RevokeReason,
    RevokeReasonError, Role, RoleError, Roles, StoredPolicy, TOKEN_ADDRESSES_COUNT, TOKEN_ID_BYTES, Token,
    TokenAddress, TokenChange, TokenHash, TokenId, TokenIdError, TokenLimits, TokenNarrowing, TokenOrder,
    TokenPage, TokenPosition, TokenRotation, TokenState, TokenUse, UnknownAction, check_label, is_invisible,
};

use crate::names::{AccessPath, Quoted, RepoPath};

/// The name of the database in the data directory.
pub const DATABASE_FILE: &str = "patgate.db";

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is an account whose name differs at most in case.
    #[error("an account named '{name}' exists already")]
    AccountExists {
        /// The name that was asked for.
        name: String,
    },
    /// There is no such account.
    #[error("there is no account named '{name}'")]
    AccountNotFound {
        /// The name that was asked for.
        name: String,
    },
    /// There is no such right to take away.
    #[error("{who} has no right of its own on '{path}'")]
    AccessNotFound {
        /// The account, or everyone.
        who: String,
        /// The path that was asked for.
        path: String,
    },
    /// The account has no alternate credential.
    #[error("'{account}' has no alternate credential")]
    AlternateCredentialNotFound {
        /// The account.
        account: String,
    },
    /// Another account has this name for its alternate credential.
    #[error("the name {} is another account's", Quoted(.name))]
    AlternateNameTaken {
        /// The name that was asked for.
        name: String,
    },
    /// The database holds something that patgate never writes.
    #[error("the database holds {0} that cannot be read")]
    Corrupt(&'static str),
    /// SQLite failed: the disk, a lock that another process holds, or a fault of ours.
    #[error("database: {0}")]
    Database(#[source] rusqlite::Error),
    /// Everyone can be given no more than reading.
    #[error("everyone can be a reader and nothing more")]
    EveryoneIsReader,
    /// The name of an account or a token breaks a rule.
    #[error("the name {} {reason}", Quoted(.name))]
    Label {
        /// The name that was asked for.
        name: String,
        /// The rule.
        reason: LabelError,
    },
    /// A newer patgate has written this database.
    #[error("'{}' has schema version {found}, and this patgate knows none above {known}", .path.display())]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// The version it has.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The file is a database of another program.
    #[error("'{}' is not a database of patgate", .path.display())]
    NotOurs {
        /// The database file.
        path: PathBuf,
    },
    /// The file cannot be opened, made or protected.
    #[error("cannot open the database '{}': {reason}", .path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// What the system or SQLite says.
        reason: String,
    },
    /// There is no such policy to take back.
    #[error("the policy '{name}' is not set for {}", place(.collection.as_deref()))]
    PolicyNotFound {
        /// The policy.
        name: String,
        /// The collection; None for the whole server.
        collection: Option<String>,
    },
    /// There is no such rule.
    #[error("there is no revocation rule {id}")]
    RevocationRuleNotFound {
        /// The number that was asked for.
        id: i64,
    },
    /// There is a token with this id or this digest.
    #[error("the token id '{id}' is taken")]
    TokenExists {
        /// The id that was asked for.
        id: TokenId,
    },
    /// The token has rotated itself so often that older secrets would have to be forgotten, whose use tells of theft.
    #[error("the token '{id}' has rotated itself too often: its owner or an administrator has to rotate it")]
    RotatedTooOften {
        /// The token.
        id: TokenId,
    },
    /// The secret that was to be replaced is not the present one of the token.
    #[error("the secret of the token '{id}' was replaced by a rotation: use the newer one")]
    SecretReplaced {
        /// The token.
        id: TokenId,
    },
    /// The token was changed by somebody else in between.
    #[error("the token '{id}' was changed at the same time: try again")]
    TokenChanged {
        /// The token.
        id: TokenId,
    },
    /// There is no such token.
    #[error("there is no token with the id '{id}'")]
    TokenNotFound {
        /// The id that was asked for.
        id: TokenId,
    },
    /// The token is revoked, which is final.
    #[error("the token '{id}' is revoked")]
    TokenRevoked {
        /// The id that was asked for.
        id: TokenId,
    },
}

impl Error {
    /// Whether another process had the database to itself for longer than the store waits, so that the same may succeed
    /// later.
    pub fn is_busy(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};

        let Error::Database(error) = self else {
            return false;
        };
        matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
    }

    /// What a statement gets that waited in vain.
    #[cfg(test)]
    pub(crate) fn busy() -> Error {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        Error::Database(rusqlite::Error::SqliteFailure(code, None))
    }
}

/// Where a policy holds, as people read it.
fn place(collection: Option<&str>) -> String {
    collection.map_or_else(
        || "the whole server".to_owned(),
        |name| format!("the collection {}", Quoted(name)),
    )
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Error::Database(error)
    }
}

/// What is done outside the database together with a change of it, such as the renaming of a directory: the last thing
/// before the commit, while nobody else can write. Both happen or neither does, but for a crash between the two.
#[derive(Debug)]
pub struct Step<R, U> {
    /// Does it, all or nothing; if it fails, the change of the database is undone. It must be fast, and must not use the
    /// store.
    pub run: R,
    /// Undoes it because the commit failed, and makes the error that the whole ends with.
    pub undo: U,
}

/// A handle on the store; clones share it. All methods block, most for less than a millisecond, changes until they are
/// on disk.
#[derive(Debug, Clone)]
pub struct Store(Backend);

#[derive(Debug, Clone)]
enum Backend {
    Sqlite(Arc<sqlite::Sqlite>),
}

impl Store {
    /// Opens the SQLite database at `path`, making it (mode 0600, and its directory 0700) or bringing it up to date.
    ///
    /// # Errors
    ///
    /// [`Error::NewerSchema`], [`Error::NotOurs`], or what the system says.
    pub fn open(path: &Path) -> Result<Store, Error> {
        sqlite::Sqlite::open(path).map(|database| Store(Backend::Sqlite(Arc::new(database))))
    }

    /// Makes every commit of a change that is audited fail from now on.
    #[cfg(test)]
    pub(crate) fn fail_commits(&self) {
        match &self.0 {
            Backend::Sqlite(database) => database.fail_commits(),
        }
    }

    /// Returns a number that differs from an earlier one if accounts, tokens, access or policies were changed in
    /// between, by this process or another. Costs a few microseconds.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn generation(&self) -> Result<u64, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.generation(),
        }
    }

    /// Returns the id that tells this installation from others; it is made when it is first asked for.
    ///
    /// # Errors
    ///
    /// When the database cannot be read or written.
    pub fn instance_id(&self) -> Result<Uuid, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.instance_id(),
        }
    }

    /// Returns the ids of repositories, in their order. Those that have none get one, all in one transaction. An id goes
    /// along when its repository is renamed, and is gone when it is deleted. Whether there is a repository, the store
    /// does not know.
    ///
    /// # Errors
    ///
    /// When the database cannot be read or written.
    pub fn repository_ids(&self, repositories: &[RepoPath]) -> Result<Vec<Uuid>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.repository_ids(repositories),
        }
    }

    /// Finds the repository that has an id, as it was spelled when it got it.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn find_repository(&self, id: Uuid) -> Result<Option<RepoPath>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.find_repository(id),
        }
    }

    /// Makes an account.
    ///
    /// # Errors
    ///
    /// [`Error::AccountExists`], [`Error::Label`].
    pub fn create_account(&self, actor: &Actor, new: &NewAccount<'_>) -> Result<Account, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.create_account(actor, new),
        }
    }

    /// Finds an account by name, without regard to case.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn find_account(&self, name: &str) -> Result<Option<Account>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.find_account(name),
        }
    }

    /// Returns all accounts by name.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn accounts(&self) -> Result<Vec<Account>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.accounts(),
        }
    }

    /// Finds the password hash of an account; None if there is no such account or it has no password.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn find_password_hash(&self, name: &str) -> Result<Option<PasswordHash>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.find_password_hash(name),
        }
    }

    /// Finds an account and its password hash, as they are in the same moment; no hash if it has no password.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn find_account_with_password(
        &self,
        name: &str,
    ) -> Result<Option<(Account, Option<PasswordHash>)>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.find_account_with_password(name),
        }
    }

    /// Replaces the password of an account.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`].
    pub fn set_password(
        &self,
        actor: &Actor,
        name: &str,
        password: &PasswordHash,
        must_change: bool,
    ) -> Result<Account, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.set_password(actor, name, password, must_change),
        }
    }

    /// Disables or enables an account. While it is disabled, its tokens open nothing.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`].
    pub fn set_account_disabled(
        &self,
        actor: &Actor,
        name: &str,
        is_disabled: bool,
    ) -> Result<Account, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.set_account_disabled(actor, name, is_disabled),
        }
    }

    /// Deletes an account with its tokens and rights.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`].
    pub fn delete_account(&self, actor: &Actor, name: &str) -> Result<Account, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.delete_account(actor, name),
        }
    }

    /// Keeps a token. `auth::token::create` makes one from scratch.
    ///
    /// # Errors
    ///
    /// [`Error::TokenExists`], [`Error::Label`], [`Error::AccountNotFound`].
    pub fn create_token(&self, actor: &Actor, new: &NewToken<'_>) -> Result<Token, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.create_token(actor, new),
        }
    }

    /// Finds a token by its id.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn find_token(&self, id: &TokenId) -> Result<Option<Token>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.find_token(id),
        }
    }

    /// Finds a token, and its owner as they are in the same moment, by the digest of its text. Revoked and expired
    /// ones are found, too.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn find_token_by_hash(&self, hash: &TokenHash) -> Result<Option<(Token, Account)>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.find_token_by_hash(hash),
        }
    }

    /// Returns the digest of the present secret of a token; None if there is no such token.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn token_hash(&self, id: &TokenId) -> Result<Option<TokenHash>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.token_hash(id),
        }
    }

    /// Returns the tokens of one account, or all, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`].
    pub fn tokens(&self, account: Option<&str>) -> Result<Vec<Token>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.tokens(account),
        }
    }

    /// Returns tokens of one account in the order in which they were made: at most `count_max` of those that come after
    /// the token `after`.
    ///
    /// # Errors
    ///
    /// [`Error::TokenNotFound`] if `after` is no token of the account.
    pub fn tokens_after(
        &self,
        account: AccountId,
        after: Option<&TokenId>,
        count_max: u32,
    ) -> Result<Vec<Token>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.tokens_after(account, after, count_max),
        }
    }

    /// Returns some tokens of one account, in order.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn page_of_tokens(&self, page: &TokenPage<'_>) -> Result<Vec<Token>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.page_of_tokens(page),
        }
    }

    /// Changes a token that is not revoked.
    ///
    /// # Errors
    ///
    /// [`Error::TokenNotFound`], [`Error::TokenRevoked`], [`Error::Label`], and [`Error::TokenChanged`] where the token is not
    /// as it was before.
    pub fn update_token(
        &self,
        actor: &Actor,
        id: &TokenId,
        change: &TokenChange<'_>,
    ) -> Result<Token, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.update_token(actor, id, change),
        }
    }

    /// Gives a token that is not revoked a new digest, and an end if one is given. The old digest stays known as retired.
    ///
    /// At most two secrets open a token: the newest and, for its overlap, the one before it. A rotation while an overlap
    /// runs ends that overlap.
    ///
    /// # Errors
    ///
    /// [`Error::TokenNotFound`], [`Error::TokenRevoked`], [`Error::SecretReplaced`] where another secret was presented
    /// than the token has, [`Error::RotatedTooOften`], and [`Error::TokenChanged`] where scopes or limits are to be narrowed that have changed since.
    pub fn rotate_token(
        &self,
        actor: &Actor,
        id: &TokenId,
        rotation: &TokenRotation<'_>,
    ) -> Result<Token, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.rotate_token(actor, id, rotation),
        }
    }

    /// Finds a secret that a rotation replaced, by the digest of the whole token; None if the digest is a present one or
    /// unknown. Of each token those that it has replaced by itself are kept, up to a thousand with the others, and the latest
    /// hundred when its owner has it rotated.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn find_retired_secret(&self, hash: &TokenHash) -> Result<Option<RetiredSecret>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.find_retired_secret(hash),
        }
    }

    /// Revokes a token for good.
    ///
    /// # Errors
    ///
    /// [`Error::TokenNotFound`], [`Error::TokenRevoked`].
    pub fn revoke_token(&self, actor: &Actor, id: &TokenId, because: RevokeReason) -> Result<Token, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.revoke_token(actor, id, because),
        }
    }

    /// Revokes tokens for good, all or none, and returns those that were not revoked before, in the order of `ids`.
    ///
    /// # Errors
    ///
    /// [`Error::TokenNotFound`] for the first that there is not.
    pub fn revoke_tokens(
        &self,
        actor: &Actor,
        ids: &[TokenId],
        because: RevokeReason,
    ) -> Result<Vec<Token>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.revoke_tokens(actor, ids, because),
        }
    }

    /// Returns those of the tokens with these digests that live: neither revoked nor expired, whether or not their
    /// owner is disabled, which can be undone. A secret that a rotation replaced counts while it is still valid.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn live_tokens(&self, hashes: &[TokenHash]) -> Result<Vec<LiveToken>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.live_tokens(hashes),
        }
    }

    /// Notes that somebody handed in a token, by its digest, and revokes it if `revokes`; one that stays is noted once
    /// an hour. Returns the token if there was one and it was live; else nothing changes.
    ///
    /// # Errors
    ///
    /// When the database cannot be read or written.
    pub fn report_leaked_token(
        &self,
        actor: &Actor,
        hash: &TokenHash,
        revokes: bool,
    ) -> Result<Option<LiveToken>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.report_leaked_token(actor, hash, revokes),
        }
    }

    /// Revokes all tokens of an account that are not revoked yet, expired ones too, and returns how many those were.
    ///
    /// They go in transactions of some milliseconds each, so that others can write in between however many there are;
    /// after an error those before it stay revoked.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`].
    pub fn revoke_tokens_of(
        &self,
        actor: &Actor,
        account: &str,
        because: RevokeReason,
    ) -> Result<usize, Error> {
        let mut count = 0;
        self.revoke_each_token_of(actor, account, because, |_| count += 1)?;
        Ok(count)
    }

    /// The same, and hands each token to `each`, oldest first, once it is revoked.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`].
    pub fn revoke_each_token_of(
        &self,
        actor: &Actor,
        account: &str,
        because: RevokeReason,
        each: impl FnMut(Token),
    ) -> Result<(), Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.revoke_each_token_of(actor, account, because, each),
        }
    }

    /// Revokes the token of a retired secret, because that was used again, and returns the token; None if the secret is
    /// unknown. A token that is revoked already stays as it is, without an event: of many at once, one revokes.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn revoke_reused(&self, actor: &Actor, hash: &TokenHash) -> Result<Option<Token>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.revoke_reused(actor, hash),
        }
    }

    /// Notes how tokens were used. A use within a minute of one that was noted from the same address is passed over, an
    /// older one than the last moves nothing but the addresses, and one of a token that is gone is dropped. Does not
    /// change [`Store::generation`].
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn record_token_uses(&self, uses: &[TokenUse]) -> Result<(), Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.record_token_uses(uses),
        }
    }

    /// Returns the addresses that a token was last used from, at most [`TOKEN_ADDRESSES_COUNT`], the latest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn token_addresses(&self, id: &TokenId) -> Result<Vec<TokenAddress>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.token_addresses(id),
        }
    }

    /// Gives an account, or everyone (`None`), a role on a path; it replaces the role that it had there.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`], [`Error::EveryoneIsReader`].
    pub fn grant_access(
        &self,
        actor: &Actor,
        account: Option<&str>,
        path: &AccessPath,
        role: Role,
    ) -> Result<(), Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.grant_access(actor, account, path, role),
        }
    }

    /// Takes away the role that an account, or everyone, has on exactly this path.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`], [`Error::AccessNotFound`].
    pub fn revoke_access(
        &self,
        actor: &Actor,
        account: Option<&str>,
        path: &AccessPath,
    ) -> Result<(), Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.revoke_access(actor, account, path),
        }
    }

    /// Returns all rights, or those of one account, by path.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`].
    pub fn access(&self, account: Option<&str>) -> Result<Vec<Access>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.access(account),
        }
    }

    /// Returns the greatest role that an account has on a repository by rights on it or on anything that it lies in,
    /// its own and everyone's; with `None` only everyone's.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn role_on(&self, account: Option<AccountId>, repository: &RepoPath) -> Result<Option<Role>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.role_on(account, repository),
        }
    }

    /// Returns the roles that an account has on the repositories of a part of the server, its own and everyone's; with
    /// `None` only everyone's. One question, however many repositories there are; for one of them
    /// [`Store::role_on`] says the same.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn roles_below(&self, account: Option<AccountId>, place: &AccessPath) -> Result<Roles, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.roles_below(account, place),
        }
    }

    /// Moves the rights on one repository, and limits of tokens that name it, to its new name, together with `step`,
    /// which renames the repository itself. Rights that were on the new name are dropped: they were given for another
    /// repository.
    ///
    /// No second call undoes this one: it would take along the limits that named `to` before, and the rights on `to`
    /// would be gone.
    ///
    /// # Errors
    ///
    /// When the database cannot be written, or that of the step.
    pub fn rename_repository<T, E: From<Error>>(
        &self,
        actor: &Actor,
        from: &RepoPath,
        to: &RepoPath,
        step: Step<impl FnOnce() -> Result<T, E>, impl FnOnce(T, Error) -> E>,
    ) -> Result<T, E> {
        match &self.0 {
            Backend::Sqlite(database) => database.rename_repository(actor, from, to, step),
        }
    }

    /// Removes all rights on one repository, so that a later one of the same name does not inherit them, together with
    /// `step`, which removes the repository itself. Limits of tokens that name it stay, or the tokens would open more than
    /// before.
    ///
    /// # Errors
    ///
    /// When the database cannot be written, or that of the step.
    pub fn delete_repository<T, E: From<Error>>(
        &self,
        actor: &Actor,
        repository: &RepoPath,
        step: Step<impl FnOnce() -> Result<T, E>, impl FnOnce(T, Error) -> E>,
    ) -> Result<T, E> {
        match &self.0 {
            Backend::Sqlite(database) => database.delete_repository(actor, repository, step),
        }
    }

    /// Sets a policy for a collection, or for the whole server (`None`), and returns the value that it had there. The
    /// store knows neither the names nor the values; `auth::policy` does.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn set_policy(
        &self,
        actor: &Actor,
        collection: Option<&str>,
        name: &str,
        value: &str,
    ) -> Result<Option<String>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.set_policy(actor, collection, name, value),
        }
    }

    /// Takes a policy back, and returns the value that it had.
    ///
    /// # Errors
    ///
    /// [`Error::PolicyNotFound`].
    pub fn remove_policy(
        &self,
        actor: &Actor,
        collection: Option<&str>,
        name: &str,
    ) -> Result<String, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.remove_policy(actor, collection, name),
        }
    }

    /// Returns all policies that are set: the server's, then the collections', each by name.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn policies(&self) -> Result<Vec<StoredPolicy>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.policies(),
        }
    }

    /// Makes a rule by which everything opens nothing that has one of `scopes` (any, if there are none) and was made
    /// before a moment. `auth::rule::create` checks both.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn create_revocation_rule(
        &self,
        actor: &Actor,
        scopes: &str,
        created_before: jiff::Timestamp,
    ) -> Result<RevocationRule, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.create_revocation_rule(actor, scopes, created_before),
        }
    }

    /// Takes a rule back: what it revoked opens again what it did.
    ///
    /// # Errors
    ///
    /// [`Error::RevocationRuleNotFound`].
    pub fn delete_revocation_rule(&self, actor: &Actor, id: i64) -> Result<RevocationRule, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.delete_revocation_rule(actor, id),
        }
    }

    /// Returns all revocation rules, oldest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn revocation_rules(&self) -> Result<Vec<RevocationRule>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.revocation_rules(),
        }
    }

    /// Gives an account an alternate credential, in place of one that it has. `auth::alternate::set` checks it.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`], [`Error::AlternateNameTaken`], [`Error::Label`].
    pub fn set_alternate_credential(
        &self,
        actor: &Actor,
        account: &str,
        name: &str,
        password: &PasswordHash,
    ) -> Result<AlternateCredential, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.set_alternate_credential(actor, account, name, password),
        }
    }

    /// Takes away the alternate credential of an account.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`], [`Error::AlternateCredentialNotFound`].
    pub fn remove_alternate_credential(
        &self,
        actor: &Actor,
        account: &str,
    ) -> Result<AlternateCredential, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.remove_alternate_credential(actor, account),
        }
    }

    /// Returns the alternate credentials of all accounts, or that of one, by account.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`].
    pub fn alternate_credentials(&self, account: Option<&str>) -> Result<Vec<AlternateCredential>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.alternate_credentials(account),
        }
    }

    /// Finds an alternate credential by its own name, without regard to case, with the hash of its password and the
    /// account as they are in the same moment.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn find_alternate_credential(
        &self,
        name: &str,
    ) -> Result<Option<(AlternateCredential, PasswordHash, Account)>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.find_alternate_credential(name),
        }
    }

    /// Returns live tokens that nobody has used since a moment, and that did not get their secret after it, by id; at
    /// most `count_max` of those that come after the id `after`. `now` decides which are live.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn idle_tokens(
        &self,
        since: jiff::Timestamp,
        now: jiff::Timestamp,
        after: Option<&TokenId>,
        count_max: u32,
    ) -> Result<Vec<IdleToken>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.idle_tokens(since, now, after, count_max),
        }
    }

    /// Revokes those of the tokens that nobody has used since the moment beside their id, and returns them. One that was
    /// used or rotated after it is passed over, so that it does not matter what happened since the caller looked.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn revoke_idle_tokens(
        &self,
        actor: &Actor,
        idle: &[(TokenId, jiff::Timestamp)],
    ) -> Result<Vec<Token>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.revoke_idle_tokens(actor, idle),
        }
    }

    /// Adds an event to the audit trail for something that is kept elsewhere, such as a repository.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn record_event(
        &self,
        actor: &Actor,
        action: AuditAction,
        subject: &str,
        details: &serde_json::Value,
    ) -> Result<(), Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.record_event(actor, action, subject, details),
        }
    }

    /// Adds an event to the audit trail together with `step`, which does what it tells of.
    ///
    /// # Errors
    ///
    /// When the database cannot be written, or that of the step.
    pub fn record_event_with<T, E: From<Error>>(
        &self,
        actor: &Actor,
        action: AuditAction,
        subject: &str,
        details: &serde_json::Value,
        step: Step<impl FnOnce() -> Result<T, E>, impl FnOnce(T, Error) -> E>,
    ) -> Result<T, E> {
        match &self.0 {
            Backend::Sqlite(database) => database.record_event_with(actor, action, subject, details, step),
        }
    }

    /// Returns the events that `filter` lets through. Takes milliseconds however many events there are, but for three
    /// things: a time (0.1 s for a million events in it), a collection or project (0.1 ms for each name below it), and
    /// filters together of which one has few events and the others have many.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn audit_events(&self, filter: &AuditFilter) -> Result<Vec<AuditEvent>, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.audit_events(filter),
        }
    }

    /// Keeps uses of tokens, as [`Store::record_token_uses`], and events, all of them or none, in one transaction.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn record_batch(&self, uses: &[TokenUse], events: &[NewAuditEvent]) -> Result<(), Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.record_batch(uses, events),
        }
    }

    /// Adds an event for each token whose end has passed by `now` and that has none for this end yet, at most
    /// `count_max`, and returns how many that were. Revoked ones have ended before.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn record_expired_tokens(&self, now: jiff::Timestamp, count_max: u32) -> Result<usize, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.record_expired_tokens(now, count_max),
        }
    }

    /// Removes events from before `before`, the oldest first and at most `count_max`; returns how many that were. An event
    /// of the moment `now` says so in the same transaction: one for each `before`, with all that were removed for it.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub fn prune_audit_events(
        &self,
        before: jiff::Timestamp,
        now: jiff::Timestamp,
        count_max: u32,
    ) -> Result<usize, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.prune_audit_events(before, now, count_max),
        }
    }

    /// Returns a number that differs from an earlier one if anything was changed in between, by this process or
    /// another. Costs a few microseconds.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn data_version(&self) -> Result<i64, Error> {
        match &self.0 {
            Backend::Sqlite(database) => database.data_version(),
        }
    }
}
