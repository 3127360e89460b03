"""Sends events to the receivers through the real binary, and checks their databases.

drive.py BINARY FOLDER PUBLIC_PORT ADMIN_PORT DATABASE_PORT SIGNING_SECRET NAME=PORT...

Each receiver is a target of one bridge, and its database has its name.
"""

import hashlib
import hmac
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

import psycopg
from standardwebhooks.webhooks import Webhook

binary, folder, public, admin, database, secret, *receivers = sys.argv[1:]
receivers = dict(receiver.split("=") for receiver in receivers)
pepay_secret = "secret-of-the-receivers-test"
folder = Path(folder)
SMALL, LARGE, ORDERS = 120, 3, 7


def fail(text):
    sys.exit(f"receivers: FAILED: {text}")


def request(url, body=None, headers=None):
    """Sends a request. Returns the status and the body of the response."""
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, body, headers or {}), timeout=20)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    return answer.status, answer.read()


def until(what, seconds, holds):
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found is True:
            return
        if time.monotonic() > deadline:
            fail(f"{what}: {found} after {seconds} s")
        time.sleep(0.1)


def event(number, size=0):
    """Returns the id and the body of an event of an order, with unusual characters. `size` is its least size in bytes."""
    order = f"order-{number % ORDERS}"
    subject = {"object": "commerce_order", "status": "placed", "note": 'ä "€" \\ \u2028 𝄞 </script>'}
    # Pepay documents both names.
    subject["id" if number % 2 else "orderId"] = order
    whole = {
        "id": f"evt_{1734780000000 + number}-{number}",
        "object": "event",
        "type": "commerce.order.updated",
        "created": 1734780000 + number,
        "data": {"object": subject},
    }
    subject["padding"] = "x" * max(0, size - len(json.dumps(whole, ensure_ascii=False).encode()) - 14)
    # No serialiser writes this white space, so only the raw bytes verify.
    return whole["id"], json.dumps(whole, ensure_ascii=False, indent=1).encode()


def post(event_id, body):
    timestamp = str(int(time.time() * 1000))
    signature = hmac.new(pepay_secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/json",
        "x-pepay-event-id": event_id,
        "x-pepay-timestamp": timestamp,
        "x-pepay-signature": signature,
    }
    status, said = request(f"http://127.0.0.1:{public}/webhooks/pepay", body, headers)
    if status != 200:
        fail(f"the bridge answered {status} to {event_id}: {said}")


def connect(name):
    return psycopg.connect(host="127.0.0.1", port=database, user="receiver", dbname=name, autocommit=True)


def counts(name):
    """Returns the number of events that the receiver has taken, and of those that it has applied."""
    with connect(name) as connection:
        return connection.execute(
            "SELECT (SELECT count(*) FROM received), (SELECT coalesce(sum(changes), 0)::int FROM orders)"
        ).fetchone()


def have(number):
    def look():
        found = {name: counts(name) for name in receivers}
        return True if all(one == (number, number) for one in found.values()) else found

    return look


def backlog_is_empty():
    status = json.loads(request(f"http://127.0.0.1:{admin}/status")[1])
    found = {target["name"]: (target["backlog"], target["last_error"]) for target in status["targets"]}
    return True if all(backlog == 0 for backlog, _ in found.values()) else found


def command(*arguments):
    ended = subprocess.run(
        [binary, *arguments, "--admin-url", f"http://127.0.0.1:{admin}"],
        env={"PEPAY_BRIDGE_CONFIG": str(config)}, capture_output=True, text=True, timeout=60,
    )
    if ended.returncode != 0:
        fail(f"{arguments}: {ended.stdout}{ended.stderr}")


