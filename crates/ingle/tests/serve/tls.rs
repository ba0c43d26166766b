//! TLS with a certificate from files.

use super::{Answer, Folder, PATIENCE, Server, answer, ingle, user};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve/tls/certificate.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve/tls/key.pem");
const OTHER_KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve/tls/other-key.pem");

fn start() -> Server {
    Server::start(&["ember", "--tls-cert", CERTIFICATE, "--tls-key", KEY])
}

/// A connection of somebody who trusts the certificate and no other.
fn connect(server: &Server) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(CERTIFICATE).unwrap()).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), server.connect())
}

fn ask(server: &Server, request: &[u8]) -> Answer {
    let mut stream = connect(server);
    stream.write_all(request).unwrap();
    answer(&mut stream)
}

#[test]
fn requests_and_streams_go_through_tls_and_through_nothing_else() {
    let server = start();
    assert!(server.place.starts_with("https://"), "{}", server.place);
    ask(&server, &server.request("GET", "/v1/models", &[], "")).good();
    let body = json!({"messages": user("What is Ingle?"), "stream": true, "max_tokens": 20}).to_string();
    let request = server.request("POST", "/v1/chat/completions", &["Content-Type: application/json"], &body);
    assert!(ask(&server, &request).chunks().len() > 3);
    let mut plain = server.connect();
    plain.write_all(&server.request("GET", "/v1/models", &[], "")).unwrap();
    let mut said = Vec::new();
    _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("HTTP"), "{said:?}");
}

#[test]
fn handshakes_that_do_not_end_hold_nobody_up() {
    let mut server = start();
    let silent: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    let mut garbage = server.connect();
    garbage.write_all(&[0x16, 3, 1, 255, 255]).unwrap();
    garbage.write_all(&[7; 300]).unwrap();
    let mut half = server.connect();
    half.write_all(&[0x16, 3, 1]).unwrap();
    let started = Instant::now();
    ask(&server, &server.request("GET", "/health", &[], "")).good();
    // they are let go after a time of their own
    for mut stream in silent.into_iter().take(1).chain([half, garbage]) {
        _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(started.elapsed() < PATIENCE);
    let last = server.connect();
    let told = Instant::now();
    let id = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(told.elapsed().as_secs() < 8, "{:?}", told.elapsed());
    drop(last);
}

#[test]
fn files_that_are_not_what_they_should_be_are_named() {
    let folder = Folder::new("tls");
    let empty = folder.file("empty.pem", "nothing\n");
    let broken = folder.file("broken.pem", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
    let text = std::fs::read_to_string(CERTIFICATE).unwrap();
    let strange = folder.file("strange.pem", &text.replacen("MII", "AAA", 1));
    let gone = folder.path("gone.pem");
    for (certificate, key, blamed, said) in [
        (gone.as_str(), KEY, gone.as_str(), "No such file"),
        (CERTIFICATE, gone.as_str(), gone.as_str(), "No such file"),
        (&empty, KEY, &empty, "no certificate in it"),
        (KEY, KEY, KEY, "no certificate in it"),
        (&broken, KEY, &broken, "PEM"),
        (&strange, KEY, &strange, "certificate"),
        (CERTIFICATE, &empty, &empty, "no private key in it"),
        (CERTIFICATE, CERTIFICATE, CERTIFICATE, "no private key in it"),
        (CERTIFICATE, OTHER_KEY, OTHER_KEY, "not the key of the certificate"),
    ] {
        let (code, out, err) = ingle(&["serve", "--port", "0", "--tls-cert", certificate, "--tls-key", key]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.starts_with(&format!("error: {blamed} ")) && err.contains(said), "{err}");
    }
    let (code, _, err) = ingle(&["serve", "--tls-cert", CERTIFICATE]);
    assert!(code == Some(2) && err.contains("--tls-key"), "{err}");
}
