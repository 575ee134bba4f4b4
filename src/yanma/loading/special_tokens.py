"""The special tokens around a text, [CLS] and [SEP] or <s> and </s>: whether a tokenizer puts them, and how it can."""

from __future__ import annotations

from tokenizers import Tokenizer, processors
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ConfigError
from .tokenizer import pair_template


def left_out(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> str | None:
    """A sentence where the tokenizer has special tokens for the ends of a text and puts none; else None.

    GPT-2's text begins with nothing: the token that ends it is no beginning, and nothing is left out there.
    """
    if tokenizer.num_special_tokens_to_add():
        return None
    before, after = _ends(tokenizer)
    ends = [token for token in (before, after) if token is not None]
    if not ends:
        return "the tokenizer has no special tokens for the ends of a text: the model's first and last are of words"
    if before is None and not model.config.is_encoder_decoder:
        return None
    return (
        f"the tokenizer puts no special tokens around a text, though it has {' and '.join(ends)}: the model's first "
        f"and last token are of words; `add_special_tokens` puts them"
    )


def add_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the tokenizer put its special tokens around each text, also where it is saved and loaded again.

    Raises ConfigError where it does so already, or has none.
    """
    if tokenizer.num_special_tokens_to_add():
        raise ConfigError(
            "`add_special_tokens`: the tokenizer puts special tokens around a text already; leave it out"
        )
    ends = _ends(tokenizer)
    if ends == (None, None):
        raise ConfigError(
            "`add_special_tokens`: the tokenizer has none (cls_token, sep_token, bos_token, eos_token)"
        )
    single = " ".join(token for token in (ends[0], "$A", ends[1]) if token is not None)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ends if token is not None}
    around = processors.TemplateProcessing(single, pair_template(single), list(ids.items()))
    backend: Tokenizer = tokenizer.backend_tokenizer
    own = backend.post_processor
    backend.post_processor = around if own is None else processors.Sequence([own, around])


def _ends(tokenizer: PreTrainedTokenizerBase) -> tuple[str | None, str | None]:
    """What a text begins and ends with; a token that is both the first and the last of texts ends them."""
    after: str | None = tokenizer.sep_token or tokenizer.eos_token
    before: str | None = tokenizer.cls_token or tokenizer.bos_token
    return (None if before == after else before), after
