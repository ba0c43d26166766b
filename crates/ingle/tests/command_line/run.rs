//! `ingle run` with one prompt.

use super::{command, fixture, folder, ingle, ingle_with_input, json, succeeds};
use std::io::Read;
use std::process::Command;

#[test]
fn ember_says_who_it_is() {
    let answer = json(&["run", "Who are you?", "--temperature", "0", "--json"]);
    assert!(answer["text"].as_str().unwrap().contains("Ember"), "{answer}");
    assert_eq!(answer["model"], "ember");
    assert_eq!(answer["reason"], "end_of_turn");
    let tokens = answer["tokens"].as_array().unwrap().len() as u64;
    assert_eq!(answer["usage"]["decoded_tokens"].as_u64(), Some(tokens));
    assert!(answer["usage"]["decode_tokens_per_second"].as_f64().unwrap() > 0.0, "{answer}");
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let ask =
        |seed: &str| json(&["run", "Tell me a story.", "--json", "--temperature", "1.5", "--seed", seed]);
    let (first, again) = (ask("7"), ask("7"));
    assert_eq!(first["tokens"], again["tokens"]);
    assert_eq!(first["seed"], 7);
    let others: Vec<_> = ["8", "9", "10"].into_iter().map(ask).collect();
    assert!(others.iter().any(|other| other["tokens"] != first["tokens"]), "the seed has no effect");
}

#[test]
fn only_the_answer_is_on_standard_output() {
    let ended = succeeds(&["run", "Who are you?", "--temperature", "0"]);
    let answer = json(&["run", "Who are you?", "--temperature", "0", "--json"]);
    assert_eq!(ended.out.trim_end(), answer["text"].as_str().unwrap());
    assert_eq!(ended.err.matches("demonstration").count(), 1, "{}", ended.err);
    assert!(ended.err.contains("run ./model.gguf"), "how to get a real one: {}", ended.err);
    let figures = ended.err.lines().last().unwrap();
    assert!(figures.contains("prefill") && figures.contains("decode"), "{figures}");
    assert_eq!(figures.matches("tokens/s").count(), 2, "{figures}");

    let quiet = succeeds(&["run", "Who are you?", "--temperature", "0", "--quiet"]);
    assert_eq!((quiet.out, quiet.err.as_str()), (ended.out, ""));
}

#[test]
fn what_is_piped_in_comes_before_the_prompt() {
    let options = ["--json", "--temperature", "0"];
    let piped = |args: &[&str], input: &str| {
        let ended = ingle_with_input(&[args, options.as_slice()].concat(), input.as_bytes());
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        serde_json::from_str::<serde_json::Value>(&ended.out).unwrap()
    };
    let together = piped(&["run", "What is my name?"], "My name is Ada.\n");
    let written = piped(&["run", "My name is Ada.\n\nWhat is my name?"], "");
    assert_eq!(together["tokens"], written["tokens"]);
    assert_eq!(together["usage"]["prompt_tokens"], written["usage"]["prompt_tokens"]);

    let as_prompt = piped(&["run"], "Who are you?\n");
    let as_prompt_of_named = piped(&["run", "ember"], "Who are you?\n");
    let given = piped(&["run", "ember", "Who are you?"], "");
    assert_eq!(as_prompt["tokens"], given["tokens"]);
    assert_eq!(as_prompt_of_named["tokens"], given["tokens"]);
}

#[test]
fn answers_end_where_they_are_told_to() {
    let long = ["run", "Tell me a story.", "--temperature", "0", "--json"];
    let whole = json(&long);
    let short = json(&[&long[..], &["--max-tokens", "3"]].concat());
    assert_eq!(short["reason"], "length");
    assert_eq!(short["tokens"].as_array().unwrap()[..], whole["tokens"].as_array().unwrap()[..3]);

    let text = whole["text"].as_str().unwrap();
    let word = text.split(' ').nth(3).unwrap();
    let stopped = json(&[&long[..], &["--stop", word]].concat());
    assert_eq!((&stopped["reason"], stopped["stop"].as_str()), (&"stop_text".into(), Some(word)));
    assert_eq!(stopped["text"].as_str().unwrap(), &text[..text.find(word).unwrap()]);

    let ended = succeeds(&["run", "Tell me a story.", "--max-tokens", "3"]);
    assert!(ended.err.contains("--max-tokens"), "a cut answer is said to be cut: {}", ended.err);
}

#[test]
fn a_system_prompt_reaches_the_model() {
    let plain = json(&["run", "Who are you?", "--json"]);
    let system = json(&["run", "Who are you?", "--json", "--system", "You are a pirate."]);
    let tokens = |answer: &serde_json::Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens(&system) > tokens(&plain));
}

