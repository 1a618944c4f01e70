-- Streams: opened or resumed at a node, lost, taken over, let go of, ended.
\set SHOW_CONTEXT never
SELECT tmcp.create_store(), tmcp.configure_store('tmcp', freshness_window => '1 minute');
SELECT node AS one, channel AS one_channel FROM tmcp.register_node('tmcp', 'one') \gset
SELECT node AS two, channel AS two_channel FROM tmcp.register_node('tmcp', 'two') \gset
SELECT regress.listen(:'one_channel', 'one'), regress.listen(:'two_channel', 'two');

-- A new stream is live: nothing was sent to it before.
SELECT state, stream IS NOT NULL AS numbered, event_id IS NOT NULL AS positioned, replay_after, own_node, own_channel
FROM tmcp.attach('tmcp', :one, 'a');
SELECT tmcp.has('tmcp', 'a'), tmcp.has('tmcp', 'b');
SELECT id FROM tmcp.tmcp_sessions;

-- While a live node holds it, nobody else opens it; the same node may, for a client that came back to it.
SELECT state FROM tmcp.attach('tmcp', :two, 'a');
\echo :SQLSTATE
SELECT state FROM tmcp.attach('tmcp', :one, 'a');
\echo :SQLSTATE

-- What is sent after the attach goes to the node.
SELECT tmcp.send('tmcp', 'a', 'first') AS first_event \gset
SELECT * FROM regress.received('one');

-- A client that comes back with its last event id is not locked out by its own dead stream: it takes the stream over,
-- and the loser is told, with the event after which that holds.
SELECT regress.stream_names('tmcp') AS names \gset
SELECT state, stream, replay_after = :first_event AS replay_after_last_event, event_id AS taken_at
FROM tmcp.attach('tmcp', :two, 'a', :first_event) \gset taken_
SELECT :'taken_state' AS state, :'taken_replay_after_last_event' AS replay_after_last_event;
SELECT payload = format('taken %s %s', :taken_taken_at, :taken_stream) AS told FROM regress.heard('one') WHERE channel = 'delete';
SELECT * FROM regress.lost(:'names', 'two');
-- From now on messages go to the winner.
SELECT tmcp.send('tmcp', 'a', 'second') AS second_event \gset
SELECT * FROM regress.received('one');
SELECT * FROM regress.received('two');
-- What the loser does with it late has no effect.
SELECT tmcp.detach('tmcp', :one, ARRAY[:taken_stream]), tmcp.has('tmcp', 'a');

-- Whoever resumes at the node that holds it takes it from nobody.
SELECT state FROM tmcp.attach('tmcp', :two, 'a', :first_event);
SELECT count(*) AS told FROM regress.heard('two');

-- The replay holds what followed the last event, and not what came with or after the attach.
SELECT event_id = :second_event AS second_event, data
FROM tmcp.replay('tmcp', :taken_stream, :first_event, 9223372036854775807);
SELECT count(*) FROM tmcp.replay('tmcp', :taken_stream, :first_event, :taken_taken_at);

-- Detached, the stream is not there for has and the view, and messages are kept for it.
SELECT tmcp.detach('tmcp', :two, ARRAY[:taken_stream, :taken_stream, 0, NULL]);
SELECT tmcp.has('tmcp', 'a'), (SELECT count(*) FROM tmcp.tmcp_sessions) AS open;
SELECT tmcp.send_batch('tmcp', ARRAY['a', NULL, 'a'], ARRAY['third', 'to all', 'fourth']) IS NOT NULL AS sent;
SELECT message FROM regress.received('two') WHERE recipients <> '*';
SELECT state, event_id AS position, replay_after AS after FROM tmcp.attach('tmcp', :one, 'a', :second_event) \gset resumed_
SELECT :'resumed_state' AS state;
SELECT data FROM tmcp.replay('tmcp', :taken_stream, :resumed_after, :resumed_position);
-- In pages, each at least one message long.
SELECT data FROM tmcp.replay('tmcp', :taken_stream, :resumed_after, :resumed_position, maximum_count => 2);
SELECT data FROM tmcp.replay('tmcp', :taken_stream, :resumed_after, :resumed_position, maximum_bytes => 11);
SELECT data FROM tmcp.replay('tmcp', :taken_stream, :resumed_after, :resumed_position, maximum_count => 0, maximum_bytes => 0);
-- A client that starts anew without a last event id wants nothing of what was.
SELECT tmcp.detach('tmcp', :one, ARRAY[:taken_stream]);
SELECT state, replay_after FROM tmcp.attach('tmcp', :one, 'a');
-- A detach that is carried out late, when the client has come back to the same node, leaves its stream alone.
SELECT state, event_id FROM tmcp.attach('tmcp', :one, 'a') \gset again_
SELECT tmcp.detach('tmcp', :one, ARRAY[:taken_stream, 0], ARRAY[:again_event_id - 1, NULL]);
SELECT tmcp.has('tmcp', 'a');
SELECT tmcp.detach('tmcp', :one, ARRAY[:taken_stream, 0], ARRAY[:again_event_id, NULL]);
SELECT tmcp.has('tmcp', 'a');
SELECT state FROM tmcp.attach('tmcp', :one, 'a');

