"""scored_loss(model, batch, labels): the loss of a model of language, with logits of the scored tokens alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..batch import PackedBatch
from ..errors import Unsupported
from .known import recognise
from .scoring import Scored
from .unpad import is_unpadded_one
from .wrapped import is_peft_model

# T tokens in the pack


def scored_loss(
    model: nn.Module,
    batch: PackedBatch,
    labels: Tensor,  # (T,) int64, -100 = not scored
    *,
    decoder: PackedBatch | None = None,
    max_logits_mib: int = 64,
    **inputs: Any,
) -> Scored:
    """The summed cross-entropy of a masked, causal or encoder-decoder model of language, and what it predicts.

    Numbers and gradient are those of the stock model on one document at a time, but logits are computed of scored
    tokens alone, and never of all of them over the whole vocabulary at once: with their gradient they take
    `max_logits_mib` MiB at most. The rest of the last layer, where it is BERT's, is computed for them alone too. Divide
    `loss` by the number of scored tokens of the whole optimiser step.

    `model` is one that `unpad` was applied to, by itself, in peft's wrapper or in DistributedDataParallel. `labels`
    lie as the pack does: a causal model's are its input, which is shifted here within each document where transformers
    shifts it (not for BartForCausalLM and its like: shift theirs yourself); of an encoder-decoder they belong to
    the tokens of `decoder`, the pack that its decoder reads. Where no token is scored, the loss is 0 and so is its
    gradient. `inputs` are further arguments of the model's forward, such as `seed`.

    Of a model unpadded with exact="bits", a token's loss has the same bits in any batch.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> from yanma import unpad
    >>> config = BertConfig(
    ...     vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    ... )
    >>> model = unpad(BertForMaskedLM(config).eval())
    >>> batch = PackedBatch.from_sequences([[7, 8, 9], [5, 6]])
    >>> scored = scored_loss(model, batch, torch.tensor([-100, 18, -100, -100, 16]))
    >>> scored.places.tolist(), scored.losses.shape, scored.loss.requires_grad
    ([1, 4], torch.Size([2]), True)

    Raises Unsupported for a model without a vocabulary's head or with a changed one (as by peft's adapters on that very
    layer), and for other wrappers; ValueError for labels that do not fit the pack or the vocabulary.
    """
    inner = unwrapped(model)
    if not is_unpadded_one(inner):
        raise Unsupported(
            f"scored_loss takes a model after yanma.unpad, by itself, in peft's wrapper or in "
            f"DistributedDataParallel; got {type(model).__name__}"
        )
    decodes = recognise(inner)[1].decodes
    if decodes != (decoder is not None):
        what = "needs decoder, the pack that its decoder reads" if decodes else "has no decoder beside it"
        raise ValueError(
            f"{type(inner).__name__} {what}; decoder is {decoder if decoder is None else 'given'}"
        )
    if labels.dtype != torch.int64:
        raise ValueError(f"labels are {labels.dtype}; they must be int64")
    if decoder is not None:
        inputs["decoder_input_ids"] = decoder
    scored: Scored = model(batch, labels=labels, max_logits_mib=max_logits_mib, **inputs)
    return scored


def unwrapped(model: nn.Module) -> Any:
    """The model of transformers' in a wrapper that hands its arguments on."""
    if isinstance(model, DistributedDataParallel):
        return unwrapped(model.module)
    wrapper: Any = model
    return unwrapped(wrapper.get_base_model()) if is_peft_model(model) else model
