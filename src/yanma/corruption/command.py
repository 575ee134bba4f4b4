"""`yanma corrupt`: texts as a plan hides parts of them, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from .. import packing
from ..errors import ConfigError, DataError
from ..files import place_of
from .by_name import REPLACEMENTS, UNITS, numbering
from .config import DENOISERS, CorruptConfig
from .denoising import Denoised, Denoiser, Infilling, Mixture, SpanCorruption, sentinels_of
from .pieces import pieces
from .plan import IGNORE, Corrupted, Plan, copy_of
from .pmi import load
from .statistics import Hidden, denoising_statistics, statistics
from .vocabulary import Vocabulary
from .words import jieba_words, word_ids_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..report.progress import ProgressReporter

Made = TypeVar("Made")

LEGEND = "hidden tokens: the mask (red), a {random} one (yellow), or (as it was) (green)"
_MODES = ("[NLU]", "[NLG]", "[S2S]")
"""UL2's own words for R, X and S."""
_FILES = (".txt", ".text", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz")
_PACK_TOKENS = 16_384
"""Texts are drawn together up to so many tokens."""
_COLOURS = {"mask": "31", "random": "33", "kept": "32"}


@dataclass(frozen=True, eq=False)
class Text:
    """One text as tokens."""

    number: int
    ids: tuple[int, ...]
    words: tuple[int, ...] | None


def texts_of(text: str, read: Callable[[str], Iterable[str]]) -> list[str]:
    """The text itself, or what `read` finds in the file or folder of that name; blank ones left out.

    Raises DataError where nothing is left, and for the name of a file that is not there.
    """
    path = place_of(text)
    if path is None and _looks_like_a_file(text):
        raise DataError(f"{text}: no such file (what has a space in it is taken as a text)")
    texts = [one for one in ([text] if path is None else read(str(path))) if one.strip()]
    if not texts:
        raise DataError(f"{text!r}: no text in it")
    return texts


def _looks_like_a_file(text: str) -> bool:
    """A word with a slash in it or with a usual ending; Chinese has slashes too, and no spaces."""
    if not text or any(map(str.isspace, text)):
        return False
    return ("/" in text and text.isascii()) or Path(text.lower()).suffix in _FILES


def encoded(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, config: CorruptConfig) -> list[Text]:
    """Tokens of each text, numbered from 0, and which word each is of where the unit asks for it."""
    number_words = None
    if config.unit in UNITS:
        phrases = None if config.phrases is None else load(Path(config.phrases))
        number_words = numbering(
            config.unit, segmenter=jieba_words if config.segmenter else None, phrases=phrases
        )
    encoding = tokenizer(list(texts), return_offsets_mapping=True, verbose=False)
    found = []
    rows = zip(texts, encoding["input_ids"], encoding["offset_mapping"], strict=True)
    for number, (text, ids, offsets) in enumerate(rows):
        words = None
        if number_words is not None:
            words = tuple(number_words(text, offsets, word_ids_of(tokenizer, encoding, number)))
        found.append(Text(number, tuple(ids), words))
    return found


def plan_of(vocabulary: Vocabulary, config: CorruptConfig) -> Plan:
    """The plan of a config.

    Raises ConfigError for an impossible rate or a tokenizer without a mask.
    """
    if vocabulary.mask_id is None:
        raise ConfigError(
            f"`unit` {config.unit}: the tokenizer has no mask token; take one that has, such as BERT's or RoBERTa's"
        )
    try:
        replacement = REPLACEMENTS[config.replacement or "bert"]
        return Plan(vocabulary, UNITS[config.unit], config.rate_or(Plan.rate), replacement, config.resampling)
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
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, config: CorruptConfig, *, color: bool
) -> Iterator[str]:
    """What `yanma corrupt` prints: text by text, its version in each epoch."""
    vocabulary, tokens = Vocabulary.of(tokenizer), encoded(texts, tokenizer, config)
    if config.unit not in DENOISERS:
        for epoch, _, pair in _corruptions(tokens, vocabulary, config).by_text():
            yield f"epoch {epoch}  {shown(pair, tokenizer, color=color)}"
        return
    denoise = denoiser_of(vocabulary, tokenizer, config)
    for epoch, text, made in _denoisings(tokens, denoise, config).by_text():
        inputs, target = (" ".join(pieces(tokenizer, ids.tolist())) for ids in (made.input_ids, made.labels))
        if isinstance(denoise, Mixture):
            (which,) = denoise.which(config.seed, copy_of(config.resampling, epoch), [text.number])
            inputs = f"{_named(denoise.denoisers[which])}\n     input  {inputs}"
        yield f"epoch {epoch}  {inputs}\n    target  {target}"


