"""One replica: the real binary, with a clock that can be set wrong and a proxy to its database."""

import asyncio
import mmap
import os
import signal
import struct
import subprocess
import time

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
        (self.folder / "control").write_bytes(bytes(32))
        with open(self.folder / "control", "r+b") as file:
            self.control = mmap.mmap(file.fileno(), 32)
        self.configure()

    def configure(self):
        text = f"""
[server]
listen = "127.0.0.1:{self.port}"
admin_listen = "127.0.0.1:{self.admin}"
[store]
url = "postgres://postgres@127.0.0.1:{self.proxy.port}/postgres?sslmode=disable"
[log]
filter = "{self.world.arguments.log}"
[pepay]
api_key = "{KEY}"
api_url = "http://127.0.0.1:{self.world.pepay}"
[streams.commerce]
reconcile_interval = "5s"
hold_limit = "10m"
ping_interval = "2s"
backoff_max = "2s"
[webhooks.default]
secrets = ["{SECRET}"]
"""
        for target in self.world.targets.values():
            text += f"""
[targets.{target.name}]
url = "http://127.0.0.1:{target.port}/"
concurrency = {CONCURRENCY}
timeout = "2s"
retry_min = "100ms"
retry_max = "1s"
{target.settings}
"""
        (self.folder / "bridge.toml").write_text(text)

    def set_clock(self, milliseconds):
        self.control[16:24] = struct.pack("<q", milliseconds)

    def spawn(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PEPAY_")}
        environment |= {
            "LD_PRELOAD": self.world.arguments.faults,
            "FAULTS_FOLDER": str(self.folder),
            "FAULTS_CONTROL": str(self.folder / "control"),
        }
        with open(self.folder / "log", "ab") as log:
            command = [self.world.arguments.bridge, "run", "--config", "bridge.toml"]
            self.process = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)

    async def start(self):
        """Resolves once it takes webhooks."""
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
        """By SIGTERM. Returns how long it took."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        code = await asyncio.to_thread(self.process.wait, 40)
        if code != 0:
            raise RuntimeError(f"{self.name} has ended with {code} after SIGTERM")
        return time.monotonic() - began
