-- Times are seconds since 1970-01-01 UTC. Names carry a lower-case key, because SQLite's NOCASE knows ASCII only.

CREATE TABLE accounts (
    id                   INTEGER PRIMARY KEY AUTOINCREMENT,
    name                 TEXT    NOT NULL,
    name_key             TEXT    NOT NULL UNIQUE,
    password_hash        TEXT,
    is_admin             INTEGER NOT NULL CHECK (is_admin IN (0, 1)),
    is_disabled          INTEGER NOT NULL CHECK (is_disabled IN (0, 1)),
    must_change_password INTEGER NOT NULL CHECK (must_change_password IN (0, 1)),
    created_at           INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    id             TEXT    PRIMARY KEY NOT NULL CHECK (length(id) = 8),
    hash           BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    account_id     INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name           TEXT    NOT NULL,
    scopes         TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    revoked_at     INTEGER,
    last_used_at   INTEGER,
    last_used_from TEXT
) STRICT;

CREATE INDEX tokens_of_account ON tokens (account_id);

-- account_id NULL: everyone, who can be no more than a reader (role 1).
CREATE TABLE access (
    account_id INTEGER REFERENCES accounts (id) ON DELETE CASCADE,
    path_key   TEXT    NOT NULL,
    path       TEXT    NOT NULL,
    role       INTEGER NOT NULL CHECK (role IN (1, 2, 3)),
    CHECK (account_id IS NOT NULL OR role = 1)
) STRICT;

CREATE UNIQUE INDEX access_of_path ON access (path_key, ifnull(account_id, 0));
CREATE INDEX access_of_account ON access (account_id);

CREATE TABLE audit_events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    actor   TEXT    NOT NULL CHECK (actor IN ('account', 'command line', 'server')),
    account TEXT,
    action  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    details TEXT    NOT NULL
) STRICT;

-- Counts what a decision of the gate can depend on. Last-used times are left out, or every use of a token would
-- void all that is cached about every token.
CREATE TABLE generation (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    value INTEGER NOT NULL
) STRICT;

INSERT INTO generation (id, value) VALUES (1, 1);

CREATE TRIGGER accounts_inserted AFTER INSERT ON accounts BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER accounts_updated AFTER UPDATE ON accounts BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER accounts_deleted AFTER DELETE ON accounts BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER tokens_inserted AFTER INSERT ON tokens BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER tokens_updated AFTER UPDATE OF id, hash, account_id, name, scopes, created_at, expires_at, revoked_at
    ON tokens BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER tokens_deleted AFTER DELETE ON tokens BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER access_inserted AFTER INSERT ON access BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER access_updated AFTER UPDATE ON access BEGIN UPDATE generation SET value = value + 1; END;
CREATE TRIGGER access_deleted AFTER DELETE ON access BEGIN UPDATE generation SET value = value + 1; END;
