"""Requests through a model: packed, computed, put back in their order; a request that fails fails alone.

What predicts, evaluates, measures and serves computes here, so that a measured time is that of what users run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .data.examples import Example, Tokens
from .errors import DataError, Unsupported
from .models.known import recognise
from .models.scored import unwrapped
from .models.unpad import is_unpadded_one
from .objectives.batching import Batching, Packed
from .objectives.objective import Compute, Pack, evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# T tokens of a pack, L of a request, N requests of it, C outputs

Request = str | Sequence[int] | Example
"""A text, token ids with the special ones among them, or an example."""
Placed = tuple[int, Example]
"""A request's place, and what is computed of it."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Answer(Generic[Result]):
    """What became of one request."""

    value: Result | None = None
    error: Exception | None = None
    """Why there is no value."""

    def result(self) -> Result:
        """The value. Raises the error where there is none."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # there is one or the other


class Engine(Generic[Result]):
    """Computes requests with one model.

    >>> import transformers
    >>> from yanma import unpad
    >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    >>> stock = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=50, **sizes))
    >>> engine = Engine(unpad(stock), decode=lambda logits, pack: logits.argmax(-1).tolist())
    >>> answers = engine.run([[2, 7, 3], [2, 8, 9, 3], [2, 99, 3]])
    >>> [answer.error is None for answer in answers]
    [True, True, False]
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase | None = None,
        decode: Callable[[Tensor, Pack], Sequence[Result]] | None = None,
        *,
        batching: Batching | None = None,
        max_length: int | None = None,
        bf16: bool = False,
    ) -> None:
        """`model` is one that `unpad` was applied to, or a stock one where `batching` is `Padded`.

        `decode` makes one result a request of the logits of a pack: (T, C) of a head that scores tokens, in the order
        of the requests, or (N, C); of a model without a head, its last hidden states (T, C). Without it a result is its
        own rows of them. Texts need the `tokenizer`; one of more than `max_length` tokens fails. `bf16` computes in
        bfloat16. Raises Unsupported for a stock model that is to be packed.
        """
        self.model, self.tokenizer = model, tokenizer
        self._batching = batching or Packed(4096)
        inner = unwrapped(model)
        stock = isinstance(inner, PreTrainedModel)
        if stock and isinstance(self._batching, Packed) and not is_unpadded_one(inner):
            raise Unsupported(
                f"{type(inner).__name__} is as transformers made it: give the engine unpad(model), or a batching that "
                f"pads"
            )
        self._decode = decode or _own_rows(model)
        self._vocabulary: int | None = (
            getattr(inner.get_input_embeddings(), "num_embeddings", None) if stock else None
        )
        self._max_length, self._bf16 = max_length, bf16

    def run(
        self,
        requests: Sequence[Request],
        max_batch_tokens: int | None = None,
        *,
        told: Callable[[int], None] = lambda done: None,
    ) -> list[Answer[Result]]:
        """An answer for each request, in their order; with the same bits whatever else is asked.

        `max_batch_tokens` bounds what is computed at once; `told` hears, after each pack, how many are done.
        """
        batching: Any = self._batching
        if max_batch_tokens is not None:
            batching = replace(batching, max_batch_tokens=max_batch_tokens)
        answers: list[Answer[Result]] = [Answer()] * len(requests)
        usable: list[tuple[int, Example]] = []
        for place, example in enumerate(self._examples(requests)):
            if isinstance(example, DataError):
                answers[place] = Answer(error=example)
            else:
                usable.append((place, example))
        done = len(requests) - len(usable)
        with evaluating(self.model):
            for pack in _packs(usable, batching):
                computed = self._computed([example for _, example in pack], batching)
                for (place, _), answer in zip(pack, computed, strict=True):
                    answers[place] = answer
                done += len(pack)
                told(done)
        return answers

    def _computed(self, pack: Pack, batching: Batching) -> list[Answer[Result]]:
        """All at once; where that fails, half by half, so that who is not at fault is answered."""
        try:
            compute = Compute(self.model, batching)
            with torch.autocast(compute.device.type, torch.bfloat16, enabled=self._bf16):
                logits = compute.logits(pack)
            values = list(self._decode(logits, pack))
            if len(values) != len(pack):
                raise ValueError(f"decode made {len(values)} results of {len(pack)} requests")
            return [Answer(value) for value in values]
        except Exception as error:  # whatever a model, or a decoder, raises of a request
            if len(pack) == 1:
                return [Answer(error=error)]
            half = len(pack) // 2
            return self._computed(pack[:half], batching) + self._computed(pack[half:], batching)

    def _examples(self, requests: Sequence[Request]) -> Iterator[Example | DataError]:
        """Each request as an example, or why it is not computed."""
        texts = iter(self._tokenized([request for request in requests if isinstance(request, str)]))
        for place, request in enumerate(requests):
            where = f"request {place}"
            made = next(texts) if isinstance(request, str) else request
            if isinstance(made, Exception):
                yield DataError(f"{where}: {made}")
                continue
            if not isinstance(made, Example):
                own = made if isinstance(made, Tokens) else Tokens(made)
                made = Example(place, (own,), None, where)
            wrong = self._wrong(made)
            yield made if wrong is None else DataError(f"{made.where or where}: {wrong}")

    def _wrong(self, example: Example) -> str | None:
        """Why it is not computed. A GPU that met an unknown token would compute nothing any more, hence here."""
        try:
            rows = [torch.as_tensor(sequence.input_ids) for sequence in example.sequences]
        except (TypeError, ValueError, RuntimeError) as error:
            return f"neither a text nor token ids: {error}"
        for ids in rows:
            if ids.numel() and (ids.dim() != 1 or ids.is_floating_point() or ids.dtype == torch.bool):
                return f"token ids are integers, in one row; got {ids.dtype} of shape {tuple(ids.shape)}"
        ids = torch.cat(rows) if rows else torch.empty(0)
        if not len(ids):
            return "no tokens in it"
        low, high = int(ids.min()), int(ids.max())
        if self._vocabulary is not None and not 0 <= low <= high < self._vocabulary:
            unknown = low if low < 0 else high
            return f"token {unknown}; the model knows those from 0 to {self._vocabulary - 1}"
        if self._max_length is not None and len(ids) > self._max_length:
            return f"{len(ids)} tokens; at most {self._max_length} are read: cut it"
        return None

    def _tokenized(self, texts: Sequence[str]) -> list[Tokens | Exception]:
        """All at once; where that fails, each alone."""
        if self.tokenizer is None:
            return [
                ValueError("it is a text, and the engine has no tokenizer; give it one, or token ids")
            ] * len(texts)
        if not texts:
            return []
        try:
            found = self.tokenizer(list(texts), return_attention_mask=False, verbose=False)
        except Exception as error:  # of a half of a surrogate pair, which no tokenizer takes
            return [error] if len(texts) == 1 else [own for text in texts for own in self._tokenized([text])]
        types = found.get("token_type_ids") or [None] * len(texts)
        return [Tokens(ids, own) for ids, own in zip(found["input_ids"], types, strict=True)]


def _packs(usable: Sequence[Placed], batching: Batching) -> Iterator[list[Placed]]:
    """All of them; those with token types and those without do not share a pack."""
    for typed in (True, False):
        some = [one for one in usable if (one[1].sequences[0].token_type_ids is not None) is typed]
        for group in batching.groups([example.num_tokens for _, example in some]):
            yield [some[index] for index in group]


def _own_rows(model: nn.Module) -> Callable[[Tensor, Pack], Sequence[Any]]:
    """Of logits each request's own: (C,) of a head that scores texts, else (L, C)."""
    per_token = "logits" not in recognise(unwrapped(model))[1].document_outputs

    def own(logits: Tensor, pack: Pack) -> Sequence[Any]:
        rows = logits.split([example.num_tokens for example in pack]) if per_token else logits.unbind()
        return [row.clone() for row in rows]  # who keeps an answer does not keep those beside it

    return own
