-- Who may do what: every function times every role, and what an application can get at beside the functions.
\set SHOW_CONTEXT never
CREATE ROLE regress_none;
CREATE ROLE "regress_odd 'role"" name" LOGIN;
CREATE ROLE regress_application LOGIN;
CREATE ROLE regress_other_application LOGIN;
CREATE ROLE regress_monitoring;
CREATE ROLE regress_reader IN ROLE pg_monitor;
SELECT tmcp.create_store('mine'), tmcp.create_store('other');
SELECT tmcp.grant_usage('mine', 'regress_application'), tmcp.grant_usage('other', 'regress_other_application'),
       tmcp.grant_monitoring('regress_monitoring');

-- Every function is called by every role, with NULL for every argument: "denied" is 42501, "runs" anything else.
CREATE TEMPORARY TABLE outcome AS
SELECT p.oid, r.role, regress.outcome(format('SELECT tmcp.%I(%s)', p.proname, arguments), r.role) AS state
FROM pg_proc AS p
CROSS JOIN LATERAL (SELECT string_agg('NULL::' || format_type(t, NULL), ', ' ORDER BY place) AS arguments
                    FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, place)) AS a
CROSS JOIN (VALUES (session_user::text), ('regress_none'), ('regress_application'), ('regress_other_application'),
                   ('regress_monitoring'), ('regress_reader')) AS r (role)
WHERE p.pronamespace = 'tmcp'::regnamespace AND p.prokind = 'f';
SELECT p.proname AS function,
       max(CASE o.state WHEN '42501' THEN 'denied' ELSE 'runs' END) FILTER (WHERE o.role = session_user) AS owner,
       max(CASE o.state WHEN '42501' THEN 'denied' ELSE 'runs' END) FILTER (WHERE o.role = 'regress_application') AS application,
       max(CASE o.state WHEN '42501' THEN 'denied' ELSE 'runs' END) FILTER (WHERE o.role = 'regress_monitoring') AS monitoring,
       max(CASE o.state WHEN '42501' THEN 'denied' ELSE 'runs' END) FILTER (WHERE o.role = 'regress_reader') AS pg_monitor,
       max(CASE o.state WHEN '42501' THEN 'denied' ELSE 'runs' END) FILTER (WHERE o.role = 'regress_none') AS nobody
FROM outcome AS o JOIN pg_proc AS p USING (oid)
GROUP BY p.oid, p.proname ORDER BY p.proname ~ '^_', p.proname;
-- Which is to say: nobody nothing, and one application as much as another.
SELECT p.proname FROM outcome AS o JOIN pg_proc AS p USING (oid) WHERE o.role = 'regress_none' AND o.state <> '42501';
SELECT p.proname FROM outcome AS o JOIN outcome AS x USING (oid) JOIN pg_proc AS p USING (oid)
WHERE o.role = 'regress_application' AND x.role = 'regress_other_application' AND o.state <> x.state;
-- No internal function is for anybody but the owner.
SELECT DISTINCT p.proname FROM outcome AS o JOIN pg_proc AS p USING (oid)
WHERE p.proname ~ '^_' AND o.state <> '42501' AND o.role <> session_user;

-- A role that was granted one store can do nothing in another, whichever function it tries, and hears no more of it than
-- of a store that does not exist.
SELECT p.proname, regress.outcome(format('SELECT tmcp.%I(%s)', p.proname, arguments), 'regress_application') AS state
FROM pg_proc AS p
CROSS JOIN LATERAL (SELECT string_agg(CASE place WHEN 1 THEN '''other''' ELSE 'NULL::' || format_type(t, NULL) END, ', ' ORDER BY place) AS arguments
                    FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, place)) AS a
WHERE p.pronamespace = 'tmcp'::regnamespace AND p.proname !~ '^_' AND p.prosecdef AND p.proargnames[1] = 'store'
  AND regress.outcome(format('SELECT tmcp.%I(%s)', p.proname, arguments), 'regress_application') NOT IN ('TM002', 'TM001');
-- (TM001 is for what is checked before the store is looked at.)
SELECT store, regress.outcome(format('SELECT tmcp.send(%L, ''a'', ''x'')', store), 'regress_application') AS state
FROM unnest(ARRAY['mine', 'other', 'nowhere']) AS store;
SET ROLE regress_application;
SELECT tmcp.send('other', 'a', 'x');
SELECT tmcp.send('nowhere', 'a', 'x');
RESET ROLE;

