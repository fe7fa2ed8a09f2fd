-- Starts in a row that went on with runs and died before any was at work. One row.
CREATE TABLE starts (one INTEGER PRIMARY KEY CHECK (one = 1), died INTEGER NOT NULL) STRICT;
INSERT INTO starts (one, died) VALUES (1, 0);
