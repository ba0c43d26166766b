//! A socket in the file system instead of a port.

use super::{Answer, Folder, Server, answer, ingle, user};
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

fn ask(path: &str, request: &[u8]) -> Answer {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    answer(&mut stream)
}

fn get(path: &str, headers: &str) -> Answer {
    ask(path, format!("GET /v1/models HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").as_bytes())
}

#[test]
fn a_socket_is_for_its_owner_alone_and_goes_with_the_server() {
    let folder = Folder::new("socket");
    let path = folder.path("ingle.sock");
    let mut server = Server::start(&["ember", "--socket", &path]);
    assert_eq!(server.place, format!("unix:{path}"));
    let about = std::fs::symlink_metadata(&path).unwrap();
    assert!(about.file_type().is_socket() && about.permissions().mode() & 0o777 == 0o600, "{about:?}");
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "nothing else is left beside it");
    // names mean nothing to it, and pages of strangers are still not let through
    for host in ["Host: localhost\r\n", "Host: whatever.example\r\n", "Host:\r\n"] {
        get(&path, host).good();
    }
    get(&path, "Host: localhost\r\nOrigin: http://evil.example\r\n").error(403);
    let body = json!({"messages": user("What is Ingle?"), "stream": true, "max_tokens": 5}).to_string();
    let kind = ["Host: localhost", "Content-Type: application/json"];
    assert!(ask(&path, &server.request("POST", "/v1/chat/completions", &kind, &body)).chunks().len() > 3);
    let pull = server.request("POST", "/api/pull", &kind, "{}");
    assert_eq!(ask(&path, &pull).status, 501, "its owner may change the models");
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(!Path::new(&path).exists());
}

#[test]
fn a_dead_servers_socket_is_replaced_and_a_living_ones_is_not() {
    let folder = Folder::new("stale");
    let path = folder.path("ingle.sock");
    drop(UnixListener::bind(&path).unwrap());
    let mut server = Server::start(&["ember", "--socket", &path]);
    get(&path, "Host: localhost\r\n").good();
    let (code, _, err) = ingle(&["serve", "ember", "--quiet", "--socket", &path]);
    assert!(code == Some(1) && err.contains(&path) && err.contains("listens there already"), "{err}");
    get(&path, "Host: localhost\r\n").good();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert!(Path::new(&path).exists());
    let second = Server::start(&["ember", "--socket", &path]);
    get(&path, "Host: localhost\r\n").good();
    drop(second);
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = Folder::new("no-socket");
    let file = folder.file("precious", "text");
    let long = folder.path(&"x".repeat(200));
    std::os::unix::fs::symlink(folder.path("elsewhere"), folder.path("link")).unwrap();
    for (path, said) in [
        (&file, "something else than a socket"),
        (&folder.path("link"), "something else than a socket"),
        (&folder.path("gone/ingle.sock"), "No such file"),
        (&folder.path(""), "something else than a socket"),
    ] {
        let (code, out, err) = ingle(&["serve", "ember", "--quiet", "--socket", path]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.contains(path.as_str()) && err.contains(said), "{err}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    let (code, _, err) = ingle(&["serve", "--socket", &long, "--port", "1"]);
    assert!(code == Some(2) && err.contains("--port"), "{err}");
}
