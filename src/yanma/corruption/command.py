"""`yanma corrupt`: texts as a plan hides parts of them, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from ..errors import ConfigError, DataError, did_you_mean
from .by_name import REPLACEMENTS, UNITS, numbering
from .denoising import Denoised, Denoiser, Infilling, Mixture, SpanCorruption, sentinels_of
from .plan import IGNORE, Corrupted, Plan, Resampling, copy_of
from .pmi import load
from .rates import Decay, Rate, highest
from .statistics import Hidden, denoising_statistics, statistics
from .vocabulary import Vocabulary
from .words import Segmenter, jieba_words, word_ids_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Made = TypeVar("Made")

DENOISERS = ("t5", "bart", "ul2")
LEGEND = "hidden tokens: the mask (red), a {random} one (yellow), or (as it was) (green)"
_MODES = ("[NLU]", "[NLG]", "[S2S]")
"""UL2's own words for R, X and S."""
_FILES = (".txt", ".text", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz")
_PACK_TOKENS = 16_384
"""Texts are drawn together up to so many tokens."""
_COLOURS = {"mask": "31", "random": "33", "kept": "32"}


@dataclass(frozen=True)
class Settings:
    """The settings of `yanma corrupt`."""

    unit: str = "token"
    rate: Rate | None = None
    """None = what is usual for the unit."""
    replacement: str | None = None
    """None = as BERT's; a denoiser has no other than its own."""
    resampling: Resampling = "every epoch"
    seed: int = 0
    epochs: int = 3
    segmenter: str | None = None
    phrases: Path | None = None

    def __post_init__(self) -> None:
        self._check_names()
        if self.epochs < 1:
            raise ConfigError(f"--epochs is {self.epochs}; give 1 or more")
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}; give 0 or more")
        if self.unit == "ul2" and self.rate is not None:
            raise ConfigError(
                "--rate: --unit ul2 is seven denoisers, each with a rate of its own; leave it out"
            )
        self._check_rate()
        if self.segmenter is not None and self.unit in ("token", "sentence", *DENOISERS):
            raise ConfigError(f"--segmenter cuts words; --unit {self.unit} has none: leave it out")
        if (self.unit == "phrase") != (self.phrases is not None):
            raise ConfigError(
                "--unit phrase and --phrases FILE (which yanma pmi writes) go together; give both"
            )

    def _check_names(self) -> None:
        units, replacements = (*UNITS, *DENOISERS), (*REPLACEMENTS,)
        if self.unit not in units:
            raise ConfigError(
                f"--unit is {self.unit!r}; {did_you_mean(self.unit, units) or 'there are ' + ', '.join(units)}"
            )
        if self.replacement is None:
            return
        if self.unit in DENOISERS:
            raise ConfigError(f"--replacement: --unit {self.unit} has one of its own; leave it out")
        if self.replacement not in replacements:
            hint = did_you_mean(self.replacement, replacements) or f"there are {', '.join(replacements)}"
            raise ConfigError(f"--replacement is {self.replacement!r}; {hint}")

    def _check_rate(self) -> None:
        rate, most = self.rate, Plan.max_share
        if rate is None:
            return
        if self.unit in DENOISERS and not isinstance(rate, float):
            raise ConfigError(
                f"--rate: --unit {self.unit} takes one share for all texts and epochs, such as 0.15"
            )
        if self.unit in DENOISERS and not 0 < highest(rate) < 1:
            raise ConfigError(f"--rate is {highest(rate):g}; give a share between 0 and 1, such as 0.15")
        if self.unit in UNITS and not 0 < highest(rate) <= most:
            raise ConfigError(
                f"--rate is {highest(rate):g}; give a share above 0 and up to {most:g}: no more is hidden of a text"
            )
        if isinstance(rate, Decay) and self.resampling != "every epoch":
            raise ConfigError(
                f"--resampling is {self.resampling!r}; a --rate that changes over the epochs needs 'every epoch'"
            )

    def share_or(self, usual: float) -> float:
        """A denoiser's rate, or the usual one where none was said."""
        return self.rate if isinstance(self.rate, float) else usual

    def progress(self, epoch: int) -> float:
        """From 0 in the first epoch to 1 in the last, where a rate is at its end; 0 where there is one."""
        return epoch / max(1, self.epochs - 1)


@dataclass(frozen=True, eq=False)
class Text:
    """One text as tokens."""

    number: int
    ids: tuple[int, ...]
    words: tuple[int, ...] | None


def parsed(flag: str, read: Callable[[str], Made], text: str) -> Made:
    """What a flag's text says. Raises ConfigError, which names the flag, where `read` raises ValueError."""
    try:
        return read(text)
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}") from None


