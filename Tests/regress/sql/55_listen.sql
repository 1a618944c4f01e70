-- Streams that listen for changes without a session, and changes that are published once for both eras.
\set SHOW_CONTEXT never
SELECT tmcp.create_store('listen'), tmcp.configure_store('listen', freshness_window => '1 minute');
SELECT node AS one, channel AS one_channel FROM tmcp.register_node('listen', 'one') \gset
SELECT node AS two, channel AS two_channel FROM tmcp.register_node('listen', 'two') \gset
SELECT regress.listen(:'one_channel', 'one'), regress.listen(:'two_channel', 'two');
CREATE FUNCTION numbers(targets text) RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN targets ~ '^[*]' THEN targets ELSE
        (SELECT string_agg(st.id, ',' ORDER BY st.id) FROM tmcp.streams AS st WHERE st.stream::text = ANY (string_to_array(targets, ','))) END
$$;
CREATE FUNCTION told(connection text) RETURNS TABLE (targets text, message text) LANGUAGE sql AS $$
    SELECT numbers(split_part(h.payload, ' ', 2)), split_part(h.payload, E'\n', 2) FROM regress.heard(connection) AS h
$$;

-- A session of the older revisions, and streams of the newest one, at two nodes.
SELECT tmcp.start_session('listen', 'session', principal => 'alice');
SELECT tmcp.add_subscription('listen', 'session', 'note://plan', 'alice');
SELECT state FROM tmcp.attach('listen', :one, 'session', principal => 'alice');
SELECT stream > 0 AS stream, event_id = (SELECT last_value FROM tmcp.event_id) AS position
FROM tmcp.listen('listen', :one, 'tools and plan', ARRAY['tools'], ARRAY['note://plan'], 'alice');
SELECT stream > 0 AS stream FROM tmcp.listen('listen', :two, 'plan and list', uris => ARRAY['note://plan', 'note://list', 'note://plan'], principal => 'bob');
SELECT stream > 0 AS stream FROM tmcp.listen('listen', :two, 'everything', ARRAY['tools', 'prompts', 'resources']);
SELECT id, kinds, principal, session_id IS NULL AS without_session FROM tmcp.streams ORDER BY stream;
SELECT st.id, u.uri FROM tmcp.stream_subscriptions AS u JOIN tmcp.streams AS st USING (stream) ORDER BY 1, 2;
SELECT store, principal, kinds, subscriptions, node_name FROM tmcp.listener_status ORDER BY stream;

-- A changed resource reaches whoever subscribed to it, in either way, in one call.
SELECT tmcp.publish('listen', 'note://plan', 'plan');
SELECT tmcp.publish('listen', 'note://list', 'list'), tmcp.publish('listen', 'note://other', 'other');
SELECT * FROM told('one');
SELECT * FROM told('two');
-- A resource that each user has one of: only alice's changed.
SELECT tmcp.publish('listen', 'note://plan', 'plan of alice', principal => 'alice');
SELECT tmcp.publish('listen', 'note://plan', 'plan of bob', 'bob');
SELECT tmcp.publish('listen', 'note://plan', 'plan of carol', 'carol');
SELECT * FROM told('one');
SELECT * FROM told('two');

-- A changed list is one row and one notification for each node, which knows its listening streams.
SELECT count(*) AS logged_before FROM tmcp.messages \gset
SELECT tmcp.broadcast('listen', tmcp.list_changed('tools'), 'tools') AS event_id \gset
SELECT count(*) - :logged_before AS logged FROM tmcp.messages;
SELECT stream IS NULL AS broadcast, kind FROM tmcp.messages WHERE event_id = :event_id;
SELECT * FROM told('one');
SELECT * FROM told('two');
-- Without a kind it is a message for sessions, and no stream that listens gets it.
SELECT tmcp.broadcast('listen', 'for sessions') > 0 AS sent, tmcp.log('listen', 'error', 'disk is full') AS sessions;
SELECT * FROM told('one');
SELECT * FROM told('two');
SELECT tmcp.broadcast('listen', 'x', 'Tools');
\echo :SQLSTATE
SELECT tmcp.broadcast('listen', NULL, 'tools');
\echo :SQLSTATE

-- From inside a transaction both are sent at commit.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT tmcp.enqueue_broadcast('listen', 'prompts', 'prompts'), tmcp.enqueue_publish('listen', 'note://plan', 'of bob', 'bob');
COMMIT;
SELECT tmcp.flush_outbox('listen');
SELECT * FROM told('one') WHERE message <> '';
SELECT * FROM told('two') WHERE message <> '';
SELECT tmcp.enqueue_broadcast('listen', 'x', 'changes');
\echo :SQLSTATE

