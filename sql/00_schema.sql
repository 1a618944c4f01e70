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
AS $$ SELECT '@VERSION@' $$;
COMMENT ON FUNCTION tmcp.version() IS
$$The version of the installed SQL, whether it came as an extension or as the plain script.

Returns: three numbers, such as 1.0.0.
Example: SELECT tmcp.version();$$;
