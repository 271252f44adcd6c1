// Rectangles without loss: SPEC 8.11.

import { require } from "./errors.mjs";
import { decodeSamples, openSamples, samplesLimit } from "./lossless.mjs";
import { putPart } from "./maps.mjs";

const MAX_RECTANGLES = 2 ** 16;
const MAX_ABREAST = 256;
const ENTRY = 20;

/** The most rectangles of a picture. [8.11-2] */
function mostRectangles(height, width) {
  return Math.min(MAX_RECTANGLES, Math.ceil(width / 64) * Math.ceil(height / 64));
}

/** The longest payload: entries, heads, pixels, and a filter for every row of 256 rectangles abreast. [8.4-9] */
export function rectanglesLimit(height, width, channels) {
  const head = samplesLimit(0, 0, channels);
  const pixels = samplesLimit(height, width, channels) - head;
  const filters = 2 * height * Math.min(width, MAX_ABREAST);
  return 4 + mostRectangles(height, width) * (ENTRY + head) + pixels + filters;
}

/** Refuse a rectangle unless it has a place after those before it; those of `open` end below its first row. */
function checkPlace({ x, y, width, height }, before, open, header) {
  const fits = width > 0 && height > 0 && x + width <= header.width && y + height <= header.height;
  const rules = [
    [fits, "is not inside the picture"], // [8.11-3]
    [!before || y > before.y || (y === before.y && x > before.x), "is not in raster order"], // [8.11-4]
    [open.every((other) => x >= other.x + other.width || other.x >= x + width), "overlaps another"], // [8.11-5]
    [open.length < MAX_ABREAST, `is one of more than ${MAX_ABREAST} abreast`], // [8.11-6]
  ];
  for (const [holds, detail] of rules) {
    require(holds, "ChunkError", `a rectangle ${width}x${height} at ${x}, ${y} ${detail}`);
  }
}

/** The rectangles of a payload, each with that of its samples. [8.11-2] [8.11-7] */
export function readRectangles(payload, header) {
  const count = payload.length >= 4 ? payload.readUInt32LE(0) : 0;
  require(count >= 1 && count <= mostRectangles(header.height, header.width), "ChunkError", `${count} rectangles`);
  let start = 4 + ENTRY * count;
  require(payload.length >= start, "ChunkError", `${payload.length} bytes for ${count} rectangles`);
  const rectangles = [];
  let open = [];
  for (let at = 4; at < 4 + ENTRY * count; at += ENTRY) {
    const [x, y, width, height, length] = [0, 4, 8, 12, 16].map((n) => payload.readUInt32LE(at + n));
    const rectangle = { x, y, width, height };
    open = open.filter((other) => other.y + other.height > y);
    checkPlace(rectangle, rectangles.at(-1), open, header);
    require(length <= payload.length - start, "ChunkError", `samples of ${length} bytes are cut short`);
    rectangle.payload = payload.subarray(start, start + length);
    start += length;
    open.push(rectangle);
    rectangles.push(rectangle);
  }
  require(start === payload.length, "ChunkError", `${payload.length - start} bytes follow the rectangles`);
  return rectangles;
}

/** Write those rectangles over the samples of a region that meet it. [8.11-8] [8.11-9] */
export function putRectangles(samples, rectangles, region) {
  for (const { x, y, width, height, payload } of rectangles) {
    const across = x < region.x + region.width && x + width > region.x;
    if (across && y < region.y + region.height && y + height > region.y) {
      const part = decodeSamples(openSamples(payload, { width, height, channels: samples.channels }));
      putPart(samples, y - region.y, x - region.x, part);
    }
  }
}
