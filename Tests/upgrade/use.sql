-- The stores of populate.sql go on working where they were brought to. Prints one line of true and false values.
SET client_min_messages = warning;

SELECT node FROM tmcp.register_node('tmcp', 'after') \gset
SELECT event_id AS start, stream FROM tmcp.attach('tmcp', :node, 'quote''s "and" ünï') \gset
SELECT tmcp.send('tmcp', 'quote''s "and" ünï', '{"message": 1}') AS event_id \gset
SELECT array_agg(data) = '{"{\"message\": 1}"}' AS delivered
FROM tmcp.fetch_messages('tmcp', :node, :start) \gset
SELECT tmcp.touch_session('tmcp', 'alice', 'alice@example.com') AND NOT tmcp.touch_session('tmcp', 'alice') AS known \gset
SELECT tmcp.publish('shop', 'note://plan', tmcp.resource_updated('note://plan')) >= 0 AS published \gset
SELECT tmcp.has('tmcp', 'quote''s "and" ünï') AS fresh \gset

-- The third session is within the store's maximum of three, and the fourth is not.
SET ROLE shop_server;
SELECT tmcp.start_session('shop', 'three');
\set ON_ERROR_STOP 0
SELECT tmcp.start_session('shop', 'four');
\set refused :LAST_ERROR_SQLSTATE
\set ON_ERROR_STOP 1
RESET ROLE;

\echo delivered :delivered known :known published :published fresh :fresh fourth session :refused
