// Local and linear attention: SPEC 5.8, 5.9 and 6.7.

import { clamp, exp2Negative, readWindow, roundShift, softmaxWeights } from "./arithmetic.mjs";
import { ANCHOR, newMap, NONANCHOR, putHalf, takeHalf } from "./maps.mjs";

const WINDOW = 5;
const PLACES = WINDOW * WINDOW;

/** Row of the position bias for query place a and key place b. [5.8-4] */
function biasRow(a, b) {
  const dy = Math.floor(a / WINDOW) - Math.floor(b / WINDOW);
  const dx = (a % WINDOW) - (b % WINDOW);
  return (dy + 4) * 9 + dx + 4;
}

/** Which places of the window around a non-anchor are anchors inside the map. [5.8-5] */
function anchorsInside(row, column, height, width) {
  return Array.from({ length: PLACES }, (_, a) => {
    const r = row + Math.floor(a / WINDOW) - 2;
    const c = column + (a % WINDOW) - 2;
    return a % 2 === 1 && r >= 0 && r < height && c >= 0 && c < width;
  });
}

/** Logits of query place a with all keys; null where a key takes no part. [5.8-3] to [5.8-5] */
function localLogits(window, anchors, a, head, { heads, d, layer }) {
  const channels = heads * d;
  const query = a * 3 * channels + head * d;
  const logits = new Array(PLACES);
  for (let b = 0; b < PLACES; b++) {
    if (anchors[a] && !anchors[b]) {
      logits[b] = null;
      continue;
    }
    const key = (b * 3 + 1) * channels + head * d;
    let dot = 0;
    for (let e = 0; e < d; e++) {
      dot += window[query + e] * window[key + e];
    }
    logits[b] = roundShift(dot, layer.constants[0]) + layer.bias[biasRow(a, b) * heads + head];
  }
  return logits;
}

/** Map [h][w][3 C] to a half map [h][w / 2][25 C] at the non-anchors. [5.8-1] [5.8-2] [5.8-6] [5.8-7] */
export function localAttention(qkv, op, layer, tables) {
  const { height, width } = qkv;
  const channels = qkv.channels / 3;
  const shape = { heads: op.heads, d: channels / op.heads, layer };
  const out = newMap(height, width / 2, PLACES * channels);
  const window = new Int16Array(PLACES * qkv.channels);
  let at = 0;
  for (let row = 0; row < height; row++) {
    for (let column = row % 2; column < width; column += 2) {
      readWindow(window, [qkv], row, column, WINDOW);
      const anchors = anchorsInside(row, column, height, width);
      for (let a = 0; a < PLACES; a++) {
        for (let head = 0; head < op.heads; head++) {
          const weights = softmaxWeights(localLogits(window, anchors, a, head, shape), tables.exp2);
          for (let e = 0; e < shape.d; e++) {
            let sum = 0;
            for (let b = 0; b < PLACES; b++) {
              sum += weights[b] * window[(b * 3 + 2) * channels + head * shape.d + e];
            }
            out.values[at] = clamp(roundShift(sum, 16), layer.limit);
            at += 1;
          }
        }
      }
    }
  }
  return out;
}

/** The greatest key of a channel. [5.9-2] */
function greatest(keys, channel) {
  let top = -Infinity;
  for (let at = channel; at < keys.values.length; at += keys.channels) {
    top = Math.max(top, keys.values[at]);
  }
  return top;
}

/** round_quotient of integers beyond 2^53. [5.2-3] */
function roundQuotientBig(a, b) {
  const numerator = a + b / 2n;
  const quotient = numerator / b;
  return numerator % b < 0n ? quotient - 1n : quotient;
}

/**
 * One row of a head's context: the values weighted by one key channel. [5.9-2] [5.9-3]
 * Sums of e v reach 2^62; those of the upper and lower 12 bits of e stay below 2^51 each, exact in doubles.
 */
function contextRow(keys, values, channel, first, d, layer, table) {
  const [keyShift, , contextShift] = layer.constants;
  const n = keys.channels;
  const top = greatest(keys, channel);
  const upper = new Float64Array(d);
  const lower = new Float64Array(d);
  let total = 0;
  for (let at = 0; at < keys.values.length; at += n) {
    const e = exp2Negative((top - keys.values[at + channel]) * 2 ** keyShift, table);
    total += e;
    for (let m = 0; m < d; m++) {
      const v = values.values[at + first + m];
      upper[m] += (e >> 12) * v;
      lower[m] += (e & 0xfff) * v;
    }
  }
  return Array.from(upper, (high, m) => {
    const sum = BigInt(high) * 4096n + BigInt(lower[m]);
    return clamp(Number(roundQuotientBig(sum << BigInt(contextShift), BigInt(total))), 32767);
  });
}

/** Linear attention; the result stands at the queries' positions. [5.9-1] [5.9-4] [5.9-5] */
function linearAttention(queries, keys, values, op, layer, tables) {
  const n = queries.channels;
  const d = n / op.heads;
  const queryScale = 2 ** layer.constants[1];
  const out = newMap(queries.height, queries.width, n);
  for (let first = 0; first < n; first += d) {
    const context = Array.from({ length: d }, (_, c) =>
      contextRow(keys, values, first + c, first, d, layer, tables.exp2),
    );
    for (let at = first; at < queries.values.length; at += n) {
      const logits = Array.from(queries.values.subarray(at, at + d), (v) => v * queryScale);
      const weights = softmaxWeights(logits, tables.exp2);
      for (let m = 0; m < d; m++) {
        const sum = weights.reduce((total, w, c) => total + w * context[c][m], 0);
        out.values[at + m] = clamp(roundShift(sum, 16), layer.limit);
      }
    }
  }
  return out;
}

/** Inter attention: all positions. Intra attention: anchors' keys and values for non-anchors. [6.7-2] [6.7-5] */
export function globalAttention([queries, keys, values], op, layer, tables) {
  if (!op.name.startsWith("intra/")) {
    return linearAttention(queries, keys, values, op, layer, tables);
  }
  const halves = [takeHalf(queries, NONANCHOR), takeHalf(keys, ANCHOR), takeHalf(values, ANCHOR)];
  const out = newMap(queries.height, queries.width, op.channels);
  putHalf(out, NONANCHOR, linearAttention(...halves, op, layer, tables));
  return out;
}
