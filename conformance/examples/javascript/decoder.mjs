// A decoder of refcodec streams written from SPEC.md, without any package.
//
//     node decoder.mjs STREAM OUTPUT [--model MODEL] [--trace TRACE] [--level 1..8] [--verify] [--region X,Y,W,H]
//     node decoder.mjs --serve [--level 1..8]
//
// OUTPUT is a PGM or PPM file, or PAM for a picture with alpha. A picture that is stored without loss needs no model.
// Refusals are a JSON object on standard output, and exit code 65 for a stream, 77 for a picture beyond the level (SPEC
// 12.2; the default is 4), 78 for a model. Other exit codes: 64 usage, 66 a file that cannot be read, 73 a file that
// cannot be written, 1 a digest that differs or is missing (with --verify).
//
// With --serve it decodes many streams: a line of JSON on standard input for each, a line on standard output with the
// exit code (conformance/run/README.md).

import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

import { steps } from "./config.mjs";
import { checkLevel, LONG_HEADER, readHeader, readStream } from "./container.mjs";
import { Ended, exitCode, Refusal, require } from "./errors.mjs";
import { readModelFile } from "./hdf5.mjs";
import { buildModel } from "./model.mjs";
import { decodePicture } from "./picture.mjs";
import { windowOf } from "./tiles.mjs";
import { Trace } from "./trace.mjs";

const USAGE =
  "decoder.mjs STREAM OUTPUT [--model MODEL] [--trace TRACE] [--level 1..8] [--verify] [--region X,Y,W,H] | --serve";
const OPTIONS = {
  model: { type: "string" },
  trace: { type: "string" },
  level: { type: "string", default: "4" },
  verify: { type: "boolean", default: false },
  region: { type: "string", default: "" },
  serve: { type: "boolean", default: false },
};

/** End with a message that is no judgement on stream or model. */
function stop(code, message) {
  throw new Ended(code, message);
}

/** Whether options fit together: only a whole picture has a digest and a trace. */
function optionsFit({ level, region, verify, trace }) {
  return /^[1-8]$/.test(level) && /^$|^\d{1,7}(,\d{1,7}){3}$/.test(region) && !(region && (verify || trace));
}

/** The command line; a server is given its streams later. */
function commandLine() {
  let given;
  try {
    given = parseArgs({ options: OPTIONS, allowPositionals: true });
  } catch (error) {
    stop(64, error.message);
  }
  const { values, positionals } = given;
  if (positionals.length !== (values.serve ? 0 : 2) || !optionsFit(values)) {
    stop(64, `usage: ${USAGE}`);
  }
  return { ...values, stream: positionals[0], output: positionals[1], level: Number(values.level) };
}

/** The region that is asked for, which is the picture unless told. [4.5-1] */
function regionOf(text, { width, height }) {
  const [x, y, w, h] = text ? text.split(",").map(Number) : [0, 0, width, height];
  if (w === 0 || h === 0 || x + w > width || y + h > height) {
    stop(64, `the region ${text} is not inside ${width}x${height}`);
  }
  return { x, y, width: w, height: h };
}

/** The first bytes of a file, which are all that limits need. [8.5-7] */
function headOf(path) {
  const head = Buffer.alloc(LONG_HEADER);
  const file = openSync(path);
  const count = readSync(file, head, 0, LONG_HEADER, 0);
  closeSync(file);
  return head.subarray(0, count);
}

/** A stream and the region that is asked for; limits are tested before the stream is read whole. [8.5-7] */
function openStream({ stream, region: text, level }) {
  const header = readHeader(headOf(stream));
  const region = regionOf(text, header);
  const window = windowOf(region, header);
  checkLevel(header, level, window, region);
  return { region, ...readStream(readFileSync(stream), header, window) };
}

