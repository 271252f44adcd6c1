// Model files: SPEC B.1, from the format of HDF5 files alone.

import { requireModel } from "./errors.mjs";
import { readDataset } from "./hdf5_arrays.mjs";
import { heapObjects, linksOf } from "./hdf5_links.mjs";
import { MESSAGE, messagesOf, openFile, readAttribute, readDataspace } from "./hdf5_objects.mjs";

const MAX_OBJECTS = 2 ** 14;
const MAX_NESTING = 8;
const MAX_PROVENANCE = 2 ** 20;
const MAX_FLOATS = 2 ** 24;
const GROUP_MESSAGES = [MESSAGE.link, MESSAGE.linkInfo, MESSAGE.groupInfo, MESSAGE.symbolTable];

/** Names are text without control characters, and no part is empty or a full stop. [B.1-16] */
function checkName(name) {
  const fair = name !== "" && name !== "." && !name.includes("/") && !/[\u0000-\u001f\u007f-\u009f]/.test(name);
  requireModel(fair, `a name that may not be: ${JSON.stringify(name)}`);
}

/** Every dataset by its path, in a walk that meets each object once. [B.1-5] to [B.1-7] */
function datasetsOf(file, root) {
  const datasets = new Map();
  const met = new Set([root]);
  const groups = [{ path: "", depth: 0, messages: messagesOf(file, root) }];
  while (groups.length) {
    const group = groups.shift();
    for (const [name, address] of linksOf(file, group.messages)) {
      checkName(name);
      const path = group.path === "" ? name : `${group.path}/${name}`;
      requireModel(!met.has(address), `${path} is a second name of an object`);
      met.add(address);
      requireModel(met.size <= MAX_OBJECTS + 1, `more than ${MAX_OBJECTS} objects`);
      const messages = messagesOf(file, address);
      if (messages.some((m) => m.type === MESSAGE.layout)) {
        datasets.set(path, readDataset(file, messages));
        continue;
      }
      requireModel(messages.some((m) => GROUP_MESSAGES.includes(m.type)), `${path} is neither group nor array`);
      requireModel(group.depth < MAX_NESTING, `${path} is nested too deep`);
      groups.push({ path, depth: group.depth + 1, messages });
    }
  }
  return datasets;
}

/** Attributes of the root by name; more than eight of them stand in a heap. */
function rootAttributes(file, root) {
  const attributes = new Map();
  const add = (at) => {
    const attribute = readAttribute(file, at);
    attributes.set(attribute.name, attribute);
  };
  for (const { type, at } of messagesOf(file, root)) {
    if (type === MESSAGE.attribute) {
      add(at);
    } else if (type === MESSAGE.attributeInfo) {
      const first = at + 2 + (file.uint(at + 1, 1) & 1 ? 2 : 0);
      const heap = file.address(first);
      const places = heap === null ? [] : heapObjects(file, heap, file.address(first + 8), 0);
      for (const place of places) {
        add(place);
      }
    }
  }
  return attributes;
}

/** What the root says: format and version. [B.1-1] [B.1-17] */
function checkAttributes(file, root) {
  const attributes = rootAttributes(file, root);
  for (const name of ["format", "version"]) {
    const attribute = attributes.get(name);
    requireModel(attribute, `the attribute ${name} is missing`);
    requireModel(readDataspace(file, attribute.space).length === 0, `the attribute ${name} is a list`);
  }
  const format = attributes.get("format");
  const text = format.type.name === "text" && file.text(format.value, format.type.size).replace(/\0.*$/s, "");
  requireModel(text === "refcodec-model", "the attribute format is another");
  const { type, value } = attributes.get("version");
  const zero = /^u?int/.test(type.name) && file.part(value, type.size).every((byte) => byte === 0);
  requireModel(zero, "the attribute version is another than 0");
}

/** Provenance is one JSON object, if it is there. [B.1-3] [B.1-13] */
function checkProvenance(dataset) {
  if (!dataset) {
    return;
  }
  const fits = dataset.type === "uint8" && dataset.dims.length === 1 && dataset.dims[0] <= MAX_PROVENANCE;
  requireModel(fits, `provenance is ${dataset.type} [${dataset.dims}]`);
  let content = null;
  try {
    content = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(dataset.read()));
  } catch (error) {
    requireModel(false, `provenance cannot be read: ${error.detail ?? error.message}`);
  }
  const isObject = typeof content === "object" && content !== null && !Array.isArray(content);
  requireModel(isObject, "provenance is not a JSON object");
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

/** The arrays of a model file by name: type, dimensions and a function that reads the bytes. */
export function readModelFile(buffer) {
  const { file, root } = openFile(buffer);
  checkAttributes(file, root);
  const datasets = datasetsOf(file, root);
  checkProvenance(datasets.get("provenance"));
  datasets.delete("provenance");
  const floats = [...datasets].filter(([path]) => path.startsWith("float/"));
  checkFloats(floats);
  floats.forEach(([path]) => datasets.delete(path));
  return datasets;
}
