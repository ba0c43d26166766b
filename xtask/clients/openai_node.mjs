// The `openai` package for Node, unchanged, against running servers: `openai_node.mjs BASE_URL VECTORS_URL`.
//
// The second server has an embedding model, `vectors`. Every check fails loudly; what passes is counted.

import assert from "node:assert/strict";
import { z } from "zod";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { VERSION } from "openai/version";

const [base, vectors] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is Ingle?" }];
const greedy = { model: "ember", temperature: 0, max_completion_tokens: 60 };
const Person = z.object({ name: z.string().max(20), age: z.number().int().min(0).max(120) });
const weather = {
  name: "tell_the_weather",
  description: "What the weather is like.",
  parameters: {
    type: "object",
    properties: { city: { type: "string", maxLength: 20 } },
    required: ["city"],
    additionalProperties: false,
  },
};

const checks = {
  async anAnswer() {
    const answer = await client.chat.completions.create({ ...greedy, messages });
    assert.match(answer.choices[0].message.content, /^Ingle is a local engine/);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  },

  async aStream() {
    const asked = { ...greedy, messages, temperature: 1, seed: 3 };
    const whole = await client.chat.completions.create(asked);
    const stream = await client.chat.completions.create({
      ...asked, stream: true, stream_options: { include_usage: true },
    });
    let text = "", usage;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
    const helper = client.chat.completions.stream(asked);
    assert.equal(await helper.finalContent(), text);
  },

  async aStreamThatIsLeft() {
    const stream = await client.chat.completions.create({ ...greedy, messages, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0].delta.content) break;
    }
    assert.ok(stream.controller.signal.aborted);
    await assert.rejects(
      client.chat.completions.create({ ...greedy, messages }, { signal: AbortSignal.timeout(1) }),
      OpenAI.APIUserAbortError,
    );
    await checks.anAnswer();
  },

  async answersWithAForm() {
    const asked = [{ role: "user", content: "Tell me of Tom, who is 30." }];
    const answer = await client.chat.completions.parse({
      ...greedy, messages: asked, response_format: zodResponseFormat(Person, "person"),
    });
    assert.ok(answer.choices[0].message.parsed.age <= 120);
    const response = await client.responses.parse({
      model: "ember", temperature: 0, input: asked, text: { format: zodTextFormat(Person, "person") },
    });
    assert.ok(response.output_parsed.age <= 120);
  },

  async aToolsRoundTrip() {
    const asked = [{ role: "user", content: "What is the weather in Rome?" }];
    const tools = [{ type: "function", function: weather }];
    const answer = await client.chat.completions.create({
      ...greedy, messages: asked, tools, tool_choice: "required", parallel_tool_calls: false,
    });
    const { message, finish_reason } = answer.choices[0];
    assert.equal(finish_reason, "tool_calls");
    assert.equal(message.tool_calls[0].function.name, "tell_the_weather");
    assert.ok("city" in JSON.parse(message.tool_calls[0].function.arguments));
    const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "It is sunny." };
    const after = await client.chat.completions.create({ ...greedy, messages: [...asked, message, result], tools });
    assert.ok(after.choices[0].message.content);
    // the helper calls the function and asks again by itself
    const told = [];
    const runner = client.chat.completions.runTools({
      ...greedy,
      messages: asked,
      tool_choice: { type: "function", function: { name: "tell_the_weather" } },
      parallel_tool_calls: false,
      tools: [{
        type: "function",
        function: { ...weather, parse: JSON.parse, function: ({ city }) => (told.push(city), "It is sunny.") },
      }],
    });
    await runner.done();
    assert.equal(told.length, 1);
  },

  async responses() {
    const asked = { model: "ember", temperature: 0, input: "What is Ingle?" };
    const answer = await client.responses.create(asked);
    assert.match(answer.output_text, /^Ingle is a local engine/);
    const stream = client.responses.stream(asked);
    const kinds = [];
    for await (const event of stream) kinds.push(event.type);
    assert.deepEqual([kinds[0], kinds.at(-1)], ["response.created", "response.completed"]);
    assert.equal((await stream.finalResponse()).output_text, answer.output_text);
    const again = await client.responses.create({ ...asked, input: "And?", previous_response_id: answer.id });
    assert.ok(again.usage.input_tokens > answer.usage.input_tokens);
    assert.equal((await client.responses.retrieve(answer.id)).output_text, answer.output_text);
    await client.responses.delete(answer.id);
    await assert.rejects(client.responses.retrieve(answer.id), OpenAI.NotFoundError);
  },

  async embeddings() {
    const other = new OpenAI({ baseURL: `${vectors}/v1`, apiKey: "none", maxRetries: 0 });
    const input = ["a cat", "a kitten"];
    // without a format the package asks for base64 and turns it back
    const usual = await other.embeddings.create({ model: "vectors", input });
    const floats = await other.embeddings.create({ model: "vectors", input, encoding_format: "float" });
    assert.equal(usual.data.length, 2);
    usual.data.forEach(({ embedding }, row) => {
      embedding.forEach((value, at) => assert.ok(Math.abs(value - floats.data[row].embedding[at]) < 1e-6));
    });
    await assert.rejects(client.embeddings.create({ model: "ember", input }), OpenAI.BadRequestError);
  },

  async models() {
    const all = [];
    for await (const model of client.models.list()) all.push(model.id);
    assert.deepEqual(all, ["ember"]);
    assert.equal((await client.models.retrieve("ember")).id, "ember");
  },

  async errorsAreThePackagesOwn() {
    const ask = (more) => client.chat.completions.create({ ...greedy, messages, ...more });
    await assert.rejects(ask({ temperature: -1 }), (error) =>
      error instanceof OpenAI.BadRequestError && error.param === "temperature");
    await assert.rejects(ask({ tempereture: 1 }), OpenAI.BadRequestError);
    await assert.rejects(ask({ model: "other" }), OpenAI.NotFoundError);
    const long = [{ role: "user", content: "long ".repeat(5000) }];
    for (const stream of [false, true]) {
      await assert.rejects(ask({ messages: long, stream }), (error) =>
        error instanceof OpenAI.BadRequestError && error.type === "exceed_context_size_error");
    }
  },

  async manyAtOnce() {
    const one = async (seed) =>
      (await client.chat.completions.create({ ...greedy, messages, temperature: 1, seed })).choices[0].message.content;
    const alone = [];
    for (let seed = 0; seed < 8; seed++) alone.push(await one(seed));
    assert.deepEqual(await Promise.all(alone.map((_, seed) => one(seed))), alone);
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check().catch((error) => { throw new Error(name, { cause: error }); });
}
console.log(`openai ${VERSION} for Node: ${Object.keys(checks).length} checks passed`);
