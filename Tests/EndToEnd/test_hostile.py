"""Requests that no client should make, of a kind that a seed decides. The server refuses them and is none the worse."""

import asyncio
import json
import os
import random
import re
import socket
import threading
import time
import unittest

from deployment import DEADLINE, Server, eventually, psql

SECONDS = 20
THREADS = 8
MEMORY_GROWTH = 64 * 1024 * 1024  # bytes, between the first quarter of the run and its end

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "fuzz", "version": "1"}},
}
MODERN = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
VALID = [
    INITIALIZE,
    {"jsonrpc": "2.0", "id": 2, "method": "ping"},
    {"jsonrpc": "2.0", "id": "3", "method": "tools/list", "params": {}},
    {"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}}},
    {"jsonrpc": "2.0", "id": 5, "method": "resources/subscribe", "params": {"uri": "note://fuzz"}},
    {"jsonrpc": "2.0", "id": 6, "method": "logging/setLevel", "params": {"level": "info"}},
    {"jsonrpc": "2.0", "id": 7, "method": "prompts/get", "params": {"name": "summarize", "arguments": {"name": "n"}}},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4}},
    {"jsonrpc": "2.0", "id": "AAAAAAAAAAAAAAAAAAAAAA", "result": {}},
    {"jsonrpc": "2.0", "id": 8, "error": {"code": -1, "message": "no"}},
    {"jsonrpc": "2.0", "id": 9, "method": "server/discover", "params": {"_meta": MODERN}},
    {"jsonrpc": "2.0", "id": 10, "method": "tools/call", "params": {"_meta": MODERN, "name": "echo", "requestState": "{}"}},
    {
        "jsonrpc": "2.0",
        "id": 11,
        "method": "subscriptions/listen",
        "params": {"_meta": MODERN, "notifications": {"toolsListChanged": True, "resourceSubscriptions": ["note://fuzz"]}},
    },
]
ODD_VALUES = [
    None, True, -1, 0, 1.5, 1e308, 2**63, -(2**63) - 1, "", "\u0000", "\ud800", "\U0010ffff", "x" * 300, [], {}, [[]],
    {"": None}, "../..", "note://%00", "'; DROP TABLE demo.notes; --", "$1", "\r\nX-Injected: 1",
]
ODD_TEXT = [
    b"", b"{", b"}", b"null", b"[]", b"[{}]", b'"', b"\xff\xfe", b"\x00", b"{}{}", b'{"jsonrpc":"2.0",}', b"1e999", b"NaN",
    b"[" * 100_000, b'{"a":' * 50_000, b'{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
    b"\xef\xbb\xbf{}", b" " * 65536, b'"' + b"\\u0000" * 10_000 + b'"',
]
ODD_FIELDS = [
    "MCP-Session-Id: %s", "MCP-Protocol-Version: 1999-01-01", "MCP-Protocol-Version: ", "Last-Event-ID: session/1",
    "Last-Event-ID: session/99999999999999999999", "Last-Event-ID: ../../x/1", "Last-Event-ID: ", "Origin: null",
    "Origin: http://localhost.evil.example", "Origin: http://127.0.0.1:1", "Content-Length: 0", "Content-Length: 99999999999",
    "Content-Length: -1", "Content-Length: 1\r\nContent-Length: 2", "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked", "Expect: 100-continue", "Connection: upgrade\r\nUpgrade: h2c", "Content-Encoding: gzip",
    "Content-Type: text/plain", "Accept: text/plain", "Accept: */*;q=0", "X: a\rX-Injected: 1", "X: a\nX-Injected: 1",
    "X: \x00", "X : 1", " folded", "MCP-Session-Id: a\r\nMCP-Session-Id: b", "MCP-Session-Id: /", "MCP-Session-Id: \u00e9",
    "MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: =?base64?*?=", "Mcp-Param-X: =?base64?",
    "Authorization: Bearer x", "Cookie: " + "c" * 5000, "X-Long: " + "x" * 100_000, "Host: evil.example", "Host: ",
]
METHODS = ["POST"] * 12 + ["GET", "GET", "DELETE", "OPTIONS", "HEAD", "PUT", "PATCH", "TRACE", "CONNECT", "", "PO ST", "post"]
PATHS = ["/mcp"] * 12 + [
    "/sse", "/message", "/message?session_id=%s", "/message?session_id=%00", "/mcp?x=%zz", "/mcp/", "//mcp", "/../mcp", "*",
    "http://localhost/mcp", "/health", "/" + "p" * 20_000, "/mcp#f", "/%6dcp",
]


