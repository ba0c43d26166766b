"""The `ollama` Python client, unchanged, against running servers: `ollama_python.py BASE_URL VECTORS_URL`.

The second server has an embedding model, `vectors`. Every check fails loudly; what passes is counted.
"""

import asyncio
import importlib.metadata
import sys

import ollama

BASE, VECTORS = sys.argv[1:3]
client = ollama.Client(host=BASE)
messages = [{"role": "user", "content": "What is Ingle?"}]
checks = []


def check(function):
    checks.append(function)
    return function


def raises(status, call, *values, **request):
    try:
        answer = call(*values, **request)
        # a stream fails where it is read
        if request.get("stream"):
            list(answer)
    except ollama.ResponseError as error:
        assert error.status_code == status, (error.status_code, error)
        return error.error
    raise AssertionError(f"no ResponseError for {values} {request}")


def tell_the_weather(city: str) -> str:
    """The weather in a city.

    Args:
      city: Its name
    """
    return f"It is foggy in {city}."


@check
def an_answer():
    answer = client.chat("ember", messages, options={"temperature": 0})
    assert answer.message.content.startswith("Ingle is a local engine"), answer
    assert (answer.model, answer.message.role, answer.done, answer.done_reason) == ("ember", "assistant", True, "stop")
    assert answer.prompt_eval_count > 0 and answer.eval_count > 0 and answer.total_duration >= answer.eval_duration


@check
def a_stream():
    options = {"seed": 3, "num_predict": 30}
    whole = client.chat("ember", messages, options=options)
    chunks = list(client.chat("ember", messages, options=options, stream=True))
    assert "".join(chunk.message.content for chunk in chunks) == whole.message.content
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].eval_count == whole.eval_count


@check
def a_prompt():
    options = ollama.Options(temperature=0, num_predict=20, stop=["nowhere"])
    whole = client.generate("ember:latest", "What is Ingle?", options=options)
    assert whole.response.startswith("Ingle is a local engine"), whole
    parts = client.generate("ember", "What is Ingle?", options=options, stream=True)
    assert "".join(part.response for part in parts) == whole.response
    assert client.generate("ember", "Once upon", raw=True, options=options).response
    assert client.generate("ember").done_reason == "load"
    assert client.generate("ember", "hi", system="Be brief.", think=False, keep_alive="5m", options=options).done


@check
def likely_tokens():
    answer = client.chat("ember", messages, options={"temperature": 0}, logprobs=True, top_logprobs=2)
    assert "".join(token.token for token in answer.logprobs) == answer.message.content
    assert all(len(token.top_logprobs) == 2 for token in answer.logprobs)


@check
def tools_and_what_they_answered():
    options = {"temperature": 0, "num_predict": 1}
    plain = client.chat("ember", messages, options=options).prompt_eval_count
    offered = client.chat("ember", messages, tools=[tell_the_weather], options=options).prompt_eval_count
    assert offered > plain
    call = ollama.Message.ToolCall(
        function=ollama.Message.ToolCall.Function(name="tell_the_weather", arguments={"city": "Ulm"})
    )
    history = [
        *messages,
        ollama.Message(role="assistant", thinking="Let me see.", tool_calls=[call]),
        ollama.Message(role="tool", tool_name="tell_the_weather", content=tell_the_weather("Ulm")),
    ]
    assert client.chat("ember", history, tools=[tell_the_weather], options=options).prompt_eval_count > offered


@check
def models():
    (model,) = client.list().models
    assert (model.model, model.size > 0, model.details.family != "") == ("ember:latest", True, True)
    assert client.chat(model.model, messages, options={"num_predict": 1}).model == model.model
    (running,) = client.ps().models
    assert running.model == "ember:latest" and running.expires_at.year > 2100 and running.context_length > 0
    shown = client.show("ember")
    assert "completion" in shown.capabilities and shown.modelinfo["general.parameter_count"] > 0
    assert shown.modified_at == model.modified_at


@check
def vectors():
    other = ollama.Client(host=VECTORS)
    several = other.embed("vectors", ["a cat", "a kitten"])
    assert len(several.embeddings) == 2 and several.prompt_eval_count > 0 and several.model == "vectors"
    (one,) = other.embed("vectors:latest", "a cat").embeddings
    older = other.embeddings("vectors", "a cat").embedding
    assert all(abs(a - b) < 1e-5 and abs(a - c) < 1e-5 for a, b, c in zip(one, several.embeddings[0], older))
    assert len(other.embed("vectors", "a cat", dimensions=8).embeddings[0]) == 8
    assert "embedding" in other.show("vectors").capabilities


@check
def vectors_are_not_this_models():
    assert "embeddings" in raises(400, client.embed, "ember", "a text")
    assert "embeddings" in raises(400, client.embeddings, "ember", "a text")
    assert client.embed("ember").embeddings == []


@check
def errors_are_the_clients_own():
    for stream in [False, True]:
        assert "not found" in raises(404, client.chat, "other", messages, stream=stream)
        assert "temperature" in raises(400, client.chat, "ember", messages, options={"temperature": -1}, stream=stream)
        long = [{"role": "user", "content": "long " * 5000}]
        assert "context" in raises(400, client.chat, "ember", long, stream=stream)
    assert "num_ctx" in raises(400, client.generate, "ember", "hi", options={"num_ctx": 10**7})
    raises(400, client.chat, "ember", [{"role": "user", "content": "hi", "images": [b"x"]}])
    raises(400, client.generate, "ember", "hi", suffix="there")
    raises(404, client.show, "other")
    for call, values in [
        (client.pull, ["ember"]), (client.push, ["ember"]), (client.delete, ["ember"]), (client.copy, ["ember", "b"]),
    ]:
        assert "ingle serve MODEL" in raises(501, call, *values)


@check
def many_at_once():
    async def all_of_them():
        many = ollama.AsyncClient(host=BASE)

        async def one(seed):
            answer = await many.chat("ember", messages, options={"seed": seed, "num_predict": 40})
            return answer.message.content

        alone = [await one(seed) for seed in range(12)]
        assert await asyncio.gather(*(one(seed) for seed in range(12))) == alone

    asyncio.run(all_of_them())


for function in checks:
    function()
print(f"ollama {importlib.metadata.version('ollama')}: {len(checks)} checks passed")
