//! Tensor names that most families share, in both spellings.

use super::Dialect;
use crate::spec::Role;

/// GGUF name. Where a family's name differs, it is spelled in the family's file.
pub(super) fn gguf(role: Role, layer: Option<usize>) -> String {
    use Role::*;
    let name = match role {
        Embedding => return "token_embd.weight".into(),
        PositionEmbedding => return "position_embd.weight".into(),
        TokenTypeEmbedding => return "token_types.weight".into(),
        EmbeddingNorm => return "token_embd_norm.weight".into(),
        EmbeddingNormBias => return "token_embd_norm.bias".into(),
        LayerInputTable => return "per_layer_token_embd.weight".into(),
        LayerInputProjection => return "per_layer_model_proj.weight".into(),
        LayerInputNorm => return "per_layer_proj_norm.weight".into(),
        FinalNorm => return "output_norm.weight".into(),
        FinalNormBias => return "output_norm.bias".into(),
        PooledProjection(number) => return format!("dense_{}.weight", u16::from(number) + 2),
        Head => return "output.weight".into(),
        HeadBias => return "output.bias".into(),
        MixerNorm => "attn_norm.weight",
        MixerPostNorm => "post_attention_norm.weight",
        FeedForwardNorm => "ffn_norm.weight",
        FeedForwardPostNorm => "post_ffw_norm.weight",
        MixerJoinedNorm => "attn_output_norm.weight",
        FeedForwardJoinedNorm => "layer_output_norm.weight",
        MixerNormBias => "attn_norm.bias",
        MixerPostNormBias => "post_attention_norm.bias",
        MixerJoinedNormBias => "attn_output_norm.bias",
        FeedForwardNormBias => "ffn_norm.bias",
        FeedForwardPostNormBias => "post_ffw_norm.bias",
        FeedForwardJoinedNormBias => "layer_output_norm.bias",
        Query => "attn_q.weight",
        Key => "attn_k.weight",
        Value => "attn_v.weight",
        QueryBias => "attn_q.bias",
        KeyBias => "attn_k.bias",
        ValueBias => "attn_v.bias",
        QueryNorm => "attn_q_norm.weight",
        KeyNorm => "attn_k_norm.weight",
        ValueNorm => "attn_v_norm.weight",
        Output => "attn_output.weight",
        OutputBias => "attn_output.bias",
        Sinks => "attn_sinks.weight",
        QueryDown => "attn_q_a.weight",
        QueryDownNorm => "attn_q_a_norm.weight",
        QueryUp => "attn_q_b.weight",
        LatentDown => "attn_kv_a_mqa.weight",
        LatentNorm => "attn_kv_a_norm.weight",
        LatentKeyUp => "attn_k_b.weight",
        LatentValueUp => "attn_v_b.weight",
        IndexQuery => "indexer.attn_q_b.weight",
        IndexKey => "indexer.attn_k.weight",
        IndexKeyNorm => "indexer.k_norm.weight",
        IndexKeyNormBias => "indexer.k_norm.bias",
        IndexWeights => "indexer.proj.weight",
        DeltaQueryKeyValue => "attn_qkv.weight",
        DeltaGate => "attn_gate.weight",
        DeltaBeta => "ssm_beta.weight",
        DeltaAlpha => "ssm_alpha.weight",
        DeltaConvolution => "ssm_conv1d.weight",
        DeltaTimeBias => "ssm_dt.bias",
        DeltaDecay => "ssm_a",
        DeltaNorm => "ssm_norm.weight",
        DeltaOutput => "ssm_out.weight",
        Gate => "ffn_gate.weight",
        Up => "ffn_up.weight",
        Down => "ffn_down.weight",
        UpBias => "ffn_up.bias",
        DownBias => "ffn_down.bias",
        Router => "ffn_gate_inp.weight",
        RouterBias => "ffn_gate_inp.bias",
        SelectionBias => "exp_probs_b.bias",
        ExpertGate => "ffn_gate_exps.weight",
        ExpertUp => "ffn_up_exps.weight",
        ExpertDown => "ffn_down_exps.weight",
        ExpertGateBias => "ffn_gate_exps.bias",
        ExpertUpBias => "ffn_up_exps.bias",
        ExpertDownBias => "ffn_down_exps.bias",
        SharedGate => "ffn_gate_shexp.weight",
        SharedUp => "ffn_up_shexp.weight",
        SharedDown => "ffn_down_shexp.weight",
        SharedRouter => "ffn_gate_inp_shexp.weight",
        ExpertScale => "ffn_down_exps.scale",
        RouterNorm => "ffn_gate_inp.scale",
        RoutedNorm => "pre_ffw_norm_2.weight",
        RoutedPostNorm => "post_ffw_norm_2.weight",
        SharedPostNorm => "post_ffw_norm_1.weight",
        TokenGate => "inp_gate.weight",
        TokenOutput => "proj.weight",
        TokenNorm => "post_norm.weight",
        OutputScale => "layer_output_scale.weight",
        NextEmbeddingNorm => "nextn.enorm.weight",
        NextHiddenNorm => "nextn.hnorm.weight",
        NextJoin => "nextn.eh_proj.weight",
        NextFinalNorm => "nextn.shared_head_norm.weight",
    };
    format!("blk.{}.{name}", layer.unwrap_or_default())
}

