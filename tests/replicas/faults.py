"""The faults, and the repeats and pauses that each may cause."""

import asyncio
import dataclasses
import os
import signal
import time

# Seconds from the loss of an owner to the next delivery at each target, and to the next event of the stream.
TAKE_OVER = 5
# Seconds for a slow network, in which no replica takes over: the calls of the owner take 600 ms each.
SLOW = 10
# Seconds for the hand-over at a clean stop. It takes much less on an idle machine.
HAND_OVER = 1
# Seconds after each fault, longer than a take-over, so that one that takes too long shows.
CALM = TAKE_OVER + 0.5
# Seconds, more than a lease lasts (4 s).
BEYOND_A_LEASE = 6.5
# Seconds without replication before a standby is promoted.
BEHIND = 4


@dataclasses.dataclass
class Episode:
    """One fault that has happened."""

    name: str
    what: str
    # When it began, and when everything was healed.
    begin: float
    end: float = 0
    # From when on deliveries may pause, and for how many seconds.
    since: float = 0
    pause_limit: float = TAKE_OVER
    # The outcome of a delivery may be lost if it was first accepted between these two times.
    repeats: tuple = ()
    # Whether a frozen replica may keep a second connection of the stream.
    freezes: bool = False
    # The number of acknowledged events that the database has lost; None for a fault that loses none.
    forgotten: int | None = None


class Faults:
    def __init__(self, world, chance):
        self.world, self.chance, self.episodes = world, chance, []
        self.all = [
            self.kill, self.freeze, self.cut, self.half_open, self.slow_network, self.terminate_backends,
            self.stop_database, self.wrong_clock, self.rolling_restart, self.half_open_writer, self.stop_backend,
        ]  # fmt: skip
        match world.arguments.standby:
            case "synchronous":
                self.all.append(self.fail_over)
            case "behind":
                self.all.append(self.fail_over_behind)
        if world.arguments.pooler:
            # Behind a pooler the writing connection cannot be found.
            self.all.remove(self.half_open_writer)
        if world.arguments.only:
            self.all = [fault for fault in self.all if fault.__name__ in world.arguments.only.split(",")]

    async def rage(self, until):
        """Causes each fault once in a random order, again and again, with a pause after each."""
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
        # It may send requests now that it had begun before, after the new owner has sent them.
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
        """Lets the writing connection pass nothing. The connections for the leases work."""
        replica = self.one(episode)
        replica.proxy.tell("swallow writer")
        await self.stay_half_open(episode, replica)

    async def stay_half_open(self, episode, replica):
        """Waits for longer than a lease. After that the swallowed bytes arrive late, or never."""
        episode.repeats = (episode.begin - 2, episode.begin + TAKE_OVER)
        await asyncio.sleep(BEYOND_A_LEASE)
        if self.chance.random() < 0.5:
            replica.proxy.tell("reset")
        replica.proxy.tell("heal")

    async def stop_backend(self, episode):
        """Stops the server process of the writing connection of one replica."""
        pid = await self.stop_one_that_is_idle()
        if pid is None:
            episode.what = "none: each had a transaction open"
            return
        episode.what = f"{pid}"
        episode.repeats = (episode.begin - 2, time.monotonic() + TAKE_OVER)
        try:
            await asyncio.sleep(BEYOND_A_LEASE)
        finally:
            # The process may have ended with its client.
            signal_process(pid, signal.SIGCONT)

    async def stop_one_that_is_idle(self):
        """Stops a server process outside of a transaction, in which it would keep locks that all replicas need.

        Returns its id, or None if none was idle.
        """
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
        """Terminates the server processes that write an outcome at that moment, again and again."""
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
        """Crashes the database, for longer than a lease or for a moment."""
        server = self.world.server
        await asyncio.to_thread(server.stop)
        down = self.chance.choice([0, 3, BEYOND_A_LEASE])
        await asyncio.sleep(down)
        await asyncio.to_thread(server.start)
        episode.what, episode.since = f"for {down} s", time.monotonic()
        episode.repeats = (episode.begin - 2, episode.since + TAKE_OVER)

    async def fail_over(self, episode):
        """Loses the machine of the database and promotes its synchronous standby."""
        await self.lose_the_primary()
        await self.continue_with_the_standby(episode)

    async def fail_over_behind(self, episode):
        """The same with an asynchronous standby that has not received the last seconds."""
        world = self.world
        await asyncio.to_thread(world.standby.stop_following)
        await asyncio.sleep(BEHIND)
        await self.lose_the_primary()
        # No replica has reached the promoted server yet.
        episode.forgotten = await asyncio.to_thread(world.load.forget, world)
        episode.what = f"by {BEHIND} s: {episode.forgotten} acknowledged events are lost"
        await self.continue_with_the_standby(episode)

    async def lose_the_primary(self):
        world = self.world
        await asyncio.to_thread(world.server.lose)
        await asyncio.to_thread(world.standby.promote)
        world.server, world.standby = world.standby, world.server

    async def continue_with_the_standby(self, episode):
        world = self.world
        for replica in world.replicas:
            replica.proxy.tell(f"to {world.server.port}")
            replica.proxy.tell("reset")
        episode.since = time.monotonic()
        episode.repeats = (episode.begin - 2, episode.since + TAKE_OVER)
        # The pause lets the take-over end before the next fault, which needs a standby again.
        await asyncio.sleep(CALM)
        await asyncio.to_thread(world.standby.follow, world.server, world.arguments.standby == "synchronous")

    async def wrong_clock(self, episode):
        """Sets the clock of a replica wrong. The clock of another one is always a minute ahead."""
        replica, offset = self.one(episode), self.chance.choice([-60_000, 60_000])
        episode.what += f" {offset // 1000:+} s"
        replica.set_clock(offset)
        await asyncio.sleep(5)
        replica.set_clock(replica.usual_clock)

    async def rolling_restart(self, episode):
        # Without notifications the other replicas poll for leases that were given back.
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
