-- Every function that is meant to be used has a comment that says what it returns and shows an example, and every example
-- runs, with the stores, roles, nodes and streams that the examples speak of.

SET client_min_messages = warning;
SELECT tmcp.create_store() \g /dev/null
SELECT tmcp.register_node('tmcp'), tmcp.register_node('tmcp') \g /dev/null
SELECT tmcp.attach_batch('tmcp', 1, ARRAY(SELECT 'example ' || n FROM generate_series(1, 8) AS n)) \g /dev/null

DO $$
DECLARE
    exposed record;
    part text;
    failures text[] := '{}';
BEGIN
    FOR exposed IN
        SELECT p.oid::regprocedure AS name, obj_description(p.oid, 'pg_proc') AS comment
        FROM pg_proc AS p
        WHERE p.pronamespace = 'tmcp'::regnamespace AND p.proname NOT LIKE '\_%' AND p.prorettype <> 'trigger'::regtype
        ORDER BY p.oid
    LOOP
        FOREACH part IN ARRAY ARRAY['Returns', 'Example'] LOOP
            IF exposed.comment IS NULL OR exposed.comment !~ ('\n' || part || ': ') THEN
                failures := failures || format('%s: the comment lacks %s', exposed.name, part);
            END IF;
        END LOOP;
        BEGIN
            CREATE ROLE shop_server;
            CREATE ROLE datadog;
            IF exposed.comment !~ '\nExample: SELECT tmcp.create_store\(''shop' THEN
                PERFORM tmcp.create_store('shop');
            END IF;
            EXECUTE substring(exposed.comment FROM '\nExample: (.*)$');
            RAISE EXCEPTION USING ERRCODE = 'XX999', MESSAGE = 'it worked, and is undone';
        EXCEPTION
            WHEN SQLSTATE 'XX999' THEN NULL;
            WHEN OTHERS THEN
                failures := failures || format('%s: the example fails: %s %s', exposed.name, SQLSTATE, SQLERRM);
        END;
    END LOOP;
    IF failures <> '{}' THEN
        RAISE EXCEPTION '%', array_to_string(failures, E'\n');
    END IF;
END
$$;
