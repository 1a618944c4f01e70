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
