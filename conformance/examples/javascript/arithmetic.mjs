// Operations on maps: SPEC 5.1 to 5.7. Numbers are IEEE doubles, which hold integers below 2^53 exactly,
// or 32-bit integers where SPEC 9.2 proves that these suffice.

import { mapped, newMap } from "./maps.mjs";

/** v brought into -limit..limit. [5.2-1] */
export function clamp(v, limit) {
  return Math.max(-limit, Math.min(limit, v));
}

/** floor(a / 2^s + 1/2); division by a power of two is exact. [5.2-2] */
export function roundShift(a, s) {
  return s === 0 ? a : Math.floor((a + 2 ** (s - 1)) / 2 ** s);
}

/**
 * floor(a / b) for |a| < 2^53 and 1 <= b. The rounded quotient of doubles never reaches an integer that the true one
 * does not: they are 1 / b apart, half a unit in the last place is below |a| / b / 2^53.
 */
export function floorQuotient(a, b) {
  return Math.floor(a / b);
}

/** floor((a + floor(b / 2)) / b). [5.2-3] */
export function roundQuotient(a, b) {
  return floorQuotient(a + Math.floor(b / 2), b);
}

/** max(v, 0) less the table's entry for |v|, or less the last. [5.3-12] */
function gelu(v, table) {
  return Math.max(v, 0) - table[Math.min(Math.abs(v), table.length - 1)];
}

/** tanh(v) / 2 in Q6 by table. [5.3-13] */
export function halfTanh(v, table) {
  const t = table[Math.min(Math.abs(v), table.length - 1)];
  return v < 0 ? -t : t;
}

/** Copy the window around a position, tap by tap with the maps' channels in turn; 0 outside. [5.3-1] [6.1-7] */
export function readWindow(window, maps, row, column, kernel) {
  const { height, width } = maps[0];
  const reach = kernel >> 1;
  let at = 0;
  for (let r = row - reach; r <= row + reach; r++) {
    for (let c = column - reach; c <= column + reach; c++) {
      const inside = r >= 0 && r < height && c >= 0 && c < width;
      for (const { channels, values } of maps) {
        const from = (r * width + c) * channels;
        for (let n = 0; n < channels; n++) {
          window[at] = inside ? values[from + n] : 0;
          at += 1;
        }
      }
    }
  }
}

/** Bias and products of output n, modulo 2^32, which the proof allows. [5.3-1] [5.3-7] [9.2-2] */
function accumulate(window, layer, n, depthwise, channels) {
  const { weight, taps } = layer;
  const stride = depthwise ? channels : 1;
  const first = n * taps;
  let a = layer.bias[n];
  let from = depthwise ? n : 0;
  for (let k = 0; k < taps; k++) {
    a = (a + Math.imul(weight[first + k], window[from])) | 0;
    from += stride;
  }
  return a;
}

/** Where output n at (row, column) goes: pixel shuffle or not. [5.3-9] */
function placeOf(out, shuffle, row, column, n) {
  if (!shuffle) {
    return (row * out.width + column) * out.channels + n;
  }
  const r = 2 * row + ((n >> 1) & 1);
  const c = 2 * column + (n & 1);
  return (r * out.width + c) * out.channels + (n >> 2);
}

/** Convolve maps, side by side along channels, by an operation of the layer table. [5.3-2] to [5.3-10] */
export function convolution(maps, op, layer, tables, branch) {
  const { kernel, stride, shuffle, depthwise, wide } = op;
  const rows = Math.ceil(maps[0].height / stride);
  const columns = Math.ceil(maps[0].width / stride);
  const out = shuffle ? newMap(2 * rows, 2 * columns, op.channels / 4) : newMap(rows, columns, op.channels, wide);
  const window = new Int16Array(kernel * kernel * op.inChannels);
  const table = op.gelu ? tables[`gelu_q${layer.frac}`] : null; // [5.3-11]
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      readWindow(window, maps, row * stride, column * stride, kernel);
      for (let n = 0; n < op.channels; n++) {
        const place = placeOf(out, shuffle, row, column, n);
        let a = accumulate(window, layer, n, depthwise, op.inChannels);
        if (branch) {
          a = (a + (branch.values[place] << layer.addShift[n])) | 0; // [5.3-5] [5.3-10]
        }
        a >>= layer.shift[n]; // [5.3-4]
        if (table) {
          a = gelu(a, table); // [5.3-6]
        }
        out.values[place] = wide ? a : clamp(a, layer.limit); // [5.3-8]
      }
    }
  }
  return out;
}