-- The examples in the comments work for an application, as far as there is what they name: none lacks a privilege.
SELECT tmcp.create_store(), tmcp.grant_usage('tmcp', 'regress_application');
CREATE TEMPORARY TABLE example AS
SELECT p.oid, p.prosecdef OR p.provolatile = 'i' AS for_applications, p.proname,
       regexp_replace(substring(obj_description(p.oid, 'pg_proc') FROM 'Example: (.*;)$'), 'shop_server|datadog', 'regress_application') AS statement
FROM pg_proc AS p WHERE p.pronamespace = 'tmcp'::regnamespace AND p.proname !~ '^_';
SELECT proname, regress.outcome(statement, 'regress_application') AS for_application, regress.outcome(statement) AS for_owner
FROM example WHERE for_applications ORDER BY proname;
-- Those of administration want the store shop, and fail for an application.
SELECT proname, regress.outcome(statement) AS for_owner, regress.outcome(statement, 'regress_application') AS for_application
FROM example WHERE NOT for_applications AND proname = 'create_store';
SELECT tmcp.create_store('shop');
SELECT proname, regress.outcome(statement) AS for_owner, regress.outcome(statement, 'regress_application') AS for_application
FROM example WHERE NOT for_applications AND proname <> 'create_store' ORDER BY proname;
SELECT tmcp.drop_store('shop'), tmcp.revoke_usage('tmcp', 'regress_application'), tmcp.drop_store('tmcp');

-- An application goes through a whole life without a privilege on anything but the functions.
SET ROLE regress_application;
SELECT tmcp.start_session('mine', 'a', '{}', '{}', 'ann', 'debug');
SELECT node FROM tmcp.register_node('mine') \gset
SELECT state, stream, event_id AS position FROM tmcp.attach('mine', :node, 'a', principal => 'ann') \gset
SELECT :'state' AS state;
SELECT tmcp.add_subscription('mine', 'a', 'note://plan', 'ann');
SELECT tmcp.send('mine', 'a', '1') IS NOT NULL, tmcp.broadcast('mine', '2') IS NOT NULL, tmcp.publish('mine', 'note://plan', '3'),
       tmcp.log('mine', 'info', '4'), tmcp.send_batch('mine', ARRAY['a', NULL], ARRAY['5', '6']) IS NOT NULL;
SELECT tmcp.enqueue('mine', 'a', '7'), tmcp.enqueue_broadcast('mine', '8'), tmcp.enqueue_publish('mine', 'note://plan', '9'), tmcp.enqueue_log('mine', 'info', '10');
SELECT tmcp.flush_outbox('mine'), tmcp.heartbeat('mine', :node), tmcp.has('mine', 'a');
SELECT string_agg(data, ' ' ORDER BY event_id) FROM tmcp.fetch_messages('mine', :node, :position);
SELECT string_agg(data, ' ' ORDER BY event_id) FROM tmcp.replay('mine', :stream, :position, 9223372036854775807);
SELECT detached_streams FROM tmcp.cleanup();
SELECT * FROM tmcp.mine_session_subscriptions;
SELECT id FROM tmcp.mine_sessions;
DELETE FROM tmcp.mine_sessions WHERE id = 'a';
SELECT tmcp.end_session('mine', 'a', 'ann'), tmcp.stop_node('mine', :node), tmcp.version() IS NOT NULL AS version;
-- With no live node it is the application's own commit that sends, and the application's own DELETE whose triggers run.
SELECT tmcp.start_session('mine', 'b');
SELECT tmcp.enqueue('mine', 'b', 'sent at commit');
RESET ROLE;
SELECT count(*) AS waiting FROM tmcp.outbox;

-- It can neither read nor write one table, nor touch a sequence. Everything is tried.
SELECT c.relname, v.verb, regress.outcome(format(v.statement, c.oid::regclass, a.attname), r.role) AS outcome
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = c.relnatts
CROSS JOIN (VALUES ('SELECT', 'SELECT FROM %s LIMIT 1'), ('INSERT', 'INSERT INTO %s DEFAULT VALUES'), ('UPDATE', 'UPDATE %s SET %s = NULL'),
                   ('DELETE', 'DELETE FROM %s'), ('TRUNCATE', 'TRUNCATE %s CASCADE'), ('LOCK', 'LOCK TABLE %s IN ACCESS SHARE MODE'),
                   ('TRIGGER', 'CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()'),
                   ('ALTER', 'ALTER TABLE %s ADD x integer'), ('DROP', 'DROP TABLE %s CASCADE')) AS v (verb, statement)
CROSS JOIN unnest(ARRAY['regress_application', 'regress_monitoring', 'regress_reader', 'regress_none']) AS r (role)
WHERE c.relnamespace = 'tmcp'::regnamespace AND c.relkind IN ('r', 'p')
  AND regress.outcome(format(v.statement, c.oid::regclass, a.attname), r.role) <> '42501';
