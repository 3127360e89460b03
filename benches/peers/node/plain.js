// A webhook relay in the usual style of Node: express, a transaction per event, fetch.
// The relay verifies an event, stores it once, responds after it is on the disk, forwards it,
// and notes the delivery.
'use strict';

const crypto = require('node:crypto');
const Database = require('better-sqlite3');
const express = require('express');

const { PORT, DATABASE, SECRET, TARGET } = process.env;
const RETRY_AFTER = 1000;

const database = new Database(DATABASE);
database.pragma('journal_mode = WAL');
database.pragma('synchronous = FULL');
database.exec(`CREATE TABLE IF NOT EXISTS event (
  sequence     INTEGER PRIMARY KEY,
  id           TEXT NOT NULL UNIQUE,
  type         TEXT NOT NULL,
  body         BLOB NOT NULL,
  delivered_at INTEGER
)`);
const insert = database.prepare('INSERT INTO event (id, type, body) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING');
const mark = database.prepare('UPDATE event SET delivered_at = ? WHERE id = ?');
const waiting = database.prepare('SELECT id, type, body FROM event WHERE delivered_at IS NULL ORDER BY sequence');

function isSigned(request) {
  const hmac = crypto.createHmac('sha256', SECRET);
  hmac.update(`${request.get('x-pepay-timestamp')}.`).update(request.body);
  const signature = Buffer.from(request.get('x-pepay-signature') ?? '', 'hex');
  const expected = hmac.digest();
  return signature.length === expected.length && crypto.timingSafeEqual(signature, expected);
}

async function forward(event) {
  try {
    const answer = await fetch(`${TARGET}/events`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'webhook-id': event.id, 'x-pepay-event': event.type },
      body: event.body,
    });
    await answer.arrayBuffer();
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    mark.run(Date.now(), event.id);
  } catch {
    setTimeout(forward, RETRY_AFTER, event);
  }
}

const app = express();
app.post('/webhooks/pepay', express.raw({ type: '*/*', limit: '256kb' }), (request, response) => {
  if (!isSigned(request)) return response.status(400).json({ error: { code: 'invalid_signature' } });
  const { id, type } = JSON.parse(request.body);
  const isNew = insert.run(id, type, request.body).changes === 1;
  response.json({ ok: true, duplicate: !isNew });
  if (isNew && TARGET) forward({ id, type, body: request.body });
});
if (TARGET) waiting.all().forEach(forward);
app.listen(Number(PORT), '127.0.0.1');