/// Name of a fused query-key-value tensor.
pub(super) fn gguf_fused_qkv(layer: usize, suffix: &str) -> String {
    format!("blk.{layer}.attn_qkv.{suffix}")
}

/// Hub name in the layout that the Llama implementation made common; roles that no checkpoint of that layout has are
/// named after those it has.
pub(super) fn hub(role: Role, layer: Option<usize>) -> String {
    use Role::*;
    let name = match role {
        Embedding => return "model.embed_tokens.weight".into(),
        PositionEmbedding => return "model.embed_positions.weight".into(),
        TokenTypeEmbedding => return "model.embed_token_types.weight".into(),
        EmbeddingNorm => return "model.embed_norm.weight".into(),
        EmbeddingNormBias => return "model.embed_norm.bias".into(),
        LayerInputTable => return "model.embed_tokens_per_layer.weight".into(),
        LayerInputProjection => return "model.per_layer_model_projection.weight".into(),
        LayerInputNorm => return "model.per_layer_projection_norm.weight".into(),
        FinalNorm => return "model.norm.weight".into(),
        FinalNormBias => return "model.norm.bias".into(),
        PooledProjection(number) => return format!("{}_Dense/linear.weight", u16::from(number) + 2),
        Head => return "lm_head.weight".into(),
        HeadBias => return "lm_head.bias".into(),
        MixerNorm => "input_layernorm.weight",
        MixerPostNorm => "post_mixer_layernorm.weight",
        FeedForwardNorm => "post_attention_layernorm.weight",
        FeedForwardPostNorm => "post_feedforward_layernorm.weight",
        MixerJoinedNorm => "joined_mixer_layernorm.weight",
        FeedForwardJoinedNorm => "joined_feedforward_layernorm.weight",
        MixerNormBias => "input_layernorm.bias",
        MixerPostNormBias => "post_mixer_layernorm.bias",
        MixerJoinedNormBias => "joined_mixer_layernorm.bias",
        FeedForwardNormBias => "post_attention_layernorm.bias",
        FeedForwardPostNormBias => "post_feedforward_layernorm.bias",
        FeedForwardJoinedNormBias => "joined_feedforward_layernorm.bias",
        Query => "self_attn.q_proj.weight",
        Key => "self_attn.k_proj.weight",
        Value => "self_attn.v_proj.weight",
        QueryBias => "self_attn.q_proj.bias",
        KeyBias => "self_attn.k_proj.bias",
        ValueBias => "self_attn.v_proj.bias",
        QueryNorm => "self_attn.q_norm.weight",
        KeyNorm => "self_attn.k_norm.weight",
        ValueNorm => "self_attn.v_norm.weight",
        Output => "self_attn.o_proj.weight",
        OutputBias => "self_attn.o_proj.bias",
        Sinks => "self_attn.sinks",
        QueryDown => "self_attn.q_a_proj.weight",
        QueryDownNorm => "self_attn.q_a_layernorm.weight",
        QueryUp => "self_attn.q_b_proj.weight",
        LatentDown => "self_attn.kv_a_proj_with_mqa.weight",
        LatentNorm => "self_attn.kv_a_layernorm.weight",
        LatentKeyUp | LatentValueUp => "self_attn.kv_b_proj.weight",
        IndexQuery => "self_attn.indexer.wq_b.weight",
        IndexKey => "self_attn.indexer.wk.weight",
        IndexKeyNorm => "self_attn.indexer.k_norm.weight",
        IndexKeyNormBias => "self_attn.indexer.k_norm.bias",
        IndexWeights => "self_attn.indexer.weights_proj.weight",
        DeltaQueryKeyValue => "linear_attn.in_proj_qkv.weight",
        DeltaGate => "linear_attn.in_proj_z.weight",
        DeltaBeta => "linear_attn.in_proj_b.weight",
        DeltaAlpha => "linear_attn.in_proj_a.weight",
        DeltaConvolution => "linear_attn.conv1d.weight",
        DeltaTimeBias => "linear_attn.dt_bias",
        DeltaDecay => "linear_attn.A_log",
        DeltaNorm => "linear_attn.norm.weight",
        DeltaOutput => "linear_attn.out_proj.weight",
        Gate => "mlp.gate_proj.weight",
        Up => "mlp.up_proj.weight",
        Down => "mlp.down_proj.weight",
        UpBias => "mlp.up_proj.bias",
        DownBias => "mlp.down_proj.bias",
        Router => "mlp.gate.weight",
        RouterBias => "mlp.gate.bias",
        SelectionBias => "mlp.gate.e_score_correction_bias",
        ExpertGate | ExpertUp => "mlp.experts.gate_up_proj",
        ExpertDown => "mlp.experts.down_proj",
        ExpertGateBias | ExpertUpBias => "mlp.experts.gate_up_proj_bias",
        ExpertDownBias => "mlp.experts.down_proj_bias",
        SharedGate => "mlp.shared_expert.gate_proj.weight",
        SharedUp => "mlp.shared_expert.up_proj.weight",
        SharedDown => "mlp.shared_expert.down_proj.weight",
        SharedRouter => "mlp.shared_expert_gate.weight",
        ExpertScale => "router.per_expert_scale",
        RouterNorm => "router.scale",
        RoutedNorm => "pre_feedforward_layernorm_2.weight",
        RoutedPostNorm => "post_feedforward_layernorm_2.weight",
        SharedPostNorm => "post_feedforward_layernorm_1.weight",
        TokenGate => "per_layer_input_gate.weight",
        TokenOutput => "per_layer_projection.weight",
        TokenNorm => "post_per_layer_input_norm.weight",
        OutputScale => "layer_scalar",
        NextEmbeddingNorm => "enorm.weight",
        NextHiddenNorm => "hnorm.weight",
        NextJoin => "eh_proj.weight",
        NextFinalNorm => "shared_head.norm.weight",
    };
    format!("model.layers.{}.{name}", layer.unwrap_or_default())
}

/// What stands for `model.` in a checkpoint's names: multimodal ones put their text network deeper, and some hold the
/// bare network.
pub(super) fn trunk(has: impl Fn(&str) -> bool) -> &'static str {
    const TRUNKS: [&str; 4] = ["model.", "model.language_model.", "language_model.model.", ""];
    let here = |trunk: &&str| has(&format!("{trunk}embed_tokens.weight"));
    TRUNKS.into_iter().find(here).unwrap_or(TRUNKS[0])
}

/// A usual hub name as this checkpoint spells it.
pub(super) fn placed(name: &str, trunk: &str) -> String {
    match name.strip_prefix("model.") {
        Some(rest) => format!("{trunk}{rest}"),
        None => name.to_owned(),
    }
}

/// Tensors that a network as described here never uses, and that many checkpoints hold all the same: counters of
/// positions, and what BERT was trained with beside its layers.
pub(super) fn spare(name: &str, dialect: Dialect) -> bool {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    dialect == Dialect::Hub
        && (name == "embeddings.position_ids"
            || name.starts_with("pooler.dense.")
            || name.starts_with("cls."))
}
