// One plot: a figure with a drawing by uPlot, and a legend of buttons.

import { drawnAs, drawnUnit, timeOf, valuesOf } from "./series.js";
import { describe, format } from "./units.js";

/* global uPlot */
const MOST = 12; // series that a plot shows
const COLOURS = 6;
const LONGEST = 900; // seconds that are kept
const SHORTEST = 30; // seconds that are drawn at least
const GAP = 5; // seconds without a value after which a line is interrupted
const WINDOW = 10; // seconds over which rates and quantiles are taken, or as many as were watched, from
const SOONEST = 2; // seconds on: the kernel counts CPU time in steps
// Distances of marks of bytes: powers of two.
const BINARY = Array.from({ length: 51 }, (_, nth) => 2 ** nth);

export class Plot {
  /** `families` is what was scraped last; `said` is told what the cursor shows. */
  constructor(family, span, { onRemove, said }) {
    this.name = family.name;
    this.unit = drawnUnit(family);
    this.span = span;
    this.times = [];
    this.lines = new Map(); // values by name, one for each time
    this.hidden = new Set();
    this.more = 0;
    this.said = said;
    this.scrapes = []; // the families of the last seconds, with their times
    this.element = this.#figure(family, onRemove);
    this.element.plot = this; // for whoever inspects the page
    this.#watch = new ResizeObserver(() => this.#resize());
    this.#watch.observe(this.drawing);
  }

  #watch;
  #chart = null;

  /** What is drawn: times in Unix seconds, then the values of each series. */
  get data() {
    return [this.times, ...this.lines.values()];
  }

  /** Adds what was scraped just now. */
  add(family, now) {
    const time = timeOf(family, now);
    const last = this.times.at(-1);
    if (last !== undefined && time <= last) return;
    while (this.scrapes.length && time - this.scrapes[0].time > WINDOW) this.scrapes.shift();
    const [before] = this.scrapes.filter((each) => time - each.time >= SOONEST);
    const values = valuesOf(family, before?.family, time - (before?.time ?? time));
    this.scrapes.push({ family, time });
    if (last !== undefined && time - last > GAP) this.#push(last + 1, new Map());
    this.#push(time, values);
    this.draw();
  }

