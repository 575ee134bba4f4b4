"""Tiny models of sentence-transformers with random weights, and texts of words that they know."""

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

WORDS = "the cat sat on a mat and what is it who reads all of this no one".split()
TEXTS = [
    " ".join((WORDS * 12)[i % 7 : i % 7 + n]) for i, n in enumerate((1, 5, 130, 2, 5, 40, 1, 17, 90, 3) * 4)
]
PAIRS = [(a, b) for a, b in zip(TEXTS, reversed(TEXTS), strict=True)]


def save_models(place: Path, **more) -> Path:
    """Folders `base`, `classifier` and `masked` of a tiny BERT with a tokenizer of words; `more` goes to its config."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=100, **names)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    sizes |= {"max_position_embeddings": 100, "num_labels": 1}
    config = BertConfig(vocab_size=len(vocabulary), **sizes | more)
    kinds = {"base": BertModel, "classifier": BertForSequenceClassification, "masked": BertForMaskedLM}
    for name, kind in kinds.items():
        kind(config).save_pretrained(place / name)
        tokenizer.save_pretrained(place / name)
    return place


def encoder(folder: Path, pooling="mean", *more) -> SentenceTransformer:
    inner = Transformer(str(folder / "base"), max_seq_length=100)
    return SentenceTransformer(modules=[inner, Pooling(32, pooling), *more], device="cpu")
