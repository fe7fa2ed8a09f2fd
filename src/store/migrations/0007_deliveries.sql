-- What became of a callback, also after it was delivered, and of an announce that nobody is to have.
ALTER TABLE callbacks RENAME TO callbacks_0004;

CREATE TABLE callbacks (
    run        INTEGER PRIMARY KEY,            -- the run's number
    run_id     TEXT    NOT NULL UNIQUE,
    receiver   TEXT    NOT NULL,               -- of the address what is no secret: scheme, host and port
    address    TEXT,                           -- a URL, in which there may be a secret; NULL once it is settled
    state      TEXT    NOT NULL CHECK (state IN ('open', 'failed', 'delivered', 'dismissed')),
    attempts   INTEGER NOT NULL DEFAULT 0,     -- that failed
    reason     TEXT,                           -- why the latest of them did
    next_at    INTEGER,                        -- of the next one; NULL with state failed: nothing more is tried
    at         INTEGER NOT NULL,
    settled_at INTEGER
) STRICT;

-- The addresses were normalised, so that a slash follows the authority.
INSERT INTO callbacks (run, run_id, receiver, address, state, at)
    SELECT number, run_id, scheme || substr(authority, instr(authority, '@') + 1), address, 'open', at
    FROM (SELECT r.number, c.run_id, c.address, c.at, substr(c.address, 1, instr(c.address, '://') + 2) AS scheme,
                 substr(substr(c.address, instr(c.address, '://') + 3), 1,
                        instr(substr(c.address, instr(c.address, '://') + 3) || '/', '/') - 1) AS authority
          FROM callbacks_0004 c JOIN runs r ON r.id = c.run_id);

DROP TABLE callbacks_0004;

CREATE INDEX callbacks_unsettled ON callbacks (state) WHERE address IS NOT NULL;

-- runs.announced: 0 not yet, 1 on its way or taken, 2 dismissed.
CREATE INDEX runs_dismissed ON runs (announced) WHERE announced = 2;
