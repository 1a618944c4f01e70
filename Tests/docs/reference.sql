-- Prints the SQL reference in Markdown, from the comments in the database.
--
-- psql -XAtq --file=reference.sql
--
-- A function's comment is a summary, a blank line, and paragraphs that start with Arguments:, Returns:, Errors:, Who: or
-- Example:.

SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false) \g /dev/null

WITH functions AS (
    SELECT p.oid, p.proname, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result,
           obj_description(p.oid, 'pg_proc') AS comment
    FROM pg_proc AS p
    WHERE p.pronamespace = 'tmcp'::regnamespace AND p.proname NOT LIKE '\_%' AND p.prorettype <> 'trigger'::regtype
), views AS (
    SELECT c.oid, c.relname, obj_description(c.oid, 'pg_class') AS comment
    FROM pg_class AS c
    WHERE c.relnamespace = 'tmcp'::regnamespace AND c.relkind = 'v' AND c.relname NOT LIKE '\_%'
), types AS (
    SELECT t.oid, t.typname, obj_description(t.oid, 'pg_type') AS comment
    FROM pg_type AS t
    WHERE t.typnamespace = 'tmcp'::regnamespace AND t.typtype = 'e' AND t.typname NOT LIKE '\_%'
), paragraphs AS (
    SELECT f.oid, p.place, p.name, p.text
    FROM functions AS f
    CROSS JOIN LATERAL regexp_split_to_table(f.comment, '\n+(?=(Arguments|Returns|Errors|Who|Example): )')
        WITH ORDINALITY AS s (part, place)
    CROSS JOIN LATERAL (SELECT s.place, substring(s.part FROM '^(Arguments|Returns|Errors|Who|Example): '),
                               regexp_replace(s.part, '^(Arguments|Returns|Errors|Who|Example): ', ''))
        AS p (place, name, text)
), documented AS (
    -- Names of the schema in code, and nothing else that Markdown would take for its own.
    SELECT oid, string_agg(
               CASE WHEN name = 'Example' THEN E'```sql\n' || text || E'\n```'
                    WHEN name IS NULL THEN prose
                    ELSE '**' || name || ':** ' || prose END,
               E'\n\n' ORDER BY place) AS text
    FROM paragraphs
    CROSS JOIN LATERAL (SELECT regexp_replace(regexp_replace(text, '([\\*<\[])', '\\\1', 'g'),
                                              '\m(tmcp\.[a-z_]+)', '`\1`', 'g')) AS p (prose)
    GROUP BY oid
), sections (chapter, place, text) AS (
    SELECT 0, 0::oid,
           E'# SQL reference\n\n'
           'Every function, view and type of schema `tmcp` that is meant to be used, made from the comments in the database '
           'by `make docs`: `\df+ tmcp.*` in psql shows the same.'
    UNION ALL SELECT 1, 0, '## Functions'
    UNION ALL
    SELECT 1, f.oid,
           '### `' || f.proname || E'`\n\n```sql\ntmcp.' || f.proname || '('
           || CASE WHEN length(f.arguments) < 80 THEN f.arguments
                   ELSE E'\n    ' || regexp_replace(f.arguments, ', (?=(OUT )?[a-z_]+ [a-z])', E',\n    ', 'g') || E'\n' END
           || ') RETURNS ' || f.result || E'\n```\n\n' || d.text
    FROM functions AS f JOIN documented AS d USING (oid)
    UNION ALL SELECT 2, 0, '## Views'
    UNION ALL
    SELECT 2, v.oid,
           '### `' || v.relname || E'`\n\n' || v.comment || E'\n\n| Column | Type | Meaning |\n| --- | --- | --- |\n'
           || (SELECT string_agg('| `' || a.attname || '` | ' || format_type(a.atttypid, a.atttypmod) || ' | '
                                 || coalesce(col_description(v.oid, a.attnum), '') || ' |', E'\n' ORDER BY a.attnum)
               FROM pg_attribute AS a WHERE a.attrelid = v.oid AND a.attnum > 0 AND NOT a.attisdropped)
    FROM views AS v
    UNION ALL SELECT 3, 0, '## Types'
    UNION ALL
    SELECT 3, t.oid,
           '### `' || t.typname || E'`\n\n' || t.comment || E'\n\n'
           || (SELECT string_agg('`' || e.enumlabel || '`', ', ' ORDER BY e.enumsortorder)
               FROM pg_enum AS e WHERE e.enumtypid = t.oid)
    FROM types AS t
)
-- In the order in which the objects are made, which is that of sql/.
SELECT string_agg(text, E'\n\n' ORDER BY chapter, place) FROM sections;
