// Vercel's AI SDK, unchanged, against running servers: `ai_node.mjs BASE_URL VECTORS_URL`.
//
// The second server has an embedding model, `vectors`. Every check fails loudly; what passes is counted.

import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError, Output, embed, embedMany, generateObject, generateText, stepCountIs, streamObject, streamText, tool,
} from "ai";
import { z } from "zod";

const [base, vectors] = process.argv.slice(2);
const at = (url) => createOpenAICompatible({
  name: "ingle", baseURL: `${url}/v1`, supportsStructuredOutputs: true, includeUsage: true,
});
const model = at(base).chatModel("ember");
const asked = { model, prompt: "What is Ingle?", temperature: 0, maxOutputTokens: 60, maxRetries: 0 };
const Person = z.object({ name: z.string().max(20), age: z.number().int().min(0).max(120) });
const aboutTom = { ...asked, prompt: "Tell me of Tom, who is 30." };

const checks = {
  async anAnswer() {
    const { text, finishReason, usage } = await generateText({ ...asked, system: "Be kind." });
    assert.ok(text.length > 0 && finishReason === "stop", text);
    assert.equal(usage.totalTokens, usage.inputTokens + usage.outputTokens);
    assert.match((await generateText(asked)).text, /^Ingle is a local engine/);
    assert.equal((await generateText({ ...asked, maxOutputTokens: 3 })).finishReason, "length");
  },

  async aStream() {
    const more = { ...asked, temperature: 1, seed: 3 };
    const whole = await generateText(more);
    const stream = streamText(more);
    let text = "";
    for await (const part of stream.textStream) text += part;
    assert.equal(text, whole.text);
    assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
    assert.equal(await stream.finishReason, whole.finishReason);
  },

  async textGoesOn() {
    const { text } = await generateText({ ...asked, model: at(base).completionModel("ember"), prompt: "Once upon" });
    assert.ok(text.length > 0);
  },

  async aToolsRoundTrip() {
    const told = [];
    const tools = {
      tell_the_weather: tool({
        description: "What the weather is like.",
        inputSchema: z.object({ city: z.string().max(20) }),
        execute: async ({ city }) => (told.push(city), { sky: "clear", city }),
      }),
    };
    const forced = { ...asked, prompt: "What is the weather in Rome?", tools, toolChoice: "required" };
    // the call, its result, and what is said of it, of which only the first is forced
    const later = { stopWhen: stepCountIs(2), prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber ? "none" : "required" }) };
    const { steps } = await generateText({ ...forced, ...later });
    assert.equal(steps.length, 2);
    assert.equal(steps[0].finishReason, "tool-calls");
    assert.equal(steps[0].toolCalls[0].toolName, "tell_the_weather");
    assert.equal(steps[0].toolResults[0].output.city, told[0]);
    assert.ok(steps[1].text.length > 0);
    const stream = streamText({ ...forced, toolChoice: { type: "tool", toolName: "tell_the_weather" } });
    const calls = await stream.toolCalls;
    assert.ok(calls.length > 0 && calls.every(({ input }) => typeof input.city === "string"));
  },

  async answersWithAForm() {
    assert.ok((await generateObject({ ...aboutTom, schema: Person })).object.age <= 120);
    const { partialObjectStream, object } = streamObject({ ...aboutTom, schema: Person });
    let last;
    for await (const part of partialObjectStream) last = part;
    assert.deepEqual(last, await object);
    assert.ok((await generateText({ ...aboutTom, output: Output.object({ schema: Person }) })).output.age <= 120);
    const sky = await generateObject({ ...asked, output: "enum", enum: ["clear", "cloudy"] });
    assert.ok(["clear", "cloudy"].includes(sky.object));
    const list = z.object({ name: z.string().max(8) });
    const people = await generateObject({ ...asked, maxOutputTokens: 400, output: "array", schema: list }).catch((error) => error);
    // an array has no end that Ember knows of; what is cut off is told as such
    assert.ok(Array.isArray(people.object) || people.finishReason === "length", people);
  },

  async embeddings() {
    const model = at(vectors).embeddingModel("vectors");
    const { embedding } = await embed({ model, value: "a cat" });
    const { embeddings, usage } = await embedMany({ model, values: ["a cat", "a kitten"] });
    assert.ok(embeddings.length === 2 && usage.tokens > 0);
    embedding.forEach((value, at) => assert.ok(Math.abs(value - embeddings[0][at]) < 1e-5));
  },

  async errorsAreTheSdksOwn() {
    const fails = (more) => generateText({ ...asked, ...more }).then(() => assert.fail("no error"), (error) => error);
    for (const [more, status, says] of [
      [{ temperature: -1 }, 400, /temperature/],
      [{ model: at(base).chatModel("other") }, 404, /other/],
      [{ prompt: "long ".repeat(5000) }, 400, /context/],
    ]) {
      const error = await fails(more);
      assert.ok(APICallError.isInstance(error), error);
      assert.equal(error.statusCode, status);
      assert.equal(error.isRetryable, false);
      assert.match(error.message, says);
      let heard;
      await streamText({ ...asked, ...more, onError: ({ error }) => { heard = error; } }).consumeStream();
      assert.equal(heard?.statusCode, status);
    }
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check().catch((error) => { throw new Error(name, { cause: error }); });
}
console.log(`ai with @ai-sdk/openai-compatible: ${Object.keys(checks).length} checks passed`);
