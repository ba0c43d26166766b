//! What was computed of conversations survives the server, if it is asked to keep it.

use super::{Folder, Server, ingle, user};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A server that keeps prefixes in a folder.
fn keeper(folder: &str, more: &[&str]) -> Server {
    Server::start(&[&["ember", "--prefix-cache", folder], more].concat())
}

fn end(mut server: Server) {
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

/// A prompt that takes some time to compute.
fn long(subject: &str) -> String {
    format!("Tell me about {subject}, and about the lighthouse and the very old cat by the sea. ").repeat(6)
}

/// What is said to a conversation, with the tokens of it that were found.
fn says(server: &Server, messages: &Value) -> (String, u64) {
    let body = json!({"messages": messages, "temperature": 0.9, "seed": 7, "max_tokens": 24});
    let answer = server.chat(&body).good();
    let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    (text, cached.as_u64().unwrap())
}

/// The conversation after an answer and a further question.
fn goes_on(messages: &Value, answer: &str, question: &str) -> Value {
    let mut all = messages.as_array().unwrap().clone();
    all.push(json!({"role": "assistant", "content": answer}));
    all.push(json!({"role": "user", "content": question}));
    json!(all)
}

/// The files of the cache.
fn files(folder: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|extension| extension == "prefix")).collect()
}

fn only(folder: &str) -> PathBuf {
    let mut files = files(folder);
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn bytes_of(folder: &str) -> u64 {
    files(folder).iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[cfg(unix)]
#[test]
fn a_conversation_goes_on_after_a_restart_as_it_would_have_without() {
    use std::os::unix::fs::PermissionsExt;
    let place = Folder::new("prefixes-restart");
    let folder = place.path("made/here");
    let plain = Server::ember();
    let mut messages = user(&long("Ingle"));
    let mut before = 0;
    for turn in 0..3 {
        let server = keeper(&folder, &[]);
        let (text, cached) = says(&server, &messages);
        assert_eq!(text, says(&plain, &messages).0, "turn {turn}");
        assert!(turn == 0 || cached > before && cached >= 100, "turn {turn}: {cached} after {before}");
        assert_eq!(server.metric("ingle_prefix_cache_hits_total"), f64::from(u8::from(turn > 0)));
        assert_eq!(server.metric("ingle_prefix_cache_tokens_total"), cached as f64);
        // what is in the memory is not read again
        assert!(says(&server, &messages).1 > cached);
        assert_eq!(server.metric("ingle_prefix_cache_hits_total"), f64::from(u8::from(turn > 0)));
        assert_eq!(server.metric("ingle_prefix_cache_failures_total"), 0.0);
        end(server);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(Path::new(&folder)), 0o700);
        // one conversation is one file, as long as it only grows
        assert_eq!(mode(&only(&folder)), 0o600);
        messages = goes_on(&messages, &text, "And what else is there to say?");
        before = cached;
    }
}

#[test]
fn nothing_is_written_unless_somebody_asks_for_it() {
    let place = Folder::new("prefixes-off");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingle"));
    command
        .args(["serve", "ember", "--port", "0", "--quiet"])
        .current_dir(place.path(""))
        .env("HOME", place.path(""));
    let server = started(command.stderr(Stdio::null()));
    says(&server, &user(&long("nothing")));
    assert_eq!(server.metric("ingle_prefix_cache_written_bytes_total"), 0.0);
    #[cfg(unix)]
    end(server);
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 0);
}

fn started(command: &mut Command) -> Server {
    use std::io::{BufRead, BufReader};
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Server::new(child, &line)
}

#[cfg(unix)]
#[test]
fn a_server_that_is_killed_leaves_a_folder_that_can_be_used() {
    let place = Folder::new("prefixes-killed");
    let folder = place.path("cache");
    let messages = user(&long("the end"));
    let server = keeper(&folder, &[]);
    let (text, _) = says(&server, &messages);
    end(server);
    // writes nothing any more, and what it was writing is left
    let mut server = keeper(&folder, &[]);
    says(&server, &user(&long("something else")));
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let half = only(&folder);
    let left = Path::new(&folder).join(".ingle-0123456789abcdef.prefix");
    std::fs::write(&left, &std::fs::read(&half).unwrap()[..1000]).unwrap();
    // not the cache's
    let other = place.path("cache/notes.prefix");
    std::fs::write(&other, "mine").unwrap();
    let server = keeper(&folder, &[]);
    assert!(!left.exists());
    assert!(Path::new(&other).exists());
    let (again, cached) = says(&server, &messages);
    assert!(again == text && cached >= 100, "{cached}: {again}");
}