/** The model that the stream names. [6.9-5] [6.10-2] */
function readModel(path, { fingerprint, quality }) {
  require(path, "ModelError", `model ${fingerprint} is needed, none is given`);
  const { file, arrays, claim } = readModelFile(readFileSync(path));
  const model = buildModel(arrays);
  file.checkApart();
  require(claim === null || claim === model.fingerprint, "InvalidModel", `the file claims to be ${claim}`); // [B.1-17]
  require(model.fingerprint === fingerprint, "ModelError", `model ${fingerprint} is needed, not ${model.fingerprint}`);
  require(quality <= steps(model.config), "ModelError", `the model has no quality ${quality}`);
  return model;
}

/** End with a failed check unless the digest is that of the samples. [8.1-20] [8.1-21] */
function verify({ values }, digest) {
  const found = createHash("sha256").update(values).digest("hex").slice(0, 32);
  if (digest !== found) {
    stop(1, `the digest is ${found}, the stream says ${digest ?? "nothing"}`);
  }
}

/** The file of a picture: PGM, PPM, or PAM with alpha. */
function pictureFile({ width, height, channels, values }) {
  const type = { 2: "GRAYSCALE_ALPHA", 4: "RGB_ALPHA" }[channels];
  const head = type
    ? `P7\nWIDTH ${width}\nHEIGHT ${height}\nDEPTH ${channels}\nMAXVAL 255\nTUPLTYPE ${type}\nENDHDR\n`
    : `P${channels === 1 ? 5 : 6}\n${width} ${height}\n255\n`;
  return Buffer.concat([Buffer.from(head), values]);
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

/** How an error ends a decoding; whatever memory cannot hold is beyond the limits. [8.9-1] [9.1-9] [14.1-4] */
function ended(error) {
  const noMemory = error instanceof RangeError && /allocation|array length/i.test(error.message);
  const refusal = noMemory ? new Refusal("LimitExceeded", error.message) : error;
  if (refusal instanceof Refusal) {
    return { exit_code: exitCode(refusal.name), error: refusal.name, message: refusal.detail };
  }
  if (refusal instanceof Ended) {
    return { exit_code: refusal.code, message: refusal.message };
  }
  if (error.syscall || error.code === "ERR_FS_FILE_TOO_LARGE") {
    return { exit_code: 66, message: error.message };
  }
  return { exit_code: 70, message: `internal error: ${error.stack}` };
}

/** The samples of a stream; its trace is written as far as it goes, also where the stream is refused. */
function traced(stream, model, region, path) {
  const trace = path ? new Trace() : null;
  try {
    return decodePicture(stream, model, region, trace);
  } finally {
    if (trace) {
      writeWhole(path, trace.text());
    }
  }
}

/** Decode one stream. */
function decode(options) {
  const { region, ...stream } = openStream(options);
  const model = stream.header.lossless ? null : readModel(options.model, stream.header); // [6.10-5]
  const samples = traced(stream, model, region, options.trace);
  if (options.verify) {
    verify(samples, stream.header.digest);
  }
  writeWhole(options.output, pictureFile(samples));
}

/** Do something; how it ended. */
function outcome(work) {
  try {
    work();
  } catch (error) {
    return ended(error);
  }
  return { exit_code: 0 };
}

/** Decode a stream for every line of standard input. */
async function serve(options) {
  const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
  say({ serves: 1 });
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, stream, output, model, trace } = JSON.parse(line);
    say({ id, ...outcome(() => decode({ ...options, stream, output, model, trace })) });
  }
}

/** Decode as the command line says. */
function main() {
  let options;
  const { exit_code: code, error, message } = outcome(() => {
    options = commandLine();
    if (!options.serve) {
      decode(options);
    }
  });
  if (error) {
    process.stdout.write(`${JSON.stringify({ error, detail: message })}\n`);
  } else if (code) {
    process.stderr.write(`decoder.mjs: ${message}\n`);
  } else if (options.serve) {
    serve(options);
  }
  process.exitCode = code;
}

main();
