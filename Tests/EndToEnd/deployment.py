"""Servers behind a proxy, over the database that the environment names, and what the tests ask of them."""

import asyncio
import logging
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request

DEADLINE = 15  # seconds that anything may take for which no other time is named
FOLDER = pathlib.Path(__file__).parent

# Tests run in asyncio's debug mode, which tells of every step that takes long.
logging.getLogger("asyncio").setLevel(logging.ERROR)


class Server:
    """A tmcp-server process, which comes back on the port that it had."""

    def __init__(self, *options):
        self.options = options
        self.port = 0
        self.log = []
        self.start()

    def start(self):
        known = set(nodes())
        self.process = subprocess.Popen(
            [os.environ["TMCP_SERVER"], "--port", str(self.port), *self.options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        listening = threading.Event()
        self.reader = threading.Thread(target=self.read_log, args=(self.process.stderr, listening), daemon=True)
        self.reader.start()
        if not listening.wait(DEADLINE) or self.process.poll() is not None:
            self.kill()
            raise AssertionError(f"the server did not start:\n{''.join(self.log)}")
        # Servers start one after the other, so the new node is this one's.
        (self.node,) = set(nodes()) - known

    def read_log(self, lines, listening):
        with lines:
            for line in lines:
                self.log.append(line)
                if found := re.search(r"http://127\.0\.0\.1:(\d+)/mcp", line):
                    self.port = int(found[1])
                    listening.set()
        listening.set()

    def kill(self):
        self.process.kill()
        self.process.wait(DEADLINE)
        self.reader.join(DEADLINE)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """Ends the process in an orderly way. Returns its exit status."""
        self.terminate()
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not stop:\n{''.join(self.log)}") from None
        self.reader.join(DEADLINE)
        return status

    def count_descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_bytes(self):
        pages = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Deployment:
    """Three servers behind haproxy. What comes in goes to each in turn."""

    def __init__(self, *options):
        self.servers = []
        self.proxy = None
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        try:
            for _ in range(3):
                self.servers.append(Server(*options))
            self.start_proxy()
        except BaseException:
            self.stop()
            raise

    @property
    def base(self):
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def start_proxy(self, requests_before=1):
        descriptor = self.socket.fileno()
        ports = {f"TMCP_SERVER_PORT_{number}": str(server.port) for number, server in enumerate(self.servers, 1)}
        self.proxy = subprocess.Popen(
            [os.environ["TMCP_HAPROXY"], "-db", "-q", "-f", FOLDER / "haproxy.cfg"],
            env={**os.environ, **ports, "TMCP_PROXY_SOCKET": str(descriptor)},
            pass_fds=[descriptor],
            stdout=subprocess.DEVNULL,
        )
        for _ in range(requests_before):
            # Until it accepts, a request waits in the socket.
            with urllib.request.urlopen(f"{self.base}/health", timeout=DEADLINE) as response:
                response.read()

    def break_connections(self, requests_before=1):
        """Ends every connection of every client, as a network does; the servers go on."""
        self.proxy.kill()
        self.proxy.wait(DEADLINE)
        self.start_proxy(requests_before)

    def holder(self, stream):
        """The server that holds a stream; None if none of those that run does."""
        node = psql(f"SELECT node FROM tmcp.streams WHERE id = '{stream}'")
        return next((server for server in self.servers if server.node == node), None)

    def last_opened(self, stream):
        """At which event a stream was last opened or resumed."""
        return psql(f"SELECT attached_after FROM tmcp.streams WHERE id = '{stream}'")

    def hold_all(self, streams, without):
        """Whether each of the streams is held by a server other than one of them."""
        nodes = ",".join(server.node for server in self.servers if server is not without)
        identifiers = ",".join(f"'{stream}'" for stream in streams)
        held = psql(f"SELECT count(*) FROM tmcp.streams WHERE id IN ({identifiers}) AND node IN ({nodes})")
        return int(held) == len(streams)

    def stop(self):
        if self.proxy:
            self.proxy.kill()
            self.proxy.wait(DEADLINE)
        self.socket.close()
        statuses = [server.stop() for server in self.servers if server.process.poll() is None]
        if any(statuses):
            raise AssertionError(f"servers stopped with the exit statuses {statuses}")


PSQL = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]


def psql(statement):
    """Runs a statement. Returns what it printed."""
    return subprocess.run([*PSQL, "--command", statement], capture_output=True, text=True, check=True).stdout.strip()


def nodes():
    """The numbers of the servers that registered; none before the first one."""
    if psql("SELECT to_regclass('tmcp.nodes') IS NULL") == "t":
        return []
    return psql("SELECT node FROM tmcp.nodes").split()


def send(sessions, message):
    """Sends a message to the standalone streams of sessions, as an application in any language does."""
    identifiers = ",".join(f"'{session}'" for session in sessions)
    psql(f"SELECT tmcp.send('tmcp', id, '{message}') FROM unnest(ARRAY[{identifiers}]) AS id")


async def eventually(condition, what, within=DEADLINE):
    """Waits until a condition holds that no event tells. Returns what it is, and how long that took."""
    started = time.monotonic()
    while True:
        value = await asyncio.to_thread(condition)
        elapsed = time.monotonic() - started
        if value:
            return value, elapsed
        if elapsed > within:
            raise AssertionError(f"not within {within} s: {what}")
        await asyncio.sleep(0.02)
