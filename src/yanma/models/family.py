"""What is known of a family of models, and of each head: the columns of the table in families.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

# N documents, M tokens of documents that lie end to end


@dataclass(frozen=True, eq=False)
class Head:
    """What a model with this head takes and gives, by the names of arguments and of output fields."""

    token_outputs: tuple[str, ...] = ()
    document_outputs: tuple[str, ...] = ()
    token_labels: tuple[str, ...] = ()
    document_labels: tuple[str, ...] = ()
    loss: str = "stock"
    """`stock`, or the rule of losses.py that takes the place of a stock loss which would mix documents."""
    scores_padding: bool = True
    """Whether the stock loss also scores hidden slots, unless their label is -100."""
    scores_vocabulary: bool = False
    """Whether its logits are of the tokens of a vocabulary, and its labels token ids."""
    pools_at: str = ""
    """By which token documents are judged, in last_token.py and not in the stock forward: `last`, `eos` or `end`."""
    decodes: bool = False
    """Whether there are an encoder and a decoder, and so pairs of a source and a target."""
    copies_source: bool = False
    """Whether the source is also the target where no other is given."""
    averages: str = ""
    """Attribute of the model: a linear layer, of whose output its forward takes the mean over slots."""
    token_arguments: tuple[str, ...] = ()
    """What its loss reads beside labels, one entry a token."""
    labelled_without_cache: bool = False
    """Whether its stock model keeps no keys and values where all labels are given."""
    counts_items: bool = False
    """Whether a loss of losses.py is divided by `num_items_in_batch` where that is given, as the stock one is."""

    @property
    def flat_labels(self) -> tuple[str, ...]:
        """Labels by token that the stock loss lays end to end before all else, and so takes as (N * S,) too.

        Not those that it shifts first: the last token of a row would be scored as if the next row came after it.
        """
        if self.loss == "next_token":
            return self.token_arguments
        return self.token_labels if self.scores_padding else ()


@dataclass(frozen=True, eq=False)
class Family:
    """One architecture: its heads by class name, and the few modules that must know of the pack."""

    model_type: str
    heads: Mapping[str, Head]
    attention: str
    """Class of the module that calls transformers' attention interface."""
    intermediate: str = ""
    """Class of the feed-forward's first half, where its activation can be fused."""
    drops_in_forward: tuple[str, ...] = ()
    """Classes that call `nn.functional.dropout` by themselves."""
    attention_output: str = ""
    """Class of what follows attention in a layer, called with (attended, residual); "" where there is no such class."""
    pools_input: tuple[str, ...] = ()
    """Classes of poolers and heads that read `[:, 0]` of their input."""
    pools_base: Mapping[str, str] = field(default_factory=dict)
    """Model class -> attribute of its base model, where the model's own forward reads `[:, 0]` or a mean over slots."""
    pools_within: tuple[str, ...] = ()
    """Classes of base models whose own forward hands `[:, 0]` of their `encoder` to a linear layer, their `pooler`."""
    positions: Callable[[Tensor | None, Tensor, int], Tensor] = lambda ids, slots, pad: slots
    """(input_ids (M,) or None, each token's slot in its document (M,), padding id) -> position ids (M,)."""
    reserved_positions: Callable[[int], int] = lambda pad: 0
    """Rows of the position table that no token uses, given the padding id."""
    counts_tokens: bool = False
    """Whether positions count tokens alone, hidden slots between or before them left out; then `positions` is idle."""
    position_argument: bool = True
    """Whether a model is given position ids; else one of `mixins` takes them from the layout, or there are none."""
    position_table: bool = True
    """Whether positions are rows of a table that ends, rather than angles."""
    token_types: bool = True
    default_token_type: int | None = 0
    """The type of tokens for which none is given; None = nothing is added for them."""
    token_arguments: tuple[str, ...] = ()
    """What its models take beside positions and types, one entry a token."""
    attention_mask: Callable[[int], Tensor] | None = None
    """(N) -> what a stock forward must be given as attention_mask, though no token is hidden; None = nothing."""
    by_interface: bool = True
    """Whether attention is called through transformers' interface; else `mixins` have one for it."""
    mixins: Mapping[str, Any] = field(default_factory=dict)
    """Class of a module -> what is put before that class, where a module of this family alone must know of the pack."""
    counts_distances: bool = False
    """Whether tokens' distances go into scores as slots between them, whatever their position ids."""
    repeats_layers: bool = False
    """Whether several layers are one module."""
    is_causal: Callable[[Any], bool] = lambda config: bool(getattr(config, "is_decoder", False))
    """Whether a model of this config lets no token read what comes after it, unless told by `is_causal`."""
    always_told_causal: bool = False
    """Whether stock models tell each attention that no token reads ahead, whatever a config or a caller says."""
    caches: bool = False
    """Whether its models keep keys and values unless told not to."""
    splits_at_jumps: bool = False
    """Whether a stock model begins a document where positions do not count on, given neither a mask nor a cache."""
    cross_attention: str = ""
    """What a decoder's layer calls its attention to what the encoder gives."""
    reads_source: tuple[str, ...] = ("k_proj", "v_proj")
    """What that attention calls the modules that are given the encoder's tokens."""
    starts_with_last: bool = False
    """Whether a decoder's input starts with the last token to be written, a language, and not with a token for all."""
    is_speech: bool = False
    """Whether it is given recordings, of which convolutions make frames: the tokens of the pack."""


def after_padding_id(input_ids: Tensor | None, slots: Tensor, pad_token_id: int) -> Tensor:
    """RoBERTa's rule: tokens other than the padding id are counted per document, from the number after that id.

    >>> after_padding_id(torch.tensor([5, 6, 7, 8]), torch.tensor([0, 1, 2, 0]), 1).tolist()
    [2, 3, 4, 2]
    """
    if input_ids is None:
        return slots + pad_token_id + 1
    counted = input_ids.ne(pad_token_id).long()
    so_far = counted.cumsum(0)
    starts = torch.arange(len(slots), device=slots.device) - slots
    before = so_far[starts] - counted[starts]
    return (so_far - before) * counted + pad_token_id
