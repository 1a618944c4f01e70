-- At 100,000 streams and sessions no call that is made all the time reads a table from end to end, and a heartbeat
-- touches no index.
\set SHOW_CONTEXT never
SET statement_timeout = '5min'; -- of what is waited for below
SELECT tmcp.create_store('plans'), tmcp.configure_store('plans', freshness_window => '1 hour', session_idle_limit => '1 day');

-- A heartbeat is a HOT update: no index has a new entry, and the page makes room for itself. Unless it is full, which it may
-- be a few times while autovacuum has a snapshot; with an index on heartbeat_at not one of them is.
SELECT tmcp.register_node('plans', 'number ' || n) IS NOT NULL AS registered FROM generate_series(1, 3) AS n;
SELECT regress.connect('other');
SELECT n_tup_upd AS updated_before, n_tup_upd - n_tup_hot_upd AS not_hot_before
FROM pg_stat_user_tables WHERE relid = 'tmcp.nodes'::regclass \gset
SELECT set_config('regress.updated_before', :'updated_before', false) IS NOT NULL AS noted;
DO $$
DECLARE
    some_node bigint;
BEGIN
    FOR run IN 1..200 LOOP
        FOR some_node IN SELECT n.node FROM tmcp.nodes AS n LOOP
            PERFORM FROM regress.dblink('other', format('SELECT tmcp.heartbeat(''plans'', %s)', some_node)) AS t (alive boolean);
        END LOOP;
        COMMIT; -- An old snapshot would keep pages from making room.
    END LOOP;
END
$$;
-- Statistics are handed over when a connection ends, so they are waited for.
SELECT regress.dblink_disconnect('other') AS done;
DO $$
BEGIN
    WHILE (SELECT s.n_tup_upd < current_setting('regress.updated_before')::bigint + 600 FROM pg_stat_user_tables AS s WHERE s.relid = 'tmcp.nodes'::regclass) LOOP
        PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
    END LOOP;
END
$$;
SELECT n_tup_upd - :updated_before >= 600 AS updated, n_tup_upd - n_tup_hot_upd - :not_hot_before < 60 AS hot
FROM pg_stat_user_tables WHERE relid = 'tmcp.nodes'::regclass;
SELECT pg_relation_size('tmcp.nodes') <= 10 * 8192 AS no_bloat;

UPDATE tmcp.rotation SET rotated_at = clock_timestamp(), purged_through = 0;
TRUNCATE tmcp.messages;
SELECT store FROM tmcp.stores WHERE name = 'plans' \gset
-- Statistics are always late: these were gathered when there was another store only.
SELECT tmcp.create_store('older');
SELECT node AS older_node FROM tmcp.register_node('older') \gset
SELECT count(*) FROM tmcp.attach_batch('older', :older_node, ARRAY(SELECT 'session ' || n FROM generate_series(1, 1000) AS n));
INSERT INTO tmcp.sessions (store, id) SELECT s.store, 'session ' || n FROM tmcp.stores AS s, generate_series(1, 1000) AS n WHERE s.name = 'older';
INSERT INTO tmcp.subscriptions (store, uri, session) SELECT store, 'note://' || session, session FROM tmcp.sessions;
ANALYZE tmcp.streams, tmcp.sessions, tmcp.subscriptions, tmcp.stream_subscriptions;
-- So are plans that were kept from when it had few streams.
SELECT count(tmcp.send_batch('older', ARRAY['session 1', 'session 2'], ARRAY['x', 'x'])) AS sent,
       count((SELECT count(*) FROM tmcp.attach_batch('older', :older_node, ARRAY['session 1', 'session ' || n]))) AS attached
FROM generate_series(2, 7) AS n;
INSERT INTO tmcp.nodes (store, channel, listens_for_many) SELECT :store, 'plans ' || n, true FROM generate_series(1, 20) AS n;
SELECT min(node) AS first_node, min(node) + 1 AS node FROM tmcp.nodes WHERE store = :store AND channel ~ '^plans ' \gset
INSERT INTO tmcp.streams (store, id, session_id, node, starts_after, attached_after, detached_at)
SELECT :store, 'session ' || n, 'session ' || n, CASE WHEN n % 10 > 0 THEN :first_node + n % 20 END, 0, 0, CASE WHEN n % 10 = 0 THEN now() END
FROM generate_series(1, 100000) AS n;
INSERT INTO tmcp.sessions (store, id, principal, client_info)
SELECT :store, 'session ' || n, CASE WHEN n % 2 = 0 THEN 'user ' || n % 1000 END, '{"name": "example"}' FROM generate_series(1, 100000) AS n;
INSERT INTO tmcp.subscriptions (store, uri, session) SELECT :store, 'note://' || session % 1000, session FROM tmcp.sessions WHERE store = :store;
INSERT INTO tmcp.streams (store, id, kinds, principal, node, starts_after, attached_after, detached_at)
SELECT :store, 'listener ' || n, '{tools}', 'user ' || n % 1000, :first_node + 10 + n % 10, 0, 0, NULL FROM generate_series(1, 20000) AS n;
INSERT INTO tmcp.stream_subscriptions (store, uri, stream)
SELECT :store, 'note://' || stream % 1000, stream FROM tmcp.streams WHERE store = :store AND session_id IS NULL;
INSERT INTO tmcp.messages (event_id, store, stream, data, slot)
SELECT 1000 + row_number() OVER (), :store, CASE WHEN stream % 100 > 0 THEN stream END, 'some message', stream % 3
FROM tmcp.streams WHERE store = :store AND session_id IS NOT NULL;

