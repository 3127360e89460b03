"""Sends signed webhooks through a TLS proxy to the bridge, and checks each response.

through.py BASE_URL SECRET
"""

import hashlib
import hmac
import json
import ssl
import sys
import time
import urllib.error
import urllib.request

base, secret = sys.argv[1:]
# The test has made the certificate, so nothing verifies it.
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE


def send(path, body=None, headers=None):
    try:
        answer = urllib.request.urlopen(urllib.request.Request(base + path, body, headers or {}), timeout=20, context=context)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    return answer.status, answer.read()


def webhook(name, size, key=secret, path="/webhooks/pepay"):
    subject = {"object": "commerce_order", "id": "order-1", "note": 'ä "€" \\ \u2028 𝄞 +%20&'}
    event = {"id": f"evt_{name}", "object": "event", "type": "commerce.order.updated", "created": int(time.time())}
    event["data"] = {"object": subject}
    subject["padding"] = "x" * max(0, size - len(json.dumps(event, indent=1, ensure_ascii=False).encode()) - 20)
    # No serialiser writes this white space, so only the unchanged bytes verify.
    body = json.dumps(event, indent=1, ensure_ascii=False).encode() + b"\r\n\t "
    timestamp = str(int(time.time() * 1000))
    signature = hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/json",
        "x-pepay-event-id": event["id"],
        "x-pepay-timestamp": timestamp,
        "x-pepay-signature": signature,
    }
    return send(path, body, headers)


def equal(what, expected, found):
    if expected != found:
        sys.exit(f"{what}: {found} instead of {expected}")


deadline = time.monotonic() + 20
while True:
    try:
        # The proxy answers 502 until the bridge is up.
        if send("/webhooks/none")[0] == 404:
            break
    except OSError:
        pass
    if time.monotonic() > deadline:
        sys.exit("no answer after 20 s")
    time.sleep(0.1)

one = f"{time.time_ns()}-1"
equal("a small one", (200, b'{"ok":true,"duplicate":false}'), webhook(one, 300))
equal("its repeat", (200, b'{"ok":true,"duplicate":true}'), webhook(one, 300))
equal("with a slash more", 200, webhook(f"{one}2", 300, path="/webhooks/pepay/")[0])
equal("one of 250 KiB", 200, webhook(f"{one}3", 250 * 1024)[0])
status, body = webhook(f"{one}4", 300 * 1024)
equal("one of 300 KiB", (413, "payload_too_large"), (status, json.loads(body)["error"]["code"]))
status, body = webhook(f"{one}5", 300, key="another secret of somebody")
equal("a forged one", (400, "invalid_signature"), (status, json.loads(body)["error"]["code"]))
for path in ["/", "/healthz", "/readyz", "/readyz/intake", "/metrics"]:
    equal(path, 404, send(path)[0])
