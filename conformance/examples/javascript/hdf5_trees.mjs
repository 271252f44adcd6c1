// Trees and heaps of HDF5: B-trees of version 1 and 2, and the fractal heap whose objects the latter list.

import { requireModel } from "./errors.mjs";

const MAX_LEVEL = 8;
const MAX_BLOCKS = 2 ** 14;
const MAX_BYTES = 2 ** 16; // of an object of a heap, and of a node of version 2
const MAX_COLUMNS = 1024;
const MAX_ROWS = 64;

/** Most entries of a node of version 1. [B.1-22] */
export const MAX_ENTRIES = 64;

/** Trees by the hashes of names: type, bytes of a record, where in it the identifier is, and its bytes. */
export const LINK_NAMES = { type: 5, record: 11, idAt: 4, idBytes: 7 };
export const ATTRIBUTE_NAMES = { type: 8, record: 17, idAt: 0, idBytes: 8 };

/** Bytes that hold numbers up to a greatest one. */
function bytesFor(greatest) {
  return Math.ceil(greatest.toString(2).length / 8);
}

/** Places of keys, and addresses, in the leaves of a B-tree of version 1. [B.1-22] [B.1-24] */
export function* oldTree(file, root, type, keyBytes) {
  const nodes = [[root, null]];
  while (nodes.length) {
    const [node, wanted] = nodes.shift();
    file.expect(node, "TREE");
    const level = file.uint(node + 5, 1);
    const count = file.uint(node + 6, 2);
    requireModel(file.uint(node + 4, 1) === type && count <= MAX_ENTRIES, "a tree of another form");
    requireModel(level < MAX_LEVEL && level === (wanted ?? level), "a tree of other levels");
    file.own(node, 24 + count * (keyBytes + 8) + keyBytes);
    for (let n = 0; n < count; n++) {
      const key = node + 24 + n * (keyBytes + 8);
      const below = file.address(key + keyBytes);
      if (level > 0) {
        nodes.push([below, level - 1]);
      } else {
        yield [key, below];
      }
    }
  }
}

/** Direct blocks of a fractal heap: offset in the heap, size, address. [B.1-21] */
function heapBlocks(file, at, idBytes) {
  file.expect(at, "FRHP");
  file.own(at, 142);
  const plain = file.uint(at + 4, 1) === 0 && file.uint(at + 5, 2) === idBytes && file.uint(at + 7, 2) === 0;
  const columns = file.uint(at + 110, 2);
  const [start, most, bits] = [file.length(at + 112), file.length(at + 120), file.uint(at + 128, 2)];
  const [root, rows] = [file.address(at + 132), file.uint(at + 140, 2)];
  const sized = start >= 1 && Number.isInteger(Math.log2(start)) && start <= most && most < 2 ** 32;
  const shaped = columns >= 1 && columns <= MAX_COLUMNS && rows <= MAX_ROWS && bits <= 64;
  requireModel(plain && sized && shaped, "a heap of another form");
  const offsetBytes = Math.ceil(bits / 8);
  const blocks = rows === 0 ? [[0, start, root]] : [];
  const waiting = rows === 0 ? [] : [[root, rows, 0]];
  while (waiting.length) {
    const [node, nodeRows, begin] = waiting.pop();
    let offset = begin;
    file.expect(node, "FHIB");
    file.own(node, 13 + offsetBytes + 8 * nodeRows * columns);
    requireModel(file.uint(node + 4, 1) === 0, "a heap of another form");
    for (let n = 0; n < nodeRows * columns; n++) {
      const size = start * 2 ** Math.max(Math.floor(n / columns) - 1, 0);
      const block = file.address(node + 13 + offsetBytes + 8 * n);
      if (block !== null && size <= most) {
        blocks.push([offset, size, block]);
      } else if (block !== null) {
        waiting.push([block, Math.floor(Math.log2(size / (start * columns))) + 1, offset]);
      }
      offset += size;
    }
    requireModel(blocks.length + waiting.length <= MAX_BLOCKS, "a heap of too many blocks");
  }
  for (const [, size, block] of blocks) {
    file.expect(block, "FHDB");
    file.own(block, size);
    requireModel(file.uint(block + 4, 1) === 0, "a heap of another form");
  }
  return { offsetBytes, blocks };
}

/** Places of the records of a B-tree of version 2. [B.1-21] */
function* treeRecords(file, at, { type, record }) {
  file.expect(at, "BTHD");
  file.own(at, 34);
  const [nodeBytes, depth] = [file.uint(at + 6, 4), file.uint(at + 12, 2)];
  const known = file.uint(at + 4, 1) === 0 && file.uint(at + 5, 1) === type && file.uint(at + 10, 2) === record;
  requireModel(known && nodeBytes > 10 && nodeBytes <= MAX_BYTES && depth < MAX_LEVEL, "a tree of another form");
  let most = Math.floor((nodeBytes - 10) / record);
  let total = most;
  const countBytes = bytesFor(most);
  const pointers = [0]; // bytes of a pointer to a node below, by depth
  for (let level = 1; level <= depth; level++) {
    pointers.push(8 + countBytes + (level > 1 ? bytesFor(total) : 0));
    most = Math.floor((nodeBytes - 10 - pointers[level]) / (record + pointers[level]));
    total = (most + 1) * total + most;
  }
  const count = file.uint(at + 24, 2);
  const nodes = count > 0 ? [[file.address(at + 16), count, depth]] : [];
  while (nodes.length) {
    const [node, records, level] = nodes.pop();
    const pointersAt = node + 6 + record * records;
    requireModel(pointersAt - node + pointers[level] * (records + 1) <= nodeBytes, "a node of too many records");
    file.expect(node, level ? "BTIN" : "BTLF");
    file.own(node, nodeBytes);
    requireModel(file.uint(node + 4, 1) === 0 && file.uint(node + 5, 1) === type, "a node of another form");
    for (let n = 0; n < records; n++) {
      yield node + 6 + n * record;
    }
    for (let n = 0; level && n <= records; n++) {
      const child = pointersAt + n * pointers[level];
      nodes.push([file.address(child), file.uint(child + 8, countBytes), level - 1]);
    }
  }
}

/** Places and ends of the objects of a heap, which a tree lists; long attributes, stored elsewhere, are none. [B.1-25] */
export function* heapObjects(file, heap, tree, names) {
  const { offsetBytes, blocks } = heapBlocks(file, heap, names.idBytes);
  let left = blocks.reduce((sum, [, size]) => sum + size, 0);
  for (const record of treeRecords(file, tree, names)) {
    const id = file.part(record + names.idAt, names.idBytes);
    if (id[0] >> 4) {
      requireModel(names === ATTRIBUTE_NAMES, "a link outside its heap");
      continue;
    }
    const [offset, length] = [id.subarray(1, 1 + offsetBytes), id.subarray(1 + offsetBytes)].map((bytes) =>
      bytes.length === 0 ? 0 : bytes.readUIntLE(0, Math.min(bytes.length, 6)),
    );
    const block = blocks.find(([from, size]) => offset >= from && offset + length <= from + size);
    requireModel(block, "the file is damaged: an object outside its heap");
    left -= length;
    requireModel(length <= MAX_BYTES && left >= 0, "objects of a heap that are long or overlap");
    const place = block[2] + offset - block[0];
    yield { place, end: place + length };
  }
}
