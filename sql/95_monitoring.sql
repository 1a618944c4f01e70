-- Seeing what happens: views for people and monitoring systems. No message and no channel is shown.

CREATE VIEW tmcp.node_status AS
    SELECT s.name AS store, n.node, n.name, n.listens_for_many AS registered, n.started_at, n.heartbeat_at,
           clock_timestamp() - n.heartbeat_at AS age,
           n.heartbeat_at > clock_timestamp() - s.freshness_window AS fresh,
           (SELECT count(*) FROM tmcp.streams AS st WHERE st.node = n.node) AS streams
    FROM tmcp.nodes AS n JOIN tmcp.stores AS s USING (store);
COMMENT ON VIEW tmcp.node_status IS 'The listening processes: their heartbeat, whether they are alive, their streams.';

CREATE VIEW tmcp.session_status AS
    SELECT s.name AS store, x.id, x.principal, x.protocol_version, x.log_level::text AS log_level, x.created_at,
           x.last_active_at, clock_timestamp() - x.created_at AS age,
           (SELECT count(*) FROM tmcp.subscriptions AS u WHERE u.session = x.session) AS subscriptions,
           n.node, n.name AS node_name
    FROM tmcp.sessions AS x
    JOIN tmcp.stores AS s USING (store)
    LEFT JOIN tmcp.streams AS st ON st.store = x.store AND st.id = x.id
    LEFT JOIN tmcp.nodes AS n ON n.node = st.node AND n.node IN (SELECT f.node FROM tmcp._fresh_nodes AS f);
COMMENT ON VIEW tmcp.session_status IS
    'The sessions, how old they are, and the live process that holds the standalone stream of each.';

CREATE VIEW tmcp.listener_status AS
    SELECT s.name AS store, st.stream, st.id, st.principal, st.kinds,
           (SELECT count(*) FROM tmcp.stream_subscriptions AS u WHERE u.stream = st.stream) AS subscriptions,
           n.node, n.name AS node_name
    FROM tmcp.streams AS st
    JOIN tmcp.stores AS s USING (store)
    LEFT JOIN tmcp.nodes AS n ON n.node = st.node AND n.node IN (SELECT f.node FROM tmcp._fresh_nodes AS f)
    WHERE st.session_id IS NULL;
COMMENT ON VIEW tmcp.listener_status IS
    'The streams that listen for changes without a session (revision 2026-07-28), for what, and the live process that '
    'holds each. tmcp.delete_stream ends one by its id, tmcp.end_listening those of a principal.';

CREATE VIEW tmcp.stream_backlog AS
    SELECT s.name AS store, st.stream, st.id, st.session_id, st.detached_at,
           clock_timestamp() - st.detached_at AS detached_for,
           (SELECT count(*) FROM tmcp.messages AS m
            WHERE m.stream = st.stream
              AND m.event_id > (extract(epoch FROM st.detached_at) * 1000000)::bigint) AS messages
    FROM tmcp.streams AS st JOIN tmcp.stores AS s USING (store)
    WHERE st.node IS NULL;
COMMENT ON VIEW tmcp.stream_backlog IS
    'Streams without a process, and how many messages of their own they have missed since; broadcasts are not counted.';

CREATE VIEW tmcp.log_status AS
    SELECT p.slot, p.slot = r.slot AS written, p.bytes, e.first_event_id, e.last_event_id,
           to_timestamp(e.first_event_id / 1000000.0) AS first_at, to_timestamp(e.last_event_id / 1000000.0) AS last_at,
           p.messages AS estimated_messages,
           round(p.messages / nullif((e.last_event_id - e.first_event_id) / 1000000.0, 0), 1) AS messages_per_second,
           r.rotated_at, t.retention, r.purged_through
    FROM tmcp.rotation AS r
    CROSS JOIN tmcp._effective_settings AS t
    CROSS JOIN (VALUES
        (0, pg_total_relation_size('tmcp.messages_0'), pg_stat_get_live_tuples('tmcp.messages_0'::regclass)),
        (1, pg_total_relation_size('tmcp.messages_1'), pg_stat_get_live_tuples('tmcp.messages_1'::regclass)),
        (2, pg_total_relation_size('tmcp.messages_2'), pg_stat_get_live_tuples('tmcp.messages_2'::regclass)))
        AS p (slot, bytes, messages)
    CROSS JOIN LATERAL (SELECT min(m.event_id) AS first_event_id, max(m.event_id) AS last_event_id
                        FROM tmcp.messages AS m WHERE m.slot = p.slot) AS e;
COMMENT ON VIEW tmcp.log_status IS
    'The three partitions of the log: size in bytes, the time they span, and messages by the server''s statistics.';

CREATE VIEW tmcp.queue_status AS
    SELECT pg_notification_queue_usage() AS notification_queue_used,
           (SELECT count(*) FROM tmcp.outbox) AS outbox_items,
           (SELECT count(*) FROM pg_locks AS l
            WHERE l.locktype = 'advisory' AND l.classid = 1953326960 AND l.objid = 1 AND NOT l.granted)
               AS waiting_senders;
COMMENT ON VIEW tmcp.queue_status IS
    'What waits: the share of PostgreSQL''s notification queue in use (0 to 1; near 1 a listener hangs in a '
    'transaction), items in the outbox, and senders waiting for their turn.';
