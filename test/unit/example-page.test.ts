import type { Browser, Page } from "playwright-core";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startService, type ServiceProcess } from "../../examples/http-service/service-process.js";
import { findBrowser, openBrowser } from "../../examples/support/browser.js";
import { Cleanup } from "../../examples/support/cleanup.js";
import { describeRedis, removeKeys, uniquePrefix } from "../support/describe-redis.js";

const CALLERS = 20;
const timeoutMs = 120_000;

// Code of the page, where other names are known than here.
const NOTE_THE_BAR = `
  window.noted = [];
  const bar = document.querySelector('[data-side="byHand"] [data-bar="queries"]');
  const note = () => window.noted.push(Number(bar.getAttribute("aria-valuenow")));
  new MutationObserver(note).observe(bar, { attributeFilter: ["aria-valuenow"] });`;

interface Contrast {
  readonly selector: string;
  readonly contrast: number;
  readonly isDark: boolean;
}
const TEXTS = ["h1", "header p", "#verdict", ".side p", ".figures strong", ".total strong", "dt", "a", "pre", "footer"];
const COLOURED = [".buttons button", "form button", '[data-side="cachefence"] strong'];
// By the formula of WCAG 2.
const CONTRASTS = `(() => {
  const luminance = (colour) => {
    const [red, green, blue] = colour.match(/[\\d.]+/g).map((part) => {
      const share = Number(part) / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const backOf = (element) => {
    const { backgroundColor } = getComputedStyle(element);
    return backgroundColor === "rgba(0, 0, 0, 0)" ? backOf(element.parentElement) : backgroundColor;
  };
  return ${JSON.stringify([...TEXTS, ...COLOURED])}.map((selector) => {
    const element = document.querySelector(selector);
    const [fore, back] = [luminance(getComputedStyle(element).color), luminance(backOf(element))];
    const contrast = (Math.max(fore, back) + 0.05) / (Math.min(fore, back) + 0.05);
    return { selector, contrast, isDark: back < 0.2 };
  });
})()`;

const program = findBrowser();
if (program === undefined) {
  console.warn("NOT TESTED: the page of examples/http-service.ts (neither chromium nor google-chrome is on PATH)");
}

describeRedis("the page of examples/http-service.ts", (redisUrl) => {
  describe.skipIf(program === undefined)("in a browser", () => {
    const namespace = uniquePrefix();
    const cleanup = new Cleanup();
    let service: ServiceProcess;
    let page: Page;
    const complaints: string[] = [];
    const requested = new Set<string>();
    beforeAll(async () => {
      service = await startService({ REDIS_URL: redisUrl, NAMESPACE: namespace }, cleanup, ["--import", "tsx"]);
      const browser: Browser = await openBrowser(program!);
      cleanup.defer(() => browser.close());
      page = await browser.newPage();
      page.on("console", (message) => complaints.push(message.text()));
      page.on("pageerror", (error) => complaints.push(error.message));
      page.on("request", (request) => requested.add(request.url()));
      await page.goto(service.address);
    }, timeoutMs);
    afterAll(async () => {
      await cleanup.run();
      const redis = new Redis(redisUrl);
      await removeKeys(redis, namespace);
      redis.disconnect();
    });

    const side = (name: string) => page.locator(`[data-side="${name}"]`);
    const bar = (name: string, figure: string) => side(name).locator(`[data-bar="${figure}"]`);
    const total = (name: string) => side(name).locator(".total strong").textContent();
    const countQueries = async () => {
      const counters = (await (await fetch(`${service.address}/counters`)).json()) as { queries: number };
      return counters.queries;
    };

    it(
      "shows a herd that the server sends: many queries without cachefence, one with it, and bars that move",
      async () => {
        const before = await countQueries();
        await page.evaluate(NOTE_THE_BAR);
        await page.getByLabel("Callers", { exact: true }).selectOption(String(CALLERS));
        await page.getByRole("button", { name: "Send the herd" }).click();
        await page.locator('[data-side="cachefence"][data-state="done"]').waitFor({ timeout: timeoutMs });

        expect(await total("byHand")).toBe(String(CALLERS));
        expect(await total("cachefence")).toBe("1");
        expect(await countQueries()).toBe(before + CALLERS + 1);
        const values = [...new Set(await page.evaluate<number[]>("window.noted"))];
        expect(values).toEqual(values.toSorted((a, b) => a - b));
        expect(values.filter((value) => value > 0 && value < CALLERS).length).toBeGreaterThan(0);
        expect(await page.getByRole("status").textContent()).toMatch(
          /^20 callers\. Without cachefence: 20 queries, .* With it: 1 query, slowest answer after /,
        );
      },
      timeoutMs,
    );

    it("draws both sides on one scale, and says to a screen reader what the bars show", async () => {
      const widths = async (figure: string) => {
        const style = (name: string) => bar(name, figure).locator("i").getAttribute("style");
        const styles = [await style("byHand"), await style("cachefence")];
        return styles.map((text) => Number(/--share: ([\d.]+)/.exec(text ?? "")?.[1]));
      };
      expect(await widths("queries")).toEqual([1, 1 / CALLERS]);
      const [slowest, faster] = await widths("slowestMs");
      expect(slowest).toBe(1);
      expect(faster).toBeLessThan(1);
      const meter = side("cachefence").getByRole("meter", { name: "Database queries" });
      expect(await meter.getAttribute("aria-valuetext")).toBe("1");
      expect(await meter.getAttribute("aria-valuemax")).toBe(String(CALLERS));
    });

    it("shows lists, tags and headers of single requests", async () => {
      const ask = async (name: string) => {
        // Each answer replaces the last one, and may be the same.
        await page.evaluate("document.getElementById('answer').textContent = ''");
        await page.getByRole("button", { name }).click();
        const answer = page.getByRole("log", { name: "The last answer" });
        await expect.poll(() => answer.textContent(), { timeout: 10_000 }).not.toBe("");
        return (await answer.textContent()) ?? "";
      };
      expect(await ask("Fifty products")).toMatch(/200 \(.*, 1 query\)\n\[\{"id":1,/);
      expect(await ask("Fifty products")).toMatch(/200 \(.*, 0 queries\)/);
      await ask("Revenue of Germany");
      expect(await ask("Order in Germany")).toContain("POST /orders → 201");
      for (const name of ["Best sellers of Germany", "Revenue of Germany"]) {
        expect(await ask(name)).toMatch(
          /1 query\)\nCache-Status: cachefence; fwd=miss; .*\nAge: \d\nCache-Control: public, max-age=5\n/,
        );
      }
    });

    it.each(["light", "dark"] as const)("can be read in a %s scheme", async (colorScheme) => {
      await page.emulateMedia({ colorScheme });
      const contrasts = await page.evaluate<Contrast[]>(CONTRASTS);
      // WCAG AA.
      for (const { selector, contrast } of contrasts) expect(contrast, selector).toBeGreaterThanOrEqual(4.5);
      expect(contrasts.find(({ selector }) => selector === "h1")!.isDark).toBe(colorScheme === "dark");
    });

    it("asks nobody but the service, and complains of nothing", () => {
      expect(
        [...requested].filter((url) => !url.startsWith(`${service.address}/`) && !url.startsWith("data:")),
      ).toEqual([]);
      expect(complaints).toEqual([]);
    });
  });
});
