"""Small random models of every family and head, rectangles of random documents, and parts of their outputs."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from yanma.models.families import FAMILIES as TABLE
from yanma.models.family import Family, Head

_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_BERT_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
_GROUPED = _BERT | {"num_key_value_heads": 2}
_LLAMA_DROPOUTS = ("attention_dropout", "classifier_dropout")
_SOME_WINDOWS = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
_SEQ2SEQ = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "decoder_start_token_id": 3,
}
_SEQ2SEQ_DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout")
_T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 3,
}
_SPEECH = _BERT | {
    "conv_dim": (16, 16),
    "conv_kernel": (5, 3),
    "conv_stride": (3, 2),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 16,
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
}
"""A frame of 11 samples each 6."""
_SPEECH_DROPOUTS = (
    "hidden_dropout",
    "attention_dropout",
    "activation_dropout",
    "feat_proj_dropout",
    "final_dropout",
)
_QWEN_WINDOWS = _SOME_WINDOWS | {"use_sliding_window": True}


@dataclass(frozen=True)
class Small:
    """How a family's config is made small, and its names for what the configs of others call otherwise."""

    config: type
    sizes: dict[str, Any] = field(default_factory=lambda: _BERT)
    dropouts: tuple[str, ...] = _BERT_DROPOUTS
    """All of its dropouts; those of attention have `att` in their names."""
    activation: str = "hidden_act"
    pad_token_id: int = 0


SMALL = {
    "bert": Small(transformers.BertConfig),
    "roberta": Small(transformers.RobertaConfig, pad_token_id=1),
    "xlm-roberta": Small(transformers.XLMRobertaConfig, pad_token_id=1),
    "camembert": Small(transformers.CamembertConfig, pad_token_id=1),
    "distilbert": Small(
        transformers.DistilBertConfig,
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
        ("dropout", "attention_dropout", "seq_classif_dropout", "qa_dropout"),
        activation="activation",
    ),
    "electra": Small(
        transformers.ElectraConfig,
        _BERT | {"embedding_size": 16},
        (*_BERT_DROPOUTS, "summary_first_dropout", "summary_last_dropout"),
    ),
    "albert": Small(
        transformers.AlbertConfig,
        _BERT | {"embedding_size": 16},
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob"),
    ),
    "modernbert": Small(
        transformers.ModernBertConfig,
        _BERT | {"local_attention": 8, "global_attn_every_n_layers": 2},
        ("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"),
        activation="hidden_activation",
    ),
    "ernie": Small(transformers.ErnieConfig),
    "xlm-roberta-xl": Small(transformers.XLMRobertaXLConfig, _BERT | {"type_vocab_size": 2}, pad_token_id=1),
    "roberta-prelayernorm": Small(transformers.RobertaPreLayerNormConfig, pad_token_id=1),
    "data2vec-text": Small(transformers.Data2VecTextConfig, pad_token_id=1),
    "eurobert": Small(
        transformers.EuroBertConfig, _BERT | {"num_key_value_heads": 2}, ("attention_dropout",)
    ),
    "nomic_bert": Small(transformers.NomicBertConfig),
    "gte": Small(transformers.GteConfig, _BERT | {"type_vocab_size": 2}, pad_token_id=1),
    "jina_embeddings_v3": Small(
        transformers.JinaEmbeddingsV3Config, _BERT | {"type_vocab_size": 2}, pad_token_id=1
    ),
    "mpnet": Small(transformers.MPNetConfig, dropouts=_BERT_DROPOUTS[:2], pad_token_id=1),
    "deberta-v2": Small(
        transformers.DebertaV2Config,
        _BERT
        | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8}
        | {"type_vocab_size": 2, "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3},
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "pooler_dropout", "cls_dropout"),
    ),
    "gpt2": Small(
        transformers.GPT2Config,
        {"n_embd": 32, "n_layer": 2, "n_head": 4},
        ("resid_pdrop", "embd_pdrop", "attn_pdrop", "classifier_dropout"),
        activation="activation_function",
    ),
    "llama": Small(transformers.LlamaConfig, _GROUPED, _LLAMA_DROPOUTS),
    "mistral": Small(transformers.MistralConfig, _GROUPED | {"sliding_window": 5}, _LLAMA_DROPOUTS),
    "qwen2": Small(transformers.Qwen2Config, _GROUPED | _QWEN_WINDOWS, _LLAMA_DROPOUTS),
    "qwen3": Small(
        transformers.Qwen3Config,
        _GROUPED | _QWEN_WINDOWS | {"head_dim": 16},
        _LLAMA_DROPOUTS,
    ),
    "opt": Small(
        transformers.OPTConfig,
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 64,
            "word_embed_proj_dim": 16,
        },
        ("dropout", "attention_dropout"),
        pad_token_id=1,
        activation="activation_function",
    ),
    "gpt_neox": Small(
        transformers.GPTNeoXConfig, _BERT, ("hidden_dropout", "attention_dropout", "classifier_dropout")
    ),
    "gemma": Small(transformers.GemmaConfig, _GROUPED | {"head_dim": 8}, _LLAMA_DROPOUTS),
    "gemma2": Small(
        transformers.Gemma2Config,
        _GROUPED | _SOME_WINDOWS | {"head_dim": 8, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 1.5},
        ("classifier_dropout",),
        activation="hidden_activation",
    ),
    "gemma3_text": Small(
        transformers.Gemma3TextConfig,
        _GROUPED | _SOME_WINDOWS | {"head_dim": 8, "query_pre_attn_scalar": 8},
        ("attention_dropout",),
        activation="hidden_activation",
    ),
    "clip_text_model": Small(
        transformers.CLIPTextConfig, _BERT | {"projection_dim": 16}, ("attention_dropout",)
    ),
    "bart": Small(transformers.BartConfig, _SEQ2SEQ, _SEQ2SEQ_DROPOUTS, pad_token_id=1),
    "mbart": Small(transformers.MBartConfig, _SEQ2SEQ, _SEQ2SEQ_DROPOUTS, pad_token_id=1),
    "marian": Small(
        transformers.MarianConfig,
        _SEQ2SEQ | {"activation_function": "swish", "scale_embedding": True},
        _SEQ2SEQ_DROPOUTS[:3],
        pad_token_id=1,
    ),
    "pegasus": Small(
        transformers.PegasusConfig, _SEQ2SEQ | {"activation_function": "relu"}, _SEQ2SEQ_DROPOUTS[:3]
    ),
    "m2m_100": Small(transformers.M2M100Config, _SEQ2SEQ, _SEQ2SEQ_DROPOUTS[:3], pad_token_id=1),
    "t5": Small(transformers.T5Config, _T5, ("dropout_rate", "classifier_dropout")),
    "mt5": Small(transformers.MT5Config, _T5, ("dropout_rate", "classifier_dropout")),
    "wav2vec2": Small(transformers.Wav2Vec2Config, _SPEECH, _SPEECH_DROPOUTS),
    "hubert": Small(transformers.HubertConfig, _SPEECH, _SPEECH_DROPOUTS),
}
VOCABULARY, SLOTS = 100, 20
LENGTHS = (17, 3, 9, 9, 1, 12)
FAMILIES = [family for family in TABLE if not family.cross_attention]
"""Those that have no encoder beside a decoder."""
TAKE_IDS_ALONE = ("clip_text_model",)
"""Whose stock models take no embeddings in the place of ids."""
SEQ2SEQ = [family for family in TABLE if family.cross_attention]


