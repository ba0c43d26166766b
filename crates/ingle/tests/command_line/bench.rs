//! `ingle bench`: figures beside their limits, and what cannot be measured.

use super::{command, fixture, folder, ingle, json, succeeds};
use serde_json::Value;
use std::time::{Duration, Instant};

const SHORT: [&str; 6] = ["-p", "40", "-n", "6", "-r", "2"];

fn bench(args: &[&str]) -> Value {
    json(&[&["bench", "--json"], args].concat())
}

#[test]
fn figures_stand_beside_what_the_machine_allows() {
    let document = bench(&[&SHORT[..], &["-d", "0,100", "-b", "1,3", "-t", "1,2"]].concat());
    assert_eq!((&document["model"], &document["interrupted"]), (&"ember".into(), &false.into()));
    let figures = document["figures"].as_array().unwrap();
    // at each of two depths on each of two numbers of threads: a prompt, decode, decode of three together
    assert_eq!(figures.len(), 12);
    for figure in figures {
        let number = |name: &str| figure[name].as_f64().unwrap_or_else(|| panic!("{name}: {figure}"));
        let rate = number("tokens_per_second");
        assert!(number("worst_tokens_per_second") <= rate && rate <= number("best_tokens_per_second"));
        assert!(rate > 0.0 && number("reached_percent") > 0.0);
        assert_eq!(figure["all_tokens_per_second"].as_array().unwrap().len(), 2);
        let reading = (number("weight_bytes_per_token") + number("kv_bytes_per_token"))
            / number("read_bytes_per_second");
        let arithmetic = number("integer_multiply_adds_per_token")
            / number("integer_multiply_adds_per_second")
            + number("float_multiply_adds_per_token") / number("float_multiply_adds_per_second");
        let limit = 1.0 / reading.max(arithmetic);
        assert!((number("limit_tokens_per_second") / limit - 1.0).abs() < 0.5, "{figure}");
        assert!(figure["limited_by"] == "memory" || figure["limited_by"] == "arithmetic");
    }
    let find = |work: &str, depth: u64, batch: u64| {
        let wanted = |f: &&Value| f["work"] == work && f["depth"] == depth && f["batch"] == batch;
        figures.iter().find(wanted).unwrap()
    };
    let bytes = |figure: &Value, name: &str| figure[name].as_f64().unwrap();
    let (flat, deep) = (find("decode", 0, 1), find("decode", 100, 1));
    assert_eq!(flat["weight_bytes_per_token"], deep["weight_bytes_per_token"]);
    // 4 layers, 2 KV heads, keys and values of 64 numbers and a scale of 16 bits each
    let grown = bytes(deep, "kv_bytes_per_token") - bytes(flat, "kv_bytes_per_token");
    assert_eq!(grown, 100.0 * f64::from(4 * 2 * 2 * (64 + 1) * 2));
    let three = find("decode", 0, 3);
    let share = bytes(three, "weight_bytes_per_token") / bytes(flat, "weight_bytes_per_token");
    assert!((share - 1.0 / 3.0).abs() < 0.01, "the weights are read once for three tokens: {share}");
}

#[test]
fn people_get_a_table_and_a_chart() {
    let chart = folder("bench-chart").join("speed.svg");
    let ended = succeeds(&[&["bench"], &SHORT[..], &["--svg", chart.to_str().unwrap()]].concat());
    for part in
        ["ember", "tokens/s", "limit", "reached", "prefill 40", "decode 6", "per token at", "median of 2"]
    {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
    assert!(ended.err.contains("demonstration model inside"), "{}", ended.err);
    let chart = std::fs::read_to_string(chart).unwrap();
    assert!(chart.starts_with("<svg") && chart.ends_with("</svg>\n") && chart.contains("decode 6"));
}

#[test]
fn one_kind_of_work_can_be_left_out_and_the_reference_measured() {
    let document = bench(&["-p", "0", "-n", "3", "-r", "1", &fixture("qwen3"), "--reference"]);
    assert_eq!(
        (&document["executor"], document["figures"].as_array().unwrap().len()),
        (&"reference".into(), 1)
    );
    let document =
        bench(&["-p", "9,5", "-n", "0", "-r", "1", &fixture("gguf/qwen3.gguf"), "--isa", "scalar"]);
    assert_eq!((&document["isa"], document["figures"].as_array().unwrap().len()), (&"scalar".into(), 2));
}

#[test]
fn what_cannot_be_measured_is_refused_in_words() {
    let refuses = |args: &[&str], code: i32, said: &[&str]| {
        let ended = ingle(&[&["bench"], args].concat());
        assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{args:?}: {}", ended.err);
        for part in said {
            assert!(ended.err.contains(part), "{args:?} does not say `{part}`: {}", ended.err);
        }
    };
    refuses(&["./no-such.gguf"], 1, &["./no-such.gguf", "check the path"]);
    refuses(&["-p", "0", "-n", "0"], 2, &["nothing to measure", "-p", "-n"]);
    refuses(&["-d", "2000"], 2, &["2512", "2048", "-d"]);
    refuses(&["-d", "4294967295"], 2, &["2048"]);
    refuses(&["-t", "0"], 2, &["--threads", "1 to"]);
    refuses(&["-t", "1,0"], 2, &["--threads"]);
    refuses(&["-b", "0"], 2, &["--batch", "1 to"]);
    refuses(&["-r", "0"], 2, &["above 0"]);
    refuses(&["-p", "ten"], 2, &["--prompt", "ten"]);
    refuses(&["-p", "-1"], 2, &["--prompt"]);
    refuses(&["--svg", "/no/such/folder/a.svg"], 1, &["/no/such/folder"]);
    refuses(&["--reference", "-t", "2"], 2, &["--reference"]);
    let encoder = fixture("bert_mean");
    refuses(&[&encoder], 1, &["ingle embed"]);
    let ended = succeeds(&["bench", "-p", "5", "-n", "0", "-r", "1", "-t", "64"]);
    assert!(ended.err.contains("64 threads share"), "{}", ended.err);
}

#[cfg(unix)]
#[test]
fn ctrl_c_gives_what_was_measured() {
    let mut child = command(&["bench", "-p", "8", "-n", "1500", "-r", "200", "--json"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let asked = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(asked.elapsed() < Duration::from_secs(20), "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["interrupted"], true);
    assert_eq!(document["figures"][0]["work"], "prefill", "{document}");
}