-- A resume from before the stream existed, or from before what the log still has, is purged and says so; the stream is
-- attached all the same.
SELECT state, replay_after FROM tmcp.attach('tmcp', :one, 'a', 0);
SELECT state, tmcp.has('tmcp', 'unheard of') FROM tmcp.attach('tmcp', :one, 'unheard of', 17);
SELECT tmcp.has('tmcp', 'unheard of');

-- A session that was started is sent messages before it opens its stream, and gets them when it does.
SELECT tmcp.start_session('tmcp', 'early');
SELECT tmcp.send('tmcp', 'early', 'kept for the first stream') IS NOT NULL AS sent;
SELECT a.state, r.data
FROM tmcp.attach('tmcp', :one, 'early') AS a
CROSS JOIN LATERAL tmcp.replay('tmcp', a.stream, a.replay_after, a.event_id) AS r;

-- A batch says of each id what became of it, in its place.
SELECT tmcp.start_session('tmcp', 'of ann', principal => 'ann');
SELECT tmcp.delete_stream('tmcp', 'unheard of');
SELECT place, state, stream IS NOT NULL AS attached FROM tmcp.attach_batch('tmcp', :two,
    ids => ARRAY['new', 'a', 'of ann', 'early', 'also new'],
    last_event_ids => ARRAY[NULL, NULL, NULL, :second_event, NULL],
    principals => ARRAY[NULL, NULL, 'bob', NULL, 'ann']);
SELECT tmcp.attach_batch('tmcp', :two, ARRAY['x', 'x']);
\echo :SQLSTATE
SELECT tmcp.attach_batch('tmcp', :two, ARRAY['x', NULL]);
SELECT tmcp.attach_batch('tmcp', :two, ARRAY['x'], ARRAY[1, 2]);
SELECT tmcp.attach_batch('tmcp', :two, ARRAY['x', '']);
SELECT count(*) FROM tmcp.attach_batch('tmcp', :two, '{}');
-- An id has 1 to 1024 bytes.
SELECT tmcp.attach('tmcp', :two, NULL);
SELECT tmcp.attach('tmcp', :two, '');
SELECT tmcp.attach('tmcp', :two, repeat('ü', 513));
SELECT state FROM tmcp.attach('tmcp', :two, repeat('ü', 512));

-- With another principal it is as if neither session nor stream existed, whatever is tried.
SELECT state FROM tmcp.attach('tmcp', :two, 'of ann', principal => 'ann');
SELECT state FROM tmcp.attach('tmcp', :one, 'of ann', 1, principal => 'bob');
\echo :SQLSTATE
SELECT state FROM tmcp.attach('tmcp', :one, 'of ann', 1);
SELECT state FROM tmcp.attach('tmcp', :one, 'nobody''s', 1, 'of ann', 'bob');
-- Not even naming a session of one's own together with another's stream gets at it.
SELECT tmcp.start_session('tmcp', 'of bob', principal => 'bob');
SELECT state FROM tmcp.attach('tmcp', :one, 'of ann', 9223372036854775807, 'of bob', 'bob');
\echo :SQLSTATE
SELECT state, stream FROM tmcp.attach_batch('tmcp', :one, ARRAY['of ann'], ARRAY[1], ARRAY['of bob'], ARRAY['bob']);
SELECT s.node = :two AS still_there FROM tmcp.streams AS s WHERE id = 'of ann';

