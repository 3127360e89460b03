-- Replicas that end deliveries of the same old events, each for a target of its own, note these
-- events in an order of their own. By a unique key they waited for one another, in a circle that
-- the server ended as a deadlock. So an event may be noted more than once.
ALTER TABLE ripe DROP CONSTRAINT ripe_pkey;
CREATE INDEX ripe_sequence ON ripe (sequence);
