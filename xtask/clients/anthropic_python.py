"""The `anthropic` Python SDK, unchanged, against running servers: `anthropic_python.py BASE_URL VECTORS_URL KEYED_URL KEY`.

The third server asks for a key. Every check fails loudly; what passes is counted.
"""

import asyncio
import sys

import anthropic

BASE, _, KEYED, KEY = sys.argv[1:5]
client = anthropic.Anthropic(base_url=BASE, api_key="none", max_retries=0)
messages = [{"role": "user", "content": "What is Ingle?"}]
# the SDK has no parameter for it any more
greedy = {"temperature": 0}
tools = [{
    "name": "tell_the_weather",
    "description": "What the weather is like.",
    "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
}]
checks = []


def check(function):
    checks.append(function)
    return function


def ask(client=client, extra_body=greedy, **request):
    return client.messages.create(
        **{"model": "ember", "messages": messages, "max_tokens": 40, "extra_body": extra_body, **request}
    )


def raises(kind, call=ask, **request):
    try:
        call(**request)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} for {request}")


@check
def an_answer():
    answer = ask()
    assert answer.type == "message" and answer.role == "assistant" and answer.model == "ember"
    assert [block.type for block in answer.content] == ["text"], answer
    assert answer.content[0].text.startswith("Ingle is a local engine"), answer
    assert answer.stop_reason == "end_turn" and answer.stop_sequence is None
    assert answer.usage.output_tokens > 0
    assert ask(max_tokens=3).stop_reason == "max_tokens"


@check
def a_stream_of_events():
    whole = ask(extra_body={"seed": 3}, max_tokens=30)
    events = list(ask(extra_body={"seed": 3}, max_tokens=30, stream=True))
    assert [event.type for event in events if event.type != "content_block_delta"] == [
        "message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop",
    ], events
    text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    assert text == whole.content[0].text, (text, whole)
    last = next(event for event in events if event.type == "message_delta")
    assert last.delta.stop_reason == whole.stop_reason
    assert last.usage.output_tokens == whole.usage.output_tokens


@check
def the_stream_helper():
    whole = ask()
    with client.messages.stream(model="ember", messages=messages, max_tokens=40, extra_body=greedy) as stream:
        text = "".join(stream.text_stream)
    final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text, (text, final)
    assert final.stop_reason == "end_turn"
    # the last event corrects the first one, which does not know of the cache yet
    assert final.usage.input_tokens == ask().usage.input_tokens
    assert final.usage.cache_read_input_tokens == ask().usage.cache_read_input_tokens


@check
def tokens_are_counted():
    counted = client.messages.count_tokens(model="ember", messages=messages).input_tokens
    usage = ask().usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens
    more = client.messages.count_tokens(model="ember", messages=messages, system="Be kind.", tools=tools)
    assert more.input_tokens > counted


@check
def the_system_and_stop_sequences():
    whole = ask(system="Be kind.").content[0].text
    assert ask(system=[{"type": "text", "text": "Be kind."}]).content[0].text == whole
    word = whole.split()[2]
    stopped = ask(system="Be kind.", stop_sequences=[word])
    assert stopped.content[0].text == whole.split(word)[0]
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", word)


@check
def an_answer_that_has_begun_goes_on():
    whole = ask().content[0].text
    begun = [*messages, {"role": "assistant", "content": "Ingle is a"}]
    assert "Ingle is a" + ask(messages=begun).content[0].text == whole


@check
def tools_and_what_came_of_them():
    assert ask(tools=tools, tool_choice={"type": "auto", "disable_parallel_tool_use": True}).content
    answer = ask(tools=tools, max_tokens=8, messages=[
        {"role": "user", "content": "Is it warm?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "I should look.", "signature": ""},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "tell_the_weather", "input": {"at": "the sea"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "warm"}]},
            {"type": "text", "text": "And?"},
        ]},
    ])
    assert answer.usage.output_tokens > 0
    # what the SDK read of an answer can be sent back as it is
    first = ask()
    ask(max_tokens=4, messages=[*messages, {"role": "assistant", "content": first.content}, *messages])


@check
def what_has_no_effect_is_told():
    answer = ask(metadata={"user_id": "me"}, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2)
    said = " ".join(answer.model_extra["warnings"])
    assert "`metadata`" in said and "`budget_tokens`" in said, said


@check
def the_beta_client():
    answer = client.beta.messages.create(
        model="ember", messages=messages, max_tokens=40, betas=["context-1m-2025-08-07"], extra_body=greedy,
    )
    assert answer.content[0].text == ask().content[0].text


@check
def errors_are_the_sdks_own():
    assert "`temperature`" in str(raises(anthropic.BadRequestError, extra_body={"temperature": -1}))
    assert raises(anthropic.BadRequestError, extra_body={"tempereture": 1}).type == "invalid_request_error"
    assert raises(anthropic.NotFoundError, model="other").type == "not_found_error"
    long = [{"role": "user", "content": "long " * 5000}]
    raises(anthropic.BadRequestError, messages=long)
    raises(anthropic.BadRequestError, messages=long, stream=True)
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    error = raises(anthropic.BadRequestError, messages=[{"role": "user", "content": [picture]}])
    assert "messages.0.content.0" in str(error), error
    raises(anthropic.BadRequestError, tools=[{"type": "web_search_20250305", "name": "web_search"}])


@check
def keys():
    def of(**how):
        return anthropic.Anthropic(base_url=KEYED, max_retries=0, **how)

    assert ask(client=of(api_key=KEY), max_tokens=2).content
    assert ask(client=of(auth_token=KEY), max_tokens=2).content
    error = raises(anthropic.AuthenticationError, client=of(api_key="wrong"))
    assert error.type == "authentication_error", error


@check
def many_at_once():
    async def all_of_them():
        many = anthropic.AsyncAnthropic(base_url=BASE, api_key="none", max_retries=0)

        async def one(seed):
            answer = await ask(client=many, extra_body={"seed": seed})
            return answer.content[0].text

        alone = [await one(seed) for seed in range(8)]
        assert await asyncio.gather(*(one(seed) for seed in range(8))) == alone

    asyncio.run(all_of_them())


for function in checks:
    function()
print(f"anthropic {anthropic.__version__}: {len(checks)} checks passed")
