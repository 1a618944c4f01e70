-- Everything that the catalog says of schema tmcp, one property a line, in an order that does not depend on how the
-- objects came to be. Two installations are alike when this prints the same for both.
--
-- psql -XAtq --set=extension=NAME --set=schema=NAME --file=catalog.sql

SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false) \g /dev/null

WITH space AS (
    SELECT oid FROM pg_namespace WHERE nspname = :'schema'
), relations AS (
    SELECT c.*, c.oid::regclass::text AS name FROM pg_class AS c WHERE c.relnamespace IN (SELECT oid FROM space)
), functions AS (
    SELECT p.*, p.oid::regprocedure::text AS name FROM pg_proc AS p WHERE p.pronamespace IN (SELECT oid FROM space)
), types AS (
    -- Not the array types and row types that come with others.
    SELECT t.*, t.oid::regtype::text AS name
    FROM pg_type AS t
    WHERE t.typnamespace IN (SELECT oid FROM space) AND t.typelem = 0
      AND (t.typrelid = 0 OR (SELECT c.relkind FROM pg_class AS c WHERE c.oid = t.typrelid) = 'c')
), extension AS (
    SELECT * FROM pg_extension WHERE extname = :'extension'
), members AS (
    SELECT d.classid, d.objid, a.type || ' ' || a.identity AS name
    FROM extension AS e
    JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
    CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) AS a
), owners AS (
    SELECT 'schema ' || :'schema' AS object, nspowner AS owner FROM pg_namespace WHERE oid IN (SELECT oid FROM space)
    UNION ALL SELECT 'relation ' || name, relowner FROM relations
    UNION ALL SELECT 'function ' || name, proowner FROM functions
    UNION ALL SELECT 'type ' || name, typowner FROM types
    UNION ALL SELECT 'extension', extowner FROM extension
), acls AS (
    -- No privileges at all and those that an owner has anyway are the same, and a restore exchanges them.
    SELECT 'schema ' || :'schema' AS object, coalesce(nspacl, acldefault('n', nspowner)) AS acl
    FROM pg_namespace WHERE oid IN (SELECT oid FROM space)
    UNION ALL SELECT 'relation ' || name,
                     coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, relowner))
              FROM relations WHERE relkind NOT IN ('i', 'I', 'c')
    UNION ALL SELECT 'function ' || name, coalesce(proacl, acldefault('f', proowner)) FROM functions
    UNION ALL SELECT 'type ' || name, coalesce(typacl, acldefault('T', typowner)) FROM types
    UNION ALL SELECT 'column ' || r.name || '.' || a.attname, a.attacl
              FROM relations AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
    UNION ALL SELECT 'default privilege on ' || defaclobjtype::text || ' of ' || defaclrole::regrole::text, defaclacl
              FROM pg_default_acl WHERE defaclnamespace IN (SELECT oid FROM space)
    -- What pg_dump takes for granted.
    UNION ALL SELECT 'at first ' || m.name || coalesce('.' || a.attname, ''),
                     nullif(i.initprivs,
                            acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, c.relowner))
              FROM members AS m
              JOIN pg_init_privs AS i ON i.classoid = m.classid AND i.objoid = m.objid
              LEFT JOIN pg_class AS c ON i.classoid = 'pg_class'::regclass AND c.oid = i.objoid
              LEFT JOIN pg_attribute AS a ON i.objsubid <> 0 AND a.attrelid = i.objoid AND a.attnum = i.objsubid
), comments AS (
    SELECT 'schema ' || :'schema' AS object, obj_description(oid, 'pg_namespace') AS comment FROM space
    UNION ALL SELECT 'extension', obj_description(oid, 'pg_extension') FROM extension
    UNION ALL SELECT 'relation ' || name, obj_description(oid, 'pg_class') FROM relations
    UNION ALL SELECT 'function ' || name, obj_description(oid, 'pg_proc') FROM functions
    UNION ALL SELECT 'type ' || name, obj_description(oid, 'pg_type') FROM types
    UNION ALL SELECT 'column ' || r.name || '.' || a.attname, col_description(r.oid, a.attnum)
              FROM relations AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
    UNION ALL SELECT 'constraint ' || c.conname || ' of ' || r.name, obj_description(c.oid, 'pg_constraint')
              FROM relations AS r JOIN pg_constraint AS c ON c.conrelid = r.oid
    UNION ALL SELECT 'trigger ' || t.tgname || ' of ' || r.name, obj_description(t.oid, 'pg_trigger')
              FROM relations AS r JOIN pg_trigger AS t ON t.tgrelid = r.oid
), columns AS (
    -- Numbered without the gaps that dropped columns leave.
    SELECT r.name AS relation, a.*, d.adbin, d.adrelid,
           row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS place
    FROM relations AS r
    JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE r.relkind IN ('r', 'p', 'v', 'm', 'c', 'f')
), properties (object, property, value) AS (
    SELECT object, 'owner', owner::regrole::text FROM owners
    UNION ALL
    SELECT object, 'privileges', (SELECT string_agg(item::text, ' ' ORDER BY item::text) FROM unnest(acl) AS item)
    FROM acls WHERE acl IS NOT NULL
    UNION ALL
    SELECT object, 'comment', comment FROM comments WHERE comment IS NOT NULL
    UNION ALL
    SELECT 'extension', 'version', concat_ws(' ', extversion, extrelocatable, extnamespace::regnamespace) FROM extension
    UNION ALL
    SELECT 'extension', 'dumps', c.oid::regclass::text || ' ' || e.condition
    FROM extension, unnest(extconfig, extcondition) AS e (oid, condition) JOIN pg_class AS c ON c.oid = e.oid
    UNION ALL
    SELECT 'extension', 'member', name FROM members
    UNION ALL
    SELECT 'relation ' || r.name, 'kind',
           concat_ws(' ', r.relkind::text, r.relpersistence::text, am.amname, r.relreplident,
                     'rowsecurity ' || r.relrowsecurity, 'forced ' || r.relforcerowsecurity,
                     (SELECT spcname FROM pg_tablespace AS s WHERE s.oid = r.reltablespace),
                     pg_get_partkeydef(r.oid), pg_get_expr(r.relpartbound, r.oid),
                     'of ' || (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno)
                               FROM pg_inherits AS i WHERE i.inhrelid = r.oid))
    FROM relations AS r LEFT JOIN pg_am AS am ON am.oid = r.relam
    UNION ALL
    SELECT 'relation ' || r.name, 'storage', o.option
    FROM relations AS r
    CROSS JOIN LATERAL (SELECT unnest(r.reloptions) AS option
                        UNION ALL
                        SELECT 'toast.' || unnest(t.reloptions) FROM pg_class AS t WHERE t.oid = r.reltoastrelid) AS o
    UNION ALL
    SELECT 'relation ' || name, 'definition', pg_get_viewdef(oid) FROM relations WHERE relkind IN ('v', 'm')
    UNION ALL
    SELECT 'relation ' || name, 'definition', pg_get_indexdef(oid) FROM relations WHERE relkind IN ('i', 'I')
    UNION ALL
    SELECT 'relation ' || r.name, 'sequence',
           concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle,
                     (SELECT d.deptype::text || ' ' || d.refobjid::regclass || '.' || a.attname
                      FROM pg_depend AS d
                      JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.deptype IN ('a', 'i')))
    FROM relations AS r JOIN pg_sequence AS s ON s.seqrelid = r.oid
    UNION ALL
    SELECT 'column ' || relation || '.' || attname, 'definition',
           concat_ws(' ', place, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'not null' END,
                     'default ' || pg_get_expr(adbin, adrelid), 'identity ' || nullif(attidentity::text, ''),
                     'generated ' || nullif(attgenerated::text, ''), 'storage ' || attstorage::text,
                     'compression ' || nullif(attcompression::text, ''), 'statistics ' || nullif(attstattarget, -1),
                     'collation ' || nullif(attcollation, 0)::regcollation,
                     -- Security releases since 15.20 keep a number of the server's own among the options.
                     (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(attoptions) AS o WHERE o NOT LIKE 'pg\_attver=%'))
    FROM columns
    UNION ALL
    SELECT 'constraint ' || c.conname || ' of ' || r.name, 'definition', pg_get_constraintdef(c.oid)
    FROM relations AS r
    -- NOT NULL is told of columns: its constraint, new in 18, has a name that depends on how it came to be.
    JOIN pg_constraint AS c ON c.conrelid = r.oid AND c.contype <> 'n'
    UNION ALL
    SELECT 'constraint ' || c.conname || ' of ' || t.name, 'definition', pg_get_constraintdef(c.oid)
    FROM types AS t JOIN pg_constraint AS c ON c.contypid = t.oid
    UNION ALL
    SELECT 'trigger ' || t.tgname || ' of ' || r.name, 'definition', t.tgenabled::text || ' ' || pg_get_triggerdef(t.oid)
    FROM relations AS r JOIN pg_trigger AS t ON t.tgrelid = r.oid AND NOT t.tgisinternal
    UNION ALL
    SELECT 'rule ' || u.rulename || ' of ' || r.name, 'definition', u.ev_enabled::text || ' ' || pg_get_ruledef(u.oid)
    FROM relations AS r JOIN pg_rewrite AS u ON u.ev_class = r.oid AND u.rulename <> '_RETURN'
    UNION ALL
    SELECT 'policy ' || p.polname || ' of ' || r.name, 'definition',
           concat_ws(' ', p.polcmd, p.polpermissive, p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid),
                     pg_get_expr(p.polwithcheck, p.polrelid))
    FROM relations AS r JOIN pg_policy AS p ON p.polrelid = r.oid
    UNION ALL
    SELECT 'statistics ' || stxname, 'definition', pg_get_statisticsobjdef(oid)
    FROM pg_statistic_ext WHERE stxnamespace IN (SELECT oid FROM space)
    UNION ALL
    SELECT 'function ' || name, 'definition', CASE WHEN prokind = 'a' THEN 'aggregate' ELSE pg_get_functiondef(oid) END
    FROM functions
    UNION ALL
    SELECT 'type ' || name, 'kind',
           concat_ws(' ', typtype, nullif(typbasetype, 0)::regtype, CASE WHEN typnotnull THEN 'not null' END, typdefault,
                     (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = types.oid))
    FROM types
)
SELECT line
FROM (SELECT object || ', ' || property || ': ' || coalesce(value, '') AS line FROM properties) AS lines
ORDER BY line COLLATE "C";
