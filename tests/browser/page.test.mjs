// The page in a real browser, on the real binary.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { after, before, beforeEach, test } from 'node:test';
import { promisify } from 'node:util';
import axe from 'axe-core';
import { DESK, fitsItsWidth, isLive, launch, NARROW, PHONE, TABLET, visit } from './browser.mjs';
import { until, World } from './world.mjs';

let [browser, world] = [null, null];
/** An event that is stored before the first test, among others. */
const KNOWN = { id: 'evt_1764000000001-1', order: 'order-to-find', text: null };

before(async () => {
  world = await World.start();
  browser = await launch();
  await world.play(60);
  KNOWN.text = await world.publish(KNOWN.id, KNOWN);
  for (const target of ['orders', 'accounting']) await settledAs(target, KNOWN.id, 'delivered');
});
after(async () => {
  await browser?.close();
  await world?.stop();
});

beforeEach(() => {
  for (const target of [world.orders, world.accounting]) target.answer = 'accept';
});

const open = (page, address = '') => page.goto(`${world.page}${address}`);
const button = (page, name) => page.getByRole('button', { name, exact: true });
const dialog = (page) => page.getByRole('dialog');
const said = (page, text) => page.locator('#said', { hasText: text }).waitFor();
const settledAs = (target, id, state) => until(`${id} is ${state} for ${target}`, async () => (await world.state(target, id)) === state);

test('the overview is live: events are counted without reloading', async () => {
  await visit(browser, {}, async (page) => {
    await open(page);
    await isLive(page);
    await page.getByText('Ready.').waitFor();
    const before = (await world.api('overview')).store.events;
    await world.play(40);
    await page.locator('.tile', { hasText: 'Stored' }).locator('.figure', { hasText: new RegExp(`^${before + 40}$`) }).waitFor();
    await page.getByRole('img', { name: 'Received over time' }).waitFor();
    await page.locator('figure', { hasText: 'Unique' }).locator('desc', { hasText: 'in the last 15 min; at most' }).waitFor({ state: 'attached' });
    await page.getByText('The same as a table').click();
    await page.getByRole('table', { name: /Counts in each 15 s/ }).waitFor();
    const sources = page.getByRole('table', { name: 'Events by source' });
    for (const source of ['stream', 'webhook']) await sources.getByRole('row', { name: source }).waitFor();
    await page.getByText('The other followed after').waitFor();
  });
});

test('what is unknown, since the store cannot be read, is not shown as nothing', async () => {
  const overview = await world.api('overview');
  const unknown = { backlog: null, backlog_oldest_seconds: null, backlog_oldest_at: null, held: null, dead: null };
  const targets = overview.targets.map((target) => ({ ...target, ...unknown }));
  const store = { ...overview.store, error: 'the store does not answer' };
  await visit(browser, {}, async (page) => {
    await page.route('**/api/v1/overview', (route) => route.fulfill({ json: { ...overview, targets, store } }));
    await page.route('**/api/v1/live', () => {});
    await open(page);
    await page.locator('.verdict', { hasText: 'The store cannot be read, so that it is unknown what waits: the store does not answer' }).waitFor();
    assert.equal(await page.getByText('no delivery waits for an operator').count(), 0);
    for (const name of ['Backlog', 'Dead', 'Held']) {
      await page.locator('.tile', { hasText: name }).getByText('unknown', { exact: true }).waitFor();
    }
  });
});

test('an event is found by its id and by its order, with its story and its exact bytes', async () => {
  await visit(browser, { permissions: ['clipboard-read', 'clipboard-write'] }, async (page) => {
    await open(page, '#/events');
    await page.getByLabel('Order or other object').fill(KNOWN.order);
    await button(page, 'Search').click();
    await page.getByText('1 event', { exact: true }).waitFor();
    assert.match(page.url(), /#\/events\?order_id=order-to-find$/, 'the address can be shared');
    await button(page, 'Clear').click();
    await page.getByLabel('Event id').fill(KNOWN.id.slice(0, -1));
    await page.getByLabel('Event id').press('Enter');
    await page.getByText('1 event', { exact: true }).waitFor();
    await page.getByRole('link', { name: KNOWN.id }).click();

    await page.getByRole('heading', { level: 1, name: KNOWN.id }).waitFor();
    const story = page.locator('.timeline');
    await story.getByText('Created at Pepay').waitFor();
    await story.getByText(/^Received by (stream|webhook)$/).waitFor();
    await until('both sources are in the story', async () => {
      const steps = await story.innerText();
      return /Came again by (stream|webhook)/.test(steps) || (await page.reload(), false);
    });
    await story.getByText(/Attempt 1 to accounting: answered 200/).waitFor();
    await story.getByText(/Attempt 1 to orders: answered 200/).waitFor();
    await page.getByText('"total": 19.90', { exact: false }).first().waitFor();

    const [download] = await Promise.all([page.waitForEvent('download'), button(page, 'Download').click()]);
    assert.equal(await readFile(await download.path(), 'utf8'), KNOWN.text);
    await button(page, 'Copy').click();
    await said(page, 'Copied.');
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), KNOWN.text);
  });
});

