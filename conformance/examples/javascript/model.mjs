// The content of a model: SPEC 10. Arrays come from a model file (B.1) as objects with type, dims and read().

import { createHash } from "node:crypto";

import { CONFIG_FIELDS, configFault, steps } from "./config.mjs";
import { requireModel } from "./errors.mjs";
import { layerTable } from "./layers.mjs";
import { numbersOf } from "./numbers.mjs";
import { prove } from "./proof.mjs";
import { TABLE_PINS } from "./tables.mjs";

const MAX_INTEGERS = 2 ** 28;
const MAX_BOUNDARIES = 65537;
const GAMMA_END = 2 ** 52;

/** Numbers of an array's shape. */
function size(dims) {
  return dims.reduce((product, n) => product * n, 1);
}

/** The configuration. [6.1-1] [10.2-1] */
function readConfig(arrays) {
  const config = {};
  for (const [field, list] of Object.entries(CONFIG_FIELDS)) {
    const array = arrays.get(`config/${field}`);
    requireModel(array, `config/${field} is missing`);
    const fits = array.type === "int32" && array.dims.length === (list ? 1 : 0) && size(array.dims) <= 4;
    requireModel(fits, `config/${field} has another type or shape`);
    const numbers = Array.from(numbersOf("int32", array.read()));
    config[field] = list ? numbers : numbers[0];
  }
  const fault = configFault(config);
  requireModel(!fault, `the configuration breaks a rule: ${fault}`);
  return config;
}

/** Names, types and shapes of the arrays of one operation. [10.2-3] to [10.2-15] */
function layerArrays(op, config) {
  const { channels: c, kernel: k } = op;
  switch (op.kind) {
    case "conv":
      return { weight: ["int16", [c, k, k, op.depthwise ? 1 : op.inChannels]], constants: ["int32", [c, 3]] };
    case "gdn":
    case "igdn":
      return { gamma: ["int64", [c, c]], beta: ["int64", [c]], constants: ["int32", [1]] };
    case "gain":
      return { multiplier: ["int32", [steps(config), c]], shift: ["int32", [steps(config), c]] };
    case "norm":
      return { constants: ["int64", [1]] };
    case "local_attention":
      return { bias: ["int32", [81, op.heads]], constants: ["int32", [1]] };
    case "rescale":
      return { constants: ["int32", [1]] };
    default: // sum, linear_attention
      return { constants: ["int32", [3]] };
  }
}

/** Type and shape of every array but z/cdf by name. [10.2-2] [10.2-16] [10.2-17] [10.2-19] */
function expectedArrays(config, operations) {
  const expected = new Map([
    ["formats", ["int32", [operations.length, 2]]],
    ["z/medians", ["int32", [config.hyper]]],
    ["z/first", ["int32", [config.hyper]]],
    ["z/start", ["int32", [config.hyper + 1]]],
  ]);
  for (const op of operations) {
    for (const [name, array] of Object.entries(layerArrays(op, config))) {
      expected.set(`layers/${op.name}/${name}`, array);
    }
  }
  for (const [name, type, entries] of TABLE_PINS) {
    expected.set(`tables/${name}`, [type, [entries]]);
  }
  return expected;
}

/** No array is missing, none is added, all have their type and shape; before memory is taken. [10.2-22] [9.1-7] */
function checkLayout(arrays, expected, config) {
  let integers = 0;
  for (const [name, { type, dims }] of arrays) {
    const wanted = expected.get(name);
    if (wanted) {
      const fits = type === wanted[0] && dims.join() === wanted[1].join();
      requireModel(fits, `${name} is ${type} [${dims}], not ${wanted[0]} [${wanted[1]}]`);
    } else {
      requireModel(name === "z/cdf" || name.startsWith("config/"), `unknown array ${name}`);
      requireModel(!name.startsWith("config/") || Object.hasOwn(CONFIG_FIELDS, name.slice(7)), `unknown array ${name}`);
    }
    integers += size(dims);
  }
  for (const name of [...expected.keys(), "z/cdf"]) {
    requireModel(arrays.has(name), `${name} is missing`);
  }
  const cdf = arrays.get("z/cdf");
  requireModel(cdf.type === "int32" && cdf.dims.length === 1, "z/cdf has another type or shape"); // [10.2-18]
  requireModel(cdf.dims[0] <= MAX_BOUNDARIES * config.hyper, "z/cdf has too many boundaries"); // [B.1-12]
  requireModel(integers <= MAX_INTEGERS, `${integers} integers`); // [B.1-14]
}

/** The first 16 bytes of SHA-256 over names, types, shapes and numbers. [10.3-1] to [10.3-3] */
function fingerprint(contents) {
  const hash = createHash("sha256");
  for (const name of [...contents.keys()].sort()) {
    const { type, dims, bytes } = contents.get(name);
    hash.update(`${name} ${type} ${dims.length ? dims.join(" ") : "1"}\n`);
    hash.update(bytes);
  }
  return hash.digest("hex").slice(0, 32);
}

/** Every number lies in low..high. */
function requireInside(numbers, low, high, name) {
  const wrong = numbers.findIndex((n) => n < low || n > high);
  requireModel(wrong < 0, `number ${wrong} of ${name} is ${numbers[wrong]}, outside ${low}..${high}`);
}

