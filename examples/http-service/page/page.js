/* global clearTimeout, document, fetch, performance, setTimeout */

const RUNNING_POLL_MS = 100;
const IDLE_POLL_MS = 1_000;

const byId = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en-GB");
const time = (ms) => (ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(2)} s`);
const queries = (number) => (number === 1 ? "1 query" : `${count(number)} queries`);

const sides = new Map(
  [...document.querySelectorAll("[data-side]")].map((section) => {
    section.append(byId("figures").content.cloneNode(true));
    return [section.dataset.side, section];
  }),
);

/** What a figure shows, and in which unit. */
const figures = { answered: count, queries: count, p50Ms: time, slowestMs: time };

function showSide(section, side, largest) {
  section.dataset.state = side.state;
  section.querySelector("[data-noun]").textContent = side.queries === 1 ? "database query" : "database queries";
  for (const [name, format] of Object.entries(figures)) {
    const text = side.state === "waiting" ? "–" : format(side[name]);
    for (const place of section.querySelectorAll(`[data-figure=${name}]`)) place.textContent = text;
    const bar = section.querySelector(`[data-bar=${name}]`);
    bar.ariaValueMax = String(largest[name]);
    bar.ariaValueNow = String(side[name]);
    bar.ariaValueText = text;
    bar.firstElementChild.style.setProperty("--share", String(largest[name] > 0 ? side[name] / largest[name] : 0));
  }
}

function verdict({ callers, byHand, cachefence }) {
  if (callers === 0) return "No herd has been sent yet.";
  if (byHand.state === "failed" || cachefence.state === "failed") return "The herd was not answered in full.";
  if (cachefence.state !== "done") return `${count(callers)} callers ask at once …`;
  const told = (side) => `${queries(side.queries)}, slowest answer after ${time(side.slowestMs)}`;
  return `${count(callers)} callers. Without cachefence: ${told(byHand)}. With it: ${told(cachefence)}.`;
}

const isOver = ({ callers, cachefence }) => callers === 0 || ["done", "failed"].includes(cachefence.state);

/** The bars of both sides have one scale. True: there is more to come. */
function showHerd(herd) {
  const both = [herd.byHand, herd.cachefence];
  const largestTimeMs = Math.max(...both.map((side) => side.slowestMs));
  // Both times have one scale as well, and so have callers and queries.
  const most = Math.max(herd.callers, ...both.map((side) => side.queries));
  const largest = { answered: most, queries: most, p50Ms: largestTimeMs, slowestMs: largestTimeMs };
  for (const [name, section] of sides) showSide(section, herd[name], largest);
  const text = verdict(herd);
  // Said again only if it has changed: a screen reader reads it out.
  if (byId("verdict").textContent !== text) byId("verdict").textContent = text;
  byId("send").querySelector("button").disabled = !isOver(herd);
  return !isOver(herd);
}

const labels = {
  queries: "Queries that reached the database",
  rebuilds: "Rebuilds",
  hits: "Hits: a valid value, at once",
  memoryHits: "… from memory, without a command",
  misses: "Misses: nothing to serve",
  coalesced: "… that joined a rebuild here",
  waits: "Waits for another process",
  staleServes: "Stale serves, at once",
  earlyRefreshes: "Early refreshes",
  refusedStores: "Refused stores: an order came first",
};
const cells = new Map(
  Object.entries(labels).map(([name, label]) => {
    const cell = document.createElement("dd");
    cell.id = name;
    const term = document.createElement("dt");
    term.textContent = label;
    const tile = document.createElement("div");
    tile.append(term, cell);
    byId("counters").append(tile);
    return [name, cell];
  }),
);

const read = async (path) => (await fetch(path, { cache: "no-store" })).json();

// One look at a time, also when a button asks for one at once.
let nextLook;
async function look() {
  clearTimeout(nextLook);
  let isRunning = false;
  try {
    isRunning = showHerd(await read("/herd"));
    const counters = await read("/counters");
    for (const [name, cell] of cells) cell.textContent = count(counters[name]);
    byId("state").textContent = "Live";
  } catch {
    byId("state").textContent = "The service does not answer; trying again …";
  }
  clearTimeout(nextLook);
  nextLook = setTimeout(look, isRunning ? RUNNING_POLL_MS : IDLE_POLL_MS);
}
void look();

const json = { "content-type": "application/json" };
const post = (path, body) => fetch(path, { method: "POST", headers: json, body: JSON.stringify(body) });

byId("send").addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("send").querySelector("button").disabled = true;
  await post("/herd", { callers: Number(byId("callers").value) }).catch(() => undefined);
  await look();
});

const MOST_SHOWN = 400;
const ids = Array.from({ length: 50 }, (_, index) => index + 1).join(",");
const requests = {
  "/products": () => [`GET /products?ids=1,2,…,50`, fetch(`/products?ids=${ids}`, { cache: "no-store" })],
  "/orders": () => ["POST /orders", post("/orders", { country: "de", productId: 7, cents: 900_000 })],
};

for (const button of document.querySelectorAll("[data-ask]")) {
  button.addEventListener("click", async () => {
    const path = button.dataset.ask;
    const before = await read("/counters");
    const beganMs = performance.now();
    const [request, asked] = requests[path]?.() ?? [`GET ${path}`, fetch(path, { cache: "no-store" })];
    const answer = await asked;
    const body = await answer.text();
    const tookMs = performance.now() - beganMs;
    const after = await read("/counters");
    const headers = ["Cache-Status", "Age", "Cache-Control"]
      .filter((name) => answer.headers.has(name))
      .map((name) => `${name}: ${answer.headers.get(name)}`);
    const reached = `${time(tookMs)}, ${queries(after.queries - before.queries)}`;
    const shown = body.length > MOST_SHOWN ? `${body.slice(0, MOST_SHOWN)} …` : body;
    byId("answer").textContent = [`${request} → ${answer.status} (${reached})`, ...headers, shown].join("\n");
    await look();
  });
}
