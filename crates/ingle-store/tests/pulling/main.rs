//! Models come whole, or not at all, whatever the other side does.

mod site;

use ingle_store::{
    Bases, Choice, Client, Digest, FetchError, Folders, Listing, NotThere, PullError, Pulled, Step, Store,
    TaggedName, pull,
};
use site::{Asked, Log, Reply, start};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    _ = std::fs::remove_dir_all(&folder);
    folder
}

/// Bytes like those of weights.
fn weights(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn digest(bytes: &[u8]) -> Digest {
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("digest-{:?}", std::thread::current().id()));
    std::fs::write(&path, bytes).unwrap();
    Digest::of_file(&path, &mut |_| {}).unwrap()
}

fn manifest(file: &[u8]) -> String {
    let layer = |kind: &str, bytes: &[u8]| {
        format!(
            r#"{{"mediaType": "application/vnd.ollama.image.{kind}", "digest": "{}", "size": {}}}"#,
            digest(bytes),
            bytes.len()
        )
    };
    format!(
        r#"{{"layers": [{}, {}, {}]}}"#,
        layer("template", b"{{ }}"),
        layer("model", file),
        layer("license", b"Do as you like.")
    )
}

/// A registry with one model; `blob` answers for its weights.
fn registry(file: Vec<u8>, blob: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> (Bases, Log) {
    let (manifest, weights) = (manifest(&file), digest(&file));
    let (base, log) = start(move |asked, before| match asked.path.as_str() {
        "/v2/library/poet/manifests/tiny" => Reply::whole(manifest.clone()),
        path if path == format!("/v2/library/poet/blobs/{weights}") => blob(asked, before),
        path if path.starts_with("/v2/library/poet/blobs/") => Reply::whole("Do as you like."),
        _ => Reply::status(404),
    });
    (Bases { registry: base, ..Bases::default() }, log)
}

fn pulled(bases: &Bases, store: &Store, name: &str) -> Result<Pulled, PullError> {
    pull(&Client::new(None).unwrap(), bases, store, name, Some(1 << 40), &mut |_| {})
}

fn listed(store: &Store) -> Listing {
    Listing::of(&Folders::default()).with(store)
}

/// Bytes of weights that the site was asked to send, if it sent all it was asked for.
fn blobs(log: &Log) -> Vec<Asked> {
    log.lock().unwrap().iter().filter(|asked| asked.path.contains("/blobs/")).cloned().collect()
}

#[test]
fn a_model_comes_is_listed_is_not_fetched_again_and_goes() {
    let file = weights(300_000);
    let (bases, log) = registry(file.clone(), {
        let file = file.clone();
        move |asked, _| Reply::part(asked, &file)
    });
    let store = Store::at(folder("comes"));
    let mut steps = Vec::new();
    let client = Client::new(None).unwrap();
    let model = pull(&client, &bases, &store, "poet:tiny", None, &mut |step| {
        if let Step::Bytes { done, all } = step {
            steps.push((done, all));
        }
    })
    .unwrap();
    assert_eq!(model.fetched, 300_015);
    assert!(steps.is_sorted() && steps.last() == Some(&(300_015, 300_015)), "{:?}", steps.last());
    let listing = listed(&store);
    let Choice::One(found) = listing.choose("poet:tiny") else { panic!("{listing:?}") };
    assert_eq!(std::fs::read(&found.path).unwrap(), file);
    found.digest.unwrap().verify(&found.path, &mut |_| {}).unwrap();
    assert!(std::fs::metadata(&found.path).unwrap().permissions().readonly());
    assert_eq!(std::fs::read(model.folder.join("LICENSE-1")).unwrap(), b"Do as you like.");
    let asked = blobs(&log).len();
    assert_eq!(pulled(&bases, &store, "poet:tiny").unwrap().fetched, 0);
    assert_eq!(blobs(&log).len(), asked, "nothing is fetched twice");
    assert_eq!(store.collect().unwrap().files, 0, "what is needed stays");
    let name: TaggedName = "poet:tiny".parse().unwrap();
    assert!(store.remove(&name).unwrap());
    assert!(!store.remove(&name).unwrap());
    assert!(listed(&store).models.is_empty());
    // what was interrupted is somebody else's, and goes only if that is asked for
    std::fs::write(store.partial().unwrap().join("other"), b"half").unwrap();
    assert_eq!(store.free().unwrap().files, 2);
    assert_eq!(store.collect().unwrap().files, 1);
}

#[test]
fn what_was_interrupted_goes_on_where_it_was() {
    let file = weights(500_000);
    let (bases, log) = registry(file.clone(), move |asked, before| {
        let reply = Reply::part(asked, &file);
        // each of the first answers brings another 100,000 bytes
        Reply { cut: (before < 4).then_some(100_000), ..reply }
    });
    let store = Store::at(folder("interrupted"));
    pulled(&bases, &store, "poet:tiny").unwrap();
    let asked: Vec<usize> = blobs(&log).iter().map(|asked| asked.from.unwrap_or(0)).collect();
    assert_eq!(asked, [0, 100_000, 200_000, 300_000, 0], "the last is the licence");
    assert!(listed(&store).troubles.is_empty());
}

#[test]
fn what_failed_goes_on_the_next_time() {
    let file = weights(400_000);
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (bases, log) = registry(file.clone(), {
        let broken = broken.clone();
        move |asked, _| {
            let reply = Reply::part(asked, &file);
            let cut = if asked.from.is_some() { 0 } else { 250_000 };
            Reply { cut: broken.load(std::sync::atomic::Ordering::Relaxed).then_some(cut), ..reply }
        }
    });
    let store = Store::at(folder("failed"));
    let failed = pulled(&bases, &store, "poet:tiny").unwrap_err();
    assert!(matches!(failed, PullError::Fetch(FetchError::Connection { .. })), "{failed}");
    assert!(listed(&store).models.is_empty(), "nothing half-visible");
    broken.store(false, std::sync::atomic::Ordering::Relaxed);
    let before = blobs(&log).len();
    pulled(&bases, &store, "poet:tiny").unwrap();
    assert_eq!(blobs(&log)[before].from, Some(250_000));
}

#[test]
fn bytes_that_were_not_published_are_not_kept() {
    let file = weights(100_000);
    for (name, lie) in [
        ("flipped", {
            let mut other = file.clone();
            other[50_000] ^= 1;
            other
        }),
        ("longer", {
            let mut other = file.clone();
            other.push(0);
            other
        }),
        ("shorter", file[..99_000].to_vec()),
        ("empty", Vec::new()),
    ] {
        let (bases, _) = registry(file.clone(), move |asked, _| match asked.from {
            Some(from) if from >= lie.len() => Reply::status(416),
            _ => Reply::part(asked, &lie),
        });
        let store = Store::at(folder(&format!("lie-{name}")));
        let refused = pulled(&bases, &store, "poet:tiny").unwrap_err();
        let right = matches!(
            refused,
            PullError::Fetch(
                FetchError::Digest { .. } | FetchError::Length { .. } | FetchError::Connection { .. }
            )
        );
        assert!(right, "{name}: {refused}");
        assert!(listed(&store).models.is_empty(), "{name}");
        // an honest server is believed afterwards
        let (bases, _) = registry(file.clone(), {
            let file = file.clone();
            move |asked, _| Reply::part(asked, &file)
        });
        pulled(&bases, &store, "poet:tiny").unwrap();
        let listing = listed(&store);
        let Choice::One(found) = listing.choose("poet:tiny") else { panic!("{name}: {listing:?}") };
        assert_eq!(std::fs::read(&found.path).unwrap(), file, "{name}");
    }
}

#[test]
fn servers_that_cannot_go_on_begin_again_and_those_that_are_busy_are_asked_again() {
    let file = weights(200_000);
    let (bases, log) = registry(file.clone(), move |_, before| match before {
        1 => Reply { cut: Some(120_000), ..Reply::whole(file.clone()) },
        2 => Reply::status(503),
        3 => Reply::status(429),
        // it does not know ranges
        _ => Reply::whole(file.clone()),
    });
    let store = Store::at(folder("no-ranges"));
    pulled(&bases, &store, "poet:tiny").unwrap();
    assert_eq!(blobs(&log)[1].from, Some(120_000));
    // one that gives other bytes than were asked for
    let file = weights(200_000);
    let (bases, _) = registry(file.clone(), move |asked, before| match asked.from {
        Some(from) if before < 4 => {
            Reply { status: 206, ..Reply::part(&Asked { from: Some(from / 2), ..asked.clone() }, &file) }
        }
        None if before == 1 => Reply { cut: Some(90_000), ..Reply::whole(file.clone()) },
        _ => Reply::part(asked, &file),
    });
    pulled(&bases, &Store::at(folder("other-range")), "poet:tiny").unwrap();
}

#[test]
fn a_file_of_unknown_length_that_is_here_already_is_not_asked_for_in_vain() {
    let file = weights(70_000);
    let (base, log) = start(move |asked, _| match asked.from {
        // all of it, and then the connection breaks in a way that looks like more
        None => Reply {
            cut: Some(file.len()),
            headers: vec!["Content-Length: 70001".into()],
            ..Reply::whole(file.clone())
        },
        Some(70_000) => Reply { headers: vec!["Content-Range: bytes */70000".into()], ..Reply::status(416) },
        _ => Reply::status(404),
    });
    let store = Store::at(folder("unknown-length"));
    // nobody has said how long it is but the answer itself, which was wrong
    let refused = pulled(&Bases::default(), &store, &format!("{base}/poet.gguf")).unwrap_err();
    assert!(matches!(refused, PullError::Fetch(FetchError::Connection { .. })), "{refused}");
    assert!(log.lock().unwrap().len() < 20);
    // what was left is all of it, as after a crash before it was kept
    let partial = std::fs::read_dir(store.partial().unwrap()).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&partial, weights(70_000)).unwrap();
    let model = pulled(&Bases::default(), &store, &format!("{base}/poet.gguf")).unwrap();
    assert_eq!(model.parts[0].bytes, 70_000);
    assert!(!model.parts[0].published, "nobody has published a digest");
}

