// The page with an admin token, and without its bridge.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { isLive, launch, visit } from './browser.mjs';
import { World } from './world.mjs';

let [browser, world] = [null, null];

before(async () => {
  world = await World.start({ token: 'browser-test-token' });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await world?.stop();
});

test('the page asks for the token, keeps it for the tab and forgets it when told to', async () => {
  await visit(browser, { expected: /status of 401/ }, async (page) => {
    await page.goto(world.page);
    const dialog = page.getByRole('dialog', { name: 'Admin token' });
    const field = dialog.getByLabel('Token', { exact: true });
    assert.equal(await field.getAttribute('type'), 'password');
    await field.fill('a guess');
    await dialog.getByRole('button', { name: 'Continue' }).click();
    await dialog.getByText('The bridge has refused that token.').waitFor();
    await field.fill('browser-test-token');
    await field.press('Enter');
    await isLive(page);

    await page.reload();
    await isLive(page);
    assert.equal(await page.evaluate(() => localStorage.length), 0, 'nothing outlives the tab');
    await page.getByRole('button', { name: 'Forget token' }).click();
    await dialog.waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    await dialog.getByRole('button', { name: 'Not now' }).click();
    await page.getByRole('button', { name: 'Enter token' }).waitFor();
    await page.getByText(/connection to the bridge is lost/).first().waitFor();
  });
});

test('the page shows that the connection is lost, and reconnects without help', async () => {
  await visit(browser, { expected: /ERR_|status of 401/ }, async (page) => {
    await page.goto(world.page);
    const dialog = page.getByRole('dialog', { name: 'Admin token' });
    await dialog.getByLabel('Token', { exact: true }).fill('browser-test-token');
    await dialog.getByRole('button', { name: 'Continue' }).click();
    await isLive(page);
    await world.stopBridge();
    await page.locator('#connection', { hasText: 'Connection lost' }).waitFor();
    await page.locator('#banner', { hasText: /next try in|trying again/ }).waitFor();
    await page.locator('#banner', { hasText: 'What is shown is from' }).waitFor();
    await world.startBridge();
    await isLive(page);
    await page.locator('#banner').waitFor({ state: 'hidden' });
  });
});

test('a bridge that accepts the first request and never answers it counts as lost', async () => {
  await visit(browser, { expected: /status of 401/ }, async (page) => {
    await page.clock.install();
    let silent = true;
    await page.route('**/api/v1/overview', async (route) => {
      if (!silent) await route.continue();
    });
    await page.addInitScript(() => sessionStorage.setItem('pepay-bridge.token', 'browser-test-token'));
    const asked = page.waitForRequest('**/api/v1/overview');
    await page.goto(world.page);
    await asked;
    await page.clock.runFor(15_000);
    await page.locator('#connection', { hasText: 'Connection lost' }).waitFor();
    silent = false;
    await page.clock.runFor(15_000);
    await isLive(page);
  });
});
