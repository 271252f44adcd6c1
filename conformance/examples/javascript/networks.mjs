// The networks and the walk over slices, decoding only: SPEC 6.2 to 6.10.

import { clamp, convolution, gain, halfTanh, inverseGdn, layerNorm, rescale, residualSum } from "./arithmetic.mjs";
import { globalAttention, localAttention } from "./attention.mjs";
import { lrpWidths } from "./config.mjs";
import { ANCHOR, concatenate, mapped, masked, newMap, NONANCHOR, putHalf, someChannels, takeHalf } from "./maps.mjs";

/** What the functions below share: the model, the quality, tensors by name, and who is told of stages. */
export function newCodec(model, quality, record) {
  return { model, step: quality - 1, values: new Map(), record, width: 0 };
}

/** The inputs of the intra context's first query and key layers are masked, others are as they are. [6.7-4] */
function maskInputs(name, maps) {
  if (!name.startsWith("intra/")) {
    return maps;
  }
  if (name.endsWith("/queries0")) {
    return [masked(maps[0], NONANCHOR)];
  }
  return name.endsWith("/keys0") ? [masked(maps[0], ANCHOR)] : maps;
}

/** The result of one operation. [6.1-6] */
function operate(codec, op, maps) {
  const { layers, tables } = codec.model;
  const layer = layers[op.name];
  switch (op.kind) {
    case "conv":
      return convolution(maps, op, layer, tables, op.add ? codec.values.get(op.add) : null);
    case "sum":
      return residualSum(maps[0], maps[1], layer);
    case "gain":
      return gain(maps[0], layer, codec.step);
    case "rescale":
      return rescale(maps[0], layer);
    case "norm":
      return layerNorm(maps[0], layer);
    case "igdn":
      return inverseGdn(maps[0], layer);
    case "local_attention":
      return localAttention(maps[0], op, layer, tables);
    default: // linear_attention
      return globalAttention(maps, op, layer, tables);
  }
}

/**
 * Run the operations of a name or below it; with a parity, whole maps are reduced to that half. [6.8-1]
 * The last layer of an LRP is recorded as a half by its caller. [13.1-5]
 */
function evaluate(codec, prefix, parity = null) {
  const { model, values, width } = codec;
  for (const op of model.operations) {
    if (op.name !== prefix && !op.name.startsWith(`${prefix}/`)) {
      continue;
    }
    let maps = op.inputs.map((name) => values.get(name));
    if (parity !== null) {
      maps = maps.map((m) => (m.width === width ? takeHalf(m, parity) : m));
    }
    const result = operate(codec, op, maskInputs(op.name, maps));
    values.set(op.name, result);
    if (!(op.name.startsWith("lrp_") && !op.gelu)) {
      codec.record(op.name, result);
    }
  }
}

/** symbol * 64 + mean, saturated. [6.9-1] */
function reconstruct(symbol, mean) {
  return clamp(64 * symbol + mean, 32767);
}

/** z_hat of a tile, by row, column and channel. [6.4-3] to [6.4-5] */
export function decodeZ(model, height, width, coder) {
  const { medians, z } = model;
  const zHat = newMap(height, width, medians.length);
  for (let at = 0; at < zHat.values.length; at++) {
    const channel = at % medians.length;
    zHat.values[at] = reconstruct(coder.symbol(z[channel]), medians[channel]);
  }
  coder.end();
  return zHat;
}

