//! Options from a file.

use super::{Folder, Server, ingle};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/ingle.toml");

#[test]
fn the_example_starts_a_server() {
    let server = Server::start(&["--config", EXAMPLE]);
    server.get("/v1/models").good();
}

#[test]
fn the_example_has_every_option_and_its_examples_are_taken() {
    let (_, help, _) = ingle(&["serve", "--help"]);
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let lines = text.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
    let examples: Vec<(&str, &str)> =
        lines.filter_map(|line| Some((line.split_once(" = ")?.0, line))).collect();
    // what stands further in is what they mean
    let options = help.lines().filter(|line| line.starts_with("  ") && !line.starts_with("       "));
    let names = options.filter_map(|line| line.split_once("--")?.1.split([' ', '.']).next());
    for name in names {
        let known = ["config", "help"].contains(&name) || examples.iter().any(|(key, _)| *key == name);
        assert!(known, "--{name} is not in the example");
    }
    let folder = Folder::new("examples");
    for (key, line) in examples {
        // keys that are not there are missed after the options were read: exit code 1, and 2 if they are wrong
        let file = folder.file("ingle.toml", line);
        let (code, _, err) = ingle(&["serve", "--config", &file, "--keys", "/nonexistent"]);
        assert_eq!(code, Some(1), "{key}: {err}");
    }
}

#[test]
fn the_service_starts_what_there_is_and_waits_for_answers_to_end() {
    let unit = include_str!("../../../../packaging/ingle.service");
    let of = |text: &str, key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key));
        value.unwrap_or_else(|| panic!("no {key}")).to_owned()
    };
    let started = of(unit, "ExecStart=/usr/local/bin/ingle ").replace("/etc/ingle/ingle.toml", EXAMPLE);
    let words: Vec<&str> = started.split(' ').collect();
    let (code, _, err) = ingle(&[&words[..], &["--keys", "/nonexistent"]].concat());
    assert!(code == Some(1) && err.contains("/nonexistent"), "{err}");
    let drain: u64 = of(&std::fs::read_to_string(EXAMPLE).unwrap(), "drain = ").parse().unwrap();
    assert!(of(unit, "TimeoutStopSec=").parse::<u64>().unwrap() > drain);
}

#[test]
fn the_command_line_overrules_the_file() {
    let folder = Folder::new("overrule");
    let file = folder.file(
        "ingle.toml",
        "models = 'ember'\nname = 'filed'\nalias = ['one', 'two']\nport = 1\nquiet = false\nat-once = 0x2",
    );
    let names = |server: &Server, name: &str| server.get(&format!("/v1/models/{name}")).status;
    let server = Server::start(&["--config", &file]);
    assert_eq!(["filed", "one", "two"].map(|name| names(&server, name)), [200; 3]);
    let server = Server::start(&["ember", "--config", &file, "--name", "called", "--alias", "three"]);
    assert_eq!(["called", "three"].map(|name| names(&server, name)), [200; 2]);
    assert_eq!(["filed", "one"].map(|name| names(&server, name)), [404; 2]);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_name_and_what_would_be_right() {
    let folder = Folder::new("wrong");
    for (text, wanted) in [
        ("# options\nprot = 80", &["line 2", "`prot`", "port, "][..]),
        ("at_once = 2", &["line 1", "`at-once`"]),
        ("config = 'other.toml'", &["`config`", "there are"]),
        ("port = 123456", &["`port`", "123456", "65535"]),
        ("port = true", &["`port`", "a number"]),
        ("host = 'nowhere'", &["`host`", "`nowhere`", "address"]),
        ("quiet = 'yes'", &["`quiet`", "`true` or `false`"]),
        ("alias = [1, true]", &["`alias`", "[\"a\", \"b\"]"]),
        ("name = ['a', 'b']", &["`name`", "a text in quotes"]),
        ("kv-memory = 'much'", &["`kv-memory`", "12GB"]),
        ("[serve]\nport = 1", &["`serve`", "there are"]),
        ("port = 1\nport = 2", &["line 2", "duplicate"]),
        ("port: 1", &["line 1"]),
    ] {
        let file = folder.file("ingle.toml", text);
        // what is overruled has to be right, too
        let (code, out, err) = ingle(&["serve", "--config", &file, "--port", "0", "--host", "0.0.0.0"]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{text}: {err}");
        let said = wanted.iter().all(|word| err.contains(word));
        assert!(said && err.contains(&file) && err.lines().count() == 1, "{text}: {err}");
    }
    let (code, _, err) = ingle(&["serve", "--config", "/nonexistent/ingle.toml"]);
    assert!(code == Some(2) && err.contains("/nonexistent/ingle.toml"), "{err}");
    let file = folder.file("ingle.toml", "insecure-no-keys = true");
    let (code, _, err) = ingle(&["serve", "--config", &file, "--keys", "keys.txt"]);
    assert!(code == Some(2) && err.contains("--insecure-no-keys") && err.contains(&file), "{err}");
}
