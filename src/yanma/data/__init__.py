"""Files to rows to examples; texts to blocks; which of them share a step.

Row       fields of a file's row, and where it stands
Example   what a model reads of a row: tokens, and what is to be learned of them
Block     a window of running text

rows = task_rows("train.jsonl", columns)          sources.py, formats.py, rows.py, sentences.py
documents = read_documents(["wiki/*.txt"])        corpus.py
blocks = cut_blocks(documents, tokenizer, ...)    blocks.py
packed(examples), padded(examples, ...)           collate.py: as one batch
"""

from .collate import packed, padded
from .columns import Columns
from .examples import IGNORE, Encoded, Example, Tokens
from .rows import Row, read_rows
from .sentences import stream_task_rows, task_rows

__all__ = [
    "IGNORE",
    "Columns",
    "Encoded",
    "Example",
    "Row",
    "Tokens",
    "packed",
    "padded",
    "read_rows",
    "stream_task_rows",
    "task_rows",
]
