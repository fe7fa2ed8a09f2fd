-- What a run led to: the runs that it spawned, and the runs in which sessions took up the results of these. Not a column of
-- `runs`: its rows are long, and a change writes the whole row again.
CREATE TABLE taken (
    run_id   TEXT NOT NULL PRIMARY KEY,         -- whose result was taken
    taker_id TEXT NOT NULL                      -- the run that goes on with it
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO taken (run_id, taker_id)
    SELECT i.value ->> '$.run', e.run_id
    FROM entries e, json_each(e.content, '$.items') i
    WHERE e.run_id IS NOT NULL AND e.content ->> '$.type' = 'announce';

CREATE INDEX runs_by_spawner ON runs (spawner_id) WHERE spawner_id IS NOT NULL;
CREATE INDEX runs_by_wire_id ON runs (wire_id) WHERE wire_id IS NOT NULL;