test('content from outside is shown as text, and the content security policy allows nothing else', async () => {
  const [id, order] = ['evt_1764000000009-1', '<img src=x onerror="document.title=1">'];
  await world.publish(id, { order });
  await settledAs('orders', id, 'delivered');
  await visit(browser, {}, async (page) => {
    const answer = await open(page, '#/events?id_prefix=evt_1764000000009');
    const policy = answer.headers()['content-security-policy'];
    for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'none'", "frame-ancestors 'none'"]) {
      assert.ok(policy.split('; ').includes(part), `${part} is in ${policy}`);
    }
    await page.getByRole('link', { name: order }).waitFor();
    await page.getByRole('link', { name: id, exact: true }).click();
    await page.locator('pre', { hasText: '"<img src=x onerror=' }).waitFor();
    assert.equal(await page.locator('main img').count(), 0);
  });
});

test('filters are kept in the address, and an unknown event is reported in words', async () => {
  await visit(browser, { expected: /status of (400|404)/ }, async (page) => {
    await open(page, '#/events?type=commerce.order.*&within=3600&target=orders&state=delivered');
    await page.getByText('More filters, 4 in use').waitFor();
    assert.equal(await page.getByLabel('Type').inputValue(), 'commerce.order.*');
    await page.getByRole('table', { name: 'Events' }).waitFor();
    await page.getByLabel('Type').fill('invoice.*');
    await button(page, 'Search').click();
    await page.getByText('No event matches.').first().waitFor();
    await page.goBack();
    await page.getByRole('table', { name: 'Events' }).waitFor();
    assert.equal(await page.getByLabel('Type').inputValue(), 'commerce.order.*');
    await open(page, '#/events?from=2026-01-01T00:00:30.000Z&to=2026-01-01T01:00:00.000Z');
    await page.getByText('No event matches.').first().waitFor();
    assert.equal(await page.getByLabel('From (UTC)', { exact: true }).inputValue(), '2026-01-01T00:00:30');
    await page.getByLabel('To, not included').fill('2099-01-01T00:00:30');
    await button(page, 'Search').click();
    await page.getByRole('table', { name: 'Events' }).waitFor();
    assert.match(page.url(), /to=2099-01-01T00%3A00%3A30.000Z/);
    await open(page, '#/events/evt_nobody_knows');
    await page.getByRole('alert').filter({ hasText: /evt_nobody_knows|no .*event/i }).waitFor();
  });
});

test('more events are loaded when asked for', async () => {
  await visit(browser, {}, async (page) => {
    await open(page, '#/events');
    await page.getByText('50 events, and more').waitFor();
    await button(page, 'Load more').click();
    await page.getByText(/^(100 events, and more|[5-9]\d events)$/).waitFor();
  });
});

test('a broken target is found by its dead deliveries, repaired, and retried in bulk', async () => {
  const ids = [1, 2, 3, 4].map((n) => `evt_1764000000002-${n}`);
  world.orders.answer = 'gone';
  for (const id of ids.slice(0, 3)) await world.publish(id);
  for (const id of ids.slice(0, 3)) await settledAs('orders', id, 'dead');
  await visit(browser, { expected: /status of 409/ }, async (page) => {
    await open(page);
    await page.locator('.tile', { hasText: 'Dead' }).getByRole('link', { name: '3' }).click();
    await page.getByRole('heading', { level: 1, name: 'Deliveries' }).waitFor();
    await page.getByText('3 deliveries', { exact: true }).waitFor();
    for (const id of ids.slice(0, 3)) await page.getByRole('link', { name: id, exact: true }).waitFor();

    await button(page, 'Retry all').click();
    await dialog(page).getByText('3 deliveries').first().waitFor();
    // One more delivery dies while the operator reads the dialog.
    await world.publish(ids[3]);
    await settledAs('orders', ids[3], 'dead');
    world.orders.answer = 'accept';
    await dialog(page).getByRole('button', { name: 'Retry 3 deliveries' }).click();
    await dialog(page).getByText('Meanwhile it is 4 deliveries that match').waitFor();
    await dialog(page).getByRole('button', { name: 'Retry 4 deliveries' }).click();
    await said(page, '4 deliveries retried.');
    for (const id of ids) await settledAs('orders', id, 'delivered');
    await button(page, 'Refresh').click();
    await page.getByText('Nothing is dead').first().waitFor();
  });
  for (const id of ids) assert.equal(world.orders.acknowledged(id), 1, `${id} is acknowledged once`);
  const orders = (await world.api('targets')).targets.find(({ name }) => name === 'orders');
  assert.deepEqual([orders.dead, orders.backlog], [0, 0]);
});

