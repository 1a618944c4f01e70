"""Two server processes, one database, and messages between them. Run it with `make demo`.

Every line tells a step: what was done where, what arrived where, and after how many milliseconds. On a terminal the
servers then stay up until Ctrl-C. Without one it ends, with status 0 only if every step held.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

from client import PROTOCOL_VERSION, Session, Stream, Unexpected

FRESHNESS_WINDOW = 10  # seconds, the default of a store
MEBIBYTE = 1024 * 1024


class Server:
    """A tmcp-server process."""

    all = []

    def __init__(self, name, program, port=0):
        self.name = name
        self.log = []
        # The password is in the environment, for no one else to read.
        database = "postgresql://{PGUSER}@127.0.0.1:{PGPORT}/{PGDATABASE}".format_map(os.environ)
        # In a session of its own Ctrl-C does not reach it: the demonstration stops it.
        self.process = subprocess.Popen(
            [program, "--port", str(port), "--database-url", database],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        Server.all.append(self)
        self.port = self.wait_for_port()
        threading.Thread(target=self.keep_log, daemon=True).start()

    def wait_for_port(self):
        for line in self.process.stderr:
            self.log.append(line)
            if listening := re.search(r"http://127\.0\.0\.1:(\d+)/mcp", line):
                return int(listening[1])
        raise Unexpected(f"{self.name} did not start:\n{''.join(self.log)}")

    def keep_log(self):
        self.log.extend(self.process.stderr)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/mcp"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Unexpected(f"{self.name} did not stop within 15 s of SIGTERM") from None


def psql(statement):
    """Runs a statement with plain psql. Returns what it printed."""
    command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
    done = subprocess.run([*command, "--command", statement], capture_output=True, text=True)
    if done.returncode != 0:
        raise Unexpected(f"psql: {done.stderr.strip()}")
    return done.stdout.strip()


class Narrator:
    """Prints the steps, numbered, with the time that each took."""

    def __init__(self):
        self.steps = 0

    def __call__(self, sent, arrived, seconds):
        self.steps += 1
        print(f"{self.steps:2}  {seconds * 1000:8.1f} ms  {sent}  ->  {arrived}", flush=True)


def method(message):
    return "the stream closed" if message is None else message.get("method")


def expect(stream, wanted, parameters=None):
    """Takes the next message of a stream. Returns it and when it came; raises if it is another than wanted."""
    message, arrival = stream.next()
    if method(message) != wanted or (parameters and not parameters(message["params"])):
        raise Unexpected(f"{wanted} was expected, and this arrived: {str(message)[:300]}")
    return message, arrival


def until_gone(identifier, deadline):
    """Asks the view of sessions until one is not in it. Returns when that was."""
    statement = f"SELECT count(*) FROM tmcp.tmcp_sessions WHERE id = '{identifier}'"
    while psql(statement) != "0":
        if time.monotonic() > deadline:
            raise Unexpected("the killed server's stream is still in tmcp_sessions")
        time.sleep(0.1)  # only time makes it go, and no event tells
    return time.monotonic()


def demonstrate(program, tell):
    """Does every step. Returns the two servers."""
    now = time.monotonic

    start = now()
    psql("CREATE EXTENSION tmcp_session_manager")
    tell("psql: CREATE EXTENSION tmcp_session_manager", f"version {psql('SELECT tmcp.version()')}", now() - start)

    start = now()
    server1 = Server("server 1", program)
    server2 = Server("server 2", program)
    tell("two tmcp-server processes started", f"server 1 is {server1.url}, server 2 is {server2.url}", now() - start)

    start = now()
    session = Session(server1)
    stream = Stream(session, server1)
    tell("server 1: initialize, GET", f"session {session.id}, its stream is open on server 1", now() - start)

    start = now()
    session.call(server2, "resources/subscribe", {"uri": "note://plan"})
    tell("server 2: resources/subscribe note://plan", "accepted for the session of server 1", now() - start)

    start = now()
    session.tool(server2, "write_note", name="plan", text="first a slice")
    message, arrival = expect(stream, "notifications/resources/updated", lambda p: p["uri"] == "note://plan")
    tell("server 2: write_note plan", f"server 1's stream: {method(message)} note://plan", arrival - start)

    start = now()
    psql("UPDATE demo.notes SET text = 'then the rest' WHERE name = 'plan'")
    message, arrival = expect(stream, "notifications/resources/updated", lambda p: p["uri"] == "note://plan")
    tell("psql: UPDATE demo.notes", f"server 1's stream: {method(message)} note://plan", arrival - start)

    start = now()
    session.tool(server2, "big_message", bytes=MEBIBYTE)
    message, arrival = expect(stream, "notifications/message")
    size = len(str(message["params"]["data"]))
    if size < MEBIBYTE:
        raise Unexpected(f"of {MEBIBYTE} bytes {size} arrived")
    tell(f"server 2: big_message of {MEBIBYTE} bytes", f"server 1's stream: all {size} bytes", arrival - start)

    start = now()
    other = Session(server2)
    other_stream = Stream(other, server2)
    tell("server 2: initialize, GET", f"session {other.id}, its stream is open on server 2", now() - start)

    start = now()
    session.tool(server2, "announce", text="lunch")
    arrivals = []
    for listener in (stream, other_stream):
        _, arrival = expect(listener, "notifications/message", lambda p: "lunch" in str(p["data"]))
        arrivals.append(arrival - start)
    each = " and ".join(f"server {number} ({seconds * 1000:.1f} ms)" for number, seconds in enumerate(arrivals, 1))
    tell("server 2: announce lunch", f"notifications/message on streams of {each}", max(arrivals))

    start = now()
    session.end(server2)
    _, arrival = expect(stream, "the stream closed")
    tell("server 2: DELETE ends the first session", "server 1's stream closed", arrival - start)
    if (stream.count, other_stream.count) != (4, 1):
        raise Unexpected(f"4 and 1 messages were to arrive, and {stream.count} and {other_stream.count} did")

    lost = Session(server1)
    Stream(lost, server1)
    if psql(f"SELECT count(*) FROM tmcp.tmcp_sessions WHERE id = '{lost.id}'") != "1":
        raise Unexpected("the open stream is not in tmcp_sessions")
    start = now()
    server1.kill()
    # The window is counted from the last heartbeat; a second is for asking.
    gone = until_gone(lost.id, start + FRESHNESS_WINDOW + 1)
    tell("server 1 was killed with SIGKILL", "its stream is gone from tmcp_sessions", gone - start)
    return server1, server2


def stay(program, killed, server2):
    """Starts the killed server again and tells how to go on by hand, until Ctrl-C."""
    server1 = Server("server 1", program, killed.port)
    session = Session(server1)
    session.call(server1, "resources/subscribe", {"uri": "note://plan"})
    announce = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"announce","arguments":{"text":"hello"}}}'
    headers = f"-H 'MCP-Session-Id: {session.id}' -H 'MCP-Protocol-Version: {PROTOCOL_VERSION}'"
    print(f"""
