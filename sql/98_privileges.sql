-- Who may do what: nobody anything, but for the owner, until it is granted.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tmcp FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA tmcp FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA tmcp FROM PUBLIC;

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
REVOKE ALL ON FUNCTION tmcp.grant_monitoring(regrole) FROM PUBLIC;
COMMENT ON FUNCTION tmcp.grant_monitoring(regrole) IS
$$Lets a role read the views that show what happens, in all stores. pg_monitor has been granted it from the start.

Arguments: role.
Returns: nothing.
Who: the owner of the extension.
Example: SELECT tmcp.grant_monitoring('datadog');$$;

SELECT tmcp.grant_monitoring('pg_monitor');
