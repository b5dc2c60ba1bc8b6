import { fileURLToPath } from "node:url";
import { findBrowser, openBrowser } from "../support/browser.js";
import { Cleanup } from "../support/cleanup.js";
import { needRealServer } from "../support/real-server.js";
import { startService } from "./service-process.js";

// `npm run example:picture`: the page after a herd, light and dark, as docs/pictures shows it. Needs chromium on PATH.

const WIDTH = 920;
const LONGEST_HERD_MS = 180_000;

const cleanup = new Cleanup();
try {
  const program = findBrowser();
  if (program === undefined) throw new Error("No browser: put chromium or google-chrome on PATH");
  const server = await needRealServer(cleanup);
  const service = await startService({ REDIS_URL: server.url, NAMESPACE: `picture:${process.pid}:` }, cleanup);
  const browser = await openBrowser(program);
  cleanup.defer(() => browser.close());

  const page = await browser.newPage({ viewport: { width: WIDTH, height: 600 }, reducedMotion: "reduce" });
  await page.goto(service.address);
  await page.getByRole("button", { name: "Send the herd" }).click();
  await page.locator('[data-side="cachefence"][data-state="done"]').waitFor({ timeout: LONGEST_HERD_MS });
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    const { y, height } = (await page.locator(".sides").boundingBox())!;
    const path = fileURLToPath(new URL(`../../docs/pictures/example-page-${colorScheme}.png`, import.meta.url));
    // The heading, the button and the two sides: what lies below is another matter.
    await page.screenshot({ path, fullPage: true, clip: { x: 0, y: 0, width: WIDTH, height: y + height + 16 } });
    console.log(path);
  }
  console.log(await page.locator("#verdict").textContent());
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
await cleanup.run();
