-- Finding an object's events, in blocks of 512 events.
--
-- Pepay's object ids are random, so an index by them alone took a leaf of its own
-- for nearly every event that was stored: twice the pages to write, and to read as
-- well once it had outgrown the memory. Within a block, the few leaves that are
-- written are the same ones for a while; whoever looks for an object asks every block.
DROP INDEX event_object;
CREATE INDEX event_object ON event (sequence >> 9, object_id) WHERE object_id IS NOT NULL;
