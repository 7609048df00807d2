// What is drawn of a family: its values, of a counter the rate, of a histogram quantiles and the mean.

import { unitOf } from "./units.js";

/** Labels that are the same on all series of a service, and say nothing. */
const EVERYWHERE = new Set(["app_id", "run_id"]);
const QUANTILES = [0.5, 0.9, 0.99];

/** Whether there is anything to draw of a family: not of one whose values are always 1. */
export function isDrawable(family) {
  return !/_info$/.test(family.name) && family.samples.some((each) => Number.isFinite(each.value));
}

/** Returns the unit of what is drawn of a family. */
export function drawnUnit(family) {
  const unit = unitOf(family.name);
  return family.type === "counter" ? `${unit}/s` : unit;
}

/** Returns what is drawn of a family, in a word, or an empty text for its values. */
export function drawnAs(family) {
  return { counter: "rate", histogram: "quantiles and mean", summary: "mean" }[family.type] ?? "";
}

/**
 * Returns the values to draw by series' names, at the time of `family`. `before` is the same family as it was some
 * `seconds` earlier; what needs it is null without it.
 */
export function valuesOf(family, before, seconds) {
  switch (family.type) {
    case "counter":
      return rates(family.samples, before?.samples, seconds);
    case "histogram":
      return distribution(family, before);
    case "summary":
      return means(family, before);
    default:
      return new Map(family.samples.map((each) => [nameOf(each.labels), finite(each.value)]));
  }
}

/** Returns the time of a family's samples, in Unix seconds: that in the exposition, or else `now`. */
export function timeOf(family, now) {
  return family.samples.find((each) => each.time !== null)?.time ?? now;
}

/** Returns a text for a series: its labels, or of a single one the value. */
function nameOf(labels) {
  const telling = labels.filter(([name]) => !EVERYWHERE.has(name));
  if (telling.length === 1) return telling[0][1] || telling[0][0];
  return telling.map(([name, value]) => `${name}=${value}`).join(" ") || "value";
}

const finite = (value) => (Number.isFinite(value) ? value : null);

function rates(samples, before, seconds) {
  const earlier = new Map(before?.map((each) => [nameOf(each.labels), each.value]));
  return new Map(
    samples.map((each) => {
      const name = nameOf(each.labels);
      return [name, rate(each.value, earlier.get(name), seconds)];
    }),
  );
}

/** Of a counter that was reset, as by a restart, nothing is known until the next scrape. */
function rate(value, before, seconds) {
  return before === undefined || value < before || !(seconds > 0) ? null : (value - before) / seconds;
}

/** How much each sum, count or bucket has grown, over all series together; of a new series all of it has. */
function growth(family, before, ending, key) {
  const id = (each) => JSON.stringify(each.labels);
  const of = (samples) => samples.filter((each) => each.name === family.name + ending);
  const earlier = new Map(of(before?.samples ?? []).map((each) => [id(each), each.value]));
  const grown = new Map();
  for (const each of of(family.samples)) {
    const more = each.value - (earlier.get(id(each)) ?? 0);
    grown.set(key(each), (grown.get(key(each)) ?? 0) + Math.max(0, more));
  }
  return grown;
}

function mean(family, before) {
  const sum = growth(family, before, "_sum", () => "").get("");
  const count = growth(family, before, "_count", () => "").get("");
  return before && count > 0 ? finite(sum / count) : null;
}

function distribution(family, before) {
  const bound = (each) => each.labels.find(([name]) => name === "le")[1];
  const grown = [...growth(family, before, "_bucket", bound)].map(([le, count]) => [
    le === "+Inf" ? Infinity : Number(le),
    count,
  ]);
  grown.sort(([low], [high]) => low - high);
  const values = new Map([["mean", mean(family, before)]]);
  for (const q of QUANTILES) values.set(`${q * 100} %`, before ? quantile(q, grown) : null);
  return values;
}

/** As Prometheus does it: values lie evenly in a bucket, and beyond the last bound nothing is known. */
export function quantile(q, buckets) {
  const total = buckets.at(-1)?.[1] ?? 0;
  if (!(total > 0)) return null;
  const rank = q * total;
  const nth = buckets.findIndex(([, count]) => count >= rank);
  const [high, count] = buckets[nth];
  const [low, below] = nth > 0 ? buckets[nth - 1] : [0, 0];
  if (high === Infinity) return nth > 0 ? low : null;
  return low + ((high - low) * (rank - below)) / (count - below);
}

function means(family, before) {
  return new Map([["mean", mean(family, before)]]);
}
