#!/usr/bin/env bash
# seqeval 1.2.2, seen 2026-11-28.
# Guess: its strict mode and its usual one count entities of the same types; only what is well-formed differs.
# Seen:  the strict mode strips dashes from both ends of a type, the usual one does not: entities of type "-X-" and "X" are
#        one class in a strict report, and two in the usual one.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq seqeval==1.2.2 setuptools
cat >"$folder/dashes.py" <<'PYTHON'
import importlib.metadata

from seqeval.metrics import classification_report
from seqeval.scheme import IOBES

tags = [["S--X-", "O", "S-X"]]


def classes(**how):
    report = classification_report(tags, tags, output_dict=True, **how)
    return {name: int(score["support"]) for name, score in report.items() if "avg" not in name}


usual, strict = classes(), classes(mode="strict", scheme=IOBES)
print(f"seqeval {importlib.metadata.version('seqeval')}: usual {usual}, strict {strict}")
assert usual == {"-X-": 1, "X": 1}, "the usual mode counts other types now: this finding is out of date"
assert strict == {"X": 2}, "the strict mode counts other types now: this finding is out of date"
PYTHON
"$folder/venv/bin/python" "$folder/dashes.py"
