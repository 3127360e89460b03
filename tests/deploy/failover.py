"""Kills a bridge, deletes its disk and starts a cold standby from the last backup, in several rounds.

failover.py BINARY FOLDER PEPAY_PORT PUBLIC_PORT ADMIN_PORT TARGET_PORT INTERVAL ROUNDS

The simulator sends each event by stream and by webhook. It repeats a webhook only a few times, as Pepay
is documented to do. This script is the orchestrator and notices the loss at once: a real one adds the
time for detection.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

binary, folder, pepay, public, admin, target, interval, rounds = sys.argv[1:]
folder, interval, rounds = Path(folder), float(interval), int(rounds)
# The bridge warns of secrets with fewer than 16 characters.
api_key, secret, signing = "failover-api-key-0001", "failover-webhook-secret", "whsec_ZmFpbG92ZXIgdGVzdCBzaWduaW5nIGtleSAwMDE="
RATE = 20


def ask(url, body=None):
    return json.load(urllib.request.urlopen(url, body, timeout=5))


def until(what, seconds, holds):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := holds():
                return found
        except OSError:
            pass
        if time.monotonic() > deadline:
            sys.exit(f"failover: FAILED: {what} not within {seconds} s")
        time.sleep(0.02)


def ledger():
    return ask(f"http://127.0.0.1:{target}/ledger")["totals"]


def play(count):
    urllib.request.urlopen(f"http://127.0.0.1:{pepay}/_simulator/play", json.dumps({"count": count}).encode(), timeout=5)


def has_everything(played):
    """Returns whether the bridge has stored and delivered every event."""
    status = ask(f"http://127.0.0.1:{admin}/status")
    return status["store"]["events"] >= played and status["targets"][0]["backlog"] == 0


def start(store, log):
    config = folder / f"{store}.toml"
    config.write_text(f"""
[server]
listen = "127.0.0.1:{public}"
admin_listen = "127.0.0.1:{admin}"
[store]
url = "sqlite://{folder}/{store}/bridge.db"
[pepay]
api_url = "http://127.0.0.1:{pepay}"
api_key = "{api_key}"
[streams.commerce]
types = ["*"]
reconcile_interval = "5s"
[webhooks.default]
secrets = ["{secret}"]
[targets.orders]
url = "http://127.0.0.1:{target}/events"
signing_secret = "{signing}"
""")
    (folder / store).mkdir(exist_ok=True)
    return config, subprocess.Popen([binary, "run", "--config", config], stderr=(folder / log).open("w"))


environment = os.environ | {
    "PEPAY_SIMULATOR_API_KEY": api_key,
    "PEPAY_SIMULATOR_WEBHOOK_SECRET": secret,
    "PEPAY_SIMULATOR_TARGET_SECRET": signing,
}
simulator = subprocess.Popen(
    [binary, "simulator", f"--listen=127.0.0.1:{pepay}", f"--webhook-url=http://127.0.0.1:{public}/webhooks/pepay",
     f"--target-listen=127.0.0.1:{target}"],
    env=environment, stdout=subprocess.DEVNULL, stderr=(folder / "simulator.log").open("w"),
)
bridge = None
try:
    until("the simulator", 20, lambda: ledger() is not None)
    config, bridge = start("store0", "bridge0.log")
    until("the first bridge", 30, lambda: ask(f"http://127.0.0.1:{public}/readyz"))
    played, results = 0, []
    for number in range(1, rounds + 1):
        backup, taken = None, 0
        began = time.monotonic()
        # The disk is lost after two backups and before the third.
        while time.monotonic() < began + 2.7 * interval:
            if time.monotonic() > taken + interval:
                new = folder / f"backup{number}-{time.monotonic_ns()}.db"
                subprocess.run([binary, "backup", new, "--config", config], check=True, stdout=subprocess.DEVNULL, timeout=60)
                backup, taken = new, time.monotonic()
            play(RATE // 4)
            played += RATE // 4
            time.sleep(0.25)
        before = ledger()
        killed = time.monotonic()
        bridge.send_signal(signal.SIGKILL)
        bridge.wait()
        shutil.rmtree(folder / f"store{number - 1}")
        # Events that happen while no bridge runs arrive by the stream, or by a repeated webhook.
        play(RATE // 2)
        played += RATE // 2
        # From here on only the last backup of the first machine is used.
        (folder / f"store{number}").mkdir()
        shutil.copyfile(backup, folder / f"store{number}" / "bridge.db")
        os.chmod(folder / f"store{number}" / "bridge.db", 0o600)
        config, bridge = start(f"store{number}", f"bridge{number}.log")
        until("the standby", 30, lambda: ask(f"http://127.0.0.1:{public}/readyz/intake"))
        intake = time.monotonic() - killed
        until("every event in the new store", 120, lambda: has_everything(played))
        until("every event at the target", 120, lambda: ledger()["unique"] >= played)
        whole = time.monotonic() - killed
        after = ledger()
        results.append((killed - taken, intake, whole, played - after["unique"], after["repeated"] - before["repeated"]))
        print(
            f"failover: round {number}: state restored was {results[-1][0]:.1f} s old, webhooks taken again after {intake:.2f} s,"
            f" everything at the target after {whole:.1f} s; lost {results[-1][3]}, sent again {results[-1][4]}",
            flush=True,
        )
    worst = [max(column) for column in zip(*results)]
    print(
        f"failover: ok: {rounds} rounds, {played} events, a backup every {interval:g} s: RPO of the store {worst[0]:.1f} s,"
        f" RTO {worst[1]:.2f} s, lost {worst[3]}, sent again at most {worst[4]}"
    )
finally:
    for process in (bridge, simulator):
        if process:
            process.terminate()
            process.wait(40)