#[cfg(unix)]
#[test]
fn files_that_are_damaged_or_another_models_are_dropped_and_the_answer_is_right() {
    let place = Folder::new("prefixes-damaged");
    let (folder, other) = (place.path("cache"), place.path("other"));
    let messages = user(&long("truth"));
    let server = keeper(&folder, &[]);
    let (text, _) = says(&server, &messages);
    end(server);
    let server = keeper(&other, &["--kv", "8bit"]);
    says(&server, &messages);
    end(server);
    let (path, good) = (only(&folder), std::fs::read(only(&folder)).unwrap());
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        bytes
    };
    for (what, bytes) in [
        ("another cache's", std::fs::read(only(&other)).unwrap()),
        ("nothing", Vec::new()),
        ("no such file", b"not what it seems".repeat(100)),
        ("shortened", good[..good.len() - 1].to_vec()),
        ("its header alone", good[..400].to_vec()),
        ("lengthened", [&good[..], b"more"].concat()),
        ("another version", flipped(8)),
        ("other counts", flipped(44)),
        ("other tokens", flipped(100)),
        ("other keys", flipped(good.len() / 2)),
        ("another sum", flipped(good.len() - 1)),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let server = keeper(&folder, &[]);
        assert_eq!(says(&server, &messages), (text.clone(), 0), "{what}");
        assert_eq!(server.metric("ingle_prefix_cache_failures_total"), 1.0, "{what}");
        assert!(!path.exists(), "{what}");
    }
    // of what is another's by its name, nobody takes notice
    std::fs::write(&path, &good).unwrap();
    let server = keeper(&folder, &["--kv", "8bit"]);
    assert_eq!(says(&server, &messages).1, 0);
    assert_eq!(server.metric("ingle_prefix_cache_failures_total"), 0.0);
    end(server);
    assert_eq!(files(&folder).len(), 2);
    let server = keeper(&folder, &[]);
    let (again, cached) = says(&server, &messages);
    assert!(again == text && cached >= 100, "{cached}: {again}");
}

/// Memory for little more than one conversation, so that every further one is to be written.
const TIGHT: [&str; 4] = ["--context", "256", "--kv-memory", "1"];

#[test]
fn what_the_memory_gives_up_is_found_on_disk() {
    let place = Folder::new("prefixes-evicted");
    let server = keeper(&place.path("cache"), &TIGHT);
    let messages = user(&long("one"));
    let (text, cached) = says(&server, &messages);
    assert_eq!(cached, 0);
    says(&server, &user(&long("two")));
    says(&server, &user(&long("three")));
    server.until("it is written", |server| server.metric("ingle_prefix_cache_written_bytes_total") > 0.0);
    let (again, cached) = says(&server, &messages);
    assert!(again == text && cached >= 100, "{cached}: {again}");
    assert_eq!(server.metric("ingle_prefix_cache_hits_total"), 1.0);
    assert!(server.metric("ingle_prefix_cache_read_bytes_total") > 0.0);
}

#[cfg(unix)]
#[test]
fn the_folder_holds_no_more_than_it_may_and_the_latest() {
    let place = Folder::new("prefixes-size");
    let folder = place.path("cache");
    let size = 1_000_000;
    let server = keeper(&folder, &["--prefix-cache-size", &size.to_string()]);
    let subjects = ["one", "two", "three", "four", "five"];
    for subject in subjects {
        says(&server, &user(&long(subject)));
    }
    end(server);
    let held = bytes_of(&folder);
    assert!((1..=size).contains(&held), "{held} bytes");
    // again, with what is there
    let server = keeper(&folder, &["--prefix-cache-size", &size.to_string()]);
    assert_eq!(server.metric("ingle_prefix_cache_bytes"), held as f64);
    assert!(says(&server, &user(&long("five"))).1 >= 100, "the latest is kept");
    // not the first: the others began with its first tokens, so that it was of use later
    assert!(says(&server, &user(&long("two"))).1 < 100, "the oldest is not");
    says(&server, &user(&long("six")));
    end(server);
    assert!((1..=size).contains(&bytes_of(&folder)));
    let server = keeper(&folder, &["--prefix-cache-size", "100kB"]);
    assert!(says(&server, &user(&long("six"))).1 >= 100, "what is there is used");
    says(&server, &user(&long("seven")));
    end(server);
}