test('a change of many shows how far it has come', async () => {
  const ids = [1, 2].map((n) => `evt_1764000000010-${n}`);
  world.orders.answer = 'gone';
  for (const id of ids) await world.publish(id);
  for (const id of ids) await settledAs('orders', id, 'dead');
  world.orders.answer = 'accept';
  await visit(browser, {}, async (page) => {
    let release;
    const released = new Promise((resolve) => { release = resolve; });
    await page.route('**/api/v1/deliveries/retry', async (route) => {
      if (route.request().postDataJSON().confirm) await released;
      await route.continue();
    });
    // Two deliveries are changed too fast for a look at the progress, so the response is made up.
    const calls = [{ action: 'close', matching: 2, gone_through: 2, changed: 2 }, { action: 'retry', matching: 2, gone_through: 1, changed: 1 }];
    await page.route('**/api/v1/bulk', (route) => route.fulfill({ json: { calls } }));
    await open(page, '#/deliveries?state=dead');
    await button(page, 'Retry all').click();
    await dialog(page).getByRole('button', { name: 'Retry 2 deliveries' }).click();
    await dialog(page).getByText('1 of 2', { exact: true }).waitFor();
    assert.equal(await dialog(page).getByRole('progressbar', { name: 'Working' }).evaluate(({ value, max }) => value / max), 0.5);
    release();
    await said(page, '2 deliveries retried.');
    await dialog(page).waitFor({ state: 'detached' });
  });
  for (const id of ids) await settledAs('orders', id, 'delivered');
});

test('held deliveries are released or closed', async () => {
  const [released, closed] = ['evt_1764000000003-1', 'evt_1764000000003-2'];
  world.accounting.answer = 'vanish';
  for (const id of [released, closed]) {
    await world.publish(id);
    await settledAs('accounting', id, 'held');
  }
  world.accounting.answer = 'accept';
  await visit(browser, {}, async (page) => {
    await open(page, '#/deliveries?state=held');
    await page.getByText('2 deliveries', { exact: true }).waitFor();
    await button(page, `Release delivery of ${released} to accounting`).click();
    await dialog(page).getByRole('button', { name: 'Release delivery' }).click();
    await said(page, 'released');
    await settledAs('accounting', released, 'delivered');

    await page.getByRole('link', { name: closed, exact: true }).click();
    await page.locator('.timeline').getByText('release or close it').waitFor();
    const retry = button(page, 'Retry for accounting');
    assert.equal(await retry.getAttribute('aria-disabled'), 'true');
    await retry.click({ force: true });
    await page.getByRole('alert').filter({ hasText: 'Retry is for deliveries that are dead' }).waitFor();
    await button(page, 'Close for accounting').click();
    await dialog(page).getByRole('button', { name: 'Close delivery' }).click();
    await said(page, 'closed');
    await page.getByRole('heading', { level: 3, name: 'accounting closed' }).waitFor();
  });
  assert.equal(world.accounting.acknowledged(released), 1);
  assert.equal(world.accounting.acknowledged(closed), 0);
});

test('a delivered event is replayed, marked as such', async () => {
  const id = 'evt_1764000000004-1';
  await world.publish(id);
  await settledAs('orders', id, 'delivered');
  await visit(browser, {}, async (page) => {
    await open(page, `#/events/${id}`);
    await button(page, 'Replay to orders').click();
    await dialog(page).getByRole('button', { name: 'Replay event' }).click();
    await said(page, 'The event is sent to orders again.');
    await until('the target has the replay', () => world.orders.ledger.some((entry) => entry.id === id && entry.replay === '1'));
  });
});