/** Values of a layer's format. [10.2-20] [10.2-21] [5.1-2] */
function checkFormat(op, { frac, limit }) {
  const tabled = op.gelu || op.name.startsWith("lrp_");
  requireInside([frac], tabled ? 4 : 0, tabled ? 12 : 15, `frac of ${op.name}`);
  requireInside([limit], op.wide ? 0 : 1, op.wide ? 0 : 32767, `limit of ${op.name}`);
}

/** A convolution's weights, and its constants by column. [10.2-3] [10.2-4] [10.2-23] */
function convolutionLayer(op, { weight, constants }) {
  const column = (n) => Int32Array.from({ length: op.channels }, (_, c) => constants[3 * c + n]);
  const [bias, shift, addShift] = [column(0), column(1), column(2)];
  requireInside(weight, -32767, 32767, `weight of ${op.name}`);
  requireInside(shift, 0, 30, `shift of ${op.name}`);
  requireInside(addShift, 0, op.add ? 30 : 0, `add_shift of ${op.name}`);
  return { weight, bias, shift, addShift, taps: weight.length / op.channels };
}

// Least and greatest value of the arrays of other operations. [10.2-5] to [10.2-15]
const RANGES = {
  gdn: { gamma: [0, GAMMA_END - 1], beta: [1, GAMMA_END - 1], constants: [0, 36] },
  sum: { constants: [0, 15] },
  gain: { multiplier: [2 ** 14, 2 ** 15 - 1], shift: [1, 30] },
  rescale: { constants: [0, 15] },
  norm: { constants: [1, 2 ** 50 - 1] },
  local_attention: { constants: [0, 30] },
};

/** The arrays of an operation, checked, 64-bit ones as doubles, which hold what is allowed. [10.2-25] */
function layerOf(op, arrays) {
  if (op.kind === "conv") {
    return convolutionLayer(op, arrays);
  }
  if (op.kind === "linear_attention") {
    requireInside(arrays.constants.subarray(0, 2), 0, 16, `constants of ${op.name}`);
    requireInside(arrays.constants.subarray(2), 0, 12, `constants of ${op.name}`);
    return arrays;
  }
  for (const [name, [low, high]] of Object.entries(RANGES[op.kind === "igdn" ? "gdn" : op.kind])) {
    requireInside(arrays[name], low, high, `${name} of ${op.name}`);
    if (arrays[name] instanceof BigInt64Array) {
      arrays[name] = Float64Array.from(arrays[name], Number);
    }
  }
  return arrays;
}

/** Frequency tables of boundaries one after the other. [7.1-1] to [7.1-5] */
function symbolTables(first, start, boundaries) {
  requireModel(start[0] === 0 && start[start.length - 1] === boundaries.length, "frequency tables do not fill z/cdf");
  return Array.from(first, (low, k) => {
    const row = boundaries.subarray(start[k], start[k + 1]);
    const place = start[k] >= 0 && start[k + 1] - start[k] === row.length && row.length >= 3;
    const ends = row[0] === 0 && row[row.length - 1] === 65536;
    const rises = row.every((v, n) => n === 0 || v > row[n - 1]);
    requireModel(place && ends && rises, `frequency table ${k} breaks a rule of boundaries`);
    const last = low + row.length - 3;
    requireModel(low >= -32767 && last <= 32767, `frequency table ${k} has symbols ${low}..${last}`);
    return { first: low, count: row.length - 2, start: start[k], boundaries };
  });
}

/** The universal tables, by their bytes. [A.8-2] */
function universalTables(contents) {
  const tables = {};
  for (const [name, type, , sha256] of TABLE_PINS) {
    const { bytes } = contents.get(`tables/${name}`);
    const same = createHash("sha256").update(bytes).digest("hex") === sha256;
    requireModel(same, `tables/${name} is not the table of annex A`);
    tables[name] = numbersOf(type, bytes);
  }
  return tables;
}

/** A checked model from the arrays of a file. [10.1-1] [10.2-25] */
export function buildModel(arrays) {
  const config = readConfig(arrays);
  const { operations, width } = layerTable(config);
  checkLayout(arrays, expectedArrays(config, operations), config);
  const contents = new Map();
  for (const [name, { type, dims, read }] of arrays) {
    contents.set(name, { type, dims, bytes: read() });
  }
  const numbers = (name) => numbersOf(contents.get(name).type, contents.get(name).bytes);
  const formats = numbers("formats");
  const layers = {};
  operations.forEach((op, n) => {
    const format = { frac: formats[2 * n], limit: formats[2 * n + 1] };
    checkFormat(op, format);
    const names = Object.keys(layerArrays(op, config));
    const own = Object.fromEntries(names.map((name) => [name, numbers(`layers/${op.name}/${name}`)]));
    layers[op.name] = { ...format, ...layerOf(op, own) };
  });
  const tables = universalTables(contents);
  const medians = numbers("z/medians");
  requireInside(medians, -32767, 32767, "z/medians"); // [10.2-16]
  const model = {
    config,
    operations,
    byName: new Map(operations.map((op) => [op.name, op])),
    width,
    layers,
    tables,
    medians,
    z: symbolTables(numbers("z/first"), numbers("z/start"), numbers("z/cdf")),
    gaussian: symbolTables(tables.gaussian_first, tables.gaussian_start, tables.gaussian_cdf),
    fingerprint: fingerprint(contents),
  };
  prove(model);
  return model;
}
