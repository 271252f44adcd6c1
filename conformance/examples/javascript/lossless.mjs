// Samples without loss: SPEC 8.10. A payload is opened, which checks what it says of itself, and then decoded.

import { constants } from "node:buffer";
import { inflateSync } from "node:zlib";

import { require } from "./errors.mjs";

const GREEN = 1;
const GREY = 2;
const TABLE = 3;
const HEAD = 6;

// The colours of a table that gives three equal channels.
const GREYS = Uint8Array.from({ length: 3 * 256 }, (_, n) => Math.floor(n / 3));

// Row and column of the neighbours that codes may name, relative to the pixel, by bit of the form. [8.10-14]
const NEIGHBOURS = [
  [0, -1],
  [-1, 0],
  [-1, -1],
  [-1, 1],
];

/** Refuse a payload unless a rule holds. */
function check(holds, detail) {
  require(holds, "ChunkError", detail);
}

/** The longest zlib stream of at most n bytes. [8.10-7] */
function longest(n) {
  return 2 * n + 64;
}

/** The longest payload of samples. [8.11-11] */
export function samplesLimit(height, width, channels) {
  return 8 + 256 * channels + longest(height * (1 + width)) + longest((255 + height * width) * channels);
}

/** A zlib stream that may hold so many bytes. [8.10-7] */
function zlibStream(data, most) {
  check(data.length <= longest(most), `a zlib stream of ${data.length} bytes for ${most}`);
  require(most <= constants.MAX_LENGTH, "LimitExceeded", `${most} bytes are no array`);
  return { data, most };
}

/** The bytes of a zlib stream that ends with its data. [8.10-6] */
function inflate({ data, most }) {
  let inflated = null;
  try {
    inflated = inflateSync(data, { maxOutputLength: most, info: true });
  } catch (error) {
    check(!/^Z_|^ERR_BUFFER_TOO_LARGE$/.test(error.code), `a zlib stream cannot be inflated: ${error.message}`);
    throw error; // no memory
  }
  const left = data.length - inflated.engine.bytesWritten;
  check(left === 0, `${left} bytes follow a zlib stream`);
  return inflated.buffer;
}

/** Of a, b and c the one nearest to a + b - c, the first of equally near ones. [8.10-10] */
function paeth(a, b, c) {
  const [toA, toB, toC] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
  if (toA <= toB && toA <= toC) {
    return a;
  }
  return toB <= toC ? b : c;
}

// The prediction of every filter. [8.10-10]
const PREDICTIONS = [() => 0, (a) => a, (_, b) => b, (a, b) => (a + b) >> 1, paeth];

/** The zlib stream of rows. [8.10-9] */
function openRows(data, height, width, size) {
  return { height, width, size, zlib: zlibStream(data, height * (1 + width * size)) };
}

/** Bytes [row][column][channel] of rows. [8.10-9] to [8.10-11] */
function decodeRows({ height, width, size, zlib }) {
  const inflated = inflate(zlib);
  check(inflated.length === zlib.most, `${inflated.length} bytes of rows, ${zlib.most} are needed`);
  const stride = width * size;
  const out = new Uint8Array(height * stride);
  let from = 0;
  for (let start = 0; start < out.length; start += stride) {
    const predict = PREDICTIONS[inflated[from]];
    check(predict, `filter ${inflated[from]}`);
    from += 1;
    for (let at = start; at < start + stride; at++) {
      const inside = at - start >= size;
      const a = inside ? out[at - size] : 0;
      const b = start > 0 ? out[at - stride] : 0;
      const c = inside && start > 0 ? out[at - stride - size] : 0;
      out[at] = inflated[from] + predict(a, b, c);
      from += 1;
    }
  }
  return out;
}

/** The head of codes and their two zlib streams. [8.10-13] to [8.10-16] [8.10-18] */
function openCodes(data, height, width, size) {
  check(data.length >= HEAD, `${data.length} bytes of codes`);
  const [form, listed] = data;
  const end = HEAD + data.readUInt32LE(2);
  const bits = 1 << ((form >> 4) & 3);
  const neighbours = NEIGHBOURS.filter((_, bit) => (form >> bit) & 1);
  check(form < 64 && listed + neighbours.length <= 1 << bits, `form ${form} with ${listed} colours`);
  check(end <= data.length, `codes end at ${end} of ${data.length} bytes`);
  const rows = openRows(data.subarray(HEAD, end), height, Math.ceil((width * bits) / 8), 1); // [8.10-17]
  const zlib = zlibStream(data.subarray(end), (listed + height * width) * size);
  return { height, width, size, bits, listed, neighbours, rows, zlib };
}

/** Bytes [row][column][channel] of codes. [8.10-15] to [8.10-19] */
function decodeCodes({ height, width, size, bits, listed, neighbours, rows, zlib }) {
  const packed = decodeRows(rows);
  const colours = inflate(zlib);
  const next = listed + neighbours.length;
  const out = new Uint8Array(height * width * size);
  const copy = (source, from, to) => {
    for (let n = 0; n < size; n++) {
      out[to + n] = source[from + n];
    }
  };
  let taken = listed;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const at = (row * width + column) * size;
      const byte = packed[row * rows.width + Math.floor((column * bits) / 8)];
      const code = (byte >> (8 - bits - ((column * bits) % 8))) & ((1 << bits) - 1);
      check(code <= next, `code ${code}, the last is ${next}`);
      if (code < listed) {
        copy(colours, code * size, at);
      } else if (code === next) {
        copy(colours, taken * size, at);
        taken += 1;
      } else {
        const [r, c] = [row + neighbours[code - listed][0], column + neighbours[code - listed][1]];
        if (r >= 0 && c >= 0 && c < width) {
          copy(out, (r * width + c) * size, at);
        }
      }
    }
  }
  check(colours.length === taken * size, `${colours.length} bytes of colours, ${taken * size} are needed`);
  return out;
}

/** A payload of samples, checked without being inflated. [8.10-1] to [8.10-5] */
export function openSamples(payload, { height, width, channels }) {
  check(payload.length > 0, "samples are missing");
  const kind = payload[0];
  check(kind <= (channels === 3 ? 7 : 1), `samples of kind ${kind} with ${channels} channels`); // [8.10-4]
  const colour = kind >> 1;
  const start = colour === TABLE ? 2 + 3 * (1 + (payload[1] ?? 0)) : 1;
  check(start <= payload.length, "a table of colours is cut short");
  const table = { [GREY]: GREYS, [TABLE]: payload.subarray(2, start) }[colour];
  const open = kind % 2 ? openCodes : openRows;
  const coded = open(payload.subarray(start), height, width, table ? 1 : channels);
  return { height, width, channels, colour, coded, table };
}

/** The samples of a payload as a map of bytes. [8.10-2] [8.10-3] */
export function decodeSamples({ height, width, channels, colour, coded, table }) {
  const bytes = coded.rows ? decodeCodes(coded) : decodeRows(coded);
  if (colour === GREEN) {
    for (let at = 0; at < bytes.length; at += 3) {
      bytes[at] += bytes[at + 1];
      bytes[at + 2] += bytes[at + 1];
    }
  }
  if (!table) {
    return { height, width, channels, values: bytes };
  }
  const values = new Uint8Array(3 * bytes.length);
  for (let n = 0; n < bytes.length; n++) {
    check(3 * bytes[n] < table.length, `colour ${bytes[n]} of ${table.length / 3}`); // [8.10-5]
    for (let channel = 0; channel < 3; channel++) {
      values[3 * n + channel] = table[3 * bytes[n] + channel];
    }
  }
  return { height, width, channels, values };
}
