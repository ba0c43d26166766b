//! What of a model is held in the free memory, and how many tokens beside it.

use crate::error::EngineError;
use crate::memory::{self, Demand};
use crate::model::{ExecutorKind, LoadOptions};
use ingle_model::spec::{FeedForward, ModelSpec};

/// Context that a model must at least be able to hold for loading to make sense.
const LEAST_CONTEXT: usize = 512;

/// Context that is worth more than what it would push out of the memory.
const ENOUGH_CONTEXT: usize = 32_768;

/// How a model is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Tokens of a session.
    pub context: usize,
    /// Bytes for routed experts, where not all of them are held.
    pub expert_memory: Option<u64>,
}

impl Fit {
    /// All weights and the context asked for, or else the model's own, where they fit; else a shorter context, if none
    /// was asked for; else, of a mixture of experts, as many experts as fit.
    ///
    /// # Errors
    /// The refusal, with the figures, when nothing of this fits.
    pub fn find(
        spec: &ModelSpec,
        options: &LoadOptions,
        available: Option<u64>,
        notices: &mut Vec<String>,
    ) -> Result<Fit, EngineError> {
        let wanted = options.context.unwrap_or(spec.context);
        let pageable = options.kind == ExecutorKind::Production;
        let experts = if pageable { spec.expert_bytes() } else { 0 };
        if options.expert_memory.is_some() && experts == 0 {
            notices.push("the model has no experts that memory could be set for".into());
        }
        let asked = options.expert_memory.filter(|&memory| memory < experts);
        let Some(available) = available else { return Ok(Fit { context: wanted, expert_memory: asked }) };
        // fewer than a token uses are never held
        let least = (experts as f64 * share_used(spec)).ceil() as u64;
        let held = asked.map_or(experts, |asked| asked.max(least));
        let demand = |context: usize, held: u64| {
            let demand = Demand::of(spec, options.kind, options.kv, context);
            Demand { weights: demand.weights - experts + held, ..demand }
        };
        let longest = |held: u64| longest(wanted, options, available, &|context| demand(context, held));
        let fit = match longest(held) {
            Ok(context) => Fit { context, expert_memory: asked },
            Err(refusal) if asked.is_some() || experts == 0 || options.no_less => return Err(refusal),
            Err(refusal) => {
                let without = demand(0, 0);
                let room =
                    available.saturating_sub(memory::headroom(available) + without.weights + without.kv);
                // experts first: every one that is held is not waited for
                let Ok(context) = longest(least.max(room / 4 * 3)) else { return Err(refusal) };
                let kv = demand(context, 0).kv - without.kv;
                Fit { context, expert_memory: Some(room.saturating_sub(kv)) }
            }
        };
        if fit.context < wanted {
            let context = fit.context;
            notices.push(format!(
                "the context is {context} tokens: the model's own {wanted} do not fit the free memory"
            ));
        }
        Ok(fit)
    }
}

/// The largest part of a layer's experts that one token uses.
fn share_used(spec: &ModelSpec) -> f64 {
    let shares = spec.layers.iter().filter_map(|layer| match &layer.feed_forward {
        FeedForward::Experts(experts) => Some(experts.used as f64 / experts.experts.max(1) as f64),
        _ => None,
    });
    shares.fold(0.0, f64::max)
}

/// The longest context up to `wanted` that fits; that itself or none where one was asked for.
fn longest(
    wanted: usize,
    options: &LoadOptions,
    available: u64,
    demand: &dyn Fn(usize) -> Demand,
) -> Result<usize, EngineError> {
    let fits = |context: usize| demand(context).fits(available);
    if fits(wanted) {
        return Ok(wanted);
    }
    let least = wanted.min(if options.no_less { ENOUGH_CONTEXT } else { LEAST_CONTEXT });
    if options.context.is_some() || !fits(least) {
        return Err(demand(options.context.unwrap_or(least)).refusal(available));
    }
    // KV grows with the context: halve the range until the largest that fits is found
    let (mut low, mut high) = (least, wanted);
    while high - low > 256 {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_model::{Source, families};
    use std::path::Path;

    fn spec(family: &str) -> ModelSpec {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ingle-cpu/tests/fixtures");
        families::describe(&Source::open(&fixtures.join(family)).unwrap()).unwrap()
    }

    fn find(spec: &ModelSpec, options: &LoadOptions, available: u64) -> Result<Fit, EngineError> {
        Fit::find(spec, options, Some(available), &mut Vec::new())
    }

    #[test]
    fn a_mixture_of_experts_larger_than_the_memory_holds_as_many_as_fit() {
        let spec = spec("qwen3_moe");
        let options = LoadOptions { context: Some(64), ..LoadOptions::default() };
        let demand = Demand::of(&spec, options.kind, options.kv, 64);
        let (all, experts) = (demand.weights + demand.kv, spec.expert_bytes());
        assert_eq!(find(&spec, &options, 2 * all).unwrap(), Fit { context: 64, expert_memory: None });
        // a headroom of an eighth is left
        let available = (all - experts / 4) * 8 / 7;
        let fit = find(&spec, &options, available).unwrap();
        let memory = fit.expert_memory.unwrap();
        assert_eq!(fit.context, 64);
        assert!(memory <= experts * 3 / 4 + 8 && memory > experts / 2, "{memory} of {experts}");
        // too little even for the experts of one token
        assert!(matches!(find(&spec, &options, (all - experts) / 2), Err(EngineError::DoesNotFit { .. })));
    }

    #[test]
    fn memory_for_experts_can_be_set() {
        let spec = spec("gpt_oss");
        let experts = spec.expert_bytes();
        let mut options =
            LoadOptions { context: Some(64), expert_memory: Some(experts / 2), ..Default::default() };
        assert_eq!(find(&spec, &options, 1 << 40).unwrap().expert_memory, Some(experts / 2));
        options.expert_memory = Some(experts);
        assert_eq!(find(&spec, &options, 1 << 40).unwrap().expert_memory, None);
        options.kind = ExecutorKind::Reference;
        options.expert_memory = Some(1);
        assert_eq!(
            find(&spec, &options, 1 << 40).unwrap().expert_memory,
            None,
            "it reads from the file anyway"
        );
    }

    #[test]
    fn a_dense_model_is_refused_and_hears_that_it_has_no_experts() {
        let spec = spec("qwen3");
        let options = LoadOptions { context: Some(64), ..LoadOptions::default() };
        assert!(matches!(find(&spec, &options, 1000), Err(EngineError::DoesNotFit { .. })));
        let (options, mut notices) = (LoadOptions { expert_memory: Some(1), ..options }, Vec::new());
        assert_eq!(Fit::find(&spec, &options, None, &mut notices).unwrap().expert_memory, None);
        assert_eq!(notices.len(), 1, "{notices:?}");
    }
}
