// A picture, or a region of it, from what a stream holds: SPEC 4.3 to 4.5 and 6.10.

import { RangeDecoder } from "./coder.mjs";
import { decodeSamples } from "./lossless.mjs";
import { newMap, putPart } from "./maps.mjs";
import { newCodec, outputSamples, synthesis, walk } from "./networks.mjs";
import { putRectangles } from "./rectangles.mjs";
import { windowOf } from "./tiles.mjs";

/** A region of a picture that is decoded whole. [4.5-2] */
function cropped(samples, { x, y, width, height }) {
  const { channels } = samples;
  const part = { height, width, channels, values: new Uint8Array(height * width * channels) };
  putPart(part, -y, -x, samples);
  return part;
}

/** y_hat of a window, from the tiles that it needs. [4.4-3] [4.4-4] */
function decodeTiles({ header, tiles }, model, window, trace) {
  const yHat = newMap(window.bottom - window.top, window.right - window.left, model.config.M);
  for (const { index, top, left, rows, columns, z, y } of tiles) {
    const prefix = header.tileWidth ? `tiles/${index}/` : ""; // [13.1-8]
    const name = header.tileWidth ? ` of tile ${index}` : "";
    const codec = newCodec(model, header.quality, (stage, map) => trace?.stage(prefix + stage, map));
    const zCoder = new RangeDecoder(z, `the z segment${name}`);
    const yCoder = new RangeDecoder(y, `the y segment${name}`);
    putPart(yHat, top - window.top, left - window.left, walk(codec, rows, columns, zCoder, yCoder));
  }
  return yHat;
}

/** The colour samples that the networks make. [6.10-3] */
function decodeColours(stream, model, region, trace) {
  const { header } = stream;
  const window = windowOf(region, header);
  const yHat = decodeTiles(stream, model, window, trace);
  const planes = synthesis(newCodec(model, header.quality, (stage, map) => trace?.stage(stage, map)), yHat);
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
