// The layer table: SPEC 6.1, with the networks of 6.2 to 6.8 and 6.10.

import { interHeads, lrpWidths } from "./config.mjs";

const DEFAULTS = {
  inChannels: 0,
  kernel: 1,
  stride: 1,
  shuffle: false,
  depthwise: false,
  gelu: false,
  add: "",
  wide: false,
  heads: 1,
};

/** The table while it is made: a list of operations, and the width of every tensor so far. */
class Table {
  constructor(config) {
    this.config = config;
    this.ch = config.M / config.slices;
    this.operations = [];
    this.width = { x: 3, z_hat: config.hyper, hyper_means: config.M, y_hat: config.M };
  }

  put(name, kind, inputs, more = {}) {
    const op = { name, kind, inputs, channels: this.width[inputs[0]], ...DEFAULTS, ...more };
    this.operations.push(op);
    this.width[name] = op.shuffle ? op.channels / 4 : op.channels;
    return name;
  }

  conv(name, inputs, channels, kernel, more = {}) {
    const inChannels = inputs.reduce((sum, input) => sum + this.width[input], 0);
    return this.put(name, "conv", inputs, { channels, kernel, inChannels, ...more });
  }

  /** [6.2-1] */
  residualBlock(name, x, out) {
    const a = this.conv(`${name}/conv1`, [x], out, 3, { gelu: true });
    const b = this.conv(`${name}/conv2`, [a], out, 3, { gelu: true });
    if (this.width[x] === out) {
      return this.put(`${name}/sum`, "sum", [x, b]);
    }
    return this.conv(`${name}/skip`, [x], out, 1, { add: b });
  }

  /** [6.2-2] */
  blockWithStride(name, x, out) {
    const a = this.conv(`${name}/conv1`, [x], out, 3, { stride: 2, gelu: true });
    const b = this.put(`${name}/gdn`, "gdn", [this.conv(`${name}/conv2`, [a], out, 3)]);
    return this.conv(`${name}/skip`, [x], out, 1, { stride: 2, add: b });
  }

  /** [6.2-3] */
  upsamplingBlock(name, x, out) {
    const a = this.conv(`${name}/subpel`, [x], 4 * out, 3, { shuffle: true, gelu: true });
    const b = this.put(`${name}/igdn`, "igdn", [this.conv(`${name}/conv`, [a], out, 3)]);
    return this.conv(`${name}/upsample`, [x], 4 * out, 3, { shuffle: true, add: b });
  }

  /** Queries, keys, values and what is made of them, up to `mlp1`. [6.7-1] [6.7-6] */
  globalContext(name, inputs, channels, heads, reprojected) {
    const parts = ["queries", "keys", "values"].map((part, n) => {
      const a = this.conv(`${name}/${part}0`, inputs[n], channels, 1);
      return this.conv(`${name}/${part}1`, [a], channels, 3, { depthwise: true });
    });
    const attended = this.put(`${name}/attention`, "linear_attention", parts, { channels, heads });
    const a = this.conv(`${name}/reprojection`, [attended], reprojected, 5);
    const m = this.conv(`${name}/mlp0`, [a], 4 * this.ch, 1, { gelu: true });
    return [a, this.conv(`${name}/mlp1`, [m], 4 * this.ch, 3, { depthwise: true, gelu: true })];
  }

  /** g_a, which a decoder needs for the order of formats and the checks of a model only. [6.2-4] */
  analysis() {
    let x = "x";
    this.config.N.forEach((channels, n) => {
      x = this.blockWithStride(`g_a/${2 * n}`, x, channels);
      x = this.residualBlock(`g_a/${2 * n + 1}`, x, channels);
    });
    this.put("y", "gain", [this.conv("g_a/6", [x], this.config.M, 3, { stride: 2 })]);
  }

  /** h_a and h_s. [6.4-1] [6.4-2] */
  hyperprior() {
    let x = this.put("h_a/input", "rescale", ["y"]);
    [1, 1, 2, 1, 2].forEach((stride, n) => {
      x = this.conv(`h_a/${n}`, [x], this.config.hyper, 3, { stride, gelu: n < 4 });
    });
    this.put("z", "gain", [x]);
    const [a, b] = this.config.hs;
    x = this.put("h_s/input", "gain", ["z_hat"]);
    x = this.conv("h_s/0", [x], a, 3, { gelu: true });
    x = this.conv("h_s/1", [x], 4 * a, 3, { shuffle: true, gelu: true });
    x = this.conv("h_s/2", [x], b, 3, { gelu: true });
    x = this.conv("h_s/3", [x], 4 * b, 3, { shuffle: true, gelu: true });
    this.conv("h_s/4", [x], 2 * this.config.M, 3);
  }

