-- Cleanup: what time does to nodes, streams, sessions and messages.

CREATE FUNCTION tmcp._detach_streams_of_dead_nodes(batch integer) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dead tmcp.nodes;
    total bigint := 0::bigint;
BEGIN
    FOR dead IN
        SELECT n.* FROM tmcp.nodes AS n
        WHERE n.node NOT IN (SELECT f.node FROM tmcp._fresh_nodes AS f)
        ORDER BY n.node FOR UPDATE SKIP LOCKED
    LOOP
        -- Its heartbeat may have come after the query above began and before the row was locked.
        CONTINUE WHEN EXISTS (SELECT FROM tmcp._fresh_nodes AS f WHERE f.node = dead.node);
        -- Its process may only be paused, and still listen: later broadcasts would hide from it that it misses messages.
        UPDATE tmcp.nodes AS n SET channel = 'gone:' || n.node WHERE n.node = dead.node;
        total := total + tmcp._let_go(ARRAY(SELECT x.stream FROM tmcp.streams AS x WHERE x.node = dead.node
                                            ORDER BY x.stream LIMIT batch - total FOR UPDATE SKIP LOCKED));
        EXIT WHEN total >= batch;
        DELETE FROM tmcp.nodes AS n
        WHERE n.node = dead.node AND NOT EXISTS (SELECT FROM tmcp.streams AS st WHERE st.node = dead.node);
    END LOOP;
    RETURN total;
END
$$;
COMMENT ON FUNCTION tmcp._detach_streams_of_dead_nodes(integer) IS
    'Detaches streams of nodes that missed their window, and removes nodes that have none left.';

CREATE FUNCTION tmcp._delete_expired_streams(batch integer) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- A constant, since an index is of no use for a comparison with clock_timestamp().
    expired_before constant timestamptz := clock_timestamp()
        - (SELECT e.retention FROM tmcp._effective_settings AS e);
    deleted bigint;
BEGIN
    WITH expired AS (
        DELETE FROM tmcp.streams AS st WHERE st.stream = ANY (ARRAY(
            SELECT x.stream FROM tmcp.streams AS x
            WHERE x.node IS NULL AND x.detached_at < expired_before
            ORDER BY x.detached_at LIMIT batch FOR UPDATE SKIP LOCKED))
        RETURNING st.store, st.session_id, st.detached_at
    ), in_use AS (
        -- Until its stream was lost, the session was in use. One that somebody has locked is being used or ended, and
        -- who ends it may wait for the stream.
        SELECT x.session, e.detached_at
        FROM (SELECT d.store, d.session_id, max(d.detached_at) AS detached_at FROM expired AS d GROUP BY 1, 2) AS e
        JOIN tmcp.sessions AS x ON x.store = e.store AND x.id = e.session_id AND x.last_active_at < e.detached_at
        FOR UPDATE OF x SKIP LOCKED
    ), active AS (
        UPDATE tmcp.sessions AS x SET last_active_at = u.detached_at FROM in_use AS u WHERE x.session = u.session
    )
    SELECT count(*) INTO deleted FROM expired;
    RETURN deleted;
END
$$;
COMMENT ON FUNCTION tmcp._delete_expired_streams(integer) IS
    'Deletes streams that have been detached for longer than messages are kept: there is nothing left to resume.';

CREATE FUNCTION tmcp._end_idle_sessions(batch integer) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- A constant, since an index is of no use for a comparison with clock_timestamp().
    started_at constant timestamptz := clock_timestamp();
    idle bigint[];
    ended bigint;
BEGIN
    SELECT array_agg(i.session) INTO idle
    FROM tmcp.stores AS s
    CROSS JOIN LATERAL (SELECT x.session FROM tmcp.sessions AS x
                        WHERE x.store = s.store AND x.last_active_at < started_at - s.session_idle_limit
                        ORDER BY x.last_active_at LIMIT batch FOR UPDATE SKIP LOCKED) AS i;
    -- A session that has a stream is in use, and need not be looked at again for as long as the limit.
    UPDATE tmcp.sessions AS x SET last_active_at = clock_timestamp()
    WHERE x.session = ANY (idle)
      AND (EXISTS (SELECT FROM tmcp.streams AS st WHERE st.store = x.store AND st.id = x.id)
           OR EXISTS (SELECT FROM tmcp.streams AS st
                      WHERE st.store = x.store AND st.session_id = x.id AND st.id <> st.session_id));
    DELETE FROM tmcp.sessions AS x
    USING tmcp.stores AS s
    WHERE x.session = ANY (idle) AND s.store = x.store
      AND x.last_active_at < started_at - s.session_idle_limit;
    GET DIAGNOSTICS ended = ROW_COUNT;
    RETURN ended;
END
$$;
COMMENT ON FUNCTION tmcp._end_idle_sessions(integer) IS 'Ends sessions that were not used for the store''s idle limit.';

