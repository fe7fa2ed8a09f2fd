-- What is due to be given up is found without reading the rest.
ALTER TABLE requests ADD COLUMN at INTEGER NOT NULL DEFAULT 0;      -- when its run was accepted
UPDATE requests SET at = coalesce((SELECT accepted_at FROM runs WHERE runs.id = requests.run_id), 0);

CREATE INDEX requests_by_time ON requests (at);
CREATE INDEX sessions_by_time ON sessions (cleanup, updated_at) WHERE mode = 'run';
CREATE INDEX deleted_sessions_by_time ON deleted_sessions (updated_at);