/// A repository with three formats, and a list of files that leads elsewhere.
fn hub(file: Vec<u8>, elsewhere: Option<String>) -> (Bases, Log) {
    let sum = digest(&file).hex();
    let (base, log) = start(move |asked, _| match asked.path.as_str() {
        "/api/models/ann/Poet-GGUF/tree/main?recursive=true" => Reply::whole(format!(
            r#"[{{"type": "file", "path": "README.md", "size": 3}},
                {{"type": "directory", "path": "x"}},
                {{"type": "file", "path": "../../evil.gguf", "size": 5}},
                {{"type": "file", "path": "/etc/evil.gguf", "size": 5}},
                {{"type": "file", "path": "ingle.json", "size": 5}},
                {{"type": "file", "path": "Poet-Q4_K_M.gguf", "size": 130, "lfs": {{"oid": "{sum}", "size": {0}}}}},
                {{"type": "file", "path": "Poet-Q8_0.gguf", "size": 130, "lfs": {{"oid": "{sum}", "size": 900000000000}}}}]"#,
            file.len()
        )),
        "/ann/Poet-GGUF/resolve/main/Poet-Q4_K_M.gguf" => match &elsewhere {
            Some(elsewhere) => Reply {
                status: 302,
                headers: vec![format!("Location: {elsewhere}/blob")],
                body: Vec::new(),
                cut: None,
            },
            None => Reply::part(asked, &file),
        },
        "/blob" => Reply::part(asked, &file),
        _ => Reply::status(404),
    });
    (Bases { hub: base, hub_token: Some("secret".into()), ..Bases::default() }, log)
}