-- What a call reads that it should not: tables that grow from end to end, or more than 10,000 rows through indexes. Each
-- runs six times: plans are made anew five times and then may be kept. Whatever it did is rolled back.
CREATE FUNCTION reads_too_much(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before jsonb;
    found text;
BEGIN
    BEGIN
        SELECT jsonb_object_agg(s.relname, to_jsonb(s)) INTO before FROM pg_stat_xact_user_tables AS s WHERE s.schemaname = 'tmcp';
        FOR run IN 1..6 LOOP
            EXECUTE replace(call, '{run}', run::text);
        END LOOP;
        SELECT string_agg(format('%s: %s times all, %s rows', d.relname, d.seq_scan, d.rows), ', ' ORDER BY d.relname) INTO found
        FROM (SELECT s.relname, s.seq_scan - (before -> s.relname ->> 'seq_scan')::bigint AS seq_scan,
                     s.idx_tup_fetch - (before -> s.relname ->> 'idx_tup_fetch')::bigint AS rows
              FROM pg_stat_xact_user_tables AS s
              WHERE s.schemaname = 'tmcp' AND s.relname ~ '^(streams|sessions|subscriptions|stream_subscriptions|messages_[0-2])$') AS d
        WHERE d.seq_scan > 0 OR d.rows > 60000;
        RAISE EXCEPTION USING ERRCODE = 'RB000';
    EXCEPTION WHEN SQLSTATE 'RB000' THEN NULL;
    END;
    RETURN found;
END
$$;
-- The measure works: what reads everything is found out.
SELECT reads_too_much('SELECT count(*) FROM tmcp.streams');

CREATE TEMPORARY TABLE calls (place integer GENERATED ALWAYS AS IDENTITY, call text);
INSERT INTO calls (call) VALUES
    ($$SELECT tmcp.send('plans', 'session 777', 'x')$$),
    ($$SELECT tmcp.send('plans', 'nobody', 'x')$$),
    ($$SELECT tmcp.send_batch('plans', ARRAY['session 1'], ARRAY['x'])$$),
    ($$SELECT tmcp.send_batch('plans', array_agg('session ' || n), array_agg('x'::text)) FROM generate_series(1, 16) AS n$$),
    ($$SELECT tmcp.send_batch('plans', array_agg('session ' || n * 97), array_agg('x'::text)) FROM generate_series(1, 64) AS n$$),
    ($$SELECT tmcp.broadcast('plans', 'x')$$),
    ($$SELECT tmcp.publish('plans', 'note://7', 'x')$$),
    ($$SELECT tmcp.publish('plans', 'note://7', 'x', 'user 7')$$),
    ($$SELECT tmcp.broadcast('plans', 'x', 'tools')$$),
    ($$SELECT tmcp.listen('plans', {node}, 'new listener {run}', ARRAY['tools'], ARRAY['note://7', 'note://8'], 'user 7')$$),
    ($$SELECT tmcp.delete_stream('plans', 'listener 77{run}')$$),
    ($$SELECT tmcp.end_listening('plans', 'user {run}')$$),
    ($$SELECT tmcp.get_subscriptions('plans', 'note://7')$$),
    ($$SELECT tmcp.heartbeat('plans', {node})$$),
    ($$SELECT tmcp.has('plans', 'session 777')$$),
    ($$SELECT tmcp.attach('plans', {node}, 'new {run}')$$),
    ($$SELECT tmcp.attach('plans', {node}, 'session 7', 999999, principal => NULL)$$),
    ($$SELECT tmcp.attach('plans', {node}, 'request {run}', session_id => 'session 7')$$),
    ($$SELECT tmcp.attach('plans', NULL, 'psql {run}')$$),
    ($$SELECT tmcp.attach_batch('plans', {node}, array_agg('new {run} ' || n)) FROM generate_series(1, 16) AS n$$),
    ($$SELECT tmcp.attach_batch('plans', {node}, array_agg('session ' || n * 97), array_agg(999999::bigint)) FROM generate_series(1, 64) AS n$$),
    ($$SELECT tmcp.detach('plans', {node}, ARRAY[{stream} + {run}, {stream} + 20 + {run}])$$),
    ($$SELECT tmcp.detach('plans', {node}, array_agg({stream} + n * 7)) FROM generate_series(1, 64) AS n$$),
    ($$SELECT tmcp.delete_stream('plans', 'session 77{run}')$$),
    ($$DELETE FROM tmcp.plans_sessions WHERE id = 'session 88{run}'$$),
    ($$SELECT tmcp.replay('plans', {stream} + 5, 1000, 9223372036854775807)$$),
    ($$SELECT tmcp.replay('plans', {stream} + 5, 90000, 9223372036854775807)$$),
    ($$SELECT tmcp.fetch_messages('plans', {node}, 100900)$$),
    ($$SELECT tmcp.fetch_messages('plans', {node}, 99000)$$),
    ($$SELECT tmcp.fetch_messages('plans', {node}, 1000, maximum_count => 100)$$),
    ($$SELECT tmcp.fetch_messages('plans', {node}, 1000, maximum_count => 100, after_stream => 9223372036854775807)$$),
    ($$SELECT tmcp.fetch_messages('plans', {node}, 100900, after_stream => 0)$$),
    ($$SELECT tmcp.reattach('plans', {node}, ARRAY[{stream} + {run}], ARRAY[999999], ARRAY[999999])$$),
    ($$SELECT tmcp.reattach('plans', {node}, array_agg({stream} + n * 20), array_agg(999999::bigint), array_agg(999999::bigint)) FROM generate_series(1, 64) AS n$$),
    ($$SELECT tmcp.reattach('plans', {node} + {run}, array_agg({stream} + n * 7), array_agg(999999::bigint), array_agg(999999::bigint)) FROM generate_series(1, 64) AS n$$),
    ($$SELECT tmcp.start_session('plans', 'new {run}', principal => 'ann')$$),
    ($$SELECT tmcp.get_session('plans', 'session 7')$$),
    ($$SELECT tmcp.get_client_info('plans', 'session 8', 'user 8')$$),
    ($$SELECT tmcp.set_client_info('plans', 'session 7', '{}')$$),
    ($$SELECT tmcp.touch_session('plans', 'session 7')$$),
    ($$SELECT tmcp.add_subscription('plans', 'session 7', 'note://{run}')$$),
    ($$SELECT tmcp.remove_subscription('plans', 'session 7', 'note://7')$$),
    ($$SELECT tmcp.end_session('plans', 'session 9{run}')$$),
    ($$SELECT tmcp.stop_node('plans', {node} + {run})$$),
    ($$SELECT tmcp.enqueue('plans', 'session 7', 'x')$$),
    ($$SELECT tmcp.flush_outbox('plans')$$),
    ($$SELECT tmcp.cleanup()$$),
    ($$SELECT FROM tmcp.plans_sessions WHERE id = 'session 7'$$),
    ($$SELECT FROM tmcp.plans_session_client_info WHERE id = 'session 7'$$),
    ($$SELECT FROM tmcp.session_status WHERE store = 'plans' AND id = 'session 7'$$);
SELECT min(stream) AS stream FROM tmcp.streams WHERE store = :store \gset
UPDATE calls SET call = replace(replace(call, '{node}', :'node'), '{stream}', :'stream');

-- With the old statistics no call reads much,
SELECT place, replace(replace(call, :'node', '{node}'), :'stream', '{stream}') AS call, found FROM calls, reads_too_much(call) AS found
WHERE found IS NOT NULL ORDER BY place;
-- and with new ones neither.
ANALYZE tmcp.nodes, tmcp.streams, tmcp.sessions, tmcp.subscriptions, tmcp.stream_subscriptions, tmcp.messages, tmcp.messages_0, tmcp.messages_1, tmcp.messages_2;
SELECT place, replace(replace(call, :'node', '{node}'), :'stream', '{stream}') AS call, found FROM calls, reads_too_much(call) AS found WHERE found IS NOT NULL ORDER BY place;
-- With a limit to the sessions too: they are counted by their row, or by the index of their principal.
SELECT tmcp.configure_store('plans', maximum_sessions => 1000000, maximum_sessions_per_principal => 1000);
SELECT reads_too_much($$SELECT tmcp.start_session('plans', 'new {run}', principal => 'user 8')$$);

SELECT tmcp.drop_store('plans'), tmcp.drop_store('older');
TRUNCATE tmcp.messages;
DROP FUNCTION reads_too_much;
