/** One run of a model: what it reads, by name, out of a batch and a state, and what it gives. */
import type { InferenceSession, Tensor } from "onnxruntime-web";
import type { Fed } from "../data/dataset";
import { Refusal } from "../refusal";
import type { Runtime } from "./runtime";

/** Runs a model of a runtime. Of two that have a name the former is taken. */
export async function runModel(
  runtime: Runtime,
  session: InferenceSession,
  ...given: ReadonlyMap<string, Fed>[]
): Promise<Record<string, Tensor>> {
  const feeds: Record<string, Tensor> = {};
  for (const name of session.inputNames) {
    const { values, shape } = given.find((each) => each.has(name))?.get(name) ?? missing(name);
    feeds[name] = runtime.tensor(values, shape);
  }
  try {
    return await session.run(feeds);
  } catch (error) {
    throw new Refusal(`The model cannot be run on this data: ${(error as Error).message}`);
  } finally {
    for (const tensor of Object.values(feeds)) tensor.dispose();
  }
}

export function numberOf(tensor: Tensor): number {
  return Number(tensor.data[0]);
}

function missing(name: string): never {
  throw new Refusal(`The model reads ${name}, which is neither data nor state. Build the artifacts again.`);
}
