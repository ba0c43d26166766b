//! Other people's clients, unchanged, against the real server.
//!
//! They come from PyPI, pinned, into a folder under `target`. Where there is no Python, or the packages cannot be had, it
//! says so and checks nothing.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Scripts in `xtask/clients`, and the package that each runs. They are told of an open server, of one that asks for a key,
/// and of the key.
const PYTHON: &[(&str, &str)] = &[
    ("openai_python.py", "openai==3.54.0"),
    ("anthropic_python.py", "anthropic==2.12.0"),
    ("ollama_python.py", "ollama==0.6.3"),
];

/// A server for as long as it lives.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(binary: &Path, keys: Option<&Path>) -> Result<Server> {
        let mut command = Command::new(binary);
        command.args(["serve", "ember", "--port", "0", "--quiet"]).stdout(Stdio::piped());
        if let Some(keys) = keys {
            command.arg("--keys").arg(keys);
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let url = line.split_whitespace().last().unwrap_or_default().to_owned();
        Ok(Server { child, url })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Runs all of them.
///
/// # Errors
/// A client that does not get what it expects.
pub fn clients() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let Some(python) = environment(&target.join("clients"))? else { return Ok(()) };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(["build", "--locked", "-p", "ingle"]).current_dir(&root).status()?;
    ensure!(built.success(), "the program cannot be built");
    let binary = target.join("debug/ingle");
    let keys = target.join("clients/keys.txt");
    let key = new_key(&binary, &keys)?;
    let (server, keyed) = (Server::start(&binary, None)?, Server::start(&binary, Some(&keys))?);
    for (script, package) in PYTHON {
        let script = root.join("xtask/clients").join(script);
        let status = Command::new(&python).arg(&script).args([&server.url, &keyed.url, &key]).status()?;
        ensure!(status.success(), "{package} does not get what it expects; the lines above say what");
    }
    Ok(())
}

/// A key that a server with this file, which is made anew, knows.
fn new_key(binary: &Path, keys: &Path) -> Result<String> {
    if keys.exists() {
        std::fs::remove_file(keys)?;
    }
    let made = Command::new(binary).args(["key", "new", "client", "--keys"]).arg(keys).output()?;
    ensure!(made.status.success(), "no key can be made: {}", String::from_utf8_lossy(&made.stderr));
    Ok(String::from_utf8(made.stdout)?.trim().to_owned())
}

/// A Python with the packages; `None` where it cannot be had.
fn environment(folder: &Path) -> Result<Option<PathBuf>> {
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let ran = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    if !python.exists() && !ran(Command::new("python3").args(["-m", "venv"]).arg(folder)) {
        println!("absent: Python 3 with venv; other people's clients are not tried");
        return Ok(None);
    }
    let packages: Vec<&str> = PYTHON.iter().map(|(_, package)| *package).collect();
    if !ran(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(&packages))
    {
        println!("absent: {}; other people's clients are not tried", packages.join(", "));
        return Ok(None);
    }
    Ok(Some(python))
}
