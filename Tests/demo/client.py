"""A small MCP client over Streamable HTTP, revision 2025-11-25. Only what the demonstration needs."""

import http.client
import itertools
import json
import queue
import threading
import time

PROTOCOL_VERSION = "2025-11-25"
TIMEOUT = 10  # seconds that an answer or a message may take


class Unexpected(Exception):
    """The server did something else than it should."""


class Session:
    """A session as a client holds it: an id that any server process accepts."""

    request_ids = itertools.count(1)

    def __init__(self, server):
        """Opens the session at one server."""
        self.id = None
        parameters = {
            "protocolVersion": PROTOCOL_VERSION,
            "capabilities": {},
            "clientInfo": {"name": "demo", "version": "1.0.0"},
        }
        self.call(server, "initialize", parameters)
        if not self.id:
            raise Unexpected("initialize was answered without MCP-Session-Id")
        status, _ = self.exchange(server, "POST", {"jsonrpc": "2.0", "method": "notifications/initialized"})
        if status != 202:
            raise Unexpected(f"notifications/initialized was answered with {status}")

    def headers(self, accept):
        headers = {"Accept": accept}
        if self.id:
            headers |= {"MCP-Session-Id": self.id, "MCP-Protocol-Version": PROTOCOL_VERSION}
        return headers

    def exchange(self, server, method, message=None):
        """Sends one HTTP request. Returns the status and the JSON-RPC messages that came back."""
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        try:
            headers = self.headers("application/json, text/event-stream")
            body = None
            if message is not None:
                headers["Content-Type"] = "application/json"
                body = json.dumps(message)
            connection.request(method, "/mcp", body, headers)
            response = connection.getresponse()
            content = response.read()
            self.id = self.id or response.headers.get("MCP-Session-Id")
            kind = response.headers.get_content_type()
            if kind == "text/event-stream":
                parser = EventParser()
                return response.status, [json.loads(data) for data in parser.feed(content) if data]
            return response.status, [json.loads(content)] if kind == "application/json" and content else []
        finally:
            connection.close()

    def call(self, server, method, parameters):
        """Sends a request to a server. Returns its result."""
        number = next(Session.request_ids)
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
        status, answers = self.exchange(server, "POST", message)
        for answer in answers:
            if answer.get("id") == number and "result" in answer:
                if answer["result"].get("isError"):
                    raise Unexpected(f"{method} failed: {answer['result']}")
                return answer["result"]
        raise Unexpected(f"{method} was answered with {status} {answers}")

    def tool(self, server, name, /, **arguments):
        return self.call(server, "tools/call", {"name": name, "arguments": arguments})

    def end(self, server):
        status, _ = self.exchange(server, "DELETE")
        if not 200 <= status < 300:
            raise Unexpected(f"DELETE was answered with {status}")


class Stream:
    """The standalone SSE stream of a session at one server, read by a thread."""

    def __init__(self, session, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        self.connection.request("GET", "/mcp", headers=session.headers("text/event-stream"))
        # The response takes the socket over, since the server closes the connection with the stream.
        socket = self.connection.sock
        self.response = self.connection.getresponse()
        kind = self.response.headers.get_content_type()
        if self.response.status != 200 or kind != "text/event-stream":
            raise Unexpected(f"GET was answered with {self.response.status} {kind}")
        socket.settimeout(None)
        self.arrived = queue.Queue()  # (message, seconds since an arbitrary start); message None: closed
        self.count = 0  # messages, taken from the queue or not
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        parser = EventParser()
        try:
            while piece := self.response.read1(65536):
                for data in parser.feed(piece):
                    if data:  # an event without data is the one that a stream starts with
                        self.count += 1
                        self.arrived.put((json.loads(data), time.monotonic()))
        except (OSError, http.client.HTTPException):
            pass  # the server was killed
        self.arrived.put((None, time.monotonic()))

    def next(self):
        """The next message, None when the stream was closed, and when that was."""
        try:
            return self.arrived.get(timeout=TIMEOUT)
        except queue.Empty:
            raise Unexpected(f"nothing arrived within {TIMEOUT} s") from None


class EventParser:
    """Cuts Server-Sent Events out of bytes as they come."""

    def __init__(self):
        self.rest = []  # pieces of a line that has not ended
        self.data = []

    def feed(self, piece):
        """The data of every event that ends in this piece."""
        events = []
        *ended, rest = piece.split(b"\n")
        for line in ended:
            line = (b"".join(self.rest) + line).rstrip(b"\r").decode()
            self.rest = []
            if line.startswith("data:"):
                self.data.append(line[5:].removeprefix(" "))
            elif not line and self.data:
                events.append("\n".join(self.data))
                self.data = []
        self.rest.append(rest)
        return events
