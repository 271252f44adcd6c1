// A picture, or a region of it, from what a stream holds: SPEC 4.3 to 4.5 and 6.10.

import { RangeDecoder } from "./coder.mjs";
import { decodeSamples } from "./lossless.mjs";
import { newMap, putPart } from "./maps.mjs";
import { decodeZ, hyperParameters, newCodec, outputSamples, synthesis, walk } from "./networks.mjs";
import { putRectangles } from "./rectangles.mjs";
import { windowOf } from "./tiles.mjs";

/** A region of a picture that is decoded whole. [4.5-2] */
function cropped(samples, { x, y, width, height }) {
  const { channels } = samples;
  const part = { height, width, channels, values: new Uint8Array(height * width * channels) };
  putPart(part, -y, -x, samples);
  return part;
}

/** What the walk and the networks share; stages are recorded with a prefix. [13.1-8] */
function codecOf({ header }, model, trace, prefix = "") {
  return newCodec(model, header.quality, (stage, map) => trace?.stage(prefix + stage, map));
}

/** A segment's decoder; refusals name the segment. */
function coderOf({ header }, bytes, name, index) {
  return new RangeDecoder(bytes, `the ${name} segment${header.tileWidth ? ` of tile ${index}` : ""}`);
}

/** Hyper parameters of a window of z, from the tiles that hold a part of it. [4.4-5] [4.4-6] */
function decodeHyper(stream, model, trace) {
  const { zTiles, zWindow } = stream;
  const size = [(zWindow.bottom - zWindow.top) / 4, (zWindow.right - zWindow.left) / 4];
  const zHat = newMap(...size, model.config.hyper);
  for (const { index, top, left, rows, columns, z } of zTiles) {
    const part = decodeZ(model, rows / 4, columns / 4, coderOf(stream, z, "z", index));
    putPart(zHat, (top - zWindow.top) / 4, (left - zWindow.left) / 4, part);
  }
  return hyperParameters(codecOf(stream, model, trace), zHat);
}

/** y_hat of a window, from the tiles that it needs. [4.4-3] [4.4-4] */
function decodeTiles(stream, model, window, trace) {
  const { header, tiles, zWindow } = stream;
  const all = decodeHyper(stream, model, trace);
  const yHat = newMap(window.bottom - window.top, window.right - window.left, model.config.M);
  for (const { index, top, left, rows, columns, y } of tiles) {
    const codec = codecOf(stream, model, trace, header.tileWidth ? `tiles/${index}/` : "");
    const hyper = newMap(rows, columns, all.channels);
    putPart(hyper, zWindow.top - top, zWindow.left - left, all);
    const part = walk(codec, hyper, coderOf(stream, y, "y", index));
    putPart(yHat, top - window.top, left - window.left, part);
  }
  return yHat;
}

/** The colour samples that the networks make. [6.10-3] */
function decodeColours(stream, model, region, trace) {
  const { header } = stream;
  const window = windowOf(region, header);
  const yHat = decodeTiles(stream, model, window, trace);
  const planes = synthesis(codecOf(stream, model, trace), yHat);
  const place = { ...region, x: region.x - 16 * window.left, y: region.y - 16 * window.top };
  return outputSamples(planes, place, header.channels);
}

/** Colours with the alpha samples as the last channel. [4.1-4] */
function withAlpha(colours, alpha) {
  const { height, width } = colours;
  const channels = colours.channels + 1;
  const values = new Uint8Array(height * width * channels);
  for (let p = 0; p < height * width; p++) {
    values.set(colours.values.subarray(p * colours.channels, (p + 1) * colours.channels), p * channels);
    values[p * channels + colours.channels] = alpha.values[p];
  }
  return { height, width, channels, values };
}

/** Samples of a region as a map of bytes. The model may be null if the picture is stored without loss. [6.10-5] */
export function decodePicture(stream, model, region, trace) {
  const { whole, rectangles, alpha } = stream;
  const colours = whole ? cropped(decodeSamples(whole), region) : decodeColours(stream, model, region, trace);
  putRectangles(colours, rectangles, region);
  const samples = alpha ? withAlpha(colours, cropped(decodeSamples(alpha), region)) : colours;
  trace?.samples(samples);
  return samples;
}