/** The number of thresholds not above a scale. [6.8-6] */
function levelOf(scale, thresholds) {
  let low = 0;
  let high = thresholds.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (thresholds[middle] <= scale) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/** y_hat of a half from its entropy parameters and symbols. [6.3-5] [6.8-5] [6.9-6] */
function decodeHalf(model, parameters, coder) {
  const ch = parameters.channels / 2;
  const half = newMap(parameters.height, parameters.width, ch);
  for (let at = 0; at < half.values.length; at++) {
    const scale = Math.floor(at / ch) * 2 * ch + (at % ch);
    const level = levelOf(parameters.values[scale], model.tables.scale_thresholds);
    const mean = clamp(parameters.values[scale + ch], 32767);
    half.values[at] = reconstruct(coder.symbol(model.gaussian[level]), mean);
  }
  return half;
}

/** y_hat of a half with the residual that the LRP predicts. [6.3-7] [6.8-7] [6.8-8] [6.9-2] */
function refine(codec, kind, i, parity, half) {
  const { model, values } = codec;
  evaluate(codec, `lrp_${kind}/${i}`);
  const name = `lrp_${kind}/${i}/${lrpWidths(model.config, i).length}`;
  const last = takeHalf(values.get(name), parity);
  codec.record(name, last);
  const table = model.tables[`half_tanh_q${model.layers[name].frac}`];
  let at = -1;
  return mapped(half, (v) => {
    at += 1;
    return clamp(v + halfTanh(last.values[at], table), 32767);
  });
}

/** One half of a slice. [6.3-4] to [6.3-8] */
function decodePass(codec, i, parity, kind, yHat, coder) {
  if (parity === NONANCHOR) {
    evaluate(codec, `local/${i}`);
    evaluate(codec, `intra/${i}`);
  }
  evaluate(codec, `ep_${kind}/${i}`, parity);
  const half = decodeHalf(codec.model, codec.values.get(`ep_${kind}/${i}/3`), coder);
  putHalf(yHat, parity, half);
  evaluate(codec, `ctx/${i}`);
  putHalf(yHat, parity, refine(codec, kind, i, parity, half));
  evaluate(codec, `ctx/${i}`);
}

/** Forget what later slices do not read, for memory. */
function forget(values) {
  for (const name of values.keys()) {
    if (!/^(ctx|y_hat)\/|^h_s\/4$|^hyper_means$/.test(name)) {
      values.delete(name);
    }
  }
}

/** Hyper parameters, scales and then means, from z_hat. [6.4-2] */
export function hyperParameters(codec, zHat) {
  codec.values.set("z_hat", zHat);
  codec.record("z_hat", zHat);
  evaluate(codec, "h_s");
  return codec.values.get("h_s/4");
}

/** y_hat of a tile from its hyper parameters and its segment of y. [6.3-3] [6.3-9] [6.3-10] */
export function walk(codec, hyper, yCoder) {
  const { model, values } = codec;
  const { M, slices } = model.config;
  const { height, width } = hyper;
  codec.width = width;
  values.set("h_s/4", hyper);
  values.set("hyper_means", someChannels(hyper, M, M));
  for (let i = 0; i < slices; i++) {
    const yHat = newMap(height, width, M / slices);
    values.set(`y_hat/${i}`, yHat);
    evaluate(codec, `inter/${i}`);
    evaluate(codec, `chan/${i}`);
    decodePass(codec, i, ANCHOR, "anchor", yHat, yCoder);
    decodePass(codec, i, NONANCHOR, "nonanchor", yHat, yCoder);
    codec.record(`y_hat/${i}`, yHat);
    forget(values);
  }
  yCoder.end();
  const all = Array.from({ length: slices }, (_, i) => values.get(`y_hat/${i}`));
  values.clear();
  return concatenate(all);
}

/** The planes of g_s; a block's tensors go when the next block is done. [6.10-1] */
export function synthesis(codec, yHat) {
  const { values } = codec;
  values.set("y_hat", yHat);
  let previous = [];
  for (const block of ["input", 0, 1, 2, 3, 4, 5, 6, 7]) {
    const before = [...values.keys()];
    evaluate(codec, `g_s/${block}`);
    previous.forEach((name) => values.delete(name));
    previous = before;
  }
  return values.get("g_s/7");
}

/** Samples of a part of the planes: clamped, cropped, grey from three planes. [4.3-1] to [4.3-3] */
export function outputSamples(planes, { x, y, width, height }, channels) {
  const values = new Uint8Array(height * width * channels);
  const level = (at) => Math.max(0, Math.min(255, planes.values[at]));
  let out = 0;
  for (let row = y; row < y + height; row++) {
    for (let column = x; column < x + width; column++) {
      const at = (row * planes.width + column) * 3;
      const [r, g, b] = [level(at), level(at + 1), level(at + 2)];
      if (channels === 1) {
        values[out] = (r + 2 * g + b + 2) >> 2;
      } else {
        values[out] = r;
        values[out + 1] = g;
        values[out + 2] = b;
      }
      out += channels;
    }
  }
  return { height, width, channels, values };
}
