import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import { ink, palette } from "./palette.js";

export interface PictureOptions extends Plot.PlotOptions {
  /** The two lines above the plot: what it shows, and how it was measured. */
  readonly heading: string;
  readonly subheading: string;
  readonly width: number;
  readonly height: number;
}

const FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif";
const HEADING_HEIGHT = 58;

/** Draws one SVG file that is legible by itself on a light page and on a dark one. */
export function drawPicture({ heading, subheading, width, height, ...options }: PictureOptions): string {
  const { document } = parseHTML("<!doctype html><html><body></body></html>");
  const plot = Plot.plot({
    ...options,
    document,
    width,
    height,
    style: { fontFamily: FONT, fontSize: "12px", color: ink.ink, background: "none" },
  }) as unknown as { innerHTML: string };
  const total = height + HEADING_HEIGHT;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${total}" viewBox="0 0 ${width} ${total}" ` +
      `font-family="${FONT}" font-size="12" role="img" aria-label="${escapeText(heading)}">`,
    `<style>${darkStyle()}</style>`,
    `<rect width="${width}" height="${total}" rx="6" fill="${ink.background}"/>`,
    `<text x="20" y="28" font-size="16" font-weight="600" fill="${ink.ink}">${escapeText(heading)}</text>`,
    `<text x="20" y="48" fill="${ink.muted}">${escapeText(subheading)}</text>`,
    // Without the root of Plot's own SVG, which carries the anchor of its texts; its style element is for pages.
    `<g transform="translate(0 ${HEADING_HEIGHT})" text-anchor="middle" fill="${ink.ink}">`,
    plot.innerHTML.replace(/<style>[\s\S]*?<\/style>/g, "").replaceAll("currentColor", ink.ink),
    "</g>",
    "</svg>\n",
  ].join("\n");
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
