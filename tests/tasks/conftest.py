"""A WordPiece tokenizer small enough to read."""

import pytest
from transformers import BertTokenizer

PIECES = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] a b c ##b ##c un ##believ ##able card lost in new york 我 们 北 京 , ."
)


@pytest.fixture(scope="session")
def tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(PIECES.split())})


@pytest.fixture
def pieces(tokenizer):
    """The tokens of an example, readable."""
    return lambda example: tokenizer.convert_ids_to_tokens(example.tokens.input_ids)
