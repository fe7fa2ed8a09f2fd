-- Where somebody outside wants the result of a run. Gone once it was delivered.
CREATE TABLE callbacks (
    run_id  TEXT    NOT NULL PRIMARY KEY,
    address TEXT    NOT NULL,                   -- a URL, in which there may be a secret
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
