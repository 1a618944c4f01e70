-- The outbox: sending from inside somebody else's transaction, a trigger for instance.
\set SHOW_CONTEXT never
SELECT tmcp.create_store('outbox'), tmcp.configure_store('outbox', freshness_window => '1 minute');
SELECT tmcp.start_session('outbox', 'a');
SELECT tmcp.add_subscription('outbox', 'a', 'note://plan');

-- What an application would write: a trigger that tells subscribers of a changed note.
CREATE TABLE notes (uri text PRIMARY KEY, body text);
CREATE FUNCTION tell_subscribers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tmcp.enqueue_publish('outbox', NEW.uri, 'new body: ' || NEW.body);
    RETURN NULL;
END
$$;
CREATE TRIGGER tell_subscribers AFTER INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION tell_subscribers();
CREATE FUNCTION logged() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT m.data FROM tmcp.messages AS m JOIN tmcp.stores AS s USING (store) WHERE s.name = 'outbox' ORDER BY m.event_id
$$;

-- With no live node the commit itself sends.
INSERT INTO notes VALUES ('note://plan', 'first');
SELECT * FROM logged();
SELECT count(*) AS waiting FROM tmcp.outbox;

-- With a live node, it is rung once for a transaction, and moves what was enqueued when it gets round to it.
SELECT node, channel FROM tmcp.register_node('outbox') \gset
SELECT regress.listen(:'channel');
SELECT state FROM tmcp.attach('outbox', :node, 'a');
BEGIN;
UPDATE notes SET body = 'second';
UPDATE notes SET body = 'third';
SELECT count(*) AS heard_before_commit FROM regress.heard();
COMMIT;
SELECT payload FROM regress.heard();
SELECT count(*) AS waiting, bool_and(rung) AS rung FROM tmcp.outbox;
SELECT tmcp.flush_outbox('outbox');
SELECT * FROM regress.received();
SELECT tmcp.flush_outbox('outbox');

-- Rolled back, nothing was sent; rolled back to a savepoint, what came after it was not.
BEGIN;
UPDATE notes SET body = 'never';
ROLLBACK;
BEGIN;
UPDATE notes SET body = 'fourth';
SAVEPOINT before;
UPDATE notes SET body = 'not this one';
ROLLBACK TO before;
UPDATE notes SET body = 'fifth';
COMMIT;
SELECT payload FROM regress.heard();
SELECT tmcp.flush_outbox('outbox');
SELECT * FROM regress.received();

-- At any isolation level, whatever others do meanwhile.
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE notes SET body = 'at repeatable read';
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
UPDATE notes SET body = 'at serializable';
COMMIT;
SELECT payload FROM regress.heard();
SELECT tmcp.flush_outbox('outbox');
SELECT message FROM regress.received();

-- It holds no lock that a sender would wait for: while the transaction is open, others send and flush.
SELECT regress.connect('other');
BEGIN;
UPDATE notes SET body = 'in a long transaction';
SELECT * FROM regress.dblink('other', $$
    SET lock_timeout = '10s';
    SELECT tmcp.send('outbox', 'a', 'sent meanwhile') IS NOT NULL, tmcp.flush_outbox('outbox')$$) AS t (sent boolean, flushed bigint);
COMMIT;
SELECT tmcp.flush_outbox('outbox');
SELECT message FROM regress.received();
SELECT regress.dblink_disconnect('other') AS done;

-- Everything that can be sent can be enqueued, and comes in the order of the calls. Whom a message is for is looked up
-- after the commit; what is for nobody is dropped.
BEGIN;
SELECT tmcp.enqueue('outbox', 'a', '1 to a stream'), tmcp.enqueue_broadcast('outbox', '2 to all');
SELECT tmcp.enqueue('outbox', 'nobody', 'x'), tmcp.enqueue_publish('outbox', 'note://plan', '3 to subscribers'),
       tmcp.enqueue_log('outbox', 'error', '4 to the log'), tmcp.enqueue('outbox', 'b', '5 to one who comes later');
SELECT count(*) FROM generate_series(6, 1205) AS n, tmcp.enqueue('outbox', 'a', n || ' of many');
COMMIT;
SELECT state FROM tmcp.attach('outbox', :node, 'b');
-- At most a thousand at a time, so that other senders get their turn.
SELECT tmcp.flush_outbox('outbox'), tmcp.flush_outbox('outbox'), tmcp.flush_outbox('outbox');
SELECT count(*), array_agg(n) = array_agg(n ORDER BY n) AS in_order
FROM (SELECT substring(message FROM '^\d+')::integer AS n FROM regress.received()) AS m;
SELECT * FROM logged() LIMIT 5 OFFSET (SELECT count(*) - 1205 FROM logged());

-- Arguments are checked at once, where the caller can do something about it.
SELECT tmcp.enqueue('outbox', '', 'x');
SELECT tmcp.enqueue('outbox', 'a', NULL);
SELECT tmcp.enqueue_publish('outbox', NULL, 'x');
SELECT tmcp.enqueue_log('outbox', NULL, 'x');
SELECT tmcp.enqueue_broadcast('outbox', NULL);
\echo :SQLSTATE

-- A psql that listens without a registered node is never rung: it would not know what to do.
SELECT tmcp.stop_node('outbox', :node);
SELECT own_channel AS psql_channel FROM tmcp.attach('outbox', NULL, 'psql') \gset
SELECT regress.listen(:'psql_channel', 'psql');
SELECT tmcp.enqueue('outbox', 'psql', 'sent at commit');
SELECT recipients, message FROM regress.received('psql');

-- Nor is a node that died. Above read committed the commit cannot send, since it does not see who is there: the next
-- flush or cleanup does.
SELECT node FROM tmcp.register_node('outbox') \gset
UPDATE tmcp.nodes SET heartbeat_at = heartbeat_at - interval '2 minutes' WHERE node = :node;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT tmcp.enqueue('outbox', 'psql', 'at serializable with nobody there');
COMMIT;
SELECT count(*) AS waiting, bool_or(rung) AS rung FROM tmcp.outbox;
SELECT sent_items FROM tmcp.cleanup();
SELECT message FROM regress.received('psql');

-- A node that was rung and died before it flushed loses nothing either.
SELECT node FROM tmcp.register_node('outbox') \gset
SELECT tmcp.enqueue('outbox', 'psql', 'the rung node died');
SELECT tmcp.stop_node('outbox', :node);
SELECT count(*) AS waiting FROM tmcp.outbox;
SELECT sent_items FROM tmcp.cleanup();
SELECT message FROM regress.received('psql');

-- flush_outbox is for read committed, like all that sends.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tmcp.flush_outbox('outbox');
\echo :SQLSTATE
ROLLBACK;
-- A store that is dropped takes with it what waits.
SELECT node FROM tmcp.register_node('outbox') \gset
SELECT tmcp.enqueue('outbox', 'psql', 'too late');
SELECT tmcp.drop_store('outbox');
SELECT count(*) AS waiting FROM tmcp.outbox;
DROP TABLE notes;
DROP FUNCTION tell_subscribers, logged;
