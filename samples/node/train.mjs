// Trains in an artifacts directory of tgdonnx, and writes the tuned model: `tgdonnx guide step` in JavaScript. See README.md.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { parseArgs } from "node:util";
import ort from "onnxruntime-node";

const RATE = "tgdonnx::learning_rate", STEP = "tgdonnx::step";
const UPDATES = "tgdonnx.updates", SHA256 = "tgdonnx.sha256";

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(2);
}
process.on("uncaughtException", (error) => fail(error.message));

/** Writes a file beside its place, and renames it: it is there whole or not at all. */
function replace(path, ...pieces) {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  writeFileSync(temporary, Buffer.concat(pieces));
  renameSync(temporary, path);
}

// The state: state.safetensors.

function readState(path) {
  const data = readFileSync(path), start = 8 + Number(data.readBigUInt64LE(0));
  const header = JSON.parse(data.toString("utf8", 8, start)), metadata = header.__metadata__, tensors = {};
  delete header.__metadata__;
  for (const [name, { shape, data_offsets: [begin, end] }] of Object.entries(header)) {
    const bytes = Uint8Array.from(data.subarray(start + begin, start + end)); // a copy begins where floats may
    tensors[name] = new ort.Tensor("float32", new Float32Array(bytes.buffer), shape);
  }
  if (hashOf(metadata, tensors) !== metadata[SHA256]) fail(`${path} is not as it was written; build the artifacts again`);
  return { header, tensors, updates: Number(metadata[UPDATES]) };
}

function writeState(path, { header, tensors, updates }) {
  const metadata = { "tgdonnx.format": "1", [UPDATES]: `${updates}` };
  metadata[SHA256] = hashOf(metadata, tensors);
  let text = Buffer.from(JSON.stringify({ __metadata__: metadata, ...header }));
  text = Buffer.concat([text, Buffer.alloc(-text.length & 7, " ")]);
  const size = Buffer.alloc(8), bytes = [];
  size.writeBigUInt64LE(BigInt(text.length));
  const inOrder = Object.entries(header).sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0]);
  for (const [name] of inOrder) bytes.push(bytesOf(tensors[name]));
  replace(path, size, text, ...bytes);
}

const bytesOf = ({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);

/** JSON as Python writes it: nothing but printable ASCII. */
const ascii = (text) =>
  JSON.stringify(text).replace(/[\x7f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

function hashOf(metadata, tensors) {
  const others = Object.keys(metadata).filter((key) => key !== SHA256).sort();
  const hash = createHash("sha256").update(`{${others.map((key) => `${ascii(key)}: ${ascii(metadata[key])}`).join(", ")}}`);
  for (const name of Object.keys(tensors).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
    hash.update(`[${ascii(name)}, "<f4", [${tensors[name].dims.join(", ")}]]`).update(bytesOf(tensors[name]));
  }
  return hash.digest("hex");
}

// The data: an array of samples, in a .npy file, for each input of a step.

const KINDS = { float32: ["<f4", Float32Array], int64: ["<i8", BigInt64Array] };

function readArray(path, dtype) {
  const data = readFileSync(path), start = data[6] === 1 ? 10 + data.readUInt16LE(8) : 12 + data.readUInt32LE(8);
  const header = data.toString("latin1", 10, start), [kind, Values] = KINDS[dtype] ?? fail(`the sample reads no ${dtype}`);
  const shape = /'shape': \(([^)]*)\)/.exec(header)?.[1].split(",").filter((size) => size.trim()).map(Number);
  if (!header.includes(`'descr': '${kind}'`) || header.includes("True") || !shape?.length)
    fail(`${path}: expected ${dtype} in C order, an array of samples, found ${header.trim()}`);
  const values = new Values(Uint8Array.from(data.subarray(start)).buffer);
  return { dtype, values, shape, row: values.length / shape[0] };
}

// The export: the numbers of the state over bytes of the vendor's file.

/** The places of a parameter's elements in the whole tensor, row-major. */
function placesOf({ shape, part }) {
  const held = shape.map((size) => [...Array(size).keys()]);
  for (const { axis, indices } of part ?? []) held[axis] = indices;
  return held.reduce((found, along, axis) => found.flatMap((place) => along.map((index) => place * shape[axis] + index)), [0]);
}

function exportTuned(manifest, tensors, vendor, out) {
  const files = new Map([[null, readFileSync(vendor)]]);
  for (const tensor of manifest.trained) {
    const { stored } = tensor.write_back;
    if (!files.has(stored.location)) files.set(stored.location, readFileSync(join(dirname(vendor), stored.location)));
    const { data } = tensors[tensor.name], file = files.get(stored.location);
    placesOf(tensor).forEach((place, index) => file.writeFloatLE(data[index], stored.offset + 4 * place));
  }
  for (const [name, content] of files) {
    const path = join(out, name ?? "tuned.onnx");
    mkdirSync(dirname(path), { recursive: true });
    replace(path, content);
  }
}

// The loop.

const { values: given, positionals: [run, data, out, ...more] } = parseArgs({
  allowPositionals: true,
  options: { steps: { type: "string", default: "50" }, batch: { type: "string", default: "4" },
    lr: { type: "string", default: "1e-3" } },
});
if (!out || more.length) fail("usage: node train.mjs RUN DATA OUT [--steps N] [--batch N] [--lr X]");
const [steps, batch, rate] = [given.steps, given.batch, given.lr].map(Number);
if (![steps, batch, rate].every((number) => number > 0)) fail("expected numbers above 0 for --steps, --batch and --lr");

const manifest = JSON.parse(readFileSync(join(run, "manifest.json"), "utf8"));
if (manifest.engine !== "onnxruntime") fail(`${run} is of the engine ${manifest.engine}; build for onnxruntime`);
const other = manifest.trained.find(({ write_back: { how } }) => how !== "copied");
if (other) fail(`${other.name} is more than numbers to copy (${other.write_back.why || other.dtype}); \`tgdonnx export\` can`);
if (existsSync(out)) fail(`${out} exists; choose another name`);
const session = await ort.InferenceSession.create(join(run, "step.onnx"));
const arrays = manifest.inputs.map(({ name, dtype }, place) =>
  ({ name: session.inputNames[place], ...readArray(join(data, `${name}.npy`), dtype) }));
const batches = Math.floor(Math.min(...arrays.map(({ shape }) => shape[0])) / batch);
if (!batches) fail(`${data} has fewer samples than a batch of ${batch}`);

const state = readState(join(run, "state.safetensors"));
for (let done = 0; done < steps; done++) {
  const feeds = { ...state.tensors }, begin = (done % batches) * batch;
  for (const { name, dtype, values, shape, row } of arrays)
    feeds[name] = new ort.Tensor(dtype, values.subarray(begin * row, (begin + batch) * row), [batch, ...shape.slice(1)]);
  feeds[RATE] = new ort.Tensor("float32", [rate], []);
  feeds[STEP] = new ort.Tensor("int64", [BigInt(state.updates + 1)], []);
  const found = await session.run(feeds), [loss] = found.loss.data;
  if (!Number.isFinite(loss)) fail(`the loss of step ${done + 1} is ${loss}: nothing is written; take a smaller --lr`);
  for (const name in state.tensors) state.tensors[name] = found[`${name}.after`];
  state.updates++;
  console.log(JSON.stringify({ step: state.updates, loss }));
}
writeState(join(run, "state.safetensors"), state);
rmSync(join(run, "state.best.safetensors"), { force: true }); // of an earlier run; `tgdonnx export` would prefer it
exportTuned(manifest, state.tensors, join(run, "vendor.onnx"), out);
