-- Limits to the number of sessions: of a store, and of one principal.
\set SHOW_CONTEXT never
SELECT tmcp.create_store('caps');
SELECT tmcp.start_session('caps', 'before');
-- The limit counts what there is already, and is exact whichever way a session comes to be.
SELECT tmcp.configure_store('caps', maximum_sessions => 4);
SELECT tmcp.start_session('caps', 'a'), tmcp.set_log_level('caps', 'b', 'info');
SELECT tmcp.add_subscription('caps', 'c', 'note://plan');
SELECT tmcp.start_session('caps', 'd');
\echo :SQLSTATE
SELECT tmcp.set_client_info('caps', 'd', '{}');
\echo :SQLSTATE
SELECT tmcp.add_subscription('caps', 'd', 'note://plan');
\echo :SQLSTATE
SELECT c.sessions, count(x.session), count(x.session) FILTER (WHERE x.id = 'd') AS of_d
FROM tmcp.session_counts AS c JOIN tmcp.stores USING (store) LEFT JOIN tmcp.sessions AS x USING (store)
WHERE name = 'caps' GROUP BY c.sessions;
-- What changes a session that exists is no new one.
SELECT tmcp.set_client_info('caps', 'a', '{}'), tmcp.add_subscription('caps', 'a', 'note://plan');
-- Starting one that exists says so, and not that the store is full.
SELECT tmcp.start_session('caps', 'a');
\echo :SQLSTATE
-- Ending one, in whatever way, makes room for one.
SELECT tmcp.end_session('caps', 'a');
SELECT tmcp.start_session('caps', 'd');
SELECT regress.outcome($$SELECT tmcp.start_session('caps', 'e')$$);
DELETE FROM tmcp.sessions WHERE id IN ('c', 'd');
SELECT tmcp.start_session('caps', 'e'), tmcp.start_session('caps', 'f');
SELECT regress.outcome($$SELECT tmcp.start_session('caps', 'g')$$);
-- What is rolled back takes no room.
BEGIN;
SELECT tmcp.end_session('caps', 'f');
SELECT tmcp.start_session('caps', 'g');
ROLLBACK;
SELECT c.sessions FROM tmcp.session_counts AS c JOIN tmcp.stores USING (store) WHERE name = 'caps';
-- One that expires makes room as well.
UPDATE tmcp.sessions SET last_active_at = now() - interval '2 hours' WHERE id = 'e';
UPDATE tmcp.streams SET detached_at = now() - interval '1 hour' WHERE id = 'e';
SELECT ended_sessions FROM tmcp.cleanup();
SELECT tmcp.start_session('caps', 'g');
SELECT regress.outcome($$SELECT tmcp.start_session('caps', 'h')$$);
-- A lower limit ends nobody; a higher one makes room at once; none at all counts no more.
SELECT tmcp.configure_store('caps', maximum_sessions => 1);
SELECT count(*) FROM tmcp.sessions JOIN tmcp.stores USING (store) WHERE name = 'caps';
SELECT tmcp.start_session('caps', 'h');
SELECT tmcp.configure_store('caps', maximum_sessions => 5);
SELECT tmcp.start_session('caps', 'h');
SELECT regress.outcome($$SELECT tmcp.start_session('caps', 'i')$$);
SELECT tmcp.configure_store('caps', maximum_sessions => 0);
SELECT tmcp.start_session('caps', 'i');
SELECT count(*) FROM tmcp.session_counts;
-- Another store is not concerned.
SELECT tmcp.configure_store('caps', maximum_sessions => 1), tmcp.create_store('free');
SELECT tmcp.start_session('free', id) FROM unnest(ARRAY['a', 'b', 'c']) AS id;

-- Counts are not dumped; after a restore the first session that starts counts them again.
SELECT tmcp.configure_store('caps', maximum_sessions => 7);
DELETE FROM tmcp.session_counts;
SELECT tmcp.start_session('caps', 'j');
SELECT regress.outcome($$SELECT tmcp.start_session('caps', 'k')$$);
SELECT tmcp.configure_store('caps', maximum_sessions => 0);

-- One principal may have so many, whatever the others have; sessions of nobody are not counted.
SELECT tmcp.configure_store('caps', maximum_sessions_per_principal => 2);
SELECT tmcp.start_session('caps', 'ann 1', principal => 'ann'), tmcp.set_log_level('caps', 'ann 2', 'info', 'ann');
SELECT tmcp.start_session('caps', 'ann 3', principal => 'ann');
\echo :SQLSTATE
SELECT tmcp.set_log_level('caps', 'ann 3', 'info', 'ann');
\echo :SQLSTATE
SELECT tmcp.start_session('caps', 'bob 1', principal => 'bob'), tmcp.start_session('caps', 'nobody 1');
SELECT tmcp.start_session('free', 'ann 3', principal => 'ann');
SELECT tmcp.end_session('caps', 'ann 1', 'ann');
SELECT tmcp.start_session('caps', 'ann 3', principal => 'ann');
SELECT principal, count(*) FROM tmcp.sessions JOIN tmcp.stores USING (store)
WHERE name = 'caps' AND principal IS NOT NULL GROUP BY principal ORDER BY principal;
-- With both limits, both hold.
SELECT tmcp.configure_store('caps', maximum_sessions => 1);
SELECT tmcp.start_session('caps', 'cid 1', principal => 'cid');
\echo :SQLSTATE
SELECT tmcp.drop_store('caps'), tmcp.drop_store('free');
