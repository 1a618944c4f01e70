-- Nodes: a listening server process, its channel and its heartbeat.
\set SHOW_CONTEXT never
SELECT tmcp.create_store('nodes');

-- A node gets a number and a random channel of 128 bits, short enough for LISTEN also with delete: before it.
SELECT node AS first, channel AS first_channel FROM tmcp.register_node('nodes', 'first server') \gset
SELECT node AS second, channel AS second_channel FROM tmcp.register_node('nodes') \gset
SELECT :'first_channel' ~ '^tmcp:[0-9a-f]{32}$' AS looks_random, octet_length('delete:' || :'first_channel') < 64 AS fits,
       :'first_channel' <> :'second_channel' AS differ, :second > :first AS other_number;
SELECT name, registered, fresh, streams, heartbeat_at - started_at < interval '1 second' AS just_registered FROM tmcp.node_status
WHERE store = 'nodes' ORDER BY node;
-- A very long name is cut: it is for people who look.
SELECT node AS third FROM tmcp.register_node('nodes', repeat('é', 300)) \gset
SELECT length(name) FROM tmcp.nodes WHERE node = :third;

-- A heartbeat keeps it alive, and all its streams with it.
SELECT state FROM tmcp.attach_batch('nodes', :first, ARRAY['a', 'b', 'c']);
UPDATE tmcp.nodes SET heartbeat_at = heartbeat_at - interval '9 seconds' WHERE node = :first;
SELECT tmcp.heartbeat('nodes', :first), tmcp.has('nodes', 'a');
SELECT heartbeat_at > clock_timestamp() - interval '5 seconds' AS moved FROM tmcp.nodes WHERE node = :first;

-- What fresh means is up to the store, by the server's clock alone.
UPDATE tmcp.nodes SET heartbeat_at = heartbeat_at - interval '30 seconds' WHERE node = :first;
SELECT tmcp.has('nodes', 'a');
SELECT tmcp.configure_store('nodes', freshness_window => '1 minute');
SELECT tmcp.has('nodes', 'a');
SELECT tmcp.configure_store('nodes', freshness_window => '10 seconds');

-- A node that missed its window has been fenced, for good: no later heartbeat brings it back.
SELECT tmcp.has('nodes', 'a'), tmcp.heartbeat('nodes', :first);
SELECT tmcp.heartbeat('nodes', :first), tmcp.has('nodes', 'a');
SELECT fresh, streams FROM tmcp.node_status WHERE node = :first;
SELECT count(*) AS open FROM tmcp.nodes_sessions;
-- It cannot attach either, and is told why.
DO $$
BEGIN
    PERFORM tmcp.attach('nodes', n.node, 'd') FROM tmcp.nodes AS n WHERE n.name = 'first server';
EXCEPTION WHEN SQLSTATE 'TM009' THEN
    RAISE NOTICE '%', regexp_replace(SQLERRM, '[0-9]+', '{node}');
END
$$;
-- Another node takes over what it held, at once and without a last event id.
SELECT place, state FROM tmcp.attach_batch('nodes', :second, ARRAY['a', 'b']);

-- Nobody can send a heartbeat for what was never registered.
SELECT tmcp.heartbeat('nodes', 0), tmcp.heartbeat('nodes', NULL);

-- A node that stops detaches all its streams in one statement; they can be resumed elsewhere.
SELECT tmcp.stop_node('nodes', :second);
SELECT tmcp.heartbeat('nodes', :second), tmcp.stop_node('nodes', :second);
SELECT id, node IS NULL AS detached, detached_at <= clock_timestamp() AS known_since FROM tmcp.streams
JOIN tmcp.stores USING (store) WHERE name = 'nodes' AND id IN ('a', 'b') ORDER BY id;
SELECT tmcp.drop_store('nodes');
