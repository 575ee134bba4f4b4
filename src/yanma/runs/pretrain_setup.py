"""From a config to what can be computed: texts are read and cut, a tokenizer and a model are loaded or made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..corruption import (
    ALL_MASK,
    Plan,
    RunningLoss,
    Vocabulary,
    jieba_words,
    numbering,
    sentinels_of,
)
from ..corruption import SpanCorruption as HiddenSpans
from ..corruption.by_name import REPLACEMENTS, UNITS, rate_of
from ..corruption.phrases import Phrases
from ..corruption.pmi import load as load_phrases
from ..data.blocks import Block, Blocks, cut_blocks, stream_blocks
from ..data.corpus import Document, check_used, read_documents
from ..data.hold_out import hold_out
from ..data.order import Shuffled, StepSize, Streamed
from ..errors import ConfigError, DataError
from ..loading import pretrained
from ..loading.special_tokens import left_out
from ..loading.tokenizer import NUM_SENTINELS, learn_tokenizer
from ..objectives import Compute, Objective
from ..objectives.electra import Rtd
from ..objectives.language import CausalLm, Mlm, SpanCorruption
from .language import Held, LanguageJudge, fixed_plans
from .pretrain_config import PretrainConfig
from .setup import Note, Setup, batching_of, check_model, some, tokenizer_of, with_length
from .trainee import Trainee, make

_USUAL_LENGTH = 512
_STYLES: dict[str, Literal["bert", "t5", "gpt"]] = {
    "mlm": "bert",
    "rtd": "bert",
    "span-corruption": "t5",
    "causal-lm": "gpt",
}
_COMPARED = 64
"""Blocks of a stream that a run which goes on must find again."""
_VALIDATED_UNITS = ("token", "word", "span")


def set_up(config: PretrainConfig, device: torch.device, note: Note, begun: Path | None = None) -> Setup:
    """Read the texts, load or make the model; `begun` is the tokenizer's folder of a run that goes on.

    Raises ConfigError, DataError or Unsupported for whatever keeps the run from starting.
    """
    check_model(config, note)
    _check_sources(config)
    phrases = _phrases(config)
    tokenizer = tokenizer_of(config, begun, lambda: _learned(config, note))
    trainee = make(config, tokenizer, device, config.model.max_length or _USUAL_LENGTH)
    for said in trainee.notes:
        note(said)
    if trainee.fresh and trainee.fresh != ("all",):
        note(f"{config.model.path}: weights that start at random: {some(trainee.fresh)}")
    if said_of_ends := left_out(tokenizer, trainee.saved):
        note(f"warning: {said_of_ends}")
    config = _with_max_length(config, _longest(trainee.saved, tokenizer))
    vocabulary = Vocabulary.of(tokenizer)
    objective = _objective(config, trainee, vocabulary, tokenizer)
    batching = batching_of(config, tokenizer, trainee.saved, asks_end=False)
    cut = _BlocksOf(config, tokenizer, phrases)
    train, held = _data(config, cut, vocabulary, note)
    order = _order(config, cut, train)
    saving, sizes = config.saving, {"validation": _size(held.blocks)}
    compute = Compute(trainee.trained, batching)
    return Setup(
        config,
        objective,
        batching,
        tokenizer,
        trainee.trained,
        trainee.saved,
        order,
        config.optim.steps or cast(Shuffled, order).count(cast(int, config.optim.epochs)),
        LanguageJudge(
            objective, compute, held, config.optim.bf16, vocabulary, saving.pseudo_perplexity_tokens
        ),
        {
            "objective": config.objective.name,
            "vocabulary": vocabulary.size,
            "data": sizes | ({} if train is None else {"train": _size(train)}),
        },
        {
            "train": _fingerprint(train or cast(Streamed, order).items),
            "validation": _fingerprint(held.blocks),
        },
        within=trainee.within,
        losses=RunningLoss.start(vocabulary.size) if config.objective.hard_tokens else None,
    )


def _check_sources(config: PretrainConfig) -> None:
    """Refuse files that are not there, and settings that none of them uses, before anything is computed."""
    named = config.data
    _documents(config, named.train)
    sources = [*named.train]
    if isinstance(named.validation, str):
        try:
            _documents(config, (named.validation,))
        except DataError as error:
            raise DataError(f"`validation` {error}") from None
        sources.append(named.validation)
    check_used(sources, column=named.column, rule=named.documents)


def _phrases(config: PretrainConfig) -> Phrases | None:
    if config.objective.phrases is None:
        return None
    path = Path(config.objective.phrases)
    if not path.is_file():
        raise DataError(f"`phrases` {path}: no such file; yanma pmi makes it")
    return load_phrases(path)


def _learned(config: PretrainConfig, note: Note) -> PreTrainedTokenizerBase:
    """A tokenizer of the texts."""
    named = config.model
    hoped = _with_max_length(config, None)  # what cannot be is told before this takes its time
    if config.objective.name == "span-corruption":
        _check_sentinels(hoped, NUM_SENTINELS)
    if next(_documents(config, config.data.train), None) is None:
        raise _no_text(config.data.train)
    tokenizer = learn_tokenizer(
        lambda: (document.text for document in _documents(config, config.data.train)),
        named.tokenizer_kind,
        named.vocab_size,
        style=_STYLES[config.objective.name],
    )
    tokenizer.model_max_length = max(_USUAL_LENGTH, named.max_length or 0)
    fewer = f" (of {named.vocab_size:,}: its texts have no more)" if len(tokenizer) < named.vocab_size else ""
    note(f"a {named.tokenizer_kind} tokenizer of {len(tokenizer):,} tokens{fewer} was learned from train")
    return tokenizer


def _longest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Tokens of the longest block that the model can read; None where nothing limits it."""
    limits = (
        pretrained.longest_text(model, tokenizer),
        getattr(model.config, "max_position_embeddings", None),
    )
    return min((limit for limit in limits if limit is not None), default=None)


