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
