"""Everything that the official client offers, through a proxy that sends each request to another process."""

import asyncio
import unittest

from client import connected
from deployment import Deployment, eventually, psql
from mcp.shared.exceptions import MCPError


class ClientTests:
    transport = None
    version = None

    @classmethod
    def setUpClass(cls):
        cls.deployment = Deployment()
        cls.addClassCleanup(cls.deployment.stop)

    def connected(self):
        return connected(self.deployment.base, self.transport)

    async def test_a_session_is_known_to_every_process(self):
        async with self.connected() as user:
            self.assertEqual(user.client.protocol_version, self.version)
            self.assertEqual(user.client.server_info.name, "tmcp-server")
            for number in range(6):
                await user.client.send_ping()
                self.assertEqual(await user.call("echo", text=str(number)), str(number))

    async def test_tools(self):
        async with self.connected() as user:
            tools = {tool.name for tool in (await user.client.list_tools()).tools}
            self.assertLessEqual({"echo", "count", "write_note"}, tools)
            added = f"added-{self.transport}"
            self.assertEqual(await user.call("add_tool", name=added), f"Added {added}.")
            await user.events.wait_for(("tools changed",))
            self.assertIn(added, {tool.name for tool in (await user.client.list_tools()).tools})
            self.assertEqual(await user.call(added), f"{added} was called")
            with self.assertRaises(MCPError) as refused:
                await user.client.call_tool("no-such-tool")
            self.assertEqual(refused.exception.error.code, -32602)

    async def test_resources_and_prompts(self):
        name = f"plan-{self.transport}"
        async with self.connected() as user:
            await user.call("write_note", name=name, text="first a slice")
            resources = (await user.client.list_resources()).resources
            self.assertIn(f"note://{name}", {str(resource.uri) for resource in resources})
            templates = (await user.client.list_resource_templates()).resource_templates
            self.assertEqual([template.uri_template for template in templates], ["note://{name}"])
            contents = (await user.client.read_resource(f"note://{name}")).contents
            self.assertEqual([content.text for content in contents], ["first a slice"])
            with self.assertRaises(MCPError) as refused:
                await user.client.read_resource("note://nowhere")
            self.assertEqual(refused.exception.error.code, -32002)
            self.assertEqual([prompt.name for prompt in (await user.client.list_prompts()).prompts], ["summarize"])
            prompt = await user.client.get_prompt("summarize", {"name": name})
            self.assertIn("first a slice", prompt.messages[0].content.text)

    async def test_subscriptions_hear_of_changes_by_a_tool_and_by_psql(self):
        name = f"watched-{self.transport}"
        updated = ("updated", f"note://{name}")
        async with self.connected() as user, self.connected() as other:
            await user.client.subscribe_resource(f"note://{name}")
            await other.call("write_note", name=name, text="by a tool")
            await user.events.wait_for(updated)
            psql(f"UPDATE demo.notes SET text = 'by psql' WHERE name = '{name}'")
            await other.call("write_note", name=f"{name}-unwatched", text="")
            await eventually(lambda: user.events.all.count(updated) == 2, "a change by psql is told")
            await user.client.unsubscribe_resource(f"note://{name}")
            await other.call("write_note", name=name, text="nobody hears of this")
            await self.settled(user, "after it")
            self.assertEqual(user.events.all.count(updated), 2)
            self.assertEqual(other.events.all, [])

    async def settled(self, user, word):
        """Waits until everything that was sent to a session before this has arrived."""
        await eventually(lambda: psql("SELECT count(*) FROM tmcp.outbox") == "0", "the outbox is empty")
        message = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"%s"}}' % word
        psql(f"SELECT tmcp.send('tmcp', '{user.session}', '{message}')")
        await user.events.wait_for(("log", word))

    async def test_log_levels(self):
        async with self.connected() as user, self.connected() as other:
            await user.client.set_logging_level("error")
            await other.call("announce", text="too quiet")
            await user.client.set_logging_level("info")
            await other.call("announce", text="loud enough")
            self.assertEqual(await user.events.wait_for(("log", "loud enough")), [])

    async def test_progress(self):
        async with self.connected() as user:
            reported = []

            async def report(progress, total, _):
                reported.append((progress, total))

            result = await user.client.call_tool("count", {"to": 5}, progress_callback=report)
            self.assertEqual(result.content[0].text, "Counted to 5.")
            self.assertEqual(reported, [(number, 5) for number in range(1, 6)])

    async def test_a_cancelled_request_stops_in_whichever_process_it_runs(self):
        async with self.connected() as user:
            # Sooner and later than a request takes to become known to all processes. The proxy sends the cancellation
            # elsewhere than the request.
            for progress_before in (1, 15):
                started = asyncio.Event()

                async def report(progress, *_, wanted=progress_before, started=started):
                    if progress >= wanted:
                        started.set()

                call = asyncio.create_task(user.client.call_tool("count", {"to": 1000}, progress_callback=report))
                await asyncio.wait_for(started.wait(), 15)
                call.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await call
                await eventually(lambda: self.stopped(user), "the handler has stopped")
                # Answered behind what was said before: the client fails if something arrives while it closes.
                await user.client.send_ping()

    def stopped(self, user):
        """Whether a cancelled request of the session has its answer, which is the last that is said on its stream."""
        last = psql(
            f"""SELECT m.data FROM tmcp.messages AS m JOIN tmcp.streams AS s USING (stream)
                WHERE s.session_id = '{user.session}' ORDER BY m.event_id DESC LIMIT 1"""
        )
        return '"code":-32800' in last

    async def test_sampling_elicitation_and_roots(self):
        async with self.connected() as user:
            # Often enough for every pair of processes to be the one that asks and the one that is answered.
            for number in range(9):
                question = f"question {number}"
                self.assertEqual(await user.call("ask_model", question=question), "forty-two")
                self.assertEqual(await user.call("ask_user", question=question), "blue")
                self.assertIn("file:///project", await user.call("list_roots"))
                self.assertEqual(user.questions[-2:], [question, question])

    async def test_a_message_far_above_the_limit_of_a_notification(self):
        async with self.connected() as user:
            await user.call("big_message", bytes=900_000)
            await user.events.wait_for(("log", 900_000))


class HTTPTransport(ClientTests, unittest.IsolatedAsyncioTestCase):
    transport = "http"
    version = "2025-11-25"


class SSETransport(ClientTests, unittest.IsolatedAsyncioTestCase):
    transport = "sse"
    version = "2025-11-25"
