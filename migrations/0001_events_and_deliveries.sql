-- Every event once, and one delivery for each target it matches.
--
-- Times are milliseconds since the Unix epoch unless a column says otherwise.

CREATE TABLE event (
    -- The bridge's own order of acceptance, without gaps. A rowid table with a
    -- UNIQUE id: keying the bodies by id would cost two to three times as much.
    sequence    INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 255),
    type        TEXT    NOT NULL,
    object_id   TEXT,
    created     INTEGER NOT NULL,           -- by Pepay, in Unix seconds
    source      TEXT    NOT NULL CHECK (source IN ('stream', 'webhook', 'backfill', 'reconcile')),
    origin      TEXT    NOT NULL,           -- the configured stream or webhook endpoint
    environment TEXT    CHECK (environment IN ('devnet', 'mainnet')),
    received_at INTEGER NOT NULL,
    body        BLOB                        -- exactly as Pepay sent it
) STRICT;

CREATE TABLE target (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Mirrors domain::delivery. What is due, and what waits for its turn, is told by
-- two columns that are set only while they mean something, so that the partial
-- indexes below hold what is unfinished and nothing else.
CREATE TABLE delivery (
    target_id        INTEGER NOT NULL REFERENCES target (id),
    sequence         INTEGER NOT NULL REFERENCES event (sequence),
    state            TEXT    NOT NULL CHECK (state IN ('pending', 'sending', 'retrying', 'held', 'delivered', 'dead')),
    -- Deliveries of one lane go one at a time; NULL is no lane, or settled.
    lane             INTEGER,
    -- The order within a lane: 0 for the delivery whose turn it is, and above it
    -- Pepay's order where ids carry it.
    rank             INTEGER NOT NULL,
    -- When to send. Of a lane, only the delivery whose turn it is can have one.
    due_at           INTEGER,
    attempts         INTEGER NOT NULL DEFAULT 0,
    first_attempt_at INTEGER,
    settled_at       INTEGER,
    PRIMARY KEY (target_id, sequence),
    CHECK ((settled_at IS NOT NULL) = (state IN ('delivered', 'dead'))),
    CHECK (settled_at IS NULL OR (lane IS NULL AND due_at IS NULL)),
    CHECK (due_at IS NULL OR state IN ('pending', 'retrying')),
    CHECK ((first_attempt_at IS NULL) = (attempts = 0)),
    CHECK (attempts > 0 OR state IN ('pending', 'dead'))
) STRICT, WITHOUT ROWID;

CREATE INDEX delivery_due ON delivery (target_id, due_at, sequence) WHERE due_at IS NOT NULL;
CREATE INDEX delivery_lane ON delivery (target_id, lane, rank, sequence) WHERE lane IS NOT NULL;
CREATE INDEX delivery_open ON delivery (target_id, state, sequence) WHERE settled_at IS NULL;
CREATE INDEX delivery_dead ON delivery (target_id, sequence) WHERE state = 'dead';

CREATE TABLE attempt (
    target_id   INTEGER NOT NULL,
    sequence    INTEGER NOT NULL,
    number      INTEGER NOT NULL CHECK (number > 0),
    started_at  INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    status      INTEGER,                    -- of HTTP, where there was an answer
    error       TEXT,                       -- what went wrong, NULL on success
    answer      BLOB,                       -- the first bytes of a failed answer
    PRIMARY KEY (target_id, sequence, number),
    FOREIGN KEY (target_id, sequence) REFERENCES delivery (target_id, sequence) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Up to where each stream has stored everything.
CREATE TABLE stream_cursor (
    stream   TEXT    PRIMARY KEY,
    event_id TEXT,                          -- NULL: the account held no event yet
    created  INTEGER NOT NULL,              -- of that event, in Unix seconds
    moved_at INTEGER NOT NULL
) STRICT;

-- Written by the readiness probe, to see that commits work.
CREATE TABLE heartbeat (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;
