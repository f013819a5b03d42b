// What the clients' programs in JavaScript share; features.py is the same for Python.
import { randomBytes } from "node:crypto";

export const SUM = "What is 12 * 7?";
/** A question for both tools. It is a new one each time: the simulator's faults count by prompt. */
export const question = () => `Use get_weather and get_time for Paris, note ${randomBytes(4).toString("hex")}`;
export const TOOLS = ["get_weather", "get_time"];
export const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=";
export const CITY = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
export const WRONG_KEY = "mp_" + "0".repeat(64);

const EACH = ["router/openai", "router/claude", "router/gemini"];
const MODELS = {
  tools: ["router/turns-1", "router/turns-2", "router/turns-3"],
  embeddings: ["sim/embed"],
  "unknown model": ["router/none"],
  "wrong key": ["router/openai"],
  cancel: ["router/long"],
};

async function tried(name, feature) {
  if (typeof feature === "string") return { none: feature };
  for (const model of MODELS[name] ?? EACH) {
    try {
      await feature(model);
    } catch (error) {
      return { failure: `${model}: ${error?.name}: ${error?.message}`, trace: String(error?.stack ?? error) };
    }
  }
  return {};
}

/** Try every feature (a function of the model's name, or why the client has none), and print a line for each. */
export async function run(features) {
  for (const [feature, what] of Object.entries(features)) {
    console.log(JSON.stringify({ feature, ...(await tried(feature, what)) }));
  }
  process.exit(0);
}

export function assert(condition, what = "assertion") {
  if (!condition) throw new Error(`not so: ${what}`);
}

/** Pass if `asking` ends with an error for which `expected` holds. */
export async function refused(expected, asking) {
  let caught;
  try {
    await asking();
  } catch (error) {
    caught = error;
  }
  assert(caught !== undefined, "an error is raised");
  if (!expected(caught)) throw caught;
}
