// The chunks of a stream: SPEC 8.4.

import { require } from "./errors.mjs";
import { openSamples, samplesLimit } from "./lossless.mjs";
import { readRectangles, rectanglesLimit } from "./rectangles.mjs";

const MAX_CHUNKS = 64;
const MAX_PAYLOAD = 2 ** 24;

/** The longest payload of a chunk. [8.4-9] */
function payloadLimit(tag, { width, height, channels, lossless }) {
  if (tag === "ALPH") {
    return samplesLimit(height, width, 1);
  }
  if (tag === "LOSS") {
    return (lossless ? samplesLimit : rectanglesLimit)(height, width, channels);
  }
  return MAX_PAYLOAD;
}

/** Payloads by tag of the chunks in data[start:end]. [8.4-1] */
function walkChunks(data, start, end, header) {
  const payloads = new Map();
  let at = start;
  while (at < end) {
    require(end - at >= 8, "TrailingBytes", `${end - at} bytes are no chunk`); // [8.4-12]
    const tag = data.toString("latin1", at, at + 4);
    const length = data.readUInt32LE(at + 4);
    require(/^[A-Za-z][A-Za-z0-9 ]{3}$/.test(tag), "TrailingBytes", "bytes without a tag"); // [8.4-2] [8.4-13]
    require(length <= end - at - 8, "TrailingBytes", `chunk ${tag} runs past the checksum`); // [8.4-14]
    require(payloads.size < MAX_CHUNKS, "ChunkError", `more than ${MAX_CHUNKS} chunks`); // [8.4-10]
    require(length <= payloadLimit(tag, header), "ChunkError", `chunk ${tag} has ${length} bytes`);
    require(!payloads.has(tag), "ChunkError", `a second chunk ${tag}`); // [8.4-8]
    require(/^[a-z]|^ALPH$|^LOSS$/.test(tag), "UnknownRequiredChunk", `chunk ${tag}`); // [8.4-4] [8.4-6]
    payloads.set(tag, data.subarray(at + 8, at + 8 + length));
    at += 8 + length;
  }
  return payloads;
}

/**
 * Steps 10 and 11 of reading: the samples of ALPH and LOSS, checked as far as they tell without being inflated. `whole`
 * is the picture that is stored without loss. [8.5-10] [8.5-11] [8.11-1] [8.11-10]
 */
export function readChunks(data, start, end, header) {
  const payloads = walkChunks(data, start, end, header);
  const [alpha, loss] = [payloads.get("ALPH"), payloads.get("LOSS")];
  require(!header.lossless || loss, "ChunkError", "a picture without loss has no samples"); // [8.4-11]
  return {
    alpha: alpha ? openSamples(alpha, { ...header, channels: 1 }) : null,
    whole: header.lossless ? openSamples(loss, header) : null,
    rectangles: loss && !header.lossless ? readRectangles(loss, header) : [],
  };
}
