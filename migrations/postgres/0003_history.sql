-- A server that goes on from an older state, as a standby does that was promoted while it was
-- behind, or one that was restored to an earlier moment: what it had not received is lost, its
-- numbers are given a second time, and its leases still name holders whose knowledge is of what
-- was lost. So all terms are over then, and none comes a second time.

-- What the server was when a replica last looked: its identifier, and its timeline, of which a
-- server has a new one when it is promoted or restored.
CREATE TABLE server_history (
    id     bigint PRIMARY KEY CHECK (id = 1),
    server text   NOT NULL
);

-- Empty where the server does not tell.
CREATE FUNCTION current_history() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT c.system_identifier FROM pg_control_system() c) || '/'
        || ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint;
EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_function THEN
    RETURN '';
END
$$;

INSERT INTO server_history (id, server) VALUES (1, current_history());

-- Below every term of a timeline, and above those of the timelines before it.
CREATE FUNCTION least_term(history text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT 1000000 * (coalesce(nullif(split_part(history, '/', 2), ''), '1')::bigint - 1)
$$;

-- Returns what the server is. Where it was another one when a replica last looked, every term
-- is over. When a lease runs out stays as it is: its holder may trust it until then.
CREATE FUNCTION compare_history() RETURNS text LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    found_now text := current_history();
BEGIN
    IF EXISTS (SELECT 1 FROM server_history h WHERE h.server = found_now) THEN
        RETURN found_now;
    END IF;
    -- Waits for another replica that does the same, and does nothing after it.
    INSERT INTO server_history AS h (id, server) VALUES (1, found_now)
    ON CONFLICT (id) DO UPDATE SET server = excluded.server WHERE h.server <> excluded.server;
    IF FOUND THEN
        UPDATE lease l SET term = greatest(l.term + 1000000, least_term(found_now)), holder = NULL
        FROM (SELECT m.name FROM lease m ORDER BY m.name FOR UPDATE) every
        WHERE l.name = every.name;
    END IF;
    RETURN found_now;
END
$$;

-- A lease whose row is new may have had one that was lost.
CREATE FUNCTION begin_terms() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    new.term := new.term + least_term((SELECT h.server FROM server_history h));
    RETURN new;
END
$$;
CREATE TRIGGER begin_terms BEFORE INSERT ON lease FOR EACH ROW EXECUTE FUNCTION begin_terms();
