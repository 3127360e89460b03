"""A target of pepay-bridge: Flask, psycopg 3 and the Standard Webhooks library.

    pip install -r requirements.txt
    export SIGNING_SECRET=whsec_… DATABASE_URL=postgresql://…
    gunicorn --workers 2 --threads 16 --bind 127.0.0.1:8000 receiver:app
"""

import json
import os

from flask import Flask, request
from psycopg_pool import ConnectionPool
from standardwebhooks.webhooks import Webhook

webhook = Webhook(os.environ["SIGNING_SECRET"])
database = ConnectionPool(os.environ["DATABASE_URL"], min_size=1, max_size=8, open=True)
app = Flask(__name__)
# Events of 256 KiB and more arrive; what is larger than this is answered 413.
app.config["MAX_CONTENT_LENGTH"] = 4 * 1024 * 1024


@app.post("/pepay-events")
def receive():
    # The bytes as they came: parsed and written again, they would not verify.
    body = request.get_data()
    try:
        webhook.verify(body, dict(request.headers), json_parse=False)
    except Exception:
        # A malformed signature raises other errors than WebhookVerificationError.
        return "the signature does not verify", 401
    event = json.loads(body)
    # One transaction: the id and the work it stands for are kept together, or neither is.
    # An error is a 500, and pepay-bridge sends the event again.
    with database.connection() as connection:
        taken = connection.execute(
            "INSERT INTO received (webhook_id) VALUES (%s) ON CONFLICT DO NOTHING",
            [request.headers["webhook-id"]],
        )
        if taken.rowcount:
            apply(connection, event)
    return "", 204


def apply(connection, event):
    """Does the work of one event. Pepay names an order by `id` or by `orderId`."""
    subject = event.get("data", {}).get("object", {})
    order = subject.get("id") or subject.get("orderId")
    if order is None:
        return
    connection.execute(
        "INSERT INTO orders (id, status, changes) VALUES (%s, %s, 1)"
        " ON CONFLICT (id) DO UPDATE SET status = excluded.status, changes = orders.changes + 1",
        [str(order), subject.get("status")],
    )
