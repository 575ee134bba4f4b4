"""A fresh BERT of a stated size, and a tokenizer learned from the texts at hand."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

_LAYERS_AND_WIDTH = {  # heads are 64 wide, the feed-forward four times the width
    "bert-tiny": (2, 128),
    "bert-mini": (4, 256),
    "bert-small": (4, 512),
    "bert-medium": (8, 512),
    "bert-base": (12, 768),
}
_VOCABULARY = 8192
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def config(size: str, vocab_size: int, pad_token_id: int) -> BertConfig:
    """The config of a fresh BERT, `bert-tiny` to `bert-base`.

    >>> config("bert-mini", vocab_size=100, pad_token_id=0).num_attention_heads
    4
    """
    layers, width = _LAYERS_AND_WIDTH[size]
    return BertConfig(
        vocab_size=vocab_size,
        pad_token_id=pad_token_id,
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
    )


def learn_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerBase:
    """A cased WordPiece tokenizer of at most 8192 pieces or so; each Chinese character is a word of its own.

    The same texts give the same pieces.
    """
    normalizer, pre_tokenizer = normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer()
    words = [
        word for text in texts for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))
    ]
    tokenizer = Tokenizer(models.WordPiece(_learn_pieces(words), unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), _SPECIAL, strict=True)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names)


def _learn_pieces(words: Sequence[str]) -> dict[str, int]:
    """Pieces and their ids.

    The trainer numbers inner characters as it meets them, in an order that differs from process to process, and
    breaks ties by those numbers; told of them beforehand it gives the same pieces every time.
    """
    inner = sorted({f"##{character}" for word in words for character in word[1:]})
    trainer = trainers.WordPieceTrainer(
        vocab_size=_VOCABULARY, special_tokens=[*_SPECIAL, *inner], show_progress=False
    )
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    learner.train_from_iterator(words, trainer)
    return learner.get_vocab()