-- A session can have several streams, and a message goes to the one that it names.
SELECT state FROM tmcp.attach('tmcp', :one, 'request 1', session_id => 'a');
SELECT state FROM tmcp.attach('tmcp', :two, 'request 2', session_id => 'a');
SELECT regress.forget('one'), regress.forget('two');
SELECT tmcp.send_batch('tmcp', ARRAY['request 2', 'a', 'request 1'],
                       ARRAY['for request 2', 'for the standalone stream', 'for request 1']) IS NOT NULL AS sent;
SELECT * FROM regress.received('one');
SELECT * FROM regress.received('two');
-- Only the standalone one is a session for the view.
SELECT id FROM tmcp.tmcp_sessions WHERE id IN ('a', 'request 1', 'request 2');
-- Replay is of the one stream, never of a sibling; broadcasts are replayed on the standalone one.
SELECT tmcp.broadcast('tmcp', 'for all') IS NOT NULL AS sent;
SELECT st.id, r.data
FROM tmcp.streams AS st, tmcp.replay('tmcp', st.stream, :taken_taken_at, 9223372036854775807) AS r
WHERE st.session_id = 'a' ORDER BY st.id, r.event_id;
-- A stream of another session than the one named is not there.
SELECT state FROM tmcp.attach('tmcp', :two, 'request 1', :second_event, 'early');
\echo :SQLSTATE

-- Ending a stream tells the node that holds it.
SELECT regress.stream_names('tmcp') AS names \gset
SELECT regress.forget('one'), regress.forget('two');
SELECT tmcp.delete_stream('tmcp', 'request 1'), tmcp.delete_stream('tmcp', 'request 1');
SELECT * FROM regress.lost(:'names', 'one');
-- So does a DELETE from the view, whatever its condition.
SELECT left(id, 20) AS id, length(id) FROM tmcp.tmcp_sessions ORDER BY length(id), id;
DELETE FROM tmcp.tmcp_sessions WHERE id IN ('a', 'new', 'also new') AND updated_at < now() + interval '1 minute';
SELECT * FROM regress.lost(:'names', 'one');
SELECT * FROM regress.lost(:'names', 'two');
SELECT tmcp.delete_stream('tmcp', '');

-- A thousand streams of two nodes end in one statement, and each node hears of its own in one notification. Only where
-- the numbers do not fit one are there more, as with numbers as high as they get.
SELECT count(*) FROM tmcp.attach_batch('tmcp', :one, ARRAY(SELECT 'many ' || n FROM generate_series(1, 1000) AS n));
SELECT count(*) FROM tmcp.attach_batch('tmcp', :two, ARRAY(SELECT 'few ' || n FROM generate_series(1, 10) AS n));
DELETE FROM tmcp.tmcp_sessions WHERE id ~ '^(many|few) ';
SELECT channel, count(*) AS notifications, sum(cardinality(string_to_array(payload, ','))) AS streams,
       bool_and(payload ~ '^ended [0-9]+(,[0-9]+)*$' AND octet_length(payload) < 8000) AS well_formed
FROM regress.heard('one') GROUP BY channel;
SELECT channel, count(*) AS notifications, sum(cardinality(string_to_array(payload, ','))) AS streams
FROM regress.heard('two') GROUP BY channel;
SELECT last_value AS last_stream FROM tmcp.streams_stream_seq \gset
ALTER SEQUENCE tmcp.streams_stream_seq RESTART 9223372036854770000;
SELECT count(*) FROM tmcp.attach_batch('tmcp', :two, ARRAY(SELECT 'high ' || n FROM generate_series(1, 1000) AS n));
SELECT setval('tmcp.streams_stream_seq', :last_stream) IS NOT NULL AS back;
DELETE FROM tmcp.tmcp_sessions WHERE id ~ '^high ';
SELECT channel, count(*) AS notifications, sum(cardinality(string_to_array(payload, ','))) AS streams,
       bool_and(payload ~ '^ended [0-9]+(,[0-9]+)*$' AND octet_length(payload) < 8000) AS well_formed
