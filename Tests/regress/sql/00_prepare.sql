-- What the other suites use: the installed extension, and a second connection that listens.

-- Where it was installed already, as an extension or with the plain script, there is nothing left to do.
SELECT to_regnamespace('tmcp') IS NULL AS missing \gset
\if :missing
CREATE EXTENSION tmcp_session_manager;
\endif
CREATE SCHEMA regress;
CREATE EXTENSION dblink SCHEMA regress;

-- Opens another connection to this database, as the same role.
CREATE FUNCTION regress.connect(connection text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM regress.dblink_connect(connection, format(
        'host=%s port=%s dbname=%L user=%L',
        trim(split_part(current_setting('unix_socket_directories'), ',', 1)), current_setting('port'),
        current_database(), session_user));
END
$$;

-- Makes that connection listen as a node does: to a channel, and to delete: before it.
CREATE FUNCTION regress.listen(channel text, connection text DEFAULT 'listener') RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF connection <> ALL (coalesce(regress.dblink_get_connections(), '{}')) THEN
        PERFORM regress.connect(connection);
    END IF;
    PERFORM regress.dblink_exec(connection, format('LISTEN %I', channel));
    PERFORM regress.dblink_exec(connection, format('LISTEN %I', 'delete:' || channel));
END
$$;

-- The notifications that have come since the last call, each with the kind of its channel. A server hands out what is
-- due before it is ready for another query, so after a query there is nothing left to wait for.
CREATE FUNCTION regress.heard(connection text DEFAULT 'listener') RETURNS TABLE (place bigint, channel text, payload text)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM regress.dblink(connection, 'SELECT 1') AS answer (one integer);
    RETURN QUERY
    SELECT row_number() OVER (),
           CASE WHEN n.notify_name LIKE 'delete:%' THEN 'delete' ELSE 'messages' END, n.extra
    FROM regress.dblink_get_notify(connection) AS n;
END
$$;

-- Passes over what has come.
CREATE FUNCTION regress.forget(connection text DEFAULT 'listener') RETURNS void
LANGUAGE sql AS $$ SELECT regress.heard(connection) $$;

-- Takes a payload apart as a node does: {event id} {targets} {bytes}\n{data}, one frame after the other.
CREATE FUNCTION regress.frames(payload text) RETURNS TABLE (event_id bigint, targets text, data text)
LANGUAGE plpgsql AS $$
DECLARE
    rest bytea := convert_to(payload, 'UTF8');
    head text[];
    head_length integer;
BEGIN
    WHILE length(rest) > 0 LOOP
        head_length := position('\x0a'::bytea IN rest);
        head := regexp_match(convert_from(substr(rest, 1, head_length), 'UTF8'), '^(\d+) (\*|\d+(?:,\d+)*) (-|\d+)\n$');
        IF head IS NULL THEN
            RAISE EXCEPTION 'not a frame: %', convert_from(rest, 'UTF8');
        END IF;
        event_id := head[1];
        targets := head[2];
        data := NULL;
        rest := substr(rest, head_length + 1);
        IF head[3] <> '-' THEN
            IF length(rest) < head[3]::integer THEN
                RAISE EXCEPTION 'a frame ends early: %', payload;
            END IF;
            data := convert_from(substr(rest, 1, head[3]::integer), 'UTF8');
            rest := substr(rest, head[3]::integer + 1);
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

-- The messages that have come since the last call: in which notification, for which streams (by id), whether the
-- message itself was inside, and what it says according to the log. A message inside that the log does not have, or
-- has otherwise, is reported as such.
CREATE FUNCTION regress.received(connection text DEFAULT 'listener')
RETURNS TABLE (notification bigint, recipients text, inline boolean, message text)
LANGUAGE sql AS $$
    SELECT h.place,
           CASE f.targets WHEN '*' THEN '*' ELSE
               (SELECT string_agg(coalesce(st.id, '?'), ',' ORDER BY st.id COLLATE "C")
                FROM unnest(string_to_array(f.targets, ',')) AS t (number)
                LEFT JOIN tmcp.streams AS st ON st.stream = t.number::bigint) END,
           f.data IS NOT NULL,
           CASE WHEN f.data IS DISTINCT FROM m.data AND f.data IS NOT NULL
               THEN 'not what was logged: ' || f.data ELSE m.data END
    FROM regress.heard(connection) AS h
    CROSS JOIN LATERAL regress.frames(h.payload) WITH ORDINALITY AS f (event_id, targets, data, place)
    LEFT JOIN LATERAL (SELECT min(x.data) AS data FROM tmcp.messages AS x WHERE x.event_id = f.event_id) AS m ON true
    WHERE h.channel = 'messages' AND h.payload <> 'outbox'
    ORDER BY h.place, f.place
$$;

-- What has come on delete: channels since the last call, with stream numbers replaced by the ids in a table of the
-- suite's own, since the streams are gone by then.
CREATE FUNCTION regress.lost(names jsonb, connection text DEFAULT 'listener') RETURNS TABLE (lost text)
LANGUAGE sql AS $$
    SELECT split_part(h.payload, ' ', 1) || ' ' ||
           (SELECT string_agg(coalesce(names ->> t.number, '?'), ',' ORDER BY names ->> t.number COLLATE "C")
            FROM unnest(string_to_array(substring(h.payload FROM '[0-9,]+$'), ',')) AS t (number))
    FROM regress.heard(connection) AS h
    WHERE h.channel = 'delete'
    ORDER BY h.place
$$;

-- The streams of a store by number, for regress.lost.
CREATE FUNCTION regress.stream_names(store text) RETURNS jsonb
LANGUAGE sql AS $$
    SELECT jsonb_object_agg(st.stream, st.id) FROM tmcp.streams AS st JOIN tmcp.stores AS s USING (store)
    WHERE s.name = stream_names.store
$$;

-- The SQLSTATE that a statement fails with as some role, or 00000; whatever it did is rolled back.
CREATE FUNCTION regress.outcome(statement text, role text DEFAULT session_user) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    state text := '00000';
BEGIN
    BEGIN
        PERFORM set_config('role', role, true);
        EXECUTE statement;
        RAISE EXCEPTION 'rolled back' USING ERRCODE = 'RB000';
    EXCEPTION
        WHEN SQLSTATE 'RB000' THEN NULL;
        WHEN OTHERS THEN state := SQLSTATE;
    END;
    RETURN state;
END
$$;

-- The tools themselves: frames are taken apart by bytes, and what is no frame is noticed.
SELECT * FROM regress.frames(E'17 3 5\nhällo'); -- six bytes, so one is left over
SELECT event_id, targets, data FROM regress.frames(E'17 3 6\nhällo18 * -\n19 3,4 0\n');
