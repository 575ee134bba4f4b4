"""Requests through a model: packed, computed, put back in their order; a request that fails fails alone.

What predicts, evaluates, measures and serves computes here, so that a measured time is that of what users run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from .data.examples import Example, Tokens
from .errors import DataError
from .models.known import recognise
from .models.scored import unwrapped
from .objectives.batching import Batching, Packed
from .objectives.objective import Compute, Pack, evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# T tokens of a pack, L of a request, N requests of it, C outputs

Request = str | Sequence[int] | Example
"""A text, token ids with the special ones among them, or an example."""
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
        bfloat16.
        """
        self.model, self.tokenizer = model, tokenizer
        self._decode = decode or _own_rows(model)
        self._batching = batching or Packed(4096)
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
            if isinstance(example, Exception):
                answers[place] = Answer(error=example)
            else:
                usable.append((place, example))
        done = len(requests) - len(usable)
        with evaluating(self.model):
            for group in batching.groups([example.num_tokens for _, example in usable]):
                pack = [usable[index] for index in group]
                for (place, _), answer in zip(
                    pack, self._computed([e for _, e in pack], batching), strict=True
                ):
                    answers[place] = answer
                done += len(pack)
                told(done)
        return answers

    def _computed(self, pack: Pack, batching: Batching) -> list[Answer[Result]]:
        """All at once; where that fails, each alone, so that who is not at fault is answered."""
        try:
            compute = Compute(self.model, batching)
            with torch.autocast(compute.device.type, torch.bfloat16, enabled=self._bf16):
                logits = compute.logits(pack)
            return [Answer(value) for value in self._decode(logits, pack)]
        except Exception as error:  # whatever a model, or a decoder, raises of a request
            if len(pack) == 1:
                return [Answer(error=error)]
            return [answer for example in pack for answer in self._computed([example], batching)]

    def _examples(self, requests: Sequence[Request]) -> Iterator[Example | Exception]:
        texts = [request for request in requests if isinstance(request, str)]
        tokens = iter(self._tokenized(texts) if texts else [])
        for key, request in enumerate(requests):
            example = request if isinstance(request, Example) else None
            if example is None:
                own = next(tokens) if isinstance(request, str) else Tokens(request)  # type: ignore[arg-type]
                example = Example(key, (own,), None, where=f"request {key}")
            yield self._unusable(example) or example

    def _unusable(self, example: Example) -> DataError | None:
        """Why it is not computed."""
        if not example.num_tokens:
            return DataError(f"{example.where}: no tokens in it")
        if self._max_length is not None and example.num_tokens > self._max_length:
            return DataError(
                f"{example.where}: {example.num_tokens} tokens; at most {self._max_length} are read: cut it"
            )
        return None

    def _tokenized(self, texts: Sequence[str]) -> list[Tokens]:
        if self.tokenizer is None:
            raise ValueError(
                "a request is a text, and the engine has no tokenizer; give it one, or token ids"
            )
        found = self.tokenizer(list(texts), return_attention_mask=False, verbose=False)
        types = found.get("token_type_ids") or [None] * len(texts)
        return [Tokens(ids, own) for ids, own in zip(found["input_ids"], types, strict=True)]


def _own_rows(model: nn.Module) -> Callable[[Tensor, Pack], Sequence[Any]]:
    """Of logits each request's own: (C,) of a head that scores texts, else (L, C)."""
    per_token = "logits" not in recognise(unwrapped(model))[1].document_outputs

    def own(logits: Tensor, pack: Pack) -> Sequence[Any]:
        return logits.split([example.num_tokens for example in pack]) if per_token else list(logits)

    return own
