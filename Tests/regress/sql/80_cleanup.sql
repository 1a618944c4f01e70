-- Cleanup: what time does to nodes, streams, sessions and messages. Nothing here waits: times are set back instead.
\set SHOW_CONTEXT never
SELECT tmcp.create_store('cleanup'), tmcp.configure_store('cleanup', freshness_window => '1 minute');
UPDATE tmcp.rotation SET rotated_at = clock_timestamp();
SELECT node AS dead FROM tmcp.register_node('cleanup', 'dead') \gset
SELECT node AS alive FROM tmcp.register_node('cleanup', 'alive') \gset
SELECT count(*) FROM tmcp.attach_batch('cleanup', :dead, ARRAY['a', 'b', 'c', 'd', 'e']);
SELECT state FROM tmcp.attach('cleanup', :alive, 'other');

-- With nothing due, nothing is done.
SELECT * FROM tmcp.cleanup();
-- A node that missed its window loses its streams, which stay resumable, and is removed once it has none.
UPDATE tmcp.nodes SET heartbeat_at = heartbeat_at - interval '61 seconds' WHERE node = :dead;
SELECT detached_streams FROM tmcp.cleanup(batch => 3);
SELECT streams FROM tmcp.node_status WHERE name = 'dead';
SELECT detached_streams FROM tmcp.cleanup(batch => 3);
SELECT name FROM tmcp.node_status WHERE store = 'cleanup';
SELECT id, node IS NULL AS detached FROM tmcp.streams JOIN tmcp.stores USING (store) WHERE name = 'cleanup' ORDER BY id;
SELECT state FROM tmcp.attach('cleanup', :alive, 'a');

-- A stream that was lost for longer than messages are kept is gone: there is nothing left to resume.
SELECT tmcp.set_retention('5 minutes');
UPDATE tmcp.streams SET detached_at = detached_at - interval '4 minutes 50 seconds' WHERE id IN ('b', 'c', 'd', 'e');
SELECT expired_streams FROM tmcp.cleanup();
UPDATE tmcp.streams SET detached_at = detached_at - interval '20 seconds' WHERE id IN ('b', 'c', 'd');
SELECT expired_streams FROM tmcp.cleanup(batch => 2);
SELECT expired_streams FROM tmcp.cleanup(batch => 2);
SELECT id FROM tmcp.streams JOIN tmcp.stores USING (store) WHERE name = 'cleanup' ORDER BY id;
SELECT tmcp.send('cleanup', 'b', 'too late');

-- A session that was not used for the idle limit ends, with its subscriptions and in every store by its own limit.
SELECT tmcp.create_store('patient');
SELECT tmcp.configure_store('patient', session_idle_limit => '1 day', freshness_window => '1 minute');
SELECT tmcp.set_client_info(store, 'idle', '{}'), tmcp.add_subscription(store, 'idle', 'note://plan')
FROM unnest(ARRAY['cleanup', 'patient']) AS store;
SELECT tmcp.set_client_info('cleanup', 'a', '{}'), tmcp.set_client_info('cleanup', 'e', '{}'), tmcp.set_client_info('cleanup', 'fresh', '{}');
UPDATE tmcp.sessions SET last_active_at = now() - interval '61 minutes' WHERE id <> 'fresh';
SELECT ended_sessions FROM tmcp.cleanup();
-- One that has a stream, held or resumable, is in use, even if its standalone stream is not open.
SELECT id, last_active_at > now() - interval '1 minute' AS in_use FROM tmcp.sessions JOIN tmcp.stores USING (store)
WHERE name = 'cleanup' ORDER BY id;
SELECT tmcp.get_client_info('patient', 'idle'), array(SELECT tmcp.get_subscriptions('patient', 'note://plan')) AS subscribed,
       array(SELECT tmcp.get_subscriptions('cleanup', 'note://plan')) AS ended;