test('a target is paused and resumed, and a delivery that waits is cancelled', async () => {
  const [sent, cancelled] = ['evt_1764000000005-1', 'evt_1764000000005-2'];
  await visit(browser, {}, async (page) => {
    await open(page, '#/targets');
    await button(page, 'Pause orders').click();
    await dialog(page).getByRole('button', { name: 'Pause target' }).click();
    await said(page, 'orders is paused.');
    await button(page, 'Resume orders').waitFor();
    for (const id of [sent, cancelled]) {
      await world.publish(id);
      await settledAs('accounting', id, 'delivered');
    }
    const card = page.getByRole('region', { name: /orders/ });
    await card.locator('.facts > div', { hasText: 'Backlog' }).getByText(/^2, oldest from/).waitFor();
    assert.equal(world.orders.acknowledged(sent), 0);

    await open(page, `#/events/${cancelled}`);
    await button(page, 'Cancel for orders').click();
    await dialog(page).getByRole('button', { name: 'Cancel delivery' }).click();
    await said(page, 'cancelled');

    await open(page, '#/targets');
    await button(page, 'Resume orders').click();
    await dialog(page).getByRole('button', { name: 'Resume target' }).click();
    await said(page, 'orders is resumed.');
    await settledAs('orders', sent, 'delivered');
  });
  assert.equal(world.orders.acknowledged(cancelled), 0);
});

test('a dialog stays open while the bridge does what was confirmed', async () => {
  await visit(browser, {}, async (page) => {
    await open(page, '#/targets');
    let release;
    const released = new Promise((resolve) => { release = resolve; });
    await page.route('**/api/v1/targets/orders/pause', async (route) => {
      await released;
      await route.continue();
    });
    await button(page, 'Pause orders').click();
    await dialog(page).getByRole('button', { name: 'Pause target' }).click();
    await dialog(page).getByRole('progressbar', { name: 'Working' }).waitFor();
    assert.ok(await dialog(page).getByRole('button', { name: 'Go back' }).isDisabled());
    for (let presses = 0; presses < 3; presses += 1) await page.keyboard.press('Escape');
    assert.ok(await dialog(page).isVisible());
    release();
    await said(page, 'orders is paused.');
    await dialog(page).waitFor({ state: 'detached' });

    await button(page, 'Resume orders').click();
    await page.keyboard.press('Escape');
    await dialog(page).waitFor({ state: 'detached' });
    await button(page, 'Resume orders').click();
    await dialog(page).getByRole('button', { name: 'Resume target' }).click();
    await said(page, 'orders is resumed.');
  });
});

test('invisible characters are escaped, and every event that can be stored is shown', async () => {
  const [many, turned, deep] = ['evt_1764000000018-1', 'evt_1764000000018-2', 'evt_1764000000018-3'];
  const text = (id, object) => `{"id":"${id}","object":"event","type":"test.ping","created":1764000000,"data":{"object":${object}}}`;
  await world.webhook(text(many, `{"id":"o","values":[${'1,'.repeat(60_000)}1]}`));
  await world.webhook(text(turned, '{"id":"o","note":"paid\u202eyllaer ton\u200b"}'));
  await world.webhook(text(deep, `{"id":"o","deep":${'['.repeat(55)}${']'.repeat(55)}}`));
  await visit(browser, {}, async (page) => {
    for (const id of [many, deep]) {
      await open(page, `#/events/${id}`);
      await page.getByRole('heading', { name: 'Payload' }).waitFor();
      await page.getByText('"object": "event"', { exact: false }).first().waitFor();
      await fitsItsWidth(page, id);
    }
    await open(page, `#/events/${turned}`);
    await page.getByText('"paid\\u{202e}yllaer ton\\u{200b}"', { exact: true }).waitFor();
  });
});

test('the overview is green only while nothing needs an operator, and problems are shown first', async () => {
  const id = 'evt_1764000000019-1';
  await visit(browser, { viewport: PHONE, isMobile: true, hasTouch: true }, async (page) => {
    await open(page);
    await isLive(page);
    const verdict = page.locator('.verdict').first();
    const top = async (name) => (await page.getByRole('heading', { name, exact: true }).boundingBox()).y;
    world.orders.answer = 'gone';
    await world.publish(id);
    await settledAs('orders', id, 'dead');
    await verdict.getByText('Taking events in.').waitFor();
    await verdict.getByRole('link', { name: /deliver(y is|ies are) dead$/ }).waitFor();
    assert.equal(await page.getByText('Ready.').count(), 0);
    assert.ok(await top('Targets') < await top('Events over time'), 'the target with the dead delivery comes before the charts');
    await fitsItsWidth(page, 'the verdict');
    world.orders.answer = 'accept';
    await open(page, `#/events/${id}`);
    await button(page, 'Retry for orders').click();
    await dialog(page).getByRole('button', { name: 'Retry delivery' }).click();
    await settledAs('orders', id, 'delivered');
  });
});

