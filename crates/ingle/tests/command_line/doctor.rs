//! `ingle doctor`.

use super::{command, ingle, json, succeeds};

/// Instruction sets that `--isa` takes on this processor.
pub(super) fn available_isas() -> Vec<String> {
    let document = json(&["doctor", "--json", "--threads", "1"]);
    let isas = document["available_isas"].as_array().unwrap();
    isas.iter().map(|isa| isa.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_machine_is_described_and_measured() {
    let document = json(&["doctor", "--json"]);
    let number = |name: &str| document[name].as_u64().unwrap_or_else(|| panic!("{name}: {document}"));
    let threads = number("threads");
    assert!(1 <= threads && threads <= number("processors_by_quota"), "{document}");
    assert!(number("processors_by_quota") <= number("processors_in_affinity_mask"));
    assert!(number("processors_in_affinity_mask") <= number("processors"));
    let measured = document["measured"].as_array().unwrap();
    assert_eq!(measured[0]["threads"], threads);
    for rates in measured {
        for name in
            ["read_bytes_per_second", "integer_multiply_adds_per_second", "float_multiply_adds_per_second"]
        {
            assert!(rates[name].as_f64().unwrap() > 1e6, "{rates}");
        }
    }
    let isas = available_isas();
    assert!(
        isas.contains(&"scalar".to_owned()) && isas.contains(&document["isa"].as_str().unwrap().to_owned())
    );
    let listed =
        |list: &str, format: &str| document[list].as_array().unwrap().iter().any(|name| name == format);
    assert!(listed("full_speed_formats", "Q4_K") && listed("generic_formats", "Q2_K"));
    #[cfg(debug_assertions)]
    assert!(document["advice"].to_string().contains("--release"), "{document}");
}

#[test]
fn people_read_what_was_chosen_and_why() {
    let ended = succeeds(&["doctor", "--threads", "1", "--isa", "scalar"]);
    for part in
        ["processor", "kernels", "scalar", "1 (asked for", "GB/s", "full speed", "what costs speed", "--isa"]
    {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
    let output = command(&["doctor"]).env("INGLE_THREADS", "1").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("1 (asked for"));
    assert_eq!(ingle(&["doctor", "--reference"]).code, Some(2));
}
