-- Every table. All but the log and its rotation are keyed by the store, so that one set of tables serves any number
-- of applications.

CREATE TABLE tmcp.stores (
    store integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE CHECK (name ~ '^[a-z_][a-z0-9_]{0,39}$'),
    relations regclass[] NOT NULL CHECK (cardinality(relations) = 5),
    freshness_window interval NOT NULL DEFAULT '10 seconds'
        CHECK (freshness_window BETWEEN '100 milliseconds' AND '1 hour'),
    session_idle_limit interval NOT NULL DEFAULT '1 hour' CHECK (session_idle_limit >= '1 second'),
    inline_limit integer NOT NULL DEFAULT 7900 CHECK (inline_limit BETWEEN 0 AND 7900),
    maximum_message_size integer NOT NULL DEFAULT 4194304
        CHECK (maximum_message_size BETWEEN 1024 AND 268435456),
    maximum_sessions integer CHECK (maximum_sessions > 0),
    maximum_sessions_per_principal integer CHECK (maximum_sessions_per_principal > 0),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tmcp.stores IS 'A store is a namespace: the sessions of one application. See tmcp.create_store.';
COMMENT ON COLUMN tmcp.stores.store IS 'Number of the store, which keys every other table.';
COMMENT ON COLUMN tmcp.stores.name IS 'The name by which functions address the store.';
COMMENT ON COLUMN tmcp.stores.relations IS
    'The five views of the store: sessions, client info, client capabilities, log level, subscriptions. '
    'Whoever may DELETE from the first has been granted the store.';
COMMENT ON COLUMN tmcp.stores.freshness_window IS
    'A node whose last heartbeat is older has lost its streams. Default: 10 seconds.';
COMMENT ON COLUMN tmcp.stores.session_idle_limit IS
    'A session without a stream and without activity for so long is ended by tmcp.cleanup. Default: 1 hour.';
COMMENT ON COLUMN tmcp.stores.inline_limit IS
    'Bytes up to which a message travels inside its notification; 0 keeps all messages out of the notification queue. '
    'Default and greatest: 7900.';
COMMENT ON COLUMN tmcp.stores.maximum_message_size IS 'Bytes that one message may have. Default: 4194304 (4 MiB).';
COMMENT ON COLUMN tmcp.stores.maximum_sessions IS
    'Sessions that the store may hold, and streams beside them that may listen for changes. Default: NULL, any number.';
COMMENT ON COLUMN tmcp.stores.maximum_sessions_per_principal IS
    'Sessions that one principal may hold, and streams beside them that may listen. Default: NULL, any number.';
COMMENT ON COLUMN tmcp.stores.created_at IS 'When the store was created.';
COMMENT ON CONSTRAINT stores_name_check ON tmcp.stores IS 'Lower-case names that need no quoting.';

-- Updated by every heartbeat: without an index on heartbeat_at and with room on the page, each update is HOT.
CREATE TABLE tmcp.nodes (
    node bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store integer NOT NULL REFERENCES tmcp.stores ON DELETE CASCADE,
    channel text COLLATE "C" NOT NULL UNIQUE,
    name text,
    listens_for_many boolean NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX nodes_store ON tmcp.nodes (store);
COMMENT ON TABLE tmcp.nodes IS
    'A node is a listening server process, with its channel and its heartbeat. See tmcp.register_node.';
COMMENT ON COLUMN tmcp.nodes.node IS 'Number of the node.';
COMMENT ON COLUMN tmcp.nodes.store IS 'The store that the node serves.';
COMMENT ON COLUMN tmcp.nodes.channel IS
    'The channel that the node listens to; it also listens to delete:{channel}.';
COMMENT ON COLUMN tmcp.nodes.name IS 'What the process calls itself, for people who look.';
COMMENT ON COLUMN tmcp.nodes.listens_for_many IS
    'False for the node of a single stream that was opened without a registered node.';
COMMENT ON COLUMN tmcp.nodes.started_at IS 'When the node registered.';
COMMENT ON COLUMN tmcp.nodes.heartbeat_at IS 'When the node was last heard of, by the clock of the database server.';
COMMENT ON INDEX tmcp.nodes_store IS 'The nodes of a store, for broadcasts.';

CREATE VIEW tmcp._fresh_nodes AS
    SELECT n.node, n.store, n.channel, n.listens_for_many
    FROM tmcp.nodes AS n
    JOIN tmcp.stores AS s USING (store)
    WHERE n.heartbeat_at > clock_timestamp() - s.freshness_window;
COMMENT ON VIEW tmcp._fresh_nodes IS 'The nodes that are alive: the one place that says what fresh means.';

CREATE TABLE tmcp.streams (
    stream bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store integer NOT NULL,
    id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C",
    kinds text[] CHECK (kinds <@ ARRAY['tools', 'prompts', 'resources']),
    principal text COLLATE "C",
    node bigint,
    starts_after bigint NOT NULL,
    purged_through bigint NOT NULL DEFAULT 0,
    attached_after bigint,
    detached_at timestamptz DEFAULT clock_timestamp(),
    UNIQUE (store, id),
    CHECK ((node IS NULL) = (detached_at IS NOT NULL)),
    CHECK ((session_id IS NULL) = (kinds IS NOT NULL)),
    CHECK (session_id IS NULL OR principal IS NULL)
) WITH (fillfactor = 80);
CREATE INDEX streams_node ON tmcp.streams (node) WHERE node IS NOT NULL;
CREATE INDEX streams_session_id ON tmcp.streams (store, session_id) WHERE id <> session_id;
CREATE INDEX streams_principal ON tmcp.streams (store, principal) WHERE session_id IS NULL;
CREATE INDEX streams_detached_at ON tmcp.streams (detached_at) WHERE node IS NULL;
COMMENT ON TABLE tmcp.streams IS
    'A stream is an open or resumable SSE stream. The standalone stream of a session has the id of the session. A stream '
    'that listens for changes (revision 2026-07-28) has a filter instead of a session, and ends with its connection.';
COMMENT ON COLUMN tmcp.streams.stream IS 'Number of the stream, which keys its messages and names it in frames.';
COMMENT ON COLUMN tmcp.streams.store IS
    'The store of the stream. Not a foreign key: every opened stream would lock the row of its store.';
COMMENT ON COLUMN tmcp.streams.id IS 'Id of the stream: 1 to 1024 bytes of anything.';
COMMENT ON COLUMN tmcp.streams.session_id IS
    'Id of the session that the stream belongs to; NULL for one that listens for changes. Not a foreign key: metadata '
    'may live in another database.';
COMMENT ON COLUMN tmcp.streams.kinds IS
    'The lists of whose changes a listening stream wants to hear: tools, prompts, resources; NULL for one of a session.';
COMMENT ON COLUMN tmcp.streams.principal IS
    'The authenticated user of a listening stream; a stream of a session has that of its session.';
COMMENT ON COLUMN tmcp.streams.node IS
    'The node that holds the stream; NULL when it is detached. Not a foreign key: a dead node leaves at once, and '
    'tmcp.cleanup follows in batches.';
COMMENT ON COLUMN tmcp.streams.starts_after IS 'An event id before the first message that the stream can have.';
COMMENT ON COLUMN tmcp.streams.purged_through IS
    'The last message of this stream that rotation has removed from the log: a resume from before it is "purged".';
COMMENT ON COLUMN tmcp.streams.attached_after IS
    'The event id at which a server process last took the stream, which also tells when; NULL before the first time. '
    'A process that brings the stream along under a new number has had it since then, and leaves this as it is.';
COMMENT ON COLUMN tmcp.streams.detached_at IS 'Since when no node holds the stream; NULL while one does.';
COMMENT ON INDEX tmcp.streams_node IS 'The streams of a node, to stop it and to fetch for it.';
COMMENT ON INDEX tmcp.streams_session_id IS 'The streams of a session beside the standalone one, to end them with it.';
COMMENT ON INDEX tmcp.streams_principal IS 'The streams that listen, to count them.';
COMMENT ON INDEX tmcp.streams_detached_at IS 'Detached streams by age, for tmcp.cleanup.';

CREATE TABLE tmcp.sessions (
    session bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store integer NOT NULL REFERENCES tmcp.stores ON DELETE CASCADE,
    id text COLLATE "C" NOT NULL,
    principal text COLLATE "C",
    client_info json,
    client_capabilities json,
    log_level tmcp.log_level,
    protocol_version text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_active_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (store, id)
) WITH (fillfactor = 80);
CREATE INDEX sessions_last_active_at ON tmcp.sessions (store, last_active_at);
CREATE INDEX sessions_principal ON tmcp.sessions (store, principal) WHERE principal IS NOT NULL;
COMMENT ON TABLE tmcp.sessions IS 'What is known of a session, one row each.';
COMMENT ON COLUMN tmcp.sessions.session IS 'Number of the session.';
COMMENT ON COLUMN tmcp.sessions.store IS 'The store of the session.';
COMMENT ON COLUMN tmcp.sessions.id IS 'Id of the session, as the client sends it: 1 to 1024 bytes of anything.';
COMMENT ON COLUMN tmcp.sessions.principal IS
    'The authenticated user that the session is bound to, 1 to 1024 bytes; NULL for none.';
COMMENT ON COLUMN tmcp.sessions.client_info IS
    'clientInfo of initialize, to the letter (json, not jsonb, keeps every member and accepts what JSON accepts).';
COMMENT ON COLUMN tmcp.sessions.client_capabilities IS 'capabilities of initialize, to the letter.';
COMMENT ON COLUMN tmcp.sessions.log_level IS 'The least severe level that the session wants; NULL: everything.';
COMMENT ON COLUMN tmcp.sessions.protocol_version IS 'The revision of MCP that initialize agreed on.';
COMMENT ON COLUMN tmcp.sessions.created_at IS 'When the session started.';
COMMENT ON COLUMN tmcp.sessions.last_active_at IS
    'When the session was last used, exact to the tenth of the idle limit: not every request writes a row.';
COMMENT ON INDEX tmcp.sessions_last_active_at IS 'Sessions by age, for tmcp.cleanup.';
COMMENT ON INDEX tmcp.sessions_principal IS 'The sessions of a principal, to count them.';

CREATE TABLE tmcp.session_counts (
    store integer PRIMARY KEY REFERENCES tmcp.stores ON DELETE CASCADE,
    sessions bigint NOT NULL
) WITH (fillfactor = 20);
COMMENT ON TABLE tmcp.session_counts IS
    'How many sessions a store with a maximum has. Its row is locked by whoever adds a session, which makes the '
    'maximum exact; a store without a maximum has no row and nothing to wait for.';
COMMENT ON COLUMN tmcp.session_counts.store IS 'A store that has a maximum.';
COMMENT ON COLUMN tmcp.session_counts.sessions IS 'Rows of the store in tmcp.sessions.';

CREATE TABLE tmcp.subscriptions (
    store integer NOT NULL,
    uri text COLLATE "C" NOT NULL,
    session bigint NOT NULL REFERENCES tmcp.sessions ON DELETE CASCADE,
    PRIMARY KEY (store, uri, session)
);
CREATE INDEX subscriptions_session ON tmcp.subscriptions (session);
COMMENT ON TABLE tmcp.subscriptions IS 'Which session wants to hear of changes of which resource.';
COMMENT ON COLUMN tmcp.subscriptions.store IS
    'The store of the session. Not a foreign key: the session has one, and subscribing would lock the row of the store '
    'after that of the session.';
COMMENT ON COLUMN tmcp.subscriptions.uri IS 'Uri of the resource: 1 to 2048 bytes, compared byte by byte.';
COMMENT ON COLUMN tmcp.subscriptions.session IS 'The session that subscribed.';
COMMENT ON INDEX tmcp.subscriptions_session IS 'The subscriptions of a session, to end them with it.';

CREATE TABLE tmcp.stream_subscriptions (
    store integer NOT NULL,
    uri text COLLATE "C" NOT NULL,
    stream bigint NOT NULL,
    PRIMARY KEY (store, uri, stream)
);
CREATE INDEX stream_subscriptions_stream ON tmcp.stream_subscriptions (stream);
COMMENT ON TABLE tmcp.stream_subscriptions IS 'Which listening stream wants to hear of changes of which resource.';
COMMENT ON COLUMN tmcp.stream_subscriptions.store IS 'The store of the stream.';
COMMENT ON COLUMN tmcp.stream_subscriptions.uri IS 'Uri of the resource: 1 to 2048 bytes, compared byte by byte.';
COMMENT ON COLUMN tmcp.stream_subscriptions.stream IS
    'The stream that listens. Not a foreign key, which would be checked for each stream that ends, with or without '
    'subscriptions; a trigger follows once for each statement.';
COMMENT ON INDEX tmcp.stream_subscriptions_stream IS 'The subscriptions of a stream, to end them with it.';

-- Without statistics of the store and the node, any of them is planned for like any other. With them, a store or a node
-- that ANALYZE has not seen would pass for empty, and all its rows be read for a single one.
ALTER TABLE tmcp.streams ALTER COLUMN store SET STATISTICS 0, ALTER COLUMN node SET STATISTICS 0;
ALTER TABLE tmcp.sessions ALTER COLUMN store SET STATISTICS 0;
ALTER TABLE tmcp.subscriptions ALTER COLUMN store SET STATISTICS 0;
ALTER TABLE tmcp.stream_subscriptions ALTER COLUMN store SET STATISTICS 0;

CREATE SEQUENCE tmcp.event_id AS bigint;
COMMENT ON SEQUENCE tmcp.event_id IS
    'The last event id. Only tmcp._next_event_ids draws from it, under the order lock, so that ids grow in the order '
    'of commits.';

CREATE TABLE tmcp.messages (
    event_id bigint NOT NULL,
    store integer NOT NULL,
    stream bigint,
    kind text,
    data text NOT NULL,
    slot smallint NOT NULL
) PARTITION BY LIST (slot);
CREATE TABLE tmcp.messages_0 PARTITION OF tmcp.messages FOR VALUES IN (0);
CREATE TABLE tmcp.messages_1 PARTITION OF tmcp.messages FOR VALUES IN (1);
CREATE TABLE tmcp.messages_2 PARTITION OF tmcp.messages FOR VALUES IN (2);
-- Rows are only inserted and truncated, so there is nothing to vacuum. Without compression a length is known without
-- reading the value.
ALTER TABLE tmcp.messages_0 ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE tmcp.messages_1 ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE tmcp.messages_2 ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX messages_stream ON tmcp.messages (stream, event_id);
CREATE INDEX messages_event_id ON tmcp.messages (event_id, stream);
CREATE INDEX messages_broadcast ON tmcp.messages (store, event_id) WHERE stream IS NULL;
COMMENT ON TABLE tmcp.messages IS
    'The log of what was sent, in three partitions that are used in turn. See tmcp.cleanup.';
COMMENT ON TABLE tmcp.messages_0 IS 'The first third of the log.';
COMMENT ON TABLE tmcp.messages_1 IS 'The second third of the log.';
COMMENT ON TABLE tmcp.messages_2 IS 'The last third of the log.';
COMMENT ON COLUMN tmcp.messages.event_id IS
    'Grows in the order of commits: microseconds since 1970, or one more than the id before. What was sent to many '
    'streams at once has one id and a row for each.';
COMMENT ON COLUMN tmcp.messages.store IS 'The store of the message.';
COMMENT ON COLUMN tmcp.messages.stream IS 'The stream that gets the message; NULL for a broadcast.';
COMMENT ON COLUMN tmcp.messages.kind IS
    'The list whose change a broadcast tells of, for the streams that listen for it; NULL for any other message.';
COMMENT ON COLUMN tmcp.messages.data IS 'The message, exactly as it was sent.';
COMMENT ON COLUMN tmcp.messages.slot IS 'The partition.';
COMMENT ON INDEX tmcp.messages_stream IS 'What followed an event on a stream, for a resume.';
COMMENT ON INDEX tmcp.messages_event_id IS 'What followed an event, or a row of one, for a node that fetches.';
COMMENT ON INDEX tmcp.messages_broadcast IS 'The broadcasts of a store, for a resume, and the last of them, for rotation.';

CREATE TABLE tmcp.rotation (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    slot smallint NOT NULL DEFAULT 0 CHECK (slot BETWEEN 0 AND 2),
    rotated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    purged_through bigint NOT NULL DEFAULT 0,
    remembered_through bigint NOT NULL DEFAULT 0
);
INSERT INTO tmcp.rotation DEFAULT VALUES;
COMMENT ON TABLE tmcp.rotation IS 'Which partition of the log is written. One row.';
COMMENT ON COLUMN tmcp.rotation.singleton IS 'Makes sure that there is one row.';
COMMENT ON COLUMN tmcp.rotation.slot IS 'The partition that is written now.';
COMMENT ON COLUMN tmcp.rotation.rotated_at IS 'Since when.';
COMMENT ON COLUMN tmcp.rotation.purged_through IS 'The last event id that is no longer in the log.';
COMMENT ON COLUMN tmcp.rotation.remembered_through IS
    'Streams up to this number remember already what the next rotation will remove of theirs.';

-- Without a row until somebody sets something, so that a restored dump brings its own.
CREATE TABLE tmcp.settings (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    retention interval NOT NULL CHECK (retention BETWEEN '1 second' AND '7 days')
);
COMMENT ON TABLE tmcp.settings IS 'What holds for all stores. One row, or none while everything has its default.';
COMMENT ON COLUMN tmcp.settings.singleton IS 'Makes sure that there is at most one row.';
COMMENT ON COLUMN tmcp.settings.retention IS
    'How long a message stays at least. Default: 5 minutes.';

CREATE VIEW tmcp._effective_settings AS
    SELECT coalesce((SELECT s.retention FROM tmcp.settings AS s), interval '5 minutes') AS retention;
COMMENT ON VIEW tmcp._effective_settings IS 'The settings, with the defaults of what nobody has set.';

CREATE TABLE tmcp.purged_broadcasts (
    store integer PRIMARY KEY REFERENCES tmcp.stores ON DELETE CASCADE,
    purged_through bigint NOT NULL
);
COMMENT ON TABLE tmcp.purged_broadcasts IS 'The last broadcast of each store that rotation has removed from the log.';
COMMENT ON COLUMN tmcp.purged_broadcasts.store IS 'A store.';
COMMENT ON COLUMN tmcp.purged_broadcasts.purged_through IS 'A resume from before this event is "purged".';

CREATE TABLE tmcp.outbox (
    item bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store integer NOT NULL,
    target text NOT NULL CHECK (target IN ('stream', 'broadcast', 'subscribers', 'log')),
    address text,
    principal text COLLATE "C",
    data text NOT NULL,
    rung boolean NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE tmcp.outbox IS
    'Messages that were enqueued in somebody''s transaction and wait to be moved into the log. See tmcp.enqueue.';
COMMENT ON COLUMN tmcp.outbox.item IS 'Number of the item; items of one transaction are sent in this order.';
COMMENT ON COLUMN tmcp.outbox.store IS 'The store of the message.';
COMMENT ON COLUMN tmcp.outbox.target IS 'Whom it is for: a stream, all, the subscribers of a uri, or a log level.';
COMMENT ON COLUMN tmcp.outbox.address IS
    'The stream id, the uri or the level; for a broadcast the list that changed, or NULL.';
COMMENT ON COLUMN tmcp.outbox.principal IS 'The only user whose subscriptions count; NULL for all.';
COMMENT ON COLUMN tmcp.outbox.data IS 'The message.';
COMMENT ON COLUMN tmcp.outbox.rung IS 'Whether a live node was told to move it; if not, the commit does.';
