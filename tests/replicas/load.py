"""The load of Pepay: events by the stream, by webhooks to all replicas in turn, and by both."""

import asyncio
import collections
import hashlib
import hmac
import json
import time

from wire import call

OBJECTS = 60
SECRET = "chaos-of-a-test-bridge"
# The number of an object modulo 3 decides how its events arrive: by the stream, by webhook or by both.
STREAM, WEBHOOK, BOTH = range(3)
# Seconds until a sender tries another replica.
PATIENCE = 5


class Load:
    def __init__(self, world):
        self.world = world
        # The ids that were published on the stream, and those that a replica has acknowledged.
        self.published, self.acknowledged = {}, {}
        # The times at which the database has lost events, by id.
        self.forgotten = {}
        self.new, self.duplicates, self.refusals = collections.Counter(), 0, collections.Counter()
        self.queues = [asyncio.Queue() for _ in range(OBJECTS)]
        self.senders = [asyncio.create_task(self.send_all(queue)) for queue in self.queues]
        self.turn = 0

    async def publish(self, until, rate, chance):
        """Publishes events of many objects. The events of an object have ascending steps."""
        steps, number = collections.Counter(), 0
        while time.monotonic() < until:
            which = chance.randrange(OBJECTS)
            steps[which] += 1
            number += 1
            now = int(time.time() * 1000)
            identity = f"evt_{now:013}-{number:08}"
            thing = {"object": "commerce_order", "id": f"ord_{which}", "step": steps[which], "pad": "x" * 300}
            event = {"id": identity, "object": "event", "type": "commerce.order.updated", "created": now // 1000}
            body = json.dumps(event | {"data": {"object": thing}}).encode()
            if which % 3 in (STREAM, BOTH):
                port = self.world.pepay
                answer = await call(port, "POST", "/_simulator/events?stream=1&webhook=0", body)
                if answer.status >= 300:
                    raise RuntimeError(f"the simulator refuses an event: {answer}")
                self.published[identity] = which
            if which % 3 in (WEBHOOK, BOTH):
                # One webhook in four is sent to two replicas at the same time.
                copies = 2 if chance.random() < 0.25 else 1
                self.queues[which].put_nowait((identity, body, copies))
            await asyncio.sleep(1 / rate)

    async def send_all(self, queue):
        """Sends the webhooks of one object, each once the one before is acknowledged."""
        while True:
            identity, body, copies = await queue.get()
            await asyncio.gather(*(self.send(identity, body) for _ in range(copies)))
            queue.task_done()

    async def send(self, identity, body):
        """Tries one replica after the other until one has acknowledged."""
        wait = 0.05
        while True:
            self.turn += 1
            replica = self.world.replicas[self.turn % len(self.world.replicas)]
            if await self.is_acknowledged(replica.port, identity, body):
                return
            await asyncio.sleep(wait)
            wait = min(1, wait * 2)

    async def is_acknowledged(self, port, identity, body):
        timestamp = str(int(time.time() * 1000))
        signature = hmac.new(SECRET.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers = [("x-pepay-timestamp", timestamp), ("x-pepay-signature", signature), ("x-pepay-event-id", identity)]
        try:
            answer = await call(port, "POST", "/webhooks/pepay", body, headers, limit=PATIENCE)
        except OSError:
            self.refusals["no answer"] += 1
            return False
        if answer.status != 200:
            self.refusals[answer.status] += 1
            if answer.status != 503 or b"\r\nretry-after:" not in answer.head.lower():
                raise RuntimeError(f"a webhook is answered {answer}")
            return False
        self.acknowledged[identity] = time.monotonic()
        if json.loads(answer.body)["duplicate"]:
            self.duplicates += 1
        else:
            self.new[identity] += 1
        return True

    async def all_sent(self, limit):
        async with asyncio.timeout(limit):
            await asyncio.gather(*(queue.join() for queue in self.queues))

    def failed(self):
        """Returns the error with which a sender has ended; None if none has."""
        return next((task.exception() for task in self.senders if task.done()), None)

    def forget(self, world):
        """Notes the events that the database has lost. Returns the number of acknowledged ones among them."""
        kept, now = {row[0] for row in world.server.ask("SELECT id FROM pepay_bridge.event")}, time.monotonic()
        arrived = set().union(*(target.sent for target in world.targets.values()))
        for identity in (self.acknowledged.keys() | arrived) - kept:
            self.forgotten[identity] = now
        return len(self.acknowledged.keys() - kept)

    def promised(self):
        """Returns the ids of all events that have to arrive. Pepay sends again what was published on the
        stream, and no webhook that was acknowledged."""
        is_kept = lambda identity, at: at > self.forgotten.get(identity, 0)
        return self.published.keys() | {one for one, at in self.acknowledged.items() if is_kept(one, at)}
