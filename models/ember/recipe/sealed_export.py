"""sealed_export.py   writes ../eval/sealed.json: the sealed test of sealed.py as data, for programs in other languages.

Needs no torch and no model, only sealed.py, words.py and the published results in ../eval.txt.  Each check is a lambda
in sealed.py; here it becomes a kind and its arguments, read from the lambda's closure.  Before anything is written,
both forms of every check are run over every published output (398 x 398 pairs) and must agree, and on the outputs that
eval.txt holds complete (it cuts them at 150 characters) the verdict must be the published one."""
import ast, json, os, re, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import sealed

CUT = 150  # eval.txt holds so many characters of an output


def as_data(check):
    """A lambda of sealed.py as {"kind": ..., arguments}; told apart by the variables it closes over."""
    held = dict(zip(check.__code__.co_freevars, (cell.cell_contents for cell in check.__closure__ or ())))
    match sorted(held):
        case ["ks"]:
            return {"kind": "contains_any", "phrases": list(held["ks"])}
        case ["ref"]:
            return {"kind": "equals", "text": held["ref"]}
        case ["r"]:
            return {"kind": "last_number", "number": held["r"]}
        case ["n"]:
            return {"kind": "word_at_least", "word": held["n"], "count": 3}
        case ["h"]:
            return {"kind": "contains", "text": held["h"]}
        case ["bad"]:
            words = re.fullmatch(r"\\b\((.*)\)\\b", held["bad"]).group(1).split("|")
            return {"kind": "no_pronoun", "forbidden": words, "sentences": 4, "longer_than": 100}
        case ["o"]:
            return {"kind": "json_equals", "value": held["o"]}
        case []:
            return {"kind": "json_object"}
        case ["args", "name"]:
            return {"kind": "tool_call", "name": held["name"], "arguments": held["args"]}
        case ["L", "n"]:
            return {"kind": "list_distinct", "words": list(held["L"]), "count": held["n"]}
    raise SystemExit(f"sealed.py has a check that this script does not know: {sorted(held)}")


def parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


def passes(check, raw):
    """The meaning of the data, kind by kind, written without looking at the lambda."""
    answer = raw.split("</think>")[-1].strip()
    match check["kind"]:
        case "contains_any":
            return any(phrase.lower() in answer.lower() for phrase in check["phrases"])
        case "contains":
            return check["text"] in answer
        case "equals":
            return answer == check["text"]
        case "last_number":
            numbers = re.findall(r"-?[0-9]+", answer)
            return bool(numbers) and numbers[-1] == str(check["number"])
        case "word_at_least":
            return re.findall(r"\w+", answer).count(check["word"]) >= check["count"]
        case "no_pronoun":
            start = " ".join(re.split(r"(?<=[.!?])\s", answer)[: check["sentences"]])
            return len(answer) > check["longer_than"] and not set(re.findall(r"\w+", start)) & set(check["forbidden"])
        case "json_equals":
            return parsed(answer) == check["value"]
        case "json_object":
            return isinstance(parsed(answer), dict)
        case "tool_call":
            _, opened, rest = raw.partition("<tool_call>\n")
            body, closed, _ = rest.partition("\n</tool_call>")
            call = parsed(body) if opened and closed else None
            wanted = (check["name"], check["arguments"])
            return isinstance(call, dict) and (call.get("name"), call.get("arguments")) == wanted
        case "list_distinct":
            found = [word for word in re.findall(r"[a-z]+", answer.lower()) if word in check["words"]]
            return len(found) == check["count"] == len(set(found))


def published(path):
    """suite -> (right, of, [(verdict, end of the prompt, start of the output)]) for Ember, from eval.txt."""
    text = open(path, encoding="utf-8").read()
    section = text.split("==== sealed test, Ember ====\n")[1].split("\n====")[0]
    suites = {}
    for line in section.splitlines():
        if head := re.fullmatch(r"(\S.*?) +(\d+)/(\d+)", line):
            rows = []
            suites[head[1]] = (int(head[2]), int(head[3]), rows)
        elif row := re.fullmatch(r"    (ok  |FAIL) (.*)", line):
            # Both sides are Python literals: split at the arrow where both can be read.
            for arrow in re.finditer(" -> ", row[2]):
                try:
                    prompt, output = (ast.literal_eval(x) for x in (row[2][: arrow.start()], row[2][arrow.end() :]))
                except SyntaxError:
                    continue
                rows.append((row[1] == "ok  ", prompt, output))
                break
    return suites


def main():
    results = published(os.path.join(HERE, "..", "eval.txt"))
    outputs = [output for _, _, rows in results.values() for _, _, output in rows]
    suites, complete, pairs = [], 0, 0
    assert set(results) == set(sealed.T), "suites differ from eval.txt"
    for name in results:
        right, of, rows = results[name]
        assert len(sealed.T[name]) == of == len(rows) and right == sum(ok for ok, _, _ in rows), name
        items, crossed = [], 0
        for (messages, tools, check, limit), (ok, prompt, output) in zip(sealed.T[name], rows):
            assert messages[-1]["content"][-110:] == prompt, (name, prompt)
            data = as_data(check)
            for other in outputs:
                verdict = passes(data, other)
                assert verdict == bool(check(other.split("</think>")[-1].strip(), other)), (data, other)
                crossed += verdict
                pairs += 1
            if len(output) < CUT:
                assert passes(data, output) == ok, (name, prompt, output)
                complete += 1
            item = {"messages": messages, "max_new_tokens": limit, "check": data}
            if tools:
                item["tools"] = tools
            item["published"] = {"passed": ok, "output": output, "cut": len(output) >= CUT}
            items.append(item)
        suites.append({"name": name, "published_passed": right, "crossed": crossed, "items": items})
    path = os.path.join(HERE, "..", "eval", "sealed.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"about": ABOUT, "suites": suites}, file, ensure_ascii=False, indent=1)
        file.write("\n")
    total = sum(len(suite["items"]) for suite in suites)
    print(f"{total} items in {len(suites)} suites; published {sum(s['published_passed'] for s in suites)}/{total}")
    print(f"{pairs} pairs of check and output agree; {complete} outputs are complete and give the published verdict")


ABOUT = (
    "The sealed test of Ember (see MODEL_CARD.md), made by recipe/sealed_export.py from recipe/sealed.py and eval.txt. "
    "Greedy, default thinking mode. `published` is the f32 model's output; `cut` ones are its first 150 characters. "
    "`crossed` counts how many (check of this suite, published output of any suite) pairs pass, to test a checker."
)

if __name__ == "__main__":
    main()
