"""The official Python client, and what it is told."""

import asyncio
import contextlib
import json
import warnings

import httpx2
import mcp.types as types
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from mcp.shared.exceptions import MCPDeprecationWarning

from deployment import DEADLINE, eventually, psql

# The client warns of what the next revision no longer has.
warnings.simplefilter("ignore", MCPDeprecationWarning)


class Events:
    """What a client was told, in the order in which it was."""

    def __init__(self):
        self.all = []
        self.changed = asyncio.Condition()

    async def add(self, event):
        async with self.changed:
            self.all.append(event)
            self.changed.notify_all()

    async def wait_for(self, wanted, within=DEADLINE):
        """Waits until an event is there. Returns those before it."""
        async with self.changed:
            try:
                await asyncio.wait_for(self.changed.wait_for(lambda: wanted in self.all), within)
            except TimeoutError:
                raise AssertionError(f"{wanted} did not arrive within {within} s, but {self.all}") from None
        return self.all[: self.all.index(wanted)]


class User:
    """A client with a session, whose user, model and folders answer at once."""

    def __init__(self):
        self.events = Events()
        self.session = None
        self.questions = []

    async def heard(self, message):
        """Keeps a notification, reduced to what the tests look at."""
        message = getattr(message, "root", message)
        if isinstance(message, Exception):
            await self.events.add(("failure", repr(message)))
        elif isinstance(message, types.ResourceUpdatedNotification):
            await self.events.add(("updated", str(message.params.uri)))
        elif isinstance(message, types.ToolListChangedNotification):
            await self.events.add(("tools changed",))

    async def logged(self, parameters):
        data = parameters.data
        await self.events.add(("log", len(data) if isinstance(data, str) and len(data) > 1000 else data))

    async def sample(self, _, parameters):
        self.questions.append(parameters.messages[0].content.text)
        return types.CreateMessageResult(
            role="assistant", content=types.TextContent(type="text", text="forty-two"), model="test"
        )

    async def elicit(self, _, parameters):
        self.questions.append(parameters.message)
        return types.ElicitResult(action="accept", content={"answer": "blue"})

    async def roots(self, _):
        return types.ListRootsResult(roots=[types.Root(uri="file:///project", name="project")])

    def connection(self, target, mode):
        """The official client, to be entered, which asks and tells this user."""
        return Client(
            target,
            mode=mode,
            read_timeout_seconds=30,
            sampling_callback=self.sample,
            elicitation_callback=self.elicit,
            list_roots_callback=self.roots,
            logging_callback=self.logged,
            message_handler=self.heard,
        )

    async def call(self, tool, /, **arguments):
        """Calls a tool. Returns the text that it answers with."""
        result = await self.client.call_tool(tool, arguments, read_timeout_seconds=DEADLINE)
        text = result.content[0].text
        if result.is_error:
            raise AssertionError(f"{tool}: {text}")
        return text


@contextlib.asynccontextmanager
async def http_client(headers=None):
    async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=300), trust_env=False) as client:
        yield client


@contextlib.asynccontextmanager
async def connected(base, transport="http", headers=None, pool=None):
    """A user whose session is open, over Streamable HTTP or over HTTP+SSE, and whose stream is, too."""
    user = User()

    async def note_session(response):
        user.session = response.headers.get("mcp-session-id") or user.session

    async with contextlib.AsyncExitStack() as stack:
        if transport == "http":
            http = pool or await stack.enter_async_context(http_client(headers))
            if not pool:
                http.event_hooks = {"response": [note_session]}
            target = streamable_http_client(f"{base}/mcp", http_client=http)
        else:
            target = sse_client(
                f"{base}/sse", headers=headers, on_session_created=lambda session: setattr(user, "session", session)
            )
        user.client = await stack.enter_async_context(user.connection(target, mode="legacy"))
        if not pool:
            await eventually(
                lambda: psql(f"SELECT count(*) FROM tmcp.tmcp_sessions WHERE id = '{user.session}'") == "1",
                "the stream of a session is open",
            )
        yield user


class ResumingCall:
    """A call of the tool count within a user's session that comes back to its stream, however often that breaks.

    The official client comes back too, but from where it was at the time before when a stream breaks again."""

    def __init__(self, base, user, end):
        self.url = f"{base}/mcp"
        self.end = end
        self.headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Session-Id": user.session,
            "MCP-Protocol-Version": "2025-11-25",
        }
        self.last_event = None
        self.progress = []
        self.answer = None

    @property
    def stream(self):
        """What the stream is called in the database."""
        return f"{self.headers['MCP-Session-Id']}/{self.last_event.partition('/')[0]}"

    async def run(self):
        async with http_client(self.headers) as http:
            call = {"name": "count", "arguments": {"to": self.end}, "_meta": {"progressToken": "count"}}
            message = {"jsonrpc": "2.0", "id": "count", "method": "tools/call", "params": call}
            request = http.build_request("POST", self.url, json=message)
            while self.answer is None:
                with contextlib.suppress(httpx2.TransportError):
                    response = await http.send(request, stream=True)
                    try:
                        # The proxy says 502 or 503 for a server that has just gone.
                        if response.status_code not in (200, 502, 503):
                            raise AssertionError(f"{request.method} was answered with {response.status_code}")
                        async for line in response.aiter_lines():
                            if response.status_code == 200:
                                self.take(line)
                    finally:
                        await response.aclose()
                request = http.build_request("GET", self.url, headers={"Last-Event-ID": self.last_event})
                await asyncio.sleep(0.1)  # as a client that was told to retry after 100 ms

    def take(self, line):
        field, _, value = line.partition(": ")
        if field == "id":
            self.last_event = value
        elif field == "data":
            message = json.loads(value)
            if message.get("id") == "count":
                self.answer = message["result"]["content"][0]["text"]
            else:
                self.progress.append(message["params"]["progress"])
