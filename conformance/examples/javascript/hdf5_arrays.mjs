// How arrays of a model file are stored in HDF5: whole, or in chunks, shuffled and deflated. SPEC B.1.

import { inflateSync } from "node:zlib";

import { requireModel } from "./errors.mjs";
import { messageOf, MESSAGE, readDataspace, readDatatype } from "./hdf5_objects.mjs";

const GZIP = 1;
const SHUFFLE = 2;
const MAX_CHUNKS = 4096;
const MAX_PART = 2 ** 22; // bytes of one of several chunks
const MAX_DEPTH = 8;

/** Numbers of a shape. */
function size(dims) {
  return dims.reduce((product, n) => product * n, 1);
}

/** Filters of an array: none, shuffle, gzip or both in this order. [B.1-9] */
function readFilters(file, message, width) {
  if (!message) {
    return [];
  }
  const version = file.uint(message.at, 1);
  const filters = [];
  let at = message.at + (version === 1 ? 8 : 2);
  for (let n = 0; n < file.uint(message.at + 1, 1); n++) {
    const code = file.uint(at, 2);
    const named = version === 1 || code >= 256;
    const name = named ? file.uint(at + 2, 2) : 0;
    const values = file.uint(at + (named ? 6 : 4), 2);
    const fits = code !== SHUFFLE || (values > 0 && file.uint(at + (named ? 8 : 6) + name, 4) === width);
    requireModel(fits, "shuffle of another width than the numbers'");
    at += (named ? 8 : 6) + name + 4 * values + (version === 1 && values % 2 ? 4 : 0);
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
  const step = 8 + 8 * (rank + 1) + 8;
  const nodes = [[tree, 0]];
  let found = 0;
  while (nodes.length) {
    const [node, depth] = nodes.shift();
    file.expect(node, "TREE");
    requireModel(file.uint(node + 4, 1) === 1 && depth <= MAX_DEPTH, "the file is damaged: no tree of chunks");
    const level = file.uint(node + 5, 1);
    for (let n = 0; n < file.uint(node + 6, 2); n++) {
      const key = node + 24 + n * step;
      const child = file.address(key + step - 8);
      found += 1;
      requireModel(found <= 2 * MAX_CHUNKS, "more chunks than the array has");
      if (level > 0) {
        nodes.push([child, depth + 1]);
      } else {
        const place = Array.from({ length: rank }, (_, d) => file.length(key + 8 + 8 * d));
        yield { stored: file.uint(key, 4), mask: file.uint(key + 4, 4), place, address: child };
      }
    }
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
function readChunks(file, at, array, filters) {
  const { dims, width } = array;
  const rank = dims.length;
  const tree = file.address(at + 3);
  const chunk = Array.from({ length: rank }, (_, d) => file.uint(at + 11 + 4 * d, 4));
  requireModel(file.uint(at + 2, 1) === rank + 1 && rank > 0, "the file is damaged: chunks of another shape");
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
  const { at } = messageOf(messages, MESSAGE.layout);
  const bytes = size(array.dims) * array.width;
  const storage = file.uint(at + 1, 1);
  if (storage === 2) {
    const filters = readFilters(file, messageOf(messages, MESSAGE.filters), array.width);
    return readChunks(file, at, array, filters);
  }
  const stored = storage === 0 ? file.uint(at + 2, 2) : file.length(at + 10);
  const address = storage === 0 ? at + 4 : file.address(at + 2);
  requireModel(stored === bytes, `an array of ${bytes} bytes is stored in ${stored}`);
  requireModel(bytes === 0 || address !== null, "an array is not stored");
  return bytes === 0 ? Buffer.alloc(0) : storage === 0 ? file.part(address, bytes) : file.own(address, bytes);
}

/** A dataset: type, dimensions, and the function that reads it, for only then its storage counts. [B.1-2] [B.1-28] */
export function readDataset(file, messages) {
  const space = messageOf(messages, MESSAGE.dataspace);
  const datatype = messageOf(messages, MESSAGE.datatype);
  requireModel(space && datatype, "the file is damaged: an array without shape or type");
  const type = readDatatype(file, datatype.at);
  const dims = readDataspace(file, space.at);
  requireModel(Number.isSafeInteger(size(dims) * type.size), "an array of too many numbers");
  const { at } = messageOf(messages, MESSAGE.layout);
  const known = file.uint(at, 1) === 3 && file.uint(at + 1, 1) <= 2;
  requireModel(known, "virtual storage, or a data layout of another version than 3"); // [B.1-24]
  let bytes = null;
  const read = () => (bytes ??= readArray(file, messages, { dims, width: type.size }));
  return { type: type.name, dims, read };
}
