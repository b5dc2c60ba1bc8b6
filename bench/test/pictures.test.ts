import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { test } from "node:test";
import { parseHTML } from "linkedom";
import { repositoryFolder } from "../harness/folders.js";
import { placeLabels } from "../pictures/label-places.js";
import { textWidth, wrapText } from "../pictures/text-width.js";
import { linearTicks, logTicks, powersOfTen } from "../pictures/ticks.js";

const folder = new URL("docs/pictures/", repositoryFolder);

/** Of a DOM element what is asked here. */
interface Element {
  readonly tagName: string;
  readonly textContent: string | null;
  readonly parentElement: Element | null;
  getAttribute(name: string): string | null;
  hasAttribute(name: string): boolean;
  querySelectorAll(selector: string): Iterable<Element>;
}

interface Drawn {
  readonly text: string;
  readonly left: number;
  readonly right: number;
  readonly baseline: number;
}

test("every text of every picture lies inside it, in the widest of the common fonts", async () => {
  for (const name of (await readdir(folder)).filter((file) => file.endsWith(".svg"))) {
    const { document } = parseHTML(await readFile(new URL(name, folder), "utf8"));
    const [, , width = 0, height = 0] = document.querySelector("svg")!.getAttribute("viewBox")!.split(" ").map(Number);
    const texts = [...(document as unknown as Element).querySelectorAll("text")].flatMap(linesOf);
    assert.ok(texts.length > 5, name);
    for (const { text, left, right, baseline } of texts) {
      assert.ok(
        left >= 0 && right <= width && baseline > 8 && baseline < height,
        `${name}: ${text} (${left}..${right})`,
      );
    }
  }
});

function linesOf(text: Element): Drawn[] {
  const spans = [...text.querySelectorAll("tspan")];
  return (spans.length > 0 ? spans : [text]).map((line) => {
    let [x, y] = [0, 0];
    for (const each of ancestorsOf(line)) {
      x += numberOf(each, "x") + translationOf(each)[0];
      // Of Plot's lines each begins below the one before, in units of the font size: near enough to where they are.
      if (each !== line || each === text) y += numberOf(each, "y") + translationOf(each)[1];
    }
    const inherited = (attribute: string): string | undefined =>
      ancestorsOf(line)
        .find((each) => each.hasAttribute(attribute))
        ?.getAttribute(attribute) ?? undefined;
    const content = line.textContent ?? "";
    const width = textWidth(
      content,
      Number(inherited("font-size") ?? 12),
      Number(inherited("font-weight") ?? 400) >= 600,
    );
    const anchor = inherited("text-anchor") ?? "start";
    const left = x - (anchor === "end" ? width : anchor === "middle" ? width / 2 : 0);
    return { text: content, left, right: left + width, baseline: y };
  });
}

function ancestorsOf(element: Element): Element[] {
  return element.parentElement ? [element, ...ancestorsOf(element.parentElement)] : [element];
}

function numberOf(element: Element, attribute: string): number {
  const value = element.tagName.toLowerCase() === "svg" ? null : element.getAttribute(attribute);
  return value === null || value.endsWith("em") ? 0 : Number(value);
}

function translationOf(element: Element): [number, number] {
  const [, x = "0", y = "0"] =
    /translate\(([-\d.]+)[, ]*([-\d.]*)\)/.exec(element.getAttribute("transform") ?? "") ?? [];
  return [Number(x), Number(y || 0)];
}

test("breaks a line between words, and only where it must", () => {
  assert.deepEqual(wrapText("one two", 12, 1000), ["one two"]);
  assert.deepEqual(wrapText("one two three", 12, textWidth("one two", 12)), ["one two", "three"]);
});

test("an axis reaches its data", () => {
  assert.deepEqual(linearTicks(165, 2), [0, 100, 200]);
  assert.deepEqual(linearTicks(1, 2), [0, 0.5, 1]);
  assert.deepEqual(logTicks(45, 170), [40, 50, 70, 100, 150, 200]);
  assert.deepEqual(powersOfTen(140_211), [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]);
});

test("labels meet neither each other nor another's point", () => {
  const points = [100, 100, 106].map((x) => ({ x, y: 50, width: 80, height: 14 }));
  const places = placeLabels(points, { left: 0, right: 300, top: 0, bottom: 100 });
  places.forEach((one, i) =>
    places.slice(i + 1).forEach((other) => {
      const apart =
        one.right <= other.left || other.right <= one.left || one.bottom <= other.top || other.bottom <= one.top;
      assert.ok(apart, `${JSON.stringify(one)} meets ${JSON.stringify(other)}`);
    }),
  );
});