def every_head(decodes: bool = False) -> Iterator[tuple[Family, str]]:
    """Each family with each of its model classes, those with an encoder and a decoder, or all others."""
    for family in TABLE:
        for name, head in family.heads.items():
            if head.decodes == decodes:
                yield family, name


WHOLE = ("bert", "llama", "bart", "wav2vec2")
"""Families of which every head is tried in every round."""
FEW = (*WHOLE, "roberta", "modernbert", "mpnet", "deberta-v2", "gpt2", "gemma2", "t5")
"""Families that are tried in every round: each kind of attention, of positions and of padding is in one of them."""


def few_heads(cases: Iterable[tuple[Family, str]]) -> Any:
    """A grid of heads: all heads of a few families, and of each other family one; the rest is `slow`.

    Which head that is differs from family to family, so that every kind is tried in several.
    """
    cases = list(cases)
    names: dict[str, list[str]] = {}
    for family, name in cases:
        names.setdefault(family.model_type, []).append(name)
    chosen = {own[number % len(own)] for number, own in enumerate(names.values())}
    kept = [family.model_type in WHOLE or name in chosen for family, name in cases]
    parameters = [_slow_unless(keep, *case) for keep, case in zip(kept, cases, strict=True)]
    return pytest.mark.parametrize(("family", "name"), parameters, ids=[name for _, name in cases])


def few_families(families: Iterable[Family]) -> Any:
    """A grid of families, of which all but a few are `slow`."""
    parameters = [_slow_unless(family.model_type in FEW, family) for family in families]
    return pytest.mark.parametrize("family", parameters, ids=lambda family: family.model_type)


def _slow_unless(keep: bool, *values: Any) -> Any:
    return pytest.param(*values, marks=[] if keep else pytest.mark.slow)


SPAN_FAMILIES = pytest.mark.parametrize(
    "family",
    [family for family in FAMILIES if any(head.loss == "span" for head in family.heads.values())],
    ids=lambda family: family.model_type,
)


