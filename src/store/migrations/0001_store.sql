-- Times are milliseconds since the Unix epoch. Keys, ids and states are text, transcripts are JSON.

CREATE TABLE sessions (
    id          INTEGER PRIMARY KEY,            -- grows in the order of creation, never used again
    key         TEXT    NOT NULL UNIQUE,
    agent       TEXT    NOT NULL,
    parent_key  TEXT,
    root_key    TEXT    NOT NULL,
    depth       INTEGER NOT NULL,
    label       TEXT,
    mode        TEXT    NOT NULL,               -- run, session
    cleanup     TEXT    NOT NULL,               -- keep, delete
    model       TEXT,
    fallbacks   TEXT,                           -- JSON array
    tools       TEXT,                           -- JSON array; NULL: what the agent's policy says
    yielded_run TEXT,
    next_seq    INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_by_parent ON sessions (parent_key) WHERE parent_key IS NOT NULL;

-- Runs outlive their session; this keeps the tree that they belong to.
CREATE TABLE deleted_sessions (
    id          INTEGER PRIMARY KEY,
    key         TEXT    NOT NULL,
    agent       TEXT    NOT NULL,
    parent_key  TEXT,
    root_key    TEXT    NOT NULL,
    depth       INTEGER NOT NULL,
    label       TEXT,
    mode        TEXT    NOT NULL,
    cleanup     TEXT    NOT NULL,
    model       TEXT,
    fallbacks   TEXT,
    tools       TEXT,
    yielded_run TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX deleted_sessions_by_key ON deleted_sessions (key);
CREATE INDEX deleted_sessions_by_parent ON deleted_sessions (parent_key) WHERE parent_key IS NOT NULL;

CREATE VIEW all_sessions AS
    SELECT id, key, agent, parent_key, root_key, depth, label, mode, cleanup, model, fallbacks, tools,
           yielded_run, created_at, updated_at
    FROM sessions
    UNION ALL SELECT * FROM deleted_sessions;

CREATE TABLE entries (
    session     INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    seq         INTEGER NOT NULL,
    run_id      TEXT,
    at          INTEGER NOT NULL,
    content     TEXT    NOT NULL,               -- JSON
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;

CREATE VIEW transcripts AS
    SELECT s.key AS session_key, e.seq, e.at, e.run_id, e.content ->> '$.type' AS type, e.content
    FROM entries e JOIN sessions s ON s.id = e.session;

CREATE TABLE runs (
    number        INTEGER PRIMARY KEY,          -- grows in the order of acceptance
    id            TEXT    NOT NULL UNIQUE,
    session       INTEGER NOT NULL,             -- the session's id, which outlives its row
    session_key   TEXT    NOT NULL,
    state         TEXT    NOT NULL,             -- accepted, running, yielded, or one of the terminal states
    cause         TEXT    NOT NULL,             -- spawn, message, announce
    spawner_id    TEXT,
    announce_to   TEXT,
    expects_completion INTEGER NOT NULL,
    wire_id       TEXT,
    model         TEXT    NOT NULL,
    fallbacks     TEXT    NOT NULL,             -- JSON array
    model_used    TEXT,
    timeout_ms    INTEGER,
    steps         INTEGER NOT NULL,
    input_tokens  INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    accepted_at   INTEGER NOT NULL,
    started_at    INTEGER,
    ended_at      INTEGER,
    host          TEXT    NOT NULL,             -- oneshot, daemon
    delivery      TEXT    CHECK (delivery IN ('open', 'delivered')),
    reason        TEXT,
    input         TEXT,                         -- JSON
    result        TEXT
) STRICT;

-- A session's open runs stand first, with ended_at NULL.
CREATE INDEX runs_by_session ON runs (session, ended_at);
CREATE INDEX runs_open ON runs (announce_to) WHERE ended_at IS NULL;

CREATE TABLE tool_calls (
    run_id      TEXT    NOT NULL,
    step        INTEGER NOT NULL,
    call_id     TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,
    status      TEXT,                           -- ok, error, unknown
    PRIMARY KEY (run_id, step, call_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    number      INTEGER PRIMARY KEY,
    run_id      TEXT    NOT NULL UNIQUE,
    receiver    TEXT    NOT NULL,
    session_key TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    message     BLOB    NOT NULL                -- a version byte, then postcard
) STRICT;

CREATE INDEX outbox_by_receiver ON outbox (receiver);

CREATE TABLE steers (
    number      INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    session_key TEXT    NOT NULL,
    text        TEXT    NOT NULL,
    origin      TEXT    NOT NULL,               -- JSON
    at          INTEGER NOT NULL
) STRICT;

CREATE INDEX steers_by_session ON steers (session_key);

CREATE TABLE requests (
    principal   TEXT    NOT NULL,
    method      TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    digest      BLOB    NOT NULL,               -- SHA-256 of the parameters
    run_id      TEXT    NOT NULL,
    PRIMARY KEY (principal, method, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id          INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    event       TEXT    NOT NULL,
    origin      TEXT    NOT NULL,               -- JSON
    session_key TEXT,
    run_id      TEXT,
    facts       TEXT    NOT NULL,               -- JSON object
    prev_hash   BLOB    NOT NULL,
    hash        BLOB    NOT NULL                -- SHA-256 over prev_hash and the other columns
) STRICT;

CREATE TRIGGER audit_is_not_updated BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;

CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
