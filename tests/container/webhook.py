"""Sends one signed webhook of Pepay and prints the status and the body of the response.

webhook.py URL SECRET EVENT_ID
"""

import hashlib
import hmac
import json
import sys
import time
import urllib.error
import urllib.request

url, secret, event_id = sys.argv[1:]
event_type = "commerce.order.updated"
body = json.dumps(
    {
        "id": event_id,
        "object": "event",
        "created": 1734780000,
        "type": event_type,
        "data": {"object": {"object": "commerce_order", "id": "order-1", "status": "placed"}},
    }
).encode()
timestamp = str(int(time.time() * 1000))
signature = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
request = urllib.request.Request(
    url,
    body,
    {
        "content-type": "application/json",
        "x-pepay-event": event_type,
        "x-pepay-event-id": event_id,
        "x-pepay-timestamp": timestamp,
        "x-pepay-signature": signature,
    },
)
try:
    answer = urllib.request.urlopen(request, timeout=10)
except urllib.error.HTTPError as refusal:
    answer = refusal
print(answer.status, answer.read().decode())
