"""The stores of torture.py, and their faults. Each fault heals itself."""

import asyncio
import errno
import sqlite3

import bridge
from database import SCHEMA, Server

COUNTS = "SELECT count(*), count(*) - count(body) FROM {}event"


class Sqlite:
    """A database file, on a disk whose faults a preloaded library makes."""

    def __init__(self, folder, injected, chance):
        self.file, self.injected, self.chance = folder / "bridge.db", injected, chance
        self.url = f"sqlite://{self.file}"
        self.faults = [self.full_disk, self.read_only_disk, self.failing_disk, self.slow_disk]

    def start(self):
        pass

    def stop(self):
        pass

    def size(self):
        return sum(file.stat().st_size for file in self.file.parent.iterdir())

    def counts(self):
        """Returns the number of stored events, and the number of those without their body."""
        return sqlite3.connect(self.file).execute(COUNTS.format("")).fetchone()

    async def disk(self, which, value):
        self.injected.set(which, value)
        await asyncio.sleep(self.chance.uniform(1, 5))
        self.injected.set(which, 0)

    async def full_disk(self):
        await self.disk(bridge.DISK_ERROR, errno.ENOSPC)

    async def read_only_disk(self):
        await self.disk(bridge.DISK_ERROR, errno.EROFS)

    async def failing_disk(self):
        await self.disk(bridge.DISK_ERROR, errno.EIO)

    async def slow_disk(self):
        await self.disk(bridge.SYNC_DELAY, 300)


class Postgres:
    """A PostgreSQL cluster for this run."""

    def __init__(self, folder, port, chance):
        self.server, self.chance = Server(folder / "postgres", port), chance
        self.url = f"postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
        self.faults = [self.server_crashes, self.server_is_read_only, self.connections_end, self.locked_tables]

    def start(self):
        self.server.make()
        self.server.start()

    def stop(self):
        self.server.stop()

    def size(self):
        return int(self.server.ask("SELECT pg_database_size(current_database())")[0][0])

    def counts(self):
        return tuple(int(count) for count in self.server.ask(COUNTS.format(f"{SCHEMA}."))[0])

    async def server_crashes(self):
        await asyncio.to_thread(self.server.stop)
        await asyncio.sleep(self.chance.uniform(0, 4))
        await asyncio.to_thread(self.server.start)

    async def server_is_read_only(self):
        await self.set_read_only("on")
        await asyncio.sleep(self.chance.uniform(1, 5))
        await self.set_read_only("off")

    async def set_read_only(self, value):
        await self.ask(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        await self.ask("SELECT pg_reload_conf()")
        await self.connections_end()

    async def connections_end(self):
        await self.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                       "AND backend_type = 'client backend'")  # fmt: skip

    async def locked_tables(self):
        seconds = self.chance.uniform(1, 5)
        await self.ask(f"LOCK TABLE {SCHEMA}.event, {SCHEMA}.delivery IN EXCLUSIVE MODE; SELECT pg_sleep({seconds})")

    async def ask(self, statement):
        await asyncio.to_thread(self.server.ask, statement)
