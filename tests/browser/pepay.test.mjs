// The page, for events about which Pepay and the bridge, or two sources, disagree.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, visit } from './browser.mjs';
import { until, World } from './world.mjs';

let [browser, world] = [null, null];

before(async () => {
  world = await World.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await world?.stop();
});

const dialog = (page) => page.getByRole('dialog', { name: 'Verify with Pepay?' });
const stored = (id) => until(`${id} is stored`, async () => (await world.state('orders', id)) === 'delivered');

/** Opens an event and asks Pepay for it. Does not wait for the answer. */
async function verify(page, id) {
  await page.goto(`${world.page}#/events/${id}`);
  await page.getByRole('heading', { level: 1, name: id }).waitFor();
  await page.getByRole('button', { name: 'Verify with Pepay' }).click();
  await dialog(page).getByText(id).waitFor();
  await dialog(page).getByRole('button', { name: 'Ask Pepay' }).click();
}

async function verified(page, id, words) {
  await verify(page, id);
  await page.locator('#said', { hasText: words }).waitFor();
  await dialog(page).waitFor({ state: 'detached' });
}

test('an event that Pepay has too is reported as the same', async () => {
  const id = 'evt_1764000000101-1';
  await world.publish(id);
  await stored(id);
  await visit(browser, {}, async (page) => {
    await verified(page, id, 'Pepay has the same event.');
    assert.equal(await page.getByText('Another event under this id').count(), 0);
  });
});

test('an event with another body at Pepay is reported as different, and its timeline has the conflict', async () => {
  const id = 'evt_1764000000102-1';
  const text = await world.publish(id, { copies: 0 });
  await world.webhook(text.replace('placed', 'paid'));
  await stored(id);
  await world.webhook(text);
  await until('the second is noticed', async () => (await world.api(`events/${id}`)).conflicts.some(({ source }) => source === 'webhook'));
  await visit(browser, {}, async (page) => {
    await verified(page, id, 'Pepay has another event under this id: data differ.');
    await page.locator('.timeline').getByText(/Another event under this id came by webhook/).waitFor();
  });
});

test('an event that Pepay does not know is reported as unknown', async () => {
  const [known, id] = ['evt_1764000000103-1', 'evt_1764000000103-2'];
  const text = await world.publish(known);
  await world.webhook(text.replace(known, id));
  await stored(id);
  await visit(browser, {}, async (page) => {
    await verified(page, id, 'Pepay knows of no event of this id.');
  });
});

test('if Pepay cannot be asked, the dialog says so and can be closed', async () => {
  const id = 'evt_1764000000104-1';
  await world.publish(id);
  await stored(id);
  await world.stopPepay();
  await visit(browser, { expected: /status of 502/ }, async (page) => {
    await verify(page, id);
    await dialog(page).getByRole('alert').getByText(/^asking Pepay failed: Connection refused/).waitFor();
    await page.keyboard.press('Escape');
    await dialog(page).waitFor({ state: 'detached' });
  });
});
