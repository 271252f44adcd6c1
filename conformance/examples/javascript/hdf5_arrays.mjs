// How arrays of a model file are stored in HDF5: whole, or in chunks, shuffled and deflated. SPEC B.1.

import { inflateSync } from "node:zlib";

import { requireModel } from "./errors.mjs";
import { messageOf, MESSAGE, readDataspace, readDatatype } from "./hdf5_objects.mjs";
import { oldTree } from "./hdf5_trees.mjs";

const GZIP = 1;
const SHUFFLE = 2;
const MAX_CHUNKS = 4096;
const MAX_PART = 2 ** 22; // bytes of one of several chunks
const MAX_FILTER_BYTES = 256;

/** Numbers of a shape. */
function size(dims) {
  return dims.reduce((product, n) => product * n, 1);
}

/** Filters of an array: none, shuffle, gzip or both in this order. [B.1-9] */
function readFilters(message, width) {
  if (!message) {
    return [];
  }
  const part = message.part.upTo(message.at + MAX_FILTER_BYTES);
  const version = part.uint(message.at, 1);
  const filters = [];
  const old = version === 1;
  let at = message.at + (old ? 8 : 2);
  part.part(message.at, at - message.at);
  requireModel((old || version === 2) && part.uint(message.at + 1, 1) <= 2, "filters of another form"); // [B.1-24]
  for (let n = 0; n < part.uint(message.at + 1, 1); n++) {
    const code = part.uint(at, 2);
    const name = old ? 8 * Math.ceil(part.uint(at + 2, 2) / 8) : 0;
    const values = part.uint(at + (old ? 6 : 4), 2);
    const valuesAt = at + (old ? 8 : 6) + name;
    const fits = code !== SHUFFLE || (values > 0 && part.uint(valuesAt, 4) === width);
    requireModel(fits, "shuffle of another width than the numbers'");
    const length = valuesAt - at + 4 * values + (old && values % 2 ? 4 : 0);
    part.part(at, length);
    at += length;
    filters.push(code);
  }
  const known = ["", `${SHUFFLE}`, `${GZIP}`, `${SHUFFLE},${GZIP}`].includes(filters.join());
  requireModel(known, `filters ${filters.join(", ")}, allowed are shuffle and gzip`);
  return filters;
}

/** Undo shuffle: byte k of every number stands together. */
function unshuffle(bytes, width) {
  const count = bytes.length / width;
  const out = Buffer.alloc(bytes.length);
  for (let k = 0; k < width; k++) {
    for (let n = 0; n < count; n++) {
      out[n * width + k] = bytes[k * count + n];
    }
  }
  return out;
}

/** The numbers' bytes of a chunk, which are neither more nor fewer than it holds. [B.1-15] */
function inflateChunk(stored, bytes, width, filters) {
  requireModel(stored.length <= 2 * bytes + 64, `a chunk of ${bytes} bytes is stored in ${stored.length}`);
  let data = stored;
  if (filters.includes(GZIP)) {
    try {
      data = inflateSync(stored, { maxOutputLength: Math.max(bytes, 1) });
    } catch (error) {
      requireModel(false, `a chunk cannot be inflated: ${error.message}`);
    }
  }
  requireModel(data.length === bytes, `a chunk has ${data.length} bytes instead of ${bytes}`);
  return filters.includes(SHUFFLE) ? unshuffle(data, width) : data;
}

/** Chunks in the order of their tree: bytes stored, mask of filters, place in the array, address. */
function* chunksOf(file, tree, rank) {
  for (const [key, address] of oldTree(file, tree, 1, 8 + 8 * (rank + 1))) {
    const place = Array.from({ length: rank }, (_, d) => file.length(key + 8 + 8 * d));
    requireModel(file.count(key + 8 + 8 * rank) === 0, "the file is damaged: a chunk inside a number");
    yield { stored: file.uint(key, 4), mask: file.uint(key + 4, 4), place, address };
  }
}

