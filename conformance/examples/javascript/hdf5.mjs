// Model files: SPEC B.1, from the format of HDF5 files alone.

import { requireModel } from "./errors.mjs";
import { readDataset } from "./hdf5_arrays.mjs";
import { linksOf } from "./hdf5_links.mjs";
import { MESSAGE, messagesOf, openFile, readAttribute, readDataspace, readDatatype } from "./hdf5_objects.mjs";
import { ATTRIBUTE_NAMES, heapObjects } from "./hdf5_trees.mjs";

const MAX_OBJECTS = 2 ** 14;
const MAX_NESTING = 8;
const MAX_PROVENANCE = 2 ** 20;
const MAX_FLOATS = 2 ** 24;
const MAX_PATH = 512;
const MAX_TEXT = 64;
const MAX_LEVELS = 64;
const VERSION = 1;
const GROUP_MESSAGES = [MESSAGE.link, MESSAGE.linkInfo, MESSAGE.symbolTable];
const ARRAY_MESSAGES = [MESSAGE.dataspace, MESSAGE.datatype, MESSAGE.layout, MESSAGE.filters];

/** Names are printable ASCII, and no part is empty or a full stop. [B.1-16] */
function checkName(name, path) {
  const fair = /^[\x20-\x7e]+$/.test(name) && name !== "." && !name.includes("/");
  requireModel(fair, `a name that may not be: ${JSON.stringify(name)}`);
  requireModel(path.length <= MAX_PATH, "a path is too long");
}

/** Whether messages are those of a group, of which at most one is a table, or of an array. [B.1-7] */
function isGroup(messages, path) {
  const [group, array] = [GROUP_MESSAGES, ARRAY_MESSAGES].map((types) => messages.some((m) => types.includes(m.type)));
  requireModel(group !== array, `${path} is not just a group or an array`);
  const tables = messages.filter(({ type }) => type === MESSAGE.linkInfo || type === MESSAGE.symbolTable);
  requireModel(tables.length < 2, `${path} has two tables of links`);
  return group;
}

/** Every dataset by its path, in a walk that meets each object once. [B.1-5] to [B.1-7] */
function datasetsOf(file, root) {
  const datasets = new Map();
  const met = new Set([root]);
  const groups = [{ path: "", depth: 0, messages: messagesOf(file, root) }];
  requireModel(isGroup(groups[0].messages, "the root"), "the root is no group");
  while (groups.length) {
    const group = groups.shift();
    const names = new Set();
    for (const [name, address] of linksOf(file, group.messages)) {
      const path = group.path === "" ? name : `${group.path}/${name}`;
      checkName(name, path);
      requireModel(!names.has(name), `${path} is there twice`); // [B.1-16]
      names.add(name);
      requireModel(!met.has(address), `${path} is a second name of an object`);
      met.add(address);
      requireModel(met.size <= MAX_OBJECTS + 1, `more than ${MAX_OBJECTS} objects`);
      const messages = messagesOf(file, address);
      if (!isGroup(messages, path)) {
        datasets.set(path, readDataset(file, messages));
        continue;
      }
      requireModel(group.depth < MAX_NESTING, `${path} is nested too deep`);
      groups.push({ path, depth: group.depth + 1, messages });
    }
  }
  return datasets;
}

/** Attributes of the root that models have, by name; more than eight of them stand in a heap. [B.1-25] */
function rootAttributes(file, root) {
  const attributes = new Map();
  const add = (part, at) => {
    const attribute = readAttribute(part, at);
    if (attribute && ["format", "version", "fingerprint"].includes(attribute.name)) {
      requireModel(!attributes.has(attribute.name), `two attributes ${attribute.name}`);
      attributes.set(attribute.name, attribute);
    }
  };
  for (const { type, at, part } of messagesOf(file, root)) {
    if (type === MESSAGE.attribute) {
      add(part, at);
    } else if (type === MESSAGE.attributeInfo) {
      requireModel(part.uint(at, 1) === 0, "a table of attributes of another form");
      const first = at + 2 + (part.uint(at + 1, 1) & 1 ? 2 : 0);
      const [heap, tree] = [part.address(first), part.address(first + 8)];
      for (const { place, end } of heap === null ? [] : heapObjects(file, heap, tree, ATTRIBUTE_NAMES)) {
        add(file.upTo(end), place);
      }
    }
  }
  return attributes;
}

