-- A server of version 1 that still runs knows nothing of limits, rules and policies, and asks for a token by this column.
-- Under another name it answers with an error, at once for what it has in memory, too, instead of letting all in.
ALTER TABLE tokens RENAME COLUMN hash TO digest;
UPDATE generation SET value = value + 1;

-- What a token is limited to, as JSON; NULL is not at all. Why it was revoked, and what it was last used with and for.
ALTER TABLE tokens ADD COLUMN limits TEXT;
ALTER TABLE tokens ADD COLUMN revoked_because TEXT;
ALTER TABLE tokens ADD COLUMN rotated_at INTEGER;
ALTER TABLE tokens ADD COLUMN last_used_with TEXT;
ALTER TABLE tokens ADD COLUMN last_used_for TEXT;

-- The end of a token that the trail tells of, so that it tells of it once. A token can get another end.
ALTER TABLE tokens ADD COLUMN end_noted INTEGER;
CREATE INDEX tokens_ending ON tokens (expires_at) WHERE revoked_at IS NULL AND end_noted IS NOT expires_at;

-- The paths among the limits. A repository that gets another name is looked for here, and only tokens that name it are
-- read.
CREATE TABLE token_limit_paths (
    path_key TEXT NOT NULL,
    token_id TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    PRIMARY KEY (path_key, token_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX token_limit_paths_of_token ON token_limit_paths (token_id);

-- The last addresses that each token was used from.
CREATE TABLE token_addresses (
    token_id     TEXT    NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    address      TEXT    NOT NULL,
    last_used_at INTEGER NOT NULL,
    PRIMARY KEY (token_id, address)
) STRICT, WITHOUT ROWID;

-- Digests of secrets that a rotation replaced. They stay known, so that whoever still uses one is noticed. It opens the
-- token until valid_until, if that is set, and to use it is no sign of theft until promised_until: the two differ when a
-- further rotation has cut short what was promised, and for a moment after there was none. Secrets of one token are
-- numbered in the order in which they were replaced, since several can be within one second.
CREATE TABLE retired_hashes (
    hash           BLOB    PRIMARY KEY NOT NULL CHECK (length(hash) = 32),
    token_id       TEXT    NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    made_at        INTEGER NOT NULL,
    retired_at     INTEGER NOT NULL,
    valid_until    INTEGER,
    promised_until INTEGER,
    number         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX retired_hashes_of_token ON retired_hashes (token_id);

-- collection_key '': the whole server.
CREATE TABLE policies (
    collection_key TEXT NOT NULL,
    collection     TEXT NOT NULL,
    name           TEXT NOT NULL,
    value          TEXT NOT NULL,
    PRIMARY KEY (collection_key, name)
) STRICT, WITHOUT ROWID;

-- Tokens made before a moment that have one of these scopes (or any, if empty) open nothing.
CREATE TABLE revocation_rules (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    scopes         TEXT    NOT NULL,
    created_before INTEGER NOT NULL,
    made_at        INTEGER NOT NULL
) STRICT;

-- A second name and password of an account, for clients that cannot do better.
CREATE TABLE alternate_credentials (
    account_id    INTEGER PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    name          TEXT    NOT NULL,
    name_key      TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;

-- Ids for clients of the REST interface. The folder says which repositories there are; this only remembers which id
-- was given to which of them.
CREATE TABLE repository_ids (
    id       TEXT PRIMARY KEY NOT NULL CHECK (length(id) = 36),
    path_key TEXT NOT NULL UNIQUE,
    path     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What tells this installation from others.
CREATE TABLE instance (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    uuid TEXT    NOT NULL CHECK (length(uuid) = 36)
) STRICT;

-- Events say by which token, from where and with what something was done, and are found by token and subject, and by
-- the account that they name in their details, in lower case: whose token it is, who got a right.
CREATE TABLE audit_events_2 (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    at            INTEGER NOT NULL,
    actor         TEXT    NOT NULL CHECK (actor IN ('client', 'command line', 'server')),
    account       TEXT,
    about_account TEXT,
    token_id      TEXT,
    address       TEXT,
    agent         TEXT,
    action        TEXT    NOT NULL,
    subject       TEXT    NOT NULL,
    subject_key   TEXT    NOT NULL,
    details       TEXT    NOT NULL
) STRICT;

-- Until here subjects were names of accounts, ids of tokens and paths, and only the first can be other than ASCII;
-- lower() of SQLite leaves those letters alone, which costs a filter by such a name the older events.
INSERT INTO audit_events_2 (id, at, actor, account, about_account, action, subject, subject_key, details)
    SELECT id, at, CASE actor WHEN 'account' THEN 'client' ELSE actor END, account,
        CASE json_type(details, '$.account') WHEN 'text' THEN lower(json_extract(details, '$.account')) END,
        action, subject, lower(subject), details
    FROM audit_events;
DROP TABLE audit_events;
ALTER TABLE audit_events_2 RENAME TO audit_events;

CREATE INDEX audit_events_at ON audit_events (at);
CREATE INDEX audit_events_of_subject ON audit_events (subject_key, id);
CREATE INDEX audit_events_of_account ON audit_events (account, id) WHERE account IS NOT NULL;
CREATE INDEX audit_events_of_about_account ON audit_events (about_account, id) WHERE about_account IS NOT NULL;
CREATE INDEX audit_events_of_token ON audit_events (token_id, id) WHERE token_id IS NOT NULL;
CREATE INDEX audit_events_of_action ON audit_events (action, id);

DROP TRIGGER tokens_updated;
CREATE TRIGGER tokens_updated AFTER UPDATE OF id, digest, account_id, name, scopes, created_at, expires_at, revoked_at, limits
    ON tokens BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER retired_hashes_inserted AFTER INSERT ON retired_hashes BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER retired_hashes_updated AFTER UPDATE ON retired_hashes BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER policies_inserted AFTER INSERT ON policies BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER policies_updated AFTER UPDATE ON policies BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER policies_deleted AFTER DELETE ON policies BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER revocation_rules_inserted AFTER INSERT ON revocation_rules BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER revocation_rules_deleted AFTER DELETE ON revocation_rules BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER alternate_credentials_inserted AFTER INSERT ON alternate_credentials BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER alternate_credentials_updated AFTER UPDATE ON alternate_credentials BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER alternate_credentials_deleted AFTER DELETE ON alternate_credentials BEGIN UPDATE generation SET value = value + 1; END;
