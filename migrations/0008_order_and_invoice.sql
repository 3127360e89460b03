-- Finding the invoices of an order and the payments of an invoice.
--
-- The ids that an event names besides its object; NULL for the events of an order,
-- which are most, since an entry of an index costs a tenth of storing an event. Events
-- that an earlier version stored are found by their object alone.
ALTER TABLE event ADD COLUMN order_id TEXT;
ALTER TABLE event ADD COLUMN invoice_id TEXT;

-- In blocks of 512 events, as the index of objects and for its reason.
CREATE INDEX event_order ON event (sequence >> 9, order_id) WHERE order_id IS NOT NULL;
CREATE INDEX event_invoice ON event (sequence >> 9, invoice_id) WHERE invoice_id IS NOT NULL;
