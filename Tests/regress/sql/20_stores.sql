-- Stores: the namespace of one application, and its five views.
\set SHOW_CONTEXT never

-- Without arguments it is the store tmcp, with views under the documented names in schema tmcp.
SELECT tmcp.create_store();
SELECT s.name, r.place, r.relation, obj_description(r.relation, 'pg_class') AS description
FROM tmcp.stores AS s, unnest(s.relations) WITH ORDINALITY AS r (relation, place) WHERE s.name = 'tmcp' ORDER BY place;
SELECT freshness_window, session_idle_limit, inline_limit, maximum_message_size, maximum_sessions,
       maximum_sessions_per_principal
FROM tmcp.stores WHERE name = 'tmcp';

-- The shape of the original tables: id and updated_at, id and value.
SELECT attrelid::regclass AS relation, string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
FROM pg_attribute
WHERE attrelid IN (SELECT unnest(relations) FROM tmcp.stores WHERE name = 'tmcp') AND attnum > 0 GROUP BY 1 ORDER BY 1;

-- A store exists once.
SELECT tmcp.create_store('tmcp');
\echo :SQLSTATE

-- Its relations can have any name in any schema, quoted as in SQL.
CREATE SCHEMA "regress Shop";
SELECT tmcp.create_store('shop',
    sessions => '"regress Shop"."Sessions; DROP TABLE x --"',
    client_capabilities => 'shop_can',
    client_info => '"regress Shop".info',
    log_level => 'Level',
    subscriptions => 'tmcp."günstig ""quoted"""');
SELECT unnest(relations) FROM tmcp.stores WHERE name = 'shop';
SELECT count(*) FROM "regress Shop"."Sessions; DROP TABLE x --";

-- A relation that exists is not replaced, and nothing of the second store is left.
SELECT tmcp.create_store('second', log_level => 'shop_can');
\echo :SQLSTATE
SELECT tmcp.create_store('second', sessions => 'same', subscriptions => 'same');
\echo :SQLSTATE
SELECT to_regclass('tmcp.second_sessions') AS left_behind, count(*) FROM tmcp.stores WHERE name = 'second';

-- A name that cannot be one is refused.
SELECT tmcp.create_store('second', sessions => 'a.b.c');
\echo :SQLSTATE
SELECT tmcp.create_store('second', sessions => 'two words');
\echo :SQLSTATE
SELECT tmcp.create_store('second', sessions => '');
\echo :SQLSTATE
SELECT tmcp.create_store('second', sessions => repeat('x', 64));
\echo :SQLSTATE
SELECT tmcp.create_store('second', sessions => repeat('x', 64) || '.sessions');
SELECT tmcp.create_store('second', sessions => 'nowhere.sessions');
\echo :SQLSTATE

-- So is the name of a store that would need quoting.
SELECT tmcp.create_store(NULL);
SELECT tmcp.create_store('');
SELECT tmcp.create_store('Shop');
SELECT tmcp.create_store('2nd');
SELECT tmcp.create_store(E'second\n');
SELECT tmcp.create_store('x''; DROP TABLE tmcp.stores; --');
SELECT tmcp.create_store(repeat('a', 41));
\echo :SQLSTATE
-- A long name leaves no room for the default names of the views, which end in _session_client_capabilities.
SELECT tmcp.create_store(repeat('a', 36));
SELECT tmcp.create_store(repeat('a', 35));
SELECT tmcp.drop_store(repeat('a', 35));

-- Settings: what is not given stays, and 0 sessions means any number.
SELECT tmcp.configure_store('shop', freshness_window => '5 minutes', inline_limit => 0);
SELECT tmcp.configure_store('shop', session_idle_limit => '1 day', maximum_message_size => 1024, maximum_sessions => 7,
                            maximum_sessions_per_principal => 2);
SELECT freshness_window, session_idle_limit, inline_limit, maximum_message_size, maximum_sessions,
       maximum_sessions_per_principal
FROM tmcp.stores WHERE name = 'shop';
SELECT tmcp.configure_store('shop', maximum_sessions => 0, maximum_sessions_per_principal => 0);
SELECT freshness_window, session_idle_limit, inline_limit, maximum_message_size, maximum_sessions,
       maximum_sessions_per_principal
FROM tmcp.stores WHERE name = 'shop';

-- A value out of range changes nothing, neither of that setting nor of its neighbours.
SELECT tmcp.configure_store('shop', inline_limit => 7901, freshness_window => '1 minute');
\echo :SQLSTATE
SELECT setting, regress.outcome(format('SELECT tmcp.configure_store(''shop'', %s)', setting))
FROM unnest(ARRAY[
    'freshness_window => ''99 milliseconds''', 'freshness_window => ''100 milliseconds''',
    'freshness_window => ''1 hour''', 'freshness_window => ''1 hour 1 second''',
    'session_idle_limit => ''999 milliseconds''', 'session_idle_limit => ''1 second''',
    'inline_limit => -1', 'inline_limit => 0', 'inline_limit => 7900', 'inline_limit => 7901',
    'maximum_message_size => 1023', 'maximum_message_size => 1024',
    'maximum_message_size => 268435456', 'maximum_message_size => 268435457',
    'maximum_sessions => -1', 'maximum_sessions => 0', 'maximum_sessions => 2147483647',
    'maximum_sessions_per_principal => -1', 'maximum_sessions_per_principal => 1']) AS setting;
SELECT freshness_window, inline_limit FROM tmcp.stores WHERE name = 'shop';
SELECT tmcp.configure_store('nowhere');
\echo :SQLSTATE

