// A target of pepay-bridge: Express 4 or 5, pg and the Standard Webhooks library.
//
//     npm install
//     export SIGNING_SECRET=whsec_… DATABASE_URL=postgresql://… PORT=8000
//     node receiver.mjs

import express from 'express';
import pg from 'pg';
import { Webhook } from 'standardwebhooks';

const webhook = new Webhook(process.env.SIGNING_SECRET);
const database = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 8 });
// A connection that breaks while it is not in use must not end the process.
database.on('error', (error) => console.error(error.message));

const app = express();

// The bytes as they came: parsed and written again, they would not verify. Express refuses more
// than 100 KiB by default, and events of 256 KiB and more arrive.
app.post('/pepay-events', express.raw({ type: () => true, limit: '4mb' }), async (request, response) => {
  let event;
  try {
    event = webhook.verify(request.body, request.headers);
  } catch {
    response.status(401).send('the signature does not verify');
    return;
  }
  try {
    await receiveOnce(request.headers['webhook-id'], event);
    response.sendStatus(204);
  } catch (error) {
    // Express 4 sees no error of an async handler. pepay-bridge sends the event again.
    console.error(error.message);
    response.sendStatus(500);
  }
});

/** One transaction: the id and the work it stands for are kept together, or neither is. */
async function receiveOnce(id, event) {
  const connection = await database.connect();
  let failure;
  try {
    await connection.query('BEGIN');
    const taken = await connection.query('INSERT INTO received (webhook_id) VALUES ($1) ON CONFLICT DO NOTHING', [id]);
    if (taken.rowCount) await apply(connection, event);
    await connection.query('COMMIT');
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    // A connection that has failed is closed, and its transaction with it.
    connection.release(failure);
  }
}

/** Does the work of one event. Pepay names an order by `id` or by `orderId`. */
async function apply(connection, event) {
  const subject = event.data?.object ?? {};
  const order = subject.id ?? subject.orderId;
  if (order == null) return;
  await connection.query(
    `INSERT INTO orders (id, status, changes) VALUES ($1, $2, 1)
     ON CONFLICT (id) DO UPDATE SET status = excluded.status, changes = orders.changes + 1`,
    [String(order), subject.status ?? null],
  );
}

app.listen(Number(process.env.PORT ?? 8000), '127.0.0.1');
