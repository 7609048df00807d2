// Numbers as people read them: 12.3 MiB, 340 ms.

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const LARGE = ["", "k", "M", "G", "T"];

/** Returns the unit of a family, by the end of its name: seconds, bytes, ratio or an empty text. */
export function unitOf(name) {
  const ending = /_(seconds|bytes|ratio)(_total)?$/.exec(name);
  return ending ? ending[1] : "";
}

/** Returns a value in its unit; of a rate, the unit is `bytes/s`, `seconds/s` (CPUs, say) or `/s`. */
export function format(value, unit) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  switch (unit) {
    case "bytes":
      return bytes(value);
    case "bytes/s":
      return `${bytes(value)}/s`;
    case "seconds":
      return seconds(value);
    case "seconds/s":
    case "ratio":
      return `${digits(value * 100)} %`;
    default:
      return unit ? `${short(value)}${unit}` : short(value);
  }
}

/** Returns what stands beside a plot's name for its unit. */
export function describe(unit) {
  return { "seconds/s": "% of a second", "/s": "per second", "bytes/s": "bytes per second" }[unit] ?? unit;
}

function bytes(value) {
  let step = 0;
  while (Math.abs(value) >= 1024 && step < BYTES.length - 1) {
    value /= 1024;
    step += 1;
  }
  return `${digits(value)} ${BYTES[step]}`;
}

function seconds(value) {
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${digits(value * 1e6)} µs`;
  if (size < 1) return `${digits(value * 1e3)} ms`;
  if (size < 120) return `${digits(value)} s`;
  if (size < 7200) return `${digits(value / 60)} min`;
  if (size < 172800) return `${digits(value / 3600)} h`;
  return `${digits(value / 86400)} d`;
}

function short(value) {
  let step = 0;
  while (Math.abs(value) >= 100000 && step < LARGE.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${digits(value)}${LARGE[step] ? ` ${LARGE[step]}` : ""}`;
}

function digits(value) {
  if (!Number.isFinite(value)) return String(value).replace("Infinity", "∞");
  const rounded = Math.abs(value) >= 1000 ? Math.round(value) : Number(value.toPrecision(3));
  // Not toPrecision alone, which writes 1.00e-7.
  return Math.abs(rounded) < 1e-6 ? String(rounded || 0) : rounded.toLocaleString("en", { maximumFractionDigits: 9 });
}