SELECT c.relname, statement
FROM pg_class AS c
CROSS JOIN unnest(ARRAY['SELECT FROM %s', 'SELECT nextval(''%s'')', 'SELECT setval(''%s'', 1)', 'SELECT currval(''%s'')', 'ALTER SEQUENCE %s RESTART']) AS statement
CROSS JOIN unnest(ARRAY['regress_application', 'regress_monitoring', 'regress_reader', 'regress_none']) AS r (role)
WHERE c.relnamespace = 'tmcp'::regnamespace AND c.relkind = 'S' AND regress.outcome(format(statement, c.oid::regclass), r.role) <> '42501';
-- Of the views it reads the five of its store and deletes from the first; the monitoring role reads what shows what
-- happens. (55000 is for views that nobody can write to.)
SELECT c.relname, v.verb, r.role
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = c.relnatts
CROSS JOIN (VALUES (1, 'SELECT', 'SELECT FROM %s LIMIT 1'), (2, 'INSERT', 'INSERT INTO %s DEFAULT VALUES'), (3, 'UPDATE', 'UPDATE %s SET %s = NULL'),
                   (4, 'DELETE', 'DELETE FROM %s')) AS v (place, verb, statement)
CROSS JOIN unnest(ARRAY['regress_application', 'regress_monitoring', 'regress_reader', 'regress_none']) AS r (role)
WHERE c.relnamespace = 'tmcp'::regnamespace AND c.relkind = 'v' AND regress.outcome(format(v.statement, c.oid::regclass, a.attname), r.role) NOT IN ('42501', '55000')
ORDER BY r.role, c.relname, v.place;
-- A store's views do not take part in what their owner gives away by default: whoever may DELETE from the first may use the
-- store.
CREATE SCHEMA regress_anon;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_none, PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA regress_anon GRANT ALL ON TABLES TO "regress_odd 'role"" name" WITH GRANT OPTION;
SELECT tmcp.create_store('given', sessions => 'regress_anon."Sessions"');
CREATE VIEW regress_anon.another AS SELECT 1;
SELECT c.relname, string_agg(DISTINCT a.grantee::regrole::text, ', ') AS given_to
FROM (SELECT unnest(s.relations) FROM tmcp.stores AS s WHERE s.name = 'given' UNION ALL SELECT 'regress_anon.another') AS r (relation)
JOIN pg_class AS c ON c.oid = r.relation, aclexplode(c.relacl) AS a
WHERE a.grantee <> c.relowner GROUP BY c.relname;
GRANT USAGE ON SCHEMA tmcp, regress_anon TO regress_none;
GRANT EXECUTE ON FUNCTION tmcp.has(text, text) TO regress_none;
SELECT regress.outcome('SELECT FROM regress_anon."Sessions"', 'regress_none') AS reads,
       regress.outcome('DELETE FROM regress_anon."Sessions"', 'regress_none') AS deletes,
       regress.outcome('SELECT FROM tmcp.given_session_client_info', 'regress_none') AS reads_more,
       regress.outcome('SELECT tmcp.has(''given'', ''a'')', 'regress_none') AS uses;
REVOKE USAGE ON SCHEMA tmcp FROM regress_none;
REVOKE EXECUTE ON FUNCTION tmcp.has(text, text) FROM regress_none;
SELECT tmcp.drop_store('given');
DROP SCHEMA regress_anon CASCADE;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_none, PUBLIC;
SELECT count(*) AS defaults FROM pg_default_acl;