SELECT tmcp.set_client_info('cleanup', 'busy', '{}');
SELECT state FROM tmcp.attach('cleanup', :alive, 'request of busy', session_id => 'busy');
UPDATE tmcp.sessions SET last_active_at = now() - interval '61 minutes' WHERE id = 'busy';
SELECT ended_sessions FROM tmcp.cleanup();
-- The time until its last stream was lost counts as use.
UPDATE tmcp.sessions SET last_active_at = now() - interval '2 hours' WHERE id = 'e';
UPDATE tmcp.streams SET detached_at = now() - interval '30 minutes' WHERE id = 'e';
SELECT expired_streams, ended_sessions FROM tmcp.cleanup();
SELECT now() - last_active_at BETWEEN '29 minutes' AND '31 minutes' AS used_until_then FROM tmcp.sessions WHERE id = 'e';
-- In batches, for each store.
SELECT count(*) FROM generate_series(1, 25) AS n, tmcp.set_log_level('cleanup', 'many ' || n, 'info');
UPDATE tmcp.sessions SET last_active_at = now() - interval '61 minutes' WHERE id ~ '^many ';
SELECT ended_sessions FROM tmcp.cleanup(batch => 10);
SELECT ended_sessions FROM tmcp.cleanup(batch => 100);

-- Messages are kept for the retention at least, in three partitions used in turn; the oldest is emptied when the next
-- is due, at half the retention.
CREATE FUNCTION kept() RETURNS TABLE (slot smallint, data text) LANGUAGE sql AS $$
    SELECT m.slot, m.data FROM tmcp.messages AS m JOIN tmcp.stores AS s USING (store)
    WHERE s.name IN ('cleanup', 'patient') ORDER BY m.event_id
$$;
CREATE PROCEDURE let_time_pass() LANGUAGE sql AS $$
    UPDATE tmcp.rotation SET rotated_at = rotated_at - interval '3 minutes';
$$;
UPDATE tmcp.rotation SET rotated_at = clock_timestamp();
TRUNCATE tmcp.messages;
SELECT slot AS first_slot FROM tmcp.rotation \gset
SELECT state FROM tmcp.attach('cleanup', :alive, 'quiet');
SELECT node AS patient FROM tmcp.register_node('patient') \gset
SELECT state FROM tmcp.attach('patient', :patient, 'quiet');
SELECT tmcp.send('cleanup', 'a', '1 for a') AS first_event \gset
SELECT tmcp.broadcast('cleanup', '2 for all of cleanup') AS broadcast_event \gset
SELECT tmcp.send('patient', 'quiet', 'for another store') AS patient_event \gset
SELECT rotated FROM tmcp.cleanup();
CALL let_time_pass();
SELECT rotated FROM tmcp.cleanup();
SELECT tmcp.send('cleanup', 'a', '3 for a') AS third_event \gset
CALL let_time_pass();
SELECT rotated FROM tmcp.cleanup();
SELECT tmcp.send('cleanup', 'a', '4 for a') AS fourth_event \gset
SELECT (slot - :first_slot + 3) % 3 AS turn, data FROM kept();
-- Up to here a resume from the start is possible.
SELECT state FROM tmcp.attach('cleanup', :alive, 'a', :first_event - 1);
-- Then the first partition is emptied and written anew.
CALL let_time_pass();
SELECT rotated FROM tmcp.cleanup();
SELECT tmcp.send('cleanup', 'a', '5 for a') AS fifth_event \gset
SELECT (slot - :first_slot + 3) % 3 AS turn, data FROM kept();
-- Who asks for what is gone is told so; who has seen it resumes, and so does whoever is not concerned: what is gone was
-- not for him.
SELECT state FROM tmcp.attach('cleanup', :alive, 'a', :first_event - 1);
SELECT state FROM tmcp.attach('cleanup', :alive, 'a', :broadcast_event);
SELECT state FROM tmcp.attach('cleanup', :alive, 'quiet', :broadcast_event - 1) AS missed_the_broadcast;
SELECT state FROM tmcp.attach('cleanup', :alive, 'quiet', :broadcast_event) AS saw_the_broadcast;
SELECT state FROM tmcp.attach('patient', :patient, 'quiet', :patient_event - 1) AS missed_its_message;
SELECT state FROM tmcp.attach('patient', :patient, 'quiet', :patient_event) AS saw_its_message;
-- A stream that carries no broadcasts does not miss any.
SELECT state FROM tmcp.attach('cleanup', :alive, 'request of busy', (SELECT starts_after FROM tmcp.streams WHERE id = 'request of busy'), 'busy');
-- The same for a node that fetches what it missed.
SELECT regress.outcome(format($$SELECT tmcp.fetch_messages('cleanup', %s, %s)$$, :alive, :first_event));
SELECT data FROM tmcp.fetch_messages('cleanup', :alive, :broadcast_event);
-- It has missed nothing of what was sent before it attached a stream, not even if it was quiet ever since: that came by the
-- replay, or is kept from a client that starts anew.
SELECT node AS late FROM tmcp.register_node('cleanup', 'late') \gset
SELECT state FROM tmcp.attach_batch('cleanup', :late, ARRAY['a', 'quiet'], ARRAY[:broadcast_event, :broadcast_event]);
SELECT data FROM tmcp.fetch_messages('cleanup', :late, :first_event - 1);
-- Nor does it matter to it that others have a stream for which messages are gone, or that it has none for broadcasts.
SELECT tmcp.stop_node('cleanup', :late) AS detached;
SELECT node AS late FROM tmcp.register_node('cleanup', 'late') \gset
SELECT state FROM tmcp.attach_batch('cleanup', :late, ARRAY['request of nobody'], session_ids => ARRAY['nobody']);
SELECT count(*) FROM tmcp.fetch_messages('cleanup', :late, 0) WHERE stream IS NOT NULL;
-- What was sent since, it has missed, be it that the process has brought the stream along under a new number.
SELECT state, stream AS brought, event_id AS position FROM tmcp.attach('cleanup', :late, 'brought along') \gset brought_
SELECT tmcp.send('cleanup', 'brought along', 'missed') AS missed_event \gset
UPDATE tmcp.nodes SET heartbeat_at = heartbeat_at - interval '1 hour' WHERE node = :late;
SELECT node AS later FROM tmcp.register_node('cleanup', 'later') \gset
SELECT state FROM tmcp.reattach('cleanup', :later, ARRAY[:brought_brought], ARRAY[:brought_position], ARRAY[:brought_position]);
SELECT data FROM tmcp.fetch_messages('cleanup', :later, :brought_position);
BEGIN;
UPDATE tmcp.streams SET purged_through = :missed_event WHERE id = 'brought along';
UPDATE tmcp.rotation SET purged_through = :missed_event;
SELECT regress.outcome(format($$SELECT tmcp.fetch_messages('cleanup', %s, %s)$$, :later, :brought_position));
SELECT regress.outcome(format($$SELECT tmcp.fetch_messages('cleanup', %s, %s)$$, :later, :missed_event));
ROLLBACK;
SELECT tmcp.stop_node('cleanup', :late), tmcp.stop_node('cleanup', :later);
DELETE FROM tmcp.streams WHERE id IN ('brought along', 'request of nobody');
DELETE FROM tmcp.messages WHERE event_id = :missed_event;

