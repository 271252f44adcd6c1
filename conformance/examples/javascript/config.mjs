// Configurations: SPEC 6.1.

const LISTS = { N: [3], hs: [2], chan: [2], ent: [3], lrp: [0, 2] };
const NUMBERS = ["M", "slices", "hyper", "window", "local_heads", "intra_heads", "inter_head_width", "qualities"];

/** Every field of a configuration, and whether it is a list. [6.1-1] */
export const CONFIG_FIELDS = Object.fromEntries([
  ...NUMBERS.map((name) => [name, false]),
  ["old_synthesis", false],
  ...Object.keys(LISTS).map((name) => [name, true]),
]);

/** Qualities of streams. [6.1-3] */
export function steps(config) {
  return config.qualities > 1 ? 100 : 1;
}

/** Heads of the inter attention of slice i. [6.1-4] */
export function interHeads(config, i) {
  return Math.max(1, Math.floor(((config.M / config.slices) * i) / config.inter_head_width));
}

/** Hidden widths of the LRP of slice i. [6.1-5] */
export function lrpWidths(config, i) {
  if (config.lrp.length) {
    return config.lrp;
  }
  const ch = config.M / config.slices;
  const n = config.M + (i + 1) * ch;
  const d = config.M + i * ch;
  return [n - Math.floor(d / 4), n - Math.floor(d / 2), n - Math.floor((d * 3) / 4)];
}

/** Whether the heads of every slice's inter attention divide its width. [6.1-2] */
function interHeadsDivide(config) {
  for (let i = 1; i < config.slices; i++) {
    if (((config.M / config.slices) * i) % interHeads(config, i) !== 0) {
      return false;
    }
  }
  return true;
}

/** The rules for configurations, each with what it says. [6.1-2] [9.1-6] */
export function configFault(config) {
  const widths = [config.M, config.hyper, ...Object.keys(LISTS).flatMap((name) => config[name])];
  const numbers = [...widths, ...NUMBERS.map((name) => config[name])];
  const ch = config.M / config.slices;
  const rules = [
    [() => numbers.every((n) => n >= 1 && n <= 4096), "a number is outside 1..4096"],
    [() => [0, 1].includes(config.old_synthesis), "old_synthesis is neither 0 nor 1"],
    [() => Object.entries(LISTS).every(([name, counts]) => counts.includes(config[name].length)), "a list's length"],
    [() => config.window === 5, "window is not 5"],
    [() => config.slices <= 32 && config.qualities <= 64, "too many slices or qualities"],
    [() => Number.isInteger(ch) && ch % 2 === 0, "M does not divide into slices of even width"],
    [() => ch <= 64, "a slice has more than 64 channels"],
    [() => widths.every((n) => n % 2 === 0), "a width is odd"],
    [() => ch % config.local_heads === 0 && ch % config.intra_heads === 0, "heads do not divide a slice"],
    [() => interHeadsDivide(config), "heads of the inter attention do not divide its width"],
  ];
  const broken = rules.find(([holds]) => !holds());
  return broken ? broken[1] : null;
}