test('a day of history and failed attempts are shown beside what was delivered', async () => {
  const id = 'evt_1764000000020-1';
  await visit(browser, {}, async (page) => {
    await open(page);
    await isLive(page);
    const failed = page.locator('figure', { hasText: 'Failed attempts' }).locator('.total');
    const total = async () => Number((await failed.innerText()).replaceAll(',', ''));
    const before = await total();
    world.orders.answer = 'busy';
    await world.publish(id);
    await until('a try has failed', () => world.orders.ledger.some((entry) => entry.id === id));
    world.orders.answer = 'accept';
    await settledAs('orders', id, 'delivered');
    await until('the failure is counted', async () => (await total()) > before);
    await page.getByText('1 d', { exact: true }).click();
    await page.getByText('in 1 d', { exact: true }).first().waitFor();
    await until('the day has it as well', async () => (await total()) > 0);
    await page.getByText('The same as a table').click();
    await page.getByRole('table', { name: /Counts in each 24 min/ }).waitFor();
  });
});

test('the request of an attempt is shown as it was made, and a shell can make it again', async () => {
  const id = 'evt_1764000000021-1';
  const text = await world.publish(id, { order: "it's an order" });
  await settledAs('orders', id, 'delivered');
  await visit(browser, { permissions: ['clipboard-read', 'clipboard-write'] }, async (page) => {
    // The overview, which names the targets, arrives after the event.
    const shown = page.getByRole('heading', { name: 'Payload' }).waitFor();
    await page.route('**/api/v1/overview', async (route) => {
      await shown;
      await route.continue();
    });
    await open(page, `#/events/${id}`);
    await isLive(page);
    const card = page.getByRole('region', { name: /^orders/ });
    await card.getByText('Show', { exact: false }).first().click();
    const request = await card.getByRole('region', { name: 'Request of attempt 1' }).innerText();
    const [line, ...lines] = request.split('\n');
    assert.equal(line, `POST ${world.orders.url}`);
    const headers = Object.fromEntries(lines.map((header) => header.split(/: (.*)/s)));
    const sent = world.orders.ledger.find((entry) => entry.id === id);
    const volatile = ['content-length', 'transfer-encoding', 'connection', 'webhook-timestamp'];
    const names = (all) => Object.keys(all).filter((name) => !volatile.includes(name)).sort();
    assert.deepEqual(names(headers), names(sent.headers));
    for (const name of names(headers)) assert.equal(headers[name], sent.headers[name], name);
    assert.ok(Math.abs(headers['webhook-timestamp'] - sent.headers['webhook-timestamp']) <= 1);

    await card.getByRole('button', { name: 'Copy as curl attempt 1' }).click();
    await said(page, 'Copied.');
    const command = await page.evaluate(() => navigator.clipboard.readText());
    await promisify(execFile)('bash', ['-c', `${command} --silent --noproxy '*'`]);
    const again = world.orders.ledger.filter((entry) => entry.id === id);
    assert.equal(again.length, 2);
    assert.equal(again[1].text, text);
    assert.equal(again[1].headers['pepay-bridge-sequence'], sent.headers['pepay-bridge-sequence']);
  });
});

test('an event is found by a text in its body', async () => {
  const id = 'evt_1764000000022-1';
  await world.publish(id, { order: 'needle-in-a-haystack' });
  await settledAs('orders', id, 'delivered');
  await visit(browser, {}, async (page) => {
    await open(page, '#/events');
    await page.getByText('More filters').click();
    await page.getByLabel('Text in the body').fill('needle-in-a-hay');
    await button(page, 'Search').click();
    await page.getByText('1 event', { exact: true }).waitFor();
    await page.getByRole('link', { name: id, exact: true }).waitFor();
    assert.match(page.url(), /q=needle-in-a-hay/);
    await page.getByLabel('Text in the body').fill('NEEDLE-in-a-hay');
    await button(page, 'Search').click();
    await page.getByText('No event matches.').first().waitFor();
  });
});