  /** Draws again, with the span that is wanted now. */
  draw() {
    if (this.times.length === 0) return;
    const names = [...this.lines.keys()];
    if (!this.#chart || this.drawn !== names.join("\n")) this.#build(names);
    this.#chart.setData(this.data, false);
    const end = this.times.at(-1);
    const start = Math.max(end - this.span, Math.min(this.times[0], end - SHORTEST));
    this.#chart.setScale("x", { min: start, max: end });
    if (this.#chart.cursor.idx === null || this.#chart.cursor.left < 0) this.#label(this.times.length - 1);
  }

  /** Takes new colours, as after a change between light and dark. */
  restyle() {
    this.drawn = null;
    this.draw();
  }

  remove() {
    this.#watch.disconnect();
    this.#chart?.destroy();
    this.element.remove();
  }

  #push(time, values) {
    for (const name of values.keys()) {
      if (this.lines.has(name)) continue;
      if (this.lines.size < MOST) this.lines.set(name, this.times.map(() => null));
    }
    this.more = [...values.keys()].filter((name) => !this.lines.has(name)).length;
    this.times.push(time);
    for (const [name, line] of this.lines) line.push(values.get(name) ?? null);
    while (this.times[0] < time - LONGEST) {
      this.times.shift();
      for (const line of this.lines.values()) line.shift();
    }
  }

  #figure(family, onRemove) {
    const figure = element("figure", { className: "plot" });
    const caption = element("figcaption");
    const about = [drawnAs(family), describe(this.unit)].filter(Boolean).join(", ");
    caption.append(element("h3", { textContent: this.name }), element("span", { className: "unit", textContent: about }));
    const remove = element("button", { type: "button", className: "remove", textContent: "×" });
    remove.setAttribute("aria-label", `Remove ${this.name}`);
    remove.addEventListener("click", onRemove);
    caption.append(remove);
    const help = element("p", { className: "help", textContent: family.help });
    this.drawing = element("div", { className: "drawing", tabIndex: 0 });
    this.drawing.setAttribute("role", "img");
    this.drawing.setAttribute("aria-label", `${this.name}: no values yet`);
    this.drawing.addEventListener("keydown", (event) => this.#onKey(event));
    this.drawing.addEventListener("blur", () => this.#leave());
    this.legend = element("ul", { className: "legend" });
    this.note = element("p", { className: "help" });
    figure.append(caption, help, this.drawing, this.legend, this.note);
    return figure;
  }

  #build(names) {
    this.#chart?.destroy();
    const style = getComputedStyle(this.drawing);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: colour("--muted"),
      grid: { stroke: colour("--grid"), width: 1 },
      ticks: { show: false },
      font: `11px ${style.fontFamily}`,
    };
    const label = (_, values) => values.map((value) => format(value, this.unit));
    const series = names.map((name, nth) => ({
      label: name,
      stroke: colour(`--line-${nth % COLOURS}`),
      width: 1.75,
      dash: nth < COLOURS ? [] : [6, 4],
      points: { show: false },
      show: !this.hidden.has(name),
    }));
    this.#chart = new uPlot(
      {
        ...this.#size(),
        padding: [10, 8, 0, 0],
        legend: { show: false },
        cursor: { sync: { key: "plots" }, drag: { x: false, y: false }, points: { size: 7 } },
        scales: { x: { time: true } },
        axes: [
          { ...axis, size: 26, space: 70, values: clock },
          { ...axis, size: 68, values: label, ...(this.unit.startsWith("bytes") ? { incrs: BINARY } : {}) },
        ],
        series: [{}, ...series],
        hooks: { setCursor: [(chart) => this.#label(chart.cursor.idx ?? this.times.length - 1)] },
      },
      this.data,
      this.drawing,
    );
    this.drawn = names.join("\n");
    this.legend.replaceChildren(...names.map((name, nth) => this.#entry(name, nth)));
  }

  #entry(name, nth) {
    const item = element("li");
    const button = element("button", { type: "button", className: `line-${nth % COLOURS}${nth < COLOURS ? "" : " dashed"}` });
    const value = element("output");
    button.append(element("span", { className: "swatch" }), element("span", { className: "name", textContent: name }), value);
    button.setAttribute("aria-pressed", String(!this.hidden.has(name)));
    button.addEventListener("click", () => {
      if (!this.hidden.delete(name)) this.hidden.add(name);
      button.setAttribute("aria-pressed", String(!this.hidden.has(name)));
      this.#chart.setSeries(nth + 1, { show: !this.hidden.has(name) });
    });
    item.append(button);
    return item;
  }

  /** Writes the values at a place of the data into the legend. */
  #label(at) {
    const outputs = this.legend.querySelectorAll("output");
    [...this.lines.values()].forEach((line, nth) => {
      if (outputs[nth]) outputs[nth].textContent = format(line[at], this.unit);
    });
    this.note.textContent = this.more ? `${this.more} more series are not shown.` : "";
    this.drawing.setAttribute("aria-label", `${this.name}: ${this.#summary(at)}`);
  }

  #summary(at) {
    const values = [...this.lines].filter(([name]) => !this.hidden.has(name));
    const time = new Date(this.times[at] * 1000).toLocaleTimeString([], { hourCycle: "h23" });
    return `${time}: ${values.map(([name, line]) => `${name} ${format(line[at], this.unit)}`).join(", ")}`;
  }

  /** Arrows move the cursor from value to value, Home and End to the ends, Escape removes it. */
  #onKey(event) {
    const chart = this.#chart;
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (!chart) return;
    if (event.key === "Escape") {
      this.#leave();
    } else if (event.key in steps) {
      event.preventDefault();
      const last = this.times.length - 1;
      const first = this.times.findIndex((time) => time >= chart.scales.x.min);
      const from = this.at ?? last;
      this.at = Math.max(first, Math.min(last, from + steps[event.key]));
      const line = [...this.lines].find(([name, values]) => !this.hidden.has(name) && values[this.at] !== null);
      const top = line ? chart.valToPos(line[1][this.at], "y") : 0;
      chart.setCursor({ left: chart.valToPos(this.times[this.at], "x"), top });
      this.#label(this.at);
      this.said(this.#summary(this.at));
    }
  }

  #leave() {
    this.at = null;
    this.#chart?.setCursor({ left: -10, top: -10 });
    if (this.times.length) this.#label(this.times.length - 1);
  }

  #size() {
    return { width: Math.max(200, this.drawing.clientWidth), height: 210 };
  }

  #resize() {
    this.#chart?.setSize(this.#size());
  }
}

/** Labels the marks of the time axis, in the local time. */
function clock(_, times, __, ___, step) {
  const options = { hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined, hourCycle: "h23" };
  return times.map((time) => new Date(time * 1000).toLocaleTimeString([], options));
}

function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}
