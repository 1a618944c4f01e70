// Made of sql/*.sql by extension/build.
// swift-format-ignore-file

/// The plain install script, for servers that do not have the files of the extension.
enum InstallScript {
    /// The version that it installs.
    static let version = "1.0.0"

    /// One statement, which does all or nothing, and nothing where the version is installed.
    static let text = #"""
-- tmcp_session_manager 1.0.0 as a plain script, for a PostgreSQL that does not take extension files.
-- Made of sql/*.sql by extension/build.
--
-- Run it as the role that is to own it, with psql --file or as one query with any driver. It is one statement: it does
-- all or nothing. Running it again, or in several sessions at once, does no harm: what is installed is left alone.

DO $install$
DECLARE
    callers_path constant text := pg_catalog.current_setting('search_path');
    installed text;
    message text;
    detail text;
    hint text;
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('tmcp_session_manager', 0));
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'tmcp') THEN
        BEGIN
            EXECUTE 'SELECT tmcp.version()' INTO installed;
        EXCEPTION WHEN undefined_function THEN
            RAISE EXCEPTION USING
                ERRCODE = 'duplicate_schema',
                MESSAGE = 'schema tmcp exists, and is not that of tmcp_session_manager',
                HINT = 'Rename or drop it, or install tmcp_session_manager in another database.';
        END;
        IF installed = '1.0.0' THEN
            RAISE NOTICE 'tmcp_session_manager % is already installed, nothing was done', installed;
            RETURN;
        END IF;
        RAISE EXCEPTION USING
            ERRCODE = 'duplicate_object',
            MESSAGE = pg_catalog.format('tmcp_session_manager %s is installed, and this is the script of 1.0.0', installed),
            HINT = 'An extension is updated with ALTER EXTENSION tmcp_session_manager UPDATE TO ''1.0.0''; '
                'a plain installation with the update script of that version.';
    END IF;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    BEGIN
        EXECUTE $script$
-- The schema, and what must hold of the database that it is installed in.

DO $$
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'feature_not_supported',
            MESSAGE = format('tmcp_session_manager needs a database in UTF8, and this one is in %s',
                             current_setting('server_encoding')),
            DETAIL = 'Messages are JSON, which is UTF-8, and their lengths are counted in bytes.',
            HINT = 'Create a database with ENCODING ''UTF8'' TEMPLATE template0 and install it there.';
    END IF;
END
$$;

CREATE SCHEMA tmcp;
REVOKE ALL ON SCHEMA tmcp FROM PUBLIC;
COMMENT ON SCHEMA tmcp IS
    'Sessions of MCP servers: who is connected where, and the messages on their way. '
    'Its functions are the interface; names that start with an underscore are internal.';

-- Nothing that is created below is for PUBLIC; grant_usage and grant_monitoring hand out what each role needs.
-- (Functions and types would be usable by everybody, tables by nobody.)

CREATE TYPE tmcp.log_level AS ENUM
    ('debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency');
REVOKE ALL ON TYPE tmcp.log_level FROM PUBLIC;
COMMENT ON TYPE tmcp.log_level IS
    'Severity of a log message, ordered from the least severe to the most severe. Source: RFC 5424, section 6.2.1.';

CREATE FUNCTION tmcp.version() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT '1.0.0' $$;
COMMENT ON FUNCTION tmcp.version() IS
$$The version of the installed SQL, whether it came as an extension or as the plain script.

Returns: three numbers, such as 1.0.0.
Example: SELECT tmcp.version();$$;

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

-- What every function checks first: may the caller use this store, and are the arguments what they should be.

CREATE FUNCTION tmcp._authorized_store(name text) RETURNS tmcp.stores
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Within a SECURITY DEFINER function current_user is its owner; the caller is who logged in or SET ROLE.
    caller constant name := CASE current_setting('role')
                                WHEN 'none' THEN session_user ELSE current_setting('role')::name END;
    found_store tmcp.stores;
BEGIN
    SELECT s.* INTO found_store FROM tmcp.stores AS s WHERE s.name = _authorized_store.name;
    IF has_table_privilege(caller, found_store.relations[1], 'DELETE') THEN
        RETURN found_store;
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'TM002',
        MESSAGE = format('store %L does not exist, or role %I was not granted it', _authorized_store.name, caller),
        HINT = 'Its owner creates it with tmcp.create_store(store) and grants it with tmcp.grant_usage(store, role).';
END
$$;
COMMENT ON FUNCTION tmcp._authorized_store(text) IS 'The store of that name, if the caller was granted it. Raises TM002.';

CREATE FUNCTION tmcp._check_length(what text, value text, maximum integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF octet_length(value) BETWEEN 1 AND maximum THEN
        RETURN;
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'TM001',
        MESSAGE = CASE
            WHEN value IS NULL THEN format('%s must not be null', what)
            WHEN value = '' THEN format('%s must not be empty', what)
            ELSE format('%s is %s bytes long and may have %s', what, octet_length(value), maximum) END,
        HINT = format('Give %s of 1 to %s bytes.', what, maximum);
END
$$;
COMMENT ON FUNCTION tmcp._check_length(text, text, integer) IS
    'Makes sure that a text from outside has 1 to so many bytes. Raises TM001.';

CREATE FUNCTION tmcp._check_id(id text) RETURNS void
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT tmcp._check_length('the id', id, 1024) $$;
COMMENT ON FUNCTION tmcp._check_id(text) IS 'Makes sure that a session or stream id can be one. Raises TM001.';

CREATE FUNCTION tmcp._check_uri(uri text) RETURNS void
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT tmcp._check_length('the uri', uri, 2048) $$;
COMMENT ON FUNCTION tmcp._check_uri(text) IS 'Makes sure that a uri can be one. Raises TM001.';

CREATE FUNCTION tmcp._check_kind(kind text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tmcp.list_changed(kind);
END
$$;
COMMENT ON FUNCTION tmcp._check_kind(text) IS 'Makes sure that a list is one that clients know. Raises TM001.';

CREATE FUNCTION tmcp._check_message_size(size integer, maximum integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF size <= maximum THEN
        RETURN;
    ELSIF size IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM001',
            MESSAGE = 'the message must not be null',
            HINT = 'Give the text of a JSON-RPC message.';
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'TM004',
        MESSAGE = format('the message is %s bytes long and may have %s', size, maximum),
        DETAIL = 'Nothing was sent.',
        HINT = 'Send less, or raise the limit: tmcp.configure_store(store, maximum_message_size => ...).';
END
$$;
COMMENT ON FUNCTION tmcp._check_message_size(integer, integer) IS
    'Makes sure that a message is within the store''s limit. Raises TM001 for none, TM004 for one that is too large.';

CREATE FUNCTION tmcp._check_given(what text, given boolean) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT given THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM001',
            MESSAGE = format('%s must not be null', what),
            HINT = 'Nothing was changed; the comment on the function says what it takes.';
    END IF;
END
$$;
COMMENT ON FUNCTION tmcp._check_given(text, boolean) IS 'Makes sure that an argument is there. Raises TM001.';

CREATE FUNCTION tmcp._check_session_arguments(id text, principal text, client_info json, client_capabilities json)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tmcp._check_id(id);
    IF principal IS NOT NULL THEN
        PERFORM tmcp._check_length('the principal', principal, 1024);
    END IF;
    IF client_info IS NOT NULL THEN
        PERFORM tmcp._check_length('the client info', client_info::text, 65536);
    END IF;
    IF client_capabilities IS NOT NULL THEN
        PERFORM tmcp._check_length('the client capabilities', client_capabilities::text, 65536);
    END IF;
END
$$;
COMMENT ON FUNCTION tmcp._check_session_arguments(text, text, json, json) IS
    'Makes sure that what a client says of its session can be kept. Raises TM001.';

-- Stores: create, configure, drop; who may use them. For the owner of the extension only. This is the only file that
-- builds SQL, and it builds it from names that a DBA gives.

CREATE FUNCTION tmcp._take_back(kind "char", object oid, acl aclitem[], owner oid) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    role regrole;
BEGIN
    FOR role IN
        SELECT DISTINCT a.grantee::regrole FROM aclexplode(coalesce(acl, acldefault(kind, owner))) AS a WHERE a.grantee <> owner
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', CASE kind
            WHEN 'n' THEN format('SCHEMA %s', object::regnamespace)
            WHEN 'T' THEN format('TYPE %s', object::regtype)
            WHEN 'f' THEN format('FUNCTION %s', object::regprocedure)
            WHEN 's' THEN format('SEQUENCE %s', object::regclass)
            WHEN 'r' THEN format('TABLE %s', object::regclass) END,
            CASE role::oid WHEN 0 THEN 'PUBLIC' ELSE role::text END);
    END LOOP;
END
$$;
COMMENT ON FUNCTION tmcp._take_back("char", oid, aclitem[], oid) IS
    'Revokes a new object from everybody but its owner: from PUBLIC, and from those to whom ALTER DEFAULT PRIVILEGES has '
    'given it. The kinds are those of acldefault.';

CREATE FUNCTION tmcp._create_relation(relation text, definition text, description text) RETURNS regclass
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts text[];
    qualified text;
BEGIN
    BEGIN
        parts := parse_ident(relation);
    EXCEPTION WHEN invalid_parameter_value THEN
        NULL; -- and so not qualified
    END;
    qualified := CASE cardinality(parts)
        WHEN 1 THEN format('tmcp.%I', parts[1])
        WHEN 2 THEN format('%I.%I', parts[1], parts[2]) END;
    IF qualified IS NULL OR octet_length(parts[1]) > 63 OR octet_length(parts[2]) > 63 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM001',
            MESSAGE = format('%L cannot be the name of a relation', relation),
            HINT = 'Give a name, or a schema and a name, of at most 63 bytes each; '
                   'quote it as in SQL where it has other than lower-case letters.';
    END IF;
    IF to_regclass(qualified) IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM013',
            MESSAGE = format('relation %s exists already', qualified),
            DETAIL = 'Nothing was created.',
            HINT = 'Give the store''s relations other names: tmcp.create_store(store, sessions => ...).';
    END IF;
    -- A barrier, so that no function in a query can be shown the rows of another store before they are filtered.
    EXECUTE format('CREATE VIEW %s WITH (security_barrier) AS %s', qualified, definition);
    EXECUTE format('COMMENT ON VIEW %s IS %L', qualified, description);
    -- Whoever may DELETE from the first view may use the store.
    PERFORM tmcp._take_back('r', c.oid, c.relacl, c.relowner) FROM pg_class AS c WHERE c.oid = qualified::regclass;
    RETURN qualified::regclass;
END
$$;
COMMENT ON FUNCTION tmcp._create_relation(text, text, text) IS
    'Creates one view of a store. Raises TM001 for a name that cannot be one, TM013 for one that is taken.';

CREATE FUNCTION tmcp._refuse_write() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'TM014',
        MESSAGE = format('%I.%I is for reading', TG_TABLE_SCHEMA, TG_TABLE_NAME),
        HINT = 'Write with the functions of schema tmcp, such as tmcp.set_client_info and tmcp.add_subscription.';
END
$$;
COMMENT ON FUNCTION tmcp._refuse_write() IS 'Trigger of the metadata views, which are for reading. Raises TM014.';

CREATE FUNCTION tmcp.create_store(
    store text DEFAULT 'tmcp',
    sessions text DEFAULT NULL,
    client_capabilities text DEFAULT NULL,
    client_info text DEFAULT NULL,
    log_level text DEFAULT NULL,
    subscriptions text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key integer;
    created regclass[];
    metadata regclass;
BEGIN
    IF create_store.store !~ '^[a-z_][a-z0-9_]{0,39}$' OR create_store.store IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM001',
            MESSAGE = format('%L cannot be the name of a store', create_store.store),
            HINT = 'Give 1 to 40 lower-case letters, digits and underscores, the first not a digit.';
    END IF;
    -- One at a time, so that the second of two concurrent calls finds what the first one made.
    LOCK TABLE tmcp.stores IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM tmcp.stores AS s WHERE s.name = create_store.store) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM012',
            MESSAGE = format('store %L exists already', create_store.store),
            HINT = 'Use it, or give another name.';
    END IF;

    key := nextval(pg_get_serial_sequence('tmcp.stores', 'store'))::integer;
    created := ARRAY[
        tmcp._create_relation(coalesce(create_store.sessions, create_store.store || '_sessions'), format(
            'SELECT st.id, (SELECT n.heartbeat_at FROM tmcp.nodes AS n WHERE n.node = st.node) AS updated_at'
            ' FROM tmcp.streams AS st WHERE st.store = %s AND st.id = st.session_id'
            ' AND st.node IN (SELECT f.node FROM tmcp._fresh_nodes AS f)', key),
            'Sessions with an open stream: id, and when their process was last heard of. '
            'DELETE closes the stream, wherever it is held; tmcp.end_session ends the session as well.'),
        tmcp._create_relation(coalesce(create_store.client_capabilities, create_store.store || '_session_client_capabilities'),
            format('SELECT s.id, s.client_capabilities::text AS value FROM tmcp.sessions AS s'
                   ' WHERE s.store = %s AND s.client_capabilities IS NOT NULL', key),
            'Capabilities of the client of each session, as JSON text. Written by tmcp.set_client_capabilities.'),
        tmcp._create_relation(coalesce(create_store.client_info, create_store.store || '_session_client_info'),
            format('SELECT s.id, s.client_info::text AS value FROM tmcp.sessions AS s'
                   ' WHERE s.store = %s AND s.client_info IS NOT NULL', key),
            'Name and version of the client of each session, as JSON text. Written by tmcp.set_client_info.'),
        tmcp._create_relation(coalesce(create_store.log_level, create_store.store || '_session_log_level'),
            format('SELECT s.id, s.log_level::text AS value FROM tmcp.sessions AS s'
                   ' WHERE s.store = %s AND s.log_level IS NOT NULL', key),
            'Log level of each session that set one. Written by tmcp.set_log_level.'),
        tmcp._create_relation(coalesce(create_store.subscriptions, create_store.store || '_session_subscriptions'),
            format('SELECT s.id, u.uri AS value FROM tmcp.subscriptions AS u JOIN tmcp.sessions AS s USING (session)'
                   ' WHERE u.store = %s', key),
            'The resources that each session subscribed to, one row each. Written by tmcp.add_subscription.')];
    FOREACH metadata IN ARRAY created[2:5] LOOP
        EXECUTE format('CREATE TRIGGER refuse_write INSTEAD OF INSERT OR UPDATE OR DELETE ON %s'
                       ' FOR EACH ROW EXECUTE FUNCTION tmcp._refuse_write()', metadata);
        EXECUTE format('COMMENT ON TRIGGER refuse_write ON %s IS %L', metadata,
                       'Says which function writes instead.');
    END LOOP;
    INSERT INTO tmcp.stores (store, name, relations) OVERRIDING SYSTEM VALUE
    VALUES (key, create_store.store, created);
END
$$;
COMMENT ON FUNCTION tmcp.create_store(text, text, text, text, text, text) IS
$$Creates a store, the namespace of one application, and its five views.

Arguments: store, 1 to 40 lower-case letters, digits and underscores, default tmcp; then names of the views, with a
schema or without one (then in schema tmcp), default {store}_sessions, {store}_session_client_capabilities,
{store}_session_client_info, {store}_session_log_level and {store}_session_subscriptions. A store whose name has more
than 35 characters needs shorter ones.
Returns: nothing.
Errors: TM001 a name that cannot be one; TM012 the store exists; TM013 a relation of that name exists.
Who: the owner of the extension.
Example: SELECT tmcp.create_store('shop', sessions => 'public.shop_sessions');$$;

CREATE FUNCTION tmcp._store_for_administration(name text) RETURNS tmcp.stores
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_store tmcp.stores;
BEGIN
    -- A weaker lock than the one for deleting: sessions and nodes, whose rows refer to this one, go on being added.
    SELECT s.* INTO found_store FROM tmcp.stores AS s WHERE s.name = _store_for_administration.name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM002',
            MESSAGE = format('store %L does not exist', _store_for_administration.name),
            HINT = 'Create it with tmcp.create_store(store); SELECT name FROM tmcp.stores lists what there is.';
    END IF;
    RETURN found_store;
END
$$;
COMMENT ON FUNCTION tmcp._store_for_administration(text) IS 'The store of that name, locked. Raises TM002.';

CREATE FUNCTION tmcp.configure_store(
    store text,
    freshness_window interval DEFAULT NULL,
    session_idle_limit interval DEFAULT NULL,
    inline_limit integer DEFAULT NULL,
    maximum_message_size integer DEFAULT NULL,
    maximum_sessions integer DEFAULT NULL,
    maximum_sessions_per_principal integer DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key constant integer := (tmcp._store_for_administration(configure_store.store)).store;
BEGIN
    IF configure_store.maximum_sessions IS NOT NULL THEN
        PERFORM tmcp._require_read_committed();
        -- Nobody starts a session while they are counted.
        LOCK TABLE tmcp.sessions IN SHARE ROW EXCLUSIVE MODE;
        DELETE FROM tmcp.session_counts AS c WHERE c.store = key;
        IF configure_store.maximum_sessions > 0 THEN
            INSERT INTO tmcp.session_counts (store, sessions)
            SELECT key, count(*) FROM tmcp.sessions AS s WHERE s.store = key;
        END IF;
    END IF;
    UPDATE tmcp.stores AS s SET
        freshness_window = coalesce(configure_store.freshness_window, s.freshness_window),
        session_idle_limit = coalesce(configure_store.session_idle_limit, s.session_idle_limit),
        inline_limit = coalesce(configure_store.inline_limit, s.inline_limit),
        maximum_message_size = coalesce(configure_store.maximum_message_size, s.maximum_message_size),
        maximum_sessions = nullif(coalesce(configure_store.maximum_sessions, s.maximum_sessions), 0),
        maximum_sessions_per_principal = nullif(
            coalesce(configure_store.maximum_sessions_per_principal, s.maximum_sessions_per_principal), 0)
    WHERE s.store = key;
EXCEPTION WHEN check_violation THEN
    RAISE EXCEPTION USING
        ERRCODE = 'TM001',
        MESSAGE = format('a setting for store %L is out of range', configure_store.store),
        DETAIL = SQLERRM,
        HINT = 'The comment on tmcp.configure_store gives the ranges.';
END
$$;
COMMENT ON FUNCTION tmcp.configure_store(text, interval, interval, integer, integer, integer, integer) IS
$$Changes settings of a store; what is NULL or not given stays as it is.

Arguments: store; freshness_window, how long a node may be silent, 100 ms to 1 hour; session_idle_limit, at least 1
second; inline_limit, bytes up to which a message travels inside its notification, 0 to 7900, 0 for never;
maximum_message_size, bytes, 1024 to 268435456; maximum_sessions and maximum_sessions_per_principal, 0 for any number.
Returns: nothing.
Errors: TM001 a value out of range; TM002 no such store; TM011 maximum_sessions above read committed.
Who: the owner of the extension.
Example: SELECT tmcp.configure_store('shop', freshness_window => '5 seconds', maximum_sessions => 10000);$$;

CREATE FUNCTION tmcp.drop_store(store text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dropped constant tmcp.stores := tmcp._store_for_administration(drop_store.store);
    relation regclass;
BEGIN
    PERFORM tmcp._require_read_committed();
    -- No cleanup meanwhile, no node and no session any more, and then everything in the order in which everybody locks.
    PERFORM pg_advisory_xact_lock(1953326960, 2);
    PERFORM FROM tmcp.stores AS s WHERE s.store = dropped.store FOR UPDATE;
    PERFORM FROM tmcp.nodes AS n WHERE n.store = dropped.store ORDER BY n.node FOR UPDATE;
    PERFORM FROM tmcp.sessions AS x WHERE x.store = dropped.store ORDER BY x.id FOR UPDATE;
    PERFORM FROM tmcp.streams AS st WHERE st.store = dropped.store ORDER BY st.id FOR UPDATE;
    DELETE FROM tmcp.streams AS st WHERE st.store = dropped.store;
    DELETE FROM tmcp.outbox AS o WHERE o.store = dropped.store;
    DELETE FROM tmcp.stores AS s WHERE s.store = dropped.store;
    FOREACH relation IN ARRAY dropped.relations LOOP
        IF EXISTS (SELECT FROM pg_class AS c WHERE c.oid = relation) THEN
            EXECUTE format('DROP VIEW %s', relation);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tmcp.drop_store(text) IS
$$Drops a store with its sessions, its streams (which close wherever they are held) and its views.

Arguments: store.
Returns: nothing.
Errors: TM002 no such store; TM011 above read committed.
Who: the owner of the extension.
Example: SELECT tmcp.drop_store('shop');$$;

CREATE FUNCTION tmcp._application_functions() RETURNS SETOF regprocedure
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    -- An application gets what runs with the owner's rights and checks the store, and what reads no table at all.
    SELECT p.oid::regprocedure
    FROM pg_proc AS p
    WHERE p.pronamespace = 'tmcp'::regnamespace
      AND p.proname !~ '^_'
      AND (p.prosecdef OR p.provolatile = 'i')
    ORDER BY 1
$$;
COMMENT ON FUNCTION tmcp._application_functions() IS 'The functions that tmcp.grant_usage hands out.';

CREATE FUNCTION tmcp.grant_usage(store text, role regrole) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    granted constant tmcp.stores := tmcp._store_for_administration(grant_usage.store);
    relation regclass;
    application_function regprocedure;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA tmcp TO %s', grant_usage.role);
    EXECUTE format('GRANT USAGE ON TYPE tmcp.log_level TO %s', grant_usage.role);
    FOR application_function IN SELECT f FROM tmcp._application_functions() AS f LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', application_function, grant_usage.role);
    END LOOP;
    FOREACH relation IN ARRAY granted.relations LOOP
        EXECUTE format('GRANT SELECT ON %s TO %s', relation, grant_usage.role);
    END LOOP;
    EXECUTE format('GRANT DELETE ON %s TO %s', granted.relations[1], grant_usage.role);
END
$$;
COMMENT ON FUNCTION tmcp.grant_usage(text, regrole) IS
$$Lets a role use a store: call the functions for it, read its five views, and delete from its sessions.

Arguments: store; role, the one that the application connects as.
Returns: nothing.
Errors: TM002 no such store.
Who: the owner of the extension.
Example: SELECT tmcp.grant_usage('shop', 'shop_server');$$;

CREATE FUNCTION tmcp.revoke_usage(store text, role regrole) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    revoked constant tmcp.stores := tmcp._store_for_administration(revoke_usage.store);
    relation regclass;
    application_function regprocedure;
BEGIN
    FOREACH relation IN ARRAY revoked.relations LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', relation, revoke_usage.role);
    END LOOP;
    IF EXISTS (SELECT FROM tmcp.stores AS s
               WHERE has_table_privilege(revoke_usage.role::oid, s.relations[1], 'DELETE')) THEN
        RETURN;
    END IF;
    FOR application_function IN SELECT f FROM tmcp._application_functions() AS f LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM %s', application_function, revoke_usage.role);
    END LOOP;
    EXECUTE format('REVOKE USAGE ON TYPE tmcp.log_level FROM %s', revoke_usage.role);
    EXECUTE format('REVOKE USAGE ON SCHEMA tmcp FROM %s', revoke_usage.role);
END
$$;
COMMENT ON FUNCTION tmcp.revoke_usage(text, regrole) IS
$$Takes back what tmcp.grant_usage gave; with the last store goes the right to call the functions.

Arguments: store; role.
Returns: nothing.
Errors: TM002 no such store.
Who: the owner of the extension.
Example: SELECT tmcp.revoke_usage('shop', 'shop_server');$$;

CREATE FUNCTION tmcp.set_retention(retention interval) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO tmcp.settings (retention) VALUES (set_retention.retention)
    ON CONFLICT ON CONSTRAINT settings_pkey DO UPDATE SET retention = EXCLUDED.retention;
EXCEPTION WHEN check_violation OR not_null_violation THEN
    RAISE EXCEPTION USING
        ERRCODE = 'TM001',
        MESSAGE = format('retention cannot be %s', coalesce(set_retention.retention::text, 'null')),
        HINT = 'Give an interval from 1 second to 7 days.';
END
$$;
COMMENT ON FUNCTION tmcp.set_retention(interval) IS
$$Sets how long messages stay in the log, and lost streams resumable, in all stores.

Arguments: retention, the least time, 1 second to 7 days, default 5 minutes; a message is gone after one and a
half times that, or later while somebody reads the oldest part of the log.
Returns: nothing.
Errors: TM001 a value out of range.
Who: the owner of the extension.
Example: SELECT tmcp.set_retention('15 minutes');$$;

-- Nodes: the listening processes and their heartbeats.

CREATE FUNCTION tmcp._random_channel() RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN 'tmcp:' || substr(encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex'), 1, 32);
END
$$;
COMMENT ON FUNCTION tmcp._random_channel() IS
    'The name of a channel, with 128 random bits: who does not know it can neither listen to it nor send on it.';

CREATE FUNCTION tmcp.register_node(
    store text,
    name text DEFAULT NULL,
    OUT node bigint,
    OUT channel text,
    OUT event_id bigint
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(register_node.store);
BEGIN
    SELECT e.last_value INTO register_node.event_id FROM tmcp.event_id AS e;
    INSERT INTO tmcp.nodes AS n (store, channel, name, listens_for_many)
    VALUES (s.store, tmcp._random_channel(), left(register_node.name, 200), true)
    RETURNING n.node, n.channel INTO register_node.node, register_node.channel;
END
$$;
COMMENT ON FUNCTION tmcp.register_node(text, text) IS
$$Registers a listening process. LISTEN to the channel, and to delete:{channel}, before streams are attached.

Arguments: store; name, what the process calls itself in the views for people, at most 200 characters, default none.
Returns: node, a number for the other functions; channel, a random name, to be kept secret;
event_id, which everything that is sent to streams of this node follows.
Errors: TM002 no such store, or not granted.
Example: SELECT node, channel FROM tmcp.register_node('tmcp', 'server 1');$$;

CREATE FUNCTION tmcp.heartbeat(store text, node bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(heartbeat.store);
BEGIN
    UPDATE tmcp.nodes AS n SET heartbeat_at = clock_timestamp()
    WHERE n.node = heartbeat.node AND n.store = s.store
      AND n.heartbeat_at > clock_timestamp() - s.freshness_window;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tmcp.heartbeat(text, bigint) IS
$$Says that a node is alive, and with it all its streams. Call it every third of the freshness window or so.

Arguments: store; node, from tmcp.register_node or tmcp.attach.
Returns: true; false when the node was silent for longer than the freshness window. It has then been fenced for good:
other nodes may hold its streams. Register anew and attach what is still open.
Errors: TM002 no such store, or not granted.
Example: SELECT tmcp.heartbeat('tmcp', 1);$$;

CREATE FUNCTION tmcp._let_go(streams bigint[]) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    detached bigint;
    listening bigint[];
BEGIN
    -- ARRAY(...), which is planned for few: for the very array, all streams may be read.
    WITH let_go AS (
        UPDATE tmcp.streams AS st SET node = NULL, detached_at = clock_timestamp()
        WHERE st.stream = ANY (ARRAY(SELECT unnest(_let_go.streams)))
        RETURNING st.stream, st.session_id
    )
    SELECT count(*), array_agg(l.stream) FILTER (WHERE l.session_id IS NULL) INTO detached, listening FROM let_go AS l;
    IF listening IS NOT NULL THEN
        DELETE FROM tmcp.streams AS st WHERE st.stream = ANY (ARRAY(SELECT unnest(listening)));
    END IF;
    RETURN detached;
END
$$;
COMMENT ON FUNCTION tmcp._let_go(bigint[]) IS
    'Detaches streams that the caller has locked. Those that listen for changes end, since nobody can resume them.';

CREATE FUNCTION tmcp.stop_node(store text, node bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(stop_node.store);
    stopped tmcp.nodes;
    detached bigint;
BEGIN
    -- The store before the node, as in tmcp.drop_store: the new row below locks it.
    PERFORM FROM tmcp.stores AS x WHERE x.store = s.store FOR KEY SHARE;
    -- The node before its streams: it waits for attaches under way, whose streams are then detached with the others.
    DELETE FROM tmcp.nodes AS n WHERE n.node = stop_node.node AND n.store = s.store RETURNING n.* INTO stopped;
    detached := tmcp._let_go(ARRAY(SELECT x.stream FROM tmcp.streams AS x
                                   WHERE x.node = stop_node.node AND x.store = s.store
                                   ORDER BY x.id FOR UPDATE SKIP LOCKED));
    -- What somebody has locked is left to tmcp.cleanup, which looks for dead nodes. A new row, since who attaches meanwhile
    -- waits for the old one, and would take it for alive if that were only changed. What is sent to it goes where nobody hears
    -- it.
    INSERT INTO tmcp.nodes (node, store, channel, name, listens_for_many, started_at, heartbeat_at)
    OVERRIDING SYSTEM VALUE
    SELECT stopped.node, stopped.store, tmcp._random_channel(), stopped.name, stopped.listens_for_many,
           stopped.started_at, least(stopped.heartbeat_at, clock_timestamp() - s.freshness_window)
    WHERE EXISTS (SELECT FROM tmcp.streams AS st WHERE st.node = stopped.node);
    RETURN detached;
END
$$;
COMMENT ON FUNCTION tmcp.stop_node(text, bigint) IS
$$Takes a node out of service and detaches all its streams, which stay resumable on other nodes; those that listen for
changes end. It does not wait for a stream that somebody's open transaction has locked: tmcp.cleanup detaches that later,
and until then the node is shown as one that is not alive.

Arguments: store; node.
Returns: how many streams were detached; 0 for a node that is not there.
Errors: TM002 no such store, or not granted.
Example: SELECT tmcp.stop_node('tmcp', 1);$$;

-- The order of messages. Whoever holds the order lock allocates event ids, and holds it until commit, so that ids grow
-- in the order in which other transactions see the messages: a cursor over the log skips nothing.
--
-- Locks are taken in one order everywhere, so that nobody waits in a circle: rows of nodes (after that of the store, for
-- whoever drops it or stops one of its nodes), of sessions, of session_counts, of streams, of each the lower key or id
-- first, and then the order lock; nothing is waited for while that is held. Whoever has to go
-- against this order takes only what is free (SKIP LOCKED, NOWAIT).

CREATE FUNCTION tmcp._require_read_committed() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM011',
            MESSAGE = format('this needs isolation level read committed, and the transaction has %s',
                             current_setting('transaction_isolation')),
            DETAIL = 'With an older snapshot it would not see what others did just before it got its lock.',
            HINT = 'Inside such a transaction send with tmcp.enqueue and its siblings, which work in any.';
    END IF;
END
$$;
COMMENT ON FUNCTION tmcp._require_read_committed() IS
    'Makes sure that what follows a lock sees what was committed before it. Raises TM011.';

CREATE FUNCTION tmcp._next_event_ids(count integer) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    drawn bigint;
    first bigint;
BEGIN
    -- Called only where it raises: a call of a helper costs every sender 5 µs.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM tmcp._require_read_committed();
    END IF;
    PERFORM pg_advisory_xact_lock(1953326960, 1);
    drawn := nextval('tmcp.event_id');
    first := greatest(drawn, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    IF first + count - 1 > drawn THEN
        PERFORM setval('tmcp.event_id', first + count - 1);
    END IF;
    RETURN first;
END
$$;
COMMENT ON FUNCTION tmcp._next_event_ids(integer) IS
    'Takes the order lock and allocates so many event ids; returns the first. Raises TM011 above read committed.';

-- Streams: attach, replay, detach, delete, has; and the triggers that tell a node what became of its streams.

CREATE FUNCTION tmcp._tell_nodes_of_deleted_streams() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Each part has 7900 bytes of stream numbers and commas, and at most another 19 of the number that crosses that.
    PERFORM pg_notify('delete:' || told.channel, 'ended ' || told.streams)
    FROM (SELECT held.channel, string_agg(held.stream::text, ',') AS streams
          FROM (SELECT n.channel, d.stream,
                       (sum(octet_length(d.stream::text) + 1) OVER (PARTITION BY n.node ORDER BY d.stream) - 1) / 7900
                           AS part
                FROM deleted AS d JOIN tmcp.nodes AS n USING (node)) AS held
          GROUP BY held.channel, held.part) AS told;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tmcp._tell_nodes_of_deleted_streams() IS
    'Trigger: one notification on delete:{channel} for each node that held deleted streams, "ended {stream},...", '
    'whatever deleted them; more only where their numbers have more than 7900 bytes.';
CREATE TRIGGER tell_nodes_of_deleted_streams
    AFTER DELETE ON tmcp.streams REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION tmcp._tell_nodes_of_deleted_streams();
COMMENT ON TRIGGER tell_nodes_of_deleted_streams ON tmcp.streams IS
    'For each statement, so that ending a thousand streams of a node is one notification.';

CREATE FUNCTION tmcp._end_subscriptions_of_deleted_streams() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM tmcp.stream_subscriptions AS u
    WHERE u.stream = ANY (ARRAY(SELECT d.stream FROM deleted AS d WHERE d.session_id IS NULL));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tmcp._end_subscriptions_of_deleted_streams() IS
    'Trigger: a listening stream takes its subscriptions along, whatever deleted it.';
CREATE TRIGGER end_subscriptions_of_deleted_streams
    AFTER DELETE ON tmcp.streams REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION tmcp._end_subscriptions_of_deleted_streams();
COMMENT ON TRIGGER end_subscriptions_of_deleted_streams ON tmcp.streams IS
    'For each statement, so that streams of sessions, which have none, cost nothing each.';

CREATE FUNCTION tmcp._tell_nodes_of_taken_streams() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Nothing was updated, as mostly when streams are opened.
    IF NOT EXISTS (SELECT FROM before) THEN
        RETURN NULL;
    END IF;
    PERFORM pg_notify('delete:' || told.channel, concat('taken ', told.attached_after, ' ', told.streams))
    FROM (SELECT lost.channel, lost.attached_after, string_agg(lost.stream::text, ',') AS streams
          FROM (SELECT n.channel, c.attached_after, c.stream,
                       (sum(octet_length(c.stream::text) + 1) OVER (PARTITION BY n.node ORDER BY c.stream) - 1) / 7900
                           AS part
                -- Grouped and not joined: the plan is kept from the first update, which was of one stream perhaps.
                FROM (SELECT u.stream, max(u.lost_by) AS lost_by, max(u.attached_after) AS attached_after
                      FROM (SELECT b.stream, b.node AS lost_by, NULL::bigint AS taken_by, NULL::bigint AS attached_after
                            FROM before AS b
                            UNION ALL
                            SELECT a.stream, NULL, a.node, a.attached_after FROM after AS a) AS u
                      GROUP BY u.stream
                      HAVING max(u.taken_by) <> max(u.lost_by)) AS c
                JOIN tmcp.nodes AS n ON n.node = c.lost_by) AS lost
          GROUP BY lost.channel, lost.attached_after, lost.part) AS told;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tmcp._tell_nodes_of_taken_streams() IS
    'Trigger: tells each node on delete:{channel} which of its streams another node took, '
    '"taken {event id} {stream},...". A node that has attached such a stream again after that event ignores it.';
CREATE TRIGGER tell_nodes_of_taken_streams
    AFTER UPDATE ON tmcp.streams REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION tmcp._tell_nodes_of_taken_streams();
COMMENT ON TRIGGER tell_nodes_of_taken_streams ON tmcp.streams IS 'Tells the loser of a take-over.';

CREATE FUNCTION tmcp._stream_channel(store text, id text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    -- LISTEN silently cuts a name after 63 bytes: with delete:session: before it, 48 are left for the id.
    SELECT 'session:' || CASE
        WHEN store = 'tmcp' AND id ~ '^[A-Za-z0-9_.-]{1,48}$' THEN id
        ELSE '#' || substr(encode(sha256(convert_to(store || '/' || id, 'UTF8')), 'hex'), 1, 40) END
$$;
COMMENT ON FUNCTION tmcp._stream_channel(text, text) IS
    'The channel of a stream that is opened without a node: session:{id}, or session:#{hash} for another store than '
    'tmcp and for an id that is long or has other than letters, digits, underscore, dot and hyphen.';

CREATE FUNCTION tmcp._raise_session_not_found(id text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'TM007',
        MESSAGE = format('there is no session %L', id),
        DETAIL = 'It never was, has ended or expired, is bound to another principal, or has no such stream.',
        HINT = 'Answer the client with 404, so that it starts a new session.';
END
$$;
COMMENT ON FUNCTION tmcp._raise_session_not_found(text) IS
    'Raises TM007, with the same words whether a session does not exist or belongs to another principal.';

CREATE FUNCTION tmcp._raise_purged(after bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'TM010',
        MESSAGE = format('the log no longer reaches back to event %s', after),
        DETAIL = 'Messages that are asked for have been removed.',
        HINT = 'Close the streams, so that their clients come back; tmcp.set_retention keeps messages for longer.';
END
$$;
COMMENT ON FUNCTION tmcp._raise_purged(bigint) IS 'Raises TM010.';

CREATE FUNCTION tmcp._hold_node(s tmcp.stores, node bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM tmcp.nodes AS n
    WHERE n.node = _hold_node.node AND n.store = s.store AND n.node IN (SELECT f.node FROM tmcp._fresh_nodes AS f)
    FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM009',
            MESSAGE = format('node %s is not alive', coalesce(_hold_node.node::text, 'null')),
            DETAIL = format('It was silent for %s, was stopped, or never registered in store %L.',
                            s.freshness_window, s.name),
            HINT = 'Register with tmcp.register_node(store) and attach again.';
    END IF;
END
$$;
COMMENT ON FUNCTION tmcp._hold_node(tmcp.stores, bigint) IS
    'Makes sure that a node is alive, and until commit that it is not stopped or removed while streams are attached '
    'to it. Raises TM009.';

CREATE FUNCTION tmcp.attach_batch(
    store text,
    node bigint,
    ids text[],
    last_event_ids bigint[] DEFAULT NULL,
    session_ids text[] DEFAULT NULL,
    principals text[] DEFAULT NULL
) RETURNS TABLE (place bigint, state text, stream bigint, event_id bigint, replay_after bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Else every call makes its plans anew, which is most of the time that one stream takes. Plans are kept from when a table
-- was empty; there is nothing here that is to be read from end to end.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(attach_batch.store);
    number_of_ids constant integer := coalesce(cardinality(attach_batch.ids), 0);
    are_wanted boolean[];
    created bigint[];
    created_ids text[];
    last_before bigint;
    position_now bigint;
BEGIN
    IF number_of_ids <> (SELECT count(DISTINCT a.id) FROM unnest(attach_batch.ids) AS a (id))
       OR number_of_ids <> coalesce(cardinality(attach_batch.last_event_ids), number_of_ids)
       OR number_of_ids <> coalesce(cardinality(attach_batch.session_ids), number_of_ids)
       OR number_of_ids <> coalesce(cardinality(attach_batch.principals), number_of_ids) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM001',
            MESSAGE = 'the ids of a batch must differ, and its arrays must have one element for each',
            HINT = 'Give every id once, and in the other arrays NULL where there is nothing to say.';
    END IF;
    -- Called only for one that will not do: a call for each would be a fifth of all the work.
    PERFORM tmcp._check_id(a.id), tmcp._check_id(coalesce(a.session_id, a.id))
    FROM unnest(attach_batch.ids, attach_batch.session_ids) AS a (id, session_id)
    WHERE (octet_length(a.id) BETWEEN 1 AND 1024
           AND octet_length(coalesce(a.session_id, a.id)) BETWEEN 1 AND 1024) IS NOT TRUE;

    PERFORM tmcp._hold_node(s, attach_batch.node);
    -- Whoever ends one of these sessions waits for this, and then ends these streams too; or was first. What belongs to a
    -- session of another principal is as if it did not exist, and is left alone.
    -- One by one, since a plan for many at once may read all sessions of the store, even where it is for one.
    SELECT array_agg(named.is_wanted ORDER BY named.place) INTO are_wanted
    FROM (SELECT a.place, x.session IS NULL OR x.principal IS NOT DISTINCT FROM a.principal AS is_wanted
          FROM (SELECT u.place, u.principal, coalesce(u.session_id, u.id) COLLATE "C" AS session_id
                FROM unnest(attach_batch.ids, attach_batch.session_ids, attach_batch.principals)
                    WITH ORDINALITY AS u (id, session_id, principal, place)
                ORDER BY session_id) AS a
          LEFT JOIN LATERAL (SELECT y.session, y.principal FROM tmcp.sessions AS y
                             WHERE y.store = s.store AND y.id = a.session_id FOR KEY SHARE) AS x ON true) AS named;
    -- A stream starts after what was sent before it existed.
    SELECT e.last_value INTO last_before FROM tmcp.event_id AS e;
    -- Each id in its turn is created or, where it exists, locked: WHERE false writes nothing.
    WITH inserted AS (
        INSERT INTO tmcp.streams AS st (store, id, session_id, node, starts_after, attached_after, detached_at)
        SELECT s.store, a.id, coalesce(a.session_id, a.id), attach_batch.node,
               last_before, last_before, NULL
        FROM unnest(attach_batch.ids, attach_batch.session_ids, are_wanted) AS a (id, session_id, is_wanted)
        WHERE a.is_wanted
        ORDER BY a.id COLLATE "C"
        ON CONFLICT ON CONSTRAINT streams_store_id_key DO UPDATE SET node = st.node WHERE false
        RETURNING st.stream, st.id
    )
    SELECT coalesce(array_agg(i.stream), '{}'), array_agg(i.id) INTO created, created_ids FROM inserted AS i;

    position_now := tmcp._next_event_ids(1);

    IF cardinality(created) = number_of_ids
       AND coalesce(cardinality(array_remove(attach_batch.last_event_ids, NULL)), 0) = 0
       AND coalesce(cardinality(array_remove(attach_batch.session_ids, NULL)), 0) = 0 THEN
        -- All are new, and there is nothing to decide, which would take longer than to open them. Not for a stream beside
        -- the standalone one: only with that one does the start of a session collide, so that it cannot come in between.
        RETURN QUERY
        SELECT a.place, 'live', c.stream, position_now, NULL::bigint
        FROM unnest(attach_batch.ids) WITH ORDINALITY AS a (id, place)
        JOIN unnest(created, created_ids) AS c (stream, id) USING (id)
        ORDER BY a.place;
        RETURN;
    END IF;

    RETURN QUERY
    WITH found AS (
        SELECT a.place, a.last_event_id, st.stream, st.starts_after, st.attached_after, f.node AS holder,
               f.listens_for_many,
               st.stream = ANY (created) AS is_created,
               greatest(st.starts_after, st.purged_through,
                        CASE WHEN st.id = st.session_id THEN b.purged_through END) AS resumable_from
        FROM unnest(attach_batch.ids, attach_batch.last_event_ids, attach_batch.session_ids, attach_batch.principals,
                    are_wanted)
            WITH ORDINALITY AS a (id, last_event_id, session_id, principal, is_wanted, place)
        -- A stream is found only in its own session and by its session's principal: the id may come from a client.
        LEFT JOIN LATERAL (
            SELECT x.* FROM tmcp.streams AS x
            WHERE x.store = s.store AND x.id = a.id AND a.is_wanted
              AND x.session_id = coalesce(a.session_id, x.session_id)
              AND NOT EXISTS (SELECT FROM tmcp.sessions AS y WHERE y.store = s.store AND y.id = x.session_id
                                                                AND y.principal IS DISTINCT FROM a.principal)
            LIMIT 1) AS st ON true
        LEFT JOIN tmcp.purged_broadcasts AS b ON b.store = s.store
        LEFT JOIN tmcp._fresh_nodes AS f ON f.node = st.node
    ), decided AS (
        SELECT f.*, CASE
            WHEN f.stream IS NULL THEN 'absent'
            WHEN f.last_event_id < f.resumable_from THEN 'purged'
            WHEN f.last_event_id IS NOT NULL THEN 'replay'
            WHEN f.is_created THEN 'live'
            -- A client that comes back to the same process is not locked out by its own dead stream. Listeners without a
            -- registered node share one, and are told apart by nothing.
            WHEN f.holder <> attach_batch.node OR NOT f.listens_for_many THEN 'held'
            -- Messages may have been kept for a stream that its session has not opened yet.
            WHEN f.attached_after IS NULL AND f.starts_after < f.resumable_from THEN 'purged'
            WHEN f.attached_after IS NULL THEN 'replay'
            ELSE 'live' END AS state
        FROM found AS f
    ), attached AS (
        UPDATE tmcp.streams AS st
        SET node = attach_batch.node, attached_after = position_now, detached_at = NULL
        FROM decided AS d
        WHERE st.stream = d.stream AND NOT d.is_created AND d.state <> 'held'
    )
    SELECT d.place, d.state, d.stream, position_now,
           CASE d.state WHEN 'replay' THEN coalesce(d.last_event_id, d.starts_after) END
    FROM decided AS d
    ORDER BY d.place;
END
$$;
COMMENT ON FUNCTION tmcp.attach_batch(text, bigint, text[], bigint[], text[], text[]) IS
$$Opens or resumes many streams at a node, in one step of the order: every message is either before it, and in the
replay, or after it, and sent to this node.

Arguments: store; node; ids, each once; last_event_ids, the last event that each client has seen, or NULL for a client
that starts now; session_ids, the session of each stream, default the stream's own id; principals, the user of each.
The last three may be NULL as a whole.
Returns: for each id in its place, from 1, what became of it. state is
"live": attached, nothing to replay;
"replay": attached; tmcp.replay gives what followed replay_after;
"purged": attached, but the log no longer reaches back to the last event id;
"held": refused, since another live node holds the stream and no last event id was given;
"absent": refused, since the session belongs to another principal, or the stream to another session.
stream is the number that names the stream in frames; event_id is its position: what is sent later comes live.
A node that loses a stream hears "taken {event_id} {stream},..." on delete:{channel}.
Errors: TM001 an id that cannot be one, or arrays that do not fit; TM002 no such store; TM009 the node is not alive.
Example: SELECT * FROM tmcp.attach_batch('tmcp', 1, ARRAY['a', 'b'], ARRAY[NULL, 1790000000000000]);$$;

CREATE FUNCTION tmcp.attach(
    store text,
    node bigint,
    id text,
    last_event_id bigint DEFAULT NULL,
    session_id text DEFAULT NULL,
    principal text DEFAULT NULL,
    OUT state text,
    OUT stream bigint,
    OUT event_id bigint,
    OUT replay_after bigint,
    OUT own_node bigint,
    OUT own_channel text
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(attach.store);
BEGIN
    PERFORM tmcp._check_id(attach.id);
    IF attach.node IS NULL THEN
        INSERT INTO tmcp.nodes AS n (store, channel, listens_for_many)
        VALUES (s.store, tmcp._stream_channel(s.name, attach.id), false)
        ON CONFLICT (channel) DO UPDATE SET heartbeat_at = n.heartbeat_at
        RETURNING n.node, n.channel INTO attach.own_node, attach.own_channel;
        -- One that was silent for too long has lost its stream, and starts over. A fresh one stays as it is.
        UPDATE tmcp.nodes AS n SET heartbeat_at = clock_timestamp()
        WHERE n.node = attach.own_node AND NOT EXISTS (SELECT FROM tmcp._fresh_nodes AS f WHERE f.node = n.node);
        IF FOUND THEN
            -- Before the stream, as everywhere: that of the stream, and the one that is locked below.
            PERFORM FROM tmcp.sessions AS x
            WHERE x.store = s.store
              AND x.id IN (coalesce(attach.session_id, attach.id),
                           (SELECT st.session_id FROM tmcp.streams AS st
                            WHERE st.store = s.store AND st.id = attach.id))
            ORDER BY x.id FOR KEY SHARE;
            PERFORM tmcp._let_go(ARRAY(SELECT st.stream FROM tmcp.streams AS st WHERE st.node = attach.own_node
                                       ORDER BY st.id FOR UPDATE));
        END IF;
    END IF;
    SELECT a.state, a.stream, a.event_id, a.replay_after
    INTO attach.state, attach.stream, attach.event_id, attach.replay_after
    FROM tmcp.attach_batch(attach.store, coalesce(attach.node, attach.own_node), ARRAY[attach.id],
                           ARRAY[attach.last_event_id], ARRAY[attach.session_id], ARRAY[attach.principal]) AS a;
    CASE attach.state
        WHEN 'held' THEN
            RAISE EXCEPTION USING
                ERRCODE = 'TM003',
                MESSAGE = format('stream %L is open at another live node', attach.id),
                HINT = 'Resume it with the last event id to take it over, or wait until its node lets go of it.';
        WHEN 'absent' THEN
            PERFORM tmcp._raise_session_not_found(coalesce(attach.session_id, attach.id));
        ELSE NULL;
    END CASE;
END
$$;
COMMENT ON FUNCTION tmcp.attach(text, bigint, text, bigint, text, text) IS
$$Opens or resumes one stream: tmcp.attach_batch for one, with errors instead of refusing states.

Arguments: store; node, or NULL for a listener without one, such as psql: the stream then gets a node of its own, which
own_node names for tmcp.heartbeat, with the channel own_channel to LISTEN to, session:{id} or a hash of it; id, 1 to 1024
bytes; last_event_id, the last event that the client has seen, default NULL, which starts now; session_id, default the
stream's own id; principal, default none.
Returns: state, "live", "replay" or "purged" as for tmcp.attach_batch; stream; event_id; replay_after; own_node;
own_channel.
Errors: TM001 an id that cannot be one; TM002 no such store; TM003 held by another live node, or by another listener
without one; TM007 no such session for that principal, or the stream is another session's; TM009 the node is not alive;
TM011 above read committed.
Example: SELECT state, own_channel FROM tmcp.attach('tmcp', NULL, 'abc');$$;

CREATE FUNCTION tmcp.listen(
    store text,
    node bigint,
    id text,
    kinds text[] DEFAULT '{}',
    uris text[] DEFAULT '{}',
    principal text DEFAULT NULL,
    OUT stream bigint,
    OUT event_id bigint
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(listen.store);
    last_before bigint;
BEGIN
    PERFORM tmcp._check_id(listen.id);
    PERFORM tmcp._check_given('kinds and uris', listen.kinds IS NOT NULL AND listen.uris IS NOT NULL);
    PERFORM tmcp._check_kind(k) FROM unnest(listen.kinds) AS k;
    PERFORM tmcp._check_uri(u) FROM unnest(listen.uris) AS u;
    IF listen.principal IS NOT NULL THEN
        PERFORM tmcp._check_length('the principal', listen.principal, 1024);
    END IF;
    IF cardinality(listen.uris) > 1000 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM001',
            MESSAGE = format('a stream cannot listen for %s resources', cardinality(listen.uris)),
            HINT = 'Give 1000 uris at most; a client may open several streams.';
    END IF;

    -- Not quite exact, since those that come at the same moment do not see each other; and not counted under the order
    -- lock, where every sender would wait for it.
    IF (SELECT count(*) FROM (SELECT FROM tmcp.streams AS st WHERE st.store = s.store AND st.session_id IS NULL
                              LIMIT s.maximum_sessions) AS l) >= s.maximum_sessions THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM005',
            MESSAGE = format('%s streams may listen in store %L, and as many do', s.maximum_sessions, s.name),
            DETAIL = 'The stream was not opened.',
            HINT = 'Try again when others have ended, or raise maximum_sessions with tmcp.configure_store.';
    END IF;
    PERFORM tmcp._hold_node(s, listen.node);
    SELECT e.last_value INTO last_before FROM tmcp.event_id AS e;
    INSERT INTO tmcp.streams AS st (store, id, kinds, principal, node, starts_after, attached_after, detached_at)
    VALUES (s.store, listen.id, listen.kinds, listen.principal, listen.node, last_before, last_before, NULL)
    ON CONFLICT ON CONSTRAINT streams_store_id_key DO NOTHING
    RETURNING st.stream INTO listen.stream;
    IF listen.stream IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM003',
            MESSAGE = format('there is a stream %L already', listen.id),
            HINT = 'Give every listening stream a new, random id; it is not resumed.';
    END IF;
    INSERT INTO tmcp.stream_subscriptions (store, uri, stream)
    SELECT DISTINCT s.store, u, listen.stream FROM unnest(listen.uris) AS u;
    -- Under the order lock, and so not while a change is being published: who publishes it has seen this stream, or has
    -- committed before this returns, and then whoever reads the resource now reads it changed.
    listen.event_id := tmcp._next_event_ids(1);
    IF (SELECT count(*) FROM tmcp.streams AS st
        WHERE st.store = s.store AND st.principal = listen.principal AND st.session_id IS NULL)
       > s.maximum_sessions_per_principal THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM006',
            MESSAGE = format('%s streams of one principal may listen, and as many of this one do',
                             s.maximum_sessions_per_principal),
            DETAIL = 'The stream was not opened.',
            HINT = 'Try again when one of them has ended, or raise maximum_sessions_per_principal with '
                   'tmcp.configure_store.';
    END IF;
END
$$;
COMMENT ON FUNCTION tmcp.listen(text, bigint, text, text[], text[], text) IS
$$Opens a stream that listens for changes, without a session: revision 2026-07-28, subscriptions/listen.
It gets what tmcp.broadcast sends for one of its kinds, and what tmcp.publish sends for one of its uris; never a message
for sessions. It is not resumed: once its node lets go of it or is gone, the client listens again, and then reads what it
wants to be sure of. Whether the client may hear of these resources is for the caller to decide before.

Arguments: store; node, a registered one; id, new and random, 1 to 1024 bytes; kinds, any of tools, prompts and resources,
default none; uris, resources, at most 1000, default none; principal, the user, default none.
Returns: stream, the number that names the stream in frames; event_id, its position: what is sent later comes live.
A frame with the targets *{kind} is for the node's streams that listen for that kind, and for those of sessions.
Errors: TM001 an argument that cannot be one; TM002 no such store; TM003 there is a stream of that id; TM005, TM006 as many
listen as the store's limits of sessions allow; TM009 the node is not alive; TM011 above read committed.
Source: MCP 2026-07-28, basic/patterns/subscriptions.
Example: SELECT * FROM tmcp.listen('tmcp', 1, 'c9b2f0', ARRAY['tools'], ARRAY['note://plan'], 'alice');$$;

CREATE FUNCTION tmcp.reattach(store text, node bigint, streams bigint[], positions bigint[], last_event_ids bigint[])
RETURNS TABLE (place bigint, state text, event_id bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(reattach.store);
    brought bigint[];
    new_position bigint;
BEGIN
    PERFORM tmcp._hold_node(s, reattach.node);
    -- Those that the node holds stay as they are, and are not waited for: who has locked one will tell the node what became
    -- of it.
    brought := ARRAY(SELECT st.stream FROM tmcp.streams AS st
                     WHERE st.store = s.store AND st.stream = ANY (ARRAY(SELECT unnest(reattach.streams)))
                       AND st.node IS DISTINCT FROM reattach.node);
    BEGIN
        brought := ARRAY(SELECT st.stream FROM tmcp.streams AS st WHERE st.stream = ANY (ARRAY(SELECT unnest(brought)))
                         ORDER BY st.id FOR UPDATE);
    EXCEPTION WHEN lock_not_available THEN
        -- Better without a stream that somebody's open transaction has locked than not at all.
        brought := ARRAY(SELECT st.stream FROM tmcp.streams AS st WHERE st.stream = ANY (ARRAY(SELECT unnest(brought)))
                         ORDER BY st.id FOR UPDATE SKIP LOCKED);
    END;
    new_position := tmcp._next_event_ids(1);

    RETURN QUERY
    WITH decided AS (
        SELECT a.place, st.stream, CASE
            WHEN st.stream IS NULL THEN 'ended'
            -- Whoever took the stream in between did so at a later event, even if it has let go of it again.
            WHEN st.node IS DISTINCT FROM reattach.node AND st.attached_after > a.position THEN 'taken'
            -- By somebody else; or it was let go of in this very moment.
            WHEN st.node IS DISTINCT FROM reattach.node AND st.stream <> ALL (brought) THEN 'locked'
            WHEN a.last_event_id < greatest(st.purged_through,
                                            CASE WHEN st.id = st.session_id OR st.kinds <> '{}'
                                                THEN b.purged_through END) THEN 'purged'
            ELSE 'attached' END AS state
        FROM unnest(reattach.streams, reattach.positions, reattach.last_event_ids) WITH ORDINALITY
            AS a (stream, position, last_event_id, place)
        -- One by one, as in tmcp.send_batch.
        LEFT JOIN LATERAL (SELECT x.* FROM tmcp.streams AS x
                           WHERE x.stream = a.stream AND x.store = s.store LIMIT 1) AS st ON true
        LEFT JOIN tmcp.purged_broadcasts AS b ON b.store = s.store
    ), attached AS (
        -- attached_after stays. It tells since when the process has the stream, which tmcp.fetch_messages has to know; and
        -- when the answer is lost, the process asks once more with its old positions, be it under yet another number.
        UPDATE tmcp.streams AS st SET node = reattach.node, detached_at = NULL
        WHERE st.stream = ANY (ARRAY(SELECT d.stream FROM decided AS d
                                     WHERE d.state = 'attached' AND d.stream = ANY (brought)))
    )
    SELECT d.place, d.state, new_position FROM decided AS d ORDER BY d.place;
END
$$;
COMMENT ON FUNCTION tmcp.reattach(text, bigint, bigint[], bigint[], bigint[]) IS
$$Gives a node that was fenced its open streams back, under its new number, unless somebody took or ended them since; and
tells a node that was cut off what became of those that it holds. An answer that was lost may be asked for again.

Arguments: store; node, the new one, or the one that holds the streams; streams; positions, the event_id that attaching
each of them returned; last_event_ids, the last event that each has delivered.
Returns: for each stream in its place, from 1, what became of it, and event_id, the position of the attached ones from
now on. state is
"attached": tmcp.fetch_messages gives what it missed;
"purged": not attached, since the log no longer reaches back; of the streams that the node holds, one to be detached;
"taken": not attached, since another node has taken it, and has it or has let go of it;
"locked": not attached, since somebody's transaction had still locked it when lock_timeout was over;
"ended": not attached, since it is no more.
Errors: TM002 no such store; TM009 the node is not alive; TM011 above read committed.
Example: SELECT * FROM tmcp.reattach('tmcp', 2, ARRAY[7], ARRAY[1790000000000000], ARRAY[1790000000000000]);$$;

CREATE FUNCTION tmcp.replay(
    store text,
    stream bigint,
    after bigint,
    through bigint,
    maximum_count bigint DEFAULT 1000,
    maximum_bytes bigint DEFAULT 8388608
) RETURNS TABLE (event_id bigint, data text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- As in tmcp.attach_batch.
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(replay.store);
    gets_broadcasts boolean;
    kinds text[];
    count integer := 0;
    bytes bigint := 0::bigint;
BEGIN
    PERFORM tmcp._require_read_committed();
    SELECT st.id = st.session_id OR st.kinds <> '{}', st.kinds INTO gets_broadcasts, kinds
    FROM tmcp.streams AS st WHERE st.stream = replay.stream AND st.store = s.store;
    FOR replay.event_id, replay.data IN
        SELECT m.event_id, m.data FROM tmcp.messages AS m
        WHERE m.stream = replay.stream AND m.store = s.store
          AND m.event_id > replay.after AND m.event_id <= replay.through
        UNION ALL
        SELECT m.event_id, m.data FROM tmcp.messages AS m
        WHERE m.stream IS NULL AND m.store = s.store
          AND m.event_id > replay.after AND m.event_id <= replay.through
          AND gets_broadcasts AND (kinds IS NULL OR m.kind = ANY (kinds))
        ORDER BY 1
    LOOP
        RETURN NEXT;
        count := count + 1;
        bytes := bytes + octet_length(replay.data);
        -- So that a page which has reached neither is the last, and need not be followed by an empty one.
        EXIT WHEN count >= replay.maximum_count OR bytes >= replay.maximum_bytes;
    END LOOP;
    -- These are looked at last, and with newer snapshots. Of a stream that has ended, the broadcasts would be missing among
    -- its own messages.
    IF NOT EXISTS (SELECT FROM tmcp.streams AS st WHERE st.stream = replay.stream AND st.store = s.store) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM007',
            MESSAGE = format('there is no stream %s', coalesce(replay.stream::text, 'null')),
            DETAIL = 'It has ended, or never was in this store.',
            HINT = 'Close it.';
    END IF;
    -- TRUNCATE empties a partition for older snapshots too, but not any more once it has been read here.
    IF EXISTS (SELECT FROM tmcp.streams AS st
               LEFT JOIN tmcp.purged_broadcasts AS b ON b.store = st.store AND gets_broadcasts
               WHERE st.stream = replay.stream AND st.store = s.store
                 AND greatest(st.purged_through, b.purged_through) > replay.after) THEN
        PERFORM tmcp._raise_purged(replay.after);
    END IF;
END
$$;
COMMENT ON FUNCTION tmcp.replay(text, bigint, bigint, bigint, bigint, bigint) IS
$$What was sent on a stream between two events: its own messages, and for a standalone stream the broadcasts, for one that
listens those of its kinds.
It is no part of tmcp.attach, so that a slow reader of a long replay holds no lock that senders wait for.

Arguments: store; stream and after, the stream and replay_after of tmcp.attach; through, its event_id; maximum_count,
messages at most, default 1000; maximum_bytes, bytes after which no further message is begun, default 8 MiB.
Returns: event_id and data, in order. Call again after the last event_id unless both were fewer.
Errors: TM002 no such store; TM007 no such stream, or not any more; TM010 messages for the stream were removed from the log
since; TM011 above read committed.
Example: SELECT * FROM tmcp.replay('tmcp', 7, 1790000000000000, 1790000000500000);$$;

CREATE FUNCTION tmcp.detach(store text, node bigint, streams bigint[], positions bigint[] DEFAULT NULL) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(detach.store);
BEGIN
    -- In any order, since nothing is waited for.
    PERFORM tmcp._let_go(ARRAY(
        SELECT x.stream FROM unnest(detach.streams, detach.positions) AS d (stream, position)
        CROSS JOIN LATERAL (SELECT y.stream FROM tmcp.streams AS y
                            WHERE y.stream = d.stream AND y.node = detach.node AND y.store = s.store
                              AND (y.attached_after <= d.position) IS NOT FALSE
                            FOR UPDATE SKIP LOCKED) AS x));
    RETURN ARRAY(
        SELECT DISTINCT x.stream FROM unnest(detach.streams, detach.positions) AS d (stream, position)
        CROSS JOIN LATERAL (SELECT y.stream FROM tmcp.streams AS y
                            WHERE y.stream = d.stream AND y.node = detach.node AND y.store = s.store
                              AND (y.attached_after <= d.position) IS NOT FALSE
                            LIMIT 1) AS x
        ORDER BY x.stream);
END
$$;
COMMENT ON FUNCTION tmcp.detach(text, bigint, bigint[], bigint[]) IS
$$Lets go of streams whose clients are gone. What is sent to them is kept until retention ends, for a resume anywhere;
a stream that listens for changes ends. It is called by the node, which is told nothing; from outside, streams are ended
with tmcp.delete_stream, tmcp.end_session and tmcp.end_listening.
It waits for nobody: a stream that somebody's open transaction has locked is left for a later call.

Arguments: store; node; streams, their numbers; positions, the event_id that attaching each of them returned, default
NULL, whatever it was. Streams that the node does not hold (any more) are left alone, and so are those that it has attached
again after the position: a call may be carried out late, when its connection was lost and the client is back.
Returns: those of the streams that the node still holds, since they were locked: call again with them, with the next
heartbeat for instance. An empty array when all is done.
Errors: TM002 no such store.
Example: SELECT tmcp.detach('tmcp', 1, ARRAY[7, 8], ARRAY[1790000000000000, 1790000000000001]);$$;

CREATE FUNCTION tmcp.delete_stream(store text, id text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(delete_stream.store);
BEGIN
    PERFORM tmcp._check_id(delete_stream.id);
    DELETE FROM tmcp.streams AS st WHERE st.store = s.store AND st.id = delete_stream.id;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tmcp.delete_stream(text, text) IS
$$Ends a stream for good, wherever it is held: its node hears "ended {stream}" on delete:{channel} and closes it.

Arguments: store; id of the stream.
Returns: whether there was such a stream.
Errors: TM001 an id that cannot be one; TM002 no such store.
Example: SELECT tmcp.delete_stream('tmcp', 'abc');$$;

CREATE FUNCTION tmcp.end_listening(store text, principal text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(end_listening.store);
    ended bigint;
BEGIN
    PERFORM tmcp._check_length('the principal', end_listening.principal, 1024);
    DELETE FROM tmcp.streams AS st WHERE st.stream = ANY (ARRAY(
        SELECT x.stream FROM tmcp.streams AS x
        WHERE x.store = s.store AND x.principal = end_listening.principal AND x.session_id IS NULL
        ORDER BY x.id FOR UPDATE));
    GET DIAGNOSTICS ended = ROW_COUNT;
    RETURN ended;
END
$$;
COMMENT ON FUNCTION tmcp.end_listening(text, text) IS
$$Ends every stream on which a user listens for changes without a session, for one whose access was withdrawn: the nodes
hear "ended {stream},..." on delete:{channel} and close them. His sessions are ended with tmcp.end_session. It does not
keep him from listening again: refuse him first.

Arguments: store; principal, the user.
Returns: how many streams were ended.
Errors: TM001 no principal; TM002 no such store.
Example: SELECT tmcp.end_listening('tmcp', 'mallory');$$;

CREATE FUNCTION tmcp.has(store text, id text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(has.store);
BEGIN
    RETURN EXISTS (SELECT FROM tmcp.streams AS st JOIN tmcp._fresh_nodes AS f USING (node)
                   WHERE st.store = s.store AND st.id = has.id);
END
$$;
COMMENT ON FUNCTION tmcp.has(text, text) IS
$$Whether a stream is open at a node that is alive.

Arguments: store; id of the stream.
Returns: true or false; false also for an id that no stream can have.
Errors: TM002 no such store.
Example: SELECT tmcp.has('tmcp', 'abc');$$;

-- Sending: to one stream, to many, to all, to subscribers; and fetching what a notification did not carry.
--
-- A notification holds frames, one after the other, each
--     {event id} {targets} {bytes}\n{data}      the message itself
--     {event id} {targets} -\n                  the message is in the log: call tmcp.fetch_messages
-- with targets * for a broadcast, *{kind} for one that tells of a changed list, or stream numbers between commas. Since
-- a frame holds its event id, no two notifications are equal, and PostgreSQL drops none as a duplicate.

-- In PL/pgSQL, which keeps its plan: with a pinned search_path an SQL function is not inlined, and is planned for every
-- statement that calls it.
CREATE FUNCTION tmcp._frame(event_id bigint, targets text, data text, inline_limit integer) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN octet_length(data) <= inline_limit
        THEN event_id || ' ' || targets || ' ' || octet_length(data) || E'\n' || data
        ELSE event_id || ' ' || targets || E' -\n' END;
END
$$;
COMMENT ON FUNCTION tmcp._frame(bigint, text, text, integer) IS 'One frame of a notification.';

CREATE FUNCTION tmcp._send(s tmcp.stores, id text, data text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_event_id constant bigint := tmcp._next_event_ids(1);
    found_stream bigint;
    found_channel text;
BEGIN
    SELECT st.stream, n.channel INTO found_stream, found_channel
    FROM tmcp.streams AS st LEFT JOIN tmcp.nodes AS n USING (node)
    WHERE st.store = s.store AND st.id = _send.id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO tmcp.messages (event_id, store, stream, data, slot)
    SELECT new_event_id, s.store, found_stream, _send.data, r.slot FROM tmcp.rotation AS r;
    IF found_channel IS NOT NULL THEN
        PERFORM pg_notify(found_channel,
                          tmcp._frame(new_event_id, found_stream::text, _send.data, s.inline_limit));
    END IF;
    RETURN new_event_id;
END
$$;
COMMENT ON FUNCTION tmcp._send(tmcp.stores, text, text) IS 'Logs a message for one stream and notifies its node.';

CREATE FUNCTION tmcp.send(store text, id text, data text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(send.store);
BEGIN
    -- Called only for one that will not do, as in the functions below.
    IF (octet_length(send.data) <= s.maximum_message_size) IS NOT TRUE THEN
        PERFORM tmcp._check_message_size(octet_length(send.data), s.maximum_message_size);
    END IF;
    RETURN tmcp._send(s, send.id, send.data);
END
$$;
COMMENT ON FUNCTION tmcp.send(text, text, text) IS
$$Sends a message to one stream: to a client that is connected at once, to one that is not when it resumes.
For a transaction of its own: other senders wait until it commits. Inside a longer one use tmcp.enqueue.

Arguments: store; id of the stream, for a session's standalone stream the id of the session; data, the message.
Returns: the event id; NULL when there is no such stream, and then nothing was sent.
Errors: TM001 no message; TM002 no such store; TM004 over maximum_message_size; TM011 above read committed.
Example: SELECT tmcp.send('tmcp', 'abc', '{"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}');$$;

CREATE FUNCTION tmcp._log_and_notify(s tmcp.stores, event_id bigint, recipients bigint[], nodes bigint[], data text)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    inline_bytes constant integer := CASE WHEN octet_length(_log_and_notify.data) <= s.inline_limit
        THEN octet_length(_log_and_notify.data) ELSE 0 END;
    -- A stream number and its comma have 20 bytes at most; the rest of a frame's head has 23, and a payload 7999.
    streams_per_frame constant integer := (7976 - inline_bytes) / 20;
BEGIN
    INSERT INTO tmcp.messages (event_id, store, stream, data, slot)
    SELECT _log_and_notify.event_id, s.store, recipient.stream, _log_and_notify.data, r.slot
    FROM unnest(recipients) AS recipient (stream) CROSS JOIN tmcp.rotation AS r;
    PERFORM pg_notify(n.channel,
                      tmcp._frame(_log_and_notify.event_id, told.targets, _log_and_notify.data, s.inline_limit))
    FROM (SELECT held.node, string_agg(held.stream::text, ',') AS targets
          FROM (SELECT r.node, r.stream, (row_number() OVER (PARTITION BY r.node) - 1) / streams_per_frame AS part
                FROM unnest(recipients, _log_and_notify.nodes) AS r (stream, node)
                WHERE r.node IS NOT NULL) AS held
          GROUP BY held.node, held.part) AS told
    JOIN tmcp.nodes AS n USING (node);
    RETURN coalesce(cardinality(recipients), 0);
END
$$;
COMMENT ON FUNCTION tmcp._log_and_notify(tmcp.stores, bigint, bigint[], bigint[], text) IS
    'Logs one message for many streams and notifies the nodes that hold them, given for each stream. Both are resolved '
    'after the event id was allocated, under the order lock; else one who attaches in between would be missed.';

CREATE FUNCTION tmcp.multicast(store text, ids text[], data text) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- As in tmcp.attach_batch.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(multicast.store);
    new_event_id bigint;
    event_ids bigint[];
    recipients bigint[];
    nodes bigint[];
BEGIN
    PERFORM tmcp._check_given('the ids', multicast.ids IS NOT NULL);
    PERFORM tmcp._check_message_size(octet_length(multicast.data), s.maximum_message_size);
    new_event_id := tmcp._next_event_ids(1);
    SELECT array_agg(CASE WHEN found.stream IS NOT NULL THEN new_event_id END ORDER BY found.place),
           array_agg(found.stream ORDER BY found.stream) FILTER (WHERE found.is_first),
           array_agg(found.node ORDER BY found.stream) FILTER (WHERE found.is_first)
    INTO event_ids, recipients, nodes
    FROM (SELECT m.place, st.stream, st.node,
                 st.stream IS NOT NULL AND row_number() OVER (PARTITION BY st.stream) = 1 AS is_first
          FROM unnest(multicast.ids) WITH ORDINALITY AS m (id, place)
          LEFT JOIN LATERAL (SELECT x.stream, x.node FROM tmcp.streams AS x
                             WHERE x.store = s.store AND x.id = m.id LIMIT 1) AS st ON true) AS found;
    PERFORM tmcp._log_and_notify(s, new_event_id, recipients, nodes, multicast.data);
    RETURN coalesce(event_ids, '{}');
END
$$;
COMMENT ON FUNCTION tmcp.multicast(text, text[], text) IS
$$Sends one message to many streams in one step: what tmcp.send does for each, with the message handed over once.

Arguments: store; ids of the streams, of which one that is named twice gets the message once; data, the message.
Returns: for each id in its place the event id, the same for all; NULL where there is no such stream.
Errors: TM001 no ids or no message; TM002 no such store; TM004 over maximum_message_size; TM011 above read committed.
Example: SELECT tmcp.multicast('tmcp', ARRAY['abc', 'def'], tmcp.list_changed('tools'));$$;

CREATE FUNCTION tmcp._broadcast(s tmcp.stores, data text, kind text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_event_id constant bigint := tmcp._next_event_ids(1);
BEGIN
    INSERT INTO tmcp.messages (event_id, store, kind, data, slot)
    SELECT new_event_id, s.store, _broadcast.kind, _broadcast.data, r.slot FROM tmcp.rotation AS r;
    PERFORM pg_notify(n.channel, tmcp._frame(new_event_id, concat('*', _broadcast.kind), _broadcast.data, s.inline_limit))
    FROM tmcp.nodes AS n WHERE n.store = s.store;
    RETURN new_event_id;
END
$$;
COMMENT ON FUNCTION tmcp._broadcast(tmcp.stores, text, text) IS 'Logs a message for all and notifies every node once.';

CREATE FUNCTION tmcp._publish(s tmcp.stores, uri text, data text, principal text) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_event_id constant bigint := tmcp._next_event_ids(1);
    recipients bigint[];
    nodes bigint[];
BEGIN
    SELECT array_agg(subscriber.stream), array_agg(subscriber.node) INTO recipients, nodes
    FROM (SELECT st.stream, st.node
          FROM tmcp.subscriptions AS u
          JOIN tmcp.sessions AS x USING (session)
          JOIN tmcp.streams AS st ON st.store = s.store AND st.id = x.id
          WHERE u.store = s.store AND u.uri = _publish.uri
            AND (_publish.principal IS NULL OR x.principal = _publish.principal)
          UNION ALL
          SELECT st.stream, st.node
          FROM tmcp.stream_subscriptions AS u
          CROSS JOIN LATERAL (SELECT y.stream, y.node, y.principal FROM tmcp.streams AS y
                              WHERE y.stream = u.stream LIMIT 1) AS st
          WHERE u.store = s.store AND u.uri = _publish.uri
            AND (_publish.principal IS NULL OR st.principal = _publish.principal)
          ORDER BY 1) AS subscriber;
    RETURN tmcp._log_and_notify(s, new_event_id, recipients, nodes, _publish.data);
END
$$;
COMMENT ON FUNCTION tmcp._publish(tmcp.stores, text, text, text) IS
    'Logs and sends a message for the subscribers of a uri: sessions, and streams that listen.';

CREATE FUNCTION tmcp._log(s tmcp.stores, level tmcp.log_level, data text) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_event_id constant bigint := tmcp._next_event_ids(1);
    recipients bigint[];
    nodes bigint[];
BEGIN
    SELECT array_agg(listener.stream), array_agg(listener.node) INTO recipients, nodes
    FROM (SELECT st.stream, st.node
          FROM tmcp.streams AS st
          LEFT JOIN tmcp.sessions AS x ON x.store = s.store AND x.id = st.id
          WHERE st.store = s.store AND st.id = st.session_id
            AND (x.log_level IS NULL OR x.log_level <= _log.level)
          ORDER BY st.stream) AS listener;
    RETURN tmcp._log_and_notify(s, new_event_id, recipients, nodes, _log.data);
END
$$;
COMMENT ON FUNCTION tmcp._log(tmcp.stores, tmcp.log_level, text) IS
    'Logs and sends a message for the sessions that want to hear of its level.';

CREATE FUNCTION tmcp.send_batch(store text, ids text[], data text[]) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- A plan for the very arrays of a call would cost more than it saves. The others as in tmcp.attach_batch.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(send_batch.store);
    number_of_messages constant integer := coalesce(cardinality(send_batch.ids), 0);
    longest integer;
    longest_inline integer;
    first_event_id bigint;
    event_ids bigint[];
    -- What goes into frames: event ids, streams (0 stands for all, NULL for nobody), their nodes and the messages.
    frame_event_ids bigint[];
    streams bigint[];
    nodes bigint[];
    messages ALIAS FOR data;
BEGIN
    IF number_of_messages <> coalesce(cardinality(messages), 0) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM001',
            MESSAGE = format('%s ids and %s messages do not fit',
                             number_of_messages, coalesce(cardinality(messages), 0)),
            HINT = 'Give one message for each id.';
    ELSIF number_of_messages = 0 THEN
        RETURN '{}'::bigint[];
    END IF;
    SELECT CASE WHEN bool_or(d IS NULL) THEN NULL ELSE max(octet_length(d)) END,
           coalesce(max(octet_length(d)) FILTER (WHERE octet_length(d) <= s.inline_limit), 0)
    INTO longest, longest_inline
    FROM unnest(messages) AS d;
    PERFORM tmcp._check_message_size(longest, s.maximum_message_size);

    first_event_id := tmcp._next_event_ids(number_of_messages);
    SELECT array_agg(CASE WHEN found.stream IS NOT NULL THEN found.event_id END),
           array_agg(found.event_id), array_agg(found.stream), array_agg(found.node)
    INTO event_ids, frame_event_ids, streams, nodes
    FROM (SELECT first_event_id + m.place - 1 AS event_id,
                 CASE WHEN m.id IS NULL THEN 0 ELSE st.stream END AS stream, st.node
          FROM unnest(send_batch.ids) WITH ORDINALITY AS m (id, place)
          -- One by one: a plan that was made while there were few streams would go on reading all of them.
          LEFT JOIN LATERAL (SELECT x.stream, x.node FROM tmcp.streams AS x
                             WHERE x.store = s.store AND x.id = m.id LIMIT 1) AS st ON true
          ORDER BY m.place) AS found;

    INSERT INTO tmcp.messages (event_id, store, stream, data, slot)
    SELECT m.event_id, s.store, nullif(m.stream, 0), m.data, r.slot
    FROM tmcp.rotation AS r, unnest(frame_event_ids, streams, messages) AS m (event_id, stream, data)
    WHERE m.stream IS NOT NULL;

    IF 0 = ANY (streams) THEN
        -- Each node gets the broadcasts. In the statement below, this would cost the batches without one, too.
        SELECT array_agg(f.event_id), array_agg(f.stream), array_agg(f.node), array_agg(f.data)
        INTO frame_event_ids, streams, nodes, messages
        FROM (SELECT m.event_id, m.stream, coalesce(m.node, n.node) AS node, m.data
              FROM unnest(frame_event_ids, streams, nodes, messages) AS m (event_id, stream, node, data)
              LEFT JOIN tmcp.nodes AS n ON m.stream = 0 AND n.store = s.store) AS f;
    END IF;
    -- The same frame as tmcp._frame makes, which would cost a call for each message. The head of a frame has 45 bytes at
    -- most, and a payload 7999.
    PERFORM pg_notify(n.channel,
                      array_to_string(told.frames[part:part + 7999 / (45 + longest_inline) - 1], ''))
    FROM (SELECT f.node, array_agg(f.event_id || CASE WHEN f.stream = 0 THEN ' * ' ELSE ' ' || f.stream || ' ' END
                                   || CASE WHEN octet_length(f.data) <= s.inline_limit
                                       THEN octet_length(f.data) || E'\n' || f.data ELSE E'-\n' END) AS frames
          FROM (SELECT m.event_id, m.stream, m.node, m.data
                FROM unnest(frame_event_ids, streams, nodes, messages) AS m (event_id, stream, node, data)
                WHERE m.node IS NOT NULL
                ORDER BY m.node, m.event_id) AS f
          GROUP BY f.node) AS told
    JOIN tmcp.nodes AS n USING (node)
    CROSS JOIN LATERAL generate_series(1, cardinality(told.frames), 7999 / (45 + longest_inline)) AS part;

    RETURN event_ids;
END
$$;
COMMENT ON FUNCTION tmcp.send_batch(text, text[], text[]) IS
$$Sends many messages in one transaction, in the order given; what tmcp.send does, for less each.

Arguments: store; ids of the streams, NULL for a broadcast; data, one message for each.
Returns: the event id of each message, NULL where there is no such stream.
Errors: TM001 no message, or numbers that do not fit; TM002 no such store; TM004 a message over maximum_message_size
(and then none is sent); TM011 above read committed.
Example: SELECT tmcp.send_batch('tmcp', ARRAY['abc', NULL], ARRAY['for one', 'for all']);$$;

CREATE FUNCTION tmcp.broadcast(store text, data text, kind text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(broadcast.store);
BEGIN
    IF broadcast.kind IS NOT NULL THEN
        PERFORM tmcp._check_kind(broadcast.kind);
    END IF;
    PERFORM tmcp._check_message_size(octet_length(broadcast.data), s.maximum_message_size);
    RETURN tmcp._broadcast(s, broadcast.data, broadcast.kind);
END
$$;
COMMENT ON FUNCTION tmcp.broadcast(text, text, text) IS
$$Sends a message to the standalone stream of every session, and to every stream that listens for changes of its kind:
one row in the log, one notification for each node.

Arguments: store; data, the message; kind, the list whose change the message tells of, tools, prompts or resources;
default NULL, a message for sessions only.
Returns: the event id.
Errors: TM001 no message, or another kind; TM002 no such store; TM004 over maximum_message_size; TM011 above read
committed.
Example: SELECT tmcp.broadcast('tmcp', tmcp.list_changed('tools'), 'tools');$$;

CREATE FUNCTION tmcp.publish(store text, uri text, data text, principal text DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(publish.store);
BEGIN
    PERFORM tmcp._check_uri(publish.uri);
    PERFORM tmcp._check_message_size(octet_length(publish.data), s.maximum_message_size);
    RETURN tmcp._publish(s, publish.uri, publish.data, publish.principal);
END
$$;
COMMENT ON FUNCTION tmcp.publish(text, text, text, text) IS
$$Sends a message to whoever is subscribed to a resource: sessions, and streams that listen.

Arguments: store; uri of the resource; data, the message; principal, the only user who gets it, for a resource that each
user has one of; default NULL, everybody who is subscribed.
Returns: to how many sessions and listening streams it was sent.
Errors: TM001 no message, or a uri that cannot be one; TM002 no such store; TM004 over maximum_message_size; TM011 above
read committed.
Example: SELECT tmcp.publish('tmcp', 'note://plan', tmcp.resource_updated('note://plan'));$$;

CREATE FUNCTION tmcp.log(store text, level tmcp.log_level, data text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(log.store);
BEGIN
    PERFORM tmcp._check_given('the log level', log.level IS NOT NULL);
    PERFORM tmcp._check_message_size(octet_length(log.data), s.maximum_message_size);
    RETURN tmcp._log(s, log.level, log.data);
END
$$;
COMMENT ON FUNCTION tmcp.log(text, tmcp.log_level, text) IS
$$Sends a log message to the sessions that want to hear of its level, and to those that never said what they want.

Arguments: store; level of the message; data, the message.
Returns: to how many sessions it was sent.
Errors: TM001 no level or no message; TM002 no such store; TM004 over maximum_message_size; TM011 above read committed.
Example: SELECT tmcp.log('tmcp', 'warning',
    '{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "warning", "data": "disk is full"}}');$$;

CREATE FUNCTION tmcp.fetch_messages(
    store text,
    node bigint,
    after bigint,
    maximum_count bigint DEFAULT 1000,
    maximum_bytes bigint DEFAULT 8388608,
    after_stream bigint DEFAULT NULL
) RETURNS TABLE (event_id bigint, stream bigint, data text, kind text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- With a full log the whole rest of it looks expensive enough to be compiled, for 14 ms a page.
SET jit = off
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(fetch_messages.store);
    last_stream constant bigint := coalesce(fetch_messages.after_stream, 9223372036854775807);
    -- A cursor is planned for its first rows; else each page would read and sort all that is left of the log. The node
    -- is looked up for each message; a join or EXISTS may read all streams for a single one.
    rest CURSOR FOR
        SELECT m.event_id, m.stream, m.data, m.kind
        FROM tmcp.messages AS m
        WHERE (m.event_id, m.stream) > (fetch_messages.after, last_stream) AND m.store = s.store
          AND (m.stream IS NULL
               OR (SELECT st.node FROM tmcp.streams AS st WHERE st.stream = m.stream) = fetch_messages.node)
        ORDER BY m.event_id, m.stream;
    count integer := 0;
    bytes bigint := 0::bigint;
    last_event_id bigint;
BEGIN
    PERFORM tmcp._require_read_committed();
    FOR next_message IN rest LOOP
        -- Between two rows of one event only for a caller who goes on from there. A page that has reached neither is the last.
        EXIT WHEN count > 0 AND (next_message.event_id > last_event_id OR fetch_messages.after_stream IS NOT NULL)
              AND (count >= fetch_messages.maximum_count OR bytes >= fetch_messages.maximum_bytes);
        count := count + 1;
        bytes := bytes + octet_length(next_message.data);
        last_event_id := next_message.event_id;
        fetch_messages.event_id := next_message.event_id;
        fetch_messages.stream := next_message.stream;
        fetch_messages.data := next_message.data;
        fetch_messages.kind := next_message.kind;
        RETURN NEXT;
    END LOOP;
    -- Looked at last, for the same reason as in tmcp.replay. The node can have missed only what followed the attaching of a
    -- stream; what was sent before is for the stream's replay.
    IF fetch_messages.after < (SELECT r.purged_through FROM tmcp.rotation AS r)
       AND EXISTS (SELECT FROM tmcp.streams AS st
                   LEFT JOIN tmcp.purged_broadcasts AS b
                       ON b.store = st.store AND (st.id = st.session_id OR st.kinds <> '{}')
                   WHERE st.node = fetch_messages.node AND st.store = s.store
                     AND greatest(st.purged_through, b.purged_through)
                         > greatest(fetch_messages.after, st.attached_after)) THEN
        PERFORM tmcp._raise_purged(fetch_messages.after);
    END IF;
END
$$;
COMMENT ON FUNCTION tmcp.fetch_messages(text, bigint, bigint, bigint, bigint, bigint) IS
$$What was sent to the streams of a node after an event: for a node that was told of a message without its data, or was
cut off. LISTEN again first, then fetch, then drop what comes twice by its event id.

Arguments: store; node; after, the last event id that the node has seen; maximum_count, messages after which no further
event is begun, default 1000; maximum_bytes, likewise, default 8 MiB; after_stream, the stream with whose message of that
event a page ended, 9223372036854775807 where it ended with the event or a broadcast: then no further message is begun
either, and a message for many streams comes in several pages; default NULL, which never ends a page within an event.
Returns: event_id; stream, NULL for a broadcast, which is for every standalone stream; data; and kind, NULL unless the
broadcast is for the streams that listen for this kind as well; in the order of event_id and stream. Call again after the
last event_id, and stream, unless both were fewer.
Errors: TM002 no such store; TM010 messages that were sent to the node's streams since it attached them, and since that
event, were removed from the log; TM011 above read committed.
Example: SELECT * FROM tmcp.fetch_messages('tmcp', 1, 1790000000000000);$$;

CREATE FUNCTION tmcp.resource_updated(uri text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":' || to_json(uri) || '}}'
$$;
COMMENT ON FUNCTION tmcp.resource_updated(text) IS
$$The message that tells a subscriber that a resource has changed.

Arguments: uri of the resource.
Returns: a JSON-RPC notification as text. Source: MCP 2025-11-25, server/resources, "Subscriptions".
Example: SELECT tmcp.resource_updated('note://plan');$$;

CREATE FUNCTION tmcp.list_changed(kind text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF kind IN ('tools', 'prompts', 'resources') THEN
        RETURN '{"jsonrpc":"2.0","method":"notifications/' || kind || '/list_changed"}';
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'TM001',
        MESSAGE = format('there is no list of %L', kind),
        HINT = 'Give tools, prompts or resources.';
END
$$;
COMMENT ON FUNCTION tmcp.list_changed(text) IS
$$The message that tells a client that a list has changed.

Arguments: kind, tools, prompts or resources.
Returns: a JSON-RPC notification as text. Source: MCP 2025-11-25, server/tools, "List Changed Notification".
Errors: TM001 another kind.
Example: SELECT tmcp.list_changed('tools');$$;

-- Sending from inside somebody else's transaction: a row in the outbox, which a live node moves into the log after
-- commit. The transaction does not hold the order lock while it runs, however long and at whatever isolation level.

CREATE FUNCTION tmcp._flush_outbox(s tmcp.stores) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o tmcp.outbox;
    flushed bigint := 0::bigint;
BEGIN
    PERFORM tmcp._require_read_committed();
    IF NOT EXISTS (SELECT FROM tmcp.outbox AS p WHERE p.store = s.store) THEN
        RETURN flushed;
    END IF;
    -- The order lock from the start, so that the items of a transaction stay in order. With a lock of its own before
    -- it, one who has sent and then flushes could wait in a circle with one who flushes.
    PERFORM pg_advisory_xact_lock(1953326960, 1);
    FOR o IN
        WITH due AS (
            DELETE FROM tmcp.outbox AS d WHERE d.item = ANY (ARRAY(
                SELECT p.item FROM tmcp.outbox AS p WHERE p.store = s.store
                ORDER BY p.item LIMIT 1000 FOR UPDATE SKIP LOCKED))
            RETURNING d.*
        )
        SELECT * FROM due ORDER BY item
    LOOP
        CASE o.target
            WHEN 'stream' THEN PERFORM tmcp._send(s, o.address, o.data);
            WHEN 'broadcast' THEN PERFORM tmcp._broadcast(s, o.data, o.address);
            WHEN 'subscribers' THEN PERFORM tmcp._publish(s, o.address, o.data, o.principal);
            WHEN 'log' THEN PERFORM tmcp._log(s, o.address::tmcp.log_level, o.data);
        END CASE;
        flushed := flushed + 1;
    END LOOP;
    RETURN flushed;
END
$$;
COMMENT ON FUNCTION tmcp._flush_outbox(tmcp.stores) IS 'Moves up to 1000 items of the outbox into the log.';

CREATE FUNCTION tmcp.flush_outbox(store text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN tmcp._flush_outbox(tmcp._authorized_store(flush_outbox.store));
END
$$;
COMMENT ON FUNCTION tmcp.flush_outbox(text) IS
$$Sends what was enqueued by transactions that have committed. A node calls it when it hears "outbox" on its channel.

Arguments: store.
Returns: how many items were sent, 1000 at most; call again after 1000.
Errors: TM002 no such store; TM011 above read committed.
Example: SELECT tmcp.flush_outbox('tmcp');$$;

CREATE FUNCTION tmcp._flush_outbox_at_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Above read committed this transaction cannot see who is there: the item waits for tmcp.cleanup or the next flush.
    IF current_setting('transaction_isolation') = 'read committed' THEN
        PERFORM tmcp._flush_outbox(s) FROM tmcp.stores AS s WHERE s.store = NEW.store;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tmcp._flush_outbox_at_commit() IS 'Trigger: sends at commit what no live node was told of.';
CREATE CONSTRAINT TRIGGER flush_outbox_at_commit
    AFTER INSERT ON tmcp.outbox
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NOT NEW.rung) EXECUTE FUNCTION tmcp._flush_outbox_at_commit();
COMMENT ON TRIGGER flush_outbox_at_commit ON tmcp.outbox IS 'Without a live node there is nobody else to send it.';

CREATE FUNCTION tmcp._enqueue(s tmcp.stores, target text, address text, data text, principal text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rung_channel text;
BEGIN
    PERFORM tmcp._check_message_size(octet_length(_enqueue.data), s.maximum_message_size);
    -- One node for all items of a transaction, and another one for the next. A transaction with an old snapshot sees
    -- old heartbeats, so there the age is counted from its start.
    SELECT n.channel INTO rung_channel
    FROM tmcp.nodes AS n
    WHERE n.store = s.store AND n.listens_for_many
      AND n.heartbeat_at > s.freshness_window * -1 + CASE current_setting('transaction_isolation')
              WHEN 'read committed' THEN clock_timestamp() ELSE transaction_timestamp() END
    ORDER BY hashint8(n.node # pg_current_xact_id()::text::bigint)
    LIMIT 1;
    INSERT INTO tmcp.outbox (store, target, address, principal, data, rung)
    VALUES (s.store, _enqueue.target, _enqueue.address, _enqueue.principal, _enqueue.data, rung_channel IS NOT NULL);
    IF rung_channel IS NOT NULL THEN
        PERFORM pg_notify(rung_channel, 'outbox');
    END IF;
END
$$;
COMMENT ON FUNCTION tmcp._enqueue(tmcp.stores, text, text, text, text) IS 'Puts an item into the outbox and rings one node.';

CREATE FUNCTION tmcp.enqueue(store text, id text, data text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(enqueue.store);
BEGIN
    PERFORM tmcp._check_id(enqueue.id);
    PERFORM tmcp._enqueue(s, 'stream', enqueue.id, enqueue.data);
END
$$;
COMMENT ON FUNCTION tmcp.enqueue(text, text, text) IS
$$tmcp.send from inside any transaction, a trigger for instance: sent when the transaction commits, and never if it
rolls back. The recipient is looked up after the commit.

Arguments: store; id of the stream; data, the message.
Returns: nothing.
Errors: TM001 no message, or an id that cannot be one; TM002 no such store; TM004 over maximum_message_size.
Example: SELECT tmcp.enqueue('tmcp', 'abc', '{"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}');$$;

CREATE FUNCTION tmcp.enqueue_broadcast(store text, data text, kind text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(enqueue_broadcast.store);
BEGIN
    IF enqueue_broadcast.kind IS NOT NULL THEN
        PERFORM tmcp._check_kind(enqueue_broadcast.kind);
    END IF;
    PERFORM tmcp._enqueue(s, 'broadcast', enqueue_broadcast.kind, enqueue_broadcast.data);
END
$$;
COMMENT ON FUNCTION tmcp.enqueue_broadcast(text, text, text) IS
$$tmcp.broadcast from inside any transaction: sent when it commits, and never if it rolls back.

Arguments: store; data, the message; kind, the list whose change the message tells of, default NULL, a message for
sessions only.
Returns: nothing.
Errors: TM001 no message, or another kind; TM002 no such store; TM004 over maximum_message_size.
Example: SELECT tmcp.enqueue_broadcast('tmcp', tmcp.list_changed('tools'), 'tools');$$;

CREATE FUNCTION tmcp.enqueue_publish(store text, uri text, data text, principal text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(enqueue_publish.store);
BEGIN
    PERFORM tmcp._check_uri(enqueue_publish.uri);
    PERFORM tmcp._enqueue(s, 'subscribers', enqueue_publish.uri, enqueue_publish.data, enqueue_publish.principal);
END
$$;
COMMENT ON FUNCTION tmcp.enqueue_publish(text, text, text, text) IS
$$tmcp.publish from inside any transaction: sent when it commits, and never if it rolls back. The subscribers are looked
up after the commit.

Arguments: store; uri of the resource; data, the message; principal, the only user who gets it, default everybody.
Returns: nothing.
Errors: TM001 no message, or a uri that cannot be one; TM002 no such store; TM004 over maximum_message_size.
Example: SELECT tmcp.enqueue_publish('tmcp', 'note://plan', tmcp.resource_updated('note://plan'));$$;

CREATE FUNCTION tmcp.enqueue_log(store text, level tmcp.log_level, data text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(enqueue_log.store);
BEGIN
    PERFORM tmcp._check_given('the log level', enqueue_log.level IS NOT NULL);
    PERFORM tmcp._enqueue(s, 'log', enqueue_log.level::text, enqueue_log.data);
END
$$;
COMMENT ON FUNCTION tmcp.enqueue_log(text, tmcp.log_level, text) IS
$$tmcp.log from inside any transaction: sent when it commits, and never if it rolls back.

Arguments: store; level of the message; data, the message.
Returns: nothing.
Errors: TM001 no level or no message; TM002 no such store; TM004 over maximum_message_size.
Example: SELECT tmcp.enqueue_log('tmcp', 'info',
    '{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "done"}}');$$;

-- Sessions: what is known of them, their subscriptions, their limits and their end.

CREATE FUNCTION tmcp._count_started_sessions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    started record;
    total bigint;
BEGIN
    FOR started IN
        SELECT x.store, x.name, x.maximum_sessions AS maximum, count(*) AS sessions
        FROM new_sessions AS n JOIN tmcp.stores AS x USING (store)
        WHERE x.maximum_sessions IS NOT NULL
        GROUP BY x.store
    LOOP
        UPDATE tmcp.session_counts AS c SET sessions = c.sessions + started.sessions
        WHERE c.store = started.store RETURNING c.sessions INTO total;
        IF NOT FOUND THEN
            -- The first session since the store was restored from a dump, which has no counts.
            INSERT INTO tmcp.session_counts AS c (store, sessions)
            SELECT started.store, count(*) FROM tmcp.sessions AS x WHERE x.store = started.store
            ON CONFLICT (store) DO UPDATE SET sessions = c.sessions + started.sessions
            RETURNING c.sessions INTO total;
        END IF;
        IF total > started.maximum THEN
            RAISE EXCEPTION USING
                ERRCODE = 'TM005',
                MESSAGE = format('store %L may hold %s sessions and does', started.name, started.maximum),
                DETAIL = 'The session was not started.',
                HINT = 'Try again when sessions have ended or expired, or raise maximum_sessions with '
                       'tmcp.configure_store.';
        END IF;
    END LOOP;
    FOR started IN
        SELECT DISTINCT n.store, n.principal, x.maximum_sessions_per_principal AS maximum
        FROM new_sessions AS n JOIN tmcp.stores AS x USING (store)
        WHERE n.principal IS NOT NULL AND x.maximum_sessions_per_principal IS NOT NULL
        ORDER BY n.store, n.principal
    LOOP
        -- One at a time for each principal, and counted after the others' commits.
        PERFORM tmcp._require_read_committed();
        PERFORM pg_advisory_xact_lock(1953326962, hashtext(started.store || '/' || started.principal));
        SELECT count(*) INTO total FROM tmcp.sessions AS x
        WHERE x.store = started.store AND x.principal = started.principal;
        IF total > started.maximum THEN
            RAISE EXCEPTION USING
                ERRCODE = 'TM006',
                MESSAGE = format('one principal may hold %s sessions and this one does', started.maximum),
                DETAIL = 'The session was not started.',
                HINT = 'Try again when one of its sessions has ended or expired, or raise '
                       'maximum_sessions_per_principal with tmcp.configure_store.';
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tmcp._count_started_sessions() IS
    'Trigger: keeps stores and principals within their numbers of sessions, whoever adds them. Raises TM005, TM006.';
CREATE TRIGGER count_started_sessions
    AFTER INSERT ON tmcp.sessions REFERENCING NEW TABLE AS new_sessions
    FOR EACH STATEMENT EXECUTE FUNCTION tmcp._count_started_sessions();
COMMENT ON TRIGGER count_started_sessions ON tmcp.sessions IS 'Keeps the limits of the store.';

CREATE FUNCTION tmcp._end_streams_of_sessions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE tmcp.session_counts AS c SET sessions = c.sessions - ended.sessions
    FROM (SELECT o.store, count(*) AS sessions FROM old_sessions AS o GROUP BY o.store) AS ended
    WHERE c.store = ended.store;
    DELETE FROM tmcp.streams AS st WHERE st.stream = ANY (ARRAY(
        SELECT x.stream FROM tmcp.streams AS x WHERE x.stream IN (
            SELECT y.stream FROM old_sessions AS o JOIN tmcp.streams AS y ON y.store = o.store AND y.id = o.id
            WHERE y.session_id = o.id
            UNION ALL
            SELECT y.stream FROM old_sessions AS o JOIN tmcp.streams AS y ON y.store = o.store AND y.session_id = o.id
            WHERE y.id <> y.session_id)
        ORDER BY x.id FOR UPDATE));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tmcp._end_streams_of_sessions() IS
    'Trigger: ends the streams of ended sessions, whatever ended them, in one statement.';
CREATE TRIGGER end_streams_of_sessions
    AFTER DELETE ON tmcp.sessions REFERENCING OLD TABLE AS old_sessions
    FOR EACH STATEMENT EXECUTE FUNCTION tmcp._end_streams_of_sessions();
COMMENT ON TRIGGER end_streams_of_sessions ON tmcp.sessions IS 'No stream outlives its session.';

CREATE FUNCTION tmcp._put_session(
    s tmcp.stores,
    id text,
    principal text,
    client_info json DEFAULT NULL,
    client_capabilities json DEFAULT NULL,
    log_level tmcp.log_level DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    number bigint;
BEGIN
    PERFORM tmcp._check_session_arguments(id, principal, client_info, client_capabilities);
    INSERT INTO tmcp.sessions AS x (store, id, principal, client_info, client_capabilities, log_level)
    VALUES (s.store, _put_session.id, _put_session.principal, _put_session.client_info,
            _put_session.client_capabilities, _put_session.log_level)
    ON CONFLICT ON CONSTRAINT sessions_store_id_key DO UPDATE SET
        client_info = coalesce(EXCLUDED.client_info, x.client_info),
        client_capabilities = coalesce(EXCLUDED.client_capabilities, x.client_capabilities),
        log_level = coalesce(EXCLUDED.log_level, x.log_level),
        last_active_at = clock_timestamp()
    WHERE x.principal IS NOT DISTINCT FROM EXCLUDED.principal
    RETURNING x.session INTO number;
    IF NOT FOUND THEN
        PERFORM tmcp._raise_session_not_found(_put_session.id);
    END IF;
    RETURN number;
END
$$;
COMMENT ON FUNCTION tmcp._put_session(tmcp.stores, text, text, json, json, tmcp.log_level) IS
    'Creates a session or changes what is given of it; returns its number. Raises TM001, TM005, TM006, TM007.';

CREATE FUNCTION tmcp._find_session(s tmcp.stores, id text, principal text) RETURNS tmcp.sessions
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT x.* FROM tmcp.sessions AS x
    WHERE x.store = s.store AND x.id = _find_session.id
      AND x.principal IS NOT DISTINCT FROM _find_session.principal
$$;
COMMENT ON FUNCTION tmcp._find_session(tmcp.stores, text, text) IS
    'The session of that id and principal, or NULL. The one place that says which sessions a principal sees.';

CREATE FUNCTION tmcp.start_session(
    store text,
    id text,
    client_info json DEFAULT NULL,
    client_capabilities json DEFAULT NULL,
    principal text DEFAULT NULL,
    log_level tmcp.log_level DEFAULT NULL,
    protocol_version text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(start_session.store);
BEGIN
    PERFORM tmcp._check_session_arguments(id, principal, client_info, client_capabilities);
    INSERT INTO tmcp.sessions (store, id, principal, client_info, client_capabilities, log_level, protocol_version)
    VALUES (s.store, start_session.id, start_session.principal, start_session.client_info,
            start_session.client_capabilities, start_session.log_level, left(start_session.protocol_version, 40))
    ON CONFLICT ON CONSTRAINT sessions_store_id_key DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM008',
            MESSAGE = format('session %L exists already', start_session.id),
            DETAIL = 'Nothing was changed.',
            HINT = 'Draw session ids at random, with at least 128 bits.';
    END IF;
    -- What is sent to the session before it opens its standalone stream is kept for it. It starts after the last message
    -- that has been committed, not after the last event id: a sender who has drawn his ids may yet see this stream.
    INSERT INTO tmcp.streams (store, id, session_id, starts_after)
    SELECT s.store, start_session.id, start_session.id,
           greatest(r.purged_through, (SELECT max(m.event_id) FROM tmcp.messages AS m))
    FROM tmcp.rotation AS r
    ON CONFLICT ON CONSTRAINT streams_store_id_key DO NOTHING;
END
$$;
COMMENT ON FUNCTION tmcp.start_session(text, text, json, json, text, tmcp.log_level, text) IS
$$Starts a session with everything that initialize brings. What is sent to it is kept from now on; without a stream for
longer than messages are kept it counts as gone for senders, until it opens its stream.

Arguments: store; id, 1 to 1024 bytes, drawn at random; client_info and client_capabilities, JSON of at most 64 KiB each,
kept to the letter; principal, the authenticated user that the session is bound to, default none; log_level, default
none, which hears everything; protocol_version, the revision agreed on. All but store and id may be NULL.
Returns: nothing.
Errors: TM001 an argument that cannot be one; TM002 no such store; TM005 the store is full; TM006 the principal has as
many sessions as it may; TM008 the session exists.
Example: SELECT tmcp.start_session('tmcp', 'abc', '{"name": "example", "version": "1"}', '{}', principal => 'ann');$$;

CREATE FUNCTION tmcp.get_session(store text, id text, principal text DEFAULT NULL)
RETURNS TABLE (
    client_info json,
    client_capabilities json,
    log_level tmcp.log_level,
    protocol_version text,
    created_at timestamptz,
    last_active_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(get_session.store);
BEGIN
    PERFORM tmcp._touch_session(s, get_session.id, get_session.principal);
    RETURN QUERY
    SELECT x.client_info, x.client_capabilities, x.log_level, x.protocol_version, x.created_at, x.last_active_at
    FROM tmcp._find_session(s, get_session.id, get_session.principal) AS x
    WHERE x.session IS NOT NULL;
END
$$;
COMMENT ON FUNCTION tmcp.get_session(text, text, text) IS
$$Everything known of a session in one call. Counts as activity.

Arguments: store; id; principal, default none.
Returns: one row; none for a session that does not exist or is bound to another principal.
Errors: TM002 no such store.
Example: SELECT client_info, log_level FROM tmcp.get_session('tmcp', 'abc', 'ann');$$;

CREATE FUNCTION tmcp._touch_session(s tmcp.stores, id text, principal text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_session constant tmcp.sessions := tmcp._find_session(s, id, principal);
BEGIN
    -- Exact to the tenth of the limit is enough, and saves a write with nearly every request.
    UPDATE tmcp.sessions AS x SET last_active_at = clock_timestamp()
    WHERE x.session = found_session.session AND x.last_active_at < clock_timestamp() - s.session_idle_limit / 10;
    RETURN found_session.session IS NOT NULL;
END
$$;
COMMENT ON FUNCTION tmcp._touch_session(tmcp.stores, text, text) IS
    'Records activity of a session; whether there is such a session.';

CREATE FUNCTION tmcp.touch_session(store text, id text, principal text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN tmcp._touch_session(tmcp._authorized_store(touch_session.store), touch_session.id, touch_session.principal);
END
$$;
COMMENT ON FUNCTION tmcp.touch_session(text, text, text) IS
$$Records that a session is used, so that it does not expire.

Arguments: store; id; principal, default none.
Returns: whether there is such a session for that principal.
Errors: TM002 no such store.
Example: SELECT tmcp.touch_session('tmcp', 'abc', 'ann');$$;

CREATE FUNCTION tmcp.end_session(store text, id text, principal text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(end_session.store);
BEGIN
    DELETE FROM tmcp.sessions AS x
    WHERE x.store = s.store AND x.id = end_session.id AND x.principal IS NOT DISTINCT FROM end_session.principal;
    IF FOUND THEN
        RETURN true;
    END IF;
    -- Streams may be in this database and the metadata in another.
    DELETE FROM tmcp.streams AS st WHERE st.stream = ANY (ARRAY(
        SELECT y.stream FROM tmcp.streams AS y
        WHERE y.store = s.store AND y.session_id = end_session.id
          AND (y.id = end_session.id OR (y.session_id = end_session.id AND y.id <> y.session_id))
          AND NOT EXISTS (SELECT FROM tmcp.sessions AS x WHERE x.store = s.store AND x.id = end_session.id)
        ORDER BY y.id FOR UPDATE));
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tmcp.end_session(text, text, text) IS
$$Ends a session: its metadata, its subscriptions and its streams, which close wherever they are held.

Arguments: store; id; principal, default none.
Returns: whether there was such a session for that principal.
Errors: TM002 no such store.
Example: SELECT tmcp.end_session('tmcp', 'abc', 'ann');$$;

CREATE FUNCTION tmcp.set_client_info(store text, id text, client_info json, principal text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tmcp._check_given('the client info', client_info IS NOT NULL);
    PERFORM tmcp._put_session(tmcp._authorized_store(store), id, principal, client_info => set_client_info.client_info);
END
$$;
COMMENT ON FUNCTION tmcp.set_client_info(text, text, json, text) IS
$$Records name and version of a session's client; the session is created if it does not exist.

Arguments: store; id; client_info, JSON of at most 64 KiB, kept to the letter; principal, default none.
Returns: nothing.
Errors: TM001 an argument that cannot be one; TM002 no such store; TM005, TM006 too many sessions; TM007 the session is
bound to another principal.
Example: SELECT tmcp.set_client_info('tmcp', 'abc', '{"name": "example", "version": "1"}');$$;

CREATE FUNCTION tmcp.get_client_info(store text, id text, principal text DEFAULT NULL) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT (tmcp._find_session(tmcp._authorized_store(store), id, principal)).client_info $$;
COMMENT ON FUNCTION tmcp.get_client_info(text, text, text) IS
$$Name and version of a session's client.

Arguments: store; id; principal, default none.
Returns: JSON as it was set; NULL if it never was, or if there is no such session for that principal.
Errors: TM002 no such store.
Example: SELECT tmcp.get_client_info('tmcp', 'abc');$$;

CREATE FUNCTION tmcp.set_client_capabilities(store text, id text, client_capabilities json, principal text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tmcp._check_given('the client capabilities', client_capabilities IS NOT NULL);
    PERFORM tmcp._put_session(tmcp._authorized_store(store), id, principal,
                              client_capabilities => set_client_capabilities.client_capabilities);
END
$$;
COMMENT ON FUNCTION tmcp.set_client_capabilities(text, text, json, text) IS
$$Records what a session's client can do; the session is created if it does not exist.

Arguments: store; id; client_capabilities, JSON of at most 64 KiB, kept to the letter; principal, default none.
Returns: nothing.
Errors: as tmcp.set_client_info.
Example: SELECT tmcp.set_client_capabilities('tmcp', 'abc', '{"sampling": {}}');$$;

CREATE FUNCTION tmcp.get_client_capabilities(store text, id text, principal text DEFAULT NULL) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT (tmcp._find_session(tmcp._authorized_store(store), id, principal)).client_capabilities $$;
COMMENT ON FUNCTION tmcp.get_client_capabilities(text, text, text) IS
$$What a session's client can do.

Arguments: store; id; principal, default none.
Returns: JSON as it was set; NULL if it never was, or if there is no such session for that principal.
Errors: TM002 no such store.
Example: SELECT tmcp.get_client_capabilities('tmcp', 'abc');$$;

CREATE FUNCTION tmcp.set_log_level(store text, id text, level tmcp.log_level, principal text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tmcp._check_given('the log level', level IS NOT NULL);
    PERFORM tmcp._put_session(tmcp._authorized_store(store), id, principal, log_level => set_log_level.level);
END
$$;
COMMENT ON FUNCTION tmcp.set_log_level(text, text, tmcp.log_level, text) IS
$$Records the least severe level that a session wants to hear of; the session is created if it does not exist.

Arguments: store; id; level, debug, info, notice, warning, error, critical, alert or emergency; principal, default none.
Returns: nothing.
Errors: as tmcp.set_client_info; 22P02 a level that is none of these.
Example: SELECT tmcp.set_log_level('tmcp', 'abc', 'warning');$$;

CREATE FUNCTION tmcp.get_log_level(store text, id text, principal text DEFAULT NULL) RETURNS tmcp.log_level
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT (tmcp._find_session(tmcp._authorized_store(store), id, principal)).log_level $$;
COMMENT ON FUNCTION tmcp.get_log_level(text, text, text) IS
$$The least severe level that a session wants to hear of.

Arguments: store; id; principal, default none.
Returns: the level; NULL if it never said, or if there is no such session for that principal.
Errors: TM002 no such store.
Example: SELECT tmcp.get_log_level('tmcp', 'abc');$$;

CREATE FUNCTION tmcp.add_subscription(store text, id text, uri text, principal text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(add_subscription.store);
BEGIN
    PERFORM tmcp._check_uri(add_subscription.uri);
    INSERT INTO tmcp.subscriptions (store, uri, session)
    VALUES (s.store, add_subscription.uri, tmcp._put_session(s, add_subscription.id, add_subscription.principal))
    ON CONFLICT DO NOTHING;
    -- Not while a change is being published: who publishes it has seen this subscription, or has committed before this
    -- returns, and then whoever reads the resource now reads it changed.
    PERFORM pg_advisory_xact_lock(1953326960, 1);
END
$$;
COMMENT ON FUNCTION tmcp.add_subscription(text, text, text, text) IS
$$Subscribes a session to a resource; the session is created if it does not exist. Twice is the same as once.
Whoever reads the resource afterwards misses no change: it is in what is read, or comes as a message. For a transaction
of its own: senders wait until it commits.

Arguments: store; id; uri, 1 to 2048 bytes; principal, default none.
Returns: nothing.
Errors: TM001 an argument that cannot be one; TM002 no such store; TM005, TM006 too many sessions; TM007 the session is
bound to another principal.
Example: SELECT tmcp.add_subscription('tmcp', 'abc', 'note://plan');$$;

CREATE FUNCTION tmcp.remove_subscription(store text, id text, uri text, principal text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(remove_subscription.store);
BEGIN
    DELETE FROM tmcp.subscriptions AS u
    WHERE u.store = s.store AND u.uri = remove_subscription.uri
      AND u.session = (tmcp._find_session(s, remove_subscription.id, remove_subscription.principal)).session;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tmcp.remove_subscription(text, text, text, text) IS
$$Ends a subscription.

Arguments: store; id; uri; principal, default none.
Returns: whether there was one.
Errors: TM002 no such store.
Example: SELECT tmcp.remove_subscription('tmcp', 'abc', 'note://plan');$$;

CREATE FUNCTION tmcp.get_subscriptions(store text, uri text) RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s constant tmcp.stores := tmcp._authorized_store(get_subscriptions.store);
BEGIN
    RETURN QUERY
    SELECT x.id
    FROM tmcp.subscriptions AS u JOIN tmcp.sessions AS x USING (session)
    WHERE u.store = s.store AND u.uri = get_subscriptions.uri;
END
$$;
COMMENT ON FUNCTION tmcp.get_subscriptions(text, text) IS
$$Who is subscribed to a resource.

Arguments: store; uri.
Returns: ids of sessions, in no particular order.
Errors: TM002 no such store.
Example: SELECT * FROM tmcp.get_subscriptions('tmcp', 'note://plan');$$;

-- Cleanup: what time does to nodes, streams, sessions and messages.

CREATE FUNCTION tmcp._detach_streams_of_dead_nodes(batch integer) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dead tmcp.nodes;
    total bigint := 0::bigint;
BEGIN
    FOR dead IN
        SELECT n.* FROM tmcp.nodes AS n
        WHERE n.node NOT IN (SELECT f.node FROM tmcp._fresh_nodes AS f)
        ORDER BY n.node FOR UPDATE SKIP LOCKED
    LOOP
        -- Its heartbeat may have come after the query above began and before the row was locked.
        CONTINUE WHEN EXISTS (SELECT FROM tmcp._fresh_nodes AS f WHERE f.node = dead.node);
        -- Its process may only be paused, and still listen: later broadcasts would hide from it that it misses messages. Nor
        -- may anybody else hear what is still sent to its streams.
        UPDATE tmcp.nodes AS n SET channel = tmcp._random_channel() WHERE n.node = dead.node;
        total := total + tmcp._let_go(ARRAY(SELECT x.stream FROM tmcp.streams AS x WHERE x.node = dead.node
                                            ORDER BY x.stream LIMIT batch - total FOR UPDATE SKIP LOCKED));
        EXIT WHEN total >= batch;
        DELETE FROM tmcp.nodes AS n
        WHERE n.node = dead.node AND NOT EXISTS (SELECT FROM tmcp.streams AS st WHERE st.node = dead.node);
    END LOOP;
    RETURN total;
END
$$;
COMMENT ON FUNCTION tmcp._detach_streams_of_dead_nodes(integer) IS
    'Detaches streams of nodes that missed their window, and removes nodes that have none left.';

CREATE FUNCTION tmcp._delete_expired_streams(batch integer) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- A constant, since an index is of no use for a comparison with clock_timestamp().
    expired_before constant timestamptz := clock_timestamp()
        - (SELECT e.retention FROM tmcp._effective_settings AS e);
    deleted bigint;
BEGIN
    WITH expired AS (
        DELETE FROM tmcp.streams AS st WHERE st.stream = ANY (ARRAY(
            SELECT x.stream FROM tmcp.streams AS x
            WHERE x.node IS NULL AND x.detached_at < expired_before
            ORDER BY x.detached_at LIMIT batch FOR UPDATE SKIP LOCKED))
        RETURNING st.store, st.session_id, st.detached_at
    ), in_use AS (
        -- Until its stream was lost, the session was in use. One that somebody has locked is being used or ended, and
        -- who ends it may wait for the stream.
        SELECT x.session, e.detached_at
        FROM (SELECT d.store, d.session_id, max(d.detached_at) AS detached_at FROM expired AS d GROUP BY 1, 2) AS e
        JOIN tmcp.sessions AS x ON x.store = e.store AND x.id = e.session_id AND x.last_active_at < e.detached_at
        FOR UPDATE OF x SKIP LOCKED
    ), active AS (
        UPDATE tmcp.sessions AS x SET last_active_at = u.detached_at FROM in_use AS u WHERE x.session = u.session
    )
    SELECT count(*) INTO deleted FROM expired;
    RETURN deleted;
END
$$;
COMMENT ON FUNCTION tmcp._delete_expired_streams(integer) IS
    'Deletes streams that have been detached for longer than messages are kept: there is nothing left to resume.';

CREATE FUNCTION tmcp._end_idle_sessions(batch integer) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Constants, since an index is of no use for a comparison with clock_timestamp().
    started_at constant timestamptz := clock_timestamp();
    expired_before constant timestamptz := started_at - (SELECT e.retention FROM tmcp._effective_settings AS e);
    idle bigint[];
    ended bigint;
BEGIN
    SELECT array_agg(i.session) INTO idle
    FROM tmcp.stores AS s
    CROSS JOIN LATERAL (SELECT x.session FROM tmcp.sessions AS x
                        WHERE x.store = s.store AND x.last_active_at < started_at - s.session_idle_limit
                        ORDER BY x.last_active_at LIMIT batch FOR UPDATE SKIP LOCKED) AS i;
    -- A session that has a stream is in use, and need not be looked at again for as long as the limit. Until a stream
    -- was lost that cannot be resumed any more, its session was.
    UPDATE tmcp.sessions AS x SET last_active_at = used.until
    FROM tmcp.sessions AS y
    CROSS JOIN LATERAL (
        SELECT max(CASE WHEN st.detached_at < expired_before THEN st.detached_at ELSE started_at END) AS until
        FROM (SELECT a.detached_at FROM tmcp.streams AS a WHERE a.store = y.store AND a.id = y.id
              UNION ALL
              SELECT b.detached_at FROM tmcp.streams AS b
              WHERE b.store = y.store AND b.session_id = y.id AND b.id <> b.session_id) AS st) AS used
    WHERE y.session = ANY (idle) AND x.session = y.session AND x.last_active_at < used.until;
    DELETE FROM tmcp.sessions AS x
    USING tmcp.stores AS s
    WHERE x.session = ANY (idle) AND s.store = x.store
      AND x.last_active_at < started_at - s.session_idle_limit;
    GET DIAGNOSTICS ended = ROW_COUNT;
    RETURN ended;
END
$$;
COMMENT ON FUNCTION tmcp._end_idle_sessions(integer) IS 'Ends sessions that were not used for the store''s idle limit.';

-- With settings under which the log is looked into through indexes even if nobody has analyzed it: it seems small then, or
-- worth being read as a whole, or being compiled for.
CREATE FUNCTION tmcp._remember_purged(oldest smallint, after bigint, batch integer, OUT through bigint, OUT complete boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    last_event_id constant bigint := (SELECT max(m.event_id) FROM tmcp.messages AS m WHERE m.slot = oldest);
BEGIN
    -- One look into an index for each stream, however many messages there are. A stream that somebody has locked is left
    -- for the next time, and the log with it: who waits for that lock while holding all the others keeps them from being
    -- attached.
    WITH looked_at AS MATERIALIZED (
        SELECT st.stream, st.starts_after, st.purged_through FROM tmcp.streams AS st
        WHERE st.stream > _remember_purged.after ORDER BY st.stream LIMIT batch
    ), due AS MATERIALIZED (
        SELECT l.stream, m.event_id FROM looked_at AS l
        CROSS JOIN LATERAL (SELECT max(x.event_id) AS event_id FROM tmcp.messages AS x
                            WHERE x.slot = oldest AND x.stream = l.stream) AS m
        WHERE l.starts_after < last_event_id AND l.purged_through < m.event_id
    ), locked AS MATERIALIZED (
        SELECT st.stream FROM tmcp.streams AS st
        WHERE st.stream = ANY (ARRAY(SELECT d.stream FROM due AS d)) FOR UPDATE SKIP LOCKED
    ), remembered AS (
        UPDATE tmcp.streams AS st SET purged_through = d.event_id
        FROM due AS d JOIN locked AS l USING (stream) WHERE st.stream = d.stream
    ), missed AS (
        SELECT min(d.stream) AS stream FROM due AS d WHERE d.stream NOT IN (SELECT l.stream FROM locked AS l)
    )
    SELECT coalesce(m.stream - 1, max(l.stream), _remember_purged.after), m.stream IS NULL AND count(l.stream) < batch
    INTO through, complete
    FROM missed AS m LEFT JOIN looked_at AS l ON true GROUP BY m.stream;
    IF complete THEN
        INSERT INTO tmcp.purged_broadcasts AS b (store, purged_through)
        SELECT s.store, m.event_id FROM tmcp.stores AS s
        CROSS JOIN LATERAL (SELECT max(x.event_id) AS event_id FROM tmcp.messages AS x
                            WHERE x.slot = oldest AND x.stream IS NULL AND x.store = s.store) AS m
        WHERE m.event_id IS NOT NULL
        ON CONFLICT (store) DO UPDATE SET purged_through = EXCLUDED.purged_through
            WHERE b.purged_through < EXCLUDED.purged_through;
    END IF;
END
$$;
COMMENT ON FUNCTION tmcp._remember_purged(smallint, bigint, integer) IS
    'Remembers what a partition holds, so that "purged" is said to whom it concerns and to nobody else: for some streams '
    'after the given one. through: up to which it is done now; complete: whether that is all. A locked stream is left '
    'for the next time, and so are those after it.';

CREATE FUNCTION tmcp._rotate_messages(batch integer, OUT rotated boolean, OUT unfinished boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tmcp.rotation;
    oldest smallint;
    remembered record;
    last_event_id bigint;
BEGIN
    rotated := false;
    unfinished := false;
    -- Two partitions stay, so each is written for half the retention.
    SELECT x.* INTO r FROM tmcp.rotation AS x
    WHERE x.rotated_at <= clock_timestamp() - (SELECT e.retention FROM tmcp._effective_settings AS e) / 2
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    oldest := ((r.slot + 1) % 3)::smallint;
    -- While somebody reads it, pg_dump for instance, it stays, and nothing is said to be purged.
    IF EXISTS (SELECT FROM pg_locks AS l
               WHERE l.relation = format('tmcp.messages_%s', oldest)::regclass AND l.pid IS DISTINCT FROM pg_backend_pid()
                 AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())) THEN
        RETURN;
    END IF;
    -- Not in the block below: what is remembered stays so. Nothing is added to the partition meanwhile.
    remembered := tmcp._remember_purged(oldest, r.remembered_through, batch);
    UPDATE tmcp.rotation AS x SET remembered_through = remembered.through
    WHERE x.remembered_through <> remembered.through;
    IF NOT remembered.complete THEN
        unfinished := remembered.through > r.remembered_through;
        RETURN;
    END IF;
    last_event_id := (SELECT max(m.event_id) FROM tmcp.messages AS m WHERE m.slot = oldest);
    BEGIN
        -- Senders read the slot under this lock, so none of them writes to the old one any more.
        PERFORM pg_advisory_xact_lock(1953326960, 1);
        CASE oldest
            WHEN 0 THEN
                LOCK TABLE ONLY tmcp.messages_0 IN ACCESS EXCLUSIVE MODE NOWAIT;
                TRUNCATE ONLY tmcp.messages_0;
            WHEN 1 THEN
                LOCK TABLE ONLY tmcp.messages_1 IN ACCESS EXCLUSIVE MODE NOWAIT;
                TRUNCATE ONLY tmcp.messages_1;
            WHEN 2 THEN
                LOCK TABLE ONLY tmcp.messages_2 IN ACCESS EXCLUSIVE MODE NOWAIT;
                TRUNCATE ONLY tmcp.messages_2;
        END CASE;
        UPDATE tmcp.rotation SET slot = oldest, rotated_at = clock_timestamp(),
            purged_through = greatest(purged_through, last_event_id), remembered_through = 0;
        rotated := true;
    EXCEPTION WHEN lock_not_available THEN
        -- Somebody has begun to read it. The next cleanup tries again, and until then the log keeps more.
        NULL;
    END;
END
$$;
COMMENT ON FUNCTION tmcp._rotate_messages(integer) IS
    'Empties the oldest partition of the log and writes to it from now on, if it is time and nobody reads it. '
    'unfinished: it is time, and there is more to remember before.';

CREATE FUNCTION tmcp.cleanup(
    batch integer DEFAULT 1000,
    OUT detached_streams bigint,
    OUT expired_streams bigint,
    OUT ended_sessions bigint,
    OUT sent_items bigint,
    OUT rotated boolean,
    OUT unfinished boolean
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF cleanup.batch IS NULL OR cleanup.batch NOT BETWEEN 1 AND 100000 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TM001',
            MESSAGE = format('a batch cannot have %s rows', coalesce(cleanup.batch::text, 'null')),
            HINT = 'Give 1 to 100000.';
    END IF;
    PERFORM tmcp._require_read_committed();
    IF NOT pg_try_advisory_xact_lock(1953326960, 2) THEN
        RETURN;
    END IF;
    -- This one first: it waits for who starts a session, who may wait for a stream that the next two have changed.
    ended_sessions := tmcp._end_idle_sessions(cleanup.batch);
    detached_streams := tmcp._detach_streams_of_dead_nodes(cleanup.batch);
    expired_streams := tmcp._delete_expired_streams(cleanup.batch);
    -- These two take the order lock, so they come last; the second holds it until the end.
    SELECT m.rotated, m.unfinished INTO cleanup.rotated, cleanup.unfinished
    FROM tmcp._rotate_messages(cleanup.batch) AS m;
    SELECT coalesce(sum(tmcp._flush_outbox(s)), 0)::bigint INTO sent_items
    FROM tmcp.stores AS s WHERE EXISTS (SELECT FROM tmcp.outbox AS o WHERE o.store = s.store);
    unfinished := unfinished OR cleanup.batch <= greatest(detached_streams, expired_streams, ended_sessions);
END
$$;
COMMENT ON FUNCTION tmcp.cleanup(integer) IS
$$Does what time requires, in all stores: detaches the streams of dead nodes, deletes what has been detached for longer
than messages are kept, ends idle sessions, sends what was left in the outbox, and rotates the log. Every node calls it
with its heartbeat; a DBA or pg_cron may, at any time. It never waits for another cleanup.

Arguments: batch, rows at most of each kind, default 1000, so that each call is short.
Returns: how many of each; whether the log was rotated; and unfinished, whether there is more to do at once: call again.
All are NULL when another cleanup is under way.
Errors: TM001 a batch that cannot be one; TM011 above read committed.
Example: SELECT * FROM tmcp.cleanup();$$;

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

-- Who may do what: nobody anything, but for the owner, until it is granted.

CREATE FUNCTION tmcp.grant_monitoring(role regrole) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA tmcp TO %s', grant_monitoring.role);
    EXECUTE format('GRANT EXECUTE ON FUNCTION tmcp.version() TO %s', grant_monitoring.role);
    EXECUTE format('GRANT SELECT ON tmcp.node_status, tmcp.session_status, tmcp.listener_status, tmcp.stream_backlog,'
                   ' tmcp.log_status, tmcp.queue_status TO %s', grant_monitoring.role);
END
$$;
COMMENT ON FUNCTION tmcp.grant_monitoring(regrole) IS
$$Lets a role read the views that show what happens, in all stores, ids of sessions and users among it. pg_monitor has been
granted it from the start.

Arguments: role.
Returns: nothing.
Who: the owner of the extension.
Example: SELECT tmcp.grant_monitoring('datadog');$$;

-- Functions and types are for everybody from the start, and ALTER DEFAULT PRIVILEGES may have given away the rest.
DO $$
BEGIN
    PERFORM tmcp._take_back('n', n.oid, n.nspacl, n.nspowner)
    FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'tmcp';
    PERFORM tmcp._take_back('T', t.oid, t.typacl, t.typowner)
    FROM pg_catalog.pg_type AS t WHERE t.typnamespace = 'tmcp'::regnamespace AND t.typtype = 'e';
    PERFORM tmcp._take_back('f', p.oid, p.proacl, p.proowner)
    FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = 'tmcp'::regnamespace;
    PERFORM tmcp._take_back(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.oid, c.relacl, c.relowner)
    FROM pg_catalog.pg_class AS c WHERE c.relnamespace = 'tmcp'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S');
END
$$;

SELECT tmcp.grant_monitoring('pg_monitor');
$script$;
    EXCEPTION WHEN OTHERS THEN
        -- Raised again, since the context of an error in the script would be all of it.
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        RAISE EXCEPTION USING
            ERRCODE = SQLSTATE,
            MESSAGE = message,
            DETAIL = COALESCE(NULLIF(detail, ''), 'Nothing was installed.'),
            HINT = COALESCE(NULLIF(hint, ''), 'It takes a role that may CREATE in this database, such as its owner.');
    END;
    PERFORM pg_catalog.set_config('search_path', callers_path, true);
END
$install$;
"""#
}
