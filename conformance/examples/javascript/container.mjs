// The container: SPEC 8.1 to 8.5, with the limits of 9.1 that concern it, and the picture levels of 12.2.

import { readChunks } from "./chunks.mjs";
import { require } from "./errors.mjs";
import { hyperWindowOf, latentSize, meets, tilePlaces, tileSize } from "./tiles.mjs";

const MAGIC = 0x894c4943;
const SHORT_HEADER = 36;
export const LONG_HEADER = 52;
const MAX_POSITIONS = 2 ** 23;
const MAX_TILES = 2 ** 16;
const MAX_SEGMENT = 2 ** 31 - 1;

// Name, offset, bytes, least and greatest value, in the order of the table. [8.1-3] to [8.1-12]
const FIELDS = [
  ["flags", 5, 1, 0, 3],
  ["channels", 6, 1, 1, 3],
  ["quality", 7, 1, 0, 100],
  ["width", 8, 4, 1, 2 ** 20],
  ["height", 12, 4, 1, 2 ** 20],
  ["tileWidth", 32, 1, 0, 255],
  ["tileHeight", 33, 1, 0, 255],
  ["depth", 34, 1, 8, 8],
  ["reserved", 35, 1, 0, 0],
];

// Latent positions and longer side, at most, of levels 1 to 8. [12.2-1]
const PICTURE_LEVELS = [
  [2 ** 10, 2 ** 12],
  [2 ** 12, 2 ** 13],
  [2 ** 14, 2 ** 14],
  [2 ** 15, 2 ** 15],
  [2 ** 17, 2 ** 16],
  [2 ** 19, 2 ** 17],
  [2 ** 23, 2 ** 20],
  [2 ** 32, 2 ** 20],
];

/** Steps 1 to 6 of reading, for which the first 52 bytes suffice. [8.5-1] to [8.5-6] */
export function readHeader(data) {
  require(data.length >= 4 && data.readUInt32BE(0) === MAGIC, "BadMagic", "this is no stream of refcodec");
  require(data.length >= 5, "TruncatedStream", "the stream ends before its version");
  require(data[4] === 1, "UnknownVersion", `version ${data[4]}, known is 1`);
  require(data.length >= SHORT_HEADER, "TruncatedStream", `${data.length} bytes, a header has ${SHORT_HEADER}`);
  const header = {};
  for (const [name, offset, bytes, least, greatest] of FIELDS) {
    const value = data.readUIntLE(offset, bytes);
    const allowed = value >= least && value <= greatest && !(name === "channels" && value === 2);
    require(allowed, "HeaderError", `${name} is ${value}`);
    header[name] = value;
  }
  const hasDigest = (header.flags & 1) !== 0;
  header.lossless = (header.flags & 2) !== 0;
  header.size = hasDigest ? LONG_HEADER : SHORT_HEADER;
  require(data.length >= header.size, "TruncatedStream", "the stream ends inside its digest");
  header.fingerprint = data.subarray(16, 32).toString("hex");
  header.digest = hasDigest ? data.subarray(SHORT_HEADER, LONG_HEADER).toString("hex") : null;
  checkConsistent(header);
  return header;
}

/** The rules over several fields, in their order. */
function checkConsistent(header) {
  const { lossless, quality, fingerprint, tileWidth, tileHeight } = header;
  const { rows, columns } = latentSize(header);
  const { high, wide } = tileSize(header);
  const noModel = quality === 0 && /^0*$/.test(fingerprint);
  const noTiles = tileWidth === 0 && tileHeight === 0;
  const rules = [
    [!lossless || noModel, "a picture without loss has a quality or a model"], // [8.1-14]
    [lossless || quality > 0, "the quality is 0"], // [8.1-15]
    [!lossless || noTiles, "a picture without loss has tiles"], // [8.1-16]
    [noTiles || (tileWidth > 0 && tileHeight > 0), "one tile size is 0, the other is not"], // [8.1-17]
    [Math.ceil(rows / high) * Math.ceil(columns / wide) <= MAX_TILES, "there are too many tiles"], // [8.1-18]
    [lossless || high * wide <= MAX_POSITIONS, "a tile is too large"], // [8.1-19]
  ];
  for (const [holds, detail] of rules) {
    require(holds, "HeaderError", `${detail} (${header.width}x${header.height}, tiles ${tileWidth}x${tileHeight})`);
  }
}

