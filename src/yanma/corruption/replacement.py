"""What stands in the place of a hidden token: the mask, a random token, or the token itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..keyed import Site
from .draws import below, drawn, share
from .vocabulary import Vocabulary

# K hidden tokens


@dataclass(frozen=True)
class Replacement:
    """Shares of hidden tokens that become the mask, or a random token that is not special; the rest stay.

    The default is that of BERT (Devlin et al. 2019).
    """

    mask: float = 0.8
    random: float = 0.1
    per: Literal["token", "unit"] = "token"
    """"unit": all tokens of a unit alike, as SpanBERT (Joshi et al. 2020) does; each random token is still its own."""

    def __post_init__(self) -> None:
        if self.mask < 0 or self.random < 0 or self.mask + self.random > 1 + 1e-12:
            raise ValueError(
                f"Replacement({self.mask}, {self.random}): shares of 0 or more, together at most 1"
            )
        if self.per not in ("token", "unit"):
            raise ValueError(f"Replacement: per is {self.per!r}; there are 'token' and 'unit'")


BERT = Replacement()
"""80 % mask, 10 % random, 10 % as they are."""
ALL_MASK = Replacement(1.0, 0.0)
"""Every hidden token becomes the mask."""
ALL_RANDOM = Replacement(0.0, 1.0)
"""Every hidden token becomes a random one."""


def check_replacement(replacement: Replacement, vocabulary: Vocabulary) -> None:
    """Raise ValueError where the vocabulary lacks what is put in the place of tokens."""
    if replacement.mask > 0 and vocabulary.mask_id is None:
        raise ValueError(
            "the tokenizer has no mask_token (the vocabulary no mask_id); take one that has, or replace all hidden "
            "tokens by random ones (ALL_RANDOM, `replacement` random)"
        )
    if replacement.random > 0 and not len(vocabulary.ordinary):
        raise ValueError("all tokens of the vocabulary are special; none can be drawn")


def replaced(
    hidden: Tensor,  # (K,) int64: the tokens
    keys: Tensor,  # (K,) int64: the key of each one's example
    places: Tensor,  # (K,) int64: where each stands in its example
    unit_places: Tensor,  # (K,) int64: where its unit begins
    replacement: Replacement,
    vocabulary: Vocabulary,
) -> Tensor:  # (K,) int64
    """What is put in the place of each token."""
    by = unit_places if replacement.per == "unit" else places
    lot = share(drawn(keys, Site.REPLACEMENT, by))
    out = hidden.clone()
    if vocabulary.mask_id is not None:
        out[lot < replacement.mask] = vocabulary.mask_id
    random = ((lot >= replacement.mask) & (lot < replacement.mask + replacement.random)).nonzero().flatten()
    if len(random):
        ordinary = vocabulary.ordinary.to(hidden.device)
        out[random] = ordinary[below(drawn(keys[random], Site.SUBSTITUTE, places[random]), len(ordinary))]
    return out
