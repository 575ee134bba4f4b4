"""`yanma corrupt`: texts as a plan hides parts of them, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, Unsupported, did_you_mean
from .by_name import UNITS, numbering
from .denoising import Denoiser, Infilling, SpanCorruption, sentinels_of
from .plan import IGNORE, Corrupted, Plan
from .pmi import load
from .statistics import Statistics, statistics
from .vocabulary import Vocabulary
from .words import Segmenter, jieba_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DENOISERS = ("t5", "bart")
LEGEND = "hidden tokens: the mask (red), a {random} one (yellow), or (as it was) (green)"
_COLOURS = {"mask": "31", "random": "33", "kept": "32"}


@dataclass(frozen=True)
class Wish:
    """The settings of `yanma corrupt`."""

    unit: str = "token"
    rate: float | None = None
    """None = what is usual for the unit."""
    seed: int = 0
    epochs: int = 3
    segmenter: str | None = None
    phrases: Path | None = None

    def __post_init__(self) -> None:
        known = (*UNITS, *DENOISERS)
        if self.unit not in known:
            raise ConfigError(
                f"--unit is {self.unit!r}; {did_you_mean(self.unit, known)} there are {', '.join(known)}"
            )
        if self.epochs < 1:
            raise ConfigError(f"--epochs is {self.epochs}; give 1 or more")
        if (self.unit == "phrase") != (self.phrases is not None):
            raise ConfigError(
                "--unit phrase and --phrases FILE (which yanma pmi writes) go together; give both"
            )


@dataclass(frozen=True, eq=False)
class Text:
    """One text as tokens."""

    number: int
    ids: tuple[int, ...]
    words: tuple[int, ...] | None


def texts_of(text: str) -> list[str]:
    """The text itself, or the lines of the file of that name; blank ones left out."""
    try:
        is_file = Path(text).is_file()
    except OSError:  # a text may be too long for a name
        is_file = False
    lines = Path(text).read_text(encoding="utf-8").splitlines() if is_file else [text]
    return [line for line in lines if line.strip()]


def lines_of(files: Iterable[Path]) -> Iterator[str]:
    """The lines of some files, one after the other."""
    for path in files:
        with path.open(encoding="utf-8") as lines:
            yield from lines


def segmenter_of(name: str | None) -> Segmenter | None:
    """The segmenter of that name.

    Raises ConfigError where there is none.
    """
    if name in (None, "jieba"):
        return jieba_words if name else None
    raise ConfigError(f"--segmenter is {name!r}; there is 'jieba'")


def encoded(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, wish: Wish) -> list[Text]:
    """Tokens of each text, numbered from 0, and which word each is of where the unit asks for it."""
    number_words = None
    if wish.unit in UNITS:
        phrases = None if wish.phrases is None else load(wish.phrases)
        number_words = numbering(wish.unit, segmenter=segmenter_of(wish.segmenter), phrases=phrases)
    encoding = tokenizer(list(texts), return_offsets_mapping=True, verbose=False)
    rows = enumerate(zip(texts, encoding["input_ids"], encoding["offset_mapping"], strict=True))
    return [
        Text(number, tuple(ids), None if number_words is None else tuple(number_words(text, offsets)))
        for number, (text, ids, offsets) in rows
    ]


def plan_of(vocabulary: Vocabulary, wish: Wish) -> Plan:
    """The plan that the settings say.

    Raises ConfigError for an impossible rate or a tokenizer without a mask.
    """
    try:
        return Plan(vocabulary, UNITS[wish.unit], wish.rate or 0.15)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def versions(texts: Sequence[Text], plan: Plan, wish: Wish) -> Iterator[tuple[int, Corrupted]]:
    """(epoch, text as it is then), epoch by epoch."""
    for epoch in range(wish.epochs):
        for text in texts:
            yield (
                epoch,
                plan(text.ids, seed=wish.seed, epoch=epoch, example=text.number, words=text.words),
            )


def lines(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, wish: Wish, *, color: bool
) -> Iterator[str]:
    """What `yanma corrupt` prints: each epoch's versions of each text."""
    vocabulary = Vocabulary.of(tokenizer)
    tokens = encoded(texts, tokenizer, wish)
    if wish.unit in DENOISERS:
        yield from _denoised(tokens, tokenizer, _denoiser(vocabulary, tokenizer, wish), wish)
        return
    for epoch, corrupted in versions(tokens, plan_of(vocabulary, wish), wish):
        yield f"epoch {epoch}  {shown(corrupted, tokenizer, color=color)}"


def stats(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, wish: Wish) -> Statistics:
    """What `yanma corrupt --stats` prints."""
    if wish.unit in DENOISERS:
        raise Unsupported(f"--stats counts hidden tokens in place, and --unit {wish.unit} takes them out")
    vocabulary = Vocabulary.of(tokenizer)
    made = versions(encoded(texts, tokenizer, wish), plan_of(vocabulary, wish), wish)
    return statistics((corrupted for _, corrupted in made), vocabulary)


def shown(corrupted: Corrupted, tokenizer: PreTrainedTokenizerBase, *, color: bool) -> str:
    """The tokens with spaces between them; hidden ones in colour, or in brackets where they cannot be told else."""
    names = tokenizer.convert_ids_to_tokens(corrupted.input_ids.tolist())
    parts = []
    for name, token, label in zip(
        names, corrupted.input_ids.tolist(), corrupted.labels.tolist(), strict=True
    ):
        if label == IGNORE:
            parts.append(name)
            continue
        kind = "mask" if token == tokenizer.mask_token_id else "kept" if token == label else "random"
        plain = {"mask": name, "kept": f"({name})", "random": f"{{{name}}}"}[kind]
        parts.append(f"\x1b[{_COLOURS[kind]}m{name}\x1b[0m" if color else plain)
    return " ".join(parts)


def _denoiser(vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase, wish: Wish) -> Denoiser:
    try:
        if wish.unit == "t5":
            return SpanCorruption(vocabulary, sentinels_of(tokenizer), wish.rate or 0.15)
        return Infilling(vocabulary, wish.rate or 0.3)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _denoised(
    texts: Iterable[Text], tokenizer: PreTrainedTokenizerBase, denoise: Denoiser, wish: Wish
) -> Iterator[str]:
    for epoch in range(wish.epochs):
        for text in texts:
            made = denoise(text.ids, [len(text.ids)], seed=wish.seed, epoch=epoch, examples=[text.number])
            inputs, target = (
                " ".join(tokenizer.convert_ids_to_tokens(ids.tolist()))
                for ids in (made.input_ids, made.labels)
            )
            yield f"epoch {epoch}  {inputs}\n    target  {target}"
