// Why a stream or a model is refused.

/** A refusal: `name` is an error class of SPEC 8.9, `detail` one line for people. [8.9-1] */
export class Refusal extends Error {
  constructor(name, detail) {
    super(`${name}: ${detail}`);
    this.name = name;
    this.detail = detail;
  }
}

/** Refuse unless a rule holds. */
export function require(holds, name, detail) {
  if (!holds) {
    throw new Refusal(name, detail);
  }
}

/** Refuse a model unless a rule holds. [10.2-25] */
export function requireModel(holds, detail) {
  require(holds, "InvalidModel", detail);
}

/** The exit code of a refusal: 78 for models, 77 for limits, 65 for streams. */
export function exitCode(name) {
  if (name === "ModelError" || name === "InvalidModel") {
    return 78;
  }
  return name === "LimitExceeded" ? 77 : 65;
}

/** An end that is no judgement on stream or model: usage, files, a digest that differs. */
export class Ended extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}
