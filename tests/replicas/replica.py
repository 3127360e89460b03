"""One replica: the real binary, a clock that can be set wrong, and a proxy to the database."""

import asyncio
import signal
import time

import bridge
from load import SECRET
from wire import call

KEY = "chaos_key"
CONCURRENCY = 16


class Replica:
    def __init__(self, name, world, ports, proxy):
        self.name, self.world, self.proxy = name, world, proxy
        self.port, self.admin = ports
        self.process = None
        self.folder = world.folder / name
        self.folder.mkdir()
        self.injected = bridge.InjectedFaults(world.arguments.faults, self.folder, self.folder / "control")
        self.configure()

    def configure(self):
        settings = f'concurrency = {CONCURRENCY}\ntimeout = "2s"\nretry_max = "1s"\n'
        targets = {name: (target.port, settings + target.settings) for name, target in self.world.targets.items()}
        text = bridge.configuration(
            port=self.port,
            admin=self.admin,
            store=f"postgres://postgres@127.0.0.1:{self.proxy.port}/postgres?sslmode=disable",
            store_settings=self.world.of_pooler(),
            log=self.world.arguments.log,
            pepay=self.world.pepay,
            key=KEY,
            secret=SECRET,
            targets=targets,
        )
        (self.folder / "bridge.toml").write_text(text)

    def set_clock(self, milliseconds):
        self.injected.set(bridge.CLOCK_ERROR, milliseconds)

    def spawn(self):
        command = [self.world.arguments.bridge, "run", "--config", "bridge.toml"]
        self.process = bridge.spawn(command, self.folder, "log", self.injected.environment)

    async def start(self):
        """Starts the bridge and waits until it takes webhooks."""
        self.spawn()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} has ended with {self.process.returncode}")
            try:
                if (await call(self.port, "GET", "/readyz/intake", limit=2)).status == 200:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.05)
        raise RuntimeError(f"{self.name} has not become ready")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, which):
        self.process.send_signal(which)

    async def stop(self):
        """Stops the bridge by SIGTERM. Returns how long that took, in seconds."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        code = await asyncio.to_thread(self.process.wait, 40)
        if code != 0:
            raise RuntimeError(f"{self.name} has ended with {code} after SIGTERM")
        return time.monotonic() - began
