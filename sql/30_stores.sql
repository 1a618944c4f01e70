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
