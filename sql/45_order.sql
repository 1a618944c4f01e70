-- The order of messages. Whoever holds the order lock allocates event ids, and holds it until commit, so that ids grow
-- in the order in which other transactions see the messages: a cursor over the log skips nothing.
--
-- Locks are taken in one order everywhere, so that nobody waits in a circle: rows of nodes (after that of the store, for
-- whoever drops it or stops one of its nodes), of sessions, of session_counts, of streams, of each the lower key or id
-- first, and then the order lock; nothing is waited for while that is held. Whoever has to go
-- against this order takes only what is free (SKIP LOCKED, NOWAIT).

CREATE FUNCTION tmcp._require_read_committed() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM011',
            MESSAGE = format('this needs isolation level read committed, and the transaction has %s',
                             current_setting('transaction_isolation')),
            DETAIL = 'With an older snapshot it would not see what others did just before it got its lock.',
            HINT = 'Inside such a transaction send with tmcp.enqueue and its siblings, which work in any.';
    END IF;
END
$$;
COMMENT ON FUNCTION tmcp._require_read_committed() IS
    'Makes sure that what follows a lock sees what was committed before it. Raises TM011.';

CREATE FUNCTION tmcp._next_event_ids(count integer) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    drawn bigint;
    first bigint;
BEGIN
    -- Called only where it raises: a call of a helper costs every sender 5 µs.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM tmcp._require_read_committed();
    END IF;
    PERFORM pg_advisory_xact_lock(1953326960, 1);
    drawn := nextval('tmcp.event_id');
    first := greatest(drawn, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    IF first + count - 1 > drawn THEN
        PERFORM setval('tmcp.event_id', first + count - 1);
    END IF;
    RETURN first;
END
$$;
COMMENT ON FUNCTION tmcp._next_event_ids(integer) IS
    'Takes the order lock and allocates so many event ids; returns the first. Raises TM011 above read committed.';
