"""Fresh models by name: which class, how many layers, how wide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

_MLM, _RTD, _SPANS, _CAUSAL = ("mlm",), ("rtd",), ("span-corruption",), ("causal-lm",)
_HEAD_DIM = 64


@dataclass(frozen=True)
class Shape:
    """Heads are 64 wide, the feed-forward four times the width (Llama's: 8/3 of it, with a gate)."""

    family: str
    num_layers: int
    """Of an encoder with a decoder: of each."""
    hidden_size: int
    goals: tuple[str, ...]

    def config(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> PreTrainedConfig:
        """The config of a fresh model that knows the tokenizer's tokens, and at least `max_length` positions."""
        special: dict[str, Any] = {"pad_token_id": tokenizer.pad_token_id}
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        sizes = {"vocab_size": len(tokenizer)} | special
        make = {"bert": _encoder, "electra": _encoder, "t5": _t5, "gpt2": _gpt2, "llama": _llama}[self.family]
        return make(self, sizes, ends, max(512, max_length))


SHAPES = {
    "bert-tiny": Shape("bert", 2, 128, _MLM),
    "bert-mini": Shape("bert", 4, 256, _MLM),
    "bert-small": Shape("bert", 4, 512, _MLM),
    "bert-medium": Shape("bert", 8, 512, _MLM),
    "bert-base": Shape("bert", 12, 768, _MLM),
    "electra-tiny": Shape("electra", 2, 128, _RTD),
    "electra-mini": Shape("electra", 4, 256, _RTD),
    "electra-base": Shape("electra", 12, 768, _RTD),
    "t5-tiny": Shape("t5", 2, 128, _SPANS),
    "t5-mini": Shape("t5", 4, 256, _SPANS),
    "t5-small": Shape("t5", 6, 512, _SPANS),
    "gpt2-tiny": Shape("gpt2", 2, 128, _CAUSAL),
    "gpt2-mini": Shape("gpt2", 4, 256, _CAUSAL),
    "gpt2-small": Shape("gpt2", 12, 768, _CAUSAL),
    "llama-tiny": Shape("llama", 2, 128, _CAUSAL),
    "llama-mini": Shape("llama", 4, 256, _CAUSAL),
}
"""By name."""


def _encoder(shape: Shape, sizes: dict[str, Any], ends: dict[str, Any], positions: int) -> PreTrainedConfig:
    from transformers import BertConfig, ElectraConfig

    kind: Any = {"bert": BertConfig, "electra": ElectraConfig}[shape.family]
    own = {"embedding_size": shape.hidden_size} if shape.family == "electra" else {}
    made: PreTrainedConfig = kind(
        **sizes,
        **own,
        num_hidden_layers=shape.num_layers,
        hidden_size=shape.hidden_size,
        num_attention_heads=shape.hidden_size // _HEAD_DIM,
        intermediate_size=4 * shape.hidden_size,
        max_position_embeddings=positions,
    )
    return made


def _t5(shape: Shape, sizes: dict[str, Any], ends: dict[str, Any], positions: int) -> PreTrainedConfig:
    from transformers import T5Config

    starts: dict[str, Any] = {"decoder_start_token_id": sizes["pad_token_id"]}
    return T5Config(
        **sizes,
        **starts,
        eos_token_id=ends["eos_token_id"],
        num_layers=shape.num_layers,
        num_decoder_layers=shape.num_layers,
        d_model=shape.hidden_size,
        d_kv=_HEAD_DIM,
        num_heads=shape.hidden_size // _HEAD_DIM,
        d_ff=4 * shape.hidden_size,
    )


def _gpt2(shape: Shape, sizes: dict[str, Any], ends: dict[str, Any], positions: int) -> PreTrainedConfig:
    from transformers import GPT2Config

    return GPT2Config(
        **sizes,
        **ends,
        n_layer=shape.num_layers,
        n_embd=shape.hidden_size,
        n_head=shape.hidden_size // _HEAD_DIM,
        n_positions=positions,
    )


def _llama(shape: Shape, sizes: dict[str, Any], ends: dict[str, Any], positions: int) -> PreTrainedConfig:
    from transformers import LlamaConfig

    return LlamaConfig(
        **sizes,
        **ends,
        num_hidden_layers=shape.num_layers,
        hidden_size=shape.hidden_size,
        num_attention_heads=shape.hidden_size // _HEAD_DIM,
        num_key_value_heads=shape.hidden_size // _HEAD_DIM,
        intermediate_size=-(-shape.hidden_size * 8 // 3 // 32) * 32,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
    )
