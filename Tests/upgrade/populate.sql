-- Two stores in use: one by the owner, with a live node, a lost stream and unsent messages; one granted to a role.
SET client_min_messages = warning;

SELECT tmcp.create_store();
SELECT tmcp.create_store('shop', sessions => 'public.shop_sessions');
SELECT tmcp.configure_store('shop', freshness_window => '5 seconds', inline_limit => 0, maximum_sessions => 3);
SELECT tmcp.grant_usage('shop', 'shop_server');
SELECT tmcp.set_retention('7 minutes');

SELECT tmcp.start_session('tmcp', 'alice', '{"name": "client", "version": "1", "other": [1, null]}', '{"roots": {}}',
                          'alice@example.com', 'warning', '2025-11-25');
SELECT tmcp.start_session('tmcp', 'quote''s "and" ünï');
SELECT tmcp.add_subscription('tmcp', 'alice', 'note://plan', 'alice@example.com');
SELECT tmcp.start_session('shop', 'one');
SELECT tmcp.start_session('shop', 'two');
SELECT tmcp.add_subscription('shop', 'two', 'note://plan');

SELECT node FROM tmcp.register_node('tmcp', 'live') \gset
SELECT state FROM tmcp.attach('tmcp', :node, 'alice', principal => 'alice@example.com');
SELECT stream FROM tmcp.attach('tmcp', :node, 'quote''s "and" ünï') \gset
SELECT tmcp.detach('tmcp', :node, ARRAY[:stream]);
SELECT tmcp.send('tmcp', 'quote''s "and" ünï', '{"kept": "for a resume"}') IS NOT NULL;
SELECT tmcp.enqueue_broadcast('shop', '{"sent": "later"}');