test('only selected deliveries are changed, and the list follows its count', async () => {
  const ids = [1, 2, 3].map((n) => `evt_1764000000023-${n}`);
  world.orders.answer = 'gone';
  for (const id of ids) await world.publish(id);
  for (const id of ids) await settledAs('orders', id, 'dead');
  world.orders.answer = 'accept';
  await visit(browser, {}, async (page) => {
    await open(page, '#/deliveries?state=dead');
    await isLive(page);
    await page.getByText('3 deliveries', { exact: true }).waitFor();
    for (const id of ids.slice(0, 2)) await page.getByRole('checkbox', { name: `Select ${id} to orders` }).check();
    await page.getByText('2 selected:').waitFor();
    assert.equal(await button(page, 'Release selected').count(), 0, 'none of them is held');
    await button(page, 'Retry selected').click();
    await dialog(page).getByRole('button', { name: 'Retry 2 deliveries' }).click();
    await said(page, '2 deliveries retried.');
    for (const id of ids.slice(0, 2)) await settledAs('orders', id, 'delivered');
    await page.getByText('1 delivery', { exact: true }).waitFor();
    assert.equal(await page.getByRole('link', { name: 'Dead 1', exact: true }).count(), 1, 'the tab says the same');
    assert.equal(await world.state('orders', ids[2]), 'dead');

    await button(page, 'Select all shown').click();
    await page.getByText('1 selected:').waitFor();
    assert.ok(await page.getByRole('checkbox', { name: `Select ${ids[2]} to orders` }).isChecked());
    await button(page, 'Select none').click();
    assert.ok(!(await page.getByRole('checkbox', { name: `Select ${ids[2]} to orders` }).isChecked()));
    // Another operator cancels the last one. The page shows it without Refresh.
    await fetch(`${world.page}api/v1/deliveries/orders/${ids[2]}/cancel`, { method: 'POST', body: '{}', headers: { 'content-type': 'application/json' } });
    await page.getByText('Nothing is dead').first().waitFor();
  });
});

test('the audit trail lists changes and readings of bodies', async () => {
  await visit(browser, {}, async (page) => {
    await open(page, `#/events/${KNOWN.id}`);
    await page.getByRole('heading', { name: 'Payload' }).waitFor();
    await page.getByRole('link', { name: 'Audit' }).click();
    await page.getByRole('heading', { level: 1, name: 'Audit' }).waitFor();
    await page.getByLabel('What').selectOption('read');
    await page.getByLabel('Event id').fill(KNOWN.id);
    await button(page, 'Search').click();
    await page.getByRole('row', { name: /read body/ }).first().waitFor();
    const row = page.getByRole('row', { name: new RegExp(KNOWN.id) }).first();
    await row.getByText('by page', { exact: false }).waitFor();
    await row.getByText('done', { exact: true }).waitFor();
    assert.match(page.url(), /kind=read/);
    await button(page, 'Clear').click();
    await page.getByRole('table', { name: 'Entries' }).waitFor();
  });
});

test('a test event shows its outcome, good or bad', async () => {
  await visit(browser, {}, async (page) => {
    await open(page, '#/targets');
    await button(page, 'Send test event to orders').click();
    await page.getByText(/Test event acknowledged: answered 200/).first().waitFor();
    world.orders.answer = 'gone';
    await button(page, 'Send test event to orders').click();
    await page.getByText(/Test event not acknowledged: answered 410/).first().waitFor();
    world.orders.answer = 'accept';
  });
  assert.equal(world.orders.ledger.filter((entry) => entry.test === '1').length, 2);
});

test('a stream is connected anew and read back from a time and from an event', async () => {
  await visit(browser, { expected: /status of 4\d\d/ }, async (page) => {
    const reconnects = (await world.api('streams')).streams[0].reconnects;
    await open(page, '#/streams');
    await button(page, 'Reconnect commerce').click();
    await dialog(page).getByRole('button', { name: 'Reconnect stream' }).click();
    await said(page, 'connects anew');
    await until('the stream is live again', async () => {
      const [stream] = (await world.api('streams')).streams;
      return stream.reconnects > reconnects && stream.phase === 'live';
    });
    await button(page, 'Backfill commerce').click();
    await dialog(page).getByRole('button', { name: 'Start backfill' }).click();
    await said(page, 'has started');
    await page.getByText(/The backfill from .* is complete: \d+ events? read/).waitFor();

    await button(page, 'Backfill commerce').click();
    await dialog(page).getByLabel('after an event').check();
    await dialog(page).getByLabel('Event id').fill(KNOWN.id);
    await dialog(page).getByRole('button', { name: 'Start backfill' }).click();
    await page.getByText(/The backfill from evt_1764000000001-1 .*is complete/).waitFor();
  });
});

test('the configuration is read again, and a wrong one is refused with its reasons', async () => {
  await visit(browser, { expected: /status of 422/ }, async (page) => {
    await open(page);
    await isLive(page);
    await world.configure({ concurrency: 0 });
    await button(page, 'Reload …').click();
    await dialog(page).getByRole('button', { name: 'Reload configuration' }).click();
    await dialog(page).getByText(/targets\.orders\.concurrency/).first().waitFor();
    await world.configure({ concurrency: 8 });
    await dialog(page).getByRole('button', { name: 'Reload configuration' }).click();
    await said(page, 'The configuration is reloaded');
    const outcome = page.getByRole('region', { name: 'Configuration' });
    await outcome.getByText('targets.orders changed').waitFor();
    await outcome.getByRole('listitem').filter({ hasText: /bridge\.toml, changed$/ }).waitFor();
    const { targets } = await world.api('targets');
    assert.equal(targets.find(({ name }) => name === 'orders').concurrency, 8);
  });
});

