extension NotesDatabase {
    /// The schema of the notes. Run as one transaction, any number of times.
    static let schema = """
        SELECT pg_advisory_xact_lock(hashtextextended('demo.notes', 0));

        CREATE SCHEMA IF NOT EXISTS demo;

        -- A name stands in a uri as it is, note://{name}, so it has only what needs no escaping there.
        CREATE TABLE IF NOT EXISTS demo.notes (
            name text PRIMARY KEY
                CONSTRAINT a_name_has_1_to_200_letters_digits_dots_hyphens_underscores
                CHECK (name ~ '^[A-Za-z0-9._~-]{1,200}$'),
            text text NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
        );

        CREATE TABLE IF NOT EXISTS demo.tools (
            name text PRIMARY KEY
                CONSTRAINT a_name_has_1_to_200_letters_digits_dots_hyphens_underscores
                CHECK (name ~ '^[A-Za-z0-9._~-]{1,200}$'),
            added_at timestamptz NOT NULL DEFAULT clock_timestamp()
        );

        -- Runs as the owner, who may call tmcp; whoever changes a note still needs to have been granted the store.
        CREATE OR REPLACE FUNCTION demo.tell_subscribers() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        AS $$
        DECLARE
            uri text;
        BEGIN
            FOR uri IN
                SELECT 'note://' || n.name
                FROM (VALUES (CASE WHEN TG_OP <> 'INSERT' THEN OLD.name END),
                             (CASE WHEN TG_OP <> 'DELETE' THEN NEW.name END)) AS n (name)
                WHERE n.name IS NOT NULL
                GROUP BY n.name
            LOOP
                PERFORM tmcp.enqueue_publish(TG_ARGV[0], uri, tmcp.resource_updated(uri));
            END LOOP;
            RETURN NULL;
        END
        $$;

        CREATE OR REPLACE FUNCTION demo.watch_notes(store text) RETURNS void
        LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp
        AS $$
        DECLARE
            trigger_name constant name := 'tell_subscribers_in_' || store;
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('demo.notes', 0));
            IF NOT EXISTS (SELECT FROM pg_trigger
                           WHERE tgrelid = 'demo.notes'::regclass AND tgname = trigger_name) THEN
                EXECUTE format(
                    'CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON demo.notes '
                    'FOR EACH ROW EXECUTE FUNCTION demo.tell_subscribers(%L)', trigger_name, store);
            END IF;
        END
        $$;
        """
}
