"""What keeps many users apart, and their number within bounds."""

import asyncio
import http.client
import json
import pathlib
import tempfile
import time
import unittest

from client import connected, http_client
from deployment import Deployment, eventually, psql

SESSIONS = 1000
AT_ONCE = 16
SESSIONS_WITHIN = 90  # seconds, on a machine that is busy with other things as well


class Manual:
    """Requests as they are put by hand, each on a connection of its own."""

    def __init__(self, base, token=None):
        self.address = base.removeprefix("http://")
        self.headers = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        } | ({"Authorization": f"Bearer {token}"} if token else {})

    def exchange(self, method, message=None, **headers):
        """Returns the response, whose body has been read."""
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, "/mcp", json.dumps(message) if message else None, self.headers | named)
            response = connection.getresponse()
            response.content = response.read()
            return response
        finally:
            connection.close()

    def initialize(self):
        parameters = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "by hand", "version": "1"},
        }
        return self.exchange(
            "POST", {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": parameters}
        )

    def ping(self, session):
        return self.exchange("POST", {"jsonrpc": "2.0", "id": 2, "method": "ping"}, MCP_Session_Id=session).status


class Limits(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        tokens = pathlib.Path(folder.name, "tokens")
        tokens.write_text("# who may connect\ntoken-a alice\ntoken-b bob\n")
        cls.deployment = Deployment("--tokens", str(tokens))
        cls.addClassCleanup(cls.deployment.stop)

    def setUp(self):
        self.alice = Manual(self.deployment.base, "token-a")
        self.bob = Manual(self.deployment.base, "token-b")

    def configure(self, **settings):
        """Sets limits of the store until the test has ended."""

        def apply(values):
            psql(f"SELECT tmcp.configure_store('tmcp', {', '.join(f'{n} => {v}' for n, v in values.items())})")

        defaults = {"session_idle_limit": "'1 hour'"}
        apply(settings)
        self.addCleanup(apply, {name: defaults.get(name, "0") for name in settings})

    async def no_rows_are_left(self):
        for table in ("sessions", "streams"):
            count = f"SELECT count(*) FROM tmcp.{table} JOIN tmcp.stores USING (store) WHERE name = 'tmcp'"
            await eventually(lambda: psql(count) == "0", f"no {table} are left")

    async def test_who_has_no_token_is_refused(self):
        for manual in (Manual(self.deployment.base), Manual(self.deployment.base, "guessed")):
            response = manual.initialize()
            self.assertEqual((response.status, response.headers["WWW-Authenticate"]), (401, "Bearer"))

    async def test_a_session_is_there_for_its_own_user_alone(self):
        async with connected(self.deployment.base, headers={"Authorization": "Bearer token-a"}) as user:
            await user.call("echo", text="mine")
            for _ in range(3):  # at each process
                self.assertEqual(self.alice.ping(user.session), 200)
                self.assertEqual(self.bob.ping(user.session), 404)
                self.assertEqual(self.bob.exchange("GET", MCP_Session_Id=user.session).status, 404)
                self.assertEqual(self.bob.exchange("DELETE", MCP_Session_Id=user.session).status, 404)
            self.assertEqual(await user.call("echo", text="still mine"), "still mine")

    async def test_a_user_with_too_many_sessions_is_told_when_to_come_back_and_others_are_let_in(self):
        self.configure(maximum_sessions_per_principal=2)
        first = self.alice.initialize().headers["MCP-Session-Id"]
        second = self.alice.initialize().headers["MCP-Session-Id"]
        refused = self.alice.initialize()
        self.assertEqual((refused.status, refused.headers["Retry-After"]), (429, "30"))
        other = self.bob.initialize()
        self.assertEqual(other.status, 200)
        self.bob.exchange("DELETE", MCP_Session_Id=other.headers["MCP-Session-Id"])
        self.assertEqual(self.alice.exchange("DELETE", MCP_Session_Id=first).status, 204)
        third = self.alice.initialize()
        self.assertEqual(third.status, 200)
        for session in (second, third.headers["MCP-Session-Id"]):
            self.alice.exchange("DELETE", MCP_Session_Id=session)
        await self.no_rows_are_left()

    async def test_a_store_that_is_full_says_when_to_come_back(self):
        self.configure(maximum_sessions=1)
        session = self.alice.initialize().headers["MCP-Session-Id"]
        refused = self.bob.initialize()
        self.assertEqual((refused.status, refused.headers["Retry-After"]), (503, "30"))
        self.alice.exchange("DELETE", MCP_Session_Id=session)
        admitted = self.bob.initialize()
        self.assertEqual(admitted.status, 200)
        self.bob.exchange("DELETE", MCP_Session_Id=admitted.headers["MCP-Session-Id"])
        await self.no_rows_are_left()

    async def test_an_idle_session_expires_and_one_with_an_open_stream_does_not(self):
        self.configure(session_idle_limit="'2 seconds'")
        # A session whose stream could be resumed is not idle.
        psql("SELECT tmcp.set_retention('1 second')")
        self.addCleanup(psql, "SELECT tmcp.set_retention('5 minutes')")
        async with connected(self.deployment.base, headers={"Authorization": "Bearer token-b"}) as user:
            idle = self.alice.initialize().headers["MCP-Session-Id"]
            await eventually(
                lambda: psql(f"SELECT count(*) FROM tmcp.sessions WHERE id = '{idle}'") == "0", "the session expires"
            )
            self.assertEqual(self.alice.ping(idle), 404)
            self.assertEqual(await user.call("echo", text="still here"), "still here")

    async def test_a_thousand_sessions_leave_nothing_behind(self):
        asyncio.get_running_loop().set_debug(False)
        started = time.monotonic()
        numbers = iter(range(SESSIONS))

        async def open_and_close(pool):
            for number in numbers:
                async with connected(self.deployment.base, pool=pool) as user:
                    self.assertEqual(await user.call("echo", text=str(number)), str(number))

        async with http_client({"Authorization": "Bearer token-a"}) as pool:
            await asyncio.gather(*(open_and_close(pool) for _ in range(AT_ONCE)))
        await self.no_rows_are_left()
        elapsed = time.monotonic() - started
        self.assertLess(elapsed, SESSIONS_WITHIN)
        print(f"{SESSIONS} sessions in {elapsed:.0f} s", end=" ", flush=True)
