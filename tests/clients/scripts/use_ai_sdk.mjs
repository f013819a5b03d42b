// The Vercel AI SDK, with its providers for OpenAI (the Responses API), for servers of OpenAI's format, and Anthropic.

// --- setup
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";

const baseURL = process.env.MODELPILOT_API_URL + "/v1";
const apiKey = process.env.MODELPILOT_API_KEY;
const openai = (more) => createOpenAI({ baseURL, apiKey, ...more });
const compatible = (more) =>
  createOpenAICompatible({
    name: "modelpilot",
    baseURL,
    apiKey,
    includeUsage: true, // in streams
    supportsStructuredOutputs: true,
    ...more,
  });
const anthropic = (more) => createAnthropic({ baseURL, apiKey, ...more });
// --- end of setup

import { Output, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import { PIXEL, SUM, TOOLS, WRONG_KEY, assert, question, refused, run } from "./features.mjs";

const City = z.object({ city: z.string() });
const all = [openai, compatible, anthropic];
const fails = (status) => (error) => (error.lastError ?? error).statusCode === status;

await run({
  async chat(model) {
    for (const made of all) assert((await generateText({ model: made()(model), prompt: SUM })).text.includes("84"));
  },
  async stream(model) {
    for (const made of all) {
      let text = "";
      for await (const part of streamText({ model: made()(model), prompt: SUM }).textStream) text += part;
      assert(text.includes("84"), text);
    }
  },
  async tools(model) {
    for (const made of all) {
      const used = [];
      const offered = Object.fromEntries(
        TOOLS.map((name) => [
          name,
          tool({
            description: name,
            inputSchema: City,
            execute: async ({ city }) => {
              used.push(name);
              return `12 in ${city}`;
            },
          }),
        ]),
      );
      const { text } = await generateText({
        model: made()(model),
        prompt: question(),
        tools: offered,
        stopWhen: stepCountIs(3),
      });
      assert(text, "an answer");
      assert(used.join() === TOOLS.join(), "both tools are called");
    }
  },
  async structured(model) {
    for (const made of all) {
      const output = Output.object({ schema: City });
      assert((await generateText({ model: made()(model), prompt: "A city, please", output })).output.city);
    }
  },
  async image(model) {
    const picture = { type: "file", data: Buffer.from(PIXEL, "base64"), mediaType: "image/png" };
    const content = [{ type: "text", text: "What is this?" }, picture];
    for (const made of all) {
      const { usage } = await generateText({ model: made()(model), messages: [{ role: "user", content }] });
      assert(usage.inputTokens > 80);
    }
  },
  async embeddings(model) {
    for (const made of [openai, compatible]) {
      const { embeddings } = await embedMany({ model: made().embeddingModel(model), values: ["a", "b"] });
      assert(embeddings[1].length === 256);
    }
  },
  async "unknown model"(model) {
    for (const made of all) await refused(fails(404), () => generateText({ model: made()(model), prompt: SUM }));
  },
  async "wrong key"(model) {
    for (const made of all) {
      const stranger = made({ apiKey: WRONG_KEY })(model);
      await refused(fails(401), () => generateText({ model: stranger, prompt: SUM }));
    }
  },
  async usage(model) {
    for (const made of all) {
      assert((await generateText({ model: made()(model), prompt: SUM })).usage.totalTokens > 0);
      const streamed = streamText({ model: made()(model), prompt: SUM });
      await streamed.consumeStream();
      assert((await streamed.usage).totalTokens > 0, "the stream counts");
    }
  },
  async cancel(model) {
    for (const made of all) {
      const leaving = new AbortController();
      const { textStream } = streamText({ model: made()(model), prompt: SUM, abortSignal: leaving.signal });
      for await (const part of textStream) if (part) break;
      leaving.abort();
    }
  },
});
