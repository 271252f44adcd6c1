// The container: SPEC 8, with the limits of 9.1 that concern it, and the picture levels of 12.2.

import { require } from "./errors.mjs";

const MAGIC = 0x894c4943;
const SHORT_HEADER = 44;
export const LONG_HEADER = 60;
const MAX_POSITIONS = 2 ** 23;
const MAX_CHUNKS = 64;
const MAX_PAYLOAD = 2 ** 24;

// Name, offset, bytes, least and greatest value, in the order of the table. [8.1-3] to [8.1-12]
const FIELDS = [
  ["flags", 5, 1, 0, 1],
  ["channels", 6, 1, 1, 3],
  ["quality", 7, 1, 1, 100],
  ["width", 8, 4, 1, 2 ** 20],
  ["height", 12, 4, 1, 2 ** 20],
  ["tileWidth", 32, 2, 0, 0],
  ["tileHeight", 34, 2, 0, 0],
  ["zLength", 36, 4, 0, 2 ** 31 - 1],
  ["yLength", 40, 4, 0, 2 ** 31 - 1],
];

// Latent positions and longer side, at most, of levels 1 to 7. [12.2-1]
const PICTURE_LEVELS = [
  [2 ** 10, 2 ** 12],
  [2 ** 12, 2 ** 13],
  [2 ** 14, 2 ** 14],
  [2 ** 15, 2 ** 15],
  [2 ** 17, 2 ** 16],
  [2 ** 19, 2 ** 17],
  [2 ** 23, 2 ** 20],
];

/** The next multiple of 64. [4.2-1] */
export function paddedSize(n) {
  return Math.ceil(n / 64) * 64;
}

/** Latent positions of the padded picture. [8.1-14] */
function positions(header) {
  return (paddedSize(header.width) / 16) * (paddedSize(header.height) / 16);
}

/** Steps 1 to 6 of reading, for which the first 60 bytes suffice. [8.5-1] to [8.5-6] */
export function readHeader(data) {
  require(data.length >= 4 && data.readUInt32BE(0) === MAGIC, "BadMagic", "this is no stream of refcodec");
  require(data.length >= 5, "TruncatedStream", "the stream ends before its version");
  require(data[4] === 0, "UnknownVersion", `version ${data[4]}, known is 0`);
  require(data.length >= SHORT_HEADER, "TruncatedStream", `${data.length} bytes, a header has ${SHORT_HEADER}`);
  const header = {};
  for (const [name, offset, bytes, least, greatest] of FIELDS) {
    const value = data.readUIntLE(offset, bytes);
    const allowed = value >= least && value <= greatest && !(name === "channels" && value === 2);
    require(allowed, "HeaderError", `${name} is ${value}`);
    header[name] = value;
  }
  header.size = header.flags === 1 ? LONG_HEADER : SHORT_HEADER;
  require(data.length >= header.size, "TruncatedStream", "the stream ends inside its digest");
  require(positions(header) <= MAX_POSITIONS, "HeaderError", `${header.width}x${header.height} is too large`);
  header.fingerprint = data.subarray(16, 32).toString("hex");
  header.digest = header.flags === 1 ? data.subarray(SHORT_HEADER, LONG_HEADER).toString("hex") : null;
  return header;
}

/** Step 7: the decoder's own limit, a picture level of 12.2. [8.5-7] [9.1-8] [12.2-4] */
export function checkLevel(header, level) {
  const [most, longest] = PICTURE_LEVELS[level - 1];
  const within = positions(header) <= most && Math.max(header.width, header.height) <= longest;
  require(within, "LimitExceeded", `${header.width}x${header.height} is beyond picture level ${level}`);
}

/** Steps 8 to 10: the segments behind the header. [8.3-1] [8.5-8] to [8.5-10] */
export function readSegments(data, header) {
  const yStart = header.size + header.zLength;
  const yEnd = yStart + header.yLength;
  const end = data.length - 4;
  require(end >= yEnd, "TruncatedStream", `${data.length} bytes, the header announces ${yEnd + 4} or more`);
  require(crc32c(data.subarray(0, end)) === data.readUInt32LE(end), "ChecksumError", "the checksum is another");
  checkChunks(data, yEnd, end);
  return { z: data.subarray(header.size, yStart), y: data.subarray(yStart, yEnd) };
}

/** The metadata chunks between the y segment and the checksum, which are checked and passed over. [8.4-1] */
function checkChunks(data, start, end) {
  const tags = new Set();
  let at = start;
  while (at < end) {
    require(end - at >= 8, "TrailingBytes", `${end - at} bytes are no chunk`); // [8.4-11]
    const tag = data.toString("latin1", at, at + 4);
    const length = data.readUInt32LE(at + 4);
    require(/^[A-Za-z][A-Za-z0-9 ]{3}$/.test(tag), "TrailingBytes", "bytes without a tag"); // [8.4-2] [8.4-12]
    require(length <= end - at - 8, "TrailingBytes", `chunk ${tag} runs past the checksum`); // [8.4-13]
    require(tags.size < MAX_CHUNKS, "ChunkError", `more than ${MAX_CHUNKS} chunks`); // [8.4-10]
    require(length <= MAX_PAYLOAD, "ChunkError", `chunk ${tag} has ${length} bytes`); // [8.4-9]
    require(!tags.has(tag), "ChunkError", `a second chunk ${tag}`); // [8.4-8]
    require(!/^[A-Z]/.test(tag), "UnknownRequiredChunk", `chunk ${tag}`); // [8.4-4]
    tags.add(tag);
    at += 8 + length;
  }
}

/** The register after one byte of zeros, for every byte that leaves it. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let register = byte;
  for (let bit = 0; bit < 8; bit++) {
    register = register & 1 ? (register >>> 1) ^ 0x82f63b78 : register >>> 1;
  }
  return register;
});

/** CRC-32C of bytes. [8.2-1] */
export function crc32c(bytes) {
  let register = 0xffffffff;
  for (let n = 0; n < bytes.length; n++) {
    register = CRC_TABLE[(register ^ bytes[n]) & 0xff] ^ (register >>> 8);
  }
  return (register ^ 0xffffffff) >>> 0;
}