def texts_of(text: str, read: Callable[[str], Iterable[str]]) -> list[str]:
    """The text itself, or what `read` finds in the file or folder of that name; blank ones left out.

    Raises DataError where nothing is left, and for the name of a file that is not there.
    """
    try:
        path = Path(text).expanduser()
        is_there = bool(text) and path.exists()
    except (OSError, RuntimeError):  # a text may be too long for a name, or begin with ~
        is_there = False
    if not is_there and _looks_like_a_file(text):
        raise DataError(f"{text}: no such file (what has a space in it is taken as a text)")
    texts = [one for one in (read(str(path)) if is_there else [text]) if one.strip()]
    if not texts:
        raise DataError(f"{text!r}: no text in it")
    return texts


def _looks_like_a_file(text: str) -> bool:
    """A word with a slash in it or with a usual ending; Chinese has slashes too, and no spaces."""
    if not text or any(map(str.isspace, text)):
        return False
    return ("/" in text and text.isascii()) or Path(text.lower()).suffix in _FILES


def segmenter_of(name: str | None) -> Segmenter | None:
    """The segmenter of that name.

    Raises ConfigError where there is none.
    """
    if name in (None, "jieba"):
        return jieba_words if name else None
    raise ConfigError(f"--segmenter is {name!r}; there is 'jieba'")


def encoded(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, settings: Settings) -> list[Text]:
    """Tokens of each text, numbered from 0, and which word each is of where the unit asks for it."""
    number_words = None
    if settings.unit in UNITS:
        phrases = None if settings.phrases is None else load(settings.phrases)
        number_words = numbering(settings.unit, segmenter=segmenter_of(settings.segmenter), phrases=phrases)
    encoding = tokenizer(list(texts), return_offsets_mapping=True, verbose=False)
    found = []
    rows = zip(texts, encoding["input_ids"], encoding["offset_mapping"], strict=True)
    for number, (text, ids, offsets) in enumerate(rows):
        words = None
        if number_words is not None:
            words = tuple(number_words(text, offsets, word_ids_of(tokenizer, encoding, number)))
        found.append(Text(number, tuple(ids), words))
    return found


def plan_of(vocabulary: Vocabulary, settings: Settings) -> Plan:
    """The plan that the settings say.

    Raises ConfigError for an impossible rate or a tokenizer without a mask.
    """
    if vocabulary.mask_id is None:
        raise ConfigError(
            f"--unit {settings.unit}: the tokenizer has no mask token; take one that has, such as BERT's or RoBERTa's"
        )
    try:
        rate = Plan.rate if settings.rate is None else settings.rate
        replacement = REPLACEMENTS[settings.replacement or "bert"]
        return Plan(vocabulary, UNITS[settings.unit], rate, replacement, settings.resampling)
    except ValueError as error:
        raise ConfigError(str(error)) from None


