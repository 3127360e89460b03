-- Which types and filters a stream has subscribed to, and since when: a line for
-- each subscription. NULL for a cursor of an earlier version, which did not note it.
ALTER TABLE stream_cursor ADD COLUMN history TEXT;
