//! The conversation with a scripted person and a scripted model.

use super::super::lines::tests::Script;
use super::*;
use crate::console::{Notes, Style};
use ingle_engine::sampling::GenerationDefaults;
use ingle_engine::{EndReason, Event, Flow, GenerateOptions, Outcome};
use ingle_text::ToolCall;

/// Answers every conversation with what it was asked, and remembers the requests.
#[derive(Default)]
struct Echo {
    defaults: GenerationDefaults,
    asked: std::cell::RefCell<Vec<String>>,
    options: Vec<GenerateOptions>,
}

impl Partner for Echo {
    fn name(&self) -> &str {
        "echo"
    }
    fn converses(&self) -> bool {
        true
    }
    fn defaults(&self) -> &GenerationDefaults {
        &self.defaults
    }
    fn context(&self) -> usize {
        100
    }
    fn tokens(&self, prompt: Prompt) -> Result<Vec<u32>> {
        let text = match prompt {
            Prompt::Chat(request) => {
                let line = |message: &ingle_text::Message| {
                    let thought =
                        message.reasoning.iter().map(|text| format!("({text})")).collect::<String>();
                    let calls =
                        message.tool_calls.iter().map(|call| format!("[{}]", call.name)).collect::<String>();
                    format!(
                        "{}:{thought}{}{calls}",
                        message.role,
                        message.content.as_str().unwrap_or_default()
                    )
                };
                request.messages.iter().map(line).collect::<Vec<_>>().join("|")
            }
            Prompt::Plain(text) => format!("plain:{text}"),
        };
        self.asked.borrow_mut().push(text);
        Ok(vec![1, 2, 3])
    }
    fn answer(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        on_event: &mut dyn FnMut(Event) -> Flow,
    ) -> Result<Outcome> {
        self.options.push(options.clone());
        let asked = self.asked.borrow().last().cloned().unwrap_or_default();
        if asked.ends_with("fail") {
            anyhow::bail!("out of fuel");
        }
        let text = format!("answer {}", self.options.len());
        let reasoning = if asked.ends_with("why?") { "because\nso" } else { "" };
        let call =
            ToolCall { id: None, name: "get_weather".into(), arguments: "{\"city\": \"\u{1b}[2J\"}".into() };
        let calls: Vec<ToolCall> = asked.ends_with("weather?").then_some(call).into_iter().collect();
        on_event(Event::Prefill { done: 3, total: 3 });
        on_event(Event::Reasoning(reasoning));
        on_event(Event::Content(&text));
        for call in &calls {
            on_event(Event::Call(call));
        }
        let usage = Usage { prompt_tokens: prompt.len(), decoded_tokens: 2, seed: 5, ..Usage::default() };
        Ok(Outcome {
            text,
            reasoning: reasoning.into(),
            calls,
            notices: Vec::new(),
            tokens: vec![7, 8],
            reason: EndReason::Length,
            usage,
        })
    }
    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![("model", "echo".into())]
    }
}

struct Heard {
    out: String,
    notes: String,
    asked: Vec<String>,
    options: Vec<GenerateOptions>,
    remembered: Vec<String>,
}

fn hold(plain: bool, lines: &[&str]) -> Heard {
    let mut partner = Echo::default();
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let screen = Screen {
        out: &mut out,
        notes: Notes::new(&mut notes, Style::PLAIN),
        terminal: true,
        figures: true,
        apart: false,
    };
    let mut script = Script::new(lines);
    let mut repl = Repl {
        partner: &mut partner,
        conversation: Conversation::default(),
        settings: Settings::default(),
        screen,
        plain,
        answers: Vec::new(),
    };
    repl.run(&mut script).unwrap();
    Heard {
        out: String::from_utf8(out).unwrap(),
        notes: String::from_utf8(notes).unwrap(),
        asked: partner.asked.into_inner(),
        options: partner.options,
        remembered: script.remembered,
    }
}

#[test]
fn the_model_hears_the_whole_conversation() {
    let heard = hold(false, &["one", "", "/system Be brief.", "\"\"\"two", "lines\"\"\"", "/clear", "three"]);
    assert_eq!(
        heard.asked,
        [
            "user:one",
            "system:Be brief.|user:one|assistant:answer 1|user:two\nlines",
            "system:Be brief.|user:three"
        ]
    );
    assert_eq!(heard.out, "answer 1\nanswer 2\nanswer 3\n");
    assert!(
        heard.notes.contains("prefill 3 tokens") && heard.notes.contains("decode 2 tokens"),
        "{}",
        heard.notes
    );
    assert!(heard.notes.contains("--max-tokens"), "an answer cut off is said to be: {}", heard.notes);
    assert_eq!(heard.remembered, ["one", "/system Be brief.", "two\nlines", "/clear", "three"]);
}