config = folder / "bridge.toml"
config.write_text(
    f"""
[server]
listen = "127.0.0.1:{public}"
admin_listen = "127.0.0.1:{admin}"
[store]
url = "sqlite://{folder}/bridge.db"
[webhooks.default]
secrets = ["{pepay_secret}"]
"""
    + "".join(
        f"""
[targets.{name}]
url = "http://127.0.0.1:{port}/pepay-events"
signing_secret = "{secret}"
retry_min = "200ms"
retry_max = "1s"
"""
        for name, port in receivers.items()
    )
)
bridge = subprocess.Popen([binary, "run", "--config", config], stderr=(folder / "bridge.log").open("w"))
try:
    def ready():
        for name, port in receivers.items():
            try:
                request(f"http://127.0.0.1:{port}/pepay-events", b"{}")
            except OSError as error:
                return f"{name}: {error}"
        try:
            return request(f"http://127.0.0.1:{public}/readyz/intake")[0] == 200
        except OSError as error:
            return str(error)

    until("the start", 30, ready)

    for number in range(SMALL):
        post(*event(number))
        if number % 10 == 0:
            post(*event(number))
    for number in range(SMALL, SMALL + LARGE):
        # These have the largest size that the bridge takes by default.
        post(*event(number, 256 * 1024 - 512))
    total = SMALL + LARGE
    until("every event, applied once", 60, have(total))
    until("an empty backlog", 20, backlog_is_empty)
    print(f"receivers: ok: {total} events, {LARGE} of them of 256 KiB, each applied once")

    # The same webhook-id is sent again, as after a lost response.
    again = event(1)[0]
    for name in receivers:
        command("events", "replay", again, "--target", name)
    until("the replays", 20, backlog_is_empty)
    if have(total)() is not True:
        fail(f"a repeat was applied: {have(total)()}")
    print("receivers: ok: a repeat is acknowledged and changes nothing")

    # The work fails after the id has been written: the receiver has to roll back both.
    for name in receivers:
        with connect(name) as connection:
            connection.execute("ALTER TABLE orders RENAME TO away")
    post(*event(total))
    until(
        "the failures", 20,
        lambda: all(
            (target["last_error"] or {}).get("error", "").startswith("answered 500")
            for target in json.loads(request(f"http://127.0.0.1:{admin}/status")[1])["targets"]
        ) or "not all of them have answered 500",
    )
    for name in receivers:
        with connect(name) as connection:
            if connection.execute("SELECT count(*) FROM received").fetchone() != (total,):
                fail(f"{name} keeps the id of an event whose work has failed")
            connection.execute("ALTER TABLE away RENAME TO orders")
    until("the retries", 30, have(total + 1))
    print("receivers: ok: an event whose work fails is not taken, and is applied once with the next attempt")

    event_id, body = event(total + 1)
    signed = Webhook(secret)
    now = int(time.time())

    def headers(timestamp, signature):
        given = {"webhook-id": event_id, "webhook-timestamp": timestamp, "webhook-signature": signature}
        return {"content-type": "application/json"} | {name: value for name, value in given.items() if value}

    def sign(key, seconds, text):
        return key.sign(event_id, datetime.fromtimestamp(seconds, tz=timezone.utc), text.decode())

    other = Webhook("whsec_b3RoZXIga2V5LCBvdGhlciBrZXksIG90aGVyIGtleQ==")
    forged = {
        "another key": headers(str(now), sign(other, now, body)),
        "another body": headers(str(now), sign(signed, now, body + b" ")),
        "too old": headers(str(now - 3600), sign(signed, now - 3600, body)),
        "from the future": headers(str(now + 3600), sign(signed, now + 3600, body)),
        "no signature": headers(str(now), None),
        "no timestamp": headers(None, sign(signed, now, body)),
        "no comma": headers(str(now), "v1"),
        "no base64": headers(str(now), "v1,%%%"),
        "not a number": headers("soon", sign(signed, now, body)),
    }
    for name, port in receivers.items():
        for case, given in forged.items():
            status, said = request(f"http://127.0.0.1:{port}/pepay-events", body, given)
            if status != 401:
                fail(f"{name} answered {status} to a request with {case}: {said}")
    if have(total + 1)() is not True:
        fail("a forged event was taken")
    print(f"receivers: ok: {len(forged)} kinds of forged requests are answered 401")
finally:
    bridge.terminate()
    bridge.wait(30)