FROM regress.heard('two') GROUP BY channel;
-- The same for a take-over of many.
SELECT count(*) FROM tmcp.attach_batch('tmcp', :one, ARRAY(SELECT 'many ' || n FROM generate_series(1, 1000) AS n));
SELECT count(*) FROM tmcp.attach_batch('tmcp', :two,
    ARRAY(SELECT 'many ' || n FROM generate_series(1, 1000) AS n), array_fill(:second_event::bigint, ARRAY[1000]));
SELECT channel, count(*) AS notifications, sum(cardinality(string_to_array(payload, ','))) AS streams,
       bool_and(payload ~ '^taken [0-9]+ [0-9]+(,[0-9]+)*$' AND octet_length(payload) < 8000) AS well_formed
FROM regress.heard('one') GROUP BY channel;
-- A stream that nobody holds ends in silence.
SELECT tmcp.stop_node('tmcp', :two) > 1000 AS stopped;
SELECT regress.forget('two');
SELECT tmcp.delete_stream('tmcp', 'many 1');
SELECT count(*) FROM regress.heard('two');

-- A rolled-back attach or delete has told nobody.
SELECT regress.forget('one');
SELECT state FROM tmcp.attach('tmcp', :one, 'kept');
BEGIN;
SELECT tmcp.delete_stream('tmcp', 'kept');
ROLLBACK;
SELECT count(*) AS told FROM regress.heard('one');
SELECT tmcp.has('tmcp', 'kept');

-- A node that was fenced registers anew, brings its streams along, and learns what became of each.
SELECT node AS fenced FROM tmcp.register_node('tmcp', 'fenced') \gset
SELECT node AS other FROM tmcp.register_node('tmcp', 'other') \gset
CREATE TEMPORARY TABLE brought AS
SELECT a.place, i.id, a.stream, a.event_id
FROM unnest(ARRAY['its own', 'taken', 'let go', 'started', 'ended', 'replaced']) WITH ORDINALITY AS i (id, place)
JOIN tmcp.attach_batch('tmcp', :fenced, ARRAY['its own', 'taken', 'let go', 'started', 'ended', 'replaced']) AS a
    USING (place);
UPDATE tmcp.nodes SET heartbeat_at = heartbeat_at - interval '1 hour' WHERE node = :fenced;
SELECT tmcp.send('tmcp', 'its own', 'meanwhile') IS NOT NULL AS sent;
SELECT id, state FROM brought, tmcp.attach('tmcp', :other, id, brought.event_id) WHERE id IN ('taken', 'let go') ORDER BY place;
SELECT state FROM tmcp.attach('tmcp', :other, 'started');
SELECT tmcp.detach('tmcp', :other, array_agg(stream)) FROM brought WHERE id = 'let go';
SELECT tmcp.delete_stream('tmcp', 'ended'), tmcp.delete_stream('tmcp', 'replaced');
SELECT state FROM tmcp.attach('tmcp', :other, 'replaced');
SELECT node AS anew FROM tmcp.register_node('tmcp', 'fenced') \gset
SELECT b.id, r.state, r.event_id > b.event_id AS later
FROM tmcp.reattach('tmcp', :anew, ARRAY(SELECT stream FROM brought ORDER BY place), ARRAY(SELECT event_id FROM brought ORDER BY place),
                   ARRAY(SELECT event_id FROM brought ORDER BY place)) AS r
JOIN brought AS b USING (place) ORDER BY place;
-- The rest is as it was, and what was sent is there to be fetched.
SELECT st.id, n.name FROM tmcp.streams AS st LEFT JOIN tmcp.nodes AS n USING (node)
WHERE st.stream IN (SELECT stream FROM brought) ORDER BY st.id;
SELECT data FROM tmcp.fetch_messages('tmcp', :anew, (SELECT min(event_id) FROM brought));
-- One whose answer was lost asks once more, with what it knew before, and is told the same; so is one that has a new number
-- again by then, whether the number before has been stopped or not.
SELECT b.id, r.state
FROM tmcp.reattach('tmcp', :anew, ARRAY(SELECT stream FROM brought ORDER BY place), ARRAY(SELECT event_id FROM brought ORDER BY place),
                   ARRAY(SELECT event_id FROM brought ORDER BY place)) AS r
