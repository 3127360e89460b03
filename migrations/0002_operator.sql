-- The operator's surface: what a person does about deliveries, which sources
-- brought an event, and what has been removed.
--
-- `delivery` is rebuilt, because SQLite cannot change a CHECK. It runs with
-- foreign keys off (see `schema.rs`), else dropping the old table would take the
-- attempts with it.
--
-- Its conditions name their values by OR. For more than two of them SQLite fills a
-- temporary table with the list of an IN, for every row it writes: with IN, storing
-- and settling an event took twice the instructions.

CREATE TABLE delivery_new (
    target_id        INTEGER NOT NULL REFERENCES target (id),
    -- An event's, without a foreign key: there is no index by sequence alone, and
    -- removing an event would search the whole table for what refers to it. Events
    -- are removed in one place, together with their deliveries.
    sequence         INTEGER NOT NULL,
    state            TEXT    NOT NULL CHECK (
        state = 'pending' OR state = 'sending' OR state = 'retrying' OR state = 'held'
        OR state = 'delivered' OR state = 'dead' OR state = 'closed' OR state = 'cancelled'
    ),
    -- Deliveries of one lane go one at a time; NULL is no lane, or settled.
    lane             INTEGER,
    -- The order within a lane: 0 for the delivery whose turn it is, and above it
    -- Pepay's order where ids carry it.
    rank             INTEGER NOT NULL,
    -- When to send. Of a lane, only the delivery whose turn it is can have one.
    due_at           INTEGER,
    attempts         INTEGER NOT NULL DEFAULT 0,
    -- How often a person has had it sent again after it had ended.
    replays          INTEGER NOT NULL DEFAULT 0 CHECK (replays >= 0),
    -- The first attempt, or the time since which giving up is counted anew.
    first_attempt_at INTEGER,
    settled_at       INTEGER,
    PRIMARY KEY (target_id, sequence),
    CHECK ((settled_at IS NOT NULL) =
           (state = 'delivered' OR state = 'dead' OR state = 'closed' OR state = 'cancelled')),
    CHECK (settled_at IS NULL OR (lane IS NULL AND due_at IS NULL)),
    CHECK (due_at IS NULL OR state = 'pending' OR state = 'retrying'),
    CHECK ((first_attempt_at IS NULL) = (attempts = 0)),
    CHECK (attempts > 0 OR state = 'pending' OR state = 'dead' OR state = 'cancelled')
) STRICT, WITHOUT ROWID;

INSERT INTO delivery_new (target_id, sequence, state, lane, rank, due_at, attempts, first_attempt_at, settled_at)
SELECT target_id, sequence, state, lane, rank, due_at, attempts, first_attempt_at, settled_at
FROM delivery ORDER BY target_id, sequence;

DROP TABLE delivery;
ALTER TABLE delivery_new RENAME TO delivery;

CREATE INDEX delivery_due ON delivery (target_id, due_at, sequence) WHERE due_at IS NOT NULL;
CREATE INDEX delivery_lane ON delivery (target_id, lane, rank, sequence) WHERE lane IS NOT NULL;
CREATE INDEX delivery_open ON delivery (target_id, state, sequence) WHERE settled_at IS NULL;
CREATE INDEX delivery_dead ON delivery (target_id, sequence) WHERE state = 'dead';
CREATE INDEX delivery_decided ON delivery (target_id, state, sequence) WHERE state IN ('closed', 'cancelled');

-- The same for `event`, whose rows stay: only the text of the condition changes, in
-- the way that SQLite documents for a CHECK (lang_altertable, section 7).
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
SET sql = replace(sql, 'source IN (''stream'', ''webhook'', ''backfill'', ''reconcile'')',
                  'source = ''stream'' OR source = ''webhook'' OR source = ''backfill'' OR source = ''reconcile''')
WHERE type = 'table' AND name = 'event';
PRAGMA writable_schema = RESET;

-- The first time each further source brought an event; the event's own row tells
-- of the source that was first.
CREATE TABLE sighting (
    sequence INTEGER NOT NULL,
    source   TEXT    NOT NULL CHECK (
        source = 'stream' OR source = 'webhook' OR source = 'backfill' OR source = 'reconcile'
    ),
    origin   TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (sequence, source)
) STRICT, WITHOUT ROWID;

CREATE INDEX event_object ON event (object_id, sequence) WHERE object_id IS NOT NULL;

-- Since when a person has a target stopped.
ALTER TABLE target ADD COLUMN paused_at INTEGER;

-- How far what is old has been removed, by sequence.
CREATE TABLE retention (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    -- Bodies and attempts, of events whose deliveries are done.
    payload_through INTEGER NOT NULL,
    -- Whole events, but for those with deliveries left to make or decide on.
    events_through  INTEGER NOT NULL,
    CHECK (events_through <= payload_through)
) STRICT;
INSERT INTO retention (id, payload_through, events_through)
VALUES (1, coalesce((SELECT min(sequence) - 1 FROM event), 0), coalesce((SELECT min(sequence) - 1 FROM event), 0));

-- Events that were passed over because a delivery had not ended, and of which one
-- has ended since: to be looked at again.
CREATE TABLE ripe (
    sequence INTEGER PRIMARY KEY
) STRICT;
