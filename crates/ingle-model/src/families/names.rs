//! Tensor names that most families share, in both spellings.

use crate::spec::Role;

/// GGUF name. Roles whose GGUF name differs between families are spelled in the family's file.
pub(super) fn gguf(role: Role, layer: Option<usize>) -> String {
    use Role::*;
    let name = match role {
        Embedding => return "token_embd.weight".into(),
        FinalNorm => return "output_norm.weight".into(),
        Head => return "output.weight".into(),
        HeadBias => return "output.bias".into(),
        MixerNorm => "attn_norm.weight",
        FeedForwardNorm => "ffn_norm.weight",
        Query => "attn_q.weight",
        Key => "attn_k.weight",
        Value => "attn_v.weight",
        QueryBias => "attn_q.bias",
        KeyBias => "attn_k.bias",
        ValueBias => "attn_v.bias",
        QueryNorm => "attn_q_norm.weight",
        KeyNorm => "attn_k_norm.weight",
        Output => "attn_output.weight",
        OutputBias => "attn_output.bias",
        Gate => "ffn_gate.weight",
        Up => "ffn_up.weight",
        Down => "ffn_down.weight",
        other => return unspelled(other, layer),
    };
    format!("blk.{}.{name}", layer.unwrap_or_default())
}

/// Name of a fused query-key-value tensor.
pub(super) fn gguf_fused_qkv(layer: usize, suffix: &str) -> String {
    format!("blk.{layer}.attn_qkv.{suffix}")
}

/// Hub name in the layout that the Llama implementation made common.
pub(super) fn hub(role: Role, layer: Option<usize>) -> String {
    use Role::*;
    let name = match role {
        Embedding => return "model.embed_tokens.weight".into(),
        FinalNorm => return "model.norm.weight".into(),
        Head => return "lm_head.weight".into(),
        HeadBias => return "lm_head.bias".into(),
        MixerNorm => "input_layernorm.weight",
        FeedForwardNorm => "post_attention_layernorm.weight",
        Query => "self_attn.q_proj.weight",
        Key => "self_attn.k_proj.weight",
        Value => "self_attn.v_proj.weight",
        QueryBias => "self_attn.q_proj.bias",
        KeyBias => "self_attn.k_proj.bias",
        ValueBias => "self_attn.v_proj.bias",
        QueryNorm => "self_attn.q_norm.weight",
        KeyNorm => "self_attn.k_norm.weight",
        Output => "self_attn.o_proj.weight",
        OutputBias => "self_attn.o_proj.bias",
        Gate => "mlp.gate_proj.weight",
        Up => "mlp.up_proj.weight",
        Down => "mlp.down_proj.weight",
        other => return unspelled(other, layer),
    };
    format!("model.layers.{}.{name}", layer.unwrap_or_default())
}

/// A role no family has spelled yet; the name cannot occur in a file, so binding reports it as missing.
fn unspelled(role: Role, layer: Option<usize>) -> String {
    match layer {
        Some(layer) => format!("<{role:?} of layer {layer}>"),
        None => format!("<{role:?}>"),
    }
}
