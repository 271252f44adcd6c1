// Tiles and regions: SPEC 4.4 and 4.5.

// Positions of y_hat around its own that a sample depends on. [4.5-3]
const REACH = 7;

// Positions of z around its own that hyper parameters depend on, as positions of y. [4.5-5]
const HYPER_REACH = 4 * 4;

/** The next multiple of 64. [4.2-1] */
export function paddedSize(n) {
  return Math.ceil(n / 64) * 64;
}

/** Rows and columns of y. [4.2-1] */
export function latentSize({ width, height }) {
  return { rows: paddedSize(height) / 16, columns: paddedSize(width) / 16 };
}

/** Rows and columns of the first tile, the largest one; a tile size of 0 is that of y. [4.4-1] */
export function tileSize(header) {
  const { rows, columns } = latentSize(header);
  return {
    high: Math.min(rows, 4 * header.tileHeight || rows),
    wide: Math.min(columns, 4 * header.tileWidth || columns),
  };
}

/** Every tile's place in y, in raster order; none for a picture that is stored without loss. [4.4-1] [4.4-2] */
export function tilePlaces(header) {
  const places = [];
  const { rows, columns } = latentSize(header);
  const { high, wide } = tileSize(header);
  for (let top = 0; top < rows && !header.lossless; top += high) {
    for (let left = 0; left < columns; left += wide) {
      places.push({ top, left, rows: Math.min(high, rows - top), columns: Math.min(wide, columns - left) });
    }
  }
  return places;
}

/** The part of y_hat that a region needs; bottom and right are the first row and column behind it. [4.5-3] */
export function windowOf({ x, y, width, height }, header) {
  const { rows, columns } = latentSize(header);
  return {
    top: Math.max(0, Math.floor(y / 16) - REACH),
    bottom: Math.min(rows, Math.floor((y + height - 1) / 16) + REACH + 1),
    left: Math.max(0, Math.floor(x / 16) - REACH),
    right: Math.min(columns, Math.floor((x + width - 1) / 16) + REACH + 1),
  };
}

/**
 * The part of the hyper parameters, and of z, that tiles need: a window in positions of y. Tiles form a rectangle, are
 * in raster order and at least one. [4.5-5]
 */
export function hyperWindowOf(tiles, header) {
  const { rows, columns } = latentSize(header);
  const [first, last] = [tiles[0], tiles.at(-1)];
  return {
    top: Math.max(0, first.top - HYPER_REACH),
    bottom: Math.min(rows, last.top + last.rows + HYPER_REACH),
    left: Math.max(0, first.left - HYPER_REACH),
    right: Math.min(columns, last.left + last.columns + HYPER_REACH),
  };
}

/** Whether a tile holds a position of a window. [4.5-4] [4.5-5] */
export function meets(place, window) {
  const rows = place.top < window.bottom && place.top + place.rows > window.top;
  return rows && place.left < window.right && place.left + place.columns > window.left;
}
