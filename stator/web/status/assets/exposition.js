// Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+(-?\d+))?$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)",?/g;
const ESCAPES = { "\\n": "\n", '\\"': '"', "\\\\": "\\" };
// What the names of a family's samples end in, beside the family's own name.
const ENDINGS = { histogram: ["_bucket", "_sum", "_count"], summary: ["_sum", "_count"] };

/**
 * Returns the families of an exposition by name, each with its type, help and samples. A sample has a name, labels as
 * pairs, a value, and its time in Unix seconds, or null where the exposition names none.
 */
export function parse(text) {
  const families = new Map();
  let family = null;
  const open = (name) => {
    family = families.get(name) ?? { name, type: "untyped", help: "", samples: [] };
    families.set(name, family);
    return family;
  };
  for (const line of text.split("\n")) {
    if (line.startsWith("# HELP ") || line.startsWith("# TYPE ")) {
      const [, name, rest] = line.slice(7).match(/^(\S+)\s*(.*)$/);
      open(name)[line.startsWith("# HELP ") ? "help" : "type"] = rest;
      continue;
    }
    const match = line.startsWith("#") ? null : line.match(SAMPLE);
    if (match) {
      const [, name, labels, value, time] = match;
      if (!family || !belongs(name, family)) open(name);
      family.samples.push({
        name,
        labels: parseLabels(labels ?? ""),
        value: parseValue(value),
        time: time === undefined ? null : Number(time) / 1000,
      });
    }
  }
  return families;
}

function belongs(name, family) {
  return name === family.name || (ENDINGS[family.type] ?? []).some((ending) => name === family.name + ending);
}

function parseLabels(text) {
  return [...text.matchAll(LABEL)].map(([, name, value]) => [
    name,
    value.replace(/\\[n"\\]/g, (escape) => ESCAPES[escape]),
  ]);
}

function parseValue(text) {
  const infinite = { "+Inf": Infinity, "-Inf": -Infinity };
  return infinite[text] ?? Number(text);
}