def _with_max_length(config: PretrainConfig, limit: int | None) -> PretrainConfig:
    """`max_length` as the config says, else what the model allows, at most 512."""
    max_length = config.model.max_length or min(limit or _USUAL_LENGTH, _USUAL_LENGTH)
    return with_length(config, max_length, limit, ("batch_tokens", "max_batch_tokens"), what="block")


def _objective(
    config: PretrainConfig, trainee: Trainee, vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase
) -> Objective:
    named = config.objective
    try:
        if named.name == "causal-lm":
            return CausalLm()
        if named.name == "span-corruption":
            return _span_corruption(config, trainee, vocabulary, tokenizer)
        # ELECTRA's generator reads the mask for every hidden token (Clark et al. 2020, 3.1)
        replacement = ALL_MASK if named.name == "rtd" else REPLACEMENTS[named.replacement]
        plan = Plan(vocabulary, UNITS[named.unit], rate_of(named.rate), replacement, named.resampling)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"`objective` {named.name}: {error}") from None
    if named.name == "mlm":
        return Mlm(plan, config.seed)
    return Rtd(plan, config.seed, (1.0, named.discriminator_weight))


def _span_corruption(
    config: PretrainConfig, trainee: Trainee, vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase
) -> Objective:
    named, sentinels = config.objective, sentinels_of(tokenizer)
    _check_sentinels(config, len(sentinels))
    if trainee.saved.config.pad_token_id is None:
        raise ConfigError(
            "`objective` span-corruption needs a padding token, in whose place what is not scored stands, and the "
            "tokenizer has none; give it one (tokenizer.pad_token = ...)"
        )
    denoise = HiddenSpans(vocabulary, sentinels, float(named.rate), named.mean_span)
    return SpanCorruption(denoise, named.resampling, config.seed)


def _check_sentinels(config: PretrainConfig, number: int) -> None:
    """Refuse blocks that may have more spans than the tokenizer has sentinels."""
    named, max_length = config.objective, cast(int, config.model.max_length)
    spans = math.ceil(max_length * float(named.rate) / named.mean_span) + 1
    if spans > number:
        raise ConfigError(
            f"`objective` span-corruption: blocks of {max_length} tokens may need {spans} sentinels and the tokenizer "
            f"has {number}; give a lower `max_length` or `rate`, or a larger `mean_span`"
        )


