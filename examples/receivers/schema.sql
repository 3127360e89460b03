-- The tables of every receiver in this folder, PostgreSQL.

-- One row for each event that has been taken: its presence is what makes a repeat a repeat.
CREATE TABLE IF NOT EXISTS received (
    webhook_id text PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now()
);

-- What the events are about. `changes` counts the events that were applied.
CREATE TABLE IF NOT EXISTS orders (
    id text PRIMARY KEY,
    status text,
    changes bigint NOT NULL
);
