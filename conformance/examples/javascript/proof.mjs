// The proof that no decoding overflows: SPEC 9.2.

import { requireModel } from "./errors.mjs";

const ACCUMULATOR = 2 ** 31 - 1;
const ROOTS = 2 ** 52;
const LOGITS = 2 ** 38;
const NORM_CHANNELS = 128;

/** The least and the greatest integer of a tensor. [9.2-8] */
function tensorRange(name, model) {
  if (name === "x") {
    return [0, 255];
  }
  if (["y", "y_hat", "z_hat"].includes(name) || name.startsWith("y_hat/")) {
    return [-32767, 32767];
  }
  const op = model.byName.get(name === "hyper_means" ? "h_s/4" : name);
  const { frac, limit } = model.layers[op.name];
  const least = op.gelu ? model.tables[`gelu_q${frac}`].reduce((a, b) => Math.max(a, b)) : limit;
  return [-Math.min(least, limit), limit];
}

/** Ranges of a convolution's inputs, one a channel; a depthwise one has one channel to a filter. */
function inputRanges(op, model) {
  return op.inputs.flatMap((name) => {
    const range = tensorRange(name, model);
    return Array(op.depthwise ? 1 : model.width[name]).fill(range);
  });
}

/** The accumulator's greatest magnitude stays below 2^31; terms sum exactly in doubles. [9.2-2] */
function proveConvolution(op, layer, model) {
  const ranges = inputRanges(op, model);
  const [addLeast, addGreatest] = op.add ? tensorRange(op.add, model) : [0, 0];
  for (let n = 0; n < op.channels; n++) {
    let low = layer.bias[n] + addLeast * 2 ** layer.addShift[n];
    let high = layer.bias[n] + addGreatest * 2 ** layer.addShift[n];
    for (let k = 0, input = 0; k < layer.taps; k++) {
      const w = layer.weight[n * layer.taps + k];
      const [least, greatest] = ranges[input];
      low += w > 0 ? w * least : w * greatest;
      high += w > 0 ? w * greatest : w * least;
      input = input + 1 === ranges.length ? 0 : input + 1;
    }
    const fits = high <= ACCUMULATOR && -low <= ACCUMULATOR;
    requireModel(fits, `an accumulator of ${op.name} reaches ${Math.max(high, -low)}`);
  }
}

/** Sums under the root stay below 2^52; gamma and beta may be as great themselves. [9.2-3] */
function proveGdn(op, layer, x) {
  const square = BigInt(x) * BigInt(x);
  for (let i = 0; i < op.channels; i++) {
    let sum = 0n;
    for (let j = 0; j < op.channels; j++) {
      sum += BigInt(layer.gamma[i * op.channels + j]);
    }
    const norm = BigInt(layer.beta[i]) + square * sum;
    requireModel(norm < BigInt(ROOTS), `a norm of ${op.name} reaches ${norm}`);
  }
}

/** [9.2-4] */
function proveNorm(op, layer, x) {
  const n = op.channels;
  requireModel(n <= NORM_CHANNELS, `${op.name} has ${n} channels`);
  requireModel((2 * n * x) ** 2 * n < ROOTS, `the variance of ${op.name} reaches ${(2 * n * x) ** 2 * n}`);
  requireModel(layer.limit === 32767 && layer.frac === 10, `${op.name} has another format than Q10, 32767`);
}

/** [9.2-5] */
function proveLocalAttention(op, layer, x) {
  const d = op.channels / 25 / op.heads;
  const bias = layer.bias.reduce((most, b) => Math.max(most, Math.abs(b)), 0);
  const logit = Math.floor((x * x * d) / 2 ** layer.constants[0]) + 1 + bias;
  requireModel(logit < LOGITS, `a logit of ${op.name} reaches ${logit}`);
}

/** Refuse a model with an operation that could overflow. [9.2-1] */
export function prove(model) {
  for (const op of model.operations) {
    const layer = model.layers[op.name];
    const x = Math.max(...op.inputs.flatMap((name) => tensorRange(name, model)).map(Math.abs));
    if (op.kind === "conv") {
      proveConvolution(op, layer, model);
    } else if (op.kind === "gdn" || op.kind === "igdn") {
      proveGdn(op, layer, x);
    } else if (op.kind === "norm") {
      proveNorm(op, layer, x);
    } else if (op.kind === "local_attention") {
      proveLocalAttention(op, layer, x);
    }
  }
}
