-- Ids, names, uris, principals and messages from outside: each comes back byte by byte or is refused in clear words.
\set SHOW_CONTEXT never
SELECT tmcp.create_store('hostile'), tmcp.configure_store('hostile', freshness_window => '1 minute');
SELECT node, channel FROM tmcp.register_node('hostile', E'node''s "name"; DROP TABLE tmcp.nodes; --\n\\') \gset
SELECT regress.listen(:'channel');

CREATE TEMPORARY TABLE hostile (what text, value text);
INSERT INTO hostile VALUES
    ('single quotes', 'it''s ''''quoted'''''), ('double quotes', '"quoted" ""twice""'), ('backslashes', '\ \\ \'' \n \u0000 \x00'),
    ('SQL', '''; DROP TABLE tmcp.sessions CASCADE; --'), ('more SQL', 'x'') ; SELECT pg_sleep(10); /*'), ('dollar quotes', '$$ $tag$ $1 $0'),
    ('format', '%s %I %L %1$s %n %%'), ('newlines', E'line\nline\r\nline\n'), ('only a newline', E'\n'), ('only a space', ' '), ('tab and bell', E'\t\a\x1b[2J'),
    ('a frame', E'17 * 5\nhello18 * -\n'), ('a doorbell', 'outbox'), ('words of the delete channel', 'ended 1,2,3'), ('star', '*'), ('numbers', '1,2,3'),
    ('array literal', '{a,"b",NULL}'), ('NULL in words', 'NULL'), ('null in words', 'null'), ('composite', '(1,2)'), ('comma', ','), ('percent', '%'),
    ('underscore', '_'), ('regular expression', '.*(['), ('JSON', '{"jsonrpc": "2.0", "id": "\u0000"}'), ('header injection', E'x\r\nSet-Cookie: a=b'),
    ('path', '../../../etc/passwd'), ('umlauts', 'äöüß'), ('emoji', '🦊👩‍👩‍👧‍👦🏳️‍🌈'), ('right to left', U&'\202Eabc\202C שלום مرحبا'),
    ('combining', U&'e\0301\0323'), ('precomposed', U&'\00E9\0323'), ('width zero', U&'a\200Bb\FEFF'), ('Turkish', 'İıIi'), ('Hangul', '한글'), ('beyond the BMP', U&'\+01F4A9\+010FFFF'),
    ('noncharacter', U&'\FFFE'), ('other case', 'Umlauts'), ('trailing space', 'umlauts '), ('session prefix', 'session:abc'), ('delete prefix', 'delete:session:abc'),
    ('1 KiB', repeat('x', 1024)), ('1 KiB of emoji', repeat('🦊', 256));

-- As ids of sessions and streams, as principals, as uris, in client info and as messages, all at once.
SELECT count(*) FROM hostile, tmcp.start_session('hostile', value, json_build_object('name', value), json_build_object(value, value), value);
SELECT count(*) FROM hostile, tmcp.add_subscription('hostile', value, value, value);
SELECT state, count(*) FROM tmcp.attach_batch('hostile', :node, (SELECT array_agg(value ORDER BY what) FROM hostile),
    NULL, NULL, (SELECT array_agg(value ORDER BY what) FROM hostile)) GROUP BY state;
-- Every one is a session of its own, and none is another's.
SELECT count(*) = (SELECT count(*) FROM hostile) AS all_there, count(DISTINCT id) = count(*) AS all_differ
FROM tmcp.sessions JOIN tmcp.stores AS s USING (store) WHERE s.name = 'hostile';
SELECT h.what FROM hostile AS h
WHERE tmcp.get_client_info('hostile', value, value) ->> 'name' IS DISTINCT FROM value
   OR tmcp.get_client_capabilities('hostile', value, value) ->> value IS DISTINCT FROM value
   OR (SELECT array_agg(id) FROM tmcp.get_subscriptions('hostile', value) AS id) IS DISTINCT FROM ARRAY[value]
   OR NOT tmcp.has('hostile', value)
   OR (SELECT count(*) FROM tmcp.hostile_session_subscriptions AS v WHERE v.id = h.value AND v.value = h.value) <> 1
   OR (SELECT count(*) FROM tmcp.hostile_sessions AS v WHERE v.id = h.value) <> 1;
SELECT h.what, o.what FROM hostile AS h, hostile AS o
WHERE h.value <> o.value AND tmcp.get_client_info('hostile', h.value, o.value) IS NOT NULL;
-- Each message arrives in the notification as it was sent, one at a time, in a batch and through the outbox.
CREATE FUNCTION not_received() RETURNS TABLE (what text) LANGUAGE sql AS $$
    WITH received AS (SELECT * FROM regress.received())
    SELECT h.what FROM hostile AS h WHERE (SELECT count(*) FROM received AS r WHERE r.recipients = h.value AND r.message = h.value AND r.inline) <> 1
    UNION ALL SELECT r.message FROM received AS r WHERE NOT EXISTS (SELECT FROM hostile AS h WHERE h.value = r.message AND h.value = r.recipients)
$$;
SELECT count(tmcp.send('hostile', value, value)) FROM hostile;
SELECT * FROM not_received();
SELECT cardinality(tmcp.send_batch('hostile', array_agg(value ORDER BY what), array_agg(value ORDER BY what))) FROM hostile;
SELECT * FROM not_received();
SELECT count(*) FROM hostile, tmcp.enqueue('hostile', value, value);
SELECT tmcp.flush_outbox('hostile');
SELECT * FROM not_received();
SELECT sum(tmcp.publish('hostile', value, value)) FROM hostile;
SELECT * FROM not_received();
SELECT count(DISTINCT f.event_id), bool_and(st.id = f.data) AS as_sent FROM tmcp.fetch_messages('hostile', :node, 0) AS f JOIN tmcp.streams AS st USING (stream);
-- The text of an update holds the uri as JSON.
SELECT what FROM hostile WHERE tmcp.resource_updated(value)::json #>> '{params,uri}' IS DISTINCT FROM value;
-- Without a node, each gets a channel that LISTEN takes as it is, and hears its messages there.
SELECT tmcp.stop_node('hostile', :node) = count(*) AS all_detached FROM hostile;
CREATE TEMPORARY TABLE own AS
    SELECT what, value, a.own_channel FROM hostile, tmcp.attach('hostile', NULL, value, principal => value) AS a;
SELECT count(DISTINCT own_channel) = count(*) AS all_differ, max(octet_length('delete:' || own_channel)) < 64 AS fit,
       bool_and(own_channel ~ '^session:#[0-9a-f]{40}$') AS harmless FROM own;
SELECT count(*) FROM own, regress.listen(own_channel);
SELECT count(tmcp.send('hostile', value, value)) FROM hostile;
SELECT * FROM not_received();
-- Ended one by one, each ends itself and nothing else.
SELECT bool_and(tmcp.end_session('hostile', value, value)) AS all_ended FROM hostile;
SELECT count(*) FROM tmcp.sessions JOIN tmcp.stores AS s USING (store) WHERE s.name = 'hostile';
SELECT count(*) FROM regress.heard() WHERE channel = 'delete';

-- Too long is refused, with both lengths in the words.
SELECT tmcp.start_session('hostile', repeat('x', 10240));
SELECT tmcp.add_subscription('hostile', 'a', repeat('x', 10240));
SELECT tmcp.start_session('hostile', 'a', principal => repeat('🦊', 257));
SELECT tmcp.attach('hostile', NULL, repeat('x', 10240));
SELECT tmcp.has('hostile', repeat('x', 10240)), tmcp.send('hostile', repeat('x', 10240), 'x'), tmcp.get_client_info('hostile', repeat('x', 10240));
-- NUL and what is not UTF-8 does not get as far as the extension: PostgreSQL has no such text.
SELECT regress.outcome($$SELECT tmcp.has('hostile', E'a\x00b')$$), regress.outcome($$SELECT tmcp.has('hostile', E'a\xffb')$$),
       regress.outcome($$SELECT tmcp.has('hostile', E'\xed\xa0\x80')$$), regress.outcome($$SELECT tmcp.has('hostile', convert_from('\x610062', 'UTF8'))$$),
       regress.outcome($$SELECT tmcp.has('hostile', U&'\0000')$$);
-- Nor does the name of a store become more than a name.
SELECT value, regress.outcome(format('SELECT tmcp.has(%L, ''a'')', value)) FROM unnest(ARRAY['hostile; DROP SCHEMA tmcp', '"hostile"', 'HOSTILE', ' hostile', 'pg_catalog', '']) AS value;
SELECT tmcp.has(E'it''s\n"odd"', 'a');
-- Arrays that are not what they seem are refused or taken for what they hold.
SELECT tmcp.multicast('hostile', ARRAY[['a', 'b'], ['c', 'd']], 'x'), tmcp.multicast('hostile', '[5:6]={a,b}', 'x');
SELECT tmcp.send_batch('hostile', ARRAY[['a', 'b'], ['c', 'd']], ARRAY['1', '2', '3', '4']);
SELECT tmcp.send_batch('hostile', '[5:6]={a,b}', '{1,2}'), tmcp.send_batch('hostile', ARRAY['a', 'b'], '[0:1]={1,2}');
SELECT node FROM tmcp.register_node('hostile') \gset
SELECT state FROM tmcp.attach_batch('hostile', :node, '[5:6]={a,b}', '[-1:0]={NULL,NULL}');
SELECT regress.outcome(format($$SELECT tmcp.attach_batch('hostile', %s, ARRAY[['e', 'f'], ['g', 'h']], ARRAY[NULL, NULL, NULL, NULL]::bigint[])$$, :node));
-- Numbers at the ends of their range are no trouble.
SELECT tmcp.heartbeat('hostile', 9223372036854775807), tmcp.stop_node('hostile', -9223372036854775808), tmcp.detach('hostile', :node, ARRAY[-1, 0, NULL, 9223372036854775807]),
       tmcp.detach('hostile', :node, NULL);
SELECT state FROM tmcp.attach('hostile', :node, 'a', 9223372036854775807);
SELECT state FROM tmcp.attach('hostile', :node, 'a', -9223372036854775808);
SELECT regress.outcome($$SELECT tmcp.replay('hostile', 9223372036854775807, -1, 9223372036854775807, -1, -1)$$);
SELECT regress.outcome($$SELECT tmcp.replay('hostile', NULL, NULL, NULL, NULL, NULL)$$);
SELECT count(*) FROM tmcp.fetch_messages('hostile', NULL, NULL, NULL, NULL);
SELECT tmcp.drop_store('hostile');
DROP FUNCTION not_received;
