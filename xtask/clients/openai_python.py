"""The `openai` Python SDK, unchanged, against running servers: `openai_python.py BASE_URL VECTORS_URL`.

The second server has an embedding model, `vectors`. Every check fails loudly; what passes is counted.
"""

import asyncio
import json
import sys
import typing

import openai
import pydantic

BASE, VECTORS = sys.argv[1:3]
client = openai.OpenAI(base_url=BASE + "/v1", api_key="none", max_retries=0)
messages = [{"role": "user", "content": "What is Ingle?"}]
checks = []


def check(function):
    checks.append(function)
    return function


def raises(kind, **request):
    try:
        client.chat.completions.create(**{"model": "ember", "messages": messages, **request})
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} for {request}")


@check
def an_answer():
    answer = client.chat.completions.create(model="ember", messages=messages, temperature=0)
    assert answer.choices[0].message.content.startswith("Ingle is a local engine"), answer
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@check
def a_stream():
    whole = client.chat.completions.create(model="ember", messages=messages, seed=3, max_completion_tokens=30)
    stream = client.chat.completions.create(
        model="ember", messages=messages, seed=3, max_completion_tokens=30, stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content, (text, whole)
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


@check
def the_stream_helper():
    with client.chat.completions.stream(model="ember", messages=messages, temperature=0) as stream:
        events = list(stream)
    assert any(event.type == "content.done" for event in events)
    assert stream.get_final_completion().choices[0].message.content.startswith("Ingle")


@check
def choices_logprobs_and_more():
    answer = client.chat.completions.create(
        model="ember", messages=messages, n=2, logprobs=True, top_logprobs=2, seed=1, max_tokens=5,
        extra_body={"top_k": 20, "min_p": 0.05},
    )
    assert len(answer.choices) == 2
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2


@check
def text_goes_on():
    answer = client.completions.create(model="ember", prompt="Once upon", max_tokens=5, echo=True)
    assert answer.choices[0].text.startswith("Once upon")
    parts = client.completions.create(model="ember", prompt="Once upon", max_tokens=5, stream=True)
    assert "".join(part.choices[0].text for part in parts)


TOOL = {
    "name": "tell_the_weather",
    "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"],
        "additionalProperties": False,
    },
}


class Person(pydantic.BaseModel):
    name: typing.Annotated[str, pydantic.Field(max_length=20)]
    age: typing.Annotated[int, pydantic.Field(ge=0, le=120)]


@check
def answers_with_a_form():
    answer = client.chat.completions.parse(
        model="ember", messages=[{"role": "user", "content": "Tell me of Tom, who is 30."}], response_format=Person,
        temperature=0,
    )
    assert 0 <= answer.choices[0].message.parsed.age <= 120, answer


@check
def a_tools_round_trip():
    tools = [{"type": "function", "function": TOOL}]
    asked = [{"role": "user", "content": "What is the weather in Rome?"}]
    request = {"model": "ember", "tools": tools, "temperature": 0}
    answer = client.chat.completions.create(
        messages=asked, tool_choice="required", parallel_tool_calls=False, **request)
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls" and call.function.name == "tell_the_weather"
    assert "city" in json.loads(call.function.arguments)
    asked += [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "It is sunny."}]
    assert client.chat.completions.create(messages=asked, **request).choices[0].message.content
    with client.chat.completions.stream(messages=asked[:1], tool_choice="required", **request) as stream:
        list(stream)
    assert stream.get_final_completion().choices[0].message.tool_calls[0].function.name == "tell_the_weather"


@check
def responses():
    request = {"model": "ember", "temperature": 0}
    answer = client.responses.create(input="What is Ingle?", **request)
    assert answer.output_text.startswith("Ingle is a local engine") and answer.status == "completed"
    with client.responses.stream(input="What is Ingle?", **request) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == answer.output_text
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    again = client.responses.create(input="And what else?", previous_response_id=answer.id, **request)
    assert again.usage.input_tokens > answer.usage.input_tokens
    assert client.responses.retrieve(answer.id).output_text == answer.output_text
    client.responses.delete(answer.id)
    try:
        client.responses.retrieve(answer.id)
        raise AssertionError("a deleted answer was found")
    except openai.NotFoundError:
        pass
    parsed = client.responses.parse(input="Tell me of Tom, who is 30.", text_format=Person, **request)
    assert 0 <= parsed.output_parsed.age <= 120
    call = client.responses.create(
        input="Hello", tools=[{"type": "function", "strict": True, **TOOL}], tool_choice="required",
        parallel_tool_calls=False, **request,
    ).output[-1]
    assert call.type == "function_call" and "city" in json.loads(call.arguments)


@check
def vectors():
    other = openai.OpenAI(base_url=VECTORS + "/v1", api_key="none", max_retries=0)
    texts = ["a cat", "a kitten"]
    # without a format the SDK asks for base64 and turns it back
    usual = other.embeddings.create(model="vectors", input=texts)
    floats = other.embeddings.create(model="vectors", input=texts, encoding_format="float")
    assert [one.index for one in usual.data] == [0, 1] and usual.usage.prompt_tokens > 0
    for one, same in zip(usual.data, floats.data):
        assert all(abs(a - b) < 1e-6 for a, b in zip(one.embedding, same.embedding))
    assert len(other.embeddings.create(model="vectors", input="a cat", dimensions=8).data[0].embedding) == 8
    try:
        client.embeddings.create(model="ember", input="a text")
        raise AssertionError("a model of text gave a vector")
    except openai.BadRequestError:
        pass


@check
def models():
    assert [model.id for model in client.models.list()] == ["ember"]
    assert client.models.retrieve("ember").id == "ember"


@check
def errors_are_the_sdks_own():
    assert raises(openai.BadRequestError, temperature=-1).param == "temperature"
    assert raises(openai.NotFoundError, model="other").type == "model_not_found"
    long = [{"role": "user", "content": "long " * 5000}]
    assert raises(openai.BadRequestError, messages=long).type == "exceed_context_size_error"
    assert raises(openai.BadRequestError, messages=long, stream=True)
    raises(openai.BadRequestError, extra_body={"tempereture": 1})


@check
def many_at_once():
    async def all_of_them():
        many = openai.AsyncOpenAI(base_url=BASE + "/v1", api_key="none", max_retries=0)

        async def one(seed):
            answer = await many.chat.completions.create(model="ember", messages=messages, seed=seed, max_tokens=40)
            return answer.choices[0].message.content

        alone = [await one(seed) for seed in range(12)]
        assert await asyncio.gather(*(one(seed) for seed in range(12))) == alone

    asyncio.run(all_of_them())


for function in checks:
    function()
print(f"openai {openai.__version__}: {len(checks)} checks passed")
