CREATE TABLE devices (
    id          TEXT    NOT NULL PRIMARY KEY,   -- SHA-256 of the public key, in hexadecimal digits
    public_key  TEXT    NOT NULL,               -- base64url
    roles       TEXT    NOT NULL,               -- JSON array: node, operator
    scopes      TEXT    NOT NULL,               -- JSON array: the most that was approved
    client      TEXT    NOT NULL,
    mode        TEXT    NOT NULL,
    name        TEXT,
    platform    TEXT    NOT NULL,
    family      TEXT,
    remote      TEXT,
    created_at  INTEGER NOT NULL,
    approved_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE device_tokens (
    device_id   TEXT    NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    role        TEXT    NOT NULL,
    hash        BLOB    NOT NULL,               -- SHA-256 of the token, which is nowhere
    scopes      TEXT    NOT NULL,               -- JSON array
    created_at  INTEGER NOT NULL,
    rotated_at  INTEGER,
    revoked_at  INTEGER,
    PRIMARY KEY (device_id, role)
) STRICT, WITHOUT ROWID;

CREATE TABLE pairing_requests (
    id          TEXT    NOT NULL PRIMARY KEY,
    device_id   TEXT    NOT NULL UNIQUE,
    public_key  TEXT    NOT NULL,
    role        TEXT    NOT NULL,               -- the one that was asked for last
    roles       TEXT    NOT NULL,               -- JSON array
    scopes      TEXT    NOT NULL,               -- JSON array
    reason      TEXT    NOT NULL,               -- not-paired, role-upgrade, scope-upgrade, metadata-upgrade
    client      TEXT    NOT NULL,
    mode        TEXT    NOT NULL,
    name        TEXT,
    platform    TEXT    NOT NULL,
    family      TEXT,
    remote      TEXT,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE setup_codes (
    id          TEXT    NOT NULL PRIMARY KEY,
    hash        BLOB    NOT NULL UNIQUE,        -- SHA-256 of the code, which is nowhere
    role        TEXT    NOT NULL,
    scopes      TEXT    NOT NULL,               -- JSON array
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