def stats(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    config: CorruptConfig,
    reporter: ProgressReporter,
) -> Counted:
    """What `yanma corrupt --stats` prints."""
    vocabulary, tokens = Vocabulary.of(tokenizer), encoded(texts, tokenizer, config)
    if config.unit in DENOISERS:
        denoisings = _denoisings(tokens, denoiser_of(vocabulary, tokenizer, config), config)
        texts_and_made = ((torch.tensor(text.ids), made) for _, text, made in denoisings.by_epoch(reporter))
        return Counted(denoising_statistics(texts_and_made, vocabulary), denoisings.tokens_per_s)
    corruptions = _corruptions(tokens, vocabulary, config)
    return Counted(
        statistics((pair for _, _, pair in corruptions.by_epoch(reporter)), vocabulary),
        corruptions.tokens_per_s,
    )


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
    lengths = [len(text.ids) for text in texts]
    for group in packing.plan(lengths, _PACK_TOKENS, order=range(len(texts)), too_long="alone").groups:
        yield _Pack([texts[index] for index in group])


class _Drawing(Generic[Made]):
    """Draws versions of texts, and takes the time that this alone needs."""

    def __init__(
        self, texts: Sequence[Text], config: CorruptConfig, draw: Callable[[_Pack, int], list[Made]]
    ) -> None:
        self._packs, self._epochs, self._draw = tuple(_packs(texts)), config.epochs, draw
        self._tokens, self._seconds = 0, 0.0

    def by_epoch(self, reporter: ProgressReporter) -> Iterator[tuple[int, Text, Made]]:
        """(epoch, text, what is made of it), epoch by epoch."""
        turns = [(epoch, pack) for epoch in range(self._epochs) for pack in self._packs]
        with reporter.counting(len(turns)):
            for done, (epoch, pack) in enumerate(turns, 1):
                begin = perf_counter()
                made = self._draw(pack, epoch)
                self._seconds += perf_counter() - begin
                self._tokens += len(pack.ids)
                yield from ((epoch, text, one) for text, one in zip(pack.texts, made, strict=True))
                reporter.step(f"epoch {epoch + 1}", done, f"{self._tokens:,} tokens")

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


def _corruptions(texts: Sequence[Text], vocabulary: Vocabulary, config: CorruptConfig) -> _Drawing[Corrupted]:
    plan = plan_of(vocabulary, config)

    def draw(pack: _Pack, epoch: int) -> list[Corrupted]:
        made = plan.flat(
            pack.ids,
            pack.lengths,
            seed=config.seed,
            epoch=epoch,
            examples=pack.numbers,
            words=pack.words,
            progress=config.progress(epoch),
        )
        return list(map(Corrupted, made.input_ids.split(pack.lengths), made.labels.split(pack.lengths)))

    return _Drawing(texts, config, draw)


def _denoisings(texts: Sequence[Text], denoise: Denoiser, config: CorruptConfig) -> _Drawing[Denoised]:
    def draw(pack: _Pack, epoch: int) -> list[Denoised]:
        copy = copy_of(config.resampling, epoch)
        made = denoise(pack.ids, pack.lengths, seed=config.seed, epoch=copy, examples=pack.numbers)
        return [
            Denoised(inputs, (len(inputs),), labels, (len(labels),), hidden)
            for (inputs, labels), hidden in zip(made.pairs(), made.hidden.split(pack.lengths), strict=True)
        ]

    return _Drawing(texts, config, draw)


def shown(corrupted: Corrupted, tokenizer: PreTrainedTokenizerBase, *, color: bool) -> str:
    """The tokens with spaces between them; hidden ones in colour, or in brackets where they cannot be told else."""
    names = pieces(tokenizer, corrupted.input_ids.tolist())
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


def denoiser_of(
    vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase, config: CorruptConfig
) -> Denoiser:
    """The denoiser of a config.

    Raises ConfigError for an impossible rate or a tokenizer without sentinels or a mask.
    """
    if config.unit == "bart" and vocabulary.mask_id is None:
        raise ConfigError("`unit` bart: the tokenizer has no mask token; take one that has, such as BART's")
    if config.unit != "bart" and "<extra_id_0>" not in tokenizer.get_vocab():
        raise ConfigError(
            f"`unit` {config.unit}: the tokenizer has no <extra_id_0>, <extra_id_1>, ... to stand for what is "
            f"hidden; take one that has, such as T5's"
        )
    try:
        if config.unit == "bart":
            return Infilling(vocabulary, config.rate_or(0.3))
        sentinels = sentinels_of(tokenizer)
        if config.unit == "t5":
            return SpanCorruption(vocabulary, sentinels, config.rate_or(0.15))
        modes = [tuple(tokenizer(mode, add_special_tokens=False)["input_ids"]) for mode in _MODES]
        if len(set(modes)) < len(modes):
            raise ConfigError(
                f"`unit` ul2: to the tokenizer {', '.join(_MODES)} are the same; take one that knows them"
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
