-- First attempts and retries that are due, each in an index of its own, so that a
-- crowd of the one never stands before the other.
--
-- `state` is compared to one value: SQLite then answers from the index alone.
DROP INDEX delivery_due;
CREATE INDEX delivery_fresh ON delivery (target_id, due_at, sequence) WHERE due_at IS NOT NULL AND state = 'pending';
CREATE INDEX delivery_retry ON delivery (target_id, due_at, sequence) WHERE due_at IS NOT NULL AND state = 'retrying';