-- The retention is that of all stores.
SELECT setting, regress.outcome(format('SELECT tmcp.set_retention(%s)', setting))
FROM unnest(ARRAY['''999 milliseconds''', '''1 second''', '''7 days''', '''8 days''', 'NULL', '''-1 day''']) AS setting;
SELECT tmcp.set_retention('8 days');
SELECT retention FROM tmcp._effective_settings;

-- Two stores never see each other: the same id is two sessions and two streams.
SELECT tmcp.start_session(store, 'twin', format('{"name": "client of %s"}', store)::json, log_level => 'error')
FROM unnest(ARRAY['tmcp', 'shop']) AS store;
SELECT tmcp.add_subscription('tmcp', 'twin', 'note://only in tmcp');
SELECT node AS tmcp_node, channel AS tmcp_channel FROM tmcp.register_node('tmcp', 'server of tmcp') \gset
SELECT node AS shop_node, channel AS shop_channel FROM tmcp.register_node('shop', 'server of shop') \gset
SELECT regress.listen(:'tmcp_channel', 'tmcp'), regress.listen(:'shop_channel', 'shop');
SELECT tmcp.configure_store('tmcp', freshness_window => '1 minute');
SELECT state FROM tmcp.attach('tmcp', :tmcp_node, 'twin')
UNION ALL SELECT state FROM tmcp.attach('shop', :shop_node, 'twin');
SELECT (tmcp.get_client_info(store, 'twin')) ->> 'name' AS client FROM unnest(ARRAY['tmcp', 'shop']) AS store;
SELECT * FROM tmcp.tmcp_session_client_info;
SELECT * FROM "regress Shop".info;
SELECT * FROM tmcp.tmcp_session_log_level;
SELECT * FROM tmcp.tmcp_session_subscriptions;
SELECT * FROM tmcp."günstig ""quoted""";
SELECT store, array(SELECT tmcp.get_subscriptions(store, 'note://only in tmcp')) AS subscribed
FROM unnest(ARRAY['tmcp', 'shop']) AS store;

-- Not a message, not a broadcast and not an update crosses over.
SELECT tmcp.send('tmcp', 'twin', 'sent in tmcp') IS NOT NULL AS sent;
SELECT tmcp.broadcast('tmcp', 'broadcast in tmcp') IS NOT NULL AS sent;
SELECT tmcp.publish('tmcp', 'note://only in tmcp', 'published in tmcp'), tmcp.publish('shop', 'note://only in tmcp', '?');
SELECT tmcp.log('tmcp', 'error', 'logged in tmcp');
SELECT tmcp.send_batch('shop', ARRAY['twin', NULL], ARRAY['sent in shop', 'broadcast in shop']) IS NOT NULL AS sent;
SELECT * FROM regress.received('tmcp');
SELECT recipients, inline, message FROM regress.received('shop');
SELECT data FROM tmcp.fetch_messages('tmcp', :tmcp_node, 0);
SELECT data FROM tmcp.fetch_messages('shop', :shop_node, 0);

-- A node of one store is none in the other.
SELECT tmcp.heartbeat('tmcp', :tmcp_node), tmcp.heartbeat('shop', :tmcp_node);
\set VERBOSITY sqlstate
SELECT state FROM tmcp.attach('shop', :tmcp_node, 'another');
\set VERBOSITY default
SELECT tmcp.stop_node('shop', :tmcp_node);
SELECT data FROM tmcp.fetch_messages('shop', :tmcp_node, 0) WHERE stream IS NOT NULL;
-- Nor does its stream number help.
SELECT stream AS tmcp_stream FROM tmcp.streams JOIN tmcp.stores USING (store) WHERE id = 'twin' AND name = 'tmcp' \gset
SELECT tmcp.detach('shop', :tmcp_node, ARRAY[:tmcp_stream]), tmcp.detach('shop', :shop_node, ARRAY[:tmcp_stream]);
SELECT regress.outcome(format($$SELECT tmcp.replay('shop', %s, 0, 9223372036854775807)$$, :tmcp_stream));
SELECT tmcp.end_session('shop', 'twin'), tmcp.has('tmcp', 'twin'), tmcp.has('shop', 'twin');
SELECT id, updated_at <= clock_timestamp() AS seen FROM tmcp.tmcp_sessions;

-- The metadata views are for reading, and say which functions write.
UPDATE tmcp.tmcp_session_client_info SET value = '{}';
\echo :SQLSTATE
INSERT INTO tmcp.tmcp_session_subscriptions VALUES ('twin', 'note://plan');
DELETE FROM tmcp.tmcp_session_log_level;

-- Dropping a store ends its streams where they are held, and leaves the other alone.
SELECT regress.stream_names('tmcp') AS names \gset
SELECT tmcp.drop_store('tmcp');
SELECT * FROM regress.lost(:'names', 'tmcp');
SELECT tmcp.drop_store('tmcp');
\echo :SQLSTATE
SELECT to_regclass('tmcp.tmcp_sessions'), (SELECT count(*) FROM tmcp.streams), (SELECT count(*) FROM tmcp.sessions),
       (SELECT count(*) FROM tmcp.subscriptions), (SELECT array_agg(name) FROM tmcp.stores) AS stores;
-- Even one whose views somebody has dropped by hand.
DROP VIEW "regress Shop".info;
SELECT tmcp.drop_store('shop');
DROP SCHEMA "regress Shop";
-- A store that does not exist is an error for every function that takes one.
SELECT tmcp.send('shop', 'twin', 'too late');
\echo :SQLSTATE