-- A node that fetches learns the kind as well.
SELECT st.id, f.kind, f.data FROM tmcp.fetch_messages('listen', :one, :event_id - 1) AS f LEFT JOIN tmcp.streams AS st USING (stream);
SELECT st.id, f.kind, f.data FROM tmcp.fetch_messages('listen', :two, :event_id - 1) AS f LEFT JOIN tmcp.streams AS st USING (stream);

-- What cannot be listened for, and where, is refused as a whole.
SELECT count(*) AS streams_before FROM tmcp.streams \gset
SELECT tmcp.listen('listen', :one, 'new', ARRAY['tools', 'logs']);
\echo :SQLSTATE
SELECT tmcp.listen('listen', :one, 'new', ARRAY[NULL::text]);
\echo :SQLSTATE
SELECT tmcp.listen('listen', :one, 'new', NULL);
\echo :SQLSTATE
SELECT tmcp.listen('listen', :one, 'new', uris => ARRAY['note://plan', '']);
\echo :SQLSTATE
SELECT tmcp.listen('listen', :one, 'new', uris => ARRAY(SELECT 'note://' || n FROM generate_series(1, 1001) AS n));
\echo :SQLSTATE
SELECT tmcp.listen('listen', :one, repeat('x', 1025));
\echo :SQLSTATE
SELECT tmcp.listen('listen', :one, 'new', principal => '');
\echo :SQLSTATE
SELECT tmcp.listen('listen', 0, 'new');
\echo :SQLSTATE
SELECT tmcp.listen('nowhere', :one, 'new');
\echo :SQLSTATE
-- An id is used once: neither a stream nor a session is taken over by listening.
SELECT tmcp.listen('listen', :one, 'everything');
\echo :SQLSTATE
SELECT tmcp.listen('listen', :one, 'session');
\echo :SQLSTATE
SELECT count(*) - :streams_before AS streams, count(*) FILTER (WHERE principal = 'alice') AS of_alice FROM tmcp.streams;
-- As many uris as may be, once and twice.
SELECT stream > 0 AS stream FROM tmcp.listen('listen', :one, 'many', uris => ARRAY(SELECT 'note://' || n / 2 FROM generate_series(1, 1000) AS n));
SELECT count(*) FROM tmcp.stream_subscriptions AS u JOIN tmcp.streams AS st USING (stream) WHERE st.id = 'many';

-- As many may listen as there may be sessions, in all and for each principal; other principals are not concerned.
SELECT tmcp.configure_store('listen', maximum_sessions_per_principal => 2, maximum_sessions => 6);
SELECT stream > 0 AS stream FROM tmcp.listen('listen', :one, 'another of alice', principal => 'alice');
SELECT tmcp.listen('listen', :one, 'a third of alice', principal => 'alice');
\echo :SQLSTATE
SELECT stream > 0 AS stream FROM tmcp.listen('listen', :one, 'one of carol', principal => 'carol');
SELECT tmcp.listen('listen', :one, 'one of nobody');
\echo :SQLSTATE
SELECT tmcp.delete_stream('listen', 'another of alice'), tmcp.delete_stream('listen', 'one of carol');
UPDATE tmcp.stores SET maximum_sessions = NULL, maximum_sessions_per_principal = NULL WHERE name = 'listen';

-- Nobody resumes a listening stream or takes it over, whatever the session is said to be.
SELECT state FROM tmcp.attach_batch('listen', :two, ARRAY['everything']);
SELECT state FROM tmcp.attach_batch('listen', :two, ARRAY['everything'], ARRAY[0]);
SELECT state FROM tmcp.attach_batch('listen', :two, ARRAY['everything'], ARRAY[0], ARRAY['session'], ARRAY['alice']);

