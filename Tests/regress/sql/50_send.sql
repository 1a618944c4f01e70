-- Sending: to one stream, to many, to all, to subscribers; and what travels in a notification.
\set SHOW_CONTEXT never
SET statement_timeout = '1min'; -- of what is waited for below
SELECT tmcp.create_store('send'), tmcp.configure_store('send', freshness_window => '1 minute');
SELECT node AS one, channel AS one_channel FROM tmcp.register_node('send', 'one') \gset
SELECT node AS two, channel AS two_channel FROM tmcp.register_node('send', 'two') \gset
SELECT regress.listen(:'one_channel', 'one'), regress.listen(:'two_channel', 'two');
SELECT state FROM tmcp.attach_batch('send', :one, ARRAY['a', 'b', 'c']);
SELECT state FROM tmcp.attach_batch('send', :two, ARRAY['x', 'y']);

-- To one stream: one row in the log, one notification for the node that holds it.
SELECT tmcp.send('send', 'a', '{"jsonrpc": "2.0"}') AS first_event \gset
SELECT event_id = :first_event AS logged, data FROM tmcp.messages WHERE event_id = :first_event;
SELECT payload = format(E'%s %s 18\n{"jsonrpc": "2.0"}', :first_event, (SELECT stream FROM tmcp.streams WHERE id = 'a')) AS as_documented
FROM regress.heard('one');
SELECT count(*) FROM regress.heard('two');

-- Event ids are microseconds since 1970, or one more than the last.
SELECT to_timestamp(:first_event / 1000000.0) BETWEEN now() - interval '1 minute' AND now() + interval '1 minute' AS now;
SELECT tmcp.send('send', 'a', 'next') > :first_event AS grows;
SELECT setval('tmcp.event_id', 8000000000000000) IS NOT NULL AS clock_went_back;
SELECT tmcp.send('send', 'a', 'later'), tmcp.send('send', 'a', 'and later');
SELECT setval('tmcp.event_id', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) IS NOT NULL AS clock_is_right;
SELECT message FROM regress.received('one');
DELETE FROM tmcp.messages WHERE event_id >= 8000000000000000;

-- For an id that nobody has, nothing is sent, and that is no error.
SELECT count(*) AS logged_before FROM tmcp.messages \gset
SELECT tmcp.send('send', 'nobody', 'lost') AS event_id, tmcp.send('send', '', 'lost'), tmcp.send('send', NULL, 'lost');
SELECT tmcp.send_batch('send', ARRAY['nobody', 'nobody else'], ARRAY['lost', 'lost']);
SELECT count(*) - :logged_before AS logged FROM tmcp.messages;
-- No message is an error.
SELECT tmcp.send('send', 'a', NULL);
\echo :SQLSTATE
-- An empty one is not.
SELECT tmcp.send('send', 'a', '') IS NOT NULL AS sent;
SELECT inline, message = '' AS empty FROM regress.received('one');

-- A batch is sent in the order given, the frames of a node packed into one notification; NULL stands for all. What
-- cannot be delivered has no event id, and its neighbours do.
SELECT array_agg(e IS NOT NULL ORDER BY place) AS sent,
       array_agg(e ORDER BY place) FILTER (WHERE e IS NOT NULL) = array_agg(e ORDER BY e) FILTER (WHERE e IS NOT NULL) AS in_order
FROM unnest(tmcp.send_batch('send', ARRAY['a', 'x', 'nobody', NULL, 'b', 'a'],
    ARRAY['1 for a', '2 for x', '3 for nobody', '4 for all', '5 for b', '6 for a'])) WITH ORDINALITY AS t (e, place);
SELECT * FROM regress.received('one');
SELECT * FROM regress.received('two');
SELECT tmcp.send_batch('send', '{}', '{}'), tmcp.send_batch('send', NULL, NULL);
SELECT tmcp.send_batch('send', ARRAY['a', 'b'], ARRAY['only one']);
\echo :SQLSTATE
SELECT tmcp.send_batch('send', ARRAY['a', 'b'], ARRAY['one', NULL]);
\echo :SQLSTATE
-- Equal messages to equal streams are still two messages.
SELECT tmcp.send_batch('send', ARRAY['a', 'a'], ARRAY['twice', 'twice']) IS NOT NULL AS sent;
SELECT tmcp.send('send', 'a', 'twice') IS NOT NULL, tmcp.send('send', 'a', 'twice') IS NOT NULL AS sent;
SELECT * FROM regress.received('one');
-- A big batch takes as many notifications as it needs, each below the 8,000 bytes that PostgreSQL carries, and nothing
-- is lost, doubled or out of order.
CREATE TEMPORARY TABLE batch AS
    SELECT n, (ARRAY['a', 'b', 'c', 'x', 'y'])[1 + n % 5] AS id, n || repeat(' ü', n * 37 % 1500) AS data
    FROM generate_series(1, 1000) AS n;
