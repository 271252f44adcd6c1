// Maps of integers [row][column][channel] in one typed array, and their halves: SPEC 3, 6.3.

export const ANCHOR = 1;
export const NONANCHOR = 0;

/** A map of zeros; 16 bits hold every tensor but those of wide layers. [3-1] [5.1-1] */
export function newMap(height, width, channels, wide = false) {
  const size = height * width * channels;
  return { height, width, channels, values: wide ? new Int32Array(size) : new Int16Array(size) };
}

/** A map of the same shape with a function's results, which are called with value and channel. */
export function mapped(x, f) {
  const out = newMap(x.height, x.width, x.channels);
  for (let at = 0, channel = 0; at < x.values.length; at++) {
    out.values[at] = f(x.values[at], channel);
    channel = channel + 1 === x.channels ? 0 : channel + 1;
  }
  return out;
}

/** Channels first .. first + count - 1 of a map. */
export function someChannels(x, first, count) {
  const out = newMap(x.height, x.width, count);
  for (let p = 0; p < x.height * x.width; p++) {
    const at = p * x.channels + first;
    out.values.set(x.values.subarray(at, at + count), p * count);
  }
  return out;
}

/** Maps of one size side by side along channels. [6.1-7] [6.3-10] */
export function concatenate(maps) {
  const channels = maps.reduce((sum, m) => sum + m.channels, 0);
  const out = newMap(maps[0].height, maps[0].width, channels);
  let first = 0;
  for (const m of maps) {
    for (let p = 0; p < m.height * m.width; p++) {
      out.values.set(m.values.subarray(p * m.channels, (p + 1) * m.channels), p * channels + first);
    }
    first += m.channels;
  }
  return out;
}

/** The places of a half in the whole map: calls f(place in the half, place in the map). [6.3-1] [6.3-2] */
function eachOfHalf(height, width, parity, f) {
  let half = 0;
  for (let row = 0; row < height; row++) {
    for (let column = (row + parity) % 2; column < width; column += 2) {
      f(half, row * width + column);
      half += 1;
    }
  }
}

/** The positions with (row + column) % 2 === parity, packed along columns. [6.3-2] */
export function takeHalf(x, parity) {
  const n = x.channels;
  const wide = x.values instanceof Int32Array;
  const out = newMap(x.height, x.width / 2, n, wide);
  eachOfHalf(x.height, x.width, parity, (half, whole) => {
    out.values.set(x.values.subarray(whole * n, (whole + 1) * n), half * n);
  });
  return out;
}

/** Write a half map to its positions of x. [6.3-2] */
export function putHalf(x, parity, half) {
  const n = x.channels;
  eachOfHalf(x.height, x.width, parity, (from, whole) => {
    x.values.set(half.values.subarray(from * n, (from + 1) * n), whole * n);
  });
}

/** A copy that is 0 outside one half. [6.7-4] */
export function masked(x, parity) {
  const out = newMap(x.height, x.width, x.channels);
  putHalf(out, parity, takeHalf(x, parity));
  return out;
}

/** Copy what of a part lies inside x; the part's first value belongs to (top, left), inside x or not. [4.4-4] */
export function putPart(x, top, left, part) {
  const n = x.channels;
  const first = Math.max(0, -left);
  const end = Math.min(part.width, x.width - left);
  for (let row = Math.max(0, -top); row < Math.min(part.height, x.height - top); row++) {
    const from = row * part.width * n;
    x.values.set(part.values.subarray(from + first * n, from + end * n), ((top + row) * x.width + left + first) * n);
  }
}
