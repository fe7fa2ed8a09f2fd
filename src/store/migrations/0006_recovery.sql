-- What a start of the daemon decides on when it finds a run open.
ALTER TABLE runs ADD COLUMN used_ms INTEGER NOT NULL DEFAULT 0;     -- of the deadline
ALTER TABLE runs ADD COLUMN recovery TEXT;                          -- resume, interrupt; NULL: as configured
ALTER TABLE runs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;    -- starts in a row at which it was at work