test('many events are replayed to a target: counted, confirmed, and shown as they go', async () => {
  const order = 'order-to-replay';
  const ids = [1, 2, 3].map((n) => `evt_1764000000060-${n}`);
  for (const id of ids) await world.publish(id, { order });
  for (const id of ids) await settledAs('orders', id, 'delivered');
  await visit(browser, {}, async (page) => {
    await open(page, `#/events?order_id=${order}`);
    await isLive(page);
    await page.getByText('3 events', { exact: true }).waitFor();
    await button(page, 'Replay all …').click();
    await dialog(page).getByText(`of order ${order}`).waitFor();
    await dialog(page).getByLabel('To target').selectOption('orders');
    await dialog(page).getByRole('checkbox', { name: /Only what is missing/ }).check();
    await dialog(page).getByRole('button', { name: 'Count events' }).click();
    await dialog(page).getByText('orders has missed none of these events').waitFor();
    await dialog(page).getByRole('checkbox', { name: /Only what is missing/ }).uncheck();
    let release;
    const released = new Promise((resolve) => { release = resolve; });
    await page.route('**/api/v1/deliveries/replay', async (route) => {
      if (route.request().postDataJSON().confirm) await released;
      await route.continue();
    });
    await page.route('**/api/v1/bulk', (route) => route.fulfill({ json: { calls: [{ action: 'replay', matching: 3, gone_through: 2, changed: 2 }] } }));
    await dialog(page).getByRole('button', { name: 'Count events' }).click();
    await dialog(page).getByRole('heading', { name: 'Replay to orders?' }).waitFor();
    await dialog(page).getByRole('button', { name: 'Replay 3 events' }).click();
    await dialog(page).getByText('2 of 3', { exact: true }).waitFor();
    release();
    await said(page, '3 events on the way to orders.');
    await open(page, `#/events?order_id=${order}&q=placed`);
    await page.getByText('3 events', { exact: true }).waitFor();
    assert.equal(await button(page, 'Replay all …').getAttribute('aria-disabled'), 'true', 'a text in the body is no filter of bulk work');
  });
  for (const id of ids) {
    await until(`${id} is replayed`, () => world.orders.acknowledged(id) === 2);
    assert.equal(world.orders.ledger.filter((entry) => entry.id === id && entry.replay === '1').length, 1);
  }
});

test('deliveries of a removed target are named by a reload, and moved to another one', async () => {
  const ids = [1, 2].map((n) => `evt_1764000000061-${n}`);
  await world.configure({ more: `[targets.former]\nurl = "${world.away}"\nretry_min = "1h"\nretry_max = "1h"\n` });
  await visit(browser, {}, async (page) => {
    await open(page);
    await isLive(page);
    const reload = async () => {
      await button(page, 'Reload …').click();
      await dialog(page).getByRole('button', { name: 'Reload configuration' }).click();
      await dialog(page).waitFor({ state: 'detached' });
    };
    await reload();
    for (const id of ids) await world.publish(id);
    for (const id of ids) await settledAs('former', id, 'retrying');
    await world.configure();
    await reload();
    const outcome = page.getByRole('region', { name: 'Configuration' });
    await outcome.getByText(/: 2 pending, 0 held and 0 dead deliveries wait\. Move or cancel them\./).waitFor();
    await outcome.getByRole('link', { name: 'former' }).click();
    await page.getByRole('heading', { level: 1, name: 'Deliveries' }).waitFor();
    await page.getByText('2 deliveries', { exact: true }).waitFor();
    await open(page, `#/deliveries?target=former&id_prefix=${ids[0]}`);
    await button(page, 'Move all …').click();
    await dialog(page).getByLabel('To target').selectOption('accounting');
    await dialog(page).getByRole('button', { name: 'Count deliveries' }).click();
    await dialog(page).getByRole('button', { name: 'Move 1 delivery' }).click();
    // The target accounting has this event already.
    await said(page, '0 deliveries moved to accounting.');
    assert.deepEqual([await world.state('former', ids[0]), await world.state('former', ids[1])], ['cancelled', 'retrying']);
    await open(page, '#/targets');
    await page.getByRole('link', { name: 'Move or cancel what waits for former' }).click();
    await button(page, 'Cancel all').click();
    await dialog(page).getByRole('button', { name: 'Cancel 1 delivery' }).click();
    await said(page, '1 delivery cancelled.');
  });
});

