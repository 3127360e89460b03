"""Three targets that answer in different ways and record every request."""

import asyncio
import collections
import json
import time

from wire import read_request


class Request:
    """One request that has reached a target."""

    def __init__(self, headers, event):
        self.at = time.monotonic()
        self.id = headers["webhook-id"]
        self.term = int(headers.get("pepay-bridge-term", 0))
        self.sequence = int(headers["pepay-bridge-sequence"])
        self.object, self.step = event["data"]["object"]["id"], event["data"]["object"]["step"]
        self.accepted = False


class Target:
    def __init__(self, name, port, settings, chance):
        self.name, self.port, self.settings, self.chance = name, port, settings, chance
        self.requests = []
        # The first accepted request of each id, and pairs of the first and a later one.
        self.first, self.repeats = {}, []
        self.sent = collections.Counter()

    async def start(self):
        self.listener = await asyncio.start_server(self.serve, "127.0.0.1", self.port, backlog=256)

    async def answer(self, request):
        """Returns the status, or None to break the connection."""
        raise NotImplementedError

    async def serve(self, reader, writer):
        try:
            while True:
                headers, body = await read_request(reader)
                request = Request(headers, json.loads(body))
                self.requests.append(request)
                self.sent[request.id] += 1
                status = await self.answer(request)
                if status is None:
                    break
                if status == 200:
                    self.accept(request)
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            writer.transport.abort()

    def accept(self, request):
        request.accepted = True
        if first := self.first.get(request.id):
            self.repeats.append((first, request))
        else:
            self.first[request.id] = request


class Good(Target):
    """Accepts everything at once."""

    async def answer(self, request):
        return 200


class Failing(Target):
    """Slow, and fails one request in seven."""

    async def answer(self, request):
        await asyncio.sleep(self.chance.uniform(0.01, 0.1))
        return self.chance.choices([200, 500, 503, None], [86, 7, 4, 3])[0]


class Held(Target):
    """Accepts everything. The bridge may send it no event twice, whatever the outcome of the first request."""

    async def answer(self, request):
        await asyncio.sleep(0.005)
        return 200