-- While somebody reads the oldest partition, pg_dump for instance, rotation does not wait; it is done the next time.
SELECT regress.connect('reader');
SELECT (slot + 1) % 3 AS oldest FROM tmcp.rotation \gset
SELECT regress.dblink_exec('reader', 'BEGIN') AS began;
SELECT * FROM regress.dblink('reader', format('SELECT count(*) FROM tmcp.messages_%s', :oldest)) AS t (count bigint);
CALL let_time_pass();
SELECT rotated FROM tmcp.cleanup();
SELECT (slot - :first_slot + 3) % 3 AS turn, data FROM kept();
SELECT state FROM tmcp.attach('cleanup', :alive, 'a', :broadcast_event) AS nothing_is_purged;
SELECT regress.dblink_exec('reader', 'COMMIT') AS ended;
SELECT rotated FROM tmcp.cleanup();
SELECT (slot - :first_slot + 3) % 3 AS turn, data FROM kept();
SELECT state FROM tmcp.attach('cleanup', :alive, 'a', :broadcast_event);
-- It never happens twice in a row, and in an idle system it does no harm.
SELECT rotated FROM tmcp.cleanup();

-- Which streams lose messages is remembered in batches, a call for each, and only then is anything removed. One that
-- somebody holds is waited for, without being called again at once.
TRUNCATE tmcp.messages;
SELECT count(*) + 2 AS batch FROM tmcp.streams \gset
SELECT min(event_id) AS before_batched FROM tmcp.attach_batch('cleanup', :alive, ARRAY(SELECT 'batched ' || n FROM generate_series(1, 5) AS n)) \gset
SELECT array_position(tmcp.send_batch('cleanup', array_agg('batched ' || n), array_agg('x'::text)), NULL) AS unsent FROM generate_series(1, 5) AS n;
UPDATE tmcp.rotation SET slot = (slot + 2) % 3, rotated_at = clock_timestamp() - interval '1 hour';
CREATE VIEW remembered AS
    SELECT string_agg(id, ', ' ORDER BY id) AS remembered FROM tmcp.streams WHERE id ~ '^batched' AND purged_through > 0;
