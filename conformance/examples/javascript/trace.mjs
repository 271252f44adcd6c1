// Traces: SPEC 13.

import { createHash } from "node:crypto";

import { bytesOf } from "./numbers.mjs";

const TYPES = new Map([
  [Int16Array, "int16"],
  [Int32Array, "int32"],
]);

/** A trace that collects lines as stages are done. [13.1-2] */
export class Trace {
  constructor() {
    this.lines = [];
  }

  /** [13.2-1] [13.2-2] */
  add(name, shape, dtype, bytes) {
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    this.lines.push(JSON.stringify({ index: this.lines.length, name, shape, dtype, sha256 }));
  }

  /** A stage of the codec; wide layers are 32 bits. [13.1-4] [13.1-7] */
  stage(name, { height, width, channels, values }) {
    this.add(name, [height, width, channels], TYPES.get(values.constructor), bytesOf(values));
  }

  /** The picture. [13.1-6] */
  samples({ height, width, channels, values }) {
    this.add("samples", channels === 1 ? [height, width] : [height, width, channels], "uint8", values);
  }

  text() {
    return this.lines.map((line) => `${line}\n`).join("");
  }
}
