-- Dead deliveries by their age, and which Pepay account the events of a store are of.

-- What is dead and waits for an operator, in the order in which it died.
CREATE INDEX delivery_dead_age ON delivery (settled_at) WHERE state = 'dead';

-- Which Pepay account the events of a source come from, as far as it is known. A store
-- without any row takes the first one it sees.
CREATE TABLE source_identity (
    source      TEXT    PRIMARY KEY,        -- a stream's name; '' is [pepay], which stands for webhooks
    api_url     TEXT    NOT NULL,
    environment TEXT    CHECK (environment = 'devnet' OR environment = 'mainnet'),
    account     TEXT,                       -- Pepay's merchant id, once a token has named it
    since       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
