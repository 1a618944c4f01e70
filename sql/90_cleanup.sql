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
        -- Its process may only be paused, and still listen: later broadcasts would hide from it that it misses messages. Nor
        -- may anybody else hear what is still sent to its streams.
        UPDATE tmcp.nodes AS n SET channel = tmcp._random_channel() WHERE n.node = dead.node;
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
    -- Constants, since an index is of no use for a comparison with clock_timestamp().
    started_at constant timestamptz := clock_timestamp();
    expired_before constant timestamptz := started_at - (SELECT e.retention FROM tmcp._effective_settings AS e);
    idle bigint[];
    ended bigint;
BEGIN
    SELECT array_agg(i.session) INTO idle
    FROM tmcp.stores AS s
    CROSS JOIN LATERAL (SELECT x.session FROM tmcp.sessions AS x
                        WHERE x.store = s.store AND x.last_active_at < started_at - s.session_idle_limit
                        ORDER BY x.last_active_at LIMIT batch FOR UPDATE SKIP LOCKED) AS i;
    -- A session that has a stream is in use, and need not be looked at again for as long as the limit. Until a stream
    -- was lost that cannot be resumed any more, its session was.
    UPDATE tmcp.sessions AS x SET last_active_at = used.until
    FROM tmcp.sessions AS y
    CROSS JOIN LATERAL (
        SELECT max(CASE WHEN st.detached_at < expired_before THEN st.detached_at ELSE started_at END) AS until
        FROM (SELECT a.detached_at FROM tmcp.streams AS a WHERE a.store = y.store AND a.id = y.id
              UNION ALL
              SELECT b.detached_at FROM tmcp.streams AS b
              WHERE b.store = y.store AND b.session_id = y.id AND b.id <> b.session_id) AS st) AS used
    WHERE y.session = ANY (idle) AND x.session = y.session AND x.last_active_at < used.until;
    DELETE FROM tmcp.sessions AS x
    USING tmcp.stores AS s
    WHERE x.session = ANY (idle) AND s.store = x.store
      AND x.last_active_at < started_at - s.session_idle_limit;
    GET DIAGNOSTICS ended = ROW_COUNT;
    RETURN ended;
END
$$;
COMMENT ON FUNCTION tmcp._end_idle_sessions(integer) IS 'Ends sessions that were not used for the store''s idle limit.';

