-- Seeing what happens: views for people and for monitoring systems.
\set SHOW_CONTEXT never
SELECT tmcp.create_store('monitoring'), tmcp.configure_store('monitoring', freshness_window => '1 minute');
UPDATE tmcp.rotation SET rotated_at = clock_timestamp();
TRUNCATE tmcp.messages;
SELECT node FROM tmcp.register_node('monitoring', 'server 1') \gset
SELECT node AS dead FROM tmcp.register_node('monitoring', 'server 2') \gset
SELECT tmcp.start_session('monitoring', 'a', '{}', '{}', 'ann', 'warning', '2025-11-25');
SELECT tmcp.start_session('monitoring', id) FROM unnest(ARRAY['b', 'c']) AS id;
SELECT tmcp.add_subscription('monitoring', 'a', uri, 'ann') FROM unnest(ARRAY['note://1', 'note://2']) AS uri;
SELECT state FROM tmcp.attach('monitoring', :node, 'a', principal => 'ann');
SELECT state FROM tmcp.attach('monitoring', :node, 'request of a', session_id => 'a', principal => 'ann');
SELECT state FROM tmcp.attach('monitoring', :dead, 'b');
SELECT state FROM tmcp.attach('monitoring', NULL, 'psql');
UPDATE tmcp.nodes SET heartbeat_at = heartbeat_at - interval '2 minutes' WHERE node = :dead;

-- Everything below is read by a member of pg_monitor.
CREATE ROLE regress_reader IN ROLE pg_monitor;
SET ROLE regress_reader;
-- The nodes: their heartbeat, whether they are alive, how many streams they hold.
SELECT store, name, registered, date_trunc('minute', age) AS age, fresh, streams, started_at <= now() AS started
FROM tmcp.node_status WHERE store = 'monitoring' ORDER BY node;
-- The sessions, and the live node that holds each. The stream of b is held by a node that died, and c has none.
SELECT store, id, principal, protocol_version, log_level, subscriptions, node IS NOT NULL AS open, node_name,
       age < interval '1 minute' AS young, created_at <= last_active_at AS active
FROM tmcp.session_status WHERE store = 'monitoring' ORDER BY id;
-- The streams without a node, and what they have missed.
RESET ROLE;
SELECT detached_streams FROM tmcp.cleanup();
SELECT tmcp.send('monitoring', id, 'x') IS NOT NULL AS sent FROM unnest(ARRAY['a', 'b', 'c', 'b']) AS id;
SELECT tmcp.broadcast('monitoring', 'x') IS NOT NULL AS sent;
SET ROLE regress_reader;
SELECT store, id, session_id, messages, detached_for < interval '1 minute' AS lately FROM tmcp.stream_backlog WHERE store = 'monitoring' ORDER BY id;
-- The log: three partitions, one of them written.
SELECT count(*), count(*) FILTER (WHERE written) AS written, sum(bytes) > 0 AS sized, min(retention) AS retention,
       count(first_event_id) AS with_messages, bool_and(first_event_id < last_event_id AND first_at < last_at) FILTER (WHERE first_event_id IS NOT NULL) AS spans_time,
       bool_and(rotated_at <= now()) AS rotated, bool_and(estimated_messages >= 0) AS estimated
FROM tmcp.log_status;
SELECT last_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute' AS lately FROM tmcp.log_status WHERE written;
-- What waits: nothing.
SELECT notification_queue_used < 0.5 AS room, outbox_items, waiting_senders FROM tmcp.queue_status;
-- No view shows a message or a channel, which would let one listen.
SELECT c.relname, a.attname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
WHERE c.relnamespace = 'tmcp'::regnamespace AND c.relkind = 'v' AND has_table_privilege(c.oid, 'SELECT') AND a.attname IN ('channel', 'data');
SELECT tmcp.version() ~ '^\d+\.\d+\.\d+$' AS three_numbers;
RESET ROLE;
DROP ROLE regress_reader;
SELECT tmcp.drop_store('monitoring');
