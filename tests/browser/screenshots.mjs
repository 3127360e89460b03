// Makes the screenshots of the README, of a bridge with some minutes of traffic and some failures.

import { mkdir, stat } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { isLive, launch, PHONE, visit } from './browser.mjs';
import { until, World } from './world.mjs';

const FOLDER = new URL('../../docs/images/', import.meta.url).pathname;
const LARGEST = 300 * 1024;
/** The minutes of traffic, enough for a full chart of five minutes. */
const MINUTES = Number(process.env.MINUTES ?? 5);
const DEAD = [1, 2, 3].map((n) => `evt_1764000000007-${n}`);
const HELD = 'evt_1764000000008-1';

await mkdir(FOLDER, { recursive: true });
const world = await World.start({ rate: 4 });
const browser = await launch();
try {
  await pause(MINUTES * 30_000);
  for (const id of DEAD) {
    world.orders.answer = 'busy';
    await world.publish(id, { order: `3c90c3cc-0d44-4b50-8888-8dd25736052${id.at(-1)}` });
    await until(`${id} was tried`, () => world.orders.ledger.filter((entry) => entry.id === id).length > 2);
    world.orders.answer = 'gone';
    await until(`${id} is dead`, async () => (await world.state('orders', id)) === 'dead');
  }
  world.orders.answer = 'accept';
  world.accounting.answer = 'vanish';
  await world.publish(HELD, { order: '3c90c3cc-0d44-4b50-8888-8dd257360529' });
  await until(`${HELD} is held`, async () => (await world.state('accounting', HELD)) === 'held');
  world.accounting.answer = 'accept';
  await pause(MINUTES * 30_000);

  for (const colorScheme of ['light', 'dark']) {
    await visit(browser, { colorScheme, viewport: { width: 1200, height: 860 } }, async (page) => {
      await page.goto(world.page);
      await isLive(page);
      await page.getByText('5 min', { exact: true }).click();
      await page.getByText('in 5 min').first().waitFor();
      await take(page, `overview-${colorScheme}`);
      await page.goto(`${world.page}#/events/${DEAD[0]}`);
      await page.getByRole('heading', { name: 'Payload' }).waitFor();
      await page.locator('h1').blur();
      await take(page, `event-${colorScheme}`);
    });
  }
  await visit(browser, { viewport: PHONE, isMobile: true, hasTouch: true, deviceScaleFactor: 2 }, async (page) => {
    await page.goto(`${world.page}#/deliveries?state=dead`);
    await isLive(page);
    await page.getByText('deliveries', { exact: false }).first().waitFor();
    await take(page, 'phone');
  });
} finally {
  await browser.close();
  await world.stop();
}

async function take(page, name) {
  const path = `${FOLDER}${name}.png`;
  await page.screenshot({ path, animations: 'disabled' });
  const { size } = await stat(path);
  if (size > LARGEST) throw new Error(`${name}.png has ${size} bytes, ${LARGEST} are allowed`);
  process.stdout.write(`${name}.png: ${Math.round(size / 1024)} KiB\n`);
}