/** The text of an attribute without the zeros at its end. [B.1-25] */
function textOf(attribute) {
  const { name, size } = readDatatype(attribute.part, attribute.type);
  requireModel(name === "text" && size <= MAX_TEXT, `the attribute ${attribute.name} is no text of fixed length`);
  return attribute.part.text(attribute.value, size).replace(/\0+$/, "");
}

/** The integer of an attribute. [B.1-25] */
function integerOf(attribute) {
  const { size, whole, bigEndian } = readDatatype(attribute.part, attribute.type);
  requireModel(whole && [1, 2, 4, 8].includes(size), `the attribute ${attribute.name} is no integer`);
  const bytes = Buffer.from(attribute.part.part(attribute.value, size));
  return Number(BigInt(`0x${(bigEndian ? bytes : bytes.reverse()).toString("hex")}`));
}

/** Check format and version; the fingerprint that the root claims, or null. [B.1-1] [B.1-17] [B.1-27] */
function checkAttributes(file, root) {
  const attributes = rootAttributes(file, root);
  for (const [name, { part, space }] of attributes) {
    requireModel(readDataspace(part, space).length === 0, `the attribute ${name} is a list`);
  }
  const [format, version, claim] = ["format", "version", "fingerprint"].map((name) => attributes.get(name));
  requireModel(format && textOf(format) === "refcodec-model", "the attribute format is missing or another");
  requireModel(version && integerOf(version) === VERSION, "the attribute version is missing or another");
  const text = claim ? textOf(claim) : null;
  requireModel(text === null || /^[0-9a-f]{32}$/.test(text), "the attribute fingerprint is none");
  return text;
}

/** What JSON.parse leaves open in a text that it accepts: names that are twice there, and depth. [B.1-13] */
function checkNamesAndDepth(text) {
  const open = []; // a set of names for every open object, null for a list
  let last = "";
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]:]/g)) {
    if (token === "{" || token === "[") {
      open.push(token === "{" ? new Set() : null);
      requireModel(open.length <= MAX_LEVELS, "provenance is nested too deep");
    } else if (token === "}" || token === "]") {
      open.pop();
    } else if (token === ":") {
      const names = open[open.length - 1];
      requireModel(!names.has(last), "provenance has a name twice");
      names.add(last);
    } else {
      last = JSON.parse(token);
    }
  }
}

/** Provenance is one JSON object, if it is there. [B.1-3] [B.1-13] */
function checkProvenance(dataset) {
  if (!dataset) {
    return;
  }
  const fits = dataset.type === "uint8" && dataset.dims.length === 1 && dataset.dims[0] <= MAX_PROVENANCE;
  requireModel(fits, `provenance is ${dataset.type} [${dataset.dims}]`);
  let text = "";
  let content = null;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(dataset.read());
    content = JSON.parse(text);
  } catch (error) {
    requireModel(false, `provenance cannot be read: ${error.detail ?? error.message}`);
  }
  const isObject = typeof content === "object" && content !== null && !Array.isArray(content);
  requireModel(isObject, "provenance is not a JSON object");
  checkNamesAndDepth(text);
}

/** The group `float` holds float32 alone, which are not read. [B.1-4] */
function checkFloats(floats) {
  let numbers = 0;
  for (const [path, { type, dims }] of floats) {
    requireModel(type === "float32", `${path} is ${type}`);
    numbers += dims.reduce((product, n) => product * n, 1);
  }
  requireModel(numbers <= MAX_FLOATS, `${numbers} numbers in float`);
}

/** The arrays of a model file by name: type, dimensions and a function that reads the bytes; the file, and what it claims to be. */
export function readModelFile(buffer) {
  const { file, root } = openFile(buffer);
  const claim = checkAttributes(file, root);
  const datasets = datasetsOf(file, root);
  checkProvenance(datasets.get("provenance"));
  datasets.delete("provenance");
  const floats = [...datasets].filter(([path]) => path.startsWith("float/"));
  checkFloats(floats);
  floats.forEach(([path]) => datasets.delete(path));
  return { file, arrays: datasets, claim };
}