#[test]
fn a_repositorys_format_is_chosen_by_the_memory_and_names_in_it_lead_nowhere() {
    let file = weights(50_000);
    let (bases, _) = hub(file.clone(), None);
    let store = Store::at(folder("hub"));
    let client = Client::new(None).unwrap();
    let mut said = String::new();
    let model = pull(&client, &bases, &store, "ann/Poet-GGUF", Some(10_000_000), &mut |step| {
        if let Step::Chosen(why) = step {
            said = why.to_owned();
        }
    })
    .unwrap();
    assert_eq!(model.name.to_string(), "hf.co/ann/Poet-GGUF:Q4_K_M");
    assert!(said.contains("Q4_K_M is taken") && said.contains("Q8_0"), "{said}");
    assert_eq!(model.parts.len(), 1);
    assert!(matches!(listed(&store).choose("Poet-GGUF:Q4_K_M"), Choice::One(_)));
    let missing = pulled(&bases, &store, "ann/Poet-GGUF:Q2_K").unwrap_err();
    assert!(missing.to_string().contains("Q4_K_M, Q8_0"), "{missing}");
    for nothing in ["ann/Nobody", "nobody:tiny", "https://127.0.0.1:1/x.gguf"] {
        assert!(
            pulled(&Bases { registry: bases.hub.clone(), ..bases.clone() }, &store, nothing).is_err(),
            "{nothing}"
        );
    }
    for wrong in ["", "..", "../x", "a/../b", "ftp://x/y.gguf", "a b", "/etc/passwd"] {
        let refused = pulled(&bases, &store, wrong).unwrap_err();
        assert!(
            matches!(
                refused,
                PullError::NotThere(NotThere::Name(_) | NotThere::Fetch(FetchError::Insecure(_)))
            ),
            "{wrong}: {refused}"
        );
    }
}

