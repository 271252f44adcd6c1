// The range coder, decoding only: SPEC 7.

import { require } from "./errors.mjs";

const LOW = 2n ** 31n;
const HIGH = 2n ** 63n;
const MAX_SYMBOL = 32767;

/** A segment being decoded, symbol by symbol. */
export class RangeDecoder {
  /** The state is the first 8 bytes. [7.3-3] [7.6-1] [7.6-2] */
  constructor(segment, name) {
    require(segment.length >= 8 && segment.length % 4 === 0, "CoderError", `${name} has ${segment.length} bytes`);
    this.segment = segment;
    this.name = name;
    this.state = segment.readBigUInt64LE(0);
    this.position = 8;
    require(this.state >= LOW && this.state < HIGH, "CoderError", `the first state of ${name} is out of range`);
  }

  /** The slot of the state, which lies in the next interval. [7.4-1] */
  slot() {
    return Number(this.state & 0xffffn);
  }

  /** Leave the interval (cum, freq), and read a word where one is due. [7.4-1] [7.4-2] [7.6-3] */
  leave(cum, freq) {
    this.state = BigInt(freq) * (this.state >> 16n) + BigInt(this.slot() - cum);
    if (this.state < LOW) {
      require(this.position < this.segment.length, "CoderError", `${this.name} has too few words`);
      this.state = (this.state << 32n) + BigInt(this.segment.readUInt32LE(this.position));
      this.position += 4;
    }
  }

  /** Raw bits; for none there is no interval. [7.2-4] [7.2-5] */
  raw(bits) {
    if (bits === 0) {
      return 0;
    }
    const value = this.slot() >> (16 - bits);
    this.leave(value << (16 - bits), 1 << (16 - bits));
    return value;
  }

  /** One symbol of a table. [7.1-1] [7.2-1] */
  symbol(table) {
    const { boundaries, start, count } = table;
    const slot = this.slot();
    let low = 0;
    let high = count + 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (boundaries[start + middle] <= slot) {
        low = middle;
      } else {
        high = middle;
      }
    }
    const cum = boundaries[start + low];
    this.leave(cum, boundaries[start + low + 1] - cum);
    return low === count ? this.escape(table) : table.first + low;
  }

  /** What follows the escape. [7.2-2] [7.2-3] [7.2-6] */
  escape({ first, count }) {
    const below = this.raw(1);
    const bits = this.raw(4);
    const v = 2 ** bits - 1 + this.raw(bits);
    const symbol = below ? first - 1 - v : first + count + v;
    require(Math.abs(symbol) <= MAX_SYMBOL, "SymbolError", `symbol ${symbol} in ${this.name}`);
    return symbol;
  }

  /** All words are read and the state is the encoder's first. [7.6-4] */
  end() {
    const ends = this.position === this.segment.length && this.state === LOW;
    require(ends, "CoderError", `${this.name} does not end with its last symbol`);
  }
}
