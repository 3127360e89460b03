"""Three replicas of the real binary on one real PostgreSQL, under faults.

A simulated Pepay publishes events on the stream, and this program sends webhooks to all
replicas. The events of a third of the objects arrive by both. One webhook in four is sent to
two replicas at once. Three targets receive the events: one that accepts everything, one that
is slow and fails, and one with `on_uncertain = "hold"`. A TCP proxy is between each replica
and the database. The same seed gives the same faults in the same order. Checked:

- every event of the stream, and every webhook that was acknowledged, arrives at every target;
- an event is repeated only if the outcome of its delivery can have been lost; a rolling
  restart, a slow network, a wrong clock and lost backends cause no repeats;
- under `hold` no event is requested twice;
- first arrivals are in the order of their object;
- the stream never has two connections for longer than a take-over;
- no target, nor the stream, waits longer than a take-over after any fault;
- the sequences of the events in the database have no gap, and each event has one sequence.

A fail-over to a standby that was behind loses what the standby has not received. Events that only
webhooks had brought are gone then. Events that Pepay lists come again, may be out of order, have
another sequence and are requested again, under `hold` too. Terms never decrease.
"""

import argparse
import asyncio
import collections
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import ledger
from database import Pooler, Server
from faults import Faults
from load import Load
from ports import hold
from proxy import Proxy
from replica import KEY, Replica
from targets import Failing, Good, Held
from wire import call, call_json

# The status in the place of a response that did not arrive.
NO_ANSWER = 599


