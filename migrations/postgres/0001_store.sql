-- Every event once, and one delivery for each target it matches: the tables of the SQLite
-- store (migrations/0001 to 0011), with the types and indexes of PostgreSQL.
--
-- Times are milliseconds since the Unix epoch unless a column says otherwise. Everything
-- is created in the schema that comes first in the search path.

CREATE TABLE event (
    -- The bridge's own order of acceptance, without gaps: numbered by append_events, which
    -- holds a lock until its transaction ends.
    sequence    bigint PRIMARY KEY,
    id          text   COLLATE "C" NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 255),
    type        text   NOT NULL,
    object_id   text   COLLATE "C",
    created     bigint NOT NULL,            -- by Pepay, in Unix seconds
    source      text   NOT NULL CHECK (source IN ('stream', 'webhook', 'backfill', 'reconcile')),
    origin      text   NOT NULL,            -- the configured stream or webhook endpoint
    environment text   CHECK (environment IN ('devnet', 'mainnet')),
    received_at bigint NOT NULL,
    body        bytea,                      -- exactly as Pepay sent it
    digest      bytea  CHECK (length(digest) = 16),
    order_lane  bigint,
    order_id    text   COLLATE "C",
    invoice_id  text   COLLATE "C"
);

-- In blocks of 512 events: ids are random, and within a block the same few leaves are written.
CREATE INDEX event_object ON event ((sequence >> 9), object_id) WHERE object_id IS NOT NULL;
CREATE INDEX event_order ON event ((sequence >> 9), order_id) WHERE order_id IS NOT NULL;
CREATE INDEX event_invoice ON event ((sequence >> 9), invoice_id) WHERE invoice_id IS NOT NULL;

CREATE TABLE target (
    id        bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name      text   COLLATE "C" NOT NULL UNIQUE,
    paused_at bigint,
    paused_reason       text COLLATE "C",
    retry_after_until   bigint,
    retry_after_address text COLLATE "C"
);

CREATE TABLE delivery (
    target_id        bigint NOT NULL REFERENCES target (id),
    -- An event's, without a foreign key: events are removed in one place, with their deliveries.
    sequence         bigint NOT NULL,
    state            text   NOT NULL CHECK (state IN (
        'pending', 'sending', 'retrying', 'held', 'delivered', 'dead', 'closed', 'cancelled')),
    lane             bigint,
    rank             bigint NOT NULL,
    due_at           bigint,
    attempts         bigint NOT NULL DEFAULT 0,
    replays          bigint NOT NULL DEFAULT 0 CHECK (replays >= 0),
    first_attempt_at bigint,
    settled_at       bigint,
    -- The first attempt, where it was acknowledged.
    status           bigint,
    duration_ms      bigint,
    PRIMARY KEY (target_id, sequence),
    CHECK ((settled_at IS NOT NULL) = (state IN ('delivered', 'dead', 'closed', 'cancelled'))),
    CHECK (settled_at IS NULL OR (lane IS NULL AND due_at IS NULL)),
    CHECK (due_at IS NULL OR state IN ('pending', 'retrying')),
    CHECK ((first_attempt_at IS NULL) = (attempts = 0)),
    CHECK (attempts > 0 OR state IN ('pending', 'dead', 'cancelled'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE INDEX delivery_lane ON delivery (target_id, lane, rank, sequence) WHERE lane IS NOT NULL;
CREATE INDEX delivery_open ON delivery (target_id, state, sequence) WHERE settled_at IS NULL;
CREATE INDEX delivery_due ON delivery (target_id, due_at, sequence) WHERE due_at IS NOT NULL;
CREATE INDEX delivery_dead ON delivery (target_id, sequence) WHERE state = 'dead';
-- In the order in which they died.
CREATE INDEX delivery_dead_age ON delivery (settled_at) WHERE state = 'dead';
CREATE INDEX delivery_decided ON delivery (target_id, state, sequence) WHERE state IN ('closed', 'cancelled');
-- Events are removed by sequence alone.
CREATE INDEX delivery_sequence ON delivery (sequence, target_id);

CREATE TABLE attempt (
    target_id   bigint NOT NULL,
    sequence    bigint NOT NULL,
    number      bigint NOT NULL CHECK (number > 0),
    started_at  bigint NOT NULL,
    duration_ms bigint NOT NULL,
    status      bigint,
    error       text,
    answer      bytea,
    PRIMARY KEY (target_id, sequence, number),
    FOREIGN KEY (target_id, sequence) REFERENCES delivery (target_id, sequence) ON DELETE CASCADE
);

CREATE TABLE sighting (
    sequence bigint NOT NULL,
    source   text   NOT NULL CHECK (source IN ('stream', 'webhook', 'backfill', 'reconcile')),
    origin   text   NOT NULL,
    at       bigint NOT NULL,
    PRIMARY KEY (sequence, source)
);

CREATE TABLE conflict (
    sequence    bigint NOT NULL,
    digest      bytea  NOT NULL,
    source      text   NOT NULL CHECK (source IN ('stream', 'webhook', 'backfill', 'reconcile')),
    origin      text   NOT NULL,
    type        text   NOT NULL,
    received_at bigint NOT NULL,
    size        bigint NOT NULL,
    body        bytea,
    PRIMARY KEY (sequence, digest, source)
);

CREATE TABLE order_link (
    invoice_id text   COLLATE "C" PRIMARY KEY,
    order_id   text   COLLATE "C" NOT NULL,
    sequence   bigint NOT NULL
);
CREATE INDEX order_link_event ON order_link (sequence);

CREATE TABLE stream_cursor (
    stream   text   COLLATE "C" PRIMARY KEY,
    event_id text,
    created  bigint NOT NULL,
    moved_at bigint NOT NULL,
    history  text
);

CREATE TABLE heartbeat (
    id bigint PRIMARY KEY CHECK (id = 1),
    at bigint NOT NULL
);

CREATE TABLE retention (
    id              bigint PRIMARY KEY CHECK (id = 1),
    payload_through bigint NOT NULL,
    events_through  bigint NOT NULL,
    CHECK (events_through <= payload_through)
);
INSERT INTO retention (id, payload_through, events_through) VALUES (1, 0, 0);

CREATE TABLE ripe (
    sequence bigint PRIMARY KEY
);

CREATE TABLE lateness (
    id   bigint PRIMARY KEY CHECK (id = 1),
    most bigint NOT NULL
);
INSERT INTO lateness (id, most) VALUES (1, 0);

-- Which Pepay account the events of a source come from, as far as it is known.
CREATE TABLE source_identity (
    source      text   COLLATE "C" PRIMARY KEY, -- a stream's name; '' is [pepay], which stands for webhooks
    api_url     text   NOT NULL,
    environment text   CHECK (environment IN ('devnet', 'mainnet')),
    account     text,
    since       bigint NOT NULL
);

-- What operators have changed and whose bodies they have read.
CREATE TABLE audit (
    id       bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    key      bigint NOT NULL UNIQUE,            -- drawn at random, so that a repeated write is noticed
    at       bigint NOT NULL,
    kind     text   NOT NULL CHECK (kind IN ('change', 'read')),
    who      text,
    peer     text,
    client   text   NOT NULL,
    action   text   NOT NULL,
    target   text,
    stream   text,
    event_id text,
    filter   text,
    count    bigint NOT NULL,
    outcome  text   NOT NULL
);
CREATE INDEX audit_kind ON audit (kind, id);

-- The processes that share the store. Times are those of the database's clock alone.
CREATE TABLE replica (
    id         text  COLLATE "C" PRIMARY KEY,   -- drawn at random by each process
    about      jsonb NOT NULL,                  -- its name, version and configuration, and what it reports
    wants      text[] NOT NULL,                 -- the leases that it would hold
    joined_at  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Who delivers to a target (target/NAME), reads a stream (stream/NAME), keeps house
-- (housekeeping). A row is made once and taken by UPDATE; a term only grows, and with every
-- new holder.
CREATE TABLE lease (
    name       text   COLLATE "C" PRIMARY KEY,
    holder     text   COLLATE "C",
    term       bigint NOT NULL,
    taken_at   timestamptz,
    expires_at timestamptz NOT NULL,
    UNIQUE (name, term)
) WITH (fillfactor = 50);

-- What a replica asks of the holder of a lease. Answered in the transaction of its effect.
CREATE TABLE request (
    id       text  COLLATE "C" PRIMARY KEY,     -- drawn at random
    lease    text  COLLATE "C" NOT NULL,
    body     jsonb NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    answer   jsonb
);
CREATE INDEX request_open ON request (lease, asked_at) WHERE answer IS NULL;

-- Renews what replica `me` holds and says that it lives. Returns all leases, all living
-- replicas, the requests that wait for a holder of these leases, and the newest sequence.
CREATE FUNCTION beat(me text, my_about jsonb, my_wants text[], held text[], terms bigint[], lasts interval)
RETURNS jsonb LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    now_is timestamptz := clock_timestamp();
BEGIN
    INSERT INTO replica AS r (id, about, wants, joined_at, expires_at)
    VALUES (me, my_about, my_wants, now_is, now_is + lasts)
    ON CONFLICT (id) DO UPDATE
    SET about = excluded.about, wants = excluded.wants, expires_at = excluded.expires_at;
    INSERT INTO lease (name, term, expires_at)
    SELECT w.name, 0, '-infinity' FROM unnest(my_wants) AS w (name)
    WHERE NOT EXISTS (SELECT 1 FROM lease l WHERE l.name = w.name) ORDER BY w.name
    ON CONFLICT DO NOTHING;
    UPDATE lease l SET expires_at = now_is + lasts
    FROM (SELECT m.name FROM lease m JOIN unnest(held, terms) AS h (name, term)
          ON m.name = h.name AND m.term = h.term AND m.holder = me
          ORDER BY m.name FOR NO KEY UPDATE OF m) mine
    WHERE l.name = mine.name;
    DELETE FROM replica r WHERE r.expires_at < now_is - interval '1 minute';
    DELETE FROM request q WHERE q.asked_at < now_is - interval '5 minutes';
    RETURN jsonb_build_object(
        'leases', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', l.name, 'holder', l.holder, 'term', l.term,
            'taken_at', (extract(epoch FROM l.taken_at) * 1000)::bigint,
            'left_ms', (extract(epoch FROM greatest(l.expires_at, now_is - interval '1 hour') - now_is) * 1000)::bigint)),
            '[]') FROM lease l),
        'replicas', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'id', r.id, 'about', r.about, 'wants', r.wants,
            'joined_at', (extract(epoch FROM r.joined_at) * 1000)::bigint)
            ORDER BY r.joined_at, r.id), '[]') FROM replica r WHERE r.expires_at > now_is),
        'requests', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'id', q.id, 'lease', q.lease, 'body', q.body) ORDER BY q.asked_at), '[]')
            FROM (SELECT * FROM request w WHERE w.answer IS NULL AND w.lease = ANY (held)
                  ORDER BY w.asked_at LIMIT 16) q),
        'paused', (SELECT coalesce(jsonb_agg(t.name ORDER BY t.name), '[]') FROM target t
                   WHERE t.paused_at IS NOT NULL),
        'newest', (SELECT greatest((SELECT max(e.sequence) FROM event e),
                                   (SELECT r.events_through FROM retention r))));
END
$$;

-- Takes those of the leases that are free. One whose last holder is just writing is left
-- for the next time.
CREATE FUNCTION take_leases(me text, names text[], lasts interval)
RETURNS TABLE (taken text, new_term bigint) LANGUAGE sql SET search_path FROM CURRENT AS $$
    UPDATE lease l
    SET holder = me, term = l.term + 1, taken_at = clock_timestamp(), expires_at = clock_timestamp() + lasts
    FROM (SELECT f.name FROM lease f WHERE f.name = ANY (names) AND f.expires_at < clock_timestamp()
          ORDER BY f.name FOR UPDATE SKIP LOCKED) free
    WHERE l.name = free.name RETURNING l.name, l.term
$$;

-- Asks the holder of a lease for something, and says so to whoever listens on `channel`.
CREATE FUNCTION ask(request_id text, of_lease text, what jsonb, channel text)
RETURNS void LANGUAGE sql SET search_path FROM CURRENT AS $$
    INSERT INTO request (id, lease, body) VALUES (request_id, of_lease, what);
    SELECT pg_notify(channel, 'request');
$$;

-- Gives leases back, and says so to whoever listens on `channel`.
CREATE FUNCTION give_back(me text, names text[], terms bigint[], leaves boolean, channel text)
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE lease l SET expires_at = clock_timestamp(), holder = NULL
    FROM (SELECT m.name FROM lease m JOIN unnest(names, terms) AS h (name, term)
          ON m.name = h.name AND m.term = h.term AND m.holder = me
          ORDER BY m.name FOR NO KEY UPDATE OF m) mine
    WHERE l.name = mine.name;
    IF leaves THEN
        DELETE FROM replica r WHERE r.id = me;
    END IF;
    PERFORM pg_notify(channel, 'lease');
