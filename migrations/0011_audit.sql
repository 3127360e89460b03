-- What operators have changed and whose bodies they have read.
CREATE TABLE audit (
    id       INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice: one that is missing was removed
    key      INTEGER NOT NULL UNIQUE,           -- drawn at random by the writer, so that a repeated write is noticed
    at       INTEGER NOT NULL,                  -- when it was asked for, in Unix milliseconds
    kind     TEXT    NOT NULL CHECK (kind = 'change' OR kind = 'read'),
    who      TEXT,                              -- the name of the token; NULL where none is asked for
    peer     TEXT,
    client   TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    target   TEXT,
    stream   TEXT,
    event_id TEXT,
    filter   TEXT,
    count    INTEGER NOT NULL,
    outcome  TEXT    NOT NULL
) STRICT;
CREATE INDEX audit_kind ON audit (kind, id);
