// A decoder of refcodec streams written from SPEC.md, without any package.
//
//     node decoder.mjs STREAM OUTPUT [--model MODEL] [--trace TRACE] [--level 1..7] [--verify]
//
// OUTPUT is a PGM or PPM file. Refusals are a JSON object on standard output, and exit code 65 for a stream, 77 for a
// picture beyond the level (SPEC 12.2, 4 unless told), 78 for a model. Other exit codes: 64 usage, 66 a file that
// cannot be read, 73 one that cannot be written, 1 a digest that differs (with --verify).

import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { RangeDecoder } from "./coder.mjs";
import { steps } from "./config.mjs";
import { checkLevel, LONG_HEADER, paddedSize, readHeader, readSegments } from "./container.mjs";
import { exitCode, Refusal, require } from "./errors.mjs";
import { readModelFile } from "./hdf5.mjs";
import { buildModel } from "./model.mjs";
import { newCodec, outputSamples, synthesis, walk } from "./networks.mjs";
import { Trace } from "./trace.mjs";

const USAGE = "decoder.mjs STREAM OUTPUT [--model MODEL] [--trace TRACE] [--level 1..7] [--verify]";
const OPTIONS = {
  model: { type: "string" },
  trace: { type: "string" },
  level: { type: "string", default: "4" },
  verify: { type: "boolean", default: false },
};

/** End with a message that is no judgement on stream or model. */
function stop(code, message) {
  process.stderr.write(`decoder.mjs: ${message}\n`);
  process.exit(code);
}

/** The command line. */
function commandLine() {
  try {
    const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true });
    if (positionals.length === 2 && /^[1-7]$/.test(values.level)) {
      return { ...values, stream: positionals[0], output: positionals[1], level: Number(values.level) };
    }
  } catch (error) {
    stop(64, error.message);
  }
  return stop(64, `usage: ${USAGE}`);
}

/** The first bytes of a file, which are all that limits need. [8.5-7] */
function headOf(path) {
  const head = Buffer.alloc(LONG_HEADER);
  const file = openSync(path);
  const count = readSync(file, head, 0, LONG_HEADER, 0);
  closeSync(file);
  return head.subarray(0, count);
}

/** The checks of 8.5 in their order; limits before the stream is read whole. [8.5-1] to [8.5-11] */
function readStream(path, level) {
  const header = readHeader(headOf(path));
  checkLevel(header, level);
  return { header, ...readSegments(readFileSync(path), header) };
}

/** The model that the stream names. [6.9-5] [6.10-2] */
function readModel(path, { fingerprint, quality }) {
  require(path, "ModelError", `model ${fingerprint} is needed, none is given`);
  const { file, arrays, claim } = readModelFile(readFileSync(path));
  const model = buildModel(arrays);
  file.checkApart();
  require(claim === null || claim === model.fingerprint, "InvalidModel", `the file claims to be ${claim}`); // [B.1-17]
  require(model.fingerprint === fingerprint, "ModelError", `model ${fingerprint} is needed, not ${model.fingerprint}`);
  require(quality <= steps(model.config), "ModelError", `the model has no quality step ${quality}`);
  return model;
}

/** Samples of a stream. [6.10-3] */
function decodePicture({ header, z, y }, model, trace) {
  const record = trace ? (name, map) => trace.stage(name, map) : () => {};
  const codec = newCodec(model, header.quality, record);
  const zCoder = new RangeDecoder(z, "the z segment");
  const yCoder = new RangeDecoder(y, "the y segment");
  const yHat = walk(codec, paddedSize(header.height) / 16, paddedSize(header.width) / 16, zCoder, yCoder);
  const samples = outputSamples(synthesis(codec, yHat), header);
  trace?.samples(samples, header);
  return samples;
}

/** Write a file at once: it is there whole or not at all. */
function writeWhole(path, content) {
  const part = `${path}.${process.pid}.part`;
  try {
    writeFileSync(part, content);
    renameSync(part, path);
  } catch (error) {
    rmSync(part, { force: true });
    stop(73, error.message);
  }
}

/** Report a refusal; whatever memory cannot hold is beyond the decoder's limits. [8.9-1] [9.1-8] [14.1-4] */
function refuse(error) {
  const noMemory = error instanceof RangeError && /allocation|array length/i.test(error.message);
  const refusal = noMemory ? new Refusal("LimitExceeded", error.message) : error;
  if (refusal instanceof Refusal) {
    process.stdout.write(`${JSON.stringify({ error: refusal.name, detail: refusal.detail })}\n`);
    process.exit(exitCode(refusal.name));
  }
  if (error.syscall || error.code === "ERR_FS_FILE_TOO_LARGE") {
    stop(66, error.message);
  }
  stop(70, `internal error: ${error.stack}`);
}

/** Decode as the command line says. */
function main() {
  const options = commandLine();
  const trace = options.trace ? new Trace() : null;
  try {
    const stream = readStream(options.stream, options.level);
    const samples = decodePicture(stream, readModel(options.model, stream.header), trace);
    const { width, height, channels, digest } = stream.header;
    if (trace) {
      writeWhole(options.trace, trace.text());
    }
    const head = Buffer.from(`P${channels === 1 ? 5 : 6}\n${width} ${height}\n255\n`);
    writeWhole(options.output, Buffer.concat([head, samples]));
    const found = createHash("sha256").update(samples).digest("hex").slice(0, 32);
    if (options.verify && digest !== null && digest !== found) {
      stop(1, `the digest is ${found}, the stream says ${digest}`); // [8.1-16]
    }
  } catch (error) {
    refuse(error);
  }
}

main();
