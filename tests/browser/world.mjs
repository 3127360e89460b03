// The world of a test: a simulated Pepay, targets with given answers, and the bridge, all on loopback
// and in a temporary folder.

import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const BINARY = process.env.PEPAY_BRIDGE_BINARY;
const WEBHOOK_SECRET = 'browser-test-secret';
/** The longest time that a test waits for an event, in milliseconds. */
const PATIENCE = 30_000;
const STOP_LIMIT = 30_000;

/** Calls `question` again and again until its answer is true. Resolves to that answer. */
export async function until(what, question) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const answer = await question();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`not within ${PATIENCE / 1000} s: ${what}`);
    await pause(50);
  }
}

/** A target that keeps a ledger of its requests, and answers as `answer` says. */
export class Target {
  /** "accept", "gone" (410), "busy" (503), or "vanish": it reads the request and breaks the connection. */
  answer = 'accept';
  /** `{ id, replay, attempt, test, headers, text, acknowledged }` of every request. */
  ledger = [];

  static async start() {
    const target = new Target();
    target.server = http.createServer((request, response) => target.take(request, response));
    await once(target.server.listen(0, '127.0.0.1'), 'listening');
    target.url = `http://127.0.0.1:${target.server.address().port}/events`;
    return target;
  }

  async take(request, response) {
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += chunk;
    const { headers } = request;
    const acknowledged = this.answer === 'accept';
    this.ledger.push({
      id: headers['webhook-id'], replay: headers['pepay-bridge-replay'], attempt: headers['pepay-bridge-attempt'],
      test: headers['pepay-bridge-test'], headers, text, acknowledged,
    });
    if (this.answer === 'vanish') response.destroy();
    else response.writeHead({ accept: 200, gone: 410, busy: 503 }[this.answer], { 'content-type': 'application/json' }).end(JSON.stringify({ ok: acknowledged }));
  }