CREATE FUNCTION tmcp._remember_purged(oldest smallint) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    complete boolean;
BEGIN
    -- A stream that somebody has locked is left for the next time, and the log with it: who waits for that lock while
    -- holding all the others keeps them from being attached.
    WITH gone AS (
        SELECT m.stream, max(m.event_id) AS last_event_id FROM tmcp.messages AS m
        WHERE m.slot = oldest AND m.stream IS NOT NULL GROUP BY m.stream
    ), due AS (
        SELECT st.stream, g.last_event_id FROM tmcp.streams AS st JOIN gone AS g USING (stream)
        WHERE st.purged_through < g.last_event_id
    ), locked AS (
        SELECT st.stream, d.last_event_id FROM tmcp.streams AS st JOIN due AS d USING (stream)
        FOR UPDATE OF st SKIP LOCKED
    ), remembered AS (
        UPDATE tmcp.streams AS st SET purged_through = l.last_event_id
        FROM locked AS l WHERE st.stream = l.stream
        RETURNING st.stream
    )
    SELECT (SELECT count(*) FROM remembered) = (SELECT count(*) FROM due) INTO complete;
    INSERT INTO tmcp.purged_broadcasts AS b (store, purged_through)
    SELECT m.store, max(m.event_id) FROM tmcp.messages AS m JOIN tmcp.stores AS s USING (store)
    WHERE m.slot = oldest AND m.stream IS NULL GROUP BY m.store
    ON CONFLICT (store) DO UPDATE SET purged_through = EXCLUDED.purged_through
        WHERE b.purged_through < EXCLUDED.purged_through;
    RETURN complete;
END
$$;
COMMENT ON FUNCTION tmcp._remember_purged(smallint) IS
    'Remembers what a partition holds, so that "purged" is said to whom it concerns and to nobody else. Whether that is '
    'done for all streams: a locked one is left for the next time.';

CREATE FUNCTION tmcp._rotate_messages() RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r constant tmcp.rotation := (SELECT x FROM tmcp.rotation AS x);
    oldest constant smallint := ((r.slot + 1) % 3)::smallint;
    last_event_id bigint;
BEGIN
    -- Two partitions stay, so each is written for half the retention.
    IF r.rotated_at > clock_timestamp() - (SELECT e.retention FROM tmcp._effective_settings AS e) / 2 THEN
        RETURN false;
    END IF;
    -- While somebody reads it, pg_dump for instance, it stays, and nothing is said to be purged.
    IF EXISTS (SELECT FROM pg_locks AS l
               WHERE l.relation = format('tmcp.messages_%s', oldest)::regclass AND l.pid IS DISTINCT FROM pg_backend_pid()
                 AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())) THEN
        RETURN false;
    END IF;
    -- Not in the block below: where streams are locked ever and again, each cleanup takes those that are not.
    IF NOT tmcp._remember_purged(oldest) THEN
        RETURN false;
    END IF;
    last_event_id := (SELECT max(m.event_id) FROM tmcp.messages AS m WHERE m.slot = oldest);
    BEGIN
        PERFORM FROM tmcp.rotation FOR UPDATE NOWAIT;
        -- Senders read the slot under this lock, so none of them writes to the old one any more.
        PERFORM pg_advisory_xact_lock(1953326960, 1);
        CASE oldest
            WHEN 0 THEN
                LOCK TABLE ONLY tmcp.messages_0 IN ACCESS EXCLUSIVE MODE NOWAIT;
                TRUNCATE ONLY tmcp.messages_0;
            WHEN 1 THEN
                LOCK TABLE ONLY tmcp.messages_1 IN ACCESS EXCLUSIVE MODE NOWAIT;
                TRUNCATE ONLY tmcp.messages_1;
            WHEN 2 THEN
                LOCK TABLE ONLY tmcp.messages_2 IN ACCESS EXCLUSIVE MODE NOWAIT;
                TRUNCATE ONLY tmcp.messages_2;
        END CASE;
        UPDATE tmcp.rotation SET slot = oldest, rotated_at = clock_timestamp(),
            purged_through = greatest(purged_through, last_event_id);
        RETURN true;
    EXCEPTION WHEN lock_not_available THEN
        -- Somebody has begun to read it. The next cleanup tries again, and until then the log keeps more.
        RETURN false;
    END;
END
$$;
COMMENT ON FUNCTION tmcp._rotate_messages() IS
    'Empties the oldest partition of the log and writes to it from now on, if it is time and nobody reads it.';

CREATE FUNCTION tmcp.cleanup(
    batch integer DEFAULT 1000,
    OUT detached_streams bigint,
    OUT expired_streams bigint,
    OUT ended_sessions bigint,
    OUT sent_items bigint,
    OUT rotated boolean
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF cleanup.batch IS NULL OR cleanup.batch NOT BETWEEN 1 AND 100000 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM001',
            MESSAGE = format('a batch cannot have %s rows', coalesce(cleanup.batch::text, 'null')),
            HINT = 'Give 1 to 100000.';
    END IF;
    PERFORM tmcp._require_read_committed();
    IF NOT pg_try_advisory_xact_lock(1953326960, 2) THEN
        RETURN;
    END IF;
    detached_streams := tmcp._detach_streams_of_dead_nodes(cleanup.batch);
    expired_streams := tmcp._delete_expired_streams(cleanup.batch);
    ended_sessions := tmcp._end_idle_sessions(cleanup.batch);
    -- These two take the order lock, so they come last; the second holds it until the end.
    rotated := tmcp._rotate_messages();
    SELECT coalesce(sum(tmcp._flush_outbox(s)), 0)::bigint INTO sent_items
    FROM tmcp.stores AS s WHERE EXISTS (SELECT FROM tmcp.outbox AS o WHERE o.store = s.store);
END
$$;
COMMENT ON FUNCTION tmcp.cleanup(integer) IS
$$Does what time requires, in all stores: detaches the streams of dead nodes, deletes what has been detached for longer
than messages are kept, ends idle sessions, sends what was left in the outbox, and rotates the log. Every node calls it
with its heartbeat; a DBA or pg_cron may, at any time. It never waits for another cleanup.

Arguments: batch, rows at most of each kind, default 1000.
Returns: how many of each; all NULL when another cleanup is under way.
Errors: TM001 a batch that cannot be one; TM011 above read committed.
Example: SELECT * FROM tmcp.cleanup();$$;
