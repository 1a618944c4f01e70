-- Sessions: what initialize brought, subscriptions, activity, end.
\set SHOW_CONTEXT never
SELECT tmcp.create_store('sessions'), tmcp.configure_store('sessions', freshness_window => '1 minute');

-- Everything that initialize brings in one call, and everything back in one call.
SELECT tmcp.start_session('sessions', 'a', '{"name": "example", "version": "1"}', '{"sampling": {}}',
                          log_level => 'warning', protocol_version => '2025-11-25');
SELECT client_info, client_capabilities, log_level, protocol_version, last_active_at - created_at < interval '1 second' AS just_started
FROM tmcp.get_session('sessions', 'a');
-- With nothing but an id, nothing is known.
SELECT tmcp.start_session('sessions', 'bare');
SELECT client_info, client_capabilities, log_level, protocol_version FROM tmcp.get_session('sessions', 'bare');
-- A session starts once.
SELECT tmcp.start_session('sessions', 'a', '{"name": "impostor"}');
\echo :SQLSTATE
SELECT client_info FROM tmcp.get_session('sessions', 'a');
-- One that does not exist has no row, no values and no activity.
SELECT count(*) FROM tmcp.get_session('sessions', 'nobody');
SELECT tmcp.get_client_info('sessions', 'nobody'), tmcp.get_client_capabilities('sessions', 'nobody'),
       tmcp.get_log_level('sessions', 'nobody'), tmcp.touch_session('sessions', 'nobody'),
       tmcp.remove_subscription('sessions', 'nobody', 'note://plan'), tmcp.end_session('sessions', 'nobody');

-- The single setters change one thing and leave the rest, and create the session if it does not exist.
SELECT tmcp.set_client_info('sessions', 'b', '{"name": "b"}'), tmcp.set_client_info('sessions', 'b', '{"name": "b again"}');
SELECT tmcp.set_client_capabilities('sessions', 'b', '{}'), tmcp.set_log_level('sessions', 'b', 'notice');
SELECT tmcp.get_client_info('sessions', 'b'), tmcp.get_client_capabilities('sessions', 'b'), tmcp.get_log_level('sessions', 'b');
SELECT * FROM tmcp.sessions_session_client_info ORDER BY id;
SELECT * FROM tmcp.sessions_session_client_capabilities ORDER BY id;
SELECT * FROM tmcp.sessions_session_log_level ORDER BY id;
SELECT tmcp.set_client_info('sessions', 'b', NULL);
\echo :SQLSTATE
SELECT tmcp.set_client_capabilities('sessions', 'b', NULL);
SELECT tmcp.set_log_level('sessions', 'b', NULL);
SELECT tmcp.set_log_level('sessions', 'b', 'loud');
\echo :SQLSTATE

-- JSON is kept to the letter: unknown members, their order, duplicates, spaces, escapes that jsonb would refuse, and
-- numbers of any size.
CREATE TEMPORARY TABLE odd (what text, value json);
INSERT INTO odd VALUES
    ('unknown members', '{"version":"1",  "name" : "x", "x-vendor": [1, {"deep": null}]}'),
    ('a member twice', '{"name": "first", "name": "second"}'),
    ('a NUL escaped', '{"name": "\u0000"}'),
    ('half a surrogate', '{"name": "\ud800"}'),
    ('a huge number', '{"version": 123456789012345678901234567890.1234567890E+99999}'),
    ('no object at all', '"just text"'),
    ('the null of JSON', 'null'),
    ('unicode', '{"name": "żółć 🦊 \u202e"}'),
    ('500 levels deep', (repeat('[', 500) || repeat(']', 500))::json),
    ('64 KiB', ('"' || repeat('x', 65534) || '"')::json);
SELECT count(*) FROM odd, tmcp.start_session('sessions', what, value, value);
SELECT what FROM odd, tmcp.get_session('sessions', what) AS s
WHERE s.client_info::text <> value::text OR s.client_capabilities::text <> value::text
   OR tmcp.get_client_info('sessions', what)::text <> value::text;
