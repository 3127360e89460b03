-- What an event says, so that another event under the same id is noticed.

-- The digest of type, creation time and data. NULL for an event that an earlier
-- version stored: nothing is said of its repeats. It outlives the body.
ALTER TABLE event ADD COLUMN digest BLOB CHECK (length(digest) = 16);

-- The lane of its order, where a target with ordering "per_order" existed when it
-- was stored.
ALTER TABLE event ADD COLUMN order_lane INTEGER;

-- Events that came under the id of another one; never delivered. The same content
-- is kept once for each source.
CREATE TABLE conflict (
    sequence    INTEGER NOT NULL,           -- of the event that was first
    digest      BLOB    NOT NULL,
    source      TEXT    NOT NULL CHECK (
        source = 'stream' OR source = 'webhook' OR source = 'backfill' OR source = 'reconcile'
    ),
    origin      TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    size        INTEGER NOT NULL,           -- of the body, in bytes
    body        BLOB,                       -- NULL if it is too large, kept already, or removed
    PRIMARY KEY (sequence, digest, source)
) STRICT, WITHOUT ROWID;

-- Which order an invoice belongs to, written while a target has ordering "per_order".
CREATE TABLE order_link (
    invoice_id TEXT    PRIMARY KEY,
    order_id   TEXT    NOT NULL,
    sequence   INTEGER NOT NULL             -- of the event that named both
) STRICT, WITHOUT ROWID;
CREATE INDEX order_link_event ON order_link (sequence);

-- Events whose object earlier versions did not read: an order under `orderId` or
-- `order_id`, an id that is a number. Rows that name an object are passed over
-- without a look at their body; a text with a surrogate escape is left alone, since
-- half of a pair is no Unicode.
UPDATE event SET object_id = (
    SELECT CAST(field.atom AS TEXT) FROM json_each(CAST(event.body AS TEXT), '$.data.object') field
    WHERE (field.type = 'text' OR field.type = 'integer') AND octet_length(CAST(field.atom AS TEXT)) BETWEEN 1 AND 255
      AND (field.key = 'id'
           OR (event.type LIKE 'commerce.order.%' AND (field.key = 'orderId' OR field.key = 'order_id'))
           OR (event.type LIKE 'invoice.%' AND (field.key = 'invoiceId' OR field.key = 'invoice_id')))
    ORDER BY CASE field.key WHEN 'id' THEN 0 WHEN 'orderId' THEN 1 WHEN 'invoiceId' THEN 1 ELSE 2 END LIMIT 1
)
WHERE object_id IS NULL AND body IS NOT NULL
  AND instr(CAST(body AS TEXT), '\ud') = 0 AND instr(CAST(body AS TEXT), '\uD') = 0
  AND json_valid(CAST(body AS TEXT));
