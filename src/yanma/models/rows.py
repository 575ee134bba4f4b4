"""What the caller gave: the rows of a padded rectangle or of a PackedBatch, end to end, and which slots hold tokens.

Where a row of a rectangle holds several documents, each of them is a row here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import PackedBatch
from ..errors import Unsupported
from .by_keyword import Cut
from .family import Head
from .modules import pools_first_tokens

# N rows, S slots of a padded row, M slots of all rows end to end, T tokens (slots that are not hidden)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows end to end."""

    tokens: Mapping[str, Tensor]
    """Arguments and labels that have one entry a slot, (M, ...)."""
    widths: tuple[int, ...]
    """Slots of each row."""
    valid: Tensor | None
    """(M,) bool: which slots hold a token; None = all."""
    slots: Tensor
    """(M,) int64: each slot's place in its row; in documents of a row it counts from the first token."""
    ids: tuple[int, ...] | None
    shape: tuple[int, ...]
    """Leading sizes of the caller's tensors: (N, S), or (N / C, C, S) with C choices, or (T,)."""
    prefix: str = ""
    """What the names of arguments begin with: `decoder_` where they are a decoder's."""

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each row. Raises ValueError where a row has none."""
        if self.valid is None:
            return self.widths
        found = tuple(int(row.sum()) for row in self.valid.split(self.widths))
        if 0 in found:
            raise ValueError(
                f"{self.name(found.index(0))} has no token: its {self.prefix}attention_mask is 0 throughout; leave it "
                f"out"
            )
        return found

    @property
    def num_questions(self) -> int | None:
        """Where rows are choices: of how many questions."""
        return self.shape[0] if len(self.shape) == 3 else None

    def name(self, row: int) -> str:
        """What an error calls a row, counted from 0: a choice of a question, or a document where rows hold several."""
        if self.num_questions is None:
            return f"row {row}" if len(self.widths) == self.shape[0] else f"document {row}"
        question, choice = divmod(row, self.shape[1])
        return f"choice {choice} of question {question}"

    @property
    def input_ids(self) -> Tensor | None:
        """(M,), or None where embeddings were given."""
        return self.tokens.get(self.prefix + "input_ids")

    def index(self, order: Sequence[int]) -> Tensor:
        """(T,) int64: slots that hold tokens, row by row in `order`."""
        held = (
            torch.arange(len(self.slots), device=self.slots.device)
            if self.valid is None
            else self.valid.nonzero()[:, 0]
        )
        if list(order) == list(range(len(order))):
            return held
        rows = held.split(list(self.lengths))
        return torch.cat([rows[i] for i in order])

    def cut(self, cut: Cut) -> Rows:
        """The same slots, each document a row."""
        widths = torch.tensor(cut.widths)
        starts = widths.cumsum(0) - widths
        starts[0] = cut.before
        starts = starts.repeat_interleave(widths).to(self.slots.device)
        slots = torch.arange(len(starts), device=starts.device) - starts
        return replace(self, widths=cut.widths, slots=slots)

    def check_holes(self) -> None:
        """Refuse hidden slots between tokens, where a stock model counts them in distances of tokens."""
        if self.valid is None:
            return
        rows = self.slots[self.valid].split(list(self.lengths))
        firsts, lasts = (torch.stack([row[end] for row in rows]) for end in (0, -1))
        torn = lasts - firsts + 1 != torch.tensor(self.lengths, device=self.slots.device)
        if bool(torn.any()):
            raise Unsupported(
                f"{self.name(int(torn.nonzero()[0]))} has hidden slots between its tokens, which a stock model of this "
                f"kind counts in distances of tokens; leave them out of the input"
            )


def packed_rows(batch: PackedBatch, tokens: Mapping[str, Tensor | None], prefix: str = "") -> Rows:
    """Rows of a pack; `tokens` have one entry a token, or are None."""
    given = {name: tensor for name, tensor in tokens.items() if tensor is not None}
    for name, tensor in given.items():
        if tensor.shape[:1] != batch.input_ids.shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}; the pack has {len(batch.input_ids)} tokens")
    shape = (len(batch.input_ids),)
    return Rows(given, batch.lengths, None, batch.position_ids, batch.ids, shape, prefix)


def padded_rows(
    kwargs: dict[str, Any], names: Sequence[str], prefix: str = "", flat: Sequence[str] = ()
) -> Rows:
    """Rows of a rectangle, taken out of a call's arguments: its ids or embeddings, `names`, and its attention mask.

    Those of `flat` may be end to end already.
    """
    ids, embeddings, mask = (prefix + name for name in ("input_ids", "inputs_embeds", "attention_mask"))
    names = (ids, embeddings, *names)
    tokens = {name: kwargs.pop(name) for name in names if kwargs.get(name) is not None}
    if (ids in tokens) == (embeddings in tokens):
        raise ValueError(f"give exactly one of {ids} and {embeddings}")
    shape = tokens[ids].shape if ids in tokens else tokens[embeddings].shape[:-1]
    if 0 in shape:
        raise ValueError(f"the {prefix}input is {tuple(shape)}: there is no token in it")
    device = next(iter(tokens.values())).device
    laid = {name: end_to_end(tensor, shape, name, name in flat) for name, tensor in tokens.items()}
    width, num_slots = shape[-1], shape.numel()
    slots = torch.arange(width, device=device).repeat(num_slots // width)
    valid = kwargs.pop(mask, None)
    if valid is not None:
        if not isinstance(valid, Tensor) or valid.shape != shape:
            seen = tuple(valid.shape) if isinstance(valid, Tensor) else f"a {type(valid).__name__}"
            raise Unsupported(f"{mask} must be {tuple(shape)}, 1 where a token stands; got {seen}")
        valid = stands(valid, mask).reshape(-1)
    return Rows(laid, (width,) * (num_slots // width), valid, slots, None, tuple(shape), prefix)


def stands(mask: Tensor, name: str) -> Tensor:
    """bool: where a token stands.

    A stock model takes any other number for 1. It may number documents or be added to scores, and mean something else.
    """
    if mask.dtype != torch.bool:
        least, most = (float(bound) for bound in mask.aminmax())
        if least < 0 or most > 1:
            other = most if most > 1 else least
            raise Unsupported(
                f"{name} has {other:g}; it is 1 where a token stands and 0 elsewhere (documents of one row are told by "
                f"position_ids that begin again, seq_idx or cu_seq_lens_q)"
            )
    return mask.bool()


def end_to_end(tensor: Tensor, shape: torch.Size, name: str, may_be_flat: bool = False) -> Tensor:
    """(N, S, ...) as (N * S, ...); position ids of one row may serve all rows, and choices be rows already."""
    if len(shape) == 3 and tensor.shape[:2] == (shape[0] * shape[1], shape[2]):
        return tensor.reshape(-1, *tensor.shape[2:])
    if name == "position_ids":
        tensor = tensor.expand(shape)
    if tensor.shape[: len(shape)] != shape:
        if may_be_flat and tensor.shape[:1] == (shape.numel(),):
            return tensor
        raise ValueError(
            f"{name} is {tuple(tensor.shape)}; it must begin with {tuple(shape)} as the tokens do"
        )
    return tensor.reshape(-1, *tensor.shape[len(shape) :])


def check_hidden_slots(model: nn.Module, head: Head, rows: Rows) -> None:
    """Refuse what a stock model would compute from hidden slots, as nothing is computed there."""
    if rows.valid is None:
        return
    for name in (*head.token_labels, *head.token_arguments):
        if (
            head.scores_padding
            and name in rows.tokens
            and bool((rows.tokens[name][~rows.valid] != -100).any())
        ):
            raise ValueError(
                f"{name} must be -100 where {rows.prefix}attention_mask is 0: what is hidden cannot be scored"
            )
    first_hidden = (rows.slots == 0) & ~rows.valid
    if bool(first_hidden.any()) and pools_first_tokens(model):
        row = rows.name(int(first_hidden[rows.slots == 0].nonzero()[0]))
        raise ValueError(f"{row} begins with padding, but this model pools the first slot; pad on the right")