  /** [6.5-1] */
  localContext(i) {
    const { ch } = this;
    let a = this.put(`local/${i}/norm1`, "norm", [`y_hat/${i}`]);
    a = this.conv(`local/${i}/qkv`, [a], 3 * ch, 1);
    const heads = this.config.local_heads;
    a = this.put(`local/${i}/attention`, "local_attention", [a], { channels: 25 * ch, heads });
    a = this.conv(`local/${i}/fusion`, [a], 2 * ch, 1);
    const u = this.conv(`local/${i}/proj`, [a], 2 * ch, 1);
    a = this.put(`local/${i}/norm2`, "norm", [u]);
    a = this.conv(`local/${i}/fc1`, [a], 4 * ch, 1, { gelu: true });
    return this.conv(`local/${i}/fc2`, [a], 2 * ch, 1, { add: u });
  }

  /** [6.6-1] */
  channelContext(i, previous) {
    let x = previous;
    for (let n = 0; n < 2; n++) {
      x = [this.conv(`chan/${i}/${n}`, x, this.config.chan[n], 3, { gelu: true })];
    }
    return this.conv(`chan/${i}/2`, x, 4 * this.ch, 3);
  }

  /** [6.7-2] */
  interContext(i, previous) {
    const { ch, config } = this;
    const inputs = [previous, previous, previous];
    const read = this.globalContext(`inter/${i}`, inputs, ch * i, interHeads(config, i), 3 * ch);
    return this.conv(`inter/${i}/mlp2`, read, 2 * ch, 1);
  }

  /** [6.7-3] */
  intraContext(i) {
    const { ch, config } = this;
    const inputs = [[`ctx/${i - 1}`], [`ctx/${i - 1}`], [`ctx/${i}`]];
    const [add, m] = this.globalContext(`intra/${i}`, inputs, ch, config.intra_heads, 2 * ch);
    return this.conv(`intra/${i}/mlp2`, [m], 2 * ch, 1, { add });
  }

  /** [6.8-1] [6.8-5] */
  entropyParameters(kind, i, inputs) {
    let x = inputs;
    for (let n = 0; n < 3; n++) {
      x = [this.conv(`ep_${kind}/${i}/${n}`, x, this.config.ent[n], 1, { gelu: true })];
    }
    this.conv(`ep_${kind}/${i}/3`, x, 2 * this.ch, 1, { wide: true });
  }

  /** [6.8-7] */
  latentResidual(kind, i, previous) {
    const widths = lrpWidths(this.config, i);
    let x = ["hyper_means", ...previous, `ctx/${i}`];
    widths.forEach((channels, n) => {
      x = [this.conv(`lrp_${kind}/${i}/${n}`, x, channels, 3, { gelu: true })];
    });
    this.conv(`lrp_${kind}/${i}/${widths.length}`, x, this.ch, 3);
  }

  /** Contexts, entropy parameters and LRP of a slice. [6.8-2] to [6.8-4] */
  slice(i) {
    const previous = Array.from({ length: i }, (_, n) => `ctx/${n}`);
    const spatial = [this.localContext(i)];
    let shared = ["h_s/4"];
    if (i > 0) {
      const channel = this.channelContext(i, previous);
      shared = [this.interContext(i, previous), channel, ...shared];
      spatial.push(this.intraContext(i));
    }
    this.entropyParameters("anchor", i, shared);
    this.entropyParameters("nonanchor", i, [...spatial, ...shared]);
    this.latentResidual("anchor", i, previous);
    this.latentResidual("nonanchor", i, previous);
  }

  /** [6.1-8] [6.10-1] */
  synthesis() {
    const [n1, n2, n3] = this.config.N;
    const before = [this.config.old_synthesis ? n3 : this.config.M, n2, n1];
    let x = this.put("g_s/input", "gain", ["y_hat"]);
    [n3, n2, n1].forEach((after, n) => {
      x = this.residualBlock(`g_s/${2 * n}`, x, before[n]);
      x = this.upsamplingBlock(`g_s/${2 * n + 1}`, x, after);
    });
    this.conv("g_s/7", [this.residualBlock("g_s/6", x, n1)], 12, 3, { shuffle: true });
  }
}

/** Every operation of a configuration, in order. [6.1-6] */
export function layerTable(config) {
  const table = new Table(config);
  table.analysis();
  table.hyperprior();
  for (let i = 0; i < config.slices; i++) {
    table.width[`y_hat/${i}`] = table.ch;
    table.put(`ctx/${i}`, "rescale", [`y_hat/${i}`]);
  }
  for (let i = 0; i < config.slices; i++) {
    table.slice(i);
  }
  table.synthesis();
  return { operations: table.operations, width: table.width };
}
