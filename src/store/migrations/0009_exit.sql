-- What becomes of a session when its parent goes away, and the parent that it has outlived if nobody came in its place.
ALTER TABLE sessions ADD COLUMN on_parent_exit TEXT NOT NULL DEFAULT 'stop';            -- stop, continue, hand-over
ALTER TABLE sessions ADD COLUMN outlived TEXT;
ALTER TABLE deleted_sessions ADD COLUMN on_parent_exit TEXT NOT NULL DEFAULT 'stop';
ALTER TABLE deleted_sessions ADD COLUMN outlived TEXT;

DROP VIEW all_sessions;
CREATE VIEW all_sessions AS
    SELECT id, key, agent, parent_key, root_key, depth, label, mode, cleanup, model, fallbacks, tools,
           yielded_run, on_parent_exit, outlived, created_at, updated_at
    FROM sessions
    UNION ALL
    SELECT id, key, agent, parent_key, root_key, depth, label, mode, cleanup, model, fallbacks, tools,
           yielded_run, on_parent_exit, outlived, created_at, updated_at
    FROM deleted_sessions;

-- A result whose receiver went away stays in the outbox, and nothing waits for it.
ALTER TABLE outbox ADD COLUMN abandoned INTEGER NOT NULL DEFAULT 0;
