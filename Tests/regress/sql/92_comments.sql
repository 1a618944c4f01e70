-- What must hold of every object, whoever adds one.

-- Every object of schema tmcp says what it is for: relations, columns, functions, types, triggers, indexes, sequences.
-- (Partitions have the columns and indexes of their table; primary keys, unique keys and the sequences of identity
-- columns are described by the columns.)
WITH objects AS (
    SELECT 'pg_class'::regclass AS catalog, c.oid, 0 AS part, c.oid::regclass::text AS object
    FROM pg_class AS c
    WHERE c.relnamespace = 'tmcp'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'i', 'I')
      AND NOT (c.relispartition AND c.relkind = 'i')
      AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = c.oid)
      AND NOT EXISTS (SELECT FROM pg_depend AS d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i'
                        AND d.refclassid = 'pg_class'::regclass AND c.relkind = 'S')
    UNION ALL
    SELECT 'pg_class'::regclass, c.oid, a.attnum, c.oid::regclass || '.' || a.attname
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'tmcp'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'pg_proc'::regclass, p.oid, 0, p.oid::regprocedure::text
    FROM pg_proc AS p WHERE p.pronamespace = 'tmcp'::regnamespace
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, 0, t.oid::regtype::text
    FROM pg_type AS t WHERE t.typnamespace = 'tmcp'::regnamespace AND t.typtype IN ('e', 'd', 'r')
    UNION ALL
    SELECT 'pg_trigger'::regclass, g.oid, 0, g.tgname || ' on ' || g.tgrelid::regclass
    FROM pg_trigger AS g JOIN pg_class AS c ON c.oid = g.tgrelid
    WHERE c.relnamespace = 'tmcp'::regnamespace AND NOT g.tgisinternal
    UNION ALL
    SELECT 'pg_namespace'::regclass, 'tmcp'::regnamespace, 0, 'schema tmcp'
)
SELECT object AS without_comment FROM objects
WHERE coalesce(col_description(oid, part), obj_description(oid, catalog::name)) IS NULL
   OR (part > 0 AND col_description(oid, part) IS NULL)
ORDER BY 1;

-- Every function that is for others says what it takes and returns and shows an example, and one that has a store says
-- how it fails.
SELECT p.oid::regprocedure AS incomplete
FROM pg_proc AS p CROSS JOIN obj_description(p.oid, 'pg_proc') AS comment
WHERE p.pronamespace = 'tmcp'::regnamespace AND p.proname !~ '^_'
  AND (comment !~ 'Returns: .*\.' OR comment !~ 'Example: SELECT [^;]*;$'
       OR (comment !~ 'Arguments: ' AND p.pronargs > 0)
       OR (comment !~ 'Errors: ' AND 'store' = ANY (p.proargnames)))
ORDER BY 1;
-- The codes in the comments are those of the extension.
SELECT DISTINCT code FROM pg_proc AS p, regexp_matches(obj_description(p.oid, 'pg_proc'), '(TM\d\d\d)', 'g') AS m (codes), unnest(codes) AS code
WHERE p.pronamespace = 'tmcp'::regnamespace ORDER BY code;
SELECT DISTINCT code FROM pg_proc AS p, regexp_matches(p.prosrc, '''(TM\d\d\d)''', 'g') AS m (codes), unnest(codes) AS code
WHERE p.pronamespace = 'tmcp'::regnamespace ORDER BY code;

-- Every function has its search_path pinned, so that nobody slips another operator or table under it.
SELECT p.oid::regprocedure AS without_search_path FROM pg_proc AS p
WHERE p.pronamespace = 'tmcp'::regnamespace
  AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false) ORDER BY 1;

-- An application gets functions that run with the owner's rights and check the store first, or read nothing at all;
-- administration runs with the rights of whoever calls it.
SELECT p.oid::regprocedure AS neither FROM pg_proc AS p
WHERE p.pronamespace = 'tmcp'::regnamespace AND p.prosecdef AND p.proname !~ '^_' AND p.proname <> 'cleanup'
  AND p.prosrc !~ ('tmcp\._authorized_store\((store|' || p.proname || '\.store)\)') ORDER BY 1;
SELECT p.proname AS administration FROM pg_proc AS p
WHERE p.pronamespace = 'tmcp'::regnamespace AND NOT p.prosecdef AND p.provolatile <> 'i' AND p.proname !~ '^_' ORDER BY 1;
-- Everything that has a store takes it first, and an id second.
SELECT p.oid::regprocedure AS other_order FROM pg_proc AS p
WHERE p.pronamespace = 'tmcp'::regnamespace AND p.proname !~ '^_'
  AND (array_position(p.proargnames, 'store') <> 1 OR array_position(p.proargnames, 'id') NOT IN (2, 3)) ORDER BY 1;
-- Internal functions never run with the owner's rights, but for triggers.
SELECT p.oid::regprocedure AS internal_with_rights FROM pg_proc AS p
WHERE p.pronamespace = 'tmcp'::regnamespace AND p.prosecdef AND p.proname ~ '^_' AND p.prorettype <> 'trigger'::regtype ORDER BY 1;

-- Nothing is for PUBLIC: no schema, relation, column, function or type.
SELECT 'schema' AS kind, 'tmcp' AS object FROM pg_namespace AS n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
WHERE n.nspname = 'tmcp' AND a.grantee = 0
UNION ALL
SELECT 'relation', c.oid::regclass::text
FROM pg_class AS c, aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) AS a
WHERE c.relnamespace = 'tmcp'::regnamespace AND a.grantee = 0
UNION ALL
SELECT 'column', c.oid::regclass || '.' || t.attname
FROM pg_class AS c JOIN pg_attribute AS t ON t.attrelid = c.oid, aclexplode(t.attacl) AS a
WHERE c.relnamespace = 'tmcp'::regnamespace AND a.grantee = 0
UNION ALL
SELECT 'function', p.oid::regprocedure::text
FROM pg_proc AS p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
WHERE p.pronamespace = 'tmcp'::regnamespace AND a.grantee = 0
UNION ALL
SELECT 'type', t.oid::regtype::text
FROM pg_type AS t, aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) AS a
WHERE t.typnamespace = 'tmcp'::regnamespace AND a.grantee = 0 AND t.typtype = 'e'
ORDER BY 1, 2;
-- What is created with a store is commented too, and for nobody but its owner until it is granted.
SELECT tmcp.create_store('comments');
SELECT c.oid::regclass AS relation FROM tmcp.stores AS s, unnest(s.relations) AS r JOIN pg_class AS c ON c.oid = r
WHERE s.name = 'comments' AND (obj_description(c.oid, 'pg_class') IS NULL OR c.relacl IS NOT NULL
                               OR NOT c.reloptions @> ARRAY['security_barrier=true']);
SELECT g.tgrelid::regclass AS without_comment FROM tmcp.stores AS s JOIN pg_trigger AS g ON g.tgrelid = ANY (s.relations::oid[])
WHERE s.name = 'comments' AND obj_description(g.oid, 'pg_trigger') IS NULL;
SELECT tmcp.drop_store('comments');