Both servers are up until Ctrl-C. Open a session's stream on server 1:

curl --no-buffer {headers} \\
    -H 'Accept: text/event-stream' {server1.url}

and in another terminal announce something on server 2, or change a note with psql:

curl {headers} \\
    -H 'Accept: application/json, text/event-stream' -H 'Content-Type: application/json' \\
    -d '{announce}' {server2.url}

psql {os.environ["TMCP_TEST_DATABASE_URL"]} -c "UPDATE demo.notes SET text = 'by hand'"
""", flush=True)
    signal.pause()


def stop_on_signal(number, _):
    sys.exit(128 + number)


def main():
    signal.signal(signal.SIGTERM, stop_on_signal)
    signal.signal(signal.SIGHUP, stop_on_signal)
    program = os.environ.get("TMCP_SERVER")
    if not program:
        binaries = subprocess.run(["swift", "build", "--show-bin-path"], capture_output=True, text=True, check=True)
        program = str(pathlib.Path(binaries.stdout.strip()) / "tmcp-server")
    tell = Narrator()
    held = False
    status = 1
    try:
        servers = demonstrate(program, tell)
        held = True
        if sys.stdin.isatty() and sys.stdout.isatty():
            stay(program, *servers)
    except KeyboardInterrupt:
        status = 0 if held else 130
    except Exception as failure:
        held = False
        print(f"\nStep {tell.steps + 1} failed: {type(failure).__name__}: {failure}", file=sys.stderr)
        for server in Server.all:
            print(f"{server.name} said:\n{''.join(server.log)}", file=sys.stderr)
    finally:
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        for server in Server.all:
            if server.process.poll() is None:
                try:
                    server.stop()
                except Unexpected as failure:
                    held = False
                    print(failure, file=sys.stderr)
    if held:
        print(f"All {tell.steps} steps held.")
        status = 0
    sys.exit(status)


if __name__ == "__main__":
    main()
