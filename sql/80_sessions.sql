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