/**
 * Step 7: the decoder's own limit, a picture level of 12.2. Of a region the tiles count whose y it needs, and the
 * picture where there are none. [8.5-7] [9.1-9] [12.2-4]
 */
export function checkLevel(header, level, window, { width, height }) {
  const [most, longest] = PICTURE_LEVELS[level - 1];
  const { rows, columns } = latentSize(header);
  const tiles = tilePlaces(header).filter((place) => meets(place, window));
  const positions = header.lossless ? rows * columns : tiles.reduce((sum, t) => sum + t.rows * t.columns, 0);
  const within = positions <= most && Math.max(width, height) <= longest;
  require(within, "LimitExceeded", `${width}x${height}, ${positions} positions, is beyond picture level ${level}`);
}

/** Tiles with their segments, and where the index ends. [8.3-1] to [8.3-3] */
function readIndex(data, header) {
  const places = tilePlaces(header);
  const size = header.tileWidth ? 12 : 8;
  const indexEnd = header.size + size * places.length;
  require(data.length >= indexEnd, "TruncatedStream", `${data.length} bytes, the index ends at ${indexEnd}`);
  let start = indexEnd;
  const tiles = places.map((place, index) => {
    const at = header.size + size * index;
    const [zLength, yLength] = [data.readUInt32LE(at), data.readUInt32LE(at + 4)];
    require(Math.max(zLength, yLength) <= MAX_SEGMENT, "HeaderError", `segments of ${zLength} and ${yLength} bytes`);
    const checksum = header.tileWidth ? data.readUInt32LE(at + 8) : null;
    const z = data.subarray(start, start + zLength);
    const y = data.subarray(start + zLength, start + zLength + yLength);
    start += zLength + yLength;
    return { ...place, index, z, y, checksum, end: start };
  });
  return { tiles, indexEnd };
}

/**
 * Steps 8 to 11: the content of a whole stream. Of the tiles it gives those whose y a window needs, and those whose z
 * is needed, in a window of z: the same and tiles around them. [8.5-8] to [8.5-11]
 */
export function readStream(data, header, window) {
  const { tiles, indexEnd } = readIndex(data, header);
  const segmentsEnd = tiles.at(-1)?.end ?? indexEnd;
  const end = data.length - 4;
  require(end >= segmentsEnd, "TruncatedStream", `${data.length} bytes, ${segmentsEnd + 4} or more are announced`);
  const covered = header.tileWidth
    ? [data.subarray(0, indexEnd), data.subarray(segmentsEnd, end)] // [8.2-3]
    : [data.subarray(0, end)]; // [8.2-2]
  require(crc32c(...covered) === data.readUInt32LE(end), "ChecksumError", "the checksum is another");
  const needed = tiles.filter((tile) => meets(tile, window));
  const zWindow = header.lossless ? null : hyperWindowOf(needed, header);
  const zNeeded = tiles.filter((tile) => meets(tile, zWindow));
  for (const { index, z, y, checksum } of zNeeded) {
    const same = checksum === null || crc32c(z, y) === checksum;
    require(same, "ChecksumError", `the checksum of tile ${index} is another`); // [8.3-5]
  }
  return { header, tiles: needed, zTiles: zNeeded, zWindow, ...readChunks(data, segmentsEnd, end, header) };
}

/** The register after one byte of zeros, for every byte that leaves it. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let register = byte;
  for (let bit = 0; bit < 8; bit++) {
    register = register & 1 ? (register >>> 1) ^ 0x82f63b78 : register >>> 1;
  }
  return register;
});

/** CRC-32C of bytes in several parts. [8.2-1] */
export function crc32c(...parts) {
  let register = 0xffffffff;
  for (const bytes of parts) {
    for (let n = 0; n < bytes.length; n++) {
      register = CRC_TABLE[(register ^ bytes[n]) & 0xff] ^ (register >>> 8);
    }
  }
  return (register ^ 0xffffffff) >>> 0;
}
