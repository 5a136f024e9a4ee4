/** The worker: everything that takes time. It does one thing after the other; while it trains, it hears `stop` and `blend` between steps. */
import { openArtifacts, type Artifacts } from "./artifacts/artifacts";
import { fixedBatch, whyNoExport } from "./artifacts/manifest";
import { writeState, type State } from "./artifacts/safetensors";
import type { Dataset } from "./data/dataset";
import { openData } from "./data/opening";
import { fixedSize } from "./data/picture_input";
import type { FromWorker, RunTold, ToWorker } from "./messages";
import { Refusal, sentenceOf } from "./refusal";
import { startOf } from "./training/blended_state";
import { forget, keptRun, type KeptRun } from "./training/keeping";
import { metricOf } from "./training/metrics";
import { checked } from "./training/options";
import { Run, type Which } from "./training/run";
import { loadRuntime, type Runtime } from "./training/runtime";
import { threadsOf } from "./training/threads";
import { Webgpu, type Device } from "./training/webgpu";
import { tunedFile } from "./vendor/exporting";
import { vendorFile } from "./vendor/vendor_file";

interface Opened {
  artifacts: Artifacts;
  vendor: Uint8Array | null;
  start: State;
}

const asked = new URLSearchParams(self.name);
const { threads, why: whyThreads } = threadsOf(asked.get("threads"), self.crossOriginIsolated, navigator.hardwareConcurrency);
const webgpu = new Webgpu();
let runtime: Promise<Runtime> | null = null;
let opened: Opened | null = null;
let data: Dataset | null = null;
let kept: KeptRun | null = null;
let run: Run | null = null;
let training = false;
let blendWanted: { blend: number; which: Which } | null = null;
let queue: Promise<void> = Promise.resolve();

function say(message: FromWorker, transfer: Transferable[] = []): void {
  postMessage(message, { transfer });
}

self.onmessage = ({ data: message }: MessageEvent<ToWorker>) => {
  if (message.kind === "stop") return run?.stop();
  if (message.kind === "blend" && training) {
    blendWanted = message; // between two steps, not behind the last
    return;
  }
  queue = queue.then(() => answer(message)).catch((error: unknown) => say({ kind: "failed", during: message.kind, sentence: sentenceOf(error) }));
};

async function answer(message: ToWorker): Promise<void> {
  switch (message.kind) {
    case "artifacts":
      return takeArtifacts(await openArtifacts(message.dropped));
    case "data":
      return takeData(await openData(message.dropped, theArtifacts().manifest, message.options));
    case "start": {
      const options = checked(message.options, theData().train, fixedBatch(theArtifacts().manifest));
      await forget(theArtifacts().identity);
      return openRun(options, message.device);
    }
    case "goOn":
      if (!run && kept) await openRun({ ...kept, options: { ...kept.options, steps: message.steps } }, message.device);
      else if (run) {
        run.options = { ...run.options, steps: message.steps };
        await choose(run, message.device);
        await train(run);
      }
      return;
    case "blend":
      return sayBlend(run, message);
    case "saveTuned": {
      const { artifacts, vendor } = opened!;
      if (!vendor) throw new Refusal(`No tuned file can be made here: ${whyNoExport(artifacts.manifest)}.`);
      const { classes, preparation } = theData();
      const told = { blend: message.blend, classes, preparation, checkpoint: checkpointOf(theRun(), message.which) };
      return send("tuned.onnx", tunedFile(vendor, artifacts.manifest, theRun().stateOf(message.which), told));
    }
    case "saveState":
      return send(checkpointOf(theRun(), message.which), await writeState(theRun().stateOf(message.which)));
    case "stop":
  }
}

