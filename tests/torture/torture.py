"""Tests the real binary under faults, for a given time.

A simulated Pepay publishes events by the stream, by webhook, or by both. Four targets receive
them and answer in different ways. Every few seconds something fails: the process, its store,
its clock, the network, Pepay's answers, a target. At the end all faults are healed. Checked:

- every event of the stream, and every webhook that was acknowledged, has arrived at every
  target that accepts it;
- at the steady target, first arrivals are in the order of their object, for the objects
  whose events arrive by the stream alone;
- the steady target has no more repeats than requests can have been in flight when the
  process was killed;
- bodies of delivered events have been removed (runs of two minutes or more);
- memory no longer grows (runs of half an hour or more).

The same seed gives the same faults in the same order. Their exact times depend on the machine.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import bridge
from ports import hold
from stores import Postgres, Sqlite

SECRET = "torture-of-a-test-bridge"
KEY = "torture_key"
OBJECTS = 60
# The choosy target refuses the objects with numbers below this, always.
REFUSED = 7
CONCURRENCY = 16
# The number of acknowledged deliveries of one lane that may not be recorded yet (docs/delivery.md).
RUN = 32


async def call(port, method, path, body=b""):
    """Sends one HTTP request. Returns the status and the body of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body)
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


class Target:
    """A target whose status for each event is chosen by `temper`."""

    def __init__(self, name, port, temper, chance):
        self.name, self.port, self.temper, self.chance = name, port, temper, chance
        self.first, self.order, self.repeats = {}, collections.defaultdict(list), 0
        self.is_down, self.refuses = False, False
        self.connections = set()
        self.server = None

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port, backlog=256)

    async def fall(self):
        """Ends every connection and accepts none until `start`."""
        self.server.close()
        for writer in list(self.connections):
            writer.transport.abort()

    async def serve(self, reader, writer):
        self.connections.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = [line.split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line]
                headers = {name.lower(): value.strip() for name, value in lines}
                body = await reader.readexactly(int(headers[b"content-length"]))
                status = await self.temper(self, json.loads(body))
                if status is None:
                    writer.transport.abort()
                    return
                if status == 200:
                    self.accept(headers[b"webhook-id"].decode(), json.loads(body))
                extra = "retry-after: 1\r\n" if self.refuses else ""
                writer.write(f"HTTP/1.1 {status} X\r\n{extra}content-length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    def accept(self, identity, event):
        if identity in self.first:
            self.repeats += 1
            return
        self.first[identity] = time.monotonic()
        self.order[event["data"]["object"]["id"]].append(event["data"]["object"]["step"])


async def steady(target, _):
    return 503 if target.refuses else 200


async def slow(target, _):
    await asyncio.sleep(0.01)
    return 200


async def moody(target, _):
    return target.chance.choices([200, 500, 503, None], [85, 8, 4, 3])[0]


async def choosy(_, event):
    return 422 if event["data"]["object"]["number"] < REFUSED else 200


class World:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.chance = random.Random(arguments.seed)
        self.data = folder / "data"
        self.data.mkdir()
        self.port, self.admin, self.pepay = hold(3)
        tempers = {"steady": steady, "slow": slow, "moody": moody, "choosy": choosy}
        moods = random.Random(arguments.seed + 1)
        ports = hold(len(tempers))
        self.targets = {name: Target(name, port, tempers[name], moods) for name, port in zip(tempers, ports)}
        self.published, self.given_up, self.counts = {}, set(), collections.Counter()
        self.bridge = self.simulator = None
        self.samples = []
        self.injected = bridge.InjectedFaults(arguments.faults, self.data, folder / "control")
        if arguments.postgres:
            self.store = Postgres(folder, hold(1)[0], self.chance)
        else:
            self.store = Sqlite(self.data, self.injected, self.chance)
        self.configure(CONCURRENCY)

    def configure(self, concurrency):
        settings = f'concurrency = {concurrency}\ntimeout = "5s"\nretry_max = "2s"\n'
        own = {"choosy": "dead_on = [422]"}
        targets = {name: (target.port, settings + own.get(name, "")) for name, target in self.targets.items()}
        text = bridge.configuration(
            port=self.port,
            admin=self.admin,
            store=self.store.url,
            log="warn",
            pepay=self.pepay,
            key=KEY,
            secret=SECRET,
            targets=targets,
        )
        (self.folder / "bridge.toml").write_text(text)

    def spawn(self, arguments, log, environment=None):
        return bridge.spawn([self.arguments.bridge, *arguments], self.folder, log, environment)

    async def start_bridge(self):
        command = ["run", "--config", "bridge.toml"]
        self.bridge = self.spawn(command, "bridge.log", self.injected.environment)
        await self.answers(self.bridge, self.admin, "/status")

    async def start_simulator(self):
        options = {
            "--listen": f"127.0.0.1:{self.pepay}",
            "--api-key": KEY,
            "--webhook-url": f"http://127.0.0.1:{self.port}/webhooks/pepay",
            "--webhook-secret": SECRET,
            "--rest-retention": "10000000",
            "--replay-retention": "500",
            "--page-order": "newest" if self.arguments.seed % 2 else "next-to-cursor",
            "--list-sort": "insertion",
        }
        words = [word for pair in options.items() for word in pair]
        self.simulator = self.spawn(["simulator", *words], "simulator.log")
        await self.answers(self.simulator, self.pepay, "/_simulator/statistics")

    async def answers(self, process, port, path):
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            try:
                if (await call(port, "GET", path))[0] == 200:
                    return
            except (OSError, IndexError):
                pass
            await asyncio.sleep(0.05)
        self.fail(f"a process does not answer at {path}; it has ended with {process.poll()}")

    def fail(self, why):
        # Only processes of this run are ended.
        for process in (self.bridge, self.simulator):
            if process and process.poll() is None:
                process.kill()
        self.store.stop()
        kept = tempfile.mkdtemp(prefix="torture-kept-")
        shutil.copytree(self.folder, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("control"))
        sys.exit(f"seed {self.arguments.seed}: {why}\n{dict(self.counts)}\nkept in {kept}")

    async def fault(self, **fault):
        await call(self.pepay, "POST", "/_simulator/faults", json.dumps(fault).encode())

    async def publish(self, until):
        """Publishes events of many objects. The events of an object have ascending steps."""
        steps, number = collections.Counter(), 0
        while time.monotonic() < until:
            which = self.chance.randrange(OBJECTS)
            steps[which] += 1
            number += 1
            now = int(time.time() * 1000)
            identity = f"evt_{now:013}-{number:08}"
            # A third of the objects each arrive by the stream, by webhook and by both.
            stream, webhook = [(1, 0), (0, 1), (1, 2)][which % 3]
            thing = {"object": "commerce_order", "id": f"ord_{which}", "number": which, "step": steps[which]}
            event = {"id": identity, "object": "event", "type": "commerce.order.updated", "created": now // 1000}
            body = json.dumps(event | {"data": {"object": thing | {"pad": "x" * 300}}}).encode()
            status, answer = await call(
                self.pepay, "POST", f"/_simulator/events?stream={stream}&webhook={webhook}", body
            )
            if status >= 300:
                self.fail(f"the simulator refuses an event: {status} {answer!r}")
            self.published[identity] = which
            await asyncio.sleep(1 / self.arguments.rate)

    # The faults. Each one heals itself, or ends without help.

    async def kill(self):
        self.bridge.kill()
        self.bridge.wait()
        await self.start_bridge()

    async def terminate(self):
        self.bridge.terminate()
        try:
            code = await asyncio.to_thread(self.bridge.wait, 60)
        except subprocess.TimeoutExpired:
            self.fail("the bridge does not end after SIGTERM")
        if code != 0:
            self.fail(f"the bridge has ended with {code} after SIGTERM")
        await self.start_bridge()

    async def freeze(self):
        self.bridge.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.chance.uniform(1, 6))
        self.bridge.send_signal(signal.SIGCONT)

    async def wrong_clock(self):
        self.injected.set(bridge.CLOCK_ERROR, self.chance.choice([-3_600_000, -60_000, 60_000, 3_600_000]))
        await asyncio.sleep(self.chance.uniform(1, 5))
        self.injected.set(bridge.CLOCK_ERROR, 0)

    async def reload(self):
        self.configure(self.chance.choice([4, CONCURRENCY]))
        self.bridge.send_signal(signal.SIGHUP)

    async def stream_ends(self):
        ending = self.chance.choice(["eof", "reset", {"close": {"code": 1012, "reason": "restart"}}])
        await self.fault(fault="drop", ending=ending)

    async def stream_is_silent(self):
        await self.fault(fault="silence")

    async def stream_waits(self):
        await self.fault(fault="hold", wait="3s")

    async def noise(self):
        await self.fault(fault="frame", frame={"text": "{not json"})

    async def refused(self, endpoint, statuses, times):
        # By default the simulator asks for a wait of a quarter of an hour with a 429.
        status = self.chance.choice(statuses)
        wait = {"retry_after": {"seconds": 2}} if status == 429 else {}
        await self.fault(fault="answer", endpoint=endpoint, status=status, times=times, **wait)
        await self.stream_ends()

    async def token_refused(self):
        await self.refused("token", [401, 429, 500], 2)

    async def upgrade_refused(self):
        await self.refused("upgrade", [401, 429, 503], 2)

    async def rest_fails(self):
        await self.refused("rest", [429, 500, 503], 3)

    async def rest_hangs(self):
        await self.fault(fault="delay", endpoint="rest", wait="5s")
        await self.stream_ends()

    async def list_is_wrong(self):
        page = self.chance.choice(["repeat", "circle", "unsorted", "oldest_on_top", {"empty": {"has_more": False}}])
        await self.fault(fault="list", page=page, times=self.chance.randint(1, 5))
        await self.stream_ends()

    async def target_falls(self):
        target = self.targets[self.chance.choice(["steady", "slow"])]
        await target.fall()
        await asyncio.sleep(self.chance.uniform(1, 6))
        await target.start()

    async def target_refuses(self):
        self.targets["steady"].refuses = True
        await asyncio.sleep(self.chance.uniform(1, 4))
        self.targets["steady"].refuses = False

    async def torment(self, until):
        faults = [
            *[self.kill] * self.arguments.kills, *self.store.faults, self.terminate, self.freeze,
            self.wrong_clock, self.reload, self.stream_ends, self.stream_is_silent, self.stream_waits,
            self.noise, self.token_refused, self.upgrade_refused, self.rest_fails, self.rest_hangs,
            self.list_is_wrong, self.target_falls, self.target_refuses,
        ]  # fmt: skip
        while time.monotonic() < until:
            await asyncio.sleep(self.chance.uniform(0.5, 2 * self.arguments.every))
            fault = self.chance.choice(faults)
            self.counts[fault.__name__] += 1
            await fault()
            if self.bridge.poll() is not None:
                self.fail(f"the bridge has ended with {self.bridge.returncode} after {fault.__name__}")

    async def sample(self, until):
        while time.monotonic() < until:
            await asyncio.sleep(2)
            try:
                status = pathlib.Path(f"/proc/{self.bridge.pid}/status").read_text()
                memory = int(status.split("VmRSS:")[1].split()[0])
            except (OSError, IndexError):
                continue
            self.samples.append(memory)

    async def find_what_was_given_up(self):
        """Finds the webhooks that the simulator has given up, after eight tries within seconds. The bridge
        need not deliver them, unless they arrived by the stream as well."""
        after = ""
        while rows := json.loads((await call(self.pepay, "GET", f"/_simulator/ledger?limit=1000{after}"))[1]):
            for row in rows:
                if row["webhooks_acknowledged"] == 0 and self.published.get(row["id"], 0) % 3 == 1:
                    self.given_up.add(row["id"])
            after = f"&after={rows[-1]['id']}"

    def missing(self):
        """Events that have not arrived, by target."""
        missing = {}
        for name, target in self.targets.items():
            is_wanted = lambda which: name != "choosy" or which >= REFUSED
            wanted = (one for one, which in self.published.items() if is_wanted(which))
            lacks = [one for one in wanted if one not in target.first and one not in self.given_up]
            if lacks:
                missing[name] = lacks
        return missing

    async def close_the_ledger(self):
        await call(self.pepay, "DELETE", "/_simulator/faults")
        arrived, since = 0, time.monotonic()
        while missing := self.missing():
            if self.bridge.poll() is not None:
                self.fail(f"the bridge has ended with {self.bridge.returncode}")
            now_arrived = sum(len(target.first) for target in self.targets.values())
            if now_arrived > arrived:
                arrived, since = now_arrived, time.monotonic()
            if time.monotonic() > since + self.arguments.patience:
                few = {name: (len(lacks), lacks[:3]) for name, lacks in missing.items()}
                self.fail(f"nothing has arrived for {self.arguments.patience} s, and these are missing: {few}")
            await asyncio.sleep(1)
            await self.find_what_was_given_up()
        steady_one = self.targets["steady"]
        for which in range(0, OBJECTS, 3):
            steps = steady_one.order[f"ord_{which}"]
            if steps != sorted(steps):
                late = next(b for a, b in zip(steps, steps[1:]) if a > b)
                self.fail(f"object {which} out of order at the steady target: {late} in {steps}")
        # Answers of a target that falls are lost too.
        ends = self.counts["kill"] + self.counts["target_falls"]
        at_most = ends * (CONCURRENCY + OBJECTS * RUN)
        if steady_one.repeats > at_most:
            self.fail(f"{steady_one.repeats} repeats, and {at_most} at most are explained")
        if "panicked" in (self.folder / "bridge.log").read_text(errors="replace"):
            self.fail("the bridge has panicked")

    def growth(self):
        """Returns the peak of memory in the last third of the run, divided by the peak in the middle third."""
        third = len(self.samples) // 3
        if third == 0:
            return 1.0
        middle, last = self.samples[third : 2 * third], self.samples[2 * third :]
        return max(last) / max(middle)

    async def run(self):
        for target in self.targets.values():
            await target.start()
        await asyncio.to_thread(self.store.start)
        await self.start_simulator()
        await self.start_bridge()
        # Events before the first subscription would arrive in another order.
        await self.answers(self.bridge, self.admin, "/readyz")
        began = time.monotonic()
        until = began + self.arguments.seconds
        sampling = asyncio.create_task(self.sample(until))
        await asyncio.gather(self.publish(until), self.torment(until))
        await sampling
        await self.close_the_ledger()
        took = time.monotonic() - until
        self.bridge.terminate()
        if (code := await asyncio.to_thread(self.bridge.wait, 60)) != 0:
            self.fail(f"the bridge has ended with {code}")
        self.simulator.kill()
        self.simulator.wait()
        growth = self.growth()
        if self.arguments.seconds >= 1800 and growth > 1.2:
            self.fail(f"memory has grown by {growth:.2f} in the last third")
        memory, size = max(self.samples) / 1024, await asyncio.to_thread(self.store.size)
        stored, without_body = await asyncio.to_thread(self.store.counts)
        if self.arguments.seconds >= 120 and without_body == 0:
            self.fail(f"{stored} events are stored and every one has its body")
        print(
            f"seed {self.arguments.seed}: {len(self.published)} events to 4 targets in "
            f"{self.arguments.seconds:.0f} s, {sum(self.counts.values())} faults of {len(self.counts)} kinds "
            f"({self.counts['kill']} kills), 0 lost, 0 out of order, {len(self.given_up)} webhooks given up by their "
            f"sender; closed {took:.0f} s after the last; repeats "
            + ", ".join(f"{target.repeats} {name}" for name, target in self.targets.items())
            + f"; memory {memory:.0f} MiB at most, last third / middle {growth:.2f}; "
            f"database {size / 1e6:.0f} MB, {without_body} of {stored} events without their body"
        )


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bridge", required=True, help="the binary")
    parser.add_argument("--faults", required=True, help="faults.c, as a shared library")
    parser.add_argument("--hours", type=float, help="for how long, instead of --seconds")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=80, help="events a second at most")
    parser.add_argument("--every", type=float, default=3, help="seconds between two faults, on average")
    parser.add_argument("--kills", type=int, default=3, help="kill -9 is drawn so many times as often as each other fault")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL cluster of its own")
    parser.add_argument("--patience", type=float, default=120, help="seconds without an arrival")
    arguments = parser.parse_args()
    if arguments.hours:
        arguments.seconds = arguments.hours * 3600
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        # The PostgreSQL server runs as another user, who has to reach the folder.
        pathlib.Path(folder).chmod(0o755)
        world = World(arguments, pathlib.Path(folder))
        running = asyncio.current_task()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        try:
            await world.run()
        except asyncio.CancelledError:
            world.fail("stopped before its time")
        finally:
            world.store.stop()


asyncio.run(main())
