//! Models are carried in one file, and come out as they went in or not at all.

use ingle_store::{BundleError, Bundled, Digest, Folders, Listing, Part, Store, TaggedName, bundle, import};
use std::path::{Path, PathBuf};

/// An empty folder of a test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bundles").join(name);
    _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn bytes(count: usize, seed: u32) -> Vec<u8> {
    (0..count as u32).map(|at| ((at + seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Puts a model into a store, without a network.
fn put(store: &Store, name: &str, files: &[(&str, Vec<u8>)]) -> Bundled {
    let parts = files.iter().map(|(path, bytes)| {
        let partial = store.partial().unwrap().join("x");
        std::fs::write(&partial, bytes).unwrap();
        let digest = Digest::of_file(&partial, &mut |_| {}).unwrap();
        store.adopt(&partial, &digest).unwrap();
        Part {
            path: (*path).into(),
            digest,
            bytes: bytes.len() as u64,
            from: "https://example.org/x".into(),
            published: true,
        }
    });
    let (name, parts): (TaggedName, Vec<Part>) = (name.parse().unwrap(), parts.collect());
    store.add(&name, &parts, 7).unwrap();
    Bundled { name, parts }
}

/// Two models, which have a file in common.
fn two(root: &Path) -> (Store, Vec<Bundled>) {
    let store = Store::at(root.join("here"));
    let licence = ("LICENSE-1", b"Do as you like.".to_vec());
    let poet = put(&store, "poet:tiny", &[("model.gguf", bytes(300_000, 1)), licence.clone()]);
    let painter = put(
        &store,
        "hf.co/ann/Painter:main",
        &[("config.json", b"{}".to_vec()), ("model.safetensors", bytes(200_001, 2)), licence],
    );
    (store, vec![poet, painter])
}

fn names(store: &Store) -> Vec<String> {
    let listing = Listing::of(&Folders::default()).with(store);
    assert_eq!(listing.troubles, Vec::<String>::new());
    listing.models.iter().map(|found| found.name.clone()).collect()
}

fn quiet(_: u64, _: u64) {}

#[test]
fn what_went_in_comes_out_in_one_file_or_in_volumes() {
    let root = folder("comes-out");
    let (store, models) = two(&root);
    for (name, volume) in [("whole", None), ("volumes", Some(70_000)), ("one", Some(1 << 30))] {
        let mut last = (0, 1);
        let file = root.join(name);
        let files = bundle(&store, &models, &file, volume, &mut |done, all| last = (done, all)).unwrap();
        assert_eq!(last.0, last.1, "{name}");
        assert_eq!(
            files.len(),
            match name {
                "volumes" => 8,
                _ => 1,
            },
            "{name}"
        );
        let other = Store::at(root.join(format!("there-{name}")));
        assert_eq!(import(&other, &files[0], 9, &mut quiet).unwrap(), models, "{name}");
        assert_eq!(names(&other), ["hf.co/ann/Painter:main", "poet:tiny"], "{name}");
        for model in &models {
            assert_eq!(other.parts(&model.name).unwrap(), model.parts);
            for part in &model.parts {
                part.digest.verify(&other.blob(&part.digest), &mut |_| {}).unwrap();
            }
        }
        // once more changes nothing
        import(&other, &files[0], 9, &mut quiet).unwrap();
        assert_eq!(names(&other).len(), 2);
        // the same models make the same bytes
        let before = std::fs::read(&files[0]).unwrap();
        bundle(&store, &models, &file, volume, &mut quiet).unwrap();
        assert!(before == std::fs::read(&files[0]).unwrap(), "{name}");
    }
}

#[test]
fn a_damaged_bundle_is_refused_wherever_the_damage_is() {
    let root = folder("damaged");
    let (store, models) = two(&root);
    let file = root.join("good");
    bundle(&store, &models, &file, None, &mut quiet).unwrap();
    let good = std::fs::read(&file).unwrap();
    let other = Store::at(root.join("there"));
    let refuses = |bytes: &[u8], what: &str| {
        let bad = root.join("bad");
        std::fs::write(&bad, bytes).unwrap();
        let refused = import(&other, &bad, 0, &mut quiet).unwrap_err();
        assert!(matches!(refused, BundleError::Damaged { .. }), "{what}: {refused}");
        assert!(names(&other).is_empty(), "{what}");
        assert_eq!(other.collect().unwrap().files, 0, "{what}: nothing is left lying about");
    };
    for at in (0..good.len()).step_by(9973).chain(0..80) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        refuses(&bad, &format!("byte {at}"));
    }
    for length in [0, 5, 20, 60, 2000, good.len() / 2, good.len() - 1] {
        refuses(&good[..length], &format!("{length} bytes"));
    }
    import(&other, &file, 0, &mut quiet).unwrap();
    assert_eq!(names(&other).len(), 2);
}

/// A bundle with a table of contents of somebody else's making, and these blobs.
fn forged(root: &Path, contents: &str, blobs: &[u8]) -> PathBuf {
    let file = root.join("forged");
    std::fs::write(&file, contents).unwrap();
    let digest = Digest::of_file(&file, &mut |_| {}).unwrap().hex();
    let sum =
        (0..32).map(|at| u8::from_str_radix(&digest[2 * at..2 * at + 2], 16).unwrap()).collect::<Vec<u8>>();
    let length = (contents.len() as u64).to_le_bytes();
    std::fs::write(&file, [&b"INGLE-BUNDLE-1\n"[..], &length, &sum, contents.as_bytes(), blobs].concat())
        .unwrap();
    file
}

#[test]
fn a_bundle_that_leads_elsewhere_is_refused() {
    let root = folder("forged-root");
    let (store, models) = two(&root);
    let file = root.join("good");
    bundle(&store, &models, &file, None, &mut quiet).unwrap();
    let good = std::fs::read(&file).unwrap();
    let length = u64::from_le_bytes(good[15..23].try_into().unwrap()) as usize;
    let contents = String::from_utf8(good[55..55 + length].to_vec()).unwrap();
    let blobs = &good[55 + length..];
    let control = Store::at(root.join("control"));
    import(&control, &forged(&root, &contents, blobs), 0, &mut quiet).unwrap();
    assert_eq!(names(&control).len(), 2, "a forgery that changes nothing is taken");
    let other = Store::at(root.join("there"));
    for (from, to) in [
        ("model.gguf", "../../../../escaped.gguf"),
        ("model.gguf", "/tmp/escaped.gguf"),
        ("model.gguf", "a/../../escaped.gguf"),
        ("model.gguf", "..\\\\escaped.gguf"),
        ("model.gguf", "Ingle.json"),
        ("model.gguf", ""),
        ("\"library\"", "\"..\""),
        ("\"tiny\"", "\"../../x\""),
        ("\"tiny\"", "\"\""),
        ("sha256:", "sha256:../"),
        ("300000", "-1"),
        ("300000", "18446744073709551616"),
        ("\"models\"", "\"other\""),
    ] {
        let changed = contents.replace(from, to);
        assert_ne!(changed, contents, "{from}");
        let refused = import(&other, &forged(&root, &changed, blobs), 0, &mut quiet).unwrap_err();
        assert!(matches!(refused, BundleError::Damaged { .. }), "{from} to {to}: {refused}");
    }
    for contents in ["", "{}", "[]", "{\"models\": []}", "nonsense", &"[".repeat(200_000)] {
        assert!(import(&other, &forged(&root, contents, blobs), 0, &mut quiet).is_err(), "{contents:.20}");
    }
    // a length that nobody has the memory for
    let mut long = good.clone();
    long[15..23].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(root.join("long"), long).unwrap();
    assert!(import(&other, &root.join("long"), 0, &mut quiet).is_err());
    assert!(names(&other).is_empty());
}

#[test]
fn an_interrupted_bundle_is_gone_on_with_and_a_damaged_model_is_not_bundled() {
    let root = folder("interrupted");
    let (store, models) = two(&root);
    let file = root.join("good");
    bundle(&store, &models, &file, Some(100_000), &mut quiet).unwrap();
    let volumes: Vec<PathBuf> = (1..=6).map(|at| root.join(format!("good.{at:03}"))).collect();
    let good: Vec<Vec<u8>> = volumes.iter().map(|path| std::fs::read(path).unwrap()).collect();
    // as if the program had been ended in the third volume, with wrong bytes at its end
    for (at, path) in volumes.iter().enumerate() {
        std::fs::remove_file(path).unwrap();
        let part = format!("{}.part", path.display());
        match at {
            0 | 1 => std::fs::write(part, &good[at]).unwrap(),
            2 => std::fs::write(part, [&good[at][..40_000], &[0; 70_000]].concat()).unwrap(),
            _ => {}
        }
    }
    bundle(&store, &models, &file, Some(100_000), &mut quiet).unwrap();
    for (path, good) in volumes.iter().zip(&good) {
        assert!(std::fs::read(path).unwrap() == *good, "{}", path.display());
    }
    // a set without one of its volumes
    std::fs::remove_file(&volumes[3]).unwrap();
    let other = Store::at(root.join("there"));
    assert!(import(&other, &volumes[0], 0, &mut quiet).is_err());
    assert!(names(&other).is_empty());

    let part = models[0].parts[0].clone();
    let blob = store.blob(&part.digest);
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[1234] ^= 1;
    std::fs::remove_file(&blob).unwrap();
    for damaged in [bytes.clone(), bytes[..1000].to_vec(), [&bytes[..], b"more"].concat()] {
        std::fs::write(&blob, damaged).unwrap();
        let refused = bundle(&store, &models, &root.join("bad"), None, &mut quiet).unwrap_err();
        assert!(matches!(refused, BundleError::Source { .. }), "{refused}");
        assert!(!root.join("bad").exists(), "it has no name before it is whole");
    }
}