-- It ends with its connection, with its node, or when it is deleted, and takes its subscriptions along.
SELECT tmcp.has('listen', 'many') AS open;
SELECT regress.forget('one');
SELECT tmcp.detach('listen', :one, ARRAY[(SELECT stream FROM tmcp.streams WHERE id = 'many')]);
SELECT tmcp.has('listen', 'many') AS open;
SELECT count(*) FROM tmcp.stream_subscriptions WHERE uri NOT IN ('note://plan', 'note://list');
-- The node has let go of it, and is told nothing.
SELECT count(*) AS told FROM regress.heard('one') WHERE channel = 'delete';
-- Those of a user whose access was withdrawn end wherever they are held, and only they: not of another user or store, and
-- not his sessions.
SELECT stream > 0 AS stream FROM tmcp.listen('listen', :one, 'mallory 1', ARRAY['tools'], ARRAY['note://plan'], 'mallory');
SELECT stream > 0 AS stream FROM tmcp.listen('listen', :one, 'mallory 2', principal => 'mallory');
SELECT stream > 0 AS stream FROM tmcp.listen('listen', :two, 'mallory 3', principal => 'mallory');
SELECT tmcp.start_session('listen', 'session of mallory', principal => 'mallory');
SELECT state FROM tmcp.attach('listen', :two, 'session of mallory', principal => 'mallory');
SELECT tmcp.create_store('elsewhere');
SELECT node AS elsewhere FROM tmcp.register_node('elsewhere') \gset
SELECT stream > 0 AS stream FROM tmcp.listen('elsewhere', :elsewhere, 'mallory 4', principal => 'mallory');
SELECT regress.stream_names('listen') AS names \gset
SELECT regress.forget('one'), regress.forget('two');
SELECT tmcp.end_listening('listen', 'Mallory'), tmcp.end_listening('listen', 'mallory'), tmcp.end_listening('listen', 'mallory');
SELECT * FROM regress.lost(:'names', 'one');
SELECT * FROM regress.lost(:'names', 'two');
SELECT store, id FROM tmcp.listener_status WHERE principal = 'mallory';
SELECT tmcp.has('listen', 'session of mallory'), (SELECT count(*) FROM tmcp.stream_subscriptions AS u LEFT JOIN tmcp.streams AS st USING (stream) WHERE st.stream IS NULL) AS left_behind;
SELECT tmcp.end_listening('listen', NULL);
\echo :SQLSTATE
SELECT tmcp.end_session('listen', 'session of mallory', 'mallory'), tmcp.drop_store('elsewhere');
SELECT regress.forget('two');
SELECT tmcp.delete_stream('listen', 'plan and list');
SELECT channel, payload LIKE 'ended %' AS ended FROM regress.heard('two');
SELECT tmcp.stop_node('listen', :one);
SELECT id, node IS NOT NULL AS held FROM tmcp.streams ORDER BY id;
SELECT count(*) FROM tmcp.stream_subscriptions;
SELECT tmcp.publish('listen', 'note://plan', 'only the session is left, detached');
-- Also when its node is found dead.
UPDATE tmcp.nodes SET heartbeat_at = heartbeat_at - interval '1 day' WHERE node = :two;
SELECT stream AS everything, attached_after AS position FROM tmcp.streams WHERE id = 'everything' \gset
SELECT detached_streams FROM tmcp.cleanup();
SELECT id FROM tmcp.streams ORDER BY id;
-- A node that comes to itself too late finds it ended. One that registers anew in time gets it back.
SELECT node AS two FROM tmcp.register_node('listen', 'two again') \gset
SELECT state FROM tmcp.reattach('listen', :two, ARRAY[:everything], ARRAY[:position], ARRAY[:position]);
SELECT stream AS tools, event_id AS position FROM tmcp.listen('listen', :two, 'tools', ARRAY['tools']) \gset
UPDATE tmcp.nodes SET heartbeat_at = heartbeat_at - interval '1 day' WHERE node = :two;
SELECT tmcp.broadcast('listen', 'meanwhile', 'tools') > 0 AS sent;
SELECT node AS two FROM tmcp.register_node('listen', 'two once more') \gset
SELECT state FROM tmcp.reattach('listen', :two, ARRAY[:tools], ARRAY[:position], ARRAY[:position]);
SELECT kind, data FROM tmcp.fetch_messages('listen', :two, :position);
-- What came on it between two events, broadcasts of other kinds and for sessions left out.
SELECT tmcp.broadcast('listen', 'prompts', 'prompts') > 0 AS sent, tmcp.broadcast('listen', 'for sessions') > 0 AS sent, tmcp.send('listen', 'tools', 'for it alone') > 0 AS sent;
SELECT data FROM tmcp.replay('listen', :tools, :position, 9223372036854775807);

SELECT regress.dblink_disconnect('one'), regress.dblink_disconnect('two');
SELECT tmcp.drop_store('listen');
SELECT count(*) FROM tmcp.streams;
DROP FUNCTION told(text), numbers(text);
