// The links of a group in HDF5: link messages, a fractal heap under a B-tree of version 2, or the older symbol table.

import { requireModel } from "./errors.mjs";
import { MESSAGE } from "./hdf5_objects.mjs";
import { heapObjects, LINK_NAMES, MAX_ENTRIES, oldTree } from "./hdf5_trees.mjs";

/** A link message: name and address of the object. [B.1-5] */
function readLink(part, at) {
  const flags = part.uint(at + 1, 1);
  requireModel(part.uint(at, 1) === 1 && (flags & ~0x1b) === 0, "a link of another form"); // [B.1-21]
  const kind = flags & 8 ? part.uint(at + 2, 1) : 0;
  requireModel(kind === 0, "a soft or an external link");
  const lengthAt = at + 2 + (flags & 8 ? 1 : 0) + (flags & 16 ? 1 : 0);
  const width = 1 << (flags & 3);
  const length = width === 8 ? part.length(lengthAt) : part.uint(lengthAt, width);
  const nameAt = lengthAt + width;
  return [part.text(nameAt, length), part.address(nameAt + length)];
}

/** Links of a symbol table: a B-tree of version 1 and a heap of names. [B.1-22] */
function* tableLinks(file, tree, heap) {
  file.expect(heap, "HEAP");
  file.own(heap, 32);
  requireModel(file.uint(heap + 4, 1) === 0, "a heap of names of another form");
  const names = file.own(file.length(heap + 24), file.length(heap + 8));
  for (const [, node] of oldTree(file, tree, 0, 8)) {
    file.expect(node, "SNOD");
    const count = file.uint(node + 6, 2);
    requireModel(file.uint(node + 4, 1) === 1 && count <= MAX_ENTRIES, "a node of symbols of another form");
    file.own(node, 8 + 40 * count);
    for (let entry = node + 8; entry < node + 8 + 40 * count; entry += 40) {
      const from = file.length(entry);
      const end = names.indexOf(0, from);
      requireModel(from < names.length && end >= from, "the file is damaged: a name without an end");
      requireModel(file.uint(entry + 16, 4) !== 2, "a soft link"); // [B.1-5]
      yield [names.toString("utf8", from, end), file.address(entry + 8)];
    }
  }
}

/** Name and address of every member of a group. */
export function* linksOf(file, messages) {
  for (const { type, at, part } of messages) {
    if (type === MESSAGE.link) {
      yield readLink(part, at);
    } else if (type === MESSAGE.symbolTable) {
      yield* tableLinks(file, part.address(at), part.address(at + 8));
    } else if (type === MESSAGE.linkInfo) {
      requireModel(part.uint(at, 2) === 0, "a table of links of another form"); // [B.1-21]
      const [heap, tree] = [part.address(at + 2), part.address(at + 10)];
      for (const { place, end } of heap === null ? [] : heapObjects(file, heap, tree, LINK_NAMES)) {
        yield readLink(file.upTo(end), place);
      }
    }
  }
}
