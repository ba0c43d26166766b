//! Nothing leaves the machine: the claim, and a detector that would see it broken.

use super::command;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

/// The program under a tracer, and the calls that it saw; `None` where there is no tracer.
fn traced(options: &[&str], args: &[&str]) -> Option<(Output, String)> {
    let tracer = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    if !tracer.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "absent: strace, or the right to use it; what the program asks of the kernel is not looked at"
        );
        return None;
    }
    let log = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "trace-{}-{}",
        std::process::id(),
        args.join("-").replace('/', "-")
    ));
    let mut command = Command::new("strace");
    command.args(["-f", "-o"]).arg(&log).args(options).arg(env!("CARGO_BIN_EXE_ingle")).args(args);
    let output = command.env("HOME", "/nonexistent").stdin(Stdio::null()).output().unwrap();
    let calls = std::fs::read_to_string(&log).unwrap();
    _ = std::fs::remove_file(&log);
    Some((output, calls))
}

const NETWORK: [&str; 2] = ["-e", "trace=socket,connect,sendto,sendmsg,sendmmsg,io_uring_setup"];

/// Calls that would leave the machine.
fn outgoing(calls: &str) -> Vec<&str> {
    let leaves = |line: &&str| {
        line.contains("connect(")
            || line.contains("io_uring_setup(")
            || (line.contains("socket(") && !line.contains("AF_UNIX"))
    };
    calls.lines().filter(leaves).collect()
}

#[test]
fn the_claim_is_put_to_the_test_and_holds() {
    let output = command(&["offline", "prove", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["verdict"], "holds", "{report:#}");
    assert_eq!(report["filter"]["holds"], true, "{report:#}");
    let attempts = report["attempts"].as_array().unwrap();
    assert!(attempts.len() >= 10, "{report:#}");
    for attempt in attempts {
        assert!(attempt["refused"].is_string(), "{attempt}");
        if attempt["control"] == true {
            assert!(attempt["refused_before"].is_null(), "a control has to get through: {attempt}");
            assert!(attempt["refused"].as_str().unwrap().contains("not permitted"), "{attempt}");
        }
    }
    assert!(attempts.iter().filter(|attempt| attempt["control"] == true).count() >= 4);
    let said = report["kernel_says"].as_array().unwrap();
    assert!(said.iter().any(|line| line == "Seccomp: 2"), "{report:#}");
    let plain = command(&["offline", "prove"]).output().unwrap();
    assert!(String::from_utf8_lossy(&plain.stdout).contains("The claim holds"), "{plain:?}");
}

#[test]
fn where_there_is_no_network_nothing_is_proved_and_answers_are_made() {
    let without = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg("-rn").arg(env!("CARGO_BIN_EXE_ingle")).args(args).env("HOME", "/nonexistent");
        command
            .stdin(Stdio::null())
            .output()
            .ok()
            .filter(|output| !String::from_utf8_lossy(&output.stderr).contains("unshare"))
    };
    let Some(answer) = without(&["run", "ember", "Hello", "--max-tokens", "4"]) else {
        return eprintln!("absent: unshare, or the right to use it; nothing is run without a network");
    };
    assert!(answer.status.success(), "{answer:?}");
    let report = without(&["offline", "prove", "--json"]).unwrap();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["verdict"], "untested", "{report:#}");
}

#[test]
fn the_part_that_is_not_sealed_is_of_no_use_for_getting_out() {
    let output = command(&["offline", "attempt", "192.0.2.1:443"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn an_answer_asks_the_kernel_for_no_connection() {
    let Some((output, calls)) = traced(&NETWORK, &["run", "ember", "Hello", "--max-tokens", "8"]) else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    assert_eq!(outgoing(&calls), Vec::<&str>::new());
    // the detector sees one that is planted
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let Some((output, calls)) = traced(&NETWORK, &["offline", "attempt", &address]) else { return };
    assert!(String::from_utf8_lossy(&output.stdout).contains("connected"), "{output:?}");
    assert!(outgoing(&calls).len() >= 2, "{calls}");
}

#[test]
fn a_server_listens_and_answers_and_cannot_connect() {
    let mut child = command(&["serve", "ember", "--port", "0", "--quiet"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit_once("//").unwrap().1;
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    // of every thread: a filter of one thread alone would leave the others free
    let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    for thread in threads {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{status}");
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let mut stream = TcpStream::connect(address).unwrap();
    let body = r#"{"prompt": "The sea", "max_tokens": 4}"#;
    write!(stream, "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_kernel_that_refuses_is_no_reason_to_go_on_silently() {
    let refuse = ["-e", "trace=seccomp", "-e", "inject=seccomp:error=EINVAL"];
    for args in [&["run", "ember", "Hello"][..], &["serve", "ember", "--port", "0"]] {
        let Some((output, _)) = traced(&refuse, args) else { return };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}: {output:?}");
        assert!(
            said.contains("give up the network") && said.contains("INGLE_UNSEALED=1"),
            "{args:?}: {said}"
        );
    }
    // strace hands a variable on with -E
    let goes_on = [&refuse[..], &["-E", "INGLE_UNSEALED=1"]].concat();
    let Some((output, _)) = traced(&goes_on, &["run", "ember", "Hello", "--max-tokens", "4"]) else { return };
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("WARNING"), "{output:?}");
}
