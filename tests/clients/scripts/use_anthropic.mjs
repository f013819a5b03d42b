// Anthropic's SDK for Node.

// --- setup
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({
  baseURL: process.env.MODELPILOT_API_URL,
  apiKey: process.env.MODELPILOT_API_KEY,
});
// --- end of setup

import { CITY, PIXEL, SUM, TOOLS, WRONG_KEY, assert, question, refused, run } from "./features.mjs";

const tools = TOOLS.map((name) => ({ name, input_schema: CITY }));
const said = (content) => [{ role: "user", content }];
const ask = (model, content = SUM, more = {}, from = client) =>
  from.messages.create({ model, max_tokens: 2000, messages: said(content), ...more });

await run({
  async chat(model) {
    assert((await ask(model)).content[0].text.includes("84"));
  },
  async stream(model) {
    const text = await client.messages.stream({ model, max_tokens: 500, messages: said(SUM) }).finalText();
    assert(text.includes("84"), text);
  },
  async tools(model) {
    const messages = said(question());
    const { content } = await client.messages.create({ model, max_tokens: 500, messages, tools });
    const calls = content.filter((block) => block.type === "tool_use");
    assert(calls.map((call) => call.name).join() === TOOLS.join(), "both tools are called");
    messages.push({ role: "assistant", content });
    const results = calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: "12" }));
    messages.push({ role: "user", content: results });
    assert((await client.messages.create({ model, max_tokens: 500, messages, tools })).content[0].text);
  },
  async structured(model) {
    const format = { type: "json_schema", schema: CITY };
    const answer = await ask(model, "A city, please", { output_config: { format } });
    assert(JSON.parse(answer.content[0].text).city);
  },
  async image(model) {
    const picture = { type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } };
    assert((await ask(model, [{ type: "text", text: "What is this?" }, picture])).usage.input_tokens > 80);
  },
  embeddings: "Anthropic has none",
  "unknown model": (model) => refused((error) => error instanceof Anthropic.NotFoundError, () => ask(model)),
  "wrong key": (model) =>
    refused(
      (error) => error instanceof Anthropic.AuthenticationError,
      () => ask(model, SUM, {}, client.withOptions({ apiKey: WRONG_KEY })),
    ),
  async usage(model) {
    const { usage } = await ask(model);
    assert(usage.input_tokens > 0 && usage.output_tokens > 0);
    const last = await client.messages.stream({ model, max_tokens: 2000, messages: said(SUM) }).finalMessage();
    assert(last.usage.input_tokens === usage.input_tokens, "the stream counts the same");
    assert(last.usage.output_tokens === usage.output_tokens, "the stream counts the same");
  },
  async cancel(model) {
    for await (const event of await ask(model, SUM, { stream: true })) if (event.type === "content_block_delta") break;
  },
});
