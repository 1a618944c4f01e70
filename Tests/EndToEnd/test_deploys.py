"""What clients notice of processes that are killed and of processes that are replaced: nothing but a pause."""

import asyncio
import contextlib
import json
import threading
import time
import unittest

from client import ResumingCall, connected
from deployment import DEADLINE, Deployment, eventually, send

CLIENTS = 6
MOVED_WITHIN = 1  # second after SIGTERM


class Sender:
    """Sends numbered messages to sessions, one after the other, until it is told to stop."""

    def __init__(self, users):
        self.users = users
        self.count = 0
        self.failure = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.send_all)

    def send_all(self):
        try:
            while not self.stopping.is_set():
                parameters = {"level": "info", "data": self.count}
                message = {"jsonrpc": "2.0", "method": "notifications/message", "params": parameters}
                send([user.session for user in self.users], json.dumps(message))
                self.count += 1
        except Exception as failure:
            self.failure = failure

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(DEADLINE)

    async def reach(self, count):
        await eventually(lambda: self.failure or self.count >= count, f"{count} messages are sent")

    async def everything_arrived(self, test):
        """Stops, and makes sure that everyone has got every message once and in order."""
        self.stopping.set()
        await asyncio.to_thread(self.thread.join, DEADLINE)
        test.assertIsNone(self.failure)
        for user in self.users:
            await user.events.wait_for(("log", self.count - 1))
            test.assertEqual(user.events.all, [("log", number) for number in range(self.count)])


class Deploys(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.deployment = Deployment()
        self.addCleanup(self.deployment.stop)

    @contextlib.asynccontextmanager
    async def users(self):
        async with contextlib.AsyncExitStack() as stack:
            yield [await stack.enter_async_context(connected(self.deployment.base)) for _ in range(CLIENTS)]

    @contextlib.asynccontextmanager
    async def counting(self, user, end):
        """A call of count that has reported its first progress. All of it must arrive, once and in order."""
        counting = ResumingCall(self.deployment.base, user, end)
        call = asyncio.create_task(counting.run())
        try:
            await eventually(lambda: len(counting.progress) >= 5, "the first progress is reported")
            yield counting
            await asyncio.wait_for(call, DEADLINE)
        finally:
            call.cancel()
        self.assertEqual(counting.progress, list(range(1, end + 1)))
        self.assertEqual(counting.answer, f"Counted to {end}.")

    async def moved(self, stream, before):
        """Breaks every connection until another process than before has a stream. Returns that process."""
        for attempt in range(10):
            opened = self.deployment.last_opened(stream)
            # A proxy that has just started begins with the first server, and this request is not to get the same again.
            self.deployment.break_connections(requests_before=1 + attempt)
            # Not whether it is detached, which it may be for a moment that is too short to be seen.
            await eventually(lambda: self.deployment.last_opened(stream) != opened, "the stream is resumed")
            holder = self.deployment.holder(stream)
            if holder is not before:
                return holder
        raise AssertionError("the proxy sent the client to the same process ten times")

    async def test_streams_survive_the_kill_of_the_process_that_holds_them(self):
        async with self.users() as users:
            with Sender(users) as sender:
                await sender.reach(10)
                victim = self.deployment.holder(users[0].session)
                victim.kill()
                sent = sender.count
                await eventually(
                    lambda: self.deployment.hold_all([user.session for user in users], without=victim),
                    "every stream is on a process that lives",
                )
                await sender.reach(sent + 10)
                await sender.everything_arrived(self)
            victim.start()

    async def test_the_stream_of_a_request_survives_the_kill_of_the_process_that_holds_it(self):
        async with connected(self.deployment.base) as user:
            async with self.counting(user, 60) as counting:
                handler = self.deployment.holder(counting.stream)
                holder = await self.moved(counting.stream, handler)
                holder.kill()
            holder.start()

    async def test_the_official_client_comes_back_for_the_answer_to_its_request(self):
        async with connected(self.deployment.base) as user:
            progress = []

            async def report(value, *_):
                progress.append(value)
                if value == 5:
                    self.deployment.break_connections()

            result = await user.client.call_tool("count", {"to": 20}, progress_callback=report)
            self.assertEqual(result.content[0].text, "Counted to 20.")
            self.assertEqual(progress, list(range(1, 21)))

    async def test_streams_are_elsewhere_within_a_second_of_a_shutdown(self):
        async with self.users() as users:
            with Sender(users) as sender:
                await sender.reach(10)
                leaving = self.deployment.holder(users[0].session)
                leaving.terminate()
                _, elapsed = await eventually(
                    lambda: self.deployment.hold_all([user.session for user in users], without=leaving),
                    "every stream has moved",
                )
                self.assertLess(elapsed, MOVED_WITHIN)
                await sender.reach(sender.count + 10)
                await sender.everything_arrived(self)
            self.assertEqual(leaving.process.wait(DEADLINE), 0)
            print(f"moved within {elapsed * 1000:.0f} ms", end=" ", flush=True)

    async def test_a_shutdown_waits_for_the_request_that_is_being_handled(self):
        async with connected(self.deployment.base) as user:
            async with self.counting(user, 30) as counting:
                handler = self.deployment.holder(counting.stream)
                handler.terminate()
            self.assertEqual(handler.process.wait(DEADLINE), 0)

    async def test_a_shutdown_waits_for_a_request_whose_client_is_at_another_process(self):
        async with connected(self.deployment.base) as user:
            async with self.counting(user, 60) as counting:
                handler = self.deployment.holder(counting.stream)
                await self.moved(counting.stream, handler)
                self.assertIsNone(counting.answer)
                handler.terminate()
            self.assertEqual(handler.process.wait(DEADLINE), 0)
