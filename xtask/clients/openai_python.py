"""The `openai` Python SDK, unchanged, against a running server: `openai_python.py BASE_URL`.

Every check fails loudly; what passes is counted.
"""

import asyncio
import sys

import openai

BASE = sys.argv[1]
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
