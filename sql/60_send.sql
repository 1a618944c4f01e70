-- Sending: to one stream, to many, to all, to subscribers; and fetching what a notification did not carry.
--
-- A notification holds frames, one after the other, each
--     {event id} {targets} {bytes}\n{data}      the message itself
--     {event id} {targets} -\n                  the message is in the log: call tmcp.fetch_messages
-- with targets * for a broadcast, *{kind} for one that tells of a changed list, or stream numbers between commas. Since
-- a frame holds its event id, no two notifications are equal, and PostgreSQL drops none as a duplicate.

-- In PL/pgSQL, which keeps its plan: with a pinned search_path an SQL function is not inlined, and is planned for every
-- statement that calls it.
CREATE FUNCTION tmcp._frame(event_id bigint, targets text, data text, inline_limit integer) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN octet_length(data) <= inline_limit
        THEN event_id || ' ' || targets || ' ' || octet_length(data) || E'\n' || data
        ELSE event_id || ' ' || targets || E' -\n' END;
END
$$;
COMMENT ON FUNCTION tmcp._frame(bigint, text, text, integer) IS 'One frame of a notification.';

CREATE FUNCTION tmcp._send(s tmcp.stores, id text, data text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_event_id constant bigint := tmcp._next_event_ids(1);
    found_stream bigint;
    found_channel text;
BEGIN
    SELECT st.stream, n.channel INTO found_stream, found_channel
    FROM tmcp.streams AS st LEFT JOIN tmcp.nodes AS n USING (node)
    WHERE st.store = s.store AND st.id = _send.id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO tmcp.messages (event_id, store, stream, data, slot)
    SELECT new_event_id, s.store, found_stream, _send.data, r.slot FROM tmcp.rotation AS r;
    IF found_channel IS NOT NULL THEN
        PERFORM pg_notify(found_channel,
                          tmcp._frame(new_event_id, found_stream::text, _send.data, s.inline_limit));
    END IF;
    RETURN new_event_id;
END
$$;
COMMENT ON FUNCTION tmcp._send(tmcp.stores, text, text) IS 'Logs a message for one stream and notifies its node.';

CREATE FUNCTION tmcp.send(store text, id text, data text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(send.store);
BEGIN
    -- Called only for one that will not do, as in the functions below.
    IF (octet_length(send.data) <= s.maximum_message_size) IS NOT TRUE THEN
        PERFORM tmcp._check_message_size(octet_length(send.data), s.maximum_message_size);
    END IF;
    RETURN tmcp._send(s, send.id, send.data);
END
$$;
COMMENT ON FUNCTION tmcp.send(text, text, text) IS
$$Sends a message to one stream: to a client that is connected at once, to one that is not when it resumes.
For a transaction of its own: other senders wait until it commits. Inside a longer one use tmcp.enqueue.

Arguments: store; id of the stream, for a session's standalone stream the id of the session; data, the message.
Returns: the event id; NULL when there is no such stream, and then nothing was sent.
Errors: TM001 no message; TM002 no such store; TM004 over maximum_message_size; TM011 above read committed.
Example: SELECT tmcp.send('tmcp', 'abc', '{"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}');$$;

CREATE FUNCTION tmcp._log_and_notify(s tmcp.stores, event_id bigint, recipients bigint[], nodes bigint[], data text)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    inline_bytes constant integer := CASE WHEN octet_length(_log_and_notify.data) <= s.inline_limit
        THEN octet_length(_log_and_notify.data) ELSE 0 END;
    -- A stream number and its comma have 20 bytes at most; the rest of a frame's head has 23, and a payload 7999.
    streams_per_frame constant integer := (7976 - inline_bytes) / 20;
BEGIN
    INSERT INTO tmcp.messages (event_id, store, stream, data, slot)
    SELECT _log_and_notify.event_id, s.store, recipient.stream, _log_and_notify.data, r.slot
    FROM unnest(recipients) AS recipient (stream) CROSS JOIN tmcp.rotation AS r;
    PERFORM pg_notify(n.channel,
                      tmcp._frame(_log_and_notify.event_id, told.targets, _log_and_notify.data, s.inline_limit))
    FROM (SELECT held.node, string_agg(held.stream::text, ',') AS targets
          FROM (SELECT r.node, r.stream, (row_number() OVER (PARTITION BY r.node) - 1) / streams_per_frame AS part
                FROM unnest(recipients, _log_and_notify.nodes) AS r (stream, node)
                WHERE r.node IS NOT NULL) AS held
          GROUP BY held.node, held.part) AS told
    JOIN tmcp.nodes AS n USING (node);
    RETURN coalesce(cardinality(recipients), 0);
END
$$;
COMMENT ON FUNCTION tmcp._log_and_notify(tmcp.stores, bigint, bigint[], bigint[], text) IS
    'Logs one message for many streams and notifies the nodes that hold them, given for each stream. Both are resolved '
    'after the event id was allocated, under the order lock; else one who attaches in between would be missed.';

CREATE FUNCTION tmcp._broadcast(s tmcp.stores, data text, kind text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_event_id constant bigint := tmcp._next_event_ids(1);
BEGIN
    INSERT INTO tmcp.messages (event_id, store, kind, data, slot)
    SELECT new_event_id, s.store, _broadcast.kind, _broadcast.data, r.slot FROM tmcp.rotation AS r;
    PERFORM pg_notify(n.channel, tmcp._frame(new_event_id, concat('*', _broadcast.kind), _broadcast.data, s.inline_limit))
    FROM tmcp.nodes AS n WHERE n.store = s.store;
    RETURN new_event_id;
END
$$;
COMMENT ON FUNCTION tmcp._broadcast(tmcp.stores, text, text) IS 'Logs a message for all and notifies every node once.';

CREATE FUNCTION tmcp._publish(s tmcp.stores, uri text, data text, principal text) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_event_id constant bigint := tmcp._next_event_ids(1);
    recipients bigint[];
    nodes bigint[];
BEGIN
    SELECT array_agg(subscriber.stream), array_agg(subscriber.node) INTO recipients, nodes
    FROM (SELECT st.stream, st.node
          FROM tmcp.subscriptions AS u
          JOIN tmcp.sessions AS x USING (session)
          JOIN tmcp.streams AS st ON st.store = s.store AND st.id = x.id
          WHERE u.store = s.store AND u.uri = _publish.uri
            AND (_publish.principal IS NULL OR x.principal = _publish.principal)
          UNION ALL
          SELECT st.stream, st.node
          FROM tmcp.stream_subscriptions AS u
          CROSS JOIN LATERAL (SELECT y.stream, y.node, y.principal FROM tmcp.streams AS y
                              WHERE y.stream = u.stream LIMIT 1) AS st
          WHERE u.store = s.store AND u.uri = _publish.uri
            AND (_publish.principal IS NULL OR st.principal = _publish.principal)
          ORDER BY 1) AS subscriber;
    RETURN tmcp._log_and_notify(s, new_event_id, recipients, nodes, _publish.data);
END
$$;
COMMENT ON FUNCTION tmcp._publish(tmcp.stores, text, text, text) IS
    'Logs and sends a message for the subscribers of a uri: sessions, and streams that listen.';

CREATE FUNCTION tmcp._log(s tmcp.stores, level tmcp.log_level, data text) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_event_id constant bigint := tmcp._next_event_ids(1);
    recipients bigint[];
    nodes bigint[];
BEGIN
    SELECT array_agg(listener.stream), array_agg(listener.node) INTO recipients, nodes
    FROM (SELECT st.stream, st.node
          FROM tmcp.streams AS st
          LEFT JOIN tmcp.sessions AS x ON x.store = s.store AND x.id = st.id
          WHERE st.store = s.store AND st.id = st.session_id
            AND (x.log_level IS NULL OR x.log_level <= _log.level)
          ORDER BY st.stream) AS listener;
    RETURN tmcp._log_and_notify(s, new_event_id, recipients, nodes, _log.data);
END
$$;
COMMENT ON FUNCTION tmcp._log(tmcp.stores, tmcp.log_level, text) IS
    'Logs and sends a message for the sessions that want to hear of its level.';

CREATE FUNCTION tmcp.send_batch(store text, ids text[], data text[]) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- A plan for the very arrays of a call would cost more than it saves. The others as in tmcp.attach_batch.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(send_batch.store);
    number_of_messages constant integer := coalesce(cardinality(send_batch.ids), 0);
    longest integer;
    longest_inline integer;
    first_event_id bigint;
    event_ids bigint[];
    -- What goes into frames: event ids, streams (0 stands for all, NULL for nobody), their nodes and the messages.
    frame_event_ids bigint[];
    streams bigint[];
    nodes bigint[];
    messages ALIAS FOR data;
BEGIN
    IF number_of_messages <> coalesce(cardinality(messages), 0) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM001',
            MESSAGE = format('%s ids and %s messages do not fit',
                             number_of_messages, coalesce(cardinality(messages), 0)),
            HINT = 'Give one message for each id.';
    ELSIF number_of_messages = 0 THEN
        RETURN '{}'::bigint[];
    END IF;
    SELECT CASE WHEN bool_or(d IS NULL) THEN NULL ELSE max(octet_length(d)) END,
           coalesce(max(octet_length(d)) FILTER (WHERE octet_length(d) <= s.inline_limit), 0)
    INTO longest, longest_inline
    FROM unnest(messages) AS d;
    PERFORM tmcp._check_message_size(longest, s.maximum_message_size);

    first_event_id := tmcp._next_event_ids(number_of_messages);
    SELECT array_agg(CASE WHEN found.stream IS NOT NULL THEN found.event_id END),
           array_agg(found.event_id), array_agg(found.stream), array_agg(found.node)
    INTO event_ids, frame_event_ids, streams, nodes
    FROM (SELECT first_event_id + m.place - 1 AS event_id,
                 CASE WHEN m.id IS NULL THEN 0 ELSE st.stream END AS stream, st.node
          FROM unnest(send_batch.ids) WITH ORDINALITY AS m (id, place)
          -- One by one: a plan that was made while there were few streams would go on reading all of them.
          LEFT JOIN LATERAL (SELECT x.stream, x.node FROM tmcp.streams AS x
                             WHERE x.store = s.store AND x.id = m.id LIMIT 1) AS st ON true
          ORDER BY m.place) AS found;

    INSERT INTO tmcp.messages (event_id, store, stream, data, slot)
    SELECT m.event_id, s.store, nullif(m.stream, 0), m.data, r.slot
    FROM tmcp.rotation AS r, unnest(frame_event_ids, streams, messages) AS m (event_id, stream, data)
    WHERE m.stream IS NOT NULL;

    IF 0 = ANY (streams) THEN
        -- Each node gets the broadcasts. In the statement below, this would cost the batches without one, too.
        SELECT array_agg(f.event_id), array_agg(f.stream), array_agg(f.node), array_agg(f.data)
        INTO frame_event_ids, streams, nodes, messages
        FROM (SELECT m.event_id, m.stream, coalesce(m.node, n.node) AS node, m.data
              FROM unnest(frame_event_ids, streams, nodes, messages) AS m (event_id, stream, node, data)
              LEFT JOIN tmcp.nodes AS n ON m.stream = 0 AND n.store = s.store) AS f;
    END IF;
    -- The same frame as tmcp._frame makes, which would cost a call for each message. The head of a frame has 45 bytes at
    -- most, and a payload 7999.
    PERFORM pg_notify(n.channel,
                      array_to_string(told.frames[part:part + 7999 / (45 + longest_inline) - 1], ''))
    FROM (SELECT f.node, array_agg(f.event_id || CASE WHEN f.stream = 0 THEN ' * ' ELSE ' ' || f.stream || ' ' END
                                   || CASE WHEN octet_length(f.data) <= s.inline_limit
                                       THEN octet_length(f.data) || E'\n' || f.data ELSE E'-\n' END) AS frames
          FROM (SELECT m.event_id, m.stream, m.node, m.data
                FROM unnest(frame_event_ids, streams, nodes, messages) AS m (event_id, stream, node, data)
                WHERE m.node IS NOT NULL
                ORDER BY m.node, m.event_id) AS f
          GROUP BY f.node) AS told
    JOIN tmcp.nodes AS n USING (node)
    CROSS JOIN LATERAL generate_series(1, cardinality(told.frames), 7999 / (45 + longest_inline)) AS part;

    RETURN event_ids;
END
$$;
COMMENT ON FUNCTION tmcp.send_batch(text, text[], text[]) IS
$$Sends many messages in one transaction, in the order given; what tmcp.send does, for less each.

Arguments: store; ids of the streams, NULL for a broadcast; data, one message for each.
Returns: the event id of each message, NULL where there is no such stream.
Errors: TM001 no message, or numbers that do not fit; TM002 no such store; TM004 a message over maximum_message_size
(and then none is sent); TM011 above read committed.
Example: SELECT tmcp.send_batch('tmcp', ARRAY['abc', NULL], ARRAY['for one', 'for all']);$$;

CREATE FUNCTION tmcp.broadcast(store text, data text, kind text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(broadcast.store);
BEGIN
    IF broadcast.kind IS NOT NULL THEN
        PERFORM tmcp._check_kind(broadcast.kind);
    END IF;
    PERFORM tmcp._check_message_size(octet_length(broadcast.data), s.maximum_message_size);
    RETURN tmcp._broadcast(s, broadcast.data, broadcast.kind);
END
$$;
COMMENT ON FUNCTION tmcp.broadcast(text, text, text) IS
$$Sends a message to the standalone stream of every session, and to every stream that listens for changes of its kind:
one row in the log, one notification for each node.

Arguments: store; data, the message; kind, the list whose change the message tells of, tools, prompts or resources;
default NULL, a message for sessions only.
Returns: the event id.
Errors: TM001 no message, or another kind; TM002 no such store; TM004 over maximum_message_size; TM011 above read
committed.
Example: SELECT tmcp.broadcast('tmcp', tmcp.list_changed('tools'), 'tools');$$;

CREATE FUNCTION tmcp.publish(store text, uri text, data text, principal text DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(publish.store);
BEGIN
    PERFORM tmcp._check_uri(publish.uri);
    PERFORM tmcp._check_message_size(octet_length(publish.data), s.maximum_message_size);
    RETURN tmcp._publish(s, publish.uri, publish.data, publish.principal);
END
$$;
COMMENT ON FUNCTION tmcp.publish(text, text, text, text) IS
$$Sends a message to whoever is subscribed to a resource: sessions, and streams that listen.

Arguments: store; uri of the resource; data, the message; principal, the only user who gets it, for a resource that each
user has one of; default NULL, everybody who is subscribed.
Returns: to how many sessions and listening streams it was sent.
Errors: TM001 no message, or a uri that cannot be one; TM002 no such store; TM004 over maximum_message_size; TM011 above
read committed.
Example: SELECT tmcp.publish('tmcp', 'note://plan', tmcp.resource_updated('note://plan'));$$;

CREATE FUNCTION tmcp.log(store text, level tmcp.log_level, data text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(log.store);
BEGIN
    PERFORM tmcp._check_given('the log level', log.level IS NOT NULL);
    PERFORM tmcp._check_message_size(octet_length(log.data), s.maximum_message_size);
    RETURN tmcp._log(s, log.level, log.data);
END
$$;
COMMENT ON FUNCTION tmcp.log(text, tmcp.log_level, text) IS
$$Sends a log message to the sessions that want to hear of its level, and to those that never said what they want.

Arguments: store; level of the message; data, the message.
Returns: to how many sessions it was sent.
Errors: TM001 no level or no message; TM002 no such store; TM004 over maximum_message_size; TM011 above read committed.
Example: SELECT tmcp.log('tmcp', 'warning',
    '{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "warning", "data": "disk is full"}}');$$;

CREATE FUNCTION tmcp.fetch_messages(
    store text,
    node bigint,
    after bigint,
    maximum_count bigint DEFAULT 1000,
    maximum_bytes bigint DEFAULT 8388608,
    after_stream bigint DEFAULT NULL
) RETURNS TABLE (event_id bigint, stream bigint, data text, kind text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- With a full log the whole rest of it looks expensive enough to be compiled, for 14 ms a page.
SET jit = off
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(fetch_messages.store);
    last_stream constant bigint := coalesce(fetch_messages.after_stream, 9223372036854775807);
    -- A cursor is planned for its first rows; else each page would read and sort all that is left of the log. The node
    -- is looked up for each message; a join or EXISTS may read all streams for a single one.
    rest CURSOR FOR
        SELECT m.event_id, m.stream, m.data, m.kind
        FROM tmcp.messages AS m
        WHERE (m.event_id, m.stream) > (fetch_messages.after, last_stream) AND m.store = s.store
          AND (m.stream IS NULL
               OR (SELECT st.node FROM tmcp.streams AS st WHERE st.stream = m.stream) = fetch_messages.node)
        ORDER BY m.event_id, m.stream;
    count integer := 0;
    bytes bigint := 0::bigint;
    last_event_id bigint;
BEGIN
    PERFORM tmcp._require_read_committed();
    FOR next_message IN rest LOOP
        -- Between two rows of one event only for a caller who goes on from there. A page that has reached neither is the last.
        EXIT WHEN count > 0 AND (next_message.event_id > last_event_id OR fetch_messages.after_stream IS NOT NULL)
              AND (count >= fetch_messages.maximum_count OR bytes >= fetch_messages.maximum_bytes);
        count := count + 1;
        bytes := bytes + octet_length(next_message.data);
        last_event_id := next_message.event_id;
        fetch_messages.event_id := next_message.event_id;
        fetch_messages.stream := next_message.stream;
        fetch_messages.data := next_message.data;
        fetch_messages.kind := next_message.kind;
        RETURN NEXT;
    END LOOP;
    -- Looked at last, for the same reason as in tmcp.replay. The node can have missed only what followed the attaching of a
    -- stream; what was sent before is for the stream's replay.
    IF fetch_messages.after < (SELECT r.purged_through FROM tmcp.rotation AS r)
       AND EXISTS (SELECT FROM tmcp.streams AS st
                   LEFT JOIN tmcp.purged_broadcasts AS b
                       ON b.store = st.store AND (st.id = st.session_id OR st.kinds <> '{}')
                   WHERE st.node = fetch_messages.node AND st.store = s.store
                     AND greatest(st.purged_through, b.purged_through)
                         > greatest(fetch_messages.after, st.attached_after)) THEN
        PERFORM tmcp._raise_purged(fetch_messages.after);
    END IF;
END
$$;
COMMENT ON FUNCTION tmcp.fetch_messages(text, bigint, bigint, bigint, bigint, bigint) IS
$$What was sent to the streams of a node after an event: for a node that was told of a message without its data, or was
cut off. LISTEN again first, then fetch, then drop what comes twice by its event id.

Arguments: store; node; after, the last event id that the node has seen; maximum_count, messages after which no further
event is begun, default 1000; maximum_bytes, likewise, default 8 MiB; after_stream, the stream with whose message of that
event a page ended, 9223372036854775807 where it ended with the event or a broadcast: then no further message is begun
either, and a message for many streams comes in several pages; default NULL, which never ends a page within an event.
Returns: event_id; stream, NULL for a broadcast, which is for every standalone stream; data; and kind, NULL unless the
broadcast is for the streams that listen for this kind as well; in the order of event_id and stream. Call again after the
last event_id, and stream, unless both were fewer.
Errors: TM002 no such store; TM010 messages that were sent to the node's streams since it attached them, and since that
event, were removed from the log; TM011 above read committed.
Example: SELECT * FROM tmcp.fetch_messages('tmcp', 1, 1790000000000000);$$;

CREATE FUNCTION tmcp.resource_updated(uri text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":' || to_json(uri) || '}}'
$$;
COMMENT ON FUNCTION tmcp.resource_updated(text) IS
$$The message that tells a subscriber that a resource has changed.

Arguments: uri of the resource.
Returns: a JSON-RPC notification as text. Source: MCP 2025-11-25, server/resources, "Subscriptions".
Example: SELECT tmcp.resource_updated('note://plan');$$;

CREATE FUNCTION tmcp.list_changed(kind text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF kind IN ('tools', 'prompts', 'resources') THEN
        RETURN '{"jsonrpc":"2.0","method":"notifications/' || kind || '/list_changed"}';
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'TM001',
        MESSAGE = format('there is no list of %L', kind),
        HINT = 'Give tools, prompts or resources.';
END
$$;
COMMENT ON FUNCTION tmcp.list_changed(text) IS
$$The message that tells a client that a list has changed.

Arguments: kind, tools, prompts or resources.
Returns: a JSON-RPC notification as text. Source: MCP 2025-11-25, server/tools, "List Changed Notification".
Errors: TM001 another kind.
Example: SELECT tmcp.list_changed('tools');$$;