-- With settings under which the log is looked into through indexes even if nobody has analyzed it: it seems small then, or
-- worth being read as a whole, or being compiled for.
CREATE FUNCTION tmcp._remember_purged(oldest smallint, after bigint, batch integer, OUT through bigint, OUT complete boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    last_event_id constant bigint := (SELECT max(m.event_id) FROM tmcp.messages AS m WHERE m.slot = oldest);
BEGIN
    -- One look into an index for each stream, however many messages there are. A stream that somebody has locked is left
    -- for the next time, and the log with it: who waits for that lock while holding all the others keeps them from being
    -- attached.
    WITH looked_at AS MATERIALIZED (
        SELECT st.stream, st.starts_after, st.purged_through FROM tmcp.streams AS st
        WHERE st.stream > _remember_purged.after ORDER BY st.stream LIMIT batch
    ), due AS MATERIALIZED (
        SELECT l.stream, m.event_id FROM looked_at AS l
        CROSS JOIN LATERAL (SELECT max(x.event_id) AS event_id FROM tmcp.messages AS x
                            WHERE x.slot = oldest AND x.stream = l.stream) AS m
        WHERE l.starts_after < last_event_id AND l.purged_through < m.event_id
    ), locked AS MATERIALIZED (
        SELECT st.stream FROM tmcp.streams AS st
        WHERE st.stream = ANY (ARRAY(SELECT d.stream FROM due AS d)) FOR UPDATE SKIP LOCKED
    ), remembered AS (
        UPDATE tmcp.streams AS st SET purged_through = d.event_id
        FROM due AS d JOIN locked AS l USING (stream) WHERE st.stream = d.stream
    ), missed AS (
        SELECT min(d.stream) AS stream FROM due AS d WHERE d.stream NOT IN (SELECT l.stream FROM locked AS l)
    )
    SELECT coalesce(m.stream - 1, max(l.stream), _remember_purged.after), m.stream IS NULL AND count(l.stream) < batch
    INTO through, complete
    FROM missed AS m LEFT JOIN looked_at AS l ON true GROUP BY m.stream;
    IF complete THEN
        INSERT INTO tmcp.purged_broadcasts AS b (store, purged_through)
        SELECT s.store, m.event_id FROM tmcp.stores AS s
        CROSS JOIN LATERAL (SELECT max(x.event_id) AS event_id FROM tmcp.messages AS x
                            WHERE x.slot = oldest AND x.stream IS NULL AND x.store = s.store) AS m
        WHERE m.event_id IS NOT NULL
        ON CONFLICT (store) DO UPDATE SET purged_through = EXCLUDED.purged_through
            WHERE b.purged_through < EXCLUDED.purged_through;
    END IF;
END
$$;
COMMENT ON FUNCTION tmcp._remember_purged(smallint, bigint, integer) IS
    'Remembers what a partition holds, so that "purged" is said to whom it concerns and to nobody else: for some streams '
    'after the given one. through: up to which it is done now; complete: whether that is all. A locked stream is left '
    'for the next time, and so are those after it.';

CREATE FUNCTION tmcp._rotate_messages(batch integer, OUT rotated boolean, OUT unfinished boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tmcp.rotation;
    oldest smallint;
    remembered record;
    last_event_id bigint;
BEGIN
    rotated := false;
    unfinished := false;
    -- Two partitions stay, so each is written for half the retention.
    SELECT x.* INTO r FROM tmcp.rotation AS x
    WHERE x.rotated_at <= clock_timestamp() - (SELECT e.retention FROM tmcp._effective_settings AS e) / 2
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    oldest := ((r.slot + 1) % 3)::smallint;
    -- While somebody reads it, pg_dump for instance, it stays, and nothing is said to be purged.
    IF EXISTS (SELECT FROM pg_locks AS l
               WHERE l.relation = format('tmcp.messages_%s', oldest)::regclass AND l.pid IS DISTINCT FROM pg_backend_pid()
                 AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())) THEN
        RETURN;
    END IF;
    -- Not in the block below: what is remembered stays so. Nothing is added to the partition meanwhile.
    remembered := tmcp._remember_purged(oldest, r.remembered_through, batch);
    UPDATE tmcp.rotation AS x SET remembered_through = remembered.through
    WHERE x.remembered_through <> remembered.through;
    IF NOT remembered.complete THEN
        unfinished := remembered.through > r.remembered_through;
        RETURN;
    END IF;
    last_event_id := (SELECT max(m.event_id) FROM tmcp.messages AS m WHERE m.slot = oldest);
    BEGIN
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
            purged_through = greatest(purged_through, last_event_id), remembered_through = 0;
        rotated := true;
    EXCEPTION WHEN lock_not_available THEN
        -- Somebody has begun to read it. The next cleanup tries again, and until then the log keeps more.
        NULL;
    END;
END
$$;
COMMENT ON FUNCTION tmcp._rotate_messages(integer) IS
    'Empties the oldest partition of the log and writes to it from now on, if it is time and nobody reads it. '
    'unfinished: it is time, and there is more to remember before.';

CREATE FUNCTION tmcp.cleanup(
    batch integer DEFAULT 1000,
    OUT detached_streams bigint,
    OUT expired_streams bigint,
    OUT ended_sessions bigint,
    OUT sent_items bigint,
    OUT rotated boolean,
    OUT unfinished boolean
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
    -- This one first: it waits for who starts a session, who may wait for a stream that the next two have changed.
    ended_sessions := tmcp._end_idle_sessions(cleanup.batch);
    detached_streams := tmcp._detach_streams_of_dead_nodes(cleanup.batch);
    expired_streams := tmcp._delete_expired_streams(cleanup.batch);
    -- These two take the order lock, so they come last; the second holds it until the end.
    SELECT m.rotated, m.unfinished INTO cleanup.rotated, cleanup.unfinished
    FROM tmcp._rotate_messages(cleanup.batch) AS m;
    SELECT coalesce(sum(tmcp._flush_outbox(s)), 0)::bigint INTO sent_items
    FROM tmcp.stores AS s WHERE EXISTS (SELECT FROM tmcp.outbox AS o WHERE o.store = s.store);
    unfinished := unfinished OR cleanup.batch <= greatest(detached_streams, expired_streams, ended_sessions);
END
$$;
COMMENT ON FUNCTION tmcp.cleanup(integer) IS
$$Does what time requires, in all stores: detaches the streams of dead nodes, deletes what has been detached for longer
than messages are kept, ends idle sessions, sends what was left in the outbox, and rotates the log. Every node calls it
with its heartbeat; a DBA or pg_cron may, at any time. It never waits for another cleanup.

Arguments: batch, rows at most of each kind, default 1000, so that each call is short.
Returns: how many of each; whether the log was rotated; and unfinished, whether there is more to do at once: call again.
All are NULL when another cleanup is under way.
Errors: TM001 a batch that cannot be one; TM011 above read committed.
Example: SELECT * FROM tmcp.cleanup();$$;