class Fuzzer:
    """Makes requests, sends them and looks at what comes back. One for each thread."""

    def __init__(self, seed, port, initialize):
        self.random = random.Random(seed)
        self.address = ("127.0.0.1", port)
        self.initialize = initialize
        self.sessions = [initialize(), initialize(), "unknown"]
        self.fields = []
        self.statuses = {}
        self.wrong = []

    def mutated(self, value, depth=0):
        """A JSON value with something odd somewhere in it."""
        chance = self.random.random()
        if chance < 0.15 or depth > 4:
            return self.random.choice(ODD_VALUES)
        if isinstance(value, dict):
            copy = {
                key: self.mutated(member, depth + 1) if self.random.random() < 0.4 else member
                for key, member in value.items()
                if self.random.random() < 0.93
            }
            if chance > 0.9:
                copy[str(self.random.choice(ODD_VALUES))] = self.random.choice(ODD_VALUES)
            return copy
        return value

    def body(self):
        chance = self.random.random()
        if chance < 0.2:
            return self.random.choice(ODD_TEXT)
        if chance < 0.25:
            return self.random.randbytes(self.random.choice([1, 100, 10_000]))
        if chance < 0.26:
            return b" " * (5 * 1024 * 1024)
        message = self.random.choice(VALID)
        if "_meta" in message.get("params", {}):
            self.fields = ["MCP-Protocol-Version: 2026-07-28", f"Mcp-Method: {message['method']}", "Mcp-Name: echo"]
        if chance < 0.85:
            message = self.mutated(message)
        if chance < 0.35:
            message = [message] * self.random.choice([1, 2, 51])
        text = json.dumps(message, ensure_ascii=self.random.random() < 0.9).encode(errors="surrogatepass")
        if chance > 0.97:
            text = text[: self.random.randrange(len(text) + 1)]
        return text

    def request(self):
        session = self.random.choice(self.sessions)
        self.fields = []
        body = self.body()
        path = self.random.choice(PATHS).replace("%s", session)
        lines = [f"{self.random.choice(METHODS)} {path} HTTP/1.1", "Host: localhost"]
        if self.random.random() < 0.9:
            lines.append("Accept: application/json, text/event-stream")
        if self.random.random() < 0.9:
            lines.append("Content-Type: application/json")
        if self.random.random() < 0.8:
            lines.append(f"MCP-Session-Id: {session}")
        if self.random.random() < 0.95:
            lines.append(f"Content-Length: {len(body)}")
        if self.random.random() < 0.4:
            lines.append("Connection: close")
        lines += [field for field in self.fields if self.random.random() < 0.97]
        while self.random.random() < 0.25:
            lines.append(self.random.choice(ODD_FIELDS).replace("%s", session))
        return "\r\n".join(lines).encode(errors="surrogatepass") + b"\r\n\r\n" + body

    def bytes_to_send(self):
        chance = self.random.random()
        if chance < 0.05:
            return self.random.randbytes(self.random.choice([1, 20, 500, 50_000]))
        if chance < 0.15:
            return b"".join(self.request() for _ in range(self.random.randrange(2, 8)))
        if chance < 0.2:
            whole = self.request()
            return whole[: self.random.randrange(len(whole) + 1)]
        return self.request()

    def attack(self):
        """One connection: what is sent, how it ends, and what came back."""
        data = self.bytes_to_send()
        ending = self.random.random()
        received = b""
        with socket.create_connection(self.address, timeout=DEADLINE) as connection:
            # A stream stays open, and a request that is not complete is waited for: there is no end to wait for.
            connection.settimeout(0.05)
            try:
                for piece in [data[i : i + 65536] for i in range(0, len(data), 65536)]:
                    connection.sendall(piece)
                if ending < 0.15:  # without reading, and at once
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                    return
                if ending < 0.4:
                    connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    received += piece
            except OSError:
                pass
        self.judge(data, received)

    def judge(self, data, received):
        for status in re.findall(rb"(?:\A|(?<=\n)|(?<=[}\]]))HTTP/1\.1 (\d{3}) ", received):
            status = int(status)
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if status >= 500:
                self.wrong.append((status, data[:2000]))
        if re.search(rb"(?im)^x-injected:", received):
            self.wrong.append(("an injected header", data[:2000]))

    def run(self, until):
        while time.monotonic() < until and not self.wrong:
            if self.random.random() < 0.05:  # some were ended
                self.sessions[self.random.randrange(2)] = self.initialize()
            self.attack()


class Hostile(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.server = Server("--store", "hostile", "--idle-timeout", "5")
        self.addCleanup(self.stop)

    def stop(self):
        self.assertEqual(self.server.stop(), 0)

    def initialize(self):
        """Opens a session as one should. Returns its id."""
        body = json.dumps(INITIALIZE).encode()
        head = (
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE) as connection:
            connection.sendall(head.encode() + body)
            reply = b""
            while piece := connection.recv(65536):
                reply += piece
        found = re.search(rb"(?i)\r\nmcp-session-id: (\S+)\r\n", reply)
        self.assertIsNotNone(found, reply)
        return found[1].decode()

    def fuzz(self, seed, seconds):
        """Attacks from several threads. Returns how often each status came back."""
        fuzzers = [Fuzzer(seed + number, self.server.port, self.initialize) for number in range(THREADS)]
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=fuzzer.run, args=[until]) for fuzzer in fuzzers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds + DEADLINE)
        statuses = {}
        for fuzzer in fuzzers:
            self.assertEqual(fuzzer.wrong, [], f"seed {seed}")
            for status, count in fuzzer.statuses.items():
                statuses[status] = statuses.get(status, 0) + count
        return statuses

    async def test_whatever_is_sent_the_server_refuses_it_and_goes_on(self):
        seed = int(os.environ.get("TMCP_SEED") or random.randrange(10**9))
        print(f"TMCP_SEED={seed}", end=" ", flush=True)
        descriptors = self.server.count_descriptors()
        await asyncio.to_thread(self.fuzz, seed, SECONDS / 4)
        memory = self.server.resident_bytes()
        statuses = await asyncio.to_thread(self.fuzz, seed + 1000, SECONDS * 3 / 4)
        self.assertIsNone(self.server.process.poll(), "the server has ended")
        # Every kind of answer was among them.
        self.assertLessEqual({200, 202, 400, 404, 405}, set(statuses))
        self.initialize()
        await eventually(
            lambda: self.server.count_descriptors() <= descriptors,
            f"as many descriptors are open as at the start, {descriptors}",
            within=30,
        )
        growth = self.server.resident_bytes() - memory
        self.assertLess(growth, MEMORY_GROWTH)
        psql("SELECT FROM demo.notes LIMIT 1")
        print(f"{sum(statuses.values())} answers {dict(sorted(statuses.items()))}", end=" ", flush=True)
        print(f"{growth // 1024} KiB more", end=" ", flush=True)