#[test]
fn thoughts_are_beside_the_answer_and_remembered() {
    let heard = hold(false, &["why?", "two"]);
    assert_eq!(heard.out, "answer 1\nanswer 2\n");
    assert!(heard.notes.starts_with("because\nso\n\n["), "{}", heard.notes);
    assert_eq!(heard.asked[1], "user:why?|assistant:(because\nso)answer 1|user:two");
}

#[test]
fn calls_are_shown_and_remembered() {
    let heard = hold(false, &["weather?", "21 degrees"]);
    assert!(heard.notes.contains("tool call: get_weather {\"city\": \"\u{fffd}[2J\"}"), "{}", heard.notes);
    assert!(heard.notes.contains("nothing here executes it"), "{}", heard.notes);
    assert_eq!(heard.asked[1], "user:weather?|assistant:answer 1[get_weather]|user:21 degrees");
}

#[test]
fn a_failed_answer_leaves_the_conversation_as_it_was() {
    let heard = hold(false, &["fail", "one", "/bye", "never read"]);
    assert_eq!(heard.asked, ["user:fail", "user:one"]);
    assert!(heard.notes.contains("error: out of fuel"), "{}", heard.notes);
}

#[test]
fn settings_reach_the_engine() {
    let heard = hold(false, &["/set temperature 0.25", "/set max_tokens 9", "/set top_p 7", "one", "/set"]);
    assert_eq!(heard.options.len(), 1);
    assert_eq!((heard.options[0].sampling.temperature, heard.options[0].max_tokens), (0.25, Some(9)));
    assert!(heard.notes.contains("error: sampling option `top_p` is 7"), "{}", heard.notes);
    let listed = |name: &str, value: &str| {
        heard.notes.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.starts_with(&[name, value]) && (value != "0.25" || line.contains("set by you"))
        })
    };
    assert!(listed("temperature", "0.25") && listed("top_k", "40"), "{}", heard.notes);
}

#[test]
fn conversations_are_saved_and_loaded() {
    let folder = std::env::temp_dir().join(format!("ingle-repl-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (talk, other) = (folder.join("my talk.json"), folder.join("other.txt"));
    std::fs::write(&other, "precious").unwrap();
    let (save, save_over) = (format!("/save {}", talk.display()), format!("/save {}", other.display()));
    let first = hold(false, &["/system S", "one", &save, &save, &save_over]);
    assert!(first.notes.contains("other.txt exists"), "{}", first.notes);
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
    let load = format!("/load {}", talk.display());
    let second = hold(false, &[&load, "two", &format!("/load {}", other.display()), "/load /no/such"]);
    assert_eq!(second.asked, ["system:S|user:one|assistant:answer 1|user:two"]);
    assert!(second.notes.contains("not JSON") && second.notes.contains("/no/such"), "{}", second.notes);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn ctrl_c_at_the_prompt_says_how_to_leave() {
    let heard = hold(false, &["^C", "one"]);
    assert!(heard.notes.contains("/bye"), "{}", heard.notes);
    assert_eq!(heard.asked.len(), 1, "and does not leave");
}

#[test]
fn a_message_may_begin_with_a_slash_after_a_space() {
    let heard = hold(false, &["/etc/passwd holds what?", " /etc/passwd holds what?", "/hlep", "/help"]);
    assert_eq!(heard.asked, ["user: /etc/passwd holds what?"]);
    assert!(heard.notes.contains("did you mean /help"), "{}", heard.notes);
    assert!(heard.notes.contains("/load FILE"), "{}", heard.notes);
}

#[test]
fn a_base_model_continues_each_entry_alone() {
    let heard = hold(true, &["Once", "/system no", "upon"]);
    assert_eq!(heard.asked, ["plain:Once", "plain:upon"]);
    assert!(heard.notes.contains("chat template"), "{}", heard.notes);
}

#[test]
fn stats_count_all_answers() {
    let heard = hold(false, &["one", "two", "/stats"]);
    for line in ["model                    echo", "5 of 100 tokens used", "decode                   4 tokens"]
    {
        assert!(heard.notes.contains(line), "{line}: {}", heard.notes);
    }
}
