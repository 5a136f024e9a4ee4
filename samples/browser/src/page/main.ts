/** The page: it hears what a person does, tells the worker, and shows what that says. */
import type { PictureOptions } from "../data/pairs";
import type { ArtifactsTold, FromWorker, RunTold, ToWorker } from "../messages";
import type { Look, Shown } from "../training/held_out";
import type { Measured } from "../training/keeping";
import type { TrainOptions } from "../training/options";
import type { Which } from "../training/run";
import type { Device } from "../training/webgpu";
import { Chart, short } from "./chart";
import { listen } from "./dropping";
import { block, button, fieldset, input, select, tell } from "./elements";
import { isolate } from "./isolating";
import { show } from "./showing";
import { startWorker } from "./working";

type Phase = "empty" | "artifacts" | "data" | "training" | "idle";

const [status, problem] = [block("status"), block("problem")];
const chart = new Chart(block("chart"));
let phase: Phase = "empty";
let busy = false;
let canSaveTuned = true;
let goesOn: RunTold | null = null;
let before: Look | null = null;
let classes: string[] = [];
let best: number | null = null;
let blendAsked: { blend: number; which: Which } | null = null;
/** What the last steps took. */
const seconds: number[] = [];
const RECENT = 20;

const worker = (await isolate()) ? null : startWorker(new URLSearchParams(location.search).get("threads"));
worker?.addEventListener("message", ({ data }: MessageEvent<FromWorker>) => hear(data));
worker?.addEventListener("error", ({ message }) => fail(`The worker of this page failed: ${message || "its script could not be loaded"}. Load the page again.`));

function ask(message: ToWorker, doing: string): void {
  busy = message.kind !== "blend";
  tell(problem, null);
  if (doing) status.textContent = doing;
  worker?.postMessage(message);
  enable();
}

function hear(message: FromWorker): void {
  switch (message.kind) {
    case "runtime":
      block("runtime").textContent = message.told;
      return;
    case "artifacts":
      return settle("artifacts", () => showArtifacts(message.told));
    case "data":
      return settle("data", () => {
        classes = message.classes;
        tell(block("data-told"), `${message.told}.`);
        goesOn = message.kept;
        tell(block("kept"), message.kept ? keptSentence(message.kept) : message.keptNot);
        if (message.kept) fillOptions(message.kept.options);
        status.textContent = message.kept ? "A run was kept in this browser: go on, or start anew." : "Ready to train.";
      });
    case "ready":
      phase = "training";
      goesOn = message.run;
      before = message.start;
      showBest(message.run.best);
      tell(block("kept"), null);
      chart.reset(message.run.losses, [...startOf(message.start), ...message.run.evaluations]);
      showMeasures("before", message.start);
      showMeasures("after", null);
      show(block("pictures"), message.start?.shown ?? [], null, classes);
      return enable();
    case "step":
      chart.addStep(message.loss);
      seconds.push(message.seconds);
      if (seconds.length > RECENT) seconds.shift();
      return showStep(message.step, message.loss);
    case "look":
      chart.addHeld(message.at);
      showBest(message.best);
      if (currentWhich() === "best" && message.best !== message.at.step) return; // what is shown is it
      if (currentBlend() === 1) showAfter(message.look);
      else askBlend();
      return;
    case "blend":
      blendAsked = null;
      if (message.blend !== currentBlend() || message.which !== currentWhich()) return askBlend();
      return showAfter(message.look);
    case "stopped":
      return settle("idle", () => {
        status.textContent = `Training is ${message.why}; ${secondsPerStep()} s per step.`;
        if (currentBlend() !== 1) askBlend();
      });
    case "file":
      download(message.name, message.bytes);
      return settle(phase, () => (status.textContent = `${message.name} is saved: ${message.bytes.length.toLocaleString("en")} bytes.`));
    case "failed":
      if (message.during === "blend") blendAsked = null;
      if (phase === "training") phase = "idle";
      if (message.during === "artifacts") phase = "empty";
      if (message.during === "data" && phase !== "empty") phase = "artifacts";
      return fail(message.sentence);
  }
}

function settle(next: Phase, act: () => void): void {
  phase = next;
  busy = false;
  act();
  enable();
}

function fail(sentence: string): void {
  busy = false;
  status.textContent = "It did not work; what to do is said here.";
  tell(problem, sentence);
  enable();
}

function enable(): void {
  const still = !busy && phase !== "training";
  fieldset("data-fields").disabled = phase === "empty" || !still;
  fieldset("train-fields").disabled = !still || phase === "empty" || phase === "artifacts";
  button("start").disabled = !still || (phase !== "data" && phase !== "idle");
  button("go-on").disabled = !still || !goesOn || (phase !== "data" && phase !== "idle");
  button("stop").disabled = phase !== "training";
  button("save-state").disabled = !still || phase !== "idle";
  button("save-tuned").disabled = !still || phase !== "idle" || !canSaveTuned;
  input("blend").disabled = phase !== "training" && phase !== "idle";
  select("which").disabled = input("blend").disabled || best === null;
}