#[test]
fn a_token_goes_to_whom_it_was_given_to_and_no_further() {
    let file = weights(50_000);
    let (elsewhere, far) = start({
        let file = file.clone();
        move |asked, _| Reply::part(asked, &file)
    });
    let (bases, near) = hub(file, Some(elsewhere));
    pulled(&bases, &Store::at(folder("token")), "ann/Poet-GGUF:Q4_K_M").unwrap();
    assert!(near.lock().unwrap().iter().all(|asked| asked.authorization.as_deref() == Some("Bearer secret")));
    let far = far.lock().unwrap();
    assert!(!far.is_empty() && far.iter().all(|asked| asked.authorization.is_none()), "{far:?}");
}

#[test]
fn two_who_fetch_the_same_do_each_other_no_harm() {
    let file = weights(2_000_000);
    let (bases, _) = registry(file.clone(), {
        let file = file.clone();
        move |asked, _| Reply::part(asked, &file)
    });
    let root = folder("two");
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let pulls: Vec<_> =
            (0..4).map(|_| scope.spawn(|| pulled(&bases, &Store::at(&root), "poet:tiny"))).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert!(outcomes.iter().any(Result::is_ok));
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(matches!(refused, PullError::Fetch(FetchError::Busy(_))), "{refused}");
    }
    let listing = listed(&Store::at(&root));
    let Choice::One(found) = listing.choose("poet:tiny") else { panic!("{listing:?}") };
    assert_eq!(std::fs::read(&found.path).unwrap(), file);
}

#[test]
fn a_damaged_store_is_told_of_and_nothing_in_it_is_removed() {
    let file = weights(10_000);
    let (bases, _) = registry(file.clone(), move |asked, _| Reply::part(asked, &file));
    let store = Store::at(folder("damaged"));
    let model = pulled(&bases, &store, "poet:tiny").unwrap();
    let manifest = model.folder.join("ingle.json");
    let good = std::fs::read_to_string(&manifest).unwrap();
    for bad in [
        "",
        "{",
        "[]",
        "{\"files\": []}",
        &good.replace("model.gguf", "../../../x"),
        &good.replace("sha256:", "sha256:/"),
    ] {
        std::fs::write(&manifest, bad).unwrap();
        let listing = listed(&store);
        assert!(listing.models.is_empty() && listing.troubles.len() == 1, "{bad}: {listing:?}");
        assert!(store.collect().is_err(), "it may need any of them");
    }
    std::fs::write(&manifest, good).unwrap();
    assert_eq!(listed(&store).models.len(), 1);
    // a model that is being replaced is none, and what is left of it goes
    std::fs::remove_file(&manifest).unwrap();
    assert!(listed(&store).models.is_empty() && listed(&store).troubles.is_empty());
    assert_eq!(store.collect().unwrap().files, 2);
    assert!(!model.folder.exists(), "its links would keep the bytes on the disk");
}
