-- The order of the deliveries of a lane is decided in memory, by the dispatcher of the
-- target. A row keeps its place in the lane from the beginning, and only a retry has a
-- time at which it is due.

DROP INDEX delivery_fresh;
DROP INDEX delivery_retry;
UPDATE delivery SET due_at = NULL WHERE settled_at IS NULL AND state = 'pending' AND due_at IS NOT NULL;

-- A retry is due even if others of its lane come before it.
UPDATE delivery SET due_at = first_attempt_at WHERE settled_at IS NULL AND state = 'retrying' AND due_at IS NULL;
CREATE INDEX delivery_due ON delivery (target_id, due_at, sequence) WHERE due_at IS NOT NULL;

-- What is held comes before all that wait in its lane.
UPDATE delivery SET rank = 0 WHERE settled_at IS NULL AND state = 'held';

-- The first attempt, where it was acknowledged. Others have a row of their own.
ALTER TABLE delivery ADD COLUMN status INTEGER;
ALTER TABLE delivery ADD COLUMN duration_ms INTEGER;
