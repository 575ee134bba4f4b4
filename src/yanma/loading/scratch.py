"""A fresh BERT of a stated size."""

from __future__ import annotations

from transformers import BertConfig

_LAYERS_AND_WIDTH = {  # heads are 64 wide, the feed-forward four times the width
    "bert-tiny": (2, 128),
    "bert-mini": (4, 256),
    "bert-small": (4, 512),
    "bert-medium": (8, 512),
    "bert-base": (12, 768),
}


def config(size: str, vocab_size: int, pad_token_id: int) -> BertConfig:
    """The config of a fresh BERT, `bert-tiny` to `bert-base`.

    >>> config("bert-mini", vocab_size=100, pad_token_id=0).num_attention_heads
    4
    """
    layers, width = _LAYERS_AND_WIDTH[size]
    return BertConfig(
        vocab_size=vocab_size,
        pad_token_id=pad_token_id,
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
    )