  /** Returns how often it has acknowledged the event. */
  acknowledged(id) {
    return this.ledger.filter((entry) => entry.id === id && entry.acknowledged).length;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

export class World {
  /** `token` is the admin token of the bridge, empty for none. `rate` is the number of events a second that Pepay generates. */
  static async start({ token = '', rate = 0 } = {}) {
    const world = new World();
    try {
      await world.build(token, rate);
    } catch (error) {
      // Processes that have been started would keep this process from ending.
      await world.stop();
      throw error;
    }
    return world;
  }

  async build(token, rate) {
    this.folder = await mkdtemp(path.join(tmpdir(), 'pepay-bridge-browser-'));
    this.token = token;
    [this.orders, this.accounting] = [await Target.start(), await Target.start()];
    this.holder = await holdPorts(4);
    const [publicPort, adminPort, pepayPort, awayPort] = this.holder.ports;
    Object.assign(this, { publicPort, adminPort, pepayPort });
    /** A URL at which nothing listens. */
    this.away = `http://127.0.0.1:${awayPort}/`;
    this.pepay = `http://127.0.0.1:${this.pepayPort}`;
    this.page = `http://127.0.0.1:${this.adminPort}/`;
    this.configuration = path.join(this.folder, 'bridge.toml');
    await this.configure();
    this.simulator = run(['simulator', '--listen', `127.0.0.1:${this.pepayPort}`, '--api-key', 'browser-test-key',
      '--webhook-url', `http://127.0.0.1:${this.publicPort}/webhooks/pepay`, '--webhook-secret', WEBHOOK_SECRET,
      ...(rate ? ['--rate', String(rate)] : [])]);
    await until('the simulator answers', () => answers(`${this.pepay}/_simulator/statistics`));
    await this.startBridge();
  }

  /** Writes the configuration. `concurrency` is that of the target `orders`; `more` are lines at the end. */
  async configure({ concurrency = 16, more = '' } = {}) {
    await writeFile(this.configuration, this.settings(concurrency) + more);
  }

  settings(concurrency) {
    const target = (name, more) => `[targets.${name}]\nurl = "${this[name].url}"\nretry_min = "200ms"\nretry_max = "1s"\n${more}\n`;
    return `
[server]
listen = "127.0.0.1:${this.publicPort}"
admin_listen = "127.0.0.1:${this.adminPort}"
admin_token = "${this.token}"
[store]
url = "sqlite://${this.folder}/bridge.db"
[pepay]
api_url = "${this.pepay}"
api_key = "browser-test-key"
[streams.commerce]
types = ["*"]
start_from = "earliest"
backoff_max = "1s"
[webhooks.default]
secrets = ["${WEBHOOK_SECRET}"]
${target('orders', 'types = ["commerce.order.*"]\ndead_on = [410]\nconcurrency = ' + concurrency)}
${target('accounting', 'on_uncertain = "hold"')}
`;
  }

  async startBridge() {
    this.bridge = run(['run', '--config', this.configuration]);
    await until('the bridge is ready', () => answers(`http://127.0.0.1:${this.publicPort}/readyz`));
    await until('the stream is live', async () => (await this.api('streams')).streams.every(({ phase }) => phase === 'live'));
  }

  async stopBridge() {
    await stop(this.bridge);
  }

  async stopPepay() {
    await stop(this.simulator);
  }

  async stop() {
    await Promise.all([stop(this.bridge), stop(this.simulator)]);
    this.holder?.stdin.end();
    this.orders?.stop();
    this.accounting?.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Resolves to the JSON of a response of the API. */
  async api(path) {
    const headers = this.token ? { authorization: `Bearer ${this.token}` } : {};
    const answer = await fetch(`${this.page}api/v1/${path}`, { headers });
    if (!answer.ok) throw new Error(`/api/v1/${path} has answered ${answer.status}: ${await answer.text()}`);
    return answer.json();
  }

  /** Resolves to the state of a delivery; undefined if there is none. */
  async state(target, id) {
    const { deliveries } = await this.api(`deliveries?id_prefix=${id}&target=${target}`);
    return deliveries[0]?.state;
  }

  /** Makes Pepay publish an event of an order, `copies` times by the stream and by webhook. Resolves to its exact text. */
  async publish(id, { order = `order-of-${id}`, type = 'commerce.order.updated', copies = 1 } = {}) {
    const text = JSON.stringify({
      id, object: 'event', api_version: '2025-12-16', created: Math.floor(Date.now() / 1000), type, livemode: false,
      data: { object: { object: 'commerce_order', id: order, status: 'placed', total: '19.90' } },
    // A browser that parsed and wrote this number would change it.
    }).replace('"19.90"', '19.90');
    const answer = await fetch(`${this.pepay}/_simulator/events?stream=${copies}&webhook=${copies}`, { method: 'POST', body: text });
    if (!answer.ok) throw new Error(`the simulator refuses ${id}: ${await answer.text()}`);
    return text;
  }

  /** Sends `text` as a signed webhook. The simulated Pepay does not know the event. */
  async webhook(text) {
    const timestamp = String(Date.now());
    const signature = createHmac('sha256', WEBHOOK_SECRET).update(`${timestamp}.${text}`).digest('hex');
    const answer = await fetch(`http://127.0.0.1:${this.publicPort}/webhooks/pepay`, {
      method: 'POST', body: text, headers: { 'x-pepay-timestamp': timestamp, 'x-pepay-signature': signature },
    });
    if (!answer.ok) throw new Error(`the bridge refuses the webhook: ${await answer.text()}`);
  }

  async play(count) {
    await fetch(`${this.pepay}/_simulator/play`, { method: 'POST', body: JSON.stringify({ count }) });
  }
}

async function answers(url) {
  try {
    return (await fetch(url)).ok;
  } catch {
    return false;
  }
}

/** Starts the binary. Its log is printed if it ends unexpectedly. */
function run(args) {
  const child = spawn(BINARY, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.on('data', (chunk) => { log = (log + chunk).slice(-20_000); });
  child.on('exit', (code) => {
    if (!child.stopping) process.stderr.write(`${args[0]} has ended with ${code}:\n${log}\n`);
  });
  return child;
}

async function stop(child) {
  if (!child || child.exitCode !== null) return;
  child.stopping = true;
  child.kill('SIGTERM');
  const limit = new AbortController();
  const ended = once(child, 'exit', { signal: limit.signal });
  const timer = setTimeout(() => { child.kill('SIGKILL'); limit.abort(); }, STOP_LIMIT);
  await ended;
  clearTimeout(timer);
}

/** Starts a process that holds `count` ports until its standard input ends. Their numbers are its `ports`. */
async function holdPorts(count) {
  const script = fileURLToPath(new URL('../ports.py', import.meta.url));
  const holder = spawn('python3', [script, String(count)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(holder, 'exit').then(([code]) => { throw new Error(`${script} has ended with ${code}`); });
  const [line] = await Promise.race([once(createInterface({ input: holder.stdout }), 'line'), ended]);
  holder.ports = line.split(' ').map(Number);
  return holder;
}
