-- Other servers than before, and other clocks: two standbys that get the same timeline, a copy by
-- logical replication, a server whose clock is behind that of the previous one.

-- Two standbys get the same timeline if the second one is promoted without knowing of the first. So a
-- server has a mark besides, which is drawn whenever it is found to be another one. The mark is empty
-- until then, so that programs of the version before notice no change.
ALTER TABLE server_history ADD COLUMN mark text NOT NULL DEFAULT '', ADD COLUMN lowest bigint;
UPDATE server_history SET lowest = least_term(server);
ALTER TABLE server_history ALTER COLUMN lowest SET NOT NULL;

-- Returns what the server is, as before. The terms of a server that is lost are not known. They have
-- begun at the time at which it was found to be another one, in milliseconds, and have grown by one
-- with each holder since. So those that begin now are greater.
CREATE OR REPLACE FUNCTION compare_history() RETURNS text LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    found_now text := current_history();
    known     text;
BEGIN
    SELECT h.server || h.mark INTO known FROM server_history h WHERE h.server = found_now;
    IF FOUND THEN
        RETURN known;
    END IF;
    -- Waits for another replica that does the same, and does nothing after it.
    INSERT INTO server_history AS h (id, server, mark, lowest)
    VALUES (1, found_now, '/' || gen_random_uuid(),
            greatest(least_term(found_now), (extract(epoch FROM clock_timestamp()) * 1000)::bigint))
    ON CONFLICT (id) DO UPDATE SET server = excluded.server, mark = excluded.mark, lowest = excluded.lowest
    WHERE h.server <> excluded.server;
    IF FOUND THEN
        UPDATE lease l SET term = greatest(l.term + 1000000, h.lowest), holder = NULL
        FROM server_history h, (SELECT m.name FROM lease m ORDER BY m.name FOR UPDATE) every
        WHERE l.name = every.name;
        -- Logical replication has not filled these.
        PERFORM setval('target_id_seq', t.id)
        FROM (SELECT max(m.id) AS id FROM target m) t, target_id_seq s WHERE t.id >= s.last_value;
        PERFORM setval('audit_id_seq', t.id)
        FROM (SELECT max(m.id) AS id FROM audit m) t, audit_id_seq s WHERE t.id >= s.last_value;
    END IF;
    SELECT h.server || h.mark INTO known FROM server_history h;
    RETURN known;
END
$$;

-- A lease whose row is new may have had one that was lost.
CREATE OR REPLACE FUNCTION begin_terms() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    new.term := new.term + (SELECT h.lowest FROM server_history h);
    RETURN new;
END
$$;

-- A table without a key takes no DELETE in a database that publishes the changes of all tables, for a
-- copy or for an upgrade by logical replication.
ALTER TABLE ripe REPLICA IDENTITY FULL;

-- Renews what replica `me` holds and says that it lives, as before. A lease that would last for longer
-- than a renewal ends as if it was renewed now.
CREATE OR REPLACE FUNCTION beat(me text, my_about jsonb, my_wants text[], held text[], terms bigint[], lasts interval)
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
    -- No renewal reaches further than this. One that does was made before the clock was set back, or
    -- by the clock of another server, and nobody could take the lease for as long. A row that another
    -- replica is just renewing needs no correction.
    UPDATE lease l SET expires_at = clock_timestamp() + lasts
    FROM (SELECT m.name FROM lease m WHERE m.expires_at > clock_timestamp() + lasts
          FOR NO KEY UPDATE SKIP LOCKED) ahead
    WHERE l.name = ahead.name;
    UPDATE replica r SET expires_at = clock_timestamp() + lasts
    FROM (SELECT m.id FROM replica m WHERE m.expires_at > clock_timestamp() + lasts
          FOR NO KEY UPDATE SKIP LOCKED) ahead
    WHERE r.id = ahead.id;
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
