-- Whether a run's result was ever put on its way. Whether it has arrived shows in the outbox, which holds it until then:
-- a parent that stops takes the results of thousands, and need not write to each of their runs.
ALTER TABLE runs ADD COLUMN announced INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET announced = 1 WHERE delivery IS NOT NULL;
ALTER TABLE runs DROP COLUMN delivery;