#[test]
fn raw_prompts_are_continued_without_a_template() {
    let raw = json(&["run", "ember", "Hello there", "--raw", "--json", "--max-tokens", "2"]);
    assert_eq!(raw["usage"]["prompt_tokens"], 2);
}

#[test]
fn a_base_model_continues_text_and_says_so() {
    for model in [fixture("qwen3"), fixture("gguf/qwen2.gguf")] {
        let ended = succeeds(&["run", &model, "abc", "--max-tokens", "5", "--seed", "1"]);
        assert!(ended.err.contains("no chat template"), "{}", ended.err);
        assert!(!ended.err.contains("demonstration"), "{}", ended.err);
        let answer = json(&["run", &model, "abc", "--max-tokens", "5", "--seed", "1", "--json"]);
        assert!(answer["notices"][0].as_str().unwrap().contains("no chat template"), "{answer}");
    }
    let refused = ingle(&["run", &fixture("qwen3"), "abc", "--system", "x"]);
    assert_eq!(refused.code, Some(1));

    // what such a model cannot hear of is never dropped without a word
    let file = folder("tools-without-template").join("tools.json");
    std::fs::write(&file, r#"[{"type": "function", "function": {"name": "f"}}]"#).unwrap();
    let refused = ingle(&["run", &fixture("qwen3"), "abc", "--tools", file.to_str().unwrap()]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("tools need a chat template"), "{}", refused.err);
    let told = succeeds(&["run", &fixture("qwen3"), "abc", "--max-tokens", "2", "--no-think"]);
    assert!(told.err.contains("--no-think") && told.err.contains("no effect"), "{}", told.err);
}

#[test]
fn every_executor_answers_alike() {
    let ask = |extra: &[&str]| {
        let mut args = vec!["run", "Who are you?", "--temperature", "0", "--json", "--max-tokens", "8"];
        args.extend(extra);
        json(&args)["tokens"].clone()
    };
    let usual = ask(&[]);
    assert_eq!(ask(&["--reference"]), usual);
    // also as on a processor that has nothing better, down to one without any vector unit
    for isa in super::doctor::available_isas() {
        assert_eq!(ask(&["--isa", &isa, "--threads", "1"]), usual, "{isa}");
    }
}

#[test]
fn the_environment_chooses_threads_and_kernels() {
    let mut refused = command(&["run", "Hello"]);
    let output = refused.env("INGLE_ISA", "mmx").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("mmx"));
    let ask = ["run", "Who are you?", "--temperature", "0", "--max-tokens", "3"];
    let notes = |environment: [&str; 2], extra: &[&str]| {
        let mut command = command(&[&ask, extra].concat());
        let output =
            command.env("INGLE_ISA", environment[0]).env("INGLE_THREADS", environment[1]).output().unwrap();
        let notes = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{notes}");
        notes
    };
    assert!(!notes(["", ""], &[]).contains("threads share"), "empty is not set");
    assert!(notes(["", "1000"], &["-q", "--reference"]).is_empty(), "the reference has nothing to choose");
    let many = (std::thread::available_parallelism().unwrap().get() + 1).to_string();
    assert!(notes(["", ""], &["--threads", &many]).contains(&format!("{many} threads share")));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for args in [vec!["run", "Tell me a story."], vec!["man"], vec!["show", "ember", "--tensors"]] {
        let mut child = command(&args).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(child.wait().unwrap().success(), "{args:?}: {err}");
        assert!(!err.contains("panicked") && !err.contains("error"), "{args:?}: {err}");
    }
}