class World:
    def __init__(self, arguments, folder):
        self.arguments, self.folder, self.began = arguments, folder, time.monotonic()
        ports = iter(hold(16))
        self.pepay, self.simulator = next(ports), None
        self.server = Server(folder / "postgres", next(ports))
        self.standby = Server(folder / "standby", next(ports)) if arguments.standby else None
        self.pooler = Pooler(folder / "pooler", next(ports), self.server) if arguments.pooler else None
        answers = random.Random(f"moods of {arguments.seed}")
        self.targets = {
            "good": Good("good", next(ports), "", answers),
            "failing": Failing("failing", next(ports), "", answers),
            "hold": Held("hold", next(ports), 'on_uncertain = "hold"', answers),
        }
        self.replicas = []
        for name in ("one", "two", "three"):
            proxy = Proxy(next(ports), (self.pooler or self.server).port)
            self.replicas.append(Replica(name, self, (next(ports), next(ports)), proxy))
        for replica, clock in zip(self.replicas, (0, 60_000, 0)):
            replica.usual_clock = clock
            replica.set_clock(clock)
        self.faults = Faults(self, random.Random(f"faults of {arguments.seed}"))
        self.chance = random.Random(f"operator of {arguments.seed}")
        self.decided = collections.Counter()
        # The times at which the stream had more than one connection, each from and to.
        self.doubled_streams, self.closing, self.load_ended = [], 0, 0
        # The times that decisions took, and the longest wait of this program for the processor, in seconds.
        self.deciding, self.lag = [], 0

    def of_pooler(self):
        """Returns the lines of the store's section for the pooler."""
        match self.arguments.pooler:
            case "listening":
                direct = f"postgres://postgres@127.0.0.1:{self.server.port}/postgres?sslmode=disable"
                return f'pooler = "transaction"\nlisten_url = "{direct}"'
            case "polling":
                return 'pooler = "transaction"'
            case _:
                return ""

    def clock(self, at):
        return f"{at - self.began:.1f} s"

    def say(self, line):
        print(f"{time.monotonic() - self.began:6.1f} s  {line}", flush=True)

    async def start_simulator(self):
        command = [self.arguments.bridge, "simulator", "--listen", f"127.0.0.1:{self.pepay}", "--api-key", KEY]
        command += ["--rest-retention", "10000000", "--replay-retention", "500"]
        with open(self.folder / "simulator.log", "wb") as log:
            self.simulator = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                if (await call(self.pepay, "GET", "/_simulator/statistics")).status == 200:
                    return
            except OSError:
                await asyncio.sleep(0.05)
        raise RuntimeError("the simulator does not answer")

    def check_processes(self):
        for replica in self.replicas:
            if replica.process.poll() is not None:
                raise RuntimeError(f"{replica.name} has ended with {replica.process.returncode}")

    async def watch_the_stream(self):
        since = None
        while True:
            _, statistics = await call_json(self.pepay, "GET", "/_simulator/statistics")
            now = time.monotonic()
            if statistics["streams_open"] > 1:
                since = since or now
            elif since:
                self.doubled_streams.append((since, now))
                since = None
            await asyncio.sleep(0.1)

    async def watch_the_clock(self):
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.05)
            self.lag = max(self.lag, time.monotonic() - began - 0.05)

    async def decide_on_held(self):
        """Closes held deliveries that have arrived and releases the rest, at any replica, as an operator would."""
        hold, path = self.targets["hold"], "/api/v1/deliveries"
        status, page = await self.ask("GET", f"{path}?target=hold&state=held&limit=500")
        for row in page["deliveries"] if status == 200 else []:
            identity = row["event_id"]
            action = "close" if hold.sent[identity] else "release"
            status, answer = await self.ask("POST", f"{path}/hold/{identity}/{action}", {})
            self.decided[status] += 1
            # It was done, or the delivery has changed meanwhile, or the replica could not do it.
            if status not in (200, 204, 409, 503, NO_ANSWER):
                raise RuntimeError(f"{action} of {identity} is answered {status} {answer}")
            if status < 300:
                self.decided[action] += 1

    async def ask(self, method, path, value=None):
        """Sends a request of an operator to one of the replicas. Returns the status and the value."""
        began = time.monotonic()
        try:
            return await call_json(self.any().admin, method, path, value)
        except OSError as error:
            return NO_ANSWER, error
        finally:
            self.deciding.append(time.monotonic() - began)

    def any(self):
        return self.chance.choice(self.replicas)

    async def close_the_ledger(self):
        await self.load.all_sent(60)
        arrived, since, last = 0, time.monotonic(), time.monotonic()
        while lacks := ledger.missing(self):
            now_arrived = sum(len(target.first) for target in self.targets.values())
            if now_arrived > arrived:
                arrived, since = now_arrived, time.monotonic()
            if time.monotonic() > since + self.arguments.patience:
                few = {name: (len(ids), sorted(ids)[:3]) for name, ids in lacks.items()}
                raise RuntimeError(f"nothing has arrived for {self.arguments.patience} s, and these are missing: {few}")
            await asyncio.sleep(0.5)
            await self.decide_on_held()
        self.closing = time.monotonic() - last
        # The last outcomes may not be in the database yet.
        end = time.monotonic() + 10
        while time.monotonic() < end and list(ledger.in_the_database(self)):
            await asyncio.sleep(0.5)
            await self.decide_on_held()

    async def run(self):
        await asyncio.to_thread(self.server.make)
        await asyncio.to_thread(self.server.start)
        if self.standby:
            await asyncio.to_thread(self.standby.follow, self.server, self.arguments.standby == "synchronous")
        if self.pooler:
            self.pooler.start()
        for target in self.targets.values():
            await target.start()
        await self.start_simulator()
        await asyncio.gather(*(replica.start() for replica in self.replicas))
        # Events before the first subscription would arrive in another order.
        while (await call_json(self.pepay, "GET", "/_simulator/statistics"))[1]["streams_open"] == 0:
            await asyncio.sleep(0.1)
        until = time.monotonic() + self.arguments.seconds
        self.load = Load(self)
        watching = [asyncio.create_task(watch()) for watch in (self.watch_the_stream, self.watch_the_clock)]
        raging = asyncio.create_task(self.faults.rage(until))
        # The load lasts until the effect of the last fault shows.
        publishing = asyncio.create_task(self.publish_during(raging))
        await asyncio.gather(raging, publishing)
        self.load_ended = time.monotonic()
        self.say("the ledger is being closed")
        await self.close_the_ledger()
        for watch in watching:
            watch.cancel()
        found = list(ledger.breaches(self))
        if not found:
            await asyncio.gather(*(replica.stop() for replica in self.replicas))
        for line in ledger.summary(self):
            print(line)
        return found

    async def publish_during(self, raging):
        chance = random.Random(f"load of {self.arguments.seed}")
        publishing = asyncio.create_task(self.load.publish(float("inf"), self.arguments.rate, chance))
        while not raging.done():
            await asyncio.sleep(0.2)
            if publishing.done():
                raging.cancel()
                publishing.result()
            if error := self.load.failed():
                raging.cancel()
                raise error
        publishing.cancel()

    def end(self):
        """Ends the processes of this run, and no others."""
        replicas = [process for replica in self.replicas for process in (replica.process, replica.proxy.process)]
        for process in (self.simulator, *replicas):
            if process and process.poll() is None:
                process.kill()
                process.wait()
        if self.pooler:
            self.pooler.stop()
        for server in filter(None, (self.server, self.standby)):
            server.stop()

    async def keep(self):
        """Copies the logs and the states of replicas and database. Returns the folder."""
        kept = pathlib.Path(tempfile.mkdtemp(prefix="replicas-kept-"))
        for log in self.folder.rglob("*log"):
            if log.is_file():
                shutil.copy(log, kept / f"{log.parent.name}.{log.name}")
        for name, question in (
            ("leases", "SELECT * FROM pepay_bridge.lease"),
            ("replicas", "SELECT * FROM pepay_bridge.replica"),
            ("deliveries", "SELECT target_id, state, count(*), min(sequence) FROM pepay_bridge.delivery GROUP BY 1, 2"),
            (
                "heads",
                "SELECT d.target_id, d.lane, min(d.sequence), min(e.source), count(*) FROM pepay_bridge.delivery d"
                " JOIN pepay_bridge.event e USING (sequence) WHERE settled_at IS NULL GROUP BY 1, 2 ORDER BY 3",
            ),
            ("activity", "SELECT pid, state, xact_start, query FROM pg_stat_activity WHERE datname IS NOT NULL"),
        ):
            try:
                rows = await asyncio.to_thread(self.server.ask, question)
            except (RuntimeError, subprocess.SubprocessError) as error:
                rows = [[str(error)]]
            (kept / name).write_text("\n".join(" | ".join(row) for row in rows))
        for replica in self.replicas:
            for path in ("/status", *(f"/api/v1/deliveries?target={name}&state=pending&limit=3" for name in self.targets)):
                try:
                    body = (await call(replica.admin, "GET", path, limit=5)).body
                except OSError as error:
                    body = str(error).encode()
                with open(kept / f"{replica.name}.asked", "ab") as file:
                    file.write(path.encode() + b"\n" + body + b"\n")
        return kept


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bridge", required=True, help="the binary")
    parser.add_argument("--faults", required=True, help="torture/faults.c, as a shared library")
    parser.add_argument("--seconds", type=float, default=90, help="for how long faults begin")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=40, help="events a second at most")
    parser.add_argument("--only", default="", help="these faults alone, with commas: kill,freeze")
    parser.add_argument(
        "--pooler",
        nargs="?",
        const="listening",
        choices=("listening", "polling"),
        help="behind PgBouncer in transaction mode, with store.listen_url or without",
    )
    parser.add_argument(
        "--standby",
        nargs="?",
        const="synchronous",
        choices=("synchronous", "behind"),
        help="with a synchronous standby and the fault fail_over, or an asynchronous one and fail_over_behind",
    )
    parser.add_argument("--log", default="info", help="log.filter of the replicas")
    parser.add_argument("--slack", type=float, default=1, help="how many times the limits of time, on a busy machine")
    parser.add_argument("--patience", type=float, default=60, help="seconds without an arrival at the end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="replicas-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        world, found = World(arguments, folder), []
        try:
            found = await world.run()
        except (RuntimeError, LookupError, ValueError, TimeoutError, OSError, subprocess.SubprocessError) as error:
            found = [f"{type(error).__name__}: {error}"]
        finally:
            kept = await world.keep() if found else None
            world.end()
        if found:
            for breach in found[:40]:
                print(f"BREACH: {breach}", file=sys.stderr)
            sys.exit(f"seed {arguments.seed}: {len(found)} breaches; what was found is in {kept}")


asyncio.run(main())