class _BlocksOf:
    """Documents into blocks, as the config says."""

    def __init__(
        self, config: PretrainConfig, tokenizer: PreTrainedTokenizerBase, phrases: Phrases | None
    ) -> None:
        self._tokenizer, self._config, self._phrases = tokenizer, config, phrases
        self._segmenter = jieba_words if config.objective.segmenter else None

    def cut(self, documents: Iterable[Document], unit: str | None = None) -> Blocks:
        """All at once."""
        return cut_blocks(documents, self._tokenizer, **self._how(unit))

    def stream(self, documents: Iterable[Document]) -> Iterator[Block]:
        """One by one."""
        return stream_blocks(documents, self._tokenizer, **self._how(None))

    def _how(self, unit: str | None) -> dict[str, Any]:
        """`unit` is whose words are kept; None = that of the objective."""
        config, unit = self._config, unit or self._config.objective.unit
        words = numbering(unit, segmenter=self._segmenter, phrases=self._phrases)
        return {"max_length": config.model.max_length, "rule": config.data.blocks, "numbering": words}


def _data(
    config: PretrainConfig, cut: _BlocksOf, vocabulary: Vocabulary, note: Note
) -> tuple[Blocks | None, Held]:
    """Train, None where it is streamed, and validation."""
    named = config.data
    train: Iterable[Document] = _documents(config, named.train)
    if isinstance(named.validation, float):
        train, validation = hold_out(list(train), named.validation, seed=config.seed, what="text")
        note(f"{len(validation):,} of {len(train) + len(validation):,} texts held out for validation")
    else:
        validation = list(_documents(config, (named.validation,)))
    blocks = None if named.streaming else cut.cut(train)
    if blocks is not None and not len(blocks):
        raise _no_text(named.train)
    held = cut.cut(validation)
    if not len(held):
        raise DataError(f"`validation` {named.validation}: no text in it")
    units: dict[str, Blocks] = {}
    if config.objective.name == "mlm":
        wanted = dict.fromkeys((*_VALIDATED_UNITS, config.objective.unit))
        fixed_plans(vocabulary, list(wanted))
        words = cut.cut(validation, "word")
        own = ("phrase", "sentence")  # have a numbering of their own
        units = {unit: cut.cut(validation, unit) if unit in own else words for unit in wanted}
    if blocks is not None:
        note(
            f"train: {len(blocks):,} block{'s' * (len(blocks) != 1)}, {len(blocks.flat):,} tokens; "
            f"validation: {len(held.flat):,} tokens"
        )
    return blocks, Held(held, units)


def _order(config: PretrainConfig, cut: _BlocksOf, train: Blocks | None) -> Shuffled | Streamed:
    named, size = config.data.train, StepSize(batch_tokens=config.optim.batch_tokens)
    if train is not None:
        return Shuffled(train, train.lengths, config.seed, size)
    streamed = Streamed(lambda: cut.stream(_documents(config, named)), config.seed, size)
    if next(iter(streamed.items()), None) is None:
        raise _no_text(named)
    return streamed


def _documents(config: PretrainConfig, sources: Sequence[str]) -> Iterator[Document]:
    return read_documents(sources, column=config.data.column, rule=config.data.documents)


def _no_text(sources: Sequence[str]) -> DataError:
    return DataError(f"{', '.join(sources)}: no text in it")


def _size(blocks: Blocks) -> dict[str, int]:
    return {"blocks": len(blocks), "tokens": int(sum(blocks.lengths)), "longest": int(max(blocks.lengths))}


def _fingerprint(blocks: Blocks | Callable[[], Iterable[Block]]) -> str:
    """Of all that is hidden by: tokens, their words, where blocks end; of a stream's first blocks alone."""
    if isinstance(blocks, Blocks):
        parts = [blocks.flat, blocks.flat_words, torch.tensor(blocks.lengths)]
    else:
        parts = [part for block in islice(blocks(), _COMPARED) for part in (block.input_ids, block.words)]
    found = blake2b(digest_size=16)
    for part in parts:
        if part is not None:
            found.update(part.numpy().data)
    return found.hexdigest()