test('everything can be reached and done by keyboard', async () => {
  const id = 'evt_1764000000006-1';
  await world.publish(id);
  await settledAs('orders', id, 'delivered');
  await visit(browser, {}, async (page) => {
    const focused = () => page.evaluate(() => (document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent).trim());
    const tabTo = async (name) => {
      for (let presses = 0; presses < 60; presses += 1) {
        if ((await focused()) === name) return;
        await page.keyboard.press('Tab');
      }
      assert.fail(`Tab does not lead to ${name}`);
    };
    await open(page);
    await isLive(page);
    await page.keyboard.press('Tab');
    assert.equal(await focused(), 'Skip to content');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
    await page.keyboard.press('Shift+Tab');
    await tabTo('Skip to content');
    await tabTo('Events');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'Events' }).waitFor();
    assert.equal(await focused(), 'Events', 'the focus is on the heading of the new view');
    await page.keyboard.press('Tab');
    await page.keyboard.type(id);
    await page.keyboard.press('Enter');
    await page.getByText('1 event', { exact: true }).waitFor();
    await tabTo(id);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: id }).waitFor();
    await page.getByRole('heading', { name: 'Payload' }).waitFor();
    await tabTo('Replay to orders');
    await page.keyboard.press('Enter');
    await dialog(page).waitFor();
    for (let presses = 0; presses < 6; presses += 1) {
      await page.keyboard.press('Tab');
      const inside = await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest('dialog') !== null);
      assert.ok(inside, 'the focus stays in the dialog');
    }
    await page.keyboard.press('Escape');
    await dialog(page).waitFor({ state: 'detached' });
    assert.equal(await focused(), 'Replay to orders', 'the focus is back where it was');
  });
});

const VIEWS = {
  overview: ['', 'Which source was first'],
  events: ['#/events?within=86400', 'More filters, 1 in use'],
  event: [`#/events/${KNOWN.id}`, 'Indented here'],
  deliveries: ['#/deliveries', 'deliveries, and more'],
  targets: ['#/targets', 'Send test event'],
  streams: ['#/streams', 'Accounted for'],
  audit: ['#/audit', 'read body'],
};

for (const [colorScheme, viewport] of ['light', 'dark'].flatMap((scheme) => [PHONE, TABLET, DESK].map((size) => [scheme, size]))) {
  test(`every view keeps the rules of accessibility (${colorScheme}, ${viewport.width} px)`, async () => {
    await visit(browser, { colorScheme, viewport }, async (page) => {
      const check = async (what) => {
        await page.evaluate(axe.source);
        const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
        const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 160)).slice(0, 3).join(' | ')}`);
        assert.deepEqual(found, [], what);
      };
      for (const [name, [address, sign]] of Object.entries(VIEWS)) {
        await open(page, address);
        await isLive(page);
        await page.getByText(sign).first().waitFor();
        await check(name);
        await fitsItsWidth(page, name);
      }
      await open(page, '#/targets');
      await button(page, 'Pause orders').click();
      await dialog(page).waitFor();
      await check('a dialog');
      await open(page, '#/events');
      await isLive(page);
      await button(page, 'Replay all …').click();
      await dialog(page).getByLabel('To target').waitFor();
      await check('a dialog with fields');
      await fitsItsWidth(page, 'a dialog with fields');
      await dialog(page).getByRole('button', { name: 'Go back' }).click();
      await open(page);
      await isLive(page);
      await button(page, 'Reload …').click();
      await dialog(page).getByRole('button', { name: 'Reload configuration' }).click();
      await page.getByText('Files read').waitFor();
      await check('what a reload came to');
      await fitsItsWidth(page, 'what a reload came to');
    });
  });
}

test('no view is wider than its screen, however wide that is', async () => {
  await visit(browser, { viewport: NARROW, isMobile: true, hasTouch: true }, async (page) => {
    for (const [name, [address, sign]] of Object.entries(VIEWS)) {
      await open(page, address);
      await isLive(page);
      await page.getByText(sign).first().waitFor();
      for (const width of [NARROW.width, 480, 700, 720, 890, 900, 1000, 1190, 1210]) {
        await page.setViewportSize({ ...NARROW, width });
        await fitsItsWidth(page, `${name} at ${width} px`);
      }
      await page.setViewportSize(NARROW);
    }
  });
});
