"""Stock decoders of many kinds, whose causality is promised, said or seen: no false alarm, and no raw error."""

from __future__ import annotations

import pytest
import torch
import transformers

import yanma
from audit.subjects import build
from yanma.audit import Verdict, audit
from yanma.masks import full
from yanma.models import inputs

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
GROUPED = SIZE | {"num_key_value_heads": 2}
OLD = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 80}
STATES = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}
GPT_NEO = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 4}
XGLM = {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64}
OPT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 64,
    "word_embed_proj_dim": 32,
}
DECODERS = {
    "BioGptForCausalLM": SIZE,
    "BloomForCausalLM": BLOOM,
    "CTRLLMHeadModel": OLD | {"dff": 64},
    "CodeGenForCausalLM": OLD | {"rotary_dim": 4},
    "CohereForCausalLM": SIZE,
    "FalconForCausalLM": {key: SIZE[key] for key in tuple(SIZE)[:3]} | {"alibi": True},
    "GPT2LMHeadModel": OLD,
    "GPTBigCodeForCausalLM": OLD,
    "GPTJForCausalLM": OLD | {"rotary_dim": 4},
    "GPTNeoForCausalLM": GPT_NEO,
    "GPTNeoXForCausalLM": SIZE,
    "Gemma2ForCausalLM": GROUPED | {"head_dim": 8},
    "Gemma3ForCausalLM": GROUPED | {"head_dim": 8},
    "LlamaForCausalLM": SIZE,
    "Mamba2ForCausalLM": STATES | {"num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
    "MambaForCausalLM": STATES,
    "MistralForCausalLM": GROUPED,
    "MixtralForCausalLM": GROUPED | {"num_local_experts": 4},
    "MptForCausalLM": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 80},
    "OPTForCausalLM": OPT,
    "OlmoForCausalLM": SIZE,
    "OpenAIGPTLMHeadModel": OLD,
    "Phi3ForCausalLM": SIZE,
    "PhiForCausalLM": SIZE,
    "Qwen3ForCausalLM": GROUPED,
    "RwkvForCausalLM": {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 80},
    "Starcoder2ForCausalLM": GROUPED,
    "XGLMForCausalLM": XGLM,
}
SPLITS = (
    "CTRLLMHeadModel", "CodeGenForCausalLM", "CohereForCausalLM", "GPT2LMHeadModel", "GPTBigCodeForCausalLM",
    "GPTJForCausalLM", "GPTNeoForCausalLM", "GPTNeoXForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM",
    "LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "OlmoForCausalLM", "Phi3ForCausalLM",
    "PhiForCausalLM", "Qwen3ForCausalLM", "Starcoder2ForCausalLM",
)  # fmt: skip
"""Those that keep documents in a row apart by their positions, without cache and mask."""
DOCUMENTS = [[7, 8, 9], [11], [21, 22, 23, 24, 25, 26, 27], [31, 32]]


def decoder(name):
    model_class = getattr(transformers, name)
    common = {"vocab_size": 100, "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    size = DECODERS[name.replace("SequenceClassification", "CausalLM")]
    config = model_class.config_class(**common | size)
    for scale in ("initializer_range", "init_std"):
        if hasattr(config, scale):
            setattr(config, scale, 0.2)
    return model_class(config)


@pytest.mark.filterwarnings("ignore")  # transformers' own, of kernels that are not installed
@pytest.mark.parametrize("name", DECODERS)
def test_a_stock_decoder_raises_no_alarm(name):
    model = decoder(name)
    found = audit(model, DOCUMENTS)
    assert found.ok and found["causality"].verdict is Verdict.PASS, str(found)
    assert found["agreement"].verdict is Verdict.PASS
    if name in SPLITS:
        found = audit(model, DOCUMENTS, way="packed", arguments={"use_cache": False})
        assert found.ok and found["isolation"].verdict is Verdict.PASS, str(found)


@pytest.mark.parametrize("arguments", [{"output_hidden_states": True}, {"return_dict": True}], ids=str)
@pytest.mark.parametrize("name", ["BloomForCausalLM", "BloomForSequenceClassification"])
def test_arguments_that_the_audit_gives_too_may_be_given(name, arguments):
    assert audit(decoder(name), DOCUMENTS, arguments=arguments).ok


@pytest.mark.parametrize("name", ["OPTForCausalLM", "XGLMForCausalLM"])
def test_advice_that_was_followed_is_not_given_again(name):
    found = audit(decoder(name), DOCUMENTS, way="packed", arguments={"use_cache": False})
    fix = found["isolation"].fix
    assert "does not look at position_ids" in fix and "causal()" in fix and "use_cache" not in fix


def test_ibert_gives_its_embeddings_with_their_scale():
    config = transformers.IBertConfig(
        vocab_size=100, **SIZE, initializer_range=0.2, max_position_embeddings=80
    )
    assert audit(transformers.IBertModel(config), DOCUMENTS).ok


def test_a_backward_that_raises_is_skipped_and_says_why():
    found = audit(decoder("RwkvForCausalLM"), DOCUMENTS)
    skipped = found["gradients"]
    assert skipped.verdict is Verdict.SKIPPED and "model raises RuntimeError" in skipped.about


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "OlmoForCausalLM"])
@pytest.mark.parametrize("by", ["config", "call"])
def test_a_decoder_that_is_told_to_read_both_ways_is_held_to_it(name, by, monkeypatch):
    model = decoder(name)
    model.config.is_causal = False if by == "config" else True
    more = {"arguments": {"is_causal": False}} if by == "call" else {}
    found = audit(model, DOCUMENTS, **more)
    assert found.ok and found["causality"].verdict is Verdict.SKIPPED, str(found)
    if name == "LlamaForCausalLM":
        ours = yanma.unpad(model)
        assert audit(ours, DOCUMENTS, **more).ok and audit(ours, DOCUMENTS, way="packed", **more).ok
        monkeypatch.setattr(inputs, "is_causal", lambda *args: True)
        assert not audit(ours, DOCUMENTS, **more).ok, "it reads no later token, though told to"


def test_a_promise_that_is_not_kept_fails_unless_another_is_named():
    model = decoder("OlmoForCausalLM")
    for layer in model.model.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda module, args, kwargs: (args, kwargs | {"attention_mask": None, "is_causal": False}),
            with_kwargs=True,
        )
    same = [[7, 8, 9], [11, 12, 13]]
    found = audit(model, same)
    assert {"causality", "agreement"} <= {check.check for check in found.failed}
    assert "--mask" in found["agreement"].fix
    named = audit(model, same, mask=full())
    assert named["agreement"].verdict is Verdict.PASS and named["causality"].verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    "name", ["BertModel", "RobertaForTokenClassification", "BertForSequenceClassification"]
)
def test_an_unpadded_model_is_audited_on_rows_too(name):
    model = yanma.unpad(build(name))
    for way in ("packed", "padded"):
        found = audit(model, DOCUMENTS, way=way)
        assert found.ok and found["isolation"].same_bits, str(found)
        assert f"{way} unpadded {name}" in str(found)
    if not name.startswith("Roberta"):
        assert audit(model, DOCUMENTS, collator=transformers.DataCollatorWithFlattening()).ok