-- It can create nothing in the schema, and make no use of its own functions there.
SELECT regress.outcome('CREATE TABLE tmcp.mine (x integer)', 'regress_application'),
       regress.outcome('CREATE FUNCTION tmcp.send(text, text, text, text) RETURNS void LANGUAGE sql AS ''''', 'regress_application');

-- A view cannot be made to show the rows of another store before they are filtered, however cheap a function claims to be.
SELECT tmcp.set_client_info('mine', 'shown', '{"of": "mine"}'), tmcp.set_client_info('other', 'secret', '{"of": "other"}');
SELECT tmcp.add_subscription('mine', 'shown', 'note://mine'), tmcp.add_subscription('other', 'secret', 'note://other');
SELECT node AS mine_node FROM tmcp.register_node('mine') \gset
SELECT node AS other_node FROM tmcp.register_node('other') \gset
SELECT state FROM tmcp.attach('mine', :mine_node, 'shown') UNION ALL SELECT state FROM tmcp.attach('other', :other_node, 'secret');
SET ROLE regress_application;
CREATE FUNCTION pg_temp.leak(what text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
    $$ BEGIN RAISE NOTICE 'seen: %', what; RETURN true; END $$;
SELECT * FROM tmcp.mine_session_client_info WHERE pg_temp.leak(value);
SELECT * FROM tmcp.mine_session_subscriptions WHERE pg_temp.leak(value);
SELECT id FROM tmcp.mine_sessions WHERE pg_temp.leak(id);
DELETE FROM tmcp.mine_sessions WHERE pg_temp.leak(id);
RESET ROLE;
SELECT tmcp.has('mine', 'shown'), tmcp.has('other', 'secret');

-- The caller is who logged in, or whom SET ROLE made him: a member may use a store through its group,
CREATE ROLE regress_member LOGIN IN ROLE regress_application;
CREATE ROLE regress_reluctant LOGIN NOINHERIT IN ROLE regress_application;
SELECT tmcp.grant_usage('mine', '"regress_odd ''role"" name"');
SET SESSION AUTHORIZATION regress_member;
SELECT tmcp.has('mine', 'shown');
SELECT tmcp.has('other', 'secret');
-- who does not inherit has to say so first,
SET SESSION AUTHORIZATION regress_reluctant;
SELECT tmcp.has('mine', 'shown');
SET ROLE regress_application;
SELECT tmcp.has('mine', 'shown');
RESET ROLE;
-- and a name needs no care.
SET SESSION AUTHORIZATION "regress_odd 'role"" name";
SELECT tmcp.has('mine', 'shown');
SELECT tmcp.has('other', 'secret');
-- A role that gives up its rights has none, even where the login has all.
RESET SESSION AUTHORIZATION;
SET ROLE regress_none;
SELECT tmcp.has('mine', 'shown');
SET ROLE regress_other_application;
SELECT tmcp.has('mine', 'shown');
RESET ROLE;
-- Setting the parameter of that name does not help: PostgreSQL checks the membership.
SET SESSION AUTHORIZATION regress_other_application;
SELECT set_config('role', 'regress_application', false);
SELECT tmcp.has('mine', 'shown');
RESET SESSION AUTHORIZATION;

-- Nor does a search_path with tables, operators or functions of one's own in it.
CREATE SCHEMA regress_trap AUTHORIZATION regress_application;
SET ROLE regress_application;
CREATE FUNCTION regress_trap.equals(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE OPERATOR regress_trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_trap.equals);
CREATE FUNCTION regress_trap.octet_length(text) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE TEMPORARY TABLE stores (LIKE pg_class);
CREATE TEMPORARY TABLE streams (LIKE pg_class);
CREATE TEMPORARY TABLE deleted (LIKE pg_class);
SET search_path = regress_trap, pg_temp, tmcp, pg_catalog;
SELECT tmcp.set_log_level('mine', 'shown', 'debug');
SELECT tmcp.send('mine', 'b', 'x') IS NOT NULL AS sent;
SELECT tmcp.delete_stream('mine', 'b');
RESET search_path;
RESET ROLE;
DROP SCHEMA regress_trap CASCADE;

-- With the last store goes the right to call the functions, and not before.
SELECT tmcp.grant_usage('other', 'regress_application');
SELECT tmcp.revoke_usage('mine', 'regress_application');
SELECT store, regress.outcome(format('SELECT tmcp.has(%L, ''a'')', store), 'regress_application') FROM unnest(ARRAY['mine', 'other']) AS store;
SELECT regress.outcome('SELECT FROM tmcp.mine_sessions', 'regress_application');
SELECT tmcp.revoke_usage('other', 'regress_application');
SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'tmcp'::regnamespace AND has_function_privilege('regress_application', p.oid, 'EXECUTE');
SELECT has_schema_privilege('regress_application', 'tmcp', 'USAGE'), has_type_privilege('regress_application', 'tmcp.log_level', 'USAGE'),
       regress.outcome('SELECT tmcp.has(''other'', ''a'')', 'regress_application');
-- Granting is for the owner.
SELECT regress.outcome('SELECT tmcp.grant_usage(''other'', ''regress_none'')', 'regress_other_application');
SELECT tmcp.grant_usage('nowhere', 'regress_none');
\echo :SQLSTATE
SELECT tmcp.grant_usage('mine', 'regress_nobody');

SELECT tmcp.drop_store('mine'), tmcp.drop_store('other');
DROP OWNED BY regress_application, regress_other_application, regress_monitoring, regress_none, regress_reader, regress_member,
    regress_reluctant, "regress_odd 'role"" name";
DROP ROLE regress_application, regress_other_application, regress_monitoring, regress_none, regress_reader, regress_member,
    regress_reluctant, "regress_odd 'role"" name";
