import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import { ink, palette } from "./palette.js";
import { wrapText } from "./text-width.js";

export interface PictureOptions extends Plot.PlotOptions {
  /** Above the plot: what it shows, and how it was measured; the latter takes as many lines as it needs. */
  readonly heading: string;
  readonly subheading: string;
  readonly width: number;
  readonly height: number;
}

const FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif";
export const FONT_SIZE = 12;
const HEADING_SIZE = 16;
export const EDGE = 20;
const LINE_HEIGHT = 16;

/** Draws one SVG file that is legible by itself on a light page and on a dark one. */
export function drawPicture({ heading, subheading, width, height, ...options }: PictureOptions): string {
  const { document } = parseHTML("<!doctype html><html><body></body></html>");
  const plot = Plot.plot({
    ...options,
    document,
    width,
    height,
    style: { fontFamily: FONT, fontSize: `${FONT_SIZE}px`, color: ink.ink, background: "none" },
  }) as unknown as { innerHTML: string };
  const lines = wrapText(subheading, FONT_SIZE, width - 2 * EDGE);
  const headingHeight = 42 + lines.length * LINE_HEIGHT;
  const total = height + headingHeight;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${total}" viewBox="0 0 ${width} ${total}" ` +
      `font-family="${FONT}" font-size="${FONT_SIZE}" role="img" aria-label="${escapeText(heading)}">`,
    `<style>${darkStyle()}</style>`,
    `<rect width="${width}" height="${total}" rx="6" fill="${ink.background}"/>`,
    `<text x="${EDGE}" y="28" font-size="${HEADING_SIZE}" font-weight="600" fill="${ink.ink}">${escapeText(heading)}</text>`,
    ...lines.map(
      (line, i) => `<text x="${EDGE}" y="${48 + i * LINE_HEIGHT}" fill="${ink.muted}">${escapeText(line)}</text>`,
    ),
    // Without the root of Plot's own SVG, which carries the anchor of its texts; its style element is for pages.
    `<g transform="translate(0 ${headingHeight})" text-anchor="middle" fill="${ink.ink}">`,
    plot.innerHTML.replace(/<style>[\s\S]*?<\/style>/g, "").replaceAll("currentColor", ink.ink),
    "</g>",
    "</svg>\n",
  ].join("\n");
}

/** Around a text that a line of the grid may run through. */
export const halo = { stroke: ink.background, strokeWidth: 4, paintOrder: "stroke" } as const;

/** The name of the vertical axis, above its numbers: Plot itself would put it at the very edge. */
export function axisTitle(text: string, marginLeft: number): Plot.Markish {
  return Plot.text([text], {
    text: (title: string) => title,
    frameAnchor: "top-left",
    textAnchor: "start",
    dx: EDGE - marginLeft,
    dy: -LINE_HEIGHT - 6,
    fill: ink.muted,
  });
}

/** CSS comes before the attributes that the picture is painted with, so these rules repaint it. */
function darkStyle(): string {
  const rules = Object.values(palette).flatMap(({ light, dark }) => [
    `[fill="${light}"]{fill:${dark}}`,
    `[stroke="${light}"]{stroke:${dark}}`,
  ]);
  return `@media (prefers-color-scheme: dark){${rules.join("")}}`;
}

function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
