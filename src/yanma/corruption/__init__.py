"""Corruption: which input tokens are hidden from a masked language model, and how.

plan = Plan(Vocabulary.of(tokenizer), unit="word", rate=0.15)       what is hidden, how much, what stands there
plan(ids, seed=0, epoch=3, example=7, words=words)                  Corrupted(input_ids, labels) of one text
plan.flat(ids, lengths, seed=0, epoch=3, examples=numbers)          of many, end to end: the same
MaskedDataset(texts, plan)                                          for DataLoader and Trainer
"""

from .by_name import UNITS, numbering
from .datasets import MaskedDataset, PadMasked
from .denoising import Continuation, Denoised, Denoiser, Infilling, Mixture, SpanCorruption, sentinels_of
from .electra import replaced_tokens
from .hardness import RunningLoss
from .phrases import Phrases
from .plan import IGNORE, Corrupted, Plan
from .pmi import Collocation, collocations
from .rates import Between, Decay
from .replacement import ALL_MASK, ALL_RANDOM, BERT, Replacement
from .statistics import DenoisingStatistics, Statistics, denoising_statistics, statistics
from .units import Spans
from .vocabulary import Vocabulary
from .words import entities, jieba_words, sentences, whole_words

__all__ = [
    "ALL_MASK",
    "ALL_RANDOM",
    "BERT",
    "IGNORE",
    "UNITS",
    "Between",
    "Collocation",
    "Continuation",
    "Corrupted",
    "Decay",
    "Denoised",
    "Denoiser",
    "DenoisingStatistics",
    "Infilling",
    "MaskedDataset",
    "Mixture",
    "PadMasked",
    "Phrases",
    "Plan",
    "Replacement",
    "RunningLoss",
    "SpanCorruption",
    "Spans",
    "Statistics",
    "Vocabulary",
    "collocations",
    "denoising_statistics",
    "entities",
    "jieba_words",
    "numbering",
    "replaced_tokens",
    "sentences",
    "sentinels_of",
    "statistics",
    "whole_words",
]
