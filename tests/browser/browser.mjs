// Chromium, and pages that collect every error that happens in them.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

export const DESK = { width: 1280, height: 900 };
export const TABLET = { width: 768, height: 1024 };
export const PHONE = { width: 390, height: 844 };
/** The width of the narrowest phones. */
export const NARROW = { width: 360, height: 740 };

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
}

/**
 * Opens a page for `use` and closes it. Fails on errors in the console, on exceptions and on violations
 * of the content security policy. Messages that match `expected` are allowed: a browser logs every
 * response with an error status.
 */
export async function visit(browser, { viewport = DESK, colorScheme = 'light', expected = /^$/, ...options }, use) {
  const context = await browser.newContext({ viewport, colorScheme, timezoneId: 'UTC', acceptDownloads: true, ...options });
  context.setDefaultTimeout(15_000);
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !expected.test(message.text())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.stack));
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
      console.error(`refused by the content security policy: ${violatedDirective} ${blockedURI}`);
    });
  });
  try {
    await use(page);
    assert.deepEqual(complaints, [], 'the page complains');
  } catch (error) {
    if (complaints.length) error.message += `\nthe page has complained of: ${complaints.join('\n')}`;
    if (process.env.KEEP_PICTURES) await page.screenshot({ path: `${process.env.KEEP_PICTURES}/failed-${Date.now()}.png`, fullPage: true });
    throw error;
  } finally {
    await context.close();
  }
}

/** Waits until the page shows that it is live. */
export async function isLive(page) {
  await page.locator('#connection', { hasText: 'Live' }).waitFor();
}

/** Fails if the page can be scrolled sideways. */
export async function fitsItsWidth(page, what) {
  const wide = await page.evaluate(() => (document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')]
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
    .map((element) => `${element.tagName}.${element.className}: ${element.textContent.slice(0, 30)}`).slice(0, 5)));
  assert.deepEqual(wide, [], `${what} is wider than the screen`);
}
