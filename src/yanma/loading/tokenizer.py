"""A tokenizer learned from texts: the same texts give the same tokenizer, in every process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Literal, get_args

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from ..errors import ConfigError, DataError, did_you_mean

Kind = Literal["wordpiece", "bpe", "unigram"]
Style = Literal["bert", "t5", "gpt"]
Texts = Callable[[], Iterator[str]]
"""Gives all texts from their beginning, each time it is called: they are read twice."""

NUM_SENTINELS = 100
"""Of the style "t5"."""

# The threads of sentencepiece share its sums out: another number rounds otherwise, so it is the same everywhere.
_UNIGRAM_THREADS = 4
_LONGEST_TEXT_BYTES = 2**30


@dataclass(frozen=True)
class _Specials:
    """The special tokens of a style, with the names that transformers has for them, in the order of their ids."""

    names: dict[str, str]
    template: str
    """What stands around a text, $A."""
    model_inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    max_length: int | None = None
    """Of models that count positions; None = no limit."""


_STYLES: dict[Style, _Specials] = {
    "bert": _Specials(
        {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        },
        "[CLS] $A [SEP]",
        ("input_ids", "token_type_ids", "attention_mask"),
        max_length=512,
    ),
    "t5": _Specials({"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}, "$A </s>"),
    "gpt": _Specials(
        {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, "<s> $A </s>"
    ),
}
_SENTINELS: dict[Style, list[str]] = {"t5": [f"<extra_id_{number}>" for number in range(NUM_SENTINELS)]}


def learn_tokenizer(
    texts: Texts, kind: Kind = "wordpiece", vocab_size: int = 8192, *, style: Style = "bert"
) -> PreTrainedTokenizerFast:
    """A cased tokenizer of at most `vocab_size` tokens, special ones counted.

    kind "wordpiece"   BERT's words, each Chinese character one of them; rare characters that do not fit are unknown
    kind "bpe"         byte-level, as of GPT-2: nothing is unknown, and every text comes back as it was
    kind "unigram"     of sentencepiece (Kudo 2018), NFKC; rare characters that do not fit are unknown

    style "bert"   [CLS] text [SEP], and [MASK]
    style "t5"     text </s>, and the sentinels <extra_id_0> to <extra_id_99>
    style "gpt"    <s> text </s>

    All styles have a padding and an unknown token.

    >>> tokenizer = learn_tokenizer(lambda: iter(["a card", "a car", "a card"]), "wordpiece", 40)
    >>> tokenizer.convert_ids_to_tokens(tokenizer("a card")["input_ids"])
    ['[CLS]', 'a', 'card', '[SEP]']

    Raises ConfigError for an unknown kind or style and for a size that cannot hold what the kind needs, DataError where
    there is no text.
    """
    for name, value, known in (("kind", kind, get_args(Kind)), ("style", style, get_args(Style))):
        if value not in known:
            hint = did_you_mean(value, known) or f"there are {', '.join(known)}"
            raise ConfigError(f"{name} is {value!r}; {hint}")
    special = [*_STYLES[style].names.values(), *_SENTINELS.get(style, [])]
    unknown = _STYLES[style].names["unk_token"]
    tokenizer = _LEARN[kind](texts, vocab_size, special, unknown)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=_STYLES[style].template,
        pair=pair_template(_STYLES[style].template),
        special_tokens=[
            (name, special.index(name)) for name in _STYLES[style].template.split() if name != "$A"
        ],
    )
    limit = _STYLES[style].max_length
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=list(_STYLES[style].model_inputs),
        **({} if limit is None else {"model_max_length": limit}),
        **_STYLES[style].names,
        **({"extra_special_tokens": _SENTINELS[style]} if style in _SENTINELS else {}),
    )


def pair_template(template: str) -> str:
    """The template of two texts: each token behind a text stands behind both; the second text and what follows it are
    of type 1.
    """
    before, _, after = template.partition("$A")
    return f"{before}$A{after}" + " $B:1" + "".join(f" {name}:1" for name in after.split())


def _learn_wordpiece(texts: Texts, vocab_size: int, special: list[str], unknown: str) -> Tokenizer:
    """WordPiece whose pieces do not depend on the process.

    The trainer numbers inner characters as it meets them, in an order that differs from process to process, and
    breaks ties by those numbers; told of them beforehand it gives the same pieces every time.
    """
    normalizer, pre_tokenizer = normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer()
    counts = _counted(normalizer.normalize_str(text) for text in texts())
    room = vocab_size - len(special)
    characters: list[str] = []
    inner: list[str] = []
    for character in _by_frequency(counts):
        joins = len(pre_tokenizer.pre_tokenize_str(f"a{character}a")) == 1
        if len(characters) + len(inner) + 1 + joins > room:
            break
        characters.append(character)
        inner += [f"##{character}"] * joins
    if not characters:
        raise ConfigError(f"vocab_size is {vocab_size}; {len(special)} tokens are special: give more")
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*special, *sorted(inner)],
        initial_alphabet=sorted(characters),
        limit_alphabet=len(characters),
        show_progress=False,
    )
    learner = Tokenizer(models.WordPiece(unk_token=unknown))
    learner.normalizer, learner.pre_tokenizer = normalizer, pre_tokenizer
    learner.train_from_iterator(texts(), trainer)
    tokenizer = Tokenizer(models.WordPiece(learner.get_vocab(), unk_token=unknown))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _learn_bpe(texts: Texts, vocab_size: int, special: list[str], unknown: str) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(special) + len(alphabet):
        raise ConfigError(
            f"vocab_size is {vocab_size}; byte-level BPE needs {len(alphabet)} tokens for bytes and {len(special)} "
            f"special ones: give {len(special) + len(alphabet)} or more"
        )
    _counted(texts())
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def _learn_unigram(texts: Texts, vocab_size: int, special: list[str], unknown: str) -> Tokenizer:
    """By sentencepiece: the trainer of `tokenizers` gives other scores in every process."""
    import sentencepiece

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    room = vocab_size - len(special) - 1  # sentencepiece puts a sign before words, which needs a place
    if room < 1:
        raise ConfigError(f"vocab_size is {vocab_size}; {len(special)} tokens are special: give more")
    counts = _counted(normalizer.normalize_str(text) for text in texts())
    rare = str.maketrans(dict.fromkeys(_by_frequency(counts)[room:], " "))
    proto = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(normalizer.normalize_str(text).translate(rare) for text in texts()),
        model_writer=proto,
        model_type="unigram",
        vocab_size=vocab_size - len(special) + 1,  # its own unknown token is one of ours
        hard_vocab_limit=False,
        character_coverage=1.0,
        bos_id=-1,
        eos_id=-1,
        normalization_rule_name="identity",
        num_threads=_UNIGRAM_THREADS,
        max_sentence_length=_LONGEST_TEXT_BYTES,
        minloglevel=2,
    )
    learned = sentencepiece.SentencePieceProcessor(model_proto=proto.getvalue())
    pieces = [(learned.id_to_piece(number), learned.get_score(number)) for number in range(1, len(learned))]
    vocabulary = [(name, 0.0) for name in special] + pieces
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=special.index(unknown)))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


_LEARN = {"wordpiece": _learn_wordpiece, "bpe": _learn_bpe, "unigram": _learn_unigram}


def _counted(texts: Iterable[str]) -> Counter[str]:
    """How often each character stands in the texts, but for spaces.

    Raises DataError where there is none.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    counts = Counter({character: count for character, count in counts.items() if not character.isspace()})
    if not counts:
        raise DataError("no text to learn a tokenizer from")
    return counts


def _by_frequency(counts: Counter[str]) -> list[str]:
    """The characters, frequent ones first."""
    return sorted(counts, key=lambda character: (-counts[character], character))
