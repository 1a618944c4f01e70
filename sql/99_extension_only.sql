-- What pg_dump keeps: the settings, and the stores with their sessions. Nodes, streams and messages belong to a running server; after a
-- restore, nodes register anew and clients open their streams again.

SELECT pg_catalog.pg_extension_config_dump('tmcp.settings', '');
SELECT pg_catalog.pg_extension_config_dump('tmcp.stores', '');
SELECT pg_catalog.pg_extension_config_dump('tmcp.stores_store_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tmcp.sessions', '');
SELECT pg_catalog.pg_extension_config_dump('tmcp.sessions_session_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tmcp.subscriptions', '');
SELECT pg_catalog.pg_extension_config_dump('tmcp.outbox', '');
SELECT pg_catalog.pg_extension_config_dump('tmcp.outbox_item_seq', '');
