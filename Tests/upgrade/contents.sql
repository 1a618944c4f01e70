-- What of the stores a dump keeps, in an order that does not depend on how the rows came to be.
SELECT 'store', name, relations, freshness_window, session_idle_limit, inline_limit, maximum_message_size,
       maximum_sessions, maximum_sessions_per_principal, created_at
FROM tmcp.stores ORDER BY name;
SELECT 'session', s.name, x.id, x.principal, x.client_info, x.client_capabilities, x.log_level, x.protocol_version,
       x.created_at, x.last_active_at
FROM tmcp.sessions AS x JOIN tmcp.stores AS s USING (store) ORDER BY s.name, x.id;
SELECT 'subscription', s.name, x.id, u.uri
FROM tmcp.subscriptions AS u JOIN tmcp.sessions AS x USING (session) JOIN tmcp.stores AS s ON s.store = u.store
ORDER BY s.name, x.id, u.uri;
SELECT 'retention', retention FROM tmcp.settings;
SELECT 'view', id, value FROM tmcp.tmcp_session_subscriptions ORDER BY id, value;
