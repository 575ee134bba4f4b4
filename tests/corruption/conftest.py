"""Vocabularies and tokenizers that are easy to read."""

import pytest
from transformers import BertTokenizer

from yanma.corruption import Vocabulary

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] a b c the cat sat on un ##believ ##able in new york , . ! 我 来 到 北 京 清 华"


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """0 to 4 are special, 4 is the mask."""
    return Vocabulary(size=1000, special_ids=(0, 1, 2, 3), mask_id=4)


@pytest.fixture(scope="session")
def tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(PIECES.split())})


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder
