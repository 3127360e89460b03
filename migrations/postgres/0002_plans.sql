-- Fewer plans for each group of events and outcomes: two functions of one signature each, so
-- that programs of the version before go on beside this one.

-- Stores what of a group of events is new, as before. Its statements are planned once for a
-- connection, and so is the check that the target of a delivery exists. A table that is small
-- at that time may be large later: events are looked up one by one, by the index of their ids
-- (OFFSET 0 keeps that from becoming a join), and nothing that is given is joined with what is
-- given.
CREATE OR REPLACE FUNCTION append_events(
    accepted_at bigint, newest_arrival bigint, ordinary_skew bigint,
    ids text[], types text[], objects text[], creations bigint[], sources text[], origins text[],
    environments text[], arrivals bigint[], bodies bytea[], digests bytea[], order_lanes bigint[],
    orders text[], invoices text[],
    delivery_places bigint[], delivery_targets bigint[], delivery_lanes bigint[], delivery_ranks bigint[],
    link_places bigint[], link_invoices text[], link_orders text[],
    cursor_streams text[], cursor_events text[], cursor_creations bigint[], cursor_histories text[],
    cursor_terms bigint[]
) RETURNS TABLE (place bigint, new_sequence bigint, first_lag bigint, conflicts boolean, news boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    newest bigint;
    fresh  bigint[];
    -- By place: the sequence, or 0 where it is not new.
    given  bigint[] := array_fill(0::bigint, ARRAY[cardinality(ids)]);
    late   bigint;
    repeat record;
    known  boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('pepay-bridge append ' || current_schema(), 0));

    SELECT greatest((SELECT max(e.sequence) FROM event e), (SELECT r.events_through FROM retention r)) INTO newest;
    SELECT coalesce(array_agg(f.n ORDER BY f.n), '{}') INTO fresh FROM (
        SELECT min(i.n) AS n FROM unnest(ids) WITH ORDINALITY AS i (id, n)
        WHERE (SELECT e.sequence FROM event e WHERE e.id = i.id) IS NULL GROUP BY i.id
    ) f;

    FOR k IN 1 .. cardinality(fresh) LOOP
        given[fresh[k]] := newest + k;
    END LOOP;

    IF cardinality(fresh) > 0 THEN
        INSERT INTO event (sequence, id, type, object_id, created, source, origin, environment, received_at,
                           body, digest, order_lane, order_id, invoice_id)
        SELECT given[i.n], i.id, i.type, i.object_id, i.created, i.source, i.origin, i.environment,
               i.received_at, i.body, i.digest, i.order_lane, i.order_id, i.invoice_id
        FROM unnest(ids, types, objects, creations, sources, origins, environments, arrivals, bodies,
                    digests, order_lanes, orders, invoices) WITH ORDINALITY
             AS i (id, type, object_id, created, source, origin, environment, received_at, body,
                   digest, order_lane, order_id, invoice_id, n)
        WHERE given[i.n] > 0;

        INSERT INTO delivery (target_id, sequence, state, lane, rank)
        SELECT d.target_id, given[d.n], 'pending', d.lane, d.rank
        FROM unnest(delivery_places, delivery_targets, delivery_lanes, delivery_ranks)
             AS d (n, target_id, lane, rank)
        WHERE given[d.n] > 0;

        SELECT greatest(newest_arrival, (SELECT e.received_at FROM event e WHERE e.sequence = newest)) - min(i.at)
        INTO late FROM unnest(arrivals) WITH ORDINALITY AS i (at, n) WHERE given[i.n] > 0;
        IF late > ordinary_skew THEN
            UPDATE lateness l SET most = (late / 60000 + 1) * 60000 WHERE l.most < (late / 60000 + 1) * 60000;
        END IF;
        RETURN QUERY SELECT f.n, given[f.n], NULL::bigint, false, false FROM unnest(fresh) AS f (n);
    ELSIF cardinality(ids) > 0 THEN
        -- A repeat is acknowledged as durably as the first was: this commit writes to the
        -- log, and so is waited for wherever that one is.
        PERFORM pg_logical_emit_message(true, 'pepay-bridge', '');
    END IF;

    IF cardinality(link_places) > 0 THEN
        INSERT INTO order_link (invoice_id, order_id, sequence)
        SELECT l.invoice_id, l.order_id, e.sequence
        FROM unnest(link_places, link_invoices, link_orders) AS l (n, invoice_id, order_id)
        CROSS JOIN LATERAL (SELECT f.sequence FROM event f WHERE f.id = ids[l.n] OFFSET 0) e
        ON CONFLICT DO NOTHING;
    END IF;

    IF cardinality(fresh) < cardinality(ids) THEN
        RETURN QUERY
        WITH seen AS (
            SELECT DISTINCT ON (e.sequence, i.source) e.sequence, i.source, i.origin, i.at, i.n, e.received_at
            FROM unnest(ids, sources, origins, arrivals) WITH ORDINALITY AS i (id, source, origin, at, n)
            CROSS JOIN LATERAL (SELECT f.* FROM event f WHERE f.id = i.id OFFSET 0) e
            WHERE given[i.n] = 0 AND e.source <> i.source
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
            CROSS JOIN LATERAL (SELECT f.* FROM event f WHERE f.id = i.id OFFSET 0) e
            WHERE given[i.n] = 0 AND e.digest <> i.digest ORDER BY i.n
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

-- Stores what attempts at one target came to, under a term of its lease. Returns a row without
-- a state, whose number is 0 where that term is over, and how many deliveries have now which
-- state. An outcome of what was settled before changes nothing: the answer to an earlier try
-- of the same group was lost.
--
-- The lease is locked by a statement of its own, so that those behind it see what was
-- committed before.
CREATE FUNCTION settle_deliveries(
    of_lease text, of_term bigint, of_target bigint, held_rank bigint, kept bigint,
    sequences bigint[], numbers bigint[], states text[], dues bigint[], ends bigint[], starts bigint[],
    durations bigint[], statuses bigint[], errors text[], answers bytea[]
) RETURNS TABLE (state text, number bigint) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    removed bigint;
BEGIN
    PERFORM 1 FROM lease l WHERE l.name = of_lease AND l.term = of_term FOR KEY SHARE;
    GET DIAGNOSTICS number = ROW_COUNT;
    RETURN NEXT;
    IF number = 0 THEN
        RETURN;
    END IF;

    -- A plan of what joins is made anew each time: one that was made for a small table walks
    -- through a large one. Open deliveries are told by their states: by `settled_at` the server
    -- would go through the index of all that are open where its statistics are of a time when
    -- there were few. The target is given with each outcome: by one that is the same for all,
    -- the server would go through all of its deliveries where it has no statistics yet.
    SET LOCAL plan_cache_mode = force_custom_plan;
    IF 1 = ALL (numbers) AND 'delivered' = ALL (states) THEN
        UPDATE delivery d SET state = 'delivered', due_at = NULL, lane = NULL, attempts = 1, settled_at = g.settled_at,
               first_attempt_at = coalesce(d.first_attempt_at, g.started_at), status = g.status, duration_ms = g.duration_ms
        FROM unnest(sequences, ends, starts, durations, statuses, array_fill(of_target, ARRAY[cardinality(sequences)]))
             AS g (sequence, settled_at, started_at, duration_ms, status, target)
        WHERE d.target_id = g.target AND d.sequence = g.sequence AND d.state IN ('pending', 'sending', 'retrying')
          AND (d.attempts < 1 OR (d.attempts = 1 AND d.state = 'sending'));
        GET DIAGNOSTICS number = ROW_COUNT;
        state := 'delivered';
        RETURN NEXT;
    ELSE
        RETURN QUERY WITH settled AS (
            UPDATE delivery d SET state = g.state, due_at = g.due_at, attempts = g.number, settled_at = g.settled_at,
                   lane = CASE WHEN g.settled_at IS NULL THEN d.lane END,
                   rank = CASE WHEN g.state = 'held' THEN held_rank ELSE d.rank END,
                   first_attempt_at = coalesce(d.first_attempt_at, g.started_at),
                   status = CASE WHEN g.number = 1 AND g.state = 'delivered' THEN g.status END,
                   duration_ms = CASE WHEN g.number = 1 AND g.state = 'delivered' THEN g.duration_ms END
            FROM unnest(sequences, numbers, states, dues, ends, starts, durations, statuses, errors, answers,
                        array_fill(of_target, ARRAY[cardinality(sequences)]))
                 AS g (sequence, number, state, due_at, settled_at, started_at, duration_ms, status, error, answer, target)
            WHERE d.target_id = g.target AND d.sequence = g.sequence AND d.state IN ('pending', 'sending', 'retrying')
              AND (d.attempts < g.number OR (d.attempts = g.number AND d.state = 'sending'))
            RETURNING g.*
        ), logged AS (
            INSERT INTO attempt (target_id, sequence, number, started_at, duration_ms, status, error, answer)
            SELECT of_target, s.sequence, s.number, s.started_at, s.duration_ms, s.status, s.error, s.answer FROM settled s
            WHERE NOT (s.number = 1 AND s.state = 'delivered')
        ), pruned AS (
            DELETE FROM attempt a USING settled s WHERE a.target_id = of_target AND a.sequence = s.sequence
              AND s.number > kept AND a.number <= s.number - kept
        ) SELECT s.state, count(*) FROM settled s GROUP BY s.state;
    END IF;

    -- Retention may have passed over what ends here.
    SELECT r.payload_through INTO removed FROM retention r;
    IF removed >= ANY (sequences) THEN
        INSERT INTO ripe (sequence) SELECT g.sequence FROM unnest(sequences, states) AS g (sequence, state)
        WHERE g.sequence <= removed AND g.state IN ('delivered', 'dead') ON CONFLICT DO NOTHING;
    END IF;
END
$$;
