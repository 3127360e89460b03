"""What fails, and what each failure excuses."""

import asyncio
import dataclasses
import os
import signal
import time

# From the loss of an owner to the next delivery at each target, and event of the stream.
TAKE_OVER = 5
# No replica takes over from one whose calls take 600 ms each: it is slow itself.
SLOW = 10
# A clean stop hands over in much less. This is what a busy machine is granted.
HAND_OVER = 1
# After each fault, longer than a take-over, so that one which takes too long is seen.
CALM = TAKE_OVER + 0.5
# Longer than a lease lasts (4 s).
BEYOND_A_LEASE = 6.5


@dataclasses.dataclass
class Episode:
    """One fault that has happened."""

    name: str
    what: str
    # When it began and when all was healed.
    begin: float
    end: float = 0
    # From when on deliveries may pause, and for how long.
    since: float = 0
    pause_limit: float = TAKE_OVER
    # Of a delivery whose first acceptance lies between these two, the outcome may be lost.
    repeats: tuple = ()
    # The replicas that a frozen one leaves a second connection of the stream to.
    freezes: bool = False


class Faults:
    def __init__(self, world, chance):
        self.world, self.chance, self.episodes = world, chance, []
        self.all = [
            self.kill, self.freeze, self.cut, self.half_open, self.slow_network, self.terminate_backends,
            self.stop_database, self.wrong_clock, self.rolling_restart, self.half_open_writer, self.stop_backend,
        ]  # fmt: skip
        if world.standby:
            self.all.append(self.fail_over)
        if world.arguments.pooler:
            # A pooler does not tell which of its clients writes.
            self.all.remove(self.half_open_writer)
        if world.arguments.only:
            self.all = [fault for fault in self.all if fault.__name__ in world.arguments.only.split(",")]

    async def rage(self, until):
        """Each fault once in a random order, and again, with a calm after each."""
        while True:
            for fault in self.chance.sample(self.all, len(self.all)):
                if time.monotonic() >= until:
                    return
                await self.happen(fault)

    async def happen(self, fault):
        episode = Episode(fault.__name__, "", time.monotonic())
        episode.since = episode.begin
        self.episodes.append(episode)
        await fault(episode)
        episode.end = time.monotonic()
        self.world.say(f"{episode.name} {episode.what}: {episode.end - episode.begin:.1f} s")
        await asyncio.sleep(CALM)
        self.world.check_processes()
        await self.world.decide_on_held()

    def one(self, episode):
        replica = self.chance.choice(self.world.replicas)
        episode.what = replica.name
        return replica

    async def kill(self, episode):
        replica, at_once = self.one(episode), self.chance.random() < 0.3
        replica.kill()
        episode.repeats = (episode.begin - 2, episode.begin + 0.5)
        await asyncio.sleep(0 if at_once else BEYOND_A_LEASE)
        await replica.start()

    async def freeze(self, episode):
        replica, duration = self.one(episode), self.chance.uniform(BEYOND_A_LEASE, 8)
        episode.freezes = True
        replica.signal(signal.SIGSTOP)
        await asyncio.sleep(duration)
        replica.signal(signal.SIGCONT)
        # What it had begun before may go out now, after the new owner has sent it.
        episode.repeats = (episode.begin - 2, time.monotonic() + 1)

    async def cut(self, episode):
        replica = self.one(episode)
        replica.proxy.tell("cut")
        episode.repeats = (episode.begin - 2, episode.begin + TAKE_OVER)
        await asyncio.sleep(self.chance.choice([1, BEYOND_A_LEASE]))
        replica.proxy.tell("heal")

    async def half_open(self, episode):
        replica = self.one(episode)
        both = ["to server", "to replica"]
        directions = self.chance.choice([both, both[:1], both[1:]])
        episode.what += " " + " and ".join(directions)
        for direction in directions:
            replica.proxy.tell(f"swallow {direction}")
        await self.stay_half_open(episode, replica)

    async def half_open_writer(self, episode):
        """The connection that writes passes nothing; those that keep the leases work."""
        replica = self.one(episode)
        replica.proxy.tell("swallow writer")
        await self.stay_half_open(episode, replica)

    async def stay_half_open(self, episode, replica):
        """For longer than a lease; then what was under way arrives late, or never."""
        episode.repeats = (episode.begin - 2, episode.begin + TAKE_OVER)
        await asyncio.sleep(BEYOND_A_LEASE)
        if self.chance.random() < 0.5:
            replica.proxy.tell("reset")
        replica.proxy.tell("heal")

    async def stop_backend(self, episode):
        """Stops the process of the server that does what one of the replicas writes."""
        pid = await self.stop_one_that_is_idle()
        if pid is None:
            episode.what = "none: each had a transaction open"
            return
        episode.what = f"{pid}"
        episode.repeats = (episode.begin - 2, time.monotonic() + TAKE_OVER)
        try:
            await asyncio.sleep(BEYOND_A_LEASE)
        finally:
            # It may have ended, as its client had gone.
            signal_process(pid, signal.SIGCONT)

    async def stop_one_that_is_idle(self):
        """In a transaction it would hold what every replica needs, and no replica could help."""
        name = "pepay-bridge%" if self.world.arguments.pooler else "pepay-bridge writer"
        ask = lambda statement: asyncio.to_thread(self.world.server.ask, statement)
        find = f"SELECT pid FROM pg_stat_activity WHERE application_name LIKE '{name}' ORDER BY pid"
        end = time.monotonic() + 10
        while time.monotonic() < end:
            pid = int(self.chance.choice(await ask(find))[0])
            signal_process(pid, signal.SIGSTOP)
            if (await ask(f"SELECT state FROM pg_stat_activity WHERE pid = {pid}")) == [["idle"]]:
                return pid
            signal_process(pid, signal.SIGCONT)
            await asyncio.sleep(0.01)
        return None

    async def slow_network(self, episode):
        replica, episode.pause_limit = self.one(episode), SLOW
        replica.proxy.tell("delay 0.3")
        await asyncio.sleep(5)
        replica.proxy.tell("heal")

    async def terminate_backends(self, episode):
        """Again and again those that write an outcome at that moment."""
        count, end = 0, time.monotonic() + 3
        statement = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'pepay-bridge%'"
            " AND state IN ('active', 'idle in transaction') AND query ~* 'delivery'"
        )
        while time.monotonic() < end:
            rows = await asyncio.to_thread(self.world.server.ask, statement)
            count += int(rows[0][0])
            await asyncio.sleep(0.05)
        episode.what = f"{count} of them"

    async def stop_database(self, episode):
        """As a crash, for longer than a lease or for a moment."""
        server = self.world.server
        await asyncio.to_thread(server.stop)
        down = self.chance.choice([0, 3, BEYOND_A_LEASE])
        await asyncio.sleep(down)
        await asyncio.to_thread(server.start)
        episode.what, episode.since = f"for {down} s", time.monotonic()
        episode.repeats = (episode.begin - 2, episode.since + TAKE_OVER)

    async def fail_over(self, episode):
        """The database's machine is lost, and its synchronous standby takes its place."""
        world = self.world
        await asyncio.to_thread(world.server.lose)
        await asyncio.to_thread(world.standby.promote)
        world.server, world.standby = world.standby, world.server
        for replica in world.replicas:
            replica.proxy.tell(f"to {world.server.port}")
            replica.proxy.tell("reset")
        episode.since = time.monotonic()
        episode.repeats = (episode.begin - 2, episode.since + TAKE_OVER)
        # Longer than what the next one waits for, which needs a standby again.
        await asyncio.sleep(CALM)
        await asyncio.to_thread(world.standby.follow, world.server)

    async def wrong_clock(self, episode):
        """Beside one that is always a minute ahead."""
        replica, offset = self.one(episode), self.chance.choice([-60_000, 60_000])
        episode.what += f" {offset // 1000:+} s"
        replica.set_clock(offset)
        await asyncio.sleep(5)
        replica.set_clock(replica.usual_clock)

    async def rolling_restart(self, episode):
        # Where no notification passes, the others look for what was given back.
        polls = self.world.arguments.pooler == "polling"
        episode.pause_limit, stops = HAND_OVER * (2 if polls else 1), []
        for replica in self.world.replicas:
            stops.append(await replica.stop())
            await replica.start()
            await asyncio.sleep(1)
        episode.what = f"stopped within {max(stops):.2f} s"


def signal_process(pid, which):
    try:
        os.kill(pid, which)
    except ProcessLookupError:
        pass
