// The links of a group in HDF5: link messages, a fractal heap under a B-tree of version 2, or the older symbol table.

import { requireModel } from "./errors.mjs";
import { MESSAGE } from "./hdf5_objects.mjs";

const MAX_DEPTH = 16;
const MAX_RECORDS = 1 << 16;

/** Bytes that hold numbers up to a greatest one. */
function bytesFor(greatest) {
  return Math.ceil(Math.log2(greatest + 1) / 8);
}

/** A link message: name and address of the object. [B.1-5] */
function readLink(file, at) {
  const flags = file.uint(at + 1, 1);
  requireModel(file.uint(at, 1) === 1 && (flags & ~0x1b) === 0, "a link of another form"); // [B.1-21]
  const kind = flags & 8 ? file.uint(at + 2, 1) : 0;
  requireModel(kind === 0, "a soft or an external link");
  const lengthAt = at + 2 + (flags & 8 ? 1 : 0) + (flags & 16 ? 1 : 0);
  const width = 1 << (flags & 3);
  const length = file.uint(lengthAt, Math.min(width, 6));
  const nameAt = lengthAt + width;
  return [file.text(nameAt, length), file.address(nameAt + length)];
}

/** Direct blocks of a fractal heap: offset in the heap, size, address. */
function heapBlocks(file, at) {
  file.expect(at, "FRHP");
  requireModel(file.uint(at + 7, 2) === 0, "a heap with filters");
  const width = file.uint(at + 110, 2);
  const start = file.length(at + 112);
  const most = file.length(at + 120);
  const offsetBytes = Math.ceil(file.uint(at + 128, 2) / 8);
  const root = file.address(at + 132);
  const rows = file.uint(at + 140, 2);
  if (rows === 0) {
    return { offsetBytes, blocks: [[0, start, root]] };
  }
  file.expect(root, "FHIB");
  const blocks = [];
  let offset = 0;
  let place = root + 13 + offsetBytes;
  for (let row = 0; row < rows; row++) {
    const size = row < 2 ? start : start * 2 ** (row - 1);
    requireModel(size <= most, "a group with more links than a model has");
    for (let column = 0; column < width; column++) {
      blocks.push([offset, size, file.address(place)]);
      offset += size;
      place += 8;
    }
  }
  return { offsetBytes, blocks };
}

/** Where an object of a heap stands in the file, by its identifier. */
function heapPlace(file, { offsetBytes, blocks }, identifier) {
  requireModel((file.uint(identifier, 1) & 0x30) === 0, "the file is damaged: an object outside its heap");
  const offset = file.uint(identifier + 1, Math.min(offsetBytes, 6));
  const block = blocks.find(([from, size]) => offset >= from && offset < from + size);
  requireModel(block && block[2] !== null, "the file is damaged: an object outside its heap");
  return block[2] + offset - block[0];
}

/** Places of the records of a B-tree of version 2. */
function* treeRecords(file, at) {
  file.expect(at, "BTHD");
  const nodeSize = file.uint(at + 6, 4);
  const recordSize = file.uint(at + 10, 2);
  const depth = file.uint(at + 12, 2);
  requireModel(recordSize > 0 && nodeSize > 10 + recordSize && depth <= 1, "a group with more links than a model has");
  const countBytes = bytesFor(Math.floor((nodeSize - 10) / recordSize));
  const nodes = [[file.address(at + 16), file.uint(at + 24, 2), depth]];
  while (nodes.length) {
    const [node, count, level] = nodes.shift();
    file.expect(node, level ? "BTIN" : "BTLF");
    for (let n = 0; n < count; n++) {
      yield node + 6 + n * recordSize;
    }
    for (let n = 0; level && n <= count; n++) {
      const child = node + 6 + count * recordSize + n * (8 + countBytes);
      nodes.push([file.address(child), file.uint(child + 8, countBytes), level - 1]);
    }
  }
}

/** Places of what stands in a heap, by a tree whose records hold identifiers `offset` bytes in; attributes are first. */
export function* heapObjects(file, heap, tree, offset) {
  const blocks = heapBlocks(file, heap);
  for (const record of treeRecords(file, tree)) {
    const managed = file.uint(record + offset, 1) >> 4 === 0;
    if (managed || offset !== 0) {
      yield heapPlace(file, blocks, record + offset);
    } // a long attribute is none of a model's [B.1-25]
  }
}

/** Links of a symbol table: a B-tree of version 1 and a heap of names. */
function* tableLinks(file, at) {
  const heap = file.address(at + 8);
  file.expect(heap, "HEAP");
  const names = file.address(heap + 24);
  const size = file.length(heap + 8);
  const nodes = [[file.address(at), 0]];
  let visited = 0;
  while (nodes.length) {
    const [node, depth] = nodes.shift();
    visited += 1;
    requireModel(depth <= MAX_DEPTH && visited <= MAX_RECORDS, "the file is damaged: a group's tree does not end");
    if (file.is(node, "TREE")) {
      const count = file.uint(node + 6, 2);
      for (let n = 0; n < count; n++) {
        nodes.push([file.address(node + 32 + 16 * n), depth + 1]);
      }
      continue;
    }
    file.expect(node, "SNOD");
    for (let n = 0; n < file.uint(node + 6, 2); n++) {
      const entry = node + 8 + 40 * n;
      const from = file.length(entry);
      const end = file.part(names, size).indexOf(0, from);
      requireModel(end >= from, "the file is damaged: a name without an end");
      requireModel(file.uint(entry + 16, 4) !== 2, "a soft link"); // [B.1-5]
      yield [file.text(names + from, end - from), file.address(entry + 8)];
    }
  }
}

/** Name and address of every member of a group. */
export function* linksOf(file, messages) {
  for (const { type, at } of messages) {
    if (type === MESSAGE.link) {
      yield readLink(file, at);
    } else if (type === MESSAGE.symbolTable) {
      yield* tableLinks(file, at);
    } else if (type === MESSAGE.linkInfo) {
      requireModel(file.uint(at, 2) === 0, "a table of links of another form"); // [B.1-21]
      const heap = file.address(at + 2);
      if (heap !== null) {
        for (const place of heapObjects(file, heap, file.address(at + 10), 4)) {
          yield readLink(file, place);
        }
      }
    }
  }
}
