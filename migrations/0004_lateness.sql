-- By how much, at most, an event has arrived before one that was accepted earlier.
-- Whoever looks for a time among the sequences looks that far around it.
CREATE TABLE lateness (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    most INTEGER NOT NULL                   -- in milliseconds; 0 as long as none was out of the ordinary
) STRICT;
INSERT INTO lateness (id, most) VALUES (1, 0);