#[cfg(unix)]
#[test]
fn two_servers_share_a_folder() {
    let place = Folder::new("prefixes-two");
    let folder = place.path("cache");
    let messages = user(&long("both"));
    let two = [keeper(&folder, &TIGHT), keeper(&folder, &TIGHT)];
    let texts: Vec<String> = std::thread::scope(|scope| {
        let both: Vec<_> = two
            .iter()
            .map(|server| {
                scope.spawn(|| {
                    let text = says(server, &messages).0;
                    // the same ones at the same time
                    for subject in ["one", "two", "three", "four"] {
                        says(server, &user(&long(subject)));
                    }
                    text
                })
            })
            .collect();
        both.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(texts[0], texts[1]);
    for server in two {
        assert_eq!(server.metric("ingle_prefix_cache_failures_total"), 0.0);
        end(server);
    }
    let server = keeper(&folder, &[]);
    for subject in ["both", "one", "two", "three", "four"] {
        let (text, cached) = says(&server, &user(&long(subject)));
        assert!(cached >= 100, "{subject}: {cached}");
        assert!(subject != "both" || text == texts[0]);
    }
    assert_eq!(server.metric("ingle_prefix_cache_failures_total"), 0.0);
}

/// A full disk cannot be had everywhere: a bound on the size of files, behind which every write fails, takes its place.
#[cfg(unix)]
#[test]
fn a_disk_that_takes_nothing_changes_no_answer_and_is_told_of_once() {
    let place = Folder::new("prefixes-full");
    let (folder, log) = (place.path("cache"), place.path("log"));
    let mut command = Command::new("sh");
    let arguments = [&TIGHT[..], &["--prefix-cache", &folder]].concat().join(" ");
    // in blocks of 512 bytes or of 1024: the log has room, a prefix has none
    command.arg("-c").arg(format!(
        "trap '' XFSZ; ulimit -f 60; exec {} serve ember --port 0 {arguments} 2> {log}",
        env!("CARGO_BIN_EXE_ingle")
    ));
    let server = started(&mut command);
    refuses_nothing(&server);
    end(server);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left behind");
    let log = std::fs::read_to_string(log).unwrap();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("cannot be written")).collect();
    assert!(told.len() == 1 && told[0].contains(&folder), "{log}");
    serde_json::from_str::<Value>(told[0]).unwrap();
}

/// Answers as a plain server does, though prefixes fail.
fn refuses_nothing(server: &Server) {
    let plain = Server::ember();
    for subject in ["one", "two", "three", "four", "one"] {
        let messages = user(&long(subject));
        assert_eq!(says(server, &messages).0, says(&plain, &messages).0);
    }
    server.until("failures", |server| server.metric("ingle_prefix_cache_failures_total") >= 2.0);
    assert_eq!(server.metric("ingle_prefix_cache_written_bytes_total"), 0.0);
}

#[cfg(unix)]
#[test]
fn a_folder_that_vanishes_changes_no_answer() {
    let place = Folder::new("prefixes-vanished");
    let folder = place.path("cache");
    let server = keeper(&folder, &TIGHT);
    std::fs::remove_dir(&folder).unwrap();
    refuses_nothing(&server);
    end(server);
    assert!(!Path::new(&folder).exists(), "it may have been another disk's");
}

#[test]
fn a_place_that_cannot_be_used_is_refused_at_the_start() {
    let place = Folder::new("prefixes-place");
    let file = place.file("file", "");
    let (code, out, err) = ingle(&["serve", "ember", "--port", "0", "--prefix-cache", &file]);
    assert!(code == Some(1) && out.is_empty() && err.contains(&file), "{code:?} {out} {err}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let open = place.path("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let (code, _, err) = ingle(&["serve", "ember", "--port", "0", "--prefix-cache", &open]);
        assert!(code == Some(1) && err.contains("others can write"), "{code:?} {err}");
    }
    let (code, _, err) = ingle(&["serve", "ember", "--prefix-cache", &file, "--prefix-cache-size", "much"]);
    assert!(code == Some(2) && err.contains("12GB"), "{code:?} {err}");
}