SELECT cardinality(tmcp.send_batch('send', array_agg(id ORDER BY n), array_agg(data ORDER BY n))) AS sent FROM batch;
CREATE TEMPORARY TABLE heard AS SELECT 'one' AS node, h.* FROM regress.heard('one') AS h;
INSERT INTO heard SELECT 'two', h.* FROM regress.heard('two') AS h;
SELECT node, max(octet_length(payload)) < 8000 AS fit FROM heard GROUP BY node ORDER BY node;
SELECT h.node, count(*) AS frames, bool_and(b.data = f.data AND b.id = st.id) AS right, count(DISTINCT b.n) AS different,
       array_agg(b.n ORDER BY h.place, f.place) = array_agg(b.n ORDER BY b.n) AS in_order
FROM heard AS h
CROSS JOIN LATERAL regress.frames(h.payload) WITH ORDINALITY AS f (event_id, targets, data, place)
LEFT JOIN batch AS b ON b.n = substring(f.data FROM '^\d+')::integer
LEFT JOIN tmcp.streams AS st ON st.stream = f.targets::bigint
GROUP BY h.node ORDER BY h.node;

-- A message travels inside its notification up to 7,900 bytes, counted as bytes and not as characters; beyond, the
-- notification says that there is something to fetch.
SELECT tmcp.send('send', 'a', repeat('x', 7900)) IS NOT NULL, tmcp.send('send', 'a', repeat('x', 7901)) IS NOT NULL,
       tmcp.send('send', 'a', repeat('ü', 3950)) IS NOT NULL, tmcp.send('send', 'a', repeat('ü', 3950) || 'x') IS NOT NULL;
SELECT tmcp.send_batch('send', array_fill('b'::text, ARRAY[4]),
    ARRAY[repeat('x', 7900), repeat('x', 7901), repeat('😀', 1975), repeat('😀', 1976)]) IS NOT NULL AS sent;
SELECT tmcp.broadcast('send', repeat('x', 7900)) IS NOT NULL, tmcp.broadcast('send', repeat('x', 7901)) IS NOT NULL;
SELECT recipients, inline, octet_length(message), length(message) FROM regress.received('one');
SELECT recipients, inline, octet_length(message) FROM regress.received('two');
-- Also with stream numbers as long as they get, and in the frame of a message for many streams.
SELECT last_value AS last_stream FROM tmcp.streams_stream_seq \gset
ALTER SEQUENCE tmcp.streams_stream_seq RESTART 9223372036854770000;
SELECT count(*) FROM tmcp.attach_batch('send', :one, ARRAY(SELECT 'high ' || n FROM generate_series(1, 900) AS n));
SELECT setval('tmcp.streams_stream_seq', :last_stream) IS NOT NULL AS back;
SELECT tmcp.send('send', 'high 1', repeat('x', 7900)) IS NOT NULL AS sent;
SELECT tmcp.send_batch('send', ARRAY['high 1', 'high 2'], ARRAY[repeat('x', 7900), repeat('y', 7900)]) IS NOT NULL AS sent;
SELECT notification, recipients, inline, octet_length(message) FROM regress.received('one');
SELECT tmcp.log('send', 'info', repeat('x', length)) FROM unnest(ARRAY[0, 1, 4000, 7900, 7901]) AS length;
SELECT sum(cardinality(string_to_array(f.targets, ','))) AS recipients, count(*) AS frames, max(octet_length(f.data)) AS inline_bytes,
       max(octet_length(h.payload)) < 8000 AS fit