SELECT rotated, unfinished FROM tmcp.cleanup(:batch);
SELECT * FROM remembered;
SELECT regress.dblink_exec('reader', 'BEGIN') AS began;
SELECT * FROM regress.dblink('reader', $$SELECT id FROM tmcp.streams WHERE id = 'batched 4' FOR UPDATE$$) AS t (held text);
SELECT rotated, unfinished FROM tmcp.cleanup(:batch);
SELECT * FROM remembered;
SELECT rotated, unfinished FROM tmcp.cleanup(:batch);
SELECT rotated, unfinished FROM tmcp.cleanup();
SELECT count(*) AS kept FROM tmcp.messages;
SELECT regress.dblink_exec('reader', 'COMMIT') AS ended;
SELECT rotated, unfinished FROM tmcp.cleanup(:batch);
SELECT * FROM remembered;
SELECT count(*) AS kept FROM tmcp.messages;
SELECT DISTINCT state FROM tmcp.attach_batch('cleanup', :alive, ARRAY(SELECT 'batched ' || n FROM generate_series(1, 5) AS n),
                                             array_fill(:before_batched::bigint, ARRAY[5]));
DROP VIEW remembered;
-- The next rotation begins with the first stream again.
SELECT tmcp.send('cleanup', 'batched 1', 'x') IS NOT NULL AS sent;
UPDATE tmcp.rotation SET slot = (slot + 2) % 3, rotated_at = clock_timestamp() - interval '1 hour';
SELECT state FROM tmcp.attach('cleanup', :alive, 'batched 1', (SELECT purged_through FROM tmcp.streams WHERE id = 'batched 1'));
SELECT rotated FROM tmcp.cleanup();
SELECT state FROM tmcp.attach('cleanup', :alive, 'batched 1', (SELECT purged_through - 1 FROM tmcp.streams WHERE id = 'batched 1'));
-- The other kinds come in batches as well, and whoever is called is told when to call again.
UPDATE tmcp.streams SET node = NULL, detached_at = now() - interval '1 hour' WHERE id ~ '^batched';
SELECT expired_streams, unfinished FROM tmcp.cleanup(batch => 4);
SELECT expired_streams, unfinished FROM tmcp.cleanup(batch => 4);

-- One cleanup at a time: another finds it under way and does nothing.
SELECT regress.dblink_exec('reader', 'BEGIN') AS began;
SELECT * FROM regress.dblink('reader', 'SELECT rotated FROM tmcp.cleanup()') AS t (rotated boolean);
SELECT * FROM tmcp.cleanup();
SELECT regress.dblink_exec('reader', 'COMMIT') AS ended;
-- What somebody else holds is left for the next time, a node that attaches for instance.
SELECT regress.dblink_exec('reader', 'BEGIN') AS began;
SELECT * FROM regress.dblink('reader', format('SELECT node FROM tmcp.nodes WHERE node = %s FOR KEY SHARE', :patient)) AS t (node bigint)
WHERE node IS NULL;
UPDATE tmcp.nodes SET heartbeat_at = heartbeat_at - interval '2 minutes' WHERE node = :patient;
SELECT detached_streams FROM tmcp.cleanup();
SELECT regress.dblink_exec('reader', 'COMMIT') AS ended;
SELECT detached_streams FROM tmcp.cleanup();
SELECT regress.dblink_disconnect('reader') AS done;

SELECT tmcp.cleanup(0);
SELECT tmcp.cleanup(100001);
SELECT tmcp.cleanup(NULL);
\echo :SQLSTATE
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tmcp.cleanup();
\echo :SQLSTATE
ROLLBACK;
SELECT tmcp.drop_store('cleanup'), tmcp.drop_store('patient');
DROP FUNCTION kept;
DROP PROCEDURE let_time_pass;
