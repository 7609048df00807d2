// Keeps the page up to date while somebody looks: the tables, and the plots of the chosen families.

import { parse } from "./exposition.js";
import { Plot } from "./plot.js";
import { isDrawable } from "./series.js";

const POLL = 1000; // milliseconds from one scrape for the plots to the next
const REFRESH = 10000; // milliseconds from one look at the facts to the next
const SCRAPE_TIMEOUT = 10000;
const PATIENCE = 2000; // milliseconds after which the plots no longer wait for a slow collector
// What each answer has of the collectors that were asked: only all of them together give all of it.
const OWN = /^stator_(collector|build)_/;
// Chosen at first, as far as they are there, up to so many.
const FAVOURITES = [
  "wave_sine",
  "http_server_request_duration_seconds",
  "pyrt_cpu_user_seconds_total",
  "pyrt_mem_resident_bytes",
];
const AT_FIRST = 3;

// Without the user that may stand in the address, with which fetch() would take no URL.
const here = location.origin + location.pathname;
const root = document.body.dataset.root;
const picker = document.getElementById("family");
const pause = document.getElementById("pause");
const span = document.getElementById("span");
const figures = document.getElementById("figures");
const said = document.getElementById("said");

const collectorOf = new Map(); // by family; empty where it takes all of them
const plots = new Map(); // by family
let isPaused = false;
let hasBegun = false;
let hasChosen = false; // whether the one who looks has added or removed a plot

/** Returns the families that these collectors have now. */
async function scrape(collectors) {
  const asked = collectors.includes("") ? [] : collectors;
  const query = asked.map((name) => `collect[]=${encodeURIComponent(name)}`).join("&");
  const options = { headers: { Accept: "text/plain; version=0.0.4" }, signal: AbortSignal.timeout(SCRAPE_TIMEOUT) };
  const response = await fetch(new URL(`${root}metrics${query && `?${query}`}`, here), options);
  if (!response.ok) throw new Error(`/metrics answered with ${response.status}`);
  return parse(await response.text());
}

/** Asks each collector what it has, so that later only those are asked whose families are drawn. */
async function learn() {
  const response = await fetch(new URL(`${root}status`, here));
  if (!response.ok) throw new Error(`/status answered with ${response.status}`);
  const { collectors } = await response.json();
  await Promise.allSettled(collectors.map((each) => learnFrom(each.name)));
}

async function learnFrom(collector) {
  const families = [...(await scrape([collector])).values()].filter(isDrawable);
  offer(collector, collector, families.filter((each) => !OWN.test(each.name)));
  offer("stator", "", families.filter((each) => OWN.test(each.name)));
}

/** Lets families of a collector be picked. */
function offer(label, collector, families) {
  const fresh = families.filter((each) => !collectorOf.has(each.name));
  const group = document.createElement("optgroup");
  group.label = label;
  for (const family of fresh) {
    collectorOf.set(family.name, collector);
    group.append(new Option(family.name, family.name));
  }
  const next = [...picker.querySelectorAll("optgroup")].find((each) => each.label > label) ?? null;
  if (fresh.length) picker.insertBefore(group, next);
}

function chosen() {
  const wanted = location.hash.slice(1).split(",").filter((name) => collectorOf.has(name));
  return wanted.length ? wanted : FAVOURITES.filter((name) => collectorOf.has(name)).slice(0, AT_FIRST);
}

function add(name, family) {
  if (plots.has(name)) return;
  const plot = new Plot(family, Number(span.value), { onRemove: () => remove(name), said: (text) => (said.textContent = text) });
  plots.set(name, plot);
  figures.append(plot.element);
  plot.add(family, Date.now() / 1000);
}

function remove(name) {
  plots.get(name).remove();
  plots.delete(name);
  remember();
  picker.focus();
}

/** Keeps the choice in the address, so that it can be sent to others. */
function remember() {
  hasChosen = true;
  history.replaceState(null, "", `#${[...plots.keys()].join(",")}`);
}

/** Scrapes the collectors of some families. */
function scrapeFor(names) {
  return scrape([...new Set(names.map((name) => collectorOf.get(name)))]);
}

async function show(names) {
  const fresh = names.filter((name) => !plots.has(name));
  if (fresh.length === 0) return;
  const families = await scrapeFor(fresh);
  for (const name of fresh) if (families.has(name)) add(name, families.get(name));
}

/** Shows what was chosen; what belongs to a slow collector comes later. */
async function begin() {
  const learning = learn();
  await Promise.race([learning, new Promise((resume) => setTimeout(resume, PATIENCE))]);
  await show(chosen());
  hasBegun = true;
  learning.then(() => hasChosen || show(chosen())).catch(lost);
}

async function poll() {
  if (!hasBegun) await begin();
  if (!isPaused && !document.hidden && plots.size) {
    const families = await scrapeFor([...plots.keys()]);
    const now = Date.now() / 1000;
    for (const [name, plot] of plots) if (families.has(name)) plot.add(families.get(name), now);
  }
}

/** Takes the tables from the page as it is now. */
async function refresh() {
  if (isPaused || document.hidden) return;
  const response = await fetch(here, { headers: { Accept: "text/html" } });
  if (!response.ok) throw new Error(`the page answered with ${response.status}`);
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  document.title = fresh.title;
  for (const part of fresh.querySelectorAll("[data-fact]")) {
    const old = document.getElementById(part.id);
    if (old.innerHTML !== part.innerHTML) old.replaceChildren(...part.childNodes);
  }
}

/** Says that the service can't be reached; the next answer takes that back. */
function lost() {
  document.body.classList.add("unreachable");
}

/** Calls a function again and again; while the service can't be reached, the page says so. */
async function repeat(act, pauseMs) {
  for (;;) {
    const began = performance.now();
    try {
      await act();
      document.body.classList.remove("unreachable");
    } catch {
      lost();
    }
    const left = Math.max(100, pauseMs - (performance.now() - began));
    await new Promise((resume) => setTimeout(resume, left));
  }
}

picker.addEventListener("change", async () => {
  const name = picker.value;
  picker.value = "";
  if (name) await show([name]).then(remember, lost);
});
pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.setAttribute("aria-pressed", String(isPaused));
  pause.textContent = isPaused ? "Resume" : "Pause";
});
span.addEventListener("change", () => {
  for (const plot of plots.values()) {
    plot.span = Number(span.value);
    plot.draw();
  }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const plot of plots.values()) plot.restyle();
});

document.getElementById("controls").hidden = false;
repeat(poll, POLL);
repeat(refresh, REFRESH);