FROM regress.heard('one') AS h, regress.frames(h.payload) AS f GROUP BY f.event_id ORDER BY f.event_id;
DELETE FROM tmcp.send_sessions WHERE id ~ '^high ';
SELECT regress.forget('one'), regress.forget('two');
-- With an inline limit of 0 no message is in the queue of notifications, not even a short one; an empty one is.
SELECT tmcp.configure_store('send', inline_limit => 0);
SELECT tmcp.send('send', 'a', 'x') IS NOT NULL, tmcp.send_batch('send', ARRAY['b', NULL], ARRAY['y', 'z']) IS NOT NULL,
       tmcp.log('send', 'info', 'v') AS logged;
SELECT recipients, inline, message FROM regress.received('one');
-- The node fetches them: its own and what is for all, in order, from the last event that it has seen.
SELECT tmcp.send('send', 'x', 'of another node') IS NOT NULL AS sent;
SELECT max(event_id) AS before FROM tmcp.messages WHERE data = 'x' \gset
SELECT st.id, f.data
FROM tmcp.fetch_messages('send', :one, :before - 1) AS f LEFT JOIN tmcp.streams AS st USING (stream)
ORDER BY f.event_id, st.id;
-- In pages that never end within one event: the message for many streams comes whole.
SELECT count(*), count(DISTINCT event_id) FROM tmcp.fetch_messages('send', :one, :before - 1, maximum_count => 1);
SELECT count(*), count(DISTINCT event_id) FROM tmcp.fetch_messages('send', :one, :before - 1, maximum_count => 4);
SELECT count(*), count(DISTINCT event_id) FROM tmcp.fetch_messages('send', :one, :before - 1, maximum_bytes => 0);
SELECT count(*) FROM tmcp.fetch_messages('send', :one, 9223372036854775807);
-- Or in pages that end anywhere, for a caller who goes on after the stream too, so that nothing large comes in one piece.
DO $$
DECLARE
    reader constant bigint := (SELECT node FROM tmcp.nodes AS n WHERE n.name = 'one' AND n.store = (SELECT store FROM tmcp.stores WHERE name = 'send'));
    whole text;
    pages text := '';
    page record;
    after bigint;
    after_stream bigint;
BEGIN
    SELECT string_agg(concat_ws(' ', f.event_id, f.stream, f.data), ', ') INTO whole FROM tmcp.fetch_messages('send', reader, 0) AS f;
    FOR maximum_count IN 0..4 LOOP
        pages := '';
        after := 0;
        after_stream := 9223372036854775807;
        LOOP
            SELECT count(*) AS count, string_agg(concat_ws(' ', f.event_id, f.stream, f.data), ', ' ORDER BY f.place) AS rows,
                   max(f.event_id) AS event_id, (array_agg(f.stream ORDER BY f.place))[count(*)] AS stream INTO page
            FROM tmcp.fetch_messages('send', reader, after, maximum_count, 1000000, after_stream)
                WITH ORDINALITY AS f (event_id, stream, data, kind, place);
            EXIT WHEN page.count = 0;
            IF page.count > greatest(maximum_count, 1) THEN
                RAISE WARNING 'a page of % has %', maximum_count, page.count;
            END IF;
            pages := concat_ws(', ', nullif(pages, ''), page.rows);
            after := page.event_id;
            after_stream := coalesce(page.stream, 9223372036854775807);
        END LOOP;
        RAISE NOTICE 'pages of %: %', maximum_count, CASE WHEN pages = whole THEN 'all there is' ELSE pages || ' instead of ' || whole END;
    END LOOP;
END
$$;
SELECT count(*) FROM tmcp.fetch_messages('send', :one, :before - 1, maximum_bytes => 0, after_stream => 9223372036854775807);
SELECT tmcp.configure_store('send', inline_limit => 7900);

-- A message over the limit is refused, and both sizes are named. Nothing of its batch is sent.
SELECT tmcp.configure_store('send', maximum_message_size => 1024);
SELECT count(*) AS logged_before FROM tmcp.messages \gset
SELECT tmcp.send('send', 'a', repeat('ü', 512)) IS NOT NULL AS sent;
SELECT tmcp.send('send', 'a', repeat('ü', 512) || 'x');
\echo :SQLSTATE
SELECT tmcp.send_batch('send', ARRAY['a', 'b'], ARRAY['fits', repeat('x', 1025)]);
\echo :SQLSTATE
SELECT tmcp.broadcast('send', repeat('x', 1025));
SELECT tmcp.publish('send', 'note://plan', repeat('x', 1025));
SELECT tmcp.log('send', 'info', repeat('x', 1025));
SELECT tmcp.enqueue('send', 'a', repeat('x', 1025));
SELECT count(*) - :logged_before AS logged FROM tmcp.messages;
SELECT tmcp.configure_store('send', maximum_message_size => 4194304);
SELECT regress.forget('one'), regress.forget('two');

