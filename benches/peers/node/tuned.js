// The same relay, tuned for Node on one thread: bare node:http, one transaction for all events that have
// arrived in the meantime, prepared statements, and a pool of connections to the target. Deliveries are
// noted in the next transaction.
'use strict';

const crypto = require('node:crypto');
const http = require('node:http');
const Database = require('better-sqlite3');
const { Pool } = require('undici');

const { PORT, DATABASE, SECRET, TARGET } = process.env;
const CONNECTIONS = 16;
const RETRY_AFTER = 1000;
const TIMESTAMP_TOLERANCE = 5 * 60 * 1000;

const database = new Database(DATABASE);
database.pragma('journal_mode = WAL');
database.pragma('synchronous = FULL');
database.pragma('cache_size = -4096');
database.exec(`
  CREATE TABLE IF NOT EXISTS event (
    sequence     INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    type         TEXT NOT NULL,
    body         BLOB NOT NULL
  );
  CREATE TABLE IF NOT EXISTS waiting (sequence INTEGER PRIMARY KEY);
`);
const begin = database.prepare('BEGIN IMMEDIATE');
const commit = database.prepare('COMMIT');
const insert = database.prepare('INSERT INTO event (id, type, body) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING');
const owe = database.prepare('INSERT INTO waiting (sequence) VALUES (?)');
const settle = database.prepare('DELETE FROM waiting WHERE sequence = ?');
const left = database.prepare('SELECT sequence, id, type, body FROM waiting JOIN event USING (sequence) ORDER BY sequence');

const NEW = Buffer.from('{"ok":true,"duplicate":false}');
const DUPLICATE = Buffer.from('{"ok":true,"duplicate":true}');
const REFUSED = Buffer.from('{"error":{"code":"invalid_signature"}}');
const pool = TARGET ? new Pool(TARGET, { connections: CONNECTIONS, pipelining: 1 }) : null;

let arrived = [];
let delivered = [];
let flushing = false;
const outgoing = [];
let next = 0;
let inFlight = 0;

function flushSoon() {
  if (flushing) return;
  flushing = true;
  setImmediate(flush);
}

function flush() {
  flushing = false;
  const [events, done] = [arrived, delivered];
  [arrived, delivered] = [[], []];
  begin.run();
  for (const event of events) {
    const { changes, lastInsertRowid } = insert.run(event.id, event.type, event.body);
    event.sequence = changes === 1 ? lastInsertRowid : null;
    if (pool && event.sequence !== null) owe.run(event.sequence);
  }
  for (const sequence of done) settle.run(sequence);
  commit.run();
  for (const event of events) {
    answer(event.response, 200, event.sequence === null ? DUPLICATE : NEW);
    event.response = null;
    if (pool && event.sequence !== null) outgoing.push(event);
  }
  forwardMore();
}

function forwardMore() {
  while (inFlight < CONNECTIONS && next < outgoing.length) {
    const event = outgoing[next];
    outgoing[next++] = undefined;
    inFlight += 1;
    forward(event);
  }
  if (next > 10000 && next * 2 > outgoing.length) {
    outgoing.splice(0, next);
    next = 0;
  }
}

async function forward(event) {
  try {
    const { statusCode, body } = await pool.request({
      path: '/events',
      method: 'POST',
      headers: ['content-type', 'application/json', 'webhook-id', event.id, 'x-pepay-event', event.type],
      body: event.body,
    });
    await body.dump();
    if (statusCode < 200 || statusCode > 299) throw new Error(`status ${statusCode}`);
    delivered.push(event.sequence);
    flushSoon();
  } catch {
    setTimeout(() => { outgoing.push(event); forwardMore(); }, RETRY_AFTER);
  }
  inFlight -= 1;
  forwardMore();
}

function answer(response, status, body) {
  response.writeHead(status, ['content-type', 'application/json', 'content-length', body.length]);
  response.end(body);
}

function isSigned(headers, body) {
  const timestamp = headers['x-pepay-timestamp'] ?? '';
  if (!(Math.abs(Date.now() - Number(timestamp)) <= TIMESTAMP_TOLERANCE)) return false;
  const signature = Buffer.from(headers['x-pepay-signature'] ?? '', 'hex');
  const expected = crypto.createHmac('sha256', SECRET).update(`${timestamp}.`).update(body).digest();
  return signature.length === expected.length && crypto.timingSafeEqual(signature, expected);
}

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
    if (!isSigned(request.headers, body)) return answer(response, 400, REFUSED);
    const { id, type } = JSON.parse(body);
    arrived.push({ id, type, body, response, sequence: null });
    flushSoon();
  });
});
if (pool) {
  outgoing.push(...left.all());
  forwardMore();
}
server.listen(Number(PORT), '127.0.0.1', 1024);
