//! Other people's clients, unchanged, against the real server.
//!
//! They come from PyPI and npm, pinned, into a folder under `target`. Where there is no Python or no Node, or the packages
//! cannot be had, it says so and goes on without them.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Scripts in `xtask/clients`, and the packages that each runs. They are told of an open server, of one with an embedding
/// model, of one that asks for a key, and of the key.
const PYTHON: &[(&str, &[&str])] = &[
    ("openai_python.py", &["openai==3.54.0"]),
    ("anthropic_python.py", &["anthropic==2.12.0"]),
    ("ollama_python.py", &["ollama==0.6.3"]),
    (
        "langchain_python.py",
        &["langchain-openai==1.7.2", "langchain-ollama==1.1.0", "langchain-core==1.6.13"],
    ),
];
/// The same for Node.
const NODE: &[(&str, &[&str])] = &[
    ("openai_node.mjs", &["openai@6.49.0", "zod@4.6.7"]),
    ("ai_node.mjs", &["ai@6.0.325", "@ai-sdk/openai-compatible@2.0.92"]),
];
/// An embedding model that is there without a download.
const EMBEDDER: &str = "crates/ingle-cpu/tests/fixtures/qwen3_embedding";

/// A server for as long as it lives.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(binary: &Path, args: &[&str]) -> Result<Server> {
        let mut command = Command::new(binary);
        command.arg("serve").args(args).args(["--port", "0", "--quiet"]).stdout(Stdio::piped());
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
    let folder = target.join("clients");
    let (python, node) = (python(&folder), node(&folder.join("node"), &root)?);
    if python.is_none() && node.is_none() {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(["build", "--locked", "-p", "ingle"]).current_dir(&root).status()?;
    ensure!(built.success(), "the program cannot be built");
    let binary = target.join("debug/ingle");
    let keys = folder.join("keys.txt");
    let key = new_key(&binary, &keys)?;
    let embedder = root.join(EMBEDDER);
    let (keys, embedder) = (keys.to_string_lossy(), embedder.to_string_lossy());
    let open = Server::start(&binary, &["ember"])?;
    let vectors = Server::start(&binary, &[&embedder, "--name", "vectors"])?;
    let keyed = Server::start(&binary, &["ember", "--keys", &keys])?;
    let servers = [&open.url, &vectors.url, &keyed.url, &key];
    // Node looks for packages beside the script
    let groups = [(python, root.join("xtask/clients"), PYTHON), (node, folder.join("node"), NODE)];
    for (program, scripts, &(script, packages)) in
        groups.iter().flat_map(|(program, scripts, all)| all.iter().map(move |one| (program, scripts, one)))
    {
        let Some(program) = program else { continue };
        let started = Instant::now();
        let status = Command::new(program).arg(scripts.join(script)).args(servers).status()?;
        let packages = packages.join(", ");
        ensure!(status.success(), "{packages}: something expected is not there; the lines above say what");
        println!("  in {:.1} s", started.elapsed().as_secs_f64());
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

fn ran(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

fn packages(scripts: &[(&str, &'static [&'static str])]) -> Vec<&'static str> {
    scripts.iter().flat_map(|(_, packages)| packages.iter().copied()).collect()
}

/// A Python with the packages; `None` where it cannot be had.
fn python(folder: &Path) -> Option<PathBuf> {
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if !python.exists() && !ran(Command::new("python3").args(["-m", "venv"]).arg(folder)) {
        println!("absent: Python 3 with venv; the clients for Python are not tried");
        return None;
    }
    let packages = packages(PYTHON);
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    if !ran(Command::new(&python).args(pip).args(&packages)) {
        println!("absent: {}; the clients for Python are not tried", packages.join(", "));
        return None;
    }
    Some(python)
}

/// A Node with the packages, and the scripts, in `folder`; `None` where it cannot be had.
fn node(folder: &Path, root: &Path) -> Result<Option<PathBuf>> {
    if !ran(Command::new("node").arg("--version").stdout(Stdio::null()).stderr(Stdio::null())) {
        println!("absent: Node; its clients are not tried");
        return Ok(None);
    }
    std::fs::create_dir_all(folder)?;
    // a folder of its own, whatever lies above it
    std::fs::write(folder.join("package.json"), r#"{"private": true}"#)?;
    let packages = packages(NODE);
    let npm = ["install", "--silent", "--no-save", "--no-audit", "--no-fund", "--no-package-lock"];
    let npm_program = if cfg!(windows) { "npm.cmd" } else { "npm" };
    if !ran(Command::new(npm_program).args(npm).args(&packages).current_dir(folder).stdout(Stdio::null())) {
        println!("absent: {}; the clients for Node are not tried", packages.join(", "));
        return Ok(None);
    }
    for (script, _) in NODE {
        std::fs::copy(root.join("xtask/clients").join(script), folder.join(script))
            .with_context(|| format!("cannot copy {script} to {}", folder.display()))?;
    }
    Ok(Some("node".into()))
}