SELECT id, left(v.value, 80) AS value FROM tmcp.sessions_session_client_info AS v JOIN odd ON what = id ORDER BY id;
-- What is no JSON, or too long, is refused.
SELECT tmcp.set_client_info('sessions', 'b', '{"name": ');
\echo :SQLSTATE
SELECT tmcp.set_client_info('sessions', 'b', ('"' || repeat('x', 65535) || '"')::json);
\echo :SQLSTATE
SELECT tmcp.start_session('sessions', 'long', NULL, ('"' || repeat('x', 65535) || '"')::json);
\echo :SQLSTATE
-- JSON so deep that the server gives up reading it is an error and not its end.
SELECT regress.outcome($$SELECT tmcp.set_client_info('sessions', 'b', repeat('[', 10000000)::json)$$);
SELECT tmcp.get_client_info('sessions', 'b');

-- A session that is bound to a principal is there for that principal, and for every other, or none, as if it did not
-- exist.
SELECT tmcp.start_session('sessions', 'of ann', '{"name": "ann''s"}', '{}', 'ann', 'error');
SELECT tmcp.add_subscription('sessions', 'of ann', 'note://plan', 'ann');
SELECT who, (SELECT count(*) FROM tmcp.get_session('sessions', 'of ann', who)) AS sessions,
       tmcp.get_client_info('sessions', 'of ann', who) AS client_info,
       tmcp.get_client_capabilities('sessions', 'of ann', who) AS client_capabilities,
       tmcp.get_log_level('sessions', 'of ann', who) AS log_level,
       tmcp.touch_session('sessions', 'of ann', who) AS touched
FROM unnest(ARRAY['ann', 'bob', 'Ann', 'ann ', '', NULL]) AS who;
SELECT who, call, regress.outcome(format('SELECT tmcp.%s(''sessions'', ''of ann'', %s, principal => %L)', call, arguments, who))
FROM unnest(ARRAY['ann', 'bob', NULL]) AS who,
     (VALUES ('set_client_info', '''{}'''), ('set_client_capabilities', '''{}'''), ('set_log_level', '''debug'''),
             ('add_subscription', '''note://x''')) AS c (call, arguments)
ORDER BY call, who;
SELECT tmcp.remove_subscription('sessions', 'of ann', 'note://plan', 'bob') AS by_bob,
       tmcp.remove_subscription('sessions', 'of ann', 'note://plan') AS by_none,
       tmcp.end_session('sessions', 'of ann', 'bob') AS by_bob, tmcp.end_session('sessions', 'of ann') AS by_none;
-- The words are the same as for one that does not exist where it is not created.
SELECT tmcp.set_log_level('sessions', 'of ann', 'debug', 'bob');
\echo :SQLSTATE
SELECT client_info, log_level FROM tmcp.get_session('sessions', 'of ann', 'ann');
-- And a session of nobody is not there for somebody.
SELECT tmcp.get_client_info('sessions', 'b', 'ann'), tmcp.end_session('sessions', 'b', 'ann');
SELECT tmcp.start_session('sessions', 'x', principal => '');
SELECT tmcp.start_session('sessions', 'x', principal => repeat('x', 1025));
\echo :SQLSTATE

-- Subscriptions: many per session, and twice is the same as once.
SELECT tmcp.add_subscription('sessions', id, uri)
FROM (VALUES ('a', 'note://plan'), ('a', 'note://other'), ('a', 'note://plan'), ('b', 'note://plan'), ('new', 'note://new')) AS t (id, uri);
SELECT * FROM tmcp.sessions_session_subscriptions ORDER BY id, value;
SELECT * FROM tmcp.get_subscriptions('sessions', 'note://plan') AS id ORDER BY id;
SELECT count(*) FROM tmcp.get_subscriptions('sessions', 'NOTE://PLAN');
SELECT tmcp.remove_subscription('sessions', 'a', 'note://plan'), tmcp.remove_subscription('sessions', 'a', 'note://plan');
SELECT * FROM tmcp.get_subscriptions('sessions', 'note://plan') AS id ORDER BY id;
SELECT tmcp.add_subscription('sessions', 'a', '');
SELECT tmcp.add_subscription('sessions', 'a', repeat('ü', 1025));
\echo :SQLSTATE
SELECT tmcp.add_subscription('sessions', 'a', repeat('ü', 1024));
SELECT tmcp.add_subscription('sessions', '', 'note://plan');

