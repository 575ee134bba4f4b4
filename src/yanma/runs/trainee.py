"""The model that a run trains: fresh or loaded, without padding, under the head that its objective needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ConfigError
from ..loading import pretrained
from ..loading.head import forget_task
from ..loading.shapes import SHAPES
from ..models import unpad
from ..objectives.electra import Electra
from ..objectives.perplexity import check_writes_on
from ..seeded import seeded
from .pretrain_config import PretrainConfig

GENERATOR = "generator"
"""Folder of ELECTRA's generator in that of its model."""

_HEADS = {"mlm": "MaskedLM", "rtd": "PreTraining", "span-corruption": "Seq2SeqLM", "causal-lm": "CausalLM"}


@dataclass(frozen=True)
class Trainee:
    """A model and what belongs to it, on its device; unpadded unless it is computed padded."""

    trained: nn.Module
    """All that is trained."""
    saved: PreTrainedModel
    """What model/ holds: itself, or of ELECTRA the discriminator."""
    within: Mapping[str, PreTrainedModel]
    """What stands in model/ beside it."""
    fresh: tuple[str, ...]
    """Names of weights that start at random."""
    notes: tuple[str, ...] = ()
    """What the user should read."""


def make(
    config: PretrainConfig, tokenizer: PreTrainedTokenizerBase, device: torch.device, max_length: int
) -> Trainee:
    """Load or make the model; fresh weights are drawn by the run's seed.

    Raises ConfigError or Unsupported for what cannot be trained so.
    """
    with seeded(config.seed):
        return _made(config, tokenizer, device, max_length)


def _made(
    config: PretrainConfig, tokenizer: PreTrainedTokenizerBase, device: torch.device, max_length: int
) -> Trainee:
    goal, dropout = config.objective.name, config.model.dropout
    auto = pretrained.auto_of(_HEADS[goal])
    if config.model.from_scratch is not None:
        fresh = SHAPES[config.model.from_scratch].config(tokenizer, max_length)
        loaded = pretrained.fresh_with(auto, fresh, dropout=dropout)
    else:
        assert config.model.path is not None  # the config has checked it
        loaded = pretrained.load_with(auto, config.model.path, dropout=dropout)
    model: Any = loaded.model
    forget_task(model.config)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    pretrained.check_vocabulary(model, tokenizer)
    if goal == "rtd":
        return _electra(config, loaded, device)
    if config.batching == "packed":
        unpad(model)
    if goal == "causal-lm":
        check_writes_on(model)
    model.to(device)
    return Trainee(model, model, {}, loaded.fresh, loaded.notes)


def _electra(config: PretrainConfig, loaded: pretrained.Loaded, device: torch.device) -> Trainee:
    model, fresh = loaded.model, loaded.fresh
    beside = _generator(config, model)
    generator: Any = beside.model
    unpad(model)
    unpad(generator.electra)
    both = Electra(generator, model).to(device)
    own = tuple(f"{GENERATOR}: {name}" for name in beside.fresh) if fresh != ("all",) else ()
    notes = dict.fromkeys((*loaded.notes, *beside.notes))
    return Trainee(both, model, {GENERATOR: generator}, (*fresh, *own), tuple(notes))


def _generator(config: PretrainConfig, model: PreTrainedModel) -> pretrained.Loaded:
    """ELECTRA's generator: the one beside the model that is given, or a fresh narrow one."""
    dropout, named = config.model.dropout, config.objective
    if not isinstance(model, transformers.ElectraForPreTraining):
        raise ConfigError(
            f"`objective` rtd needs an ELECTRA (ElectraForPreTraining); {config.model.path} is a {type(model).__name__}"
        )
    if config.model.path is not None:
        beside = pretrained.at_home(config.model.path) / GENERATOR
        if beside.is_dir():
            if named.generator_share != type(named).model_fields["generator_share"].default:
                raise ConfigError(
                    f"`generator_share` is of a fresh generator, and {beside} is one: leave it out, or go on with a "
                    f"copy of {config.model.path} without that folder"
                )
            return pretrained.load_with(transformers.AutoModelForMaskedLM, str(beside), dropout=dropout)
    own: Any = model.config
    heads = max(1, round(own.num_attention_heads * named.generator_share))
    width = own.hidden_size // own.num_attention_heads * heads
    narrow = transformers.ElectraConfig(
        **{
            **own.to_dict(),
            "hidden_size": width,
            "num_attention_heads": heads,
            "intermediate_size": max(1, own.intermediate_size * width // own.hidden_size),
        }
    )
    return pretrained.fresh_with(transformers.AutoModelForMaskedLM, narrow, dropout=dropout)
