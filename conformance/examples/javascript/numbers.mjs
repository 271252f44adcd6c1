// Integers as bytes: little-endian two's complement, whatever the machine. SPEC 10.3-3, 13.2-2.

import { endianness } from "node:os";

const KINDS = { uint8: Uint8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array };

/** Bytes in the other order on machines that need it, in place. */
function swapped(bytes, size) {
  if (endianness() === "LE" || size === 1) {
    return bytes;
  }
  return { 2: () => bytes.swap16(), 4: () => bytes.swap32(), 8: () => bytes.swap64() }[size]();
}

/** Little-endian bytes as a typed array of a type. */
export function numbersOf(kind, bytes) {
  const copy = Buffer.from(new Uint8Array(bytes).buffer);
  const size = KINDS[kind].BYTES_PER_ELEMENT;
  swapped(copy, size);
  return new KINDS[kind](copy.buffer, 0, bytes.length / size);
}

/** A typed array as little-endian bytes. */
export function bytesOf(numbers) {
  const copy = Buffer.from(numbers.slice().buffer);
  return swapped(copy, numbers.BYTES_PER_ELEMENT);
}
