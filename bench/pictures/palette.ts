/** A colour on a light page and on a dark one. */
export interface Colour {
  readonly light: string;
  readonly dark: string;
}

// No two have the same light value: it is by that value that a picture finds the dark one.
export const palette = {
  background: { light: "#ffffff", dark: "#0d1117" },
  ink: { light: "#1f2328", dark: "#e6edf3" },
  muted: { light: "#59636e", dark: "#9198a1" },
  rule: { light: "#d1d9e0", dark: "#30363d" },
  // The three stay apart for the colour-blind.
  naive: { light: "#c2410c", dark: "#ff8a5c" },
  coalescing: { light: "#8a6d00", dark: "#e3b341" },
  xfetchOnly: { light: "#6b7280", dark: "#a1a8b3" },
  cachefence: { light: "#0063b1", dark: "#58a6ff" },
  peer: { light: "#8b949e", dark: "#6e7681" },
} satisfies Record<string, Colour>;

/** What is drawn with; pictures are drawn light. */
export const ink = Object.fromEntries(Object.entries(palette).map(([name, { light }]) => [name, light])) as {
  readonly [Name in keyof typeof palette]: string;
};