END
$$;

-- Stores what of a group of events is new, in one call: numbers it without a gap, gives it
-- its deliveries, notes by which sources the rest came and what it says otherwise, and moves
-- the cursors whose terms stand. Events are told by their place in the arrays, from 1.
--
-- The lock makes the order of commits the order of sequences. It is taken by a statement of
-- its own, so that those behind it see what its last holder has committed.
CREATE FUNCTION append_events(
    accepted_at bigint, newest_arrival bigint, ordinary_skew bigint,
    ids text[], types text[], objects text[], creations bigint[], sources text[], origins text[],
    environments text[], arrivals bigint[], bodies bytea[], digests bytea[], order_lanes bigint[],
    orders text[], invoices text[],
    delivery_places bigint[], delivery_targets bigint[], delivery_lanes bigint[], delivery_ranks bigint[],
    link_places bigint[], link_invoices text[], link_orders text[],
    cursor_streams text[], cursor_events text[], cursor_creations bigint[], cursor_histories text[],
    cursor_terms bigint[]
) RETURNS TABLE (place bigint, new_sequence bigint, first_lag bigint, conflicts boolean, news boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    newest bigint;
    fresh  bigint[];
    late   bigint;
    repeat record;
    known  boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('pepay-bridge append ' || current_schema(), 0));

    SELECT greatest((SELECT max(e.sequence) FROM event e), (SELECT r.events_through FROM retention r)) INTO newest;
    SELECT coalesce(array_agg(f.n ORDER BY f.n), '{}') INTO fresh FROM (
        SELECT min(i.n) AS n FROM unnest(ids) WITH ORDINALITY AS i (id, n)
        WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.id = i.id) GROUP BY i.id
    ) f;

    IF cardinality(fresh) > 0 THEN
        INSERT INTO event (sequence, id, type, object_id, created, source, origin, environment, received_at,
                           body, digest, order_lane, order_id, invoice_id)
        SELECT newest + f.k, i.id, i.type, i.object_id, i.created, i.source, i.origin, i.environment,
               i.received_at, i.body, i.digest, i.order_lane, i.order_id, i.invoice_id
        FROM unnest(ids, types, objects, creations, sources, origins, environments, arrivals, bodies,
                    digests, order_lanes, orders, invoices) WITH ORDINALITY
             AS i (id, type, object_id, created, source, origin, environment, received_at, body,
                   digest, order_lane, order_id, invoice_id, n)
        JOIN unnest(fresh) WITH ORDINALITY AS f (n, k) ON f.n = i.n;

        INSERT INTO delivery (target_id, sequence, state, lane, rank)
        SELECT d.target_id, newest + f.k, 'pending', d.lane, d.rank
        FROM unnest(delivery_places, delivery_targets, delivery_lanes, delivery_ranks)
             AS d (n, target_id, lane, rank)
        JOIN unnest(fresh) WITH ORDINALITY AS f (n, k) ON f.n = d.n;

        SELECT max(greatest(newest_arrival,
                            (SELECT e.received_at FROM event e WHERE e.sequence = newest)) - i.at)
        INTO late FROM unnest(arrivals) WITH ORDINALITY AS i (at, n) WHERE i.n = ANY (fresh);
        IF late > ordinary_skew THEN
            UPDATE lateness l SET most = (late / 60000 + 1) * 60000 WHERE l.most < (late / 60000 + 1) * 60000;
        END IF;
        RETURN QUERY SELECT f.n, newest + f.k, NULL::bigint, false, false
                     FROM unnest(fresh) WITH ORDINALITY AS f (n, k);
    ELSIF cardinality(ids) > 0 THEN
        -- A repeat is acknowledged as durably as the first was: this commit writes to the
        -- log, and so is waited for wherever that one is.
        PERFORM pg_logical_emit_message(true, 'pepay-bridge', '');
    END IF;

    IF cardinality(link_places) > 0 THEN
        INSERT INTO order_link (invoice_id, order_id, sequence)
        SELECT l.invoice_id, l.order_id, e.sequence
        FROM unnest(link_places, link_invoices, link_orders) AS l (n, invoice_id, order_id)
        JOIN event e ON e.id = ids[l.n]
        ON CONFLICT DO NOTHING;
    END IF;

    IF cardinality(fresh) < cardinality(ids) THEN
        RETURN QUERY
        WITH seen AS (
            SELECT DISTINCT ON (e.sequence, i.source) e.sequence, i.source, i.origin, i.at, i.n, e.received_at
            FROM unnest(ids, sources, origins, arrivals) WITH ORDINALITY AS i (id, source, origin, at, n)
            JOIN event e ON e.id = i.id
            WHERE i.n <> ALL (fresh) AND e.source <> i.source
            ORDER BY e.sequence, i.source, i.n
        ), noted AS (
            INSERT INTO sighting AS s (sequence, source, origin, at)
            SELECT seen.sequence, seen.source, seen.origin, seen.at FROM seen
            ON CONFLICT DO NOTHING RETURNING s.sequence, s.source
        )
        SELECT seen.n, 0::bigint, seen.at - seen.received_at, false, false
        FROM seen JOIN noted ON noted.sequence = seen.sequence AND noted.source = seen.source;

        FOR repeat IN
            SELECT i.*, e.sequence AS of
            FROM unnest(ids, types, sources, origins, arrivals, digests, bodies) WITH ORDINALITY
                 AS i (id, type, source, origin, at, digest, body, n)
            JOIN event e ON e.id = i.id
            WHERE i.n <> ALL (fresh) AND e.digest <> i.digest ORDER BY i.n
        LOOP
            known := EXISTS (SELECT 1 FROM conflict c WHERE c.sequence = repeat.of
                             AND c.digest = repeat.digest AND c.source = repeat.source);
            -- At most 8 of one event are kept, each body once and none above 256 KiB.
            IF NOT known AND (SELECT count(*) FROM conflict c WHERE c.sequence = repeat.of) < 8 THEN
                INSERT INTO conflict (sequence, digest, source, origin, type, received_at, size, body)
                VALUES (repeat.of, repeat.digest, repeat.source, repeat.origin, repeat.type, repeat.at,
                        octet_length(repeat.body),
                        CASE WHEN octet_length(repeat.body) <= 262144 AND NOT EXISTS (
                            SELECT 1 FROM conflict c WHERE c.sequence = repeat.of AND c.digest = repeat.digest)
                        THEN repeat.body END);
            END IF;
            RETURN QUERY SELECT repeat.n, 0::bigint, NULL::bigint, true, NOT known;
        END LOOP;
    END IF;

    FOR n IN 1 .. cardinality(cursor_streams) LOOP
        -- A cursor of a term that is over stays. A take-over waits for the end of this.
        PERFORM 1 FROM lease l
        WHERE l.name = 'stream/' || cursor_streams[n] AND l.term = cursor_terms[n] FOR KEY SHARE;
        CONTINUE WHEN NOT FOUND;
        INSERT INTO stream_cursor AS c (stream, event_id, created, moved_at, history)
        VALUES (cursor_streams[n], cursor_events[n], cursor_creations[n], accepted_at, cursor_histories[n])
        ON CONFLICT (stream) DO UPDATE
        SET event_id = excluded.event_id, created = excluded.created, moved_at = excluded.moved_at,
            history = coalesce(excluded.history, c.history);
    END LOOP;
END
$$;
