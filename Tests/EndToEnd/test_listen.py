"""Revision 2026-07-28 behind the proxy: no sessions, and changes on streams of their own; next to older clients."""

import asyncio
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import unittest

from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated, ToolsListChanged

from client import User, connected, http_client
from deployment import DEADLINE, Deployment, Server, eventually, psql

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


SERVER_INFO = {"name": "tmcp-server", "title": "Notes", "version": "1.0.0"}


@contextlib.asynccontextmanager
async def modern(base, headers=None):
    """A user of the official client, which finds out by itself what the server speaks."""
    user = User()
    user.sessions = []

    async def note_session(response):
        if session := response.headers.get("mcp-session-id"):
            user.sessions.append(session)

    async with http_client(headers) as http:
        http.event_hooks = {"response": [note_session]}
        target = streamable_http_client(f"{base}/mcp", http_client=http)
        async with user.connection(target, mode="auto") as user.client:
            yield user


class Listener:
    """The stream of one subscriptions/listen, message by message, as it is on the wire."""

    def __init__(self, response):
        self.response = response
        self.lines = response.aiter_lines()

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, base, notifications, number=1, headers=None):
        message = {
            "jsonrpc": "2.0",
            "id": number,
            "method": "subscriptions/listen",
            "params": {"_meta": META, "notifications": notifications},
        }
        fields = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "subscriptions/listen",
        }
        async with http_client(headers) as http:
            async with http.stream("POST", f"{base}/mcp", json=message, headers=fields) as response:
                if response.status_code != 200:
                    raise AssertionError(f"{response.status_code}: {await response.aread()}")
                yield cls(response)

    async def message(self):
        """The next message; None at the end of the stream."""
        async with asyncio.timeout(DEADLINE):
            async for line in self.lines:
                if line.startswith("data: "):
                    return json.loads(line.removeprefix("data: "))
        return None


def updated(name, number=1):
    meta = {"io.modelcontextprotocol/subscriptionId": number}
    return {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"_meta": meta, "uri": f"note://{name}"}}


def holder(deployment):
    """The server that holds the only listening stream."""
    node = psql("SELECT node FROM tmcp.listener_status")
    return next(server for server in deployment.servers if server.node == node)