function showArtifacts(told: ArtifactsTold): void {
  canSaveTuned = told.whyNoTuned === null;
  [goesOn, before] = [null, null];
  showBest(null);
  chart.reset([], []);
  for (const when of ["before", "after"] as const) showMeasures(when, null);
  show(block("pictures"), [], null, []);
  const facts: [string, string][] = [
    ["Vendor's file", `${told.model.slice(0, 16)}…`],
    ["Trains", `${told.tensors} tensors, ${(100 * told.rho).toFixed(1)} % of the weights (${told.mode})`],
    ["Loss", told.loss],
    ["Input", told.input],
  ];
  block("artifacts-told").replaceChildren(
    ...facts.flatMap(([name, value]) => {
      const [term, description] = [document.createElement("dt"), document.createElement("dd")];
      [term.textContent, description.textContent] = [name, value];
      return [term, description];
    }),
  );
  block("artifacts-told").hidden = false;
  tell(
    block("artifacts-note"),
    told.whyNoTuned === null
      ? null
      : `These can be trained here, but the tuned file takes more than overwriting bytes (${told.whyNoTuned}). ` +
          "Save the state, put it into the artifacts directory, and use `tgdonnx export`.",
  );
  block("data-wants").textContent = told.takesClasses
    ? "Drop a folder here with one folder of pictures per class."
    : "Drop a folder here with the folders noisy and clean, pictures of the same names in both.";
  block("metric-name").textContent = told.metric ?? "Metric";
  input("size").disabled = told.fixedSize !== null;
  tell(block("data-told"), null);
  tell(block("kept"), null);
  status.textContent = "The artifacts are whole. Now drop data.";
}

function startOf(look: Look | null): Measured[] {
  return look ? [{ step: 0, loss: look.loss, metric: look.metric }] : [];
}

function showStep(step: number, loss: number): void {
  const total = goesOn?.options.steps ?? step;
  const progress = block("progress") as HTMLProgressElement;
  [progress.max, progress.value] = [total, step];
  // Read aloud now and then, not at every step.
  if (step % 10 === 0 || step === total || step === 1) {
    status.textContent = `Step ${step} of ${total}: loss ${short(loss)}, ${secondsPerStep()} s per step.`;
  }
}

function secondsPerStep(): string {
  return seconds.length ? (seconds.reduce((sum, second) => sum + second, 0) / seconds.length).toPrecision(3) : "–";
}

function showMeasures(when: "before" | "after", look: Look | null): void {
  block(`loss-${when}`).textContent = look ? short(look.loss) : "–";
  block(`metric-${when}`).textContent = look?.metric != null ? short(look.metric) : "–";
}

function showAfter(look: Look | null): void {
  showMeasures("after", look);
  show(block("pictures"), before?.shown ?? [], (look?.shown ?? null) as Shown[] | null, classes);
}

/** Offers the step with the lowest loss of held-out samples, and takes it once there is one. */
function showBest(step: number | null): void {
  if (step === null || best === null) select("which").value = step === null ? "last" : "best";
  best = step;
  select("which").options[0]!.textContent = step === null ? "the best step: nothing is measured" : `step ${step}, the lowest held-out loss`;
  enable();
}

function keptSentence({ step, options, saved }: RunTold): string {
  return `A run of these artifacts and this data stands at step ${step} of ${options.steps}, kept ${new Date(saved).toLocaleString()}. To start anew forgets it.`;
}

const NUMBERS = { steps: "steps", batch: "batch", rate: "rate", seed: "seed", evaluateEvery: "evaluate-every", keepEvery: "keep-every" } as const;

function fillOptions(options: TrainOptions): void {
  for (const [name, id] of Object.entries(NUMBERS)) input(id).value = String(options[name as keyof typeof NUMBERS]);
  select("schedule").value = options.schedule;
}

function trainOptions(): TrainOptions {
  const numbers = Object.fromEntries(Object.entries(NUMBERS).map(([name, id]) => [name, input(id).valueAsNumber]));
  return { ...(numbers as unknown as TrainOptions), schedule: select("schedule").value as TrainOptions["schedule"] };
}

function pictureOptions(): PictureOptions {
  return {
    scale: select("scale").value as PictureOptions["scale"],
    size: input("size").valueAsNumber,
    heldOut: input("held-out").valueAsNumber || 0,
  };
}

function currentBlend(): number {
  return input("blend").valueAsNumber;
}

function currentWhich(): Which {
  return select("which").value as Which;
}

function currentDevice(): Device {
  return select("device").value as Device;
}

function askBlend(): void {
  if (blendAsked !== null) return; // one at a time: the answer asks for what the slider came to since
  blendAsked = { blend: currentBlend(), which: currentWhich() };
  worker?.postMessage({ kind: "blend", ...blendAsked } satisfies ToWorker);
}

function download(name: string, bytes: Uint8Array<ArrayBuffer>): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// Files that miss a zone would be opened in place of the page.
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
listen(block("artifacts-drop"), ["artifacts-folder", "artifacts-file"], (dropped) => ask({ kind: "artifacts", dropped }, "Reading the artifacts."));
listen(block("data-drop"), ["data-folder", "data-files"], (dropped) => ask({ kind: "data", dropped, options: pictureOptions() }, "Reading the data."));
button("start").addEventListener("click", () => ask({ kind: "start", options: trainOptions(), device: currentDevice() }, "Loading the runtime and the model."));
button("go-on").addEventListener("click", () => {
  const steps = Math.max(input("steps").valueAsNumber || 0, 1);
  if (goesOn) goesOn = { ...goesOn, options: { ...goesOn.options, steps } };
  if (phase === "idle") phase = "training";
  ask({ kind: "goOn", steps, device: currentDevice() }, "Going on.");
});
button("stop").addEventListener("click", () => worker?.postMessage({ kind: "stop" } satisfies ToWorker));
button("save-tuned").addEventListener("click", () => ask({ kind: "saveTuned", blend: currentBlend(), which: currentWhich() }, "Making the tuned file."));
button("save-state").addEventListener("click", () => ask({ kind: "saveState", which: currentWhich() }, "Making the file of the state."));
input("blend").addEventListener("input", () => {
  block("blend-told").textContent = currentBlend().toFixed(2);
  askBlend();
});
select("which").addEventListener("input", askBlend);
enable();
// A page that is about to be loaded again, isolated, is not ready.
if (worker) document.documentElement.dataset.ready = "true";