#[test]
fn nobody_reading_errors_is_no_crash() {
    for (args, code) in [(vec!["run", "./no-such.gguf"], 1), (vec!["run", "Who are you?"], 0)] {
        let mut child = command(&args).spawn().unwrap();
        drop(child.stderr.take());
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(code), "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn full_streams_are_no_crash() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for (args, code) in
        [(vec!["run", "./no-such.gguf"], 1), (vec!["run", "Who are you?"], 0), (vec!["run", "--top-q"], 2)]
    {
        let output = command(&args).stderr(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}");
    }
    for (args, what) in [
        (vec!["run", "Who are you?"], "cannot write the answer"),
        (vec!["run", "Who are you?", "--json"], "cannot write the answer"),
        (vec!["show", "ember"], "cannot write the description"),
        (vec!["--help"], "cannot write the help"),
    ] {
        let output = command(&args).stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(err.lines().last().unwrap().contains(what), "{args:?}: {err}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_single_answer_with_what_was_said() {
    // both tokens that end an answer are forbidden, so only the context's end would stop it
    let args = ["run", "Tell me a story.", "--logit-bias", "2041=-inf", "--logit-bias", "2039=-inf"];
    let mut child = command(&args).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = [0; 1];
    out.read_exact(&mut first).unwrap();
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(rest.ends_with('\n'));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.lines().last().unwrap().contains("stopped"), "{err}");
}

#[test]
fn thoughts_are_kept_apart_from_the_answer() {
    let ask = ["run", "What is 17 + 25?", "--temperature", "0"];
    let answer = json(&[&ask[..], &["--json"]].concat());
    let (text, thought) = (answer["text"].as_str().unwrap(), answer["reasoning"].as_str().unwrap());
    assert!(text.contains("42") && thought.contains("carry"), "{answer}");
    assert!(!text.contains("think>") && !thought.contains("think>"), "{answer}");

    let ended = succeeds(&ask);
    assert_eq!(ended.out.trim_end(), text, "only the answer is on standard output");
    assert!(ended.err.contains(thought), "{}", ended.err);
    let quiet = succeeds(&[&ask[..], &["--quiet"]].concat());
    assert_eq!((quiet.out.trim_end(), quiet.err.as_str()), (text, ""));

    let at_once = json(&[&ask[..], &["--json", "--no-think"]].concat());
    assert_eq!(at_once["reasoning"], "");
    let as_text = json(&[&ask[..], &["--json", "--dialect", "plain"]].concat());
    assert!(as_text["text"].as_str().unwrap().contains("<think>"), "{as_text}");
    assert_eq!(as_text["tokens"], answer["tokens"]);
}

#[test]
fn calls_of_tools_that_were_offered_are_told_apart() {
    let file = folder("tools").join("tools.json");
    let tool = r#"[{"name": "get_weather", "description": "Current weather for a city", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}}, "required": ["city"]}}]"#;
    std::fs::write(&file, tool).unwrap();
    let tools = file.to_str().unwrap();
    let ask = ["run", "What is the weather in Paris?", "--temperature", "0", "--tools", tools];
    let answer = json(&[&ask[..], &["--json"]].concat());
    let call = &answer["tool_calls"][0];
    assert_eq!(
        (&call["type"], &call["function"]["name"]),
        (&"function".into(), &"get_weather".into()),
        "{answer}"
    );
    let arguments: serde_json::Value =
        serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments["city"], "Paris");
    assert!(call["id"].as_str().is_some_and(|id| !id.is_empty()));
    assert!(!answer["text"].as_str().unwrap().contains("tool_call"), "{answer}");

    let ended = succeeds(&ask);
    assert!(ended.err.contains("tool call: get_weather {\"city\": \"Paris\"}"), "{}", ended.err);
    assert!(ended.err.contains("nothing here executes it"), "{}", ended.err);
    let quiet = succeeds(&[&ask[..], &["--quiet"]].concat());
    assert!(quiet.err.starts_with("tool call: "), "a call is part of the answer: {}", quiet.err);
}

#[test]
fn what_the_template_does_not_ask_for_is_told() {
    let ended = succeeds(&["run", "Hello", "--max-tokens", "1", "--reasoning-effort", "low"]);
    assert!(ended.err.contains("--reasoning-effort has no effect"), "{}", ended.err);
    let file = folder("no-tools").join("tools.json");
    std::fs::write(&file, "{\"weather\": true}").unwrap();
    let refused = ingle(&["run", "Hello", "--tools", file.to_str().unwrap()]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("tools.json") && refused.err.contains("OpenAI layout"), "{}", refused.err);
    assert_eq!(ingle(&["run", "Hello", "--dialect", "klingon"]).code, Some(2));
}

/// Random weights, so that nothing it says makes sense: what counts is that it is asked in Harmony and heard out.
#[test]
fn a_model_without_a_template_whose_vocabulary_shows_a_format_converses() {
    let model = folder("gpt-oss");
    let tokenizer = fixture("../../../ingle-text/tests/fixtures/gpt_oss");
    for (from, file) in [
        (fixture("gpt_oss"), "config.json"),
        (fixture("gpt_oss"), "model.safetensors"),
        (tokenizer.clone(), "tokenizer.json"),
        (tokenizer, "tokenizer_config.json"),
    ] {
        std::fs::copy(std::path::Path::new(&from).join(file), model.join(file)).unwrap();
    }
    let model = model.to_str().unwrap();
    let ask =
        ["run", model, "abc", "--max-tokens", "9", "--seed", "1", "--json", "--reasoning-effort", "high"];
    let answer = json(&ask);
    let notices = answer["notices"].to_string();
    assert!(notices.contains("harmony format") && !notices.contains("no effect"), "{answer}");
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 100, "{answer}");
    assert!(succeeds(&["show", model]).out.contains("harmony format"));
}
