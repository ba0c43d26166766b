//! What the server counts, in Prometheus' text format.

use crate::models::Models;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of a histogram's buckets, in seconds.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// How long something takes.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    microseconds: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|&bound| seconds <= bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }

    fn write(&self, name: &str, help: &str, out: &mut String) {
        _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut below = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let count = self.count.load(Ordering::Relaxed);
        let sum = self.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

/// A model's name as a label.
fn label(id: &str) -> String {
    let id = id.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
    format!("{{model=\"{id}\"}}")
}

/// All that is measured beside what engines count.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// From a request to the beginning of its computation.
    pub(crate) queued: Histogram,
    /// From a request to its first token.
    pub(crate) first_token: Histogram,
    /// From one token to the next.
    pub(crate) between_tokens: Histogram,
    /// From a request to its end.
    pub(crate) whole: Histogram,
    pub(crate) requests: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl Metrics {
    pub(crate) fn text(&self, models: &Models) -> String {
        let mut out = String::new();
        let mut one = |name: &str, kind: &str, help: &str, values: &[(String, f64)]| {
            _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let of = |value: fn(&ingle_engine::engine::Status) -> f64| -> Vec<(String, f64)> {
            let loaded = models.loaded();
            loaded.iter().map(|(_, served, _)| (label(&served.id), value(&served.engine.status()))).collect()
        };
        let alone = |count: &AtomicU64| vec![(String::new(), count.load(Ordering::Relaxed) as f64)];
        one("ingle_http_requests_total", "counter", "Requests answered.", &alone(&self.requests));
        one("ingle_http_refused_total", "counter", "Requests refused with an error.", &alone(&self.refused));
        let count = models.loaded().len() as f64;
        one("ingle_models_loaded", "gauge", "Models in the memory.", &[(String::new(), count)]);
        one("ingle_model_loads_total", "counter", "Models brought into the memory.", &alone(&models.loads));
        one("ingle_model_unloads_total", "counter", "Models that left it.", &alone(&models.unloads));
        one("ingle_running", "gauge", "Answers in the making.", &of(|s| s.running as f64));
        one("ingle_waiting", "gauge", "Requests that wait.", &of(|s| s.waiting as f64));
        one("ingle_finished_total", "counter", "Answers that came to their end.", &of(|s| s.finished as f64));
        one(
            "ingle_cancelled_total",
            "counter",
            "Answers that nobody wanted any more.",
            &of(|s| s.cancelled as f64),
        );
        one("ingle_failed_total", "counter", "Answers that failed.", &of(|s| s.failed as f64));
        one(
            "ingle_put_back_total",
            "counter",
            "Answers begun again to make room.",
            &of(|s| s.put_back as f64),
        );
        one("ingle_prompt_tokens_total", "counter", "Prompt tokens.", &of(|s| s.prompt_tokens as f64));
        one(
            "ingle_cached_tokens_total",
            "counter",
            "Prompt tokens found in the cache.",
            &of(|s| s.cached_tokens as f64),
        );
        one("ingle_decoded_tokens_total", "counter", "Tokens made.", &of(|s| s.decoded_tokens as f64));
        one(
            "ingle_guessed_tokens_total",
            "counter",
            "Tokens guessed ahead.",
            &of(|s| s.guessed_tokens as f64),
        );
        one(
            "ingle_right_guesses_total",
            "counter",
            "Guesses that were right.",
            &of(|s| s.right_guesses as f64),
        );
        one(
            "ingle_drafted_tokens_total",
            "counter",
            "Guesses of a draft model, or of the model's own block.",
            &of(|s| s.drafted_tokens as f64),
        );
        one("ingle_right_drafts_total", "counter", "Of these, right.", &of(|s| s.right_drafts as f64));
        one("ingle_draft_seconds_total", "counter", "Seconds that took.", &of(|s| s.draft_seconds));
        one("ingle_masks_total", "counter", "Rows of logits held to a form.", &of(|s| s.masks as f64));
        one("ingle_mask_seconds_total", "counter", "Seconds that took.", &of(|s| s.mask_seconds));
        one(
            "ingle_mask_wait_seconds_total",
            "counter",
            "Of these, not hidden behind the network.",
            &of(|s| s.mask_wait_seconds),
        );
        one("ingle_steps_total", "counter", "Steps through the network.", &of(|s| s.steps as f64));
        one("ingle_step_seconds_total", "counter", "Seconds in steps.", &of(|s| s.step_seconds));
        one(
            "ingle_step_bytes_total",
            "counter",
            "Bytes of weights and cache that steps had to read.",
            &of(|s| s.step_bytes),
        );
        let rates: Vec<(String, f64)> = models
            .loaded()
            .iter()
            .map(|(_, served, _)| (label(&served.id), served.engine.about().memory_rate))
            .collect();
        one(
            "ingle_memory_bytes_per_second",
            "gauge",
            "What the memory gave when the model was loaded: the limit of step bytes per step second.",
            &rates,
        );
        one("ingle_kv_bytes", "gauge", "Bytes of keys and values held.", &of(|s| s.kv_bytes as f64));
        one(
            "ingle_kv_budget_bytes",
            "gauge",
            "Bytes of keys and values there may be.",
            &of(|s| s.kv_budget as f64),
        );
        one(
            "ingle_prefix_cache_hits_total",
            "counter",
            "Prompts whose beginning was read from disk.",
            &of(|s| s.disk.hits as f64),
        );
        one(
            "ingle_prefix_cache_tokens_total",
            "counter",
            "Prompt tokens not computed for that.",
            &of(|s| s.disk.tokens as f64),
        );
        one(
            "ingle_prefix_cache_written_bytes_total",
            "counter",
            "Bytes of prefixes written to disk.",
            &of(|s| s.disk.written as f64),
        );
        one(
            "ingle_prefix_cache_read_bytes_total",
            "counter",
            "Bytes of prefixes read from disk.",
            &of(|s| s.disk.read as f64),
        );
        one(
            "ingle_prefix_cache_failures_total",
            "counter",
            "Prefixes that could not be written or read, damaged files included.",
            &of(|s| s.disk.failures as f64),
        );
        one(
            "ingle_prefix_cache_skipped_total",
            "counter",
            "Prefixes not written, because others waited already or there is no room for one.",
            &of(|s| s.disk.skipped as f64),
        );
        one(
            "ingle_prefix_cache_bytes",
            "gauge",
            "Bytes of prefixes on disk, all models together.",
            &of(|s| s.disk.bytes as f64),
        );
        self.queued.write("ingle_queue_seconds", "From a request to its beginning.", &mut out);
        self.first_token.write("ingle_first_token_seconds", "From a request to its first token.", &mut out);
        self.between_tokens.write("ingle_between_tokens_seconds", "From a token to the next.", &mut out);
        self.whole.write("ingle_request_seconds", "From a request to its end.", &mut out);
        out
    }
}
