-- Nodes: the listening processes and their heartbeats.

CREATE FUNCTION tmcp._random_channel() RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN 'tmcp:' || substr(encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex'), 1, 32);
END
$$;
COMMENT ON FUNCTION tmcp._random_channel() IS
    'The name of a channel, with 128 random bits: who does not know it can neither listen to it nor send on it.';

CREATE FUNCTION tmcp.register_node(
    store text,
    name text DEFAULT NULL,
    OUT node bigint,
    OUT channel text,
    OUT event_id bigint
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(register_node.store);
BEGIN
    SELECT e.last_value INTO register_node.event_id FROM tmcp.event_id AS e;
    INSERT INTO tmcp.nodes AS n (store, channel, name, listens_for_many)
    VALUES (s.store, tmcp._random_channel(), left(register_node.name, 200), true)
    RETURNING n.node, n.channel INTO register_node.node, register_node.channel;
END
$$;
COMMENT ON FUNCTION tmcp.register_node(text, text) IS
$$Registers a listening process. LISTEN to the channel, and to delete:{channel}, before streams are attached.

Arguments: store; name, what the process calls itself in the views for people, at most 200 characters, default none.
Returns: node, a number for the other functions; channel, a random name, to be kept secret;
event_id, which everything that is sent to streams of this node follows.
Errors: TM002 no such store, or not granted.
Example: SELECT node, channel FROM tmcp.register_node('tmcp', 'server 1');$$;

CREATE FUNCTION tmcp.heartbeat(store text, node bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(heartbeat.store);
BEGIN
    UPDATE tmcp.nodes AS n SET heartbeat_at = clock_timestamp()
    WHERE n.node = heartbeat.node AND n.store = s.store
      AND n.heartbeat_at > clock_timestamp() - s.freshness_window;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tmcp.heartbeat(text, bigint) IS
$$Says that a node is alive, and with it all its streams. Call it every third of the freshness window or so.

Arguments: store; node, from tmcp.register_node or tmcp.attach.
Returns: true; false when the node was silent for longer than the freshness window. It has then been fenced for good:
other nodes may hold its streams. Register anew and attach what is still open.
Errors: TM002 no such store, or not granted.
Example: SELECT tmcp.heartbeat('tmcp', 1);$$;

CREATE FUNCTION tmcp._let_go(streams bigint[]) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    detached bigint;
    listening bigint[];
BEGIN
    -- ARRAY(...), which is planned for few: for the very array, all streams may be read.
    WITH let_go AS (
        UPDATE tmcp.streams AS st SET node = NULL, detached_at = clock_timestamp()
        WHERE st.stream = ANY (ARRAY(SELECT unnest(_let_go.streams)))
        RETURNING st.stream, st.session_id
    )
    SELECT count(*), array_agg(l.stream) FILTER (WHERE l.session_id IS NULL) INTO detached, listening FROM let_go AS l;
    IF listening IS NOT NULL THEN
        DELETE FROM tmcp.streams AS st WHERE st.stream = ANY (ARRAY(SELECT unnest(listening)));
    END IF;
    RETURN detached;
END
$$;
COMMENT ON FUNCTION tmcp._let_go(bigint[]) IS
    'Detaches streams that the caller has locked. Those that listen for changes end, since nobody can resume them.';

CREATE FUNCTION tmcp.stop_node(store text, node bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(stop_node.store);
    stopped tmcp.nodes;
    detached bigint;
BEGIN
    -- The store before the node, as in tmcp.drop_store: the new row below locks it.
    PERFORM FROM tmcp.stores AS x WHERE x.store = s.store FOR KEY SHARE;
    -- The node before its streams: it waits for attaches under way, whose streams are then detached with the others.
    DELETE FROM tmcp.nodes AS n WHERE n.node = stop_node.node AND n.store = s.store RETURNING n.* INTO stopped;
    detached := tmcp._let_go(ARRAY(SELECT x.stream FROM tmcp.streams AS x
                                   WHERE x.node = stop_node.node AND x.store = s.store
                                   ORDER BY x.id FOR UPDATE SKIP LOCKED));
    -- What somebody has locked is left to tmcp.cleanup, which looks for dead nodes. A new row, since who attaches meanwhile
    -- waits for the old one, and would take it for alive if that were only changed. What is sent to it goes where nobody hears
    -- it.
    INSERT INTO tmcp.nodes (node, store, channel, name, listens_for_many, started_at, heartbeat_at)
    OVERRIDING SYSTEM VALUE
    SELECT stopped.node, stopped.store, tmcp._random_channel(), stopped.name, stopped.listens_for_many,
           stopped.started_at, least(stopped.heartbeat_at, clock_timestamp() - s.freshness_window)
    WHERE EXISTS (SELECT FROM tmcp.streams AS st WHERE st.node = stopped.node);
    RETURN detached;
END
$$;
COMMENT ON FUNCTION tmcp.stop_node(text, bigint) IS
$$Takes a node out of service and detaches all its streams, which stay resumable on other nodes; those that listen for
changes end. It does not wait for a stream that somebody's open transaction has locked: tmcp.cleanup detaches that later,
and until then the node is shown as one that is not alive.

Arguments: store; node.
Returns: how many streams were detached; 0 for a node that is not there.
Errors: TM002 no such store, or not granted.
Example: SELECT tmcp.stop_node('tmcp', 1);$$;
