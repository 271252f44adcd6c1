// The bytes of an HDF5 file, read only inside the file; addresses and lengths take 8 bytes.

import { requireModel } from "./errors.mjs";

const UNDEFINED = 2n ** 64n - 1n;

/** Bytes with checked reads. */
export class Bytes {
  constructor(buffer) {
    this.buffer = buffer;
    this.spans = [];
    this.left = buffer.length; // bytes that structures may still have
    this.headers = new Map(); // messages of objects by the address of their header
  }

  /** The same bytes up to an end: what a message says must stand inside it. */
  upTo(end) {
    return new Bytes(this.buffer.subarray(0, end));
  }

  /** A part of the file that no other structure may share; one of no bytes counts as one. [B.1-26] */
  own(at, length) {
    const part = this.part(at, length);
    this.left -= Math.max(length, 1);
    requireModel(this.left >= 0, "the structures of the file have more bytes than the file");
    if (length > 0) {
      this.spans.push([at, at + length]);
    }
    return part;
  }

  /** No two structures share a byte. [B.1-26] */
  checkApart() {
    this.spans.sort((a, b) => a[0] - b[0]);
    const apart = this.spans.every(([from], n) => n === 0 || from >= this.spans[n - 1][1]);
    requireModel(apart, "two structures of the file share bytes");
  }

  /** A part of the file, or a refusal if it is not inside. */
  part(at, length) {
    const inside = Number.isSafeInteger(at) && at >= 0 && length >= 0 && at + length <= this.buffer.length;
    requireModel(inside, `the file is damaged: ${length} bytes at ${at} of ${this.buffer.length}`);
    return this.buffer.subarray(at, at + length);
  }

  get size() {
    return this.buffer.length;
  }

  /** An unsigned integer of 1 to 6 bytes. */
  uint(at, bytes) {
    return this.part(at, bytes).readUIntLE(0, bytes);
  }

  /** An unsigned integer of 8 bytes, which must be below 2^53. */
  length(at) {
    const value = Number(this.part(at, 8).readBigUInt64LE(0));
    requireModel(Number.isSafeInteger(value), `the file is damaged: a length at ${at}`);
    return value;
  }

  /** An unsigned integer of 8 bytes, rounded if it is great. */
  count(at) {
    return Number(this.part(at, 8).readBigUInt64LE(0));
  }

  /** An address, null if it is the undefined one. */
  address(at) {
    return this.part(at, 8).readBigUInt64LE(0) === UNDEFINED ? null : this.length(at);
  }

  text(at, length) {
    return this.part(at, length).toString("utf8");
  }

  is(at, signature) {
    return this.part(at, 4).toString("latin1") === signature;
  }

  expect(at, signature) {
    requireModel(at !== null && this.is(at, signature), `the file is damaged: no ${signature} at ${at}`);
  }
}
