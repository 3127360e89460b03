"""Tests what a power cut leaves of a store, at hundreds of points of one run.

A bridge takes webhooks while a preloaded library (recorder.c) records its writes and syncs.
Then a disk is made for many points of that record. It has everything that was synced, and of
the later writes none, all, the first few, or single sectors. The database on each disk is
compared with the events that were acknowledged at that point.

With durability "full" no acknowledged event may be missing. With "normal" the number of missing
events is printed. Either way the database must not be damaged, and sequences must have no gap.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import struct
import sys
import tempfile
import time

from bridge import spawn
from ports import hold

SECRET = "power-loss-of-a-test-bridge"
HEAD = struct.Struct("<cIqI")
SECTOR = 512
NOT_ON_A_DISK = ("-shm", ".lock")


class File:
    """A file as it is on the disk, and the writes since its last sync."""

    def __init__(self, path):
        self.path = path
        self.content = bytearray()
        self.pending = []
        self.entry = "none"  # none, created, durable, removed


def apply(content, change):
    kind, at, data = change
    if kind == "T":
        if at < len(content):
            del content[at:]
        else:
            content.extend(bytes(at - len(content)))
    else:
        if len(content) < at:
            content.extend(bytes(at - len(content)))
        content[at : at + len(data)] = data


def sectors(change):
    kind, at, data = change
    if kind == "T":
        return [change]
    first = SECTOR - at % SECTOR
    cuts = [0, *range(first, len(data), SECTOR), len(data)]
    return [("W", at + a, data[a:b]) for a, b in zip(cuts, cuts[1:]) if b > a]


class Disk:
    """Applies the records, and writes what a power cut could leave."""

    def __init__(self):
        self.files = {}

    def take(self, kind, number, at, data):
        if kind in "CO":
            file = self.files.setdefault(number, File(data.decode()))
            if kind == "C":
                file.content, file.pending, file.entry = bytearray(), [], "created"
            elif file.entry == "none":
                file.entry = "durable"
        elif kind in "WT":
            self.files[number].pending.append((kind, at, data))
        elif kind == "S":
            file = self.files[number]
            for change in file.pending:
                apply(file.content, change)
            file.pending.clear()
            if file.entry == "created":
                file.entry = "durable"
            # The sync of a folder makes its entries durable.
            for held in self.files.values():
                if os.path.dirname(held.path) == file.path:
                    held.entry = {"created": "durable", "removed": "none"}.get(held.entry, held.entry)
        elif kind == "U":
            if number in self.files:
                self.files[number].entry = "removed"
        elif kind == "R":
            sys.exit("a watched file was renamed, which this test does not carry out")

    def leave(self, folder, chance):
        """Writes to `folder` what a cut now would leave. Returns which unsynced writes are kept."""
        how = chance.choice(["none", "all", "first", "sectors"])
        for file in self.files.values():
            name = os.path.basename(file.path)
            if file.path.endswith(NOT_ON_A_DISK) or os.path.isdir(file.path) or file.entry == "none":
                continue
            if file.entry in ("created", "removed") and chance.random() < 0.5:
                continue
            content = bytearray(file.content)
            kept = file.pending
            if how == "none":
                kept = []
            elif how == "first":
                kept = kept[: chance.randint(0, len(kept))]
            elif how == "sectors":
                kept = [part for change in kept for part in sectors(change) if chance.random() < 0.5]
            for change in kept:
                apply(content, change)
            (folder / name).write_bytes(content)
        return how


def records(path):
    """Yields every record, with the length of the file up to its end."""
    with open(path, "rb") as file:
        end = 0
        while head := file.read(HEAD.size):
            if len(head) < HEAD.size:
                return
            kind, number, at, size = HEAD.unpack(head)
            data = file.read(size)
            if len(data) < size:
                return
            end += HEAD.size + size
            yield end, kind.decode(), number, at, data


class World:
    def __init__(self, arguments, folder):
        self.arguments = arguments
        self.port, self.admin, self.target_port = hold(3)
        self.record = folder / "record"
        self.acknowledged = []  # (length of the record, event id)
        self.arrived = set()

    def start(self, data, *, recorder=None):
        settings = {
            "SERVER__LISTEN": f"127.0.0.1:{self.port}",
            "SERVER__ADMIN_LISTEN": f"127.0.0.1:{self.admin}",
            "STORE__URL": f"sqlite://{data}/bridge.db",
            "STORE__DURABILITY": self.arguments.durability,
            "WEBHOOKS__DEFAULT__SECRETS": SECRET,
            "TARGETS__ORDERS__URL": f"http://127.0.0.1:{self.target_port}/",
            "TARGETS__ORDERS__RETRY_MIN": "100ms",
            "LOG__FILTER": "warn",
        }
        environment = {f"PEPAY_BRIDGE__{name}": value for name, value in settings.items()}
        if recorder:
            environment |= {
                "LD_PRELOAD": recorder,
                "RECORDER_FOLDER": str(data),
                "RECORDER_LOG": str(self.record),
            }
        return spawn([self.arguments.bridge, "run"], data.parent, "log", environment)

    async def ready(self, process):
        while process.poll() is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            except OSError:
                await asyncio.sleep(0.05)
        sys.exit(f"the bridge has ended with {process.returncode}")

    async def target(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = [line.split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line]
                headers = {name.lower(): value.strip() for name, value in lines}
                await reader.readexactly(int(headers[b"content-length"]))
                self.arrived.add(headers[b"webhook-id"].decode())
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    async def send(self, numbers):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for number in numbers:
            now = int(time.time() * 1000)
            identity = f"evt_{now:013}-{number:08}"
            payload = {"id": identity, "object": "event", "type": "commerce.order.updated", "created": now // 1000}
            payload["data"] = {"object": {"object": "commerce_order", "id": f"ord_{number % 97}", "pad": "x" * 700}}
            body = json.dumps(payload).encode()
            signature = hmac.new(SECRET.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
            head = (
                f"POST /webhooks/pepay HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nx-pepay-timestamp: {now}\r\nx-pepay-signature: {signature}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            await reader.readexactly(int(length[0].split(b":")[1]))
            if answer.split()[1] != b"200":
                sys.exit(f"a webhook was answered {answer!r}")
            self.acknowledged.append((os.stat(self.record).st_size, identity))
        writer.close()

    async def run(self, data):
        """Runs and kills the bridge while it is recorded. Returns the server of the target."""
        server = await asyncio.start_server(self.target, "127.0.0.1", self.target_port)
        process = self.start(data, recorder=self.arguments.recorder)
        try:
            await self.ready(process)
            senders = [self.send(range(first, self.arguments.events, 16)) for first in range(16)]
            await asyncio.gather(*senders)
            wanted = {identity for _, identity in self.acknowledged}
            await self.all_arrived(wanted)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        return server

    async def all_arrived(self, wanted, limit=60):
        end = time.monotonic() + limit
        while not wanted <= self.arrived:
            if time.monotonic() > end:
                sys.exit(f"{len(wanted - self.arrived)} events have not arrived after {limit} s")
            await asyncio.sleep(0.05)

    async def goes_on(self, data, must):
        """Fails unless a bridge that starts on `data` delivers `must`."""
        process = self.start(data)
        try:
            await self.ready(process)
            await self.all_arrived(must)
        finally:
            process.send_signal(signal.SIGTERM)
            if process.wait(30) != 0:
                sys.exit(f"the bridge has ended with {process.returncode}")


def look(path, acknowledged):
    """Returns the acknowledged events that are missing, and those that wait for the target."""
    if not path.exists():
        return acknowledged, set()
    database = sqlite3.connect(path)
    try:
        try:
            whole = database.execute("PRAGMA integrity_check").fetchone()[0]
        except sqlite3.DatabaseError as error:
            whole = error
        if whole != "ok":
            sys.exit(f"the database is damaged: {whole}")
        has_schema = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'event'").fetchone()[0]
        if not has_schema:
            return acknowledged, set()
        newest, count = database.execute("SELECT coalesce(max(sequence), 0), count(*) FROM event").fetchone()
        if newest != count:
            sys.exit(f"{count} events have numbers up to {newest}")
        kept = {identity for (identity,) in database.execute("SELECT id FROM event")}
        waits = "SELECT id FROM event JOIN delivery USING (sequence) WHERE state <> 'delivered'"
        return acknowledged - kept, {identity for (identity,) in database.execute(waits)}
    finally:
        database.close()


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bridge", required=True, help="the binary")
    parser.add_argument("--recorder", required=True, help="recorder.c, as a shared library")
    parser.add_argument("--durability", default="full", choices=["full", "normal"])
    parser.add_argument("--events", type=int, default=3000)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--starts", type=int, default=8, help="of these, how many are started again")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="power-loss-") as name:
        folder = pathlib.Path(name)
        data, left = folder / "data", folder / "left"
        data.mkdir()
        world = World(arguments, folder)
        server = await world.run(data)
        delivered_in_the_run = set(world.arrived)
        ends = [end for end, *_ in records(world.record)]
        acknowledged = sorted(world.acknowledged)
        cuts = sorted(chance.choices(ends, k=arguments.cuts))
        starts = set(chance.sample(range(len(cuts)), min(arguments.starts, len(cuts))))
        disk, position, known, must = Disk(), 0, 0, set()
        missing, worst, fared, started = 0, 0, {}, 0
        stream = records(world.record)
        for index, cut in enumerate(cuts):
            while position < cut:
                position, *record = next(stream)
                disk.take(*record)
            while known < len(acknowledged) and acknowledged[known][0] <= cut:
                must.add(acknowledged[known][1])
                known += 1
            shutil.rmtree(left, ignore_errors=True)
            (left / "data").mkdir(parents=True)
            how = disk.leave(left / "data", chance)
            fared[how] = fared.get(how, 0) + 1
            shutil.copytree(left / "data", left / "looked-at")
            lost, waiting = look(left / "looked-at" / "bridge.db", set(must))
            if lost and arguments.durability == "full":
                sys.exit(f"{len(lost)} of {len(must)} acknowledged events are lost by a cut at {cut} ({how})")
            missing += bool(lost)
            worst = max(worst, len(lost))
            unsent = must - lost - waiting - delivered_in_the_run
            if unsent:
                sys.exit(f"{len(unsent)} events are taken for delivered and never were")
            if index in starts:
                world.arrived -= waiting
                await world.goes_on(left / "data", waiting & must)
                started += 1
        server.close()
        print(
            f"durability {arguments.durability}: {len(acknowledged)} events acknowledged, {len(ends)} records, "
            f"{len(cuts)} cuts ({', '.join(f'{count} {how}' for how, count in sorted(fared.items()))} of the "
            f"unsynced kept), {started} started again; acknowledged events were missing after {missing} cuts, "
            f"{worst} at most"
        )
        if arguments.durability == "normal" and not missing:
            sys.exit("a cut that loses nothing without syncs: the record does not see them")


asyncio.run(main())