/** Two maps of different formats, rounded once. [5.4-1] */
export function residualSum(a, b, layer) {
  const [shiftA, shiftB, shift] = layer.constants;
  const out = newMap(a.height, a.width, a.channels);
  for (let k = 0; k < out.values.length; k++) {
    const sum = a.values[k] * 2 ** shiftA + b.values[k] * 2 ** shiftB;
    out.values[k] = clamp(roundShift(sum, shift), layer.limit);
  }
  return out;
}

/** Multiplier and shift by quality (0 for the first) and channel. [5.4-2] */
export function gain(x, layer, step) {
  const row = step * x.channels;
  return mapped(x, (v, c) => clamp(roundShift(v * layer.multiplier[row + c], layer.shift[row + c]), layer.limit));
}

/** A narrower copy. [5.4-3] */
export function rescale(x, layer) {
  return mapped(x, (v) => clamp(roundShift(v, layer.constants[0]), layer.limit));
}

/** Inverse GDN; sums stay below 2^52 (9.2-3), so that the root of a double has the exact floor. [5.5-1] [5.5-3] */
export function inverseGdn(x, layer) {
  const n = x.channels;
  const out = newMap(x.height, x.width, n);
  for (let at = 0; at < x.values.length; at += n) {
    for (let i = 0; i < n; i++) {
      let norm = layer.beta[i];
      for (let j = 0; j < n; j++) {
        const v = x.values[at + j];
        norm += layer.gamma[i * n + j] * (v * v);
      }
      const root = Math.floor(Math.sqrt(norm));
      out.values[at + i] = clamp(roundShift(x.values[at + i] * root, layer.constants[0]), layer.limit);
    }
  }
  return out;
}

/** Layer normalisation over the channels of a position. [5.6-1] to [5.6-3] */
export function layerNorm(x, layer) {
  const n = x.channels;
  const out = newMap(x.height, x.width, n);
  const rootOfChannels = Math.floor((Math.floor(Math.sqrt(n * 2 ** 38)) + 1) / 2);
  for (let at = 0; at < x.values.length; at += n) {
    const position = x.values.subarray(at, at + n);
    const total = position.reduce((sum, v) => sum + v, 0);
    let variance = position.reduce((sum, v) => sum + (n * v - total) ** 2, layer.constants[0]);
    let lift = 1;
    while (variance < 2 ** 50) {
      variance *= 4;
      lift *= 2;
    }
    const root = Math.floor(Math.sqrt(variance));
    for (let i = 0; i < n; i++) {
      const numerator = (n * position[i] - total) * lift * rootOfChannels;
      out.values[at + i] = clamp(roundQuotient(numerator, root * 256), layer.limit);
    }
  }
  return out;
}

/** 2^(24 - t / 2^16) for t >= 0, by table and interpolation. [5.7-1] [5.7-2] */
export function exp2Negative(t, table) {
  const octaves = Math.min(Math.floor(t / 65536), 40);
  const i = Math.floor(t / 256) % 256;
  const j = t % 256;
  return roundShift(table[i] * (256 - j) + table[i + 1] * j, octaves + 8);
}

/** Weights in Q16 of logits in Q16; null marks one that takes no part. [5.7-3] [5.7-4] */
export function softmaxWeights(logits, table) {
  const top = logits.reduce((most, v) => (v !== null && v > most ? v : most), -Infinity);
  const e = logits.map((v) => (v === null ? 0 : exp2Negative(top - v, table)));
  const sum = e.reduce((total, v) => total + v, 0);
  const reciprocal = floorQuotient(2 ** 47, sum);
  return e.map((v) => roundShift(v * reciprocal, 31));
}
