-- What a run led to: the runs that it spawned, and the run in which its session took the result of one of these.
ALTER TABLE runs ADD COLUMN taken_by TEXT;
UPDATE runs SET taken_by = taken.run_id FROM (
    SELECT e.run_id, i.value ->> '$.run' AS child
    FROM entries e, json_each(e.content, '$.items') i
    WHERE e.run_id IS NOT NULL AND e.content ->> '$.type' = 'announce'
) AS taken WHERE taken.child = runs.id;
CREATE INDEX runs_by_spawner ON runs (spawner_id) WHERE spawner_id IS NOT NULL;
CREATE INDEX runs_by_wire_id ON runs (wire_id) WHERE wire_id IS NOT NULL;
