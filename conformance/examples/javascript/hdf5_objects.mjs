// Superblock, object headers and their messages in HDF5 files.

import { Bytes } from "./hdf5_bytes.mjs";
import { requireModel } from "./errors.mjs";

const SIGNATURE = "894844460d0a1a0a";
const CONTINUATION = 0x10;
const MAX_CONTINUATIONS = 4096;
const CLASSES = { 0x10: "integer", 0x11: "float", 0x13: "text" };
const FLOAT32 = "11201f000400000000002000170800177f000000";
const UNREAD = [0, 4, 5, 10, 18]; // nothing, fill values, group info, time

/** Numbers of the header messages that are read here. */
export const MESSAGE = {
  dataspace: 1,
  linkInfo: 2,
  datatype: 3,
  link: 6,
  layout: 8,
  filters: 11,
  attribute: 12,
  symbolTable: 17,
  attributeInfo: 21,
};

/** The file's bytes and the address of the root's object header. */
export function openFile(buffer) {
  const file = new Bytes(buffer);
  const head = buffer.subarray(0, 12).toString("hex");
  requireModel(head === `${SIGNATURE}02080800`, "this is no HDF5 file with a superblock of version 2"); // [B.1-19]
  file.own(0, 48);
  requireModel(file.length(12) === 0 && file.address(20) === null, "the superblock is another than that of models");
  return { file, root: file.address(36) };
}

/** Blocks of messages that an object header continues in. [B.1-20] */
function* blocksOf(file, start, end, continued) {
  const blocks = [[start, end]];
  for (let n = 0; n < blocks.length; n++) {
    requireModel(n <= MAX_CONTINUATIONS, "too many parts of an object header");
    yield { block: blocks[n], follow: (part, at) => blocks.push(continued(part.address(at), part.length(at + 8))) };
  }
}

/** Messages of blocks; `head` reads a message's type and length, and where its data begin. */
function collect(file, blocks, head) {
  const messages = [];
  for (const { block, follow } of blocks) {
    let [at] = block;
    file.own(at, block[1] - at);
    while (at + head.bytes <= block[1]) {
      const type = head.type(at);
      const length = file.uint(at + head.lengthAt, 2);
      const data = at + head.bytes;
      requireModel(data + length <= block[1], "the file is damaged: a message leaves its object header");
      requireModel((file.uint(at + head.flagsAt, 1) & 2) === 0, "a message stands outside its object"); // [B.1-20]
      if (type === CONTINUATION) {
        follow(file.upTo(data + length), data);
      } else if (!UNREAD.includes(type)) {
        requireModel(Object.values(MESSAGE).includes(type), `a message of kind ${type}`); // [B.1-20]
        messages.push({ type, at: data, part: file.upTo(data + length) });
      }
      at = data + length;
    }
  }
  return messages;
}

/** Messages of an object header of version 2. */
function messagesOfVersion2(file, at) {
  const flags = file.uint(at + 5, 1);
  requireModel(file.uint(at + 4, 1) === 2 && flags < 0x40, "another version of object headers");
  const sizeAt = at + 6 + (flags & 0x20 ? 16 : 0) + (flags & 0x10 ? 4 : 0);
  const bytes = Math.min(1 << (flags & 3), 6);
  const start = sizeAt + (1 << (flags & 3));
  file.own(at, start - at);
  const head = { bytes: flags & 4 ? 6 : 4, lengthAt: 1, flagsAt: 3, type: (place) => file.uint(place, 1) };
  const continued = (address, length) => {
    file.expect(address, "OCHK");
    requireModel(length >= 8, "a continuation block without room");
    file.own(address, 4);
    return [address + 4, address + length - 4];
  };
  return collect(file, blocksOf(file, start, start + file.uint(sizeAt, bytes), continued), head);
}

/** Messages of an object header of version 1. */
function messagesOfVersion1(file, at) {
  requireModel(file.uint(at, 1) === 1, `the file is damaged: no object header at ${at}`);
  const start = at + 16;
  file.own(at, 16);
  const head = { bytes: 8, lengthAt: 2, flagsAt: 4, type: (place) => file.uint(place, 2) };
  const continued = (address, length) => [address, address + length];
  return collect(file, blocksOf(file, start, start + file.uint(at + 8, 4), continued), head);
}

/** The messages of an object: type, place of the data, and a reader of the file that ends with them. */
export function messagesOf(file, at) {
  if (!file.headers.has(at)) {
    file.headers.set(at, file.is(at, "OHDR") ? messagesOfVersion2(file, at) : messagesOfVersion1(file, at));
  }
  return file.headers.get(at);
}

/** The message of a type, of which an object has one at most. [B.1-7] */
export function messageOf(messages, type) {
  const found = messages.filter((m) => m.type === type);
  requireModel(found.length < 2, "an object has two messages of a kind");
  return found[0];
}

/** Dimensions of a dataspace. */
export function readDataspace(part, at) {
  const version = part.uint(at, 1);
  const kind = version === 1 ? 1 : part.uint(at + 3, 1);
  const simple = (version === 1 || version === 2) && kind < 2 && (part.uint(at + 2, 1) & ~1) === 0;
  const rank = part.uint(at + 1, 1) * kind;
  requireModel(simple && rank <= 32, "an array without a shape"); // [B.1-23]
  const first = version === 1 ? at + 8 : at + 4;
  const dims = Array.from({ length: rank }, (_, n) => part.count(first + 8 * n));
  requireModel(dims.reduce((product, n) => product * (n || 1), 1) < 2 ** 60, "an array of too many numbers");
  return dims;
}

/** A datatype as int16, uint8, float32 ... or text; other types have another name. [B.1-2] [B.1-11] */
export function readDatatype(part, at) {
  const kind = CLASSES[part.uint(at, 1)] ?? "another type";
  const bits = part.uint(at + 1, 3);
  const size = part.uint(at + 4, 4);
  if (kind === "integer") {
    const whole = part.uint(at + 8, 2) === 0 && part.uint(at + 10, 2) === 8 * size;
    const plain = whole && (bits & ~8) === 0;
    return { name: plain ? `${bits & 8 ? "" : "u"}int${8 * size}` : "another integer", size, whole, bigEndian: bits & 1 };
  }
  if (kind === "float") {
    const single = part.part(at, 20).toString("hex") === FLOAT32;
    return { name: single ? "float32" : "another float", size };
  }
  return { name: kind, size };
}

/** An attribute: name, type, dimensions, and where its value begins; null if models have none of its form. [B.1-25] */
export function readAttribute(part, at) {
  const version = part.size - at < 9 ? 0 : part.uint(at, 1);
  if (version !== 1 && (version !== 3 || part.uint(at + 1, 1) !== 0)) {
    return null;
  }
  const sizes = [2, 4, 6].map((offset) => part.uint(at + offset, 2));
  const [name, type, space] = version === 1 ? sizes.map((n) => Math.ceil(n / 8) * 8) : sizes;
  const nameAt = at + (version === 3 ? 9 : 8);
  return {
    name: part.text(nameAt, Math.min(sizes[0], part.size - nameAt)).replace(/\0.*$/s, ""),
    part,
    type: nameAt + name,
    space: nameAt + name + type,
    value: nameAt + name + type + space,
  };
}