-- A broadcast is one row and one notification for each node, whatever the number of sessions.
SELECT tmcp.broadcast('send', tmcp.list_changed('tools')) AS broadcast_event \gset
SELECT stream IS NULL AS for_all, data FROM tmcp.messages WHERE event_id = :broadcast_event;
SELECT * FROM regress.received('one');
SELECT * FROM regress.received('two');

-- A resource update goes to the standalone stream of each session that is subscribed, held or not.
SELECT tmcp.start_session('send', id) FROM unnest(ARRAY['away', 'b', 'x']) AS id;
SELECT tmcp.add_subscription('send', id, 'note://plan') FROM unnest(ARRAY['away', 'b', 'x', 'b']) AS id;
SELECT tmcp.add_subscription('send', 'a', 'note://plans');
SELECT state FROM tmcp.attach('send', :one, 'request of b', session_id => 'b');
SELECT regress.forget('one'), regress.forget('two');
SELECT tmcp.publish('send', 'note://plan', tmcp.resource_updated('note://plan')) AS sessions;
SELECT * FROM regress.received('one');
SELECT * FROM regress.received('two');
SELECT tmcp.publish('send', 'note://plan ', 'nobody'), tmcp.publish('send', 'NOTE://plan', 'nobody');
SELECT tmcp.publish('send', '', 'nobody');
SELECT tmcp.publish('send', repeat('x', 2049), 'nobody');
\echo :SQLSTATE
SELECT tmcp.publish('send', 'note://plan', NULL);

-- A log message goes to the sessions that want its level or a less severe one, and to those that never said.
SELECT tmcp.set_log_level('send', 'away', 'emergency'), tmcp.set_log_level('send', 'b', 'warning'),
       tmcp.set_log_level('send', 'x', 'debug');
SELECT level, tmcp.log('send', level, 'at ' || level) AS sessions
FROM unnest(enum_range(NULL::tmcp.log_level)) AS level;
SELECT message, recipients FROM regress.received('one');
SELECT message, recipients FROM regress.received('two');
SELECT tmcp.log('send', NULL, 'x');
\echo :SQLSTATE
SELECT tmcp.log('send', 'chatty', 'x');
\echo :SQLSTATE

-- The two notifications of MCP that servers send most, as text.
SELECT tmcp.list_changed(kind) FROM unnest(ARRAY['tools', 'prompts', 'resources']) AS kind;
SELECT tmcp.list_changed('people');
SELECT tmcp.list_changed(NULL);
\echo :SQLSTATE
SELECT tmcp.resource_updated(E'note://"quoted" \\ and\nmore ü');
SELECT (tmcp.resource_updated(uri)::json) #>> '{params,uri}' = uri AS parses_back
FROM (VALUES (E'note://"quoted" \\ and\nmore ü')) AS t (uri);

-- Sending is for a transaction of its own, at read committed.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT tmcp.send('send', 'a', 'x');
\echo :SQLSTATE
ROLLBACK;
-- Rolled back, it was not sent.
BEGIN;
SELECT tmcp.send('send', 'a', 'never') IS NOT NULL AS sent, tmcp.broadcast('send', 'never') IS NOT NULL AS sent;
ROLLBACK;
SELECT count(*) FROM regress.received('one');
SELECT count(*) FROM tmcp.messages WHERE data = 'never';

-- The order lock is held until the end of the transaction: another sender waits, and then has a greater event id.
SELECT regress.connect('other');
BEGIN;
SELECT tmcp.send('send', 'a', 'first') AS first_event \gset
SELECT regress.dblink_send_query('other', $$SELECT tmcp.send('send', 'a', 'second')$$);
DO $$
BEGIN
    WHILE (SELECT waiting_senders FROM tmcp.queue_status) = 0 LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SELECT tmcp.send('send', 'a', 'also first') IS NOT NULL AS sent;
COMMIT;
SELECT event_id > :first_event AS later FROM regress.dblink_get_result('other') AS r (event_id bigint);
SELECT message FROM regress.received('one');
SELECT regress.dblink_disconnect('other') AS done;
SELECT tmcp.drop_store('send');
