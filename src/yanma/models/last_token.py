"""Documents that are judged by one of their tokens: their last one, or what ends their text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import Unsupported
from .layout import Layout, running

# T tokens in the pack, N documents


def classify(model: Any, labels: Tensor | None = None, **kwargs: Any) -> Any:
    """What the stock forward gives for documents one at a time, of their flat arguments (1, T, ...).

    The stock forward looks for the last token of a row, which here would be that of the last document.
    """
    from transformers.modeling_outputs import SequenceClassifierOutputWithPast

    layout, config = running(), model.config
    assert layout is not None
    output = getattr(model, model.base_model_prefix)(**kwargs)
    last = last_tokens(layout, kwargs.get("input_ids"), config.pad_token_id)
    logits = model.score(output.last_hidden_state[:, last])[0]
    loss = None
    if labels is not None:
        loss = model.loss_function(logits=logits, labels=labels, pooled_logits=logits, config=config)
    return SequenceClassifierOutputWithPast(loss=loss, logits=logits, hidden_states=output.hidden_states)


def classify_by_eos(model: Any, labels: Tensor | None = None, **kwargs: Any) -> Any:
    """The same for an encoder with a decoder, which counts where the source has its last `eos_token_id`."""
    from transformers.modeling_outputs import Seq2SeqSequenceClassifierOutput

    layout, config = running(), model.config
    assert layout is not None
    output = getattr(model, model.base_model_prefix)(**kwargs)
    last = ends_of_texts(layout, kwargs.get("input_ids"), config.eos_token_id)
    logits = model.classification_head(output.last_hidden_state[0, last])
    loss = None
    if labels is not None:
        loss = model.loss_function(logits=logits, labels=labels, pooled_logits=logits, config=config)
    return Seq2SeqSequenceClassifierOutput(
        loss=loss,
        logits=logits,
        decoder_hidden_states=output.decoder_hidden_states,
        encoder_last_hidden_state=output.encoder_last_hidden_state,
        encoder_hidden_states=output.encoder_hidden_states,
    )


def pooling_at_ends(stock: Callable[..., Any]) -> Callable[..., Any]:
    """The forward of a CLIP text model, whose documents are pooled where each ends, not where the whole pack does."""

    def forward(model: Any, **kwargs: Any) -> Any:
        layout, text = running(), getattr(model, "text_model", model)
        assert layout is not None
        output = stock(model, **kwargs)
        ends = first_ends(layout, kwargs["input_ids"][0], text.eos_token_id)
        pooled = output.last_hidden_state[0, ends]
        if text is model:
            output.pooler_output = pooled
        else:
            output.text_embeds = model.text_projection(pooled)
        return output

    return forward


def first_ends(layout: Layout, input_ids: Tensor, eos_token_id: int) -> Tensor:
    """(N,) int64: the index of each document's first `eos_token_id`, or of its first token where it has none.

    Old configs have 2, which no text ends with: then that of its first highest id, as the stock model has it.
    """
    marked = input_ids if eos_token_id == 2 else (input_ids == eos_token_id).long()
    highest = marked.new_zeros(len(layout.lengths)).scatter_reduce(0, layout.documents, marked, "amax")
    index = torch.arange(len(marked), device=layout.device)
    index = index.where(marked == highest[layout.documents], len(marked))
    return torch.full_like(layout.first_tokens, len(marked)).scatter_reduce(
        0, layout.documents, index, "amin"
    )


def ends_of_texts(layout: Layout, input_ids: Tensor | None, eos_token_id: int) -> Tensor:
    """(N,) int64: the index of the decoder's token in the slot where each source has its last `eos_token_id`.

    Slots are those of the caller's rows, which are what positions count in these families: a mask may hide others
    of the source than of the target.
    """
    source = layout.source
    assert source is not None and source.positions is not None and layout.positions is not None
    if input_ids is None:
        raise Unsupported("documents are judged where input_ids has eos_token_id; give input_ids")
    slots = source.positions.where(input_ids[0] == eos_token_id, -1)
    ends = torch.full_like(source.first_tokens, -1).scatter_reduce(0, source.documents, slots, "amax")
    index = torch.arange(len(layout.documents), device=layout.device)
    index = index.where(layout.positions == ends[layout.documents], -1)
    found = torch.full_like(ends, -1).scatter_reduce(0, layout.documents, index, "amax")
    if bool((found < 0).any()):
        _refuse_missing_end(layout, ends, found, eos_token_id)
    return found


def _refuse_missing_end(layout: Layout, ends: Tensor, found: Tensor, eos_token_id: int) -> None:
    number = int((found < 0).nonzero()[0])
    document, slot = layout.order[number], int(ends[number])
    if slot < 0:
        raise ValueError(
            f"document {document} has no eos_token_id ({eos_token_id}) in input_ids, by whose place it would be judged"
        )
    raise Unsupported(
        f"document {document} is judged in slot {slot}, where input_ids has its last eos_token_id ({eos_token_id}), "
        f"but decoder_attention_mask is 0 there; hide in decoder_attention_mask only what attention_mask hides too"
    )


def last_tokens(layout: Layout, input_ids: Tensor | None, pad_token_id: int | None) -> Tensor:
    """(N,) int64: the index of each document's last token that is not the padding id; its first where all are.

    Documents may end with the padding id: where it also ends texts, the stock model looks at the token before it.
    """
    index = torch.arange(len(layout.documents), device=layout.device)
    if input_ids is not None and pad_token_id is not None:
        index = index.where(input_ids[0] != pad_token_id, 0)
    return layout.first_tokens.scatter_reduce(0, layout.documents, index, "amax")
