-- Installing and removing the extension. Nothing here needs a superuser but the database itself.

CREATE ROLE regress_dba;
CREATE DATABASE regress_install OWNER regress_dba ENCODING 'UTF8' TEMPLATE template0;
\connect regress_install
\set SHOW_CONTEXT never

-- What the catalog holds before anything is installed.
SELECT $$
    SELECT concat_ws(' ',
        (SELECT count(*) FROM pg_namespace), (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc),
        (SELECT count(*) FROM pg_type), (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_constraint),
        (SELECT count(*) FROM pg_rewrite), (SELECT count(*) FROM pg_enum), (SELECT count(*) FROM pg_sequence),
        (SELECT count(*) FROM pg_partitioned_table), (SELECT count(*) FROM pg_description),
        (SELECT count(*) FROM pg_init_privs), (SELECT count(*) FROM pg_default_acl),
        (SELECT count(*) FROM pg_shdepend WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())))
    $$ AS objects \gset
SELECT (:objects) AS objects_before \gset

-- The owner of a database, no superuser, installs the extension and owns all of it.
SET SESSION AUTHORIZATION regress_dba;
SELECT rolsuper FROM pg_roles WHERE rolname = session_user;
CREATE EXTENSION tmcp_session_manager;
SELECT extowner::regrole, extversion = tmcp.version() AS same_version, extrelocatable
FROM pg_extension WHERE extname = 'tmcp_session_manager';
SELECT count(*) AS objects_of_others
FROM pg_class WHERE relnamespace = 'tmcp'::regnamespace AND relowner <> 'regress_dba'::regrole;

-- Installing it twice is an error of PostgreSQL's, and IF NOT EXISTS makes it none.
CREATE EXTENSION tmcp_session_manager;
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS tmcp_session_manager;

-- It works for its owner.
SELECT tmcp.create_store();
SELECT tmcp.start_session('tmcp', 'a session');
SELECT tmcp.send('tmcp', 'a session', 'a message') IS NOT NULL AS sent;

-- The views of a store are not part of the extension, so that dropping it by mistake does not get far.
\set VERBOSITY sqlstate
DROP EXTENSION tmcp_session_manager;
\set VERBOSITY default

-- Without a store it is dropped without CASCADE and leaves nothing behind: every catalog is as long as before.
SELECT tmcp.drop_store('tmcp');
DROP EXTENSION tmcp_session_manager;
SELECT (:objects) = :'objects_before' AS as_before;

-- With stores CASCADE does the same.
CREATE EXTENSION tmcp_session_manager;
SELECT tmcp.create_store();
SELECT tmcp.create_store('shop', sessions => 'public.shop_sessions');
DROP EXTENSION tmcp_session_manager CASCADE;
SELECT (:objects) = :'objects_before' AS as_before;

-- A role that may not create schemas in the database cannot install it.
RESET SESSION AUTHORIZATION;
CREATE ROLE regress_guest;
SET SESSION AUTHORIZATION regress_guest;
CREATE EXTENSION tmcp_session_manager;
\echo :SQLSTATE

-- What its owner gives away by default is not given of the extension: it is for him alone, and its views for pg_monitor.
SET SESSION AUTHORIZATION regress_dba;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_guest, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO regress_guest;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_guest, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_guest, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_guest WITH GRANT OPTION;
CREATE EXTENSION tmcp_session_manager;
SELECT o.object, a.grantee::regrole, a.privilege_type
FROM (SELECT 'schema' AS object, n.nspacl AS acl, n.nspowner AS owner FROM pg_namespace AS n WHERE n.nspname = 'tmcp'
      UNION ALL
      SELECT t.typname, coalesce(t.typacl, acldefault('T', t.typowner)), t.typowner FROM pg_type AS t
      WHERE t.typnamespace = 'tmcp'::regnamespace AND t.typtype = 'e'
      UNION ALL
      SELECT c.relname, c.relacl, c.relowner FROM pg_class AS c WHERE c.relnamespace = 'tmcp'::regnamespace
      UNION ALL
      SELECT p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner)), p.proowner FROM pg_proc AS p
      WHERE p.pronamespace = 'tmcp'::regnamespace) AS o, aclexplode(o.acl) AS a
WHERE a.grantee <> o.owner ORDER BY 1, 2, 3;
SELECT count(*) AS defaults FROM pg_default_acl;
DROP EXTENSION tmcp_session_manager;
DROP OWNED BY regress_dba;

-- A database in another encoding is refused in clear words.
RESET SESSION AUTHORIZATION;
CREATE DATABASE regress_encoding OWNER regress_dba
    ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
\connect regress_encoding
SET SESSION AUTHORIZATION regress_dba;
CREATE EXTENSION tmcp_session_manager;
\echo :SQLSTATE

\connect regress_install
DROP DATABASE regress_encoding;
\connect postgres
DROP DATABASE regress_install;
DROP ROLE regress_dba, regress_guest;
