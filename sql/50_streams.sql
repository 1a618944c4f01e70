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