JOIN brought AS b USING (place) ORDER BY place;
SELECT node AS newer FROM tmcp.register_node('tmcp', 'fenced') \gset
SELECT r.state FROM brought AS b, tmcp.reattach('tmcp', :newer, ARRAY[b.stream], ARRAY[b.event_id], ARRAY[b.event_id]) AS r WHERE b.id = 'its own';
SELECT tmcp.stop_node('tmcp', :newer);
SELECT r.state FROM brought AS b, tmcp.reattach('tmcp', :anew, ARRAY[b.stream], ARRAY[b.event_id], ARRAY[b.event_id]) AS r WHERE b.id = 'its own';
-- Once it was resumed elsewhere it is lost, whatever number asks.
SELECT state FROM brought AS b, tmcp.attach('tmcp', :other, b.id, b.event_id) WHERE b.id = 'its own';
SELECT r.state FROM brought AS b, tmcp.reattach('tmcp', :anew, ARRAY[b.stream], ARRAY[b.event_id], ARRAY[b.event_id]) AS r WHERE b.id = 'its own';
SELECT * FROM tmcp.reattach('tmcp', :anew, '{}', '{}', '{}');
SELECT regress.outcome(format($$SELECT tmcp.reattach('tmcp', %s, '{}', '{}', '{}')$$, :fenced));
DROP TABLE brought;

-- Attaching is for read committed, where it sees what was sent just before.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT state FROM tmcp.attach('tmcp', :one, 'too old a snapshot');
\echo :SQLSTATE
ROLLBACK;

-- Without a node, from psql or another language, a stream gets a node of its own and the documented channels.
SELECT state, own_node IS NOT NULL AS own_node, own_channel FROM tmcp.attach('tmcp', NULL, 'psql');
SELECT regress.listen('session:psql', 'psql');
SELECT tmcp.send('tmcp', 'psql', 'to psql') IS NOT NULL AS sent;
SELECT tmcp.broadcast('tmcp', 'to all') IS NOT NULL AS sent;
SELECT * FROM regress.received('psql');
SELECT regress.stream_names('tmcp') AS names \gset
SELECT tmcp.has('tmcp', 'psql'), tmcp.delete_stream('tmcp', 'psql');
SELECT * FROM regress.lost(:'names', 'psql');
-- It is held like any other while its heartbeat is fresh, and free when it is not.
SELECT own_node AS psql_node FROM tmcp.attach('tmcp', NULL, 'psql') \gset
SELECT tmcp.heartbeat('tmcp', :psql_node);
SELECT state FROM tmcp.attach('tmcp', NULL, 'psql');
\echo :SQLSTATE
SELECT state FROM tmcp.attach('tmcp', :one, 'psql');
UPDATE tmcp.nodes SET heartbeat_at = heartbeat_at - interval '2 minutes' WHERE node = :psql_node;
SELECT tmcp.has('tmcp', 'psql'), tmcp.heartbeat('tmcp', :psql_node);
SELECT state, own_channel FROM tmcp.attach('tmcp', NULL, 'psql');
SELECT tmcp.has('tmcp', 'psql');
-- An id that is long or has other characters, and every id of another store, is hashed: LISTEN would cut the name
-- of a channel after 63 bytes without a word.
SELECT tmcp.create_store('other');
SELECT store, left(id, 20) AS id, length(id), regexp_replace(a.own_channel, '[0-9a-f]{40}$', '{hash}') AS channel,
       octet_length('delete:' || a.own_channel) <= 63 AS fits
FROM (VALUES ('tmcp', repeat('x', 48)), ('tmcp', repeat('x', 49)), ('tmcp', 'it''s'), ('tmcp', 'a b'),
             ('tmcp', '"; NOTIFY x; --'), ('tmcp', 'naïve'), ('tmcp', repeat('long', 256)), ('other', 'psql')) AS t (store, id)
CROSS JOIN LATERAL tmcp.attach(store, NULL, id) AS a;
SELECT count(DISTINCT channel) = count(*) AS all_differ FROM tmcp.nodes;
SELECT own_channel AS odd_channel FROM tmcp.attach('other', NULL, E'"odd"\nid') \gset
SELECT regress.listen(:'odd_channel', 'odd');
SELECT tmcp.send('other', E'"odd"\nid', 'arrives') IS NOT NULL AS sent;
SELECT inline, message FROM regress.received('odd');

SELECT tmcp.drop_store('tmcp');
SELECT tmcp.drop_store('other');
