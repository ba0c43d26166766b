//! Answers made of markers, parts of markers, JSON and text in any order, cut anywhere: nothing is lost, and every cut
//! reads like the whole.

use super::read;
use ingle_text::{Dialect, Ending};

const PARTS: &[&str] = &[
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<function=f>",
    "<parameter=a>",
    "</parameter>",
    "</function>",
    "{\"name\": \"f\", \"arguments\": {\"a\": 1}}",
    "{\"name\": \"f\", ",
    "\"arguments\": {",
    "}",
    "}}",
    "\"",
    "\\",
    "\n",
    " ",
    "a",
    "é",
    "日本",
    "😀",
    "<",
    "<|",
    "<｜",
    "[",
    "{",
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
    "<|constrain|>",
    "assistant",
    "analysis",
    "commentary",
    "final",
    " to=functions.f",
    "json",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "```json\n",
    "\n```",
    "function",
    "<｜DSML｜function_calls>",
    "</｜DSML｜function_calls>",
    "<｜DSML｜invoke name=\"",
    "f\">",
    "</｜DSML｜invoke>",
    "<｜DSML｜parameter name=\"",
    "a\" string=\"true\">",
    "a\" string=\"false\">",
    "</｜DSML｜parameter>",
    "<|tool_call>",
    "<tool_call|>",
    "call:f{",
    "<|\"|>",
    "a:",
    ",",
    "]",
    "<|channel>thought\n",
    "<channel|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[THINK]",
    "[/THINK]",
];

/// A generator of its own, so that a failure comes again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn any_answer_is_read_whole_and_alike_however_it_is_cut() {
    let mut chance = Chance(3);
    for dialect in Dialect::names() {
        for _ in 0..1500 {
            // Mostly parts that stand near each other in the list: of one dialect.
            let base = chance.below(PARTS.len());
            let text: String = (0..chance.below(24))
                .map(|_| match chance.below(3) {
                    0 => PARTS[chance.below(PARTS.len())],
                    _ => PARTS[(base + chance.below(14)) % PARTS.len()],
                })
                .collect();
            let in_reasoning = chance.below(4) == 0;
            let ending = if chance.below(2) == 0 { Ending::Turn } else { Ending::Cut };
            let whole = read(dialect, in_reasoning, &[&text], ending);
            let mut parts = Vec::new();
            let mut rest = text.as_str();
            while let Some(character) = rest.chars().next() {
                let least = character.len_utf8();
                let end = rest.ceil_char_boundary((least + chance.below(12)).min(rest.len()));
                let (part, after) = rest.split_at(end);
                parts.push(part);
                rest = after;
            }
            assert_eq!(
                read(dialect, in_reasoning, &parts, ending),
                whole,
                "{dialect} {in_reasoning} {text:?} {parts:?}"
            );
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(
                read(dialect, in_reasoning, &letters, ending),
                whole,
                "{dialect} {in_reasoning} {text:?}"
            );
        }
    }
}