async function takeArtifacts(artifacts: Artifacts): Promise<void> {
  const { manifest } = artifacts;
  await closeRun();
  [data, kept] = [null, null];
  const why = whyNoExport(manifest);
  const vendor = why ? null : await vendorFile(artifacts.vendor, artifacts.masked, manifest.base_sha256);
  opened = { artifacts, vendor, start: startOf(manifest, vendor, artifacts.state) };
  const spec = manifest.inputs[0]!;
  const size = fixedSize(spec);
  say({
    kind: "artifacts",
    told: {
      model: manifest.base_sha256,
      loss: manifest.heads.map(({ output, loss }) => (manifest.heads.length > 1 ? `${output}: ${loss}` : loss)).join(", "),
      metric: metricOf(manifest, manifest.heads[0]!)?.name ?? null,
      tensors: new Set(manifest.trained.map(({ vendor_name: name }) => name)).size,
      rho: manifest.rho,
      mode: manifest.selection.mode ?? "paper",
      input: `${spec.name}: ${spec.dtype}, ${spec.shape?.map((each) => each ?? "any").join(" x ") ?? "of any shape"}`,
      takesClasses: manifest.heads[0]!.class_axis !== null,
      fixedSize: size && `${size.width} x ${size.height}`,
      whyNoTuned: why,
    },
  });
}

async function takeData(found: Dataset): Promise<void> {
  await closeRun();
  data = found;
  const stored = await keptRun(theArtifacts().identity);
  kept = stored?.data === found.identity ? stored : null;
  const other = stored && !kept ? `A run of these artifacts, at step ${stored.losses.length}, is of other data or other settings of it, with which alone it goes on. To start here forgets it.` : null;
  say({ kind: "data", told: found.told, held: found.held, classes: found.classes, kept: kept && told(kept.losses.length, kept, kept.saved), keptNot: other });
}

async function openRun(from: Parameters<typeof Run.open>[4], device: Device): Promise<void> {
  await closeRun();
  run = await Run.open(await theRuntime(), theArtifacts(), theData(), opened!.start, from);
  kept = null;
  await choose(run, device);
  say({ kind: "ready", run: told(run.step, run, 0), start: await run.lookAt(0, "last") });
  await train(run);
}

/** Chooses what steps run on, and says it. */
async function choose(current: Run, device: Device): Promise<void> {
  const here = `ONNX Runtime on WebAssembly with SIMD, ${threads === 1 ? "1 thread" : `${threads} threads`}: ${whyThreads}.`;
  const why = await current.choose(await theRuntime(), webgpu, device, (sentence) => say({ kind: "runtime", told: `${here} ${sentence}` }));
  if (why !== null) say({ kind: "runtime", told: `${here} ${why}` });
}

async function train(current: Run): Promise<void> {
  training = true;
  try {
    const why = await current.train({
      step: (step, loss, seconds) => say({ kind: "step", step, loss, seconds }),
      look: (at, look, best) => say({ kind: "look", at, look, best }),
      between: () => between(current),
    });
    say({ kind: "stopped", step: current.step, why });
  } finally {
    training = false;
    await answerBlend(current); // what was asked while the last state was kept
  }
}

async function between(current: Run): Promise<void> {
  await breathe();
  await answerBlend(current);
}

async function answerBlend(current: Run): Promise<void> {
  if (blendWanted === null) return;
  const wanted = blendWanted;
  blendWanted = null;
  await sayBlend(current, wanted);
}

async function sayBlend(current: Run | null, { blend, which }: { blend: number; which: Which }): Promise<void> {
  say({ kind: "blend", blend, which, look: current && (await current.lookAt(blend, which)) });
}

/** The name that Python has for the file of the state. */
function checkpointOf({ best }: Run, which: Which): string {
  return which === "best" && best ? "state.best.safetensors" : "state.safetensors";
}

/** Lets messages in: a step of WebAssembly holds the worker until it is done. */
function breathe(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

function theRuntime(): Promise<Runtime> {
  return (runtime ??= loadRuntime(threads));
}

async function closeRun(): Promise<void> {
  await run?.close();
  run = null;
}

function send(name: string, bytes: Uint8Array): void {
  const own = bytes as Uint8Array<ArrayBuffer>;
  say({ kind: "file", name, bytes: own }, [own.buffer]);
}

function told(step: number, { options, losses, evaluations, best }: Pick<KeptRun, "options" | "losses" | "evaluations" | "best">, saved: number): RunTold {
  return { step, options, losses, evaluations, best: best?.step ?? null, saved };
}

function theArtifacts(): Artifacts {
  if (!opened) throw new Refusal("Drop the artifacts first: data is read as their model takes it.");
  return opened.artifacts;
}
function theData(): Dataset {
  if (!data) throw new Refusal("Drop data first.");
  return data;
}
function theRun(): Run {
  if (!run) throw new Refusal("Nothing has been trained yet.");
  return run;
}
