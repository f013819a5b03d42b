// LangChain for JavaScript.

// --- setup
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";

const configuration = { baseURL: process.env.MODELPILOT_API_URL + "/v1" };
const apiKey = process.env.MODELPILOT_API_KEY;
const chatModel = (model, more = {}) => new ChatOpenAI({ model, apiKey, configuration, ...more });
const embedder = (model) => new OpenAIEmbeddings({ model, apiKey, configuration });
// --- end of setup

import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { z } from "zod";

import { PIXEL, SUM, TOOLS, WRONG_KEY, assert, question, refused, run } from "./features.mjs";

const City = z.object({ city: z.string() });
const offered = TOOLS.map((name) => tool(({ city }) => `12 in ${city}`, { name, description: name, schema: City }));

await run({
  async chat(model) {
    assert((await chatModel(model).invoke(SUM)).text.includes("84"));
  },
  async stream(model) {
    let text = "";
    for await (const chunk of await chatModel(model).stream(SUM)) text += chunk.text;
    assert(text.includes("84"), text);
  },
  async tools(model) {
    const asked = chatModel(model).bindTools(offered);
    const messages = [new HumanMessage(question())];
    const answer = await asked.invoke(messages);
    assert(answer.tool_calls.map((call) => call.name).join() === TOOLS.join(), "both tools are called");
    messages.push(answer);
    for (const call of answer.tool_calls) messages.push(new ToolMessage({ content: "12", tool_call_id: call.id }));
    assert((await asked.invoke(messages)).text);
  },
  async structured(model) {
    assert((await chatModel(model).withStructuredOutput(City).invoke("A city, please")).city);
  },
  async image(model) {
    const picture = { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } };
    const answer = await chatModel(model).invoke([
      new HumanMessage({ content: [{ type: "text", text: "What is this?" }, picture] }),
    ]);
    assert(answer.usage_metadata.input_tokens > 80);
  },
  async embeddings(model) {
    assert((await embedder(model).embedDocuments(["a", "b"]))[1].length === 256);
  },
  "unknown model": (model) => refused((error) => error.status === 404, () => chatModel(model).invoke(SUM)),
  "wrong key": (model) =>
    refused((error) => error.status === 401, () => chatModel(model, { apiKey: WRONG_KEY }).invoke(SUM)),
  async usage(model) {
    assert((await chatModel(model).invoke(SUM)).usage_metadata.total_tokens > 0);
    let counted;
    for await (const chunk of await chatModel(model).stream(SUM)) counted = chunk.usage_metadata ?? counted;
    assert(counted.output_tokens > 0, "the stream counts");
  },
  async cancel(model) {
    for await (const chunk of await chatModel(model).stream(SUM)) if (chunk.text) break;
  },
});
