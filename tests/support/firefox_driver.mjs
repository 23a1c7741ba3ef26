// Drives Firefox with Puppeteer: node firefox_driver.mjs NODE_MODULES OPTIONS
// Each line of the standard input is a command, each line of the standard output its answer.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [modules, options] = process.argv.slice(2);
const puppeteer = createRequire(`${modules}/`)('puppeteer-core');
const browser = await puppeteer.launch({ browser: 'firefox', headless: true, ...JSON.parse(options) });
const pages = new Map();

const answer = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const readFunction = (source) => new Function(`return (${source})`)();
const isOfThisMachine = (url) => /^(about|blob|data|file):|^(https?|wss?):\/\/(localhost|127\.0\.0\.1|\[::1\]):/.test(url);

/** Opens a page, and notes what the browser complains about: errors, warnings, violations of the policy, foreign hosts. */
async function open(number, viewport) {
  const page = await browser.newPage();
  const complaints = [];
  pages.set(number, { page, complaints });
  await page.evaluateOnNewDocument(() => addEventListener('securitypolicyviolation', (event) => console.error(
    `CSP violation: ${event.violatedDirective} ${event.blockedURI}`)));
  page.on('console', (message) => {
    if (['error', 'warn'].includes(message.type())) complaints.push(`console ${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`uncaught: ${error.message}`));
  page.on('dialog', (dialog) => { complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('request', (request) => {
    if (!isOfThisMachine(request.url())) complaints.push(`request to a foreign host: ${request.url()}`);
  });
  await page.setViewport(viewport);
}

/** Loads a URL that the browser answers itself, with a page, so that its server receives no request. */
async function gotoMade(number, url, body) {
  const { page } = pages.get(number);
  const respond = (request) => request.respond({ contentType: 'text/html', body });
  await page.setRequestInterception(true);
  page.on('request', respond);
  await page.goto(url);
  page.off('request', respond);
  await page.setRequestInterception(false);
}

const commands = {
  open,
  version: async () => (await browser.version()).split('/')[1],
  goto: async (number, url) => { await pages.get(number).page.goto(url); },
  gotoMade,
  reload: async (number) => { await pages.get(number).page.reload(); },
  evaluate: (number, source, ...given) => pages.get(number).page.evaluate(readFunction(source), ...given),
  click: (number, selector) => pages.get(number).page.locator(selector).click(),
  fill: (number, selector, text) => pages.get(number).page.locator(selector).fill(text),
  press: (number, key) => pages.get(number).page.keyboard.press(key),
  complaints: (number) => pages.get(number).complaints.splice(0),
  close: async (number) => { await pages.get(number).page.close(); pages.delete(number); },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line);
  try {
    answer({ result: await commands[name](...given) ?? null });
  } catch (error) {
    answer({ error: error.message });
  }
}
await browser.close();