class Listening(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.deployment = Deployment()
        cls.addClassCleanup(cls.deployment.stop)

    async def asyncTearDown(self):
        await eventually(lambda: psql("SELECT count(*) FROM tmcp.listener_status") == "0", "no stream is left behind")

    async def test_the_official_client_finds_a_server_without_sessions(self):
        async with modern(self.deployment.base) as user:
            self.assertEqual(user.client.protocol_version, "2026-07-28")
            self.assertEqual(user.client.server_info.name, "tmcp-server")
            for number in range(6):
                self.assertEqual(await user.call("echo", text=str(number)), str(number))
            tools = {tool.name for tool in (await user.client.list_tools()).tools}
            self.assertLessEqual({"echo", "count", "write_note"}, tools)
            await user.call("write_note", name="modern", text="first a slice")
            contents = (await user.client.read_resource("note://modern")).contents
            self.assertEqual([content.text for content in contents], ["first a slice"])
            with self.assertRaises(MCPError) as refused:
                await user.client.read_resource("note://nowhere")
            self.assertEqual(refused.exception.error.code, -32602)
            self.assertEqual(user.sessions, [])

    async def test_a_tool_that_needs_a_session_says_that_there_is_none(self):
        async with modern(self.deployment.base) as user:
            result = await user.client.call_tool("big_message", {"bytes": 1})
            self.assertTrue(result.is_error)
            self.assertIn("no session", result.content[0].text)

    async def test_progress_comes_ahead_of_the_answer(self):
        seen = []

        async def progressed(progress, total, message):
            seen.append((progress, total))

        async with modern(self.deployment.base) as user:
            result = await user.client.call_tool("count", {"to": 3}, progress_callback=progressed)
            self.assertEqual(result.content[0].text, "Counted to 3.")
        self.assertEqual(seen, [(1, 3), (2, 3), (3, 3)])

    async def test_a_question_is_answered_in_a_second_round(self):
        async with modern(self.deployment.base) as user:
            self.assertEqual(await user.call("ask_model", question="what is six times seven?"), "forty-two")
            self.assertEqual(await user.call("ask_user", question="which colour?"), "blue")
            self.assertIn("file:///project", await user.call("list_roots"))
            self.assertEqual(user.questions, ["what is six times seven?", "which colour?"])

    async def test_changes_by_a_tool_and_by_psql_reach_the_official_client(self):
        async with modern(self.deployment.base) as user, modern(self.deployment.base) as other:
            async with user.client.listen(
                tools_list_changed=True, prompts_list_changed=True, resource_subscriptions=["note://heard"]
            ) as subscription:
                self.assertEqual(list(subscription.honored.resource_subscriptions), ["note://heard"])
                # What the server cannot tell of, it says so.
                self.assertIsNone(subscription.honored.prompts_list_changed)
                events = aiter(subscription)
                await other.call("write_note", name="heard", text="by a tool")
                self.assertEqual(await anext(events), ResourceUpdated("note://heard"))
                psql("UPDATE demo.notes SET text = 'by psql' WHERE name = 'heard'")
                self.assertEqual(await anext(events), ResourceUpdated("note://heard"))
                await other.call("add_tool", name="added-modern")
                self.assertEqual(await anext(events), ToolsListChanged())
                psql("SELECT tmcp.broadcast('tmcp', tmcp.list_changed('tools'), 'tools')")
                self.assertEqual(await anext(events), ToolsListChanged())

    async def test_one_update_by_psql_reaches_clients_of_both_eras_once(self):
        async with contextlib.AsyncExitStack() as stack:
            await (await stack.enter_async_context(modern(self.deployment.base))).call("write_note", name="both", text="")
            old = [await stack.enter_async_context(connected(self.deployment.base)) for _ in range(3)]
            for user in old:
                await user.client.subscribe_resource("note://both")
            new = [
                await stack.enter_async_context(
                    Listener.opened(self.deployment.base, {"resourceSubscriptions": ["note://both"]}, number)
                )
                for number in range(6)
            ]
            for number, listener in enumerate(new):
                acknowledged = await listener.message()
                self.assertEqual(acknowledged["method"], "notifications/subscriptions/acknowledged")
            # On every server, since the proxy takes them in turn.
            self.assertEqual(psql("SELECT count(DISTINCT node) FROM tmcp.listener_status"), "3")
            psql("UPDATE demo.notes SET text = 'once' WHERE name = 'both'")
            for number, listener in enumerate(new):
                self.assertEqual(await listener.message(), updated("both", number))
            for user in old:
                await user.events.wait_for(("updated", "note://both"))
            # What comes after it shows that it does not come twice.
            psql("SELECT tmcp.publish('tmcp', 'note://both', tmcp.resource_updated('note://both/last'))")
            psql("SELECT tmcp.broadcast('tmcp', tmcp.list_changed('tools'), 'tools')")
            for number, listener in enumerate(new):
                self.assertEqual(await listener.message(), updated("both/last", number))
            for user in old:
                before = await user.events.wait_for(("tools changed",))
                self.assertEqual(before, [("updated", "note://both"), ("updated", "note://both/last")])

    async def test_a_stream_carries_what_was_asked_for_and_nothing_else(self):
        everything = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
        wanted = {**everything, "resourceSubscriptions": ["note://a", "file:///etc/passwd"], "somethingElse": True}
        async with Listener.opened(self.deployment.base, wanted, "id of a string") as listener:
            self.assertNotIn("mcp-session-id", listener.response.headers)
            self.assertEqual(listener.response.headers["x-accel-buffering"], "no")
            self.assertEqual(
                await listener.message(),
                {
                    "jsonrpc": "2.0",
                    "method": "notifications/subscriptions/acknowledged",
                    "params": {
                        "_meta": {"io.modelcontextprotocol/subscriptionId": "id of a string"},
                        "notifications": {"toolsListChanged": True, "resourceSubscriptions": ["note://a"]},
                    },
                },
            )
            psql("SELECT tmcp.broadcast('tmcp', 'for sessions'), tmcp.log('tmcp', 'error', 'for sessions')")
            psql("SELECT tmcp.broadcast('tmcp', tmcp.list_changed('prompts'), 'prompts')")
            psql("SELECT tmcp.publish('tmcp', 'note://other', tmcp.resource_updated('note://other'))")
            psql("SELECT tmcp.publish('tmcp', 'note://a', 'no JSON')")
            psql("SELECT tmcp.publish('tmcp', 'note://a', tmcp.resource_updated('note://a'))")
            self.assertEqual(await listener.message(), updated("a", "id of a string"))

    async def test_a_stream_whose_process_dies_breaks_off_and_listening_again_misses_nothing(self):
        async with modern(self.deployment.base) as user:
            await user.call("write_note", name="survivor", text="old")
            with self.assertRaises(SubscriptionLost):
                async with user.client.listen(resource_subscriptions=["note://survivor"]) as subscription:
                    server = holder(self.deployment)
                    server.kill()
                    psql("UPDATE demo.notes SET text = 'new' WHERE name = 'survivor'")
                    async with asyncio.timeout(DEADLINE):
                        async for _ in subscription:
                            self.fail("the process that held the stream is gone")
            # Listen first, then read: the change is in what is read, or comes on the stream.
            async with user.client.listen(resource_subscriptions=["note://survivor"]):
                contents = (await user.client.read_resource("note://survivor", cache_mode="bypass")).contents
                self.assertEqual([content.text for content in contents], ["new"])
            server.start()

    async def test_a_stream_of_a_process_that_stops_ends_with_a_result(self):
        async with Listener.opened(self.deployment.base, {"toolsListChanged": True}, 7) as listener:
            await listener.message()
            server = holder(self.deployment)
            server.terminate()
            self.assertEqual(
                await listener.message(),
                {
                    "jsonrpc": "2.0",
                    "id": 7,
                    "result": {
                        "resultType": "complete",
                        "_meta": {
                            "io.modelcontextprotocol/subscriptionId": 7,
                            "io.modelcontextprotocol/serverInfo": SERVER_INFO,
                        },
                    },
                },
            )
            self.assertIsNone(await listener.message())
        self.assertEqual(server.process.wait(DEADLINE), 0)
        server.start()

    async def test_a_client_that_closes_its_stream_is_forgotten_at_once(self):
        async with Listener.opened(self.deployment.base, {"resourceSubscriptions": ["note://gone"]}) as listener:
            await listener.message()
            self.assertEqual(psql("SELECT subscriptions FROM tmcp.listener_status"), "1")
        _, seconds = await eventually(lambda: psql("SELECT count(*) FROM tmcp.listener_status") == "0", "it is gone")
        self.assertLess(seconds, 5)
        self.assertEqual(psql("SELECT count(*) FROM tmcp.stream_subscriptions"), "0")


class Outage(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.kill)

    def database(self, *action):
        control = [os.environ["TMCP_AS_SERVER"], pathlib.Path(os.environ["TMCP_BINDIR"], "pg_ctl"), "--silent", "--wait"]
        subprocess.run([*control, *action], check=True)

    async def test_a_stream_of_a_process_that_stops_ends_with_a_result_though_the_database_is_gone(self):
        base = f"http://127.0.0.1:{self.server.port}"
        async with Listener.opened(base, {"toolsListChanged": True}, 8) as listener:
            await listener.message()
            self.addCleanup(self.database, "start", f"--log={os.environ['TMCP_SERVER_LOG']}")
            self.database("stop", "--mode=immediate")
            self.server.terminate()
            async with asyncio.timeout(5):
                result = await listener.message()
            self.assertEqual((result["id"], result["result"]["resultType"]), (8, "complete"))


class Checker(unittest.TestCase):
    def test_an_independent_checker_finds_no_fault(self):
        deployment = Deployment()
        self.addCleanup(deployment.stop)
        checker = pathlib.Path(sys.executable).with_name("jbt-mcpcheck")
        result = subprocess.run(
            [checker, "--no-color", "--legacy-probes", "--probe", "all", "--json", f"{deployment.base}/mcp"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(len(report["checks"]), 8)
        self.assertLessEqual({check["status"] for check in report["checks"]}, {"pass", "warn"}, result.stdout)
        # The tools answer with text.
        warnings = {warning["code"] for check in report["checks"] for warning in check["warnings"]}
        self.assertEqual(warnings, {"schemas.output_schema_missing"}, result.stdout)


if __name__ == "__main__":
    unittest.main()