/** Copy a chunk's rows into the array, those parts that lie inside. */
function placeChunk(out, dims, data, chunk, place, width) {
  const last = dims.length - 1;
  const run = Math.min(chunk[last], dims[last] - place[last]) * width;
  const rows = size(chunk) / chunk[last];
  for (let row = 0; row < rows; row++) {
    let rest = row;
    let inside = true;
    let to = 0;
    let factor = dims[last];
    for (let d = last - 1; d >= 0; d--) {
      const index = place[d] + (rest % chunk[d]);
      rest = Math.floor(rest / chunk[d]);
      inside = inside && index < dims[d];
      to += index * factor;
      factor *= dims[d];
    }
    if (inside) {
      data.copy(out, (to + place[last]) * width, row * chunk[last] * width, row * chunk[last] * width + run);
    }
  }
}

/** The bytes of a chunked array. [B.1-10] [B.1-15] */
function readChunks(file, { at, part }, array, filters) {
  const { dims, width } = array;
  const rank = dims.length;
  const tree = part.address(at + 3);
  const chunk = Array.from({ length: rank }, (_, d) => part.uint(at + 11 + 4 * d, 4));
  requireModel(part.uint(at + 11 + 4 * rank, 4) === width, "the file is damaged: chunks of another width");
  requireModel(part.uint(at + 2, 1) === rank + 1 && rank > 0, "the file is damaged: chunks of another shape");
  requireModel(chunk.every((n, d) => n >= 1 && n <= dims[d]), "a chunk is larger than its array");
  const across = dims.map((n, d) => Math.ceil(n / chunk[d]));
  requireModel(size(across) <= MAX_CHUNKS, `an array in ${size(across)} chunks`);
  requireModel(size(across) === 1 || size(chunk) * width <= MAX_PART, `a chunk of ${size(chunk) * width} bytes`);
  requireModel(tree !== null, "the chunks of an array are not stored");
  const out = Buffer.alloc(size(dims) * width);
  const seen = new Set();
  for (const { stored, mask, place, address } of chunksOf(file, tree, rank)) {
    const fits = place.every((n, d) => n < dims[d] && n % chunk[d] === 0) && !seen.has(place.join());
    requireModel(fits, "the file is damaged: a chunk at a wrong place");
    seen.add(place.join());
    requireModel(stored <= 2 * size(chunk) * width + 64, `a chunk is stored in ${stored} bytes`);
    const used = filters.filter((_, n) => !((mask >> n) & 1));
    const data = inflateChunk(file.own(address, stored), size(chunk) * width, width, used);
    placeChunk(out, dims, data, chunk, place, width);
  }
  requireModel(seen.size === size(across), "a chunk is missing");
  return out;
}

/** The bytes of an array. [B.1-8] */
function readArray(file, messages, array) {
  const layout = messageOf(messages, MESSAGE.layout);
  const { at, part } = layout;
  const bytes = size(array.dims) * array.width;
  const storage = part.uint(at + 1, 1);
  if (storage === 2) {
    const filters = readFilters(messageOf(messages, MESSAGE.filters), array.width);
    return readChunks(file, layout, array, filters);
  }
  const stored = storage === 0 ? part.uint(at + 2, 2) : part.length(at + 10);
  const address = storage === 0 ? at + 4 : part.address(at + 2);
  requireModel(stored === bytes, `an array of ${bytes} bytes is stored in ${stored}`);
  requireModel(bytes === 0 || address !== null, "an array is not stored");
  return bytes === 0 ? Buffer.alloc(0) : storage === 0 ? part.part(address, bytes) : file.own(address, bytes);
}

/** A dataset: type, dimensions, and the function that reads it, for only then its storage counts. [B.1-2] [B.1-28] */
export function readDataset(file, messages) {
  const space = messageOf(messages, MESSAGE.dataspace);
  const datatype = messageOf(messages, MESSAGE.datatype);
  requireModel(space && datatype, "the file is damaged: an array without shape or type");
  const type = readDatatype(datatype.part, datatype.at);
  const dims = readDataspace(space.part, space.at);
  requireModel(Number.isSafeInteger(size(dims) * type.size), "an array of too many numbers");
  const { at, part } = messageOf(messages, MESSAGE.layout) ?? {};
  requireModel(part, "the file is damaged: an array without a layout");
  const known = part.uint(at, 1) === 3 && part.uint(at + 1, 1) <= 2;
  requireModel(known, "virtual storage, or a data layout of another version than 3"); // [B.1-24]
  part.part(at, part.uint(at + 1, 1) === 0 ? 4 : 18);
  let bytes = null;
  const read = () => (bytes ??= readArray(file, messages, { dims, width: type.size }));
  return { type: type.name, dims, read };
}