@dataclass(frozen=True)
class Counted:
    """What `--stats` says."""

    hidden: Hidden
    tokens_per_s: float
    """How fast they were drawn, many texts at once; tokenizing and counting are not in it."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**self.hidden.as_dict(), "tokens_per_s": self.tokens_per_s}

    def lines(self) -> list[str]:
        """In words."""
        threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
        return [
            *self.hidden.lines(),
            f"drawn on {threads}: {self.tokens_per_s / 1e6:.2f} million tokens/s, {_PACK_TOKENS:,} tokens at a time",
        ]


def lines(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, settings: Settings, *, color: bool
) -> Iterator[str]:
    """What `yanma corrupt` prints: text by text, its version in each epoch."""
    vocabulary, tokens = Vocabulary.of(tokenizer), encoded(texts, tokenizer, settings)
    if settings.unit not in DENOISERS:
        for epoch, _, pair in _corruptions(tokens, vocabulary, settings).by_text():
            yield f"epoch {epoch}  {shown(pair, tokenizer, color=color)}"
        return
    denoise = denoiser_of(vocabulary, tokenizer, settings)
    for epoch, text, made in _denoisings(tokens, denoise, settings).by_text():
        inputs, target = (
            " ".join(tokenizer.convert_ids_to_tokens(ids.tolist())) for ids in (made.input_ids, made.labels)
        )
        if isinstance(denoise, Mixture):
            (which,) = denoise.which(settings.seed, copy_of(settings.resampling, epoch), [text.number])
            inputs = f"{_named(denoise.denoisers[which])}\n     input  {inputs}"
        yield f"epoch {epoch}  {inputs}\n    target  {target}"


def stats(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, settings: Settings) -> Counted:
    """What `yanma corrupt --stats` prints."""
    vocabulary, tokens = Vocabulary.of(tokenizer), encoded(texts, tokenizer, settings)
    if settings.unit in DENOISERS:
        denoisings = _denoisings(tokens, denoiser_of(vocabulary, tokenizer, settings), settings)
        texts_and_made = ((torch.tensor(text.ids), made) for _, text, made in denoisings)
        return Counted(denoising_statistics(texts_and_made, vocabulary), denoisings.tokens_per_s)
    corruptions = _corruptions(tokens, vocabulary, settings)
    return Counted(statistics((pair for _, _, pair in corruptions), vocabulary), corruptions.tokens_per_s)


class _Pack:
    """Texts that are drawn at once, end to end."""

    def __init__(self, texts: Sequence[Text]) -> None:
        self.texts = texts
        self.ids = torch.tensor([token for text in texts for token in text.ids], dtype=torch.int64)
        self.lengths = [len(text.ids) for text in texts]
        self.numbers = [text.number for text in texts]
        self.words = None
        if texts[0].words is not None:
            words = [word for text in texts for word in text.words or ()]
            self.words = torch.tensor(words, dtype=torch.int64)


def _packs(texts: Sequence[Text]) -> Iterator[_Pack]:
    """All texts, in their order."""
    some: list[Text] = []
    num_tokens = 0
    for text in texts:
        if some and num_tokens + len(text.ids) > _PACK_TOKENS:
            yield _Pack(some)
            some, num_tokens = [], 0
        some.append(text)
        num_tokens += len(text.ids)
    if some:
        yield _Pack(some)


class _Drawing(Generic[Made]):
    """Draws versions of texts, and takes the time that this alone needs."""

    def __init__(
        self, texts: Sequence[Text], settings: Settings, draw: Callable[[_Pack, int], list[Made]]
    ) -> None:
        self._packs, self._epochs, self._draw = tuple(_packs(texts)), settings.epochs, draw
        self._tokens, self._seconds = 0, 0.0

    def __iter__(self) -> Iterator[tuple[int, Text, Made]]:
        """(epoch, text, what is made of it), epoch by epoch."""
        for epoch in range(self._epochs):
            for pack in self._packs:
                begin = perf_counter()
                made = self._draw(pack, epoch)
                self._seconds += perf_counter() - begin
                self._tokens += len(pack.ids)
                yield from ((epoch, text, one) for text, one in zip(pack.texts, made, strict=True))

    def by_text(self) -> Iterator[tuple[int, Text, Made]]:
        """The same, text by text: what all epochs make of a pack is held at once."""
        for pack in self._packs:
            versions = [self._draw(pack, epoch) for epoch in range(self._epochs)]
            for place, text in enumerate(pack.texts):
                yield from ((epoch, text, made[place]) for epoch, made in enumerate(versions))

    @property
    def tokens_per_s(self) -> float:
        """Of what was drawn so far."""
        return self._tokens / max(self._seconds, 1e-9)


def _corruptions(texts: Sequence[Text], vocabulary: Vocabulary, settings: Settings) -> _Drawing[Corrupted]:
    plan = plan_of(vocabulary, settings)

    def draw(pack: _Pack, epoch: int) -> list[Corrupted]:
        made = plan.flat(
            pack.ids,
            pack.lengths,
            seed=settings.seed,
            epoch=epoch,
            examples=pack.numbers,
            words=pack.words,
            progress=settings.progress(epoch),
        )
        return list(map(Corrupted, made.input_ids.split(pack.lengths), made.labels.split(pack.lengths)))

    return _Drawing(texts, settings, draw)


def _denoisings(texts: Sequence[Text], denoise: Denoiser, settings: Settings) -> _Drawing[Denoised]:
    def draw(pack: _Pack, epoch: int) -> list[Denoised]:
        copy = copy_of(settings.resampling, epoch)
        made = denoise(pack.ids, pack.lengths, seed=settings.seed, epoch=copy, examples=pack.numbers)
        return [
            Denoised(inputs, (len(inputs),), labels, (len(labels),), hidden)
            for (inputs, labels), hidden in zip(made.pairs(), made.hidden.split(pack.lengths), strict=True)
        ]

    return _Drawing(texts, settings, draw)


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


def denoiser_of(vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase, settings: Settings) -> Denoiser:
    """The denoiser that the settings say.

    Raises ConfigError for an impossible rate or a tokenizer without sentinels or a mask.
    """
    if settings.unit == "bart" and vocabulary.mask_id is None:
        raise ConfigError("--unit bart: the tokenizer has no mask token; take one that has, such as BART's")
    if settings.unit != "bart" and "<extra_id_0>" not in tokenizer.get_vocab():
        raise ConfigError(
            f"--unit {settings.unit}: the tokenizer has no <extra_id_0>, <extra_id_1>, ... to stand for what is "
            f"hidden; take one that has, such as T5's"
        )
    try:
        if settings.unit == "bart":
            return Infilling(vocabulary, settings.share_or(0.3))
        sentinels = sentinels_of(tokenizer)
        if settings.unit == "t5":
            return SpanCorruption(vocabulary, sentinels, settings.share_or(0.15))
        modes = [tuple(tokenizer(mode, add_special_tokens=False)["input_ids"]) for mode in _MODES]
        if len(set(modes)) < len(modes):
            raise ConfigError(
                f"--unit ul2: to the tokenizer {', '.join(_MODES)} are the same; take one that knows them"
            )
        return Mixture.ul2(vocabulary, sentinels, modes)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _named(denoiser: Denoiser) -> str:
    """What one of UL2's denoisers hides."""
    if isinstance(denoiser, SpanCorruption):
        return f"spans of {denoiser.mean_span:g} on average, {denoiser.rate:.0%} in all"
    return "the text's end"
