"""LangChain's OpenAI and Ollama clients, unchanged, against running servers: `langchain_python.py BASE_URL VECTORS_URL`.

The second server has an embedding model, `vectors`. Every check fails loudly; what passes is counted.
"""

import asyncio
import importlib.metadata
import sys

import langchain_ollama
import langchain_openai
import ollama
import openai
import pydantic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

BASE, VECTORS = sys.argv[1:3]
checks = []


def check(function):
    checks.append(function)
    return function


def chat_openai(**more):
    given = {"model": "ember", "temperature": 0, "max_tokens": 60, **more}
    return langchain_openai.ChatOpenAI(base_url=BASE + "/v1", api_key="none", max_retries=0, **given)


def chat_ollama(**more):
    return langchain_ollama.ChatOllama(base_url=BASE, **{"model": "ember", "temperature": 0, "num_predict": 60, **more})


def raises(kind, call, *values):
    try:
        call(*values)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} for {values}")


@tool
def tell_the_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is foggy in {city}."


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str = pydantic.Field(max_length=20)
    age: int = pydantic.Field(ge=0, le=120)


@check
def an_answer():
    for model in [chat_openai(), chat_ollama(), chat_openai(use_responses_api=True)]:
        answer = model.invoke("What is Ingle?")
        assert answer.text.startswith("Ingle is a local engine"), answer
        usage = answer.usage_metadata
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0, answer
    assert chat_openai(max_tokens=3).invoke("hi").response_metadata["finish_reason"] == "length"
    assert chat_ollama(num_predict=3).invoke("hi").response_metadata["done_reason"] == "length"


@check
def a_stream():
    asked = [SystemMessage("Be kind."), HumanMessage("What is Ingle?")]
    for model in [chat_openai(stream_usage=True), chat_ollama(), chat_openai(use_responses_api=True)]:
        whole, chunks = model.invoke(asked), list(model.stream(asked))
        assert len(chunks) > 3 and "".join(chunk.text for chunk in chunks) == whole.text, (chunks, whole)
        counted = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
        assert counted[-1]["output_tokens"] == whole.usage_metadata["output_tokens"], counted


@check
def a_tools_round_trip():
    asked = [HumanMessage("What is the weather in Rome?")]
    for offered, bound in [
        (chat_openai().bind_tools([tell_the_weather]), chat_openai().bind_tools([tell_the_weather], tool_choice="any")),
        (
            chat_openai().bind_tools([tell_the_weather], strict=True),
            chat_openai().bind_tools([tell_the_weather], tool_choice="tell_the_weather", parallel_tool_calls=False),
        ),
    ]:
        answer = bound.invoke(asked)
        (call, *_) = answer.tool_calls
        assert call["name"] == "tell_the_weather" and "city" in call["args"], answer
        streamed = None
        for chunk in bound.stream(asked):
            streamed = chunk if streamed is None else streamed + chunk
        assert [call["args"] for call in streamed.tool_calls] == [call["args"] for call in answer.tool_calls], streamed
        result = tell_the_weather.invoke(call)
        assert isinstance(result, ToolMessage)
        answer = AIMessage(content=answer.content, tool_calls=[call])
        assert offered.invoke([*asked, answer, result]).usage_metadata["output_tokens"] > 0
    # Ollama's API cannot force a call
    call = {"name": "tell_the_weather", "args": {"city": "Ulm"}, "id": "call_1", "type": "tool_call"}
    history = [*asked, AIMessage(content="", tool_calls=[call]), tell_the_weather.invoke(call)]
    bound = chat_ollama().bind_tools([tell_the_weather])
    assert bound.invoke(history).usage_metadata["input_tokens"] > chat_ollama().invoke(asked).usage_metadata["input_tokens"]


@check
def answers_with_a_form():
    for model, methods in [
        (chat_openai(), ["json_schema", "function_calling"]),
        (chat_openai(use_responses_api=True), ["json_schema"]),
        (chat_ollama(), ["json_schema"]),
    ]:
        for method in methods:
            person = model.with_structured_output(Person, method=method).invoke("Tell me of Tom, who is 30.")
            assert isinstance(person, Person) and 0 <= person.age <= 120, (method, person)
    said = chat_openai().with_structured_output(Person.model_json_schema(), method="json_schema").invoke("Tom is 30.")
    # a plain schema says nothing of further properties
    assert {"name", "age"} <= set(said), said


@check
def vectors():
    texts = ["a cat", "a kitten", "the stock exchange"]
    through_openai = langchain_openai.OpenAIEmbeddings(
        base_url=VECTORS + "/v1", api_key="none", model="vectors", max_retries=0, check_embedding_ctx_length=False)
    through_ollama = langchain_ollama.OllamaEmbeddings(base_url=VECTORS, model="vectors")
    first, second = through_openai.embed_documents(texts), through_ollama.embed_documents(texts)
    assert len(first) == 3 and len(first[0]) > 1
    assert all(abs(a - b) < 1e-5 for one, other in zip(first, second) for a, b in zip(one, other))
    assert max(abs(a - b) for a, b in zip(through_openai.embed_query(texts[0]), first[0])) < 1e-5


@check
def errors_are_the_sdks_own():
    error = raises(openai.BadRequestError, chat_openai(temperature=-1).invoke, "hi")
    assert error.param == "temperature"
    raises(openai.NotFoundError, chat_openai(model="other").invoke, "hi")
    long = "long " * 5000
    raises(openai.BadRequestError, chat_openai().invoke, long)
    raises(openai.BadRequestError, lambda text: list(chat_openai().stream(text)), long)
    assert raises(ollama.ResponseError, chat_ollama(model="other").invoke, "hi").status_code == 404
    assert raises(ollama.ResponseError, chat_ollama().invoke, long).status_code == 400
    assert raises(openai.BadRequestError, langchain_openai.OpenAIEmbeddings(
        base_url=BASE + "/v1", api_key="none", model="ember", max_retries=0, check_embedding_ctx_length=False,
    ).embed_query, "hi")


@check
def many_at_once():
    async def all_of_them():
        model = chat_openai(temperature=1)
        bound = [model.bind(seed=seed) for seed in range(8)]
        alone = [(await one.ainvoke("What is Ingle?")).text for one in bound]
        together = await asyncio.gather(*(one.ainvoke("What is Ingle?") for one in bound))
        assert [answer.text for answer in together] == alone

    asyncio.run(all_of_them())


for function in checks:
    function()
versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ["langchain-openai", "langchain-ollama"])
print(f"{versions}: {len(checks)} checks passed")