def build(family: Family, name: str, **settings: Any) -> nn.Module:
    """A model of two layers, its dropout off, in eval mode; the same weights each time."""
    head = family.heads[name]
    small = SMALL[family.model_type]
    common: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 80,
        "num_labels": 2 if head.loss == "span" or name == "AlbertForPreTraining" else 3,
        "pad_token_id": small.pad_token_id,
    } | dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 2)
    off = dict.fromkeys(small.dropouts, 0.0)
    if head.loss == "next_token":
        common |= {"is_decoder": True, "loss_type": "ForCausalLM"}
    torch.manual_seed(0)
    config = small.config(**(common | small.sizes | off | settings))
    model: nn.Module = getattr(transformers, name)(config)
    return model.eval()


def head_named(family: Family, suffix: str) -> str:
    """The family's model class of that suffix; else one that gives logits by token, for them; else its base model."""
    suffixes = (suffix, "ForCausalLM", "Model") if suffix == "ForTokenClassification" else (suffix, "Model")
    return next(name for suffix in suffixes for name in family.heads if name.endswith(suffix))


@dataclass(frozen=True)
class Rectangle:
    """Arguments of a padded forward, with labels, and which slots hold tokens."""

    kwargs: dict[str, Tensor]
    valid: Tensor
    """(N, S) bool."""

    @property
    def documents(self) -> list[Tensor]:
        """Token ids, one tensor a document."""
        ids = self.kwargs["input_ids"].view(self.valid.shape)
        return [row[keep] for row, keep in zip(ids, self.valid, strict=True)]


def rectangle(family: Family, name: str, lengths: tuple[int, ...] = LENGTHS, slots: int = SLOTS) -> Rectangle:
    """Random documents of these lengths, padded on the right, with every label the head takes."""
    head = family.heads[name]
    draw = torch.Generator().manual_seed(1)
    valid = torch.arange(slots) < torch.tensor(lengths)[:, None]
    ids = torch.randint(5, VOCABULARY, valid.shape, generator=draw)
    ids = ids.where(valid, torch.tensor(SMALL[family.model_type].pad_token_id))
    kwargs = {"input_ids": ids, "attention_mask": valid.long()} | labels(head, valid, draw)
    if head.loss == "choice":
        shape = (len(lengths) // 2, 2, slots)
        kwargs |= {"input_ids": ids.view(shape), "attention_mask": valid.long().view(shape)}
    return Rectangle(kwargs, valid)


def labels(head: Head, valid: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
    """Random labels for every label argument; -100 (or anything, where the stock loss looks away) on padding."""
    num_rows = len(valid)
    found = {}
    for argument in head.token_labels:
        random = torch.randint(0, 2 if not head.scores_padding else 3, valid.shape, generator=draw)
        found[argument] = random.where(valid, torch.tensor(-100)) if head.scores_padding else random
    for argument in head.document_labels:
        if head.loss == "span":
            found[argument] = torch.tensor([int(row.sum()) // 2 for row in valid])
        else:
            found[argument] = torch.randint(
                0, 2, (num_rows // 2 if head.loss == "choice" else num_rows,), generator=draw
            )
    return found


def scored(output: Any, head: Head, valid: Tensor) -> dict[str, Tensor]:
    """Every tensor of an output, padding slots left out; hidden states by number."""
    found: dict[str, Tensor] = {}
    for key, value in output.items():
        if key == "hidden_states":
            found |= {f"hidden_states.{index}": layer[valid] for index, layer in enumerate(value)}
        elif isinstance(value, Tensor):
            found[key] = value[valid] if key in head.token_outputs else value
    return found


def doubled(model: nn.Module) -> nn.Module:
    """A float64 copy.

    Gemma 2 takes softmax in float32 all the same, where the smallest float64 is -inf, and rows of padding become NaN.
    """
    found = copy.deepcopy(model).double()
    for module in found.modules():
        if type(module).__name__ == "Gemma2Attention":
            module.register_forward_pre_hook(_with_float32_mask, with_kwargs=True)
    return found


def _with_float32_mask(module: nn.Module, args: Any, kwargs: Any) -> Any:
    mask = kwargs["attention_mask"]
    if isinstance(mask, Tensor):
        mask = mask.clamp(min=torch.finfo(torch.float32).min)
    return args, kwargs | {"attention_mask": mask}


def relative(got: Tensor, expected: Tensor) -> float:
    """The length of the difference as a share of the length of what is expected."""
    return float((got - expected).detach().norm() / expected.detach().norm())


def gradient(model: nn.Module) -> Tensor:
    """All gradients end to end; absent ones are 0."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([part.flatten() for part in parts])