-- Activity is recorded, exact to the tenth of the idle limit, so that not every request writes a row.
UPDATE tmcp.sessions SET last_active_at = last_active_at - interval '5 minutes' WHERE id = 'a';
SELECT tmcp.touch_session('sessions', 'a');
SELECT last_active_at < clock_timestamp() - interval '4 minutes' AS as_before FROM tmcp.sessions WHERE id = 'a';
UPDATE tmcp.sessions SET last_active_at = last_active_at - interval '5 minutes' WHERE id = 'a';
SELECT tmcp.touch_session('sessions', 'a');
SELECT last_active_at < clock_timestamp() - interval '4 minutes' AS as_before FROM tmcp.sessions WHERE id = 'a';
UPDATE tmcp.sessions SET last_active_at = last_active_at - interval '10 minutes' WHERE id = 'a';
SELECT last_active_at > clock_timestamp() - interval '1 minute' AS counts_as_activity FROM tmcp.get_session('sessions', 'a');

-- Ending a session takes its metadata, its subscriptions and all its streams with it, and tells the node.
SELECT node, channel FROM tmcp.register_node('sessions') \gset
SELECT regress.listen(:'channel');
SELECT state FROM tmcp.attach_batch('sessions', :node, ARRAY['a', 'request of a', 'b'], session_ids => ARRAY[NULL, 'a', NULL]);
SELECT regress.stream_names('sessions') AS names \gset
SELECT tmcp.end_session('sessions', 'a'), tmcp.end_session('sessions', 'a');
SELECT * FROM regress.lost(:'names');
SELECT tmcp.has('sessions', 'a'), tmcp.has('sessions', 'request of a'), tmcp.has('sessions', 'b');
SELECT count(*) FROM tmcp.sessions_session_subscriptions WHERE id = 'a';
SELECT tmcp.send('sessions', 'a', 'too late');
-- So does deleting the row, whoever does it.
DELETE FROM tmcp.sessions WHERE id = 'b';
SELECT * FROM regress.lost(:'names');
-- Deleting from the view of the open sessions closes the stream and keeps what is known of the session.
SELECT tmcp.start_session('sessions', 'c', '{"name": "c"}');
SELECT state FROM tmcp.attach('sessions', :node, 'c');
DELETE FROM tmcp.sessions_sessions WHERE id = 'c';
SELECT tmcp.has('sessions', 'c'), tmcp.get_client_info('sessions', 'c');
-- A session whose metadata is in another database can be ended as well; the stream of another session, which a client
-- may name, is not ended as if it were a session.
SELECT state FROM tmcp.attach_batch('sessions', :node, ARRAY['d', 'request of d'], session_ids => ARRAY[NULL, 'd']);
SELECT regress.stream_names('sessions') AS names \gset
SELECT tmcp.end_session('sessions', 'request of d'), tmcp.end_session('sessions', 'request of d', 'bob');
SELECT tmcp.has('sessions', 'd'), tmcp.has('sessions', 'request of d');
SELECT regress.forget();
SELECT tmcp.end_session('sessions', 'd'), tmcp.end_session('sessions', 'd');
SELECT * FROM regress.lost(:'names');
-- Somebody who has streams but no such session ends none of a session that is bound to another.
SELECT tmcp.end_session('sessions', 'of ann', 'bob'), tmcp.end_session('sessions', 'of ann', 'ann');
SELECT tmcp.drop_store('sessions');
