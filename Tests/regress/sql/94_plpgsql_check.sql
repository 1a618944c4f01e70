-- plpgsql_check finds nothing in any function, triggers with their tables. Where it is not installed, that is said.
SELECT count(*) = 0 AS missing FROM pg_available_extensions WHERE name = 'plpgsql_check' \gset
\if :missing
    \echo not checked: plpgsql_check is not installed
    \quit
\endif
SET client_min_messages = warning;
CREATE EXTENSION plpgsql_check;
RESET client_min_messages;
SELECT tmcp.create_store('check');
SELECT p.oid::regprocedure AS function, g.tgrelid::regclass AS relation, c.lineno, c.level, c.sqlstate, c.message, c.detail, c.hint, c.query
FROM pg_proc AS p
JOIN pg_language AS l ON l.oid = p.prolang AND l.lanname = 'plpgsql'
LEFT JOIN pg_trigger AS g ON g.tgfoid = p.oid
CROSS JOIN LATERAL plpgsql_check_function_tb(
    p.oid, coalesce(g.tgrelid, 0), oldtable => g.tgoldtable, newtable => g.tgnewtable,
    other_warnings => true, extra_warnings => true, performance_warnings => true, security_warnings => true, compatibility_warnings => true) AS c
WHERE p.pronamespace = 'tmcp'::regnamespace
  -- Its dynamic SQL is made of a quoted name and of a definition that tmcp.create_store makes of a number.
  AND NOT (p.proname = '_create_relation' AND c.level IN ('security', 'performance'))
ORDER BY 1, 2, 3;
SELECT tmcp.drop_store('check');
DROP EXTENSION plpgsql_check;
