// Superblock, object headers and their messages in HDF5 files.

import { Bytes } from "./hdf5_bytes.mjs";
import { requireModel } from "./errors.mjs";

const SIGNATURE = "894844460d0a1a0a";
const CONTINUATION = 0x10;
const MAX_MESSAGES = 4096;
const CLASSES = { 0: "integer", 1: "float", 3: "text" };

/** Numbers of the header messages that are read here. */
export const MESSAGE = {
  dataspace: 1,
  linkInfo: 2,
  datatype: 3,
  link: 6,
  external: 7,
  layout: 8,
  groupInfo: 10,
  filters: 11,
  attribute: 12,
  symbolTable: 17,
  attributeInfo: 21,
};

/** The file's bytes and the address of the root's object header. */
export function openFile(buffer) {
  const file = new Bytes(buffer);
  const known = buffer.length >= 12 && buffer.subarray(0, 8).toString("hex") === SIGNATURE && buffer[8] <= 3;
  requireModel(known, "this is no HDF5 file");
  const late = buffer[8] >= 2;
  const widths = late ? file.uint(9, 2) : file.uint(13, 2);
  requireModel(widths === 0x0808, "addresses of the HDF5 file have not 8 bytes");
  const first = buffer[8] === 1 ? 28 : 24;
  return { file, root: late ? file.address(36) : file.address(first + 4 * 8 + 8) };
}

/** Blocks of messages that an object header continues in, each visited once. */
function* blocksOf(file, start, end, continued) {
  const seen = new Set();
  const queue = [[start, end]];
  while (queue.length) {
    const block = queue.shift();
    requireModel(!seen.has(block[0]), "the file is damaged: an object header continues in itself");
    seen.add(block[0]);
    yield { block, follow: (at) => queue.push(continued(file.address(at), file.length(at + 8))) };
  }
}

/** Messages of blocks; `head` reads a message's type and length, and where its data begin. */
function collect(file, blocks, head) {
  const messages = [];
  for (const { block, follow } of blocks) {
    let [at] = block;
    while (at + head.bytes <= block[1]) {
      const type = head.type(at);
      const length = file.uint(at + head.lengthAt, 2);
      const data = at + head.bytes;
      requireModel(data + length <= block[1], "the file is damaged: a message leaves its object header");
      if (type === CONTINUATION) {
        follow(data);
      } else if (type !== 0) {
        messages.push({ type, at: data, length, shared: (file.uint(at + head.flagsAt, 1) & 2) !== 0 });
      }
      requireModel(messages.length <= MAX_MESSAGES, "an object header has too many messages");
      at = data + length;
    }
  }
  return messages;
}

/** Messages of an object header of version 2. */
function messagesOfVersion2(file, at) {
  const flags = file.uint(at + 5, 1);
  const sizeAt = at + 6 + (flags & 0x20 ? 16 : 0) + (flags & 0x10 ? 4 : 0);
  const bytes = Math.min(1 << (flags & 3), 6);
  const start = sizeAt + (1 << (flags & 3));
  const head = { bytes: flags & 4 ? 6 : 4, lengthAt: 1, flagsAt: 3, type: (place) => file.uint(place, 1) };
  const continued = (address, length) => {
    file.expect(address, "OCHK");
    return [address + 4, address + length - 4];
  };
  return collect(file, blocksOf(file, start, start + file.uint(sizeAt, bytes), continued), head);
}

/** Messages of an object header of version 1. */
function messagesOfVersion1(file, at) {
  requireModel(file.uint(at, 1) === 1, `the file is damaged: no object header at ${at}`);
  const start = at + 16;
  const head = { bytes: 8, lengthAt: 2, flagsAt: 4, type: (place) => file.uint(place, 2) };
  const continued = (address, length) => [address, address + length];
  return collect(file, blocksOf(file, start, start + file.uint(at + 8, 4), continued), head);
}

/** The messages of an object: type, place and length of the data. */
export function messagesOf(file, at) {
  return file.is(at, "OHDR") ? messagesOfVersion2(file, at) : messagesOfVersion1(file, at);
}

/** The first message of a type; a shared one stands elsewhere, which model files have no use for. [B.1-11] */
export function messageOf(messages, type) {
  const found = messages.find((m) => m.type === type);
  requireModel(!found || !found.shared, "a type or shape stands outside its object");
  return found;
}

/** Dimensions of a dataspace. */
export function readDataspace(file, at) {
  const version = file.uint(at, 1);
  const rank = file.uint(at + 1, 1);
  const simple = version === 1 || (version === 2 && file.uint(at + 3, 1) < 2);
  requireModel(simple && rank <= 32, "an array without a shape");
  const first = version === 1 ? at + 8 : at + 4;
  return Array.from({ length: rank }, (_, n) => file.length(first + 8 * n));
}

/** A datatype as int16, uint8, float32 ... or text; other types have another name. [B.1-2] [B.1-11] */
export function readDatatype(file, at) {
  const kind = CLASSES[file.uint(at, 1) & 15] ?? "another type";
  const bits = file.uint(at + 1, 3);
  const size = file.uint(at + 4, 4);
  if (kind === "integer") {
    const plain = (bits & 7) === 0 && file.uint(at + 8, 2) === 0 && file.uint(at + 10, 2) === 8 * size;
    return { name: plain ? `${bits & 8 ? "" : "u"}int${8 * size}` : "another integer", size };
  }
  if (kind === "float") {
    const single = size === 4 && (bits & 0x41) === 0 && file.uint(at + 10, 2) === 32 && file.uint(at + 16, 4) === 127;
    return { name: single ? "float32" : "another float", size };
  }
  return { name: kind, size };
}

/** An attribute: name, type, dimensions, and where its value begins. */
export function readAttribute(file, at) {
  const version = file.uint(at, 1);
  const sizes = [2, 4, 6].map((offset) => file.uint(at + offset, 2));
  const [name, type, space] = version === 1 ? sizes.map((n) => Math.ceil(n / 8) * 8) : sizes;
  const nameAt = at + (version === 3 ? 9 : 8);
  const shared = version > 1 && (file.uint(at + 1, 1) & 3) !== 0;
  return {
    name: file.text(nameAt, sizes[0]).replace(/\0.*$/s, ""),
    type: shared ? { name: "shared type", size: 0 } : readDatatype(file, nameAt + name),
    space: nameAt + name + type,
    value: nameAt + name + type + space,
  };
}
