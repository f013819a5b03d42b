// OpenAI's SDK for Node.

// --- setup
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.MODELPILOT_API_URL + "/v1",
  apiKey: process.env.MODELPILOT_API_KEY,
});
// --- end of setup

import { CITY, PIXEL, SUM, TOOLS, WRONG_KEY, assert, question, refused, run } from "./features.mjs";

const tools = TOOLS.map((name) => ({ type: "function", function: { name, parameters: CITY, strict: true } }));
const ask = (model, content = SUM, more = {}, from = client) =>
  from.chat.completions.create({ model, messages: [{ role: "user", content }], ...more });

await run({
  async chat(model) {
    assert((await ask(model)).choices[0].message.content.includes("84"));
  },
  async stream(model) {
    let text = "";
    for await (const chunk of await ask(model, SUM, { stream: true })) text += chunk.choices[0]?.delta.content ?? "";
    assert(text.includes("84"), text);
  },
  async tools(model) {
    const messages = [{ role: "user", content: question() }];
    const { message } = (await client.chat.completions.create({ model, messages, tools })).choices[0];
    assert(message.tool_calls.map((call) => call.function.name).join() === TOOLS.join(), "both tools are called");
    messages.push(message);
    for (const call of message.tool_calls) {
      assert(JSON.parse(call.function.arguments).city);
      messages.push({ role: "tool", tool_call_id: call.id, content: "12" });
    }
    assert((await client.chat.completions.create({ model, messages, tools })).choices[0].message.content);
  },
  async structured(model) {
    const schema = { type: "json_schema", json_schema: { name: "city", schema: CITY, strict: true } };
    const answer = await client.chat.completions.parse({
      model,
      messages: [{ role: "user", content: "A city, please" }],
      response_format: schema,
    });
    assert(answer.choices[0].message.parsed.city);
  },
  async image(model) {
    const picture = { type: "image_url", image_url: { url: `data:image/png;base64,${PIXEL}` } };
    assert((await ask(model, [{ type: "text", text: "What is this?" }, picture])).usage.prompt_tokens > 80);
  },
  async embeddings(model) {
    assert((await client.embeddings.create({ model, input: ["a", "b"] })).data[1].embedding.length === 256);
  },
  "unknown model": (model) => refused((error) => error instanceof OpenAI.NotFoundError, () => ask(model)),
  "wrong key": (model) =>
    refused(
      (error) => error instanceof OpenAI.AuthenticationError,
      () => ask(model, SUM, {}, client.withOptions({ apiKey: WRONG_KEY })),
    ),
  async usage(model) {
    const { usage } = await ask(model);
    assert(usage.total_tokens === usage.prompt_tokens + usage.completion_tokens && usage.total_tokens > 0);
    let last;
    for await (const chunk of await ask(model, SUM, { stream: true, stream_options: { include_usage: true } }))
      last = chunk;
    assert(last.usage.total_tokens === usage.total_tokens, "the stream counts the same");
  },
  async cancel(model) {
    for await (const chunk of await ask(model, SUM, { stream: true })) if (chunk.choices[0].delta.content) break;
  },
});
