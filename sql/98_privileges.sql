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
