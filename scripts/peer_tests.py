"""Other libraries' own test-suites on unpadded models, and a table of what differs.

    python scripts/peer_tests.py run CHECKOUT PATH... --suite NAME --results FOLDER
    python scripts/peer_tests.py again CHECKOUT --suite NAME --results FOLDER         what did not pass, once more
    python scripts/peer_tests.py table --results FOLDER                  print the table of what was run
    python scripts/peer_tests.py table --results FOLDER --write          put it in docs/unpad.md

A checkout is that of transformers, peft or sentence-transformers; paths are those of its tests, as pytest takes them.
They are run with scripts/peer_plugin.py, stock first, then with every model unpadded that `unpad` knows. Tests that do
not pass stock, as those that need a network, do not count. What differs is run once more, stock and unpadded: what then
fails stock, or passes unpadded, was a test that depends on its random inputs.

A test that fails unpadded is one of three:
- a refusal: each failure in it is an error that yanma raised on purpose;
- an artefact of the method, by the rules in `ARTEFACTS`: the test looks at what `unpad` says it changes;
- a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "unpad.md"
BEGIN = "<!-- peers: begin; written by scripts/peer_tests.py -->"
END = "<!-- peers: end -->"
STOCK, UNPADDED = "stock.jsonl", "unpadded.jsonl"

ARTEFACTS = (
    (
        "test_sdpa_can_dispatch_(non_)?composite_models|test_cached_forward_with_and_without_attention_mask",
        "False is not true|assumes the model to have the SDPA implementation",
        "reads in the config which attention is used",
    ),
    (
        "test_forward_with_logits_to_keep",
        r"Tensor-likes are not close[^$]*Greatest relative difference: 1\.0 at",  # 0 where the other is not
        "compares slots of padding, which are 0, with those of a call that goes through the stock forward",
    ),
    (
        "Glora",
        r"is not a plain torch\.nn\.Linear",
        "peft puts GLoRA around plain linear layers alone: it goes before `unpad`",
    ),
    (
        "test_can_flatten_inputs_transformer_model",
        "assert False is True",
        "asks whether sentence-transformers leaves out padding by itself, in whose place unpad does",
    ),
    (
        "gpt_neox.*test_decoder_model_past_large_inputs",
        "False is not true",
        "compares slots of padding, which are 0, with those of a step with a cache",
    ),
)
"""(pattern of the test's name, pattern of what it says, reason)."""


@dataclass(frozen=True)
class Verdict:
    """What became of a test that passes stock."""

    kind: str
    """`passes`, `refusal`, `artefact` or `fault`."""
    says: str = ""
    """The refusal, the artefact's reason, or what the fault says."""
    has_model: bool = False
    """Whether a model was unpadded in it."""


def verdict(test: str, record: dict[str, Any] | None) -> Verdict:
    """Judge what a test that passes stock did with unpadded models; None = it was never finished."""
    if record is None:
        return Verdict("fault", "the process ended before it")
    has_model = record["unpadded"] > 0
    if record["outcome"] == "passed":
        return Verdict("passes", "", has_model)
    if record["outcome"] == "skipped":
        return Verdict("fault", "it is skipped", has_model)
    failures = record["failures"]
    others = [failure["says"] for failure in failures if not failure["refused"]]
    if failures and not others:
        return Verdict("refusal", failures[0]["says"], has_model)
    reasons = [artefact(test, says) for says in others]
    if reasons and all(reasons):
        return Verdict("artefact", reasons[0], has_model)
    return Verdict("fault", others[0] if others else "it failed without a word", has_model)


def artefact(test: str, says: str) -> str:
    """Why a failure says nothing of the model; empty where no rule holds."""
    for name, words, reason in ARTEFACTS:
        if re.search(name, test) and re.search(words, says):
            return reason
    return ""


def run(checkout: Path, paths: Sequence[str], results: Path) -> None:
    """Run tests stock and unpadded, and once more what then differs; what was recorded stays in `results`."""
    for name in (STOCK, UNPADDED):
        (results / name).unlink(missing_ok=True)
        record(checkout, paths, results / name)
    again(checkout, results, ("fault", "artefact"))


def again(checkout: Path, results: Path, kinds: Sequence[str]) -> None:
    """Run tests of these verdicts once more, stock and unpadded."""
    differ = [test for test, found in judged(results).items() if found.kind in kinds]
    for name in (STOCK, UNPADDED) if differ else ():
        record(checkout, differ, results / name)


def record(checkout: Path, tests: Sequence[str], path: Path) -> None:
    """Run tests in a process of their own, in which the plugin adds a line for each to the file at `path`."""
    options = ["-q", "--tb=no", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    options += ["-p", "peer_plugin", "--record", str(path)]
    options += ["--unpadded"] if path.name == UNPADDED else []
    command = [sys.executable, "-m", "pytest", *options, *tests]
    with path.with_suffix(".txt").open("w", encoding="utf-8") as output:
        code = subprocess.run(
            command, cwd=checkout, env=environment(), stdout=output, stderr=output
        ).returncode
    if not path.exists():
        raise SystemExit(f"pytest ran no test of {tests[0]} (it exited with {code}); see {output.name}")


def judged(results: Path) -> dict[str, Verdict]:
    """Verdicts of all tests that always passed stock, each by the last time that it ran unpadded."""
    unpadded = {test: found[-1] for test, found in records(results / UNPADDED).items()}
    return {
        test: verdict(test, unpadded.get(test))
        for test, found in records(results / STOCK).items()
        if all(one["outcome"] == "passed" for one in found)
    }


def records(path: Path) -> dict[str, list[dict[str, Any]]]:
    """What the plugin wrote of each test, in the order in which it ran."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        found[entry["test"]].append(entry)
    return found


def environment() -> dict[str, str]:
    """This process's environment, offline, with the plugin where Python finds it."""
    paths = [str(ROOT / "scripts"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "HF_HUB_OFFLINE": "1"}


def table(results: Path) -> str:
    """The tables of all that was run, in Markdown."""
    rows: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for folder in sorted(path.parent for path in results.glob(f"*/*/{UNPADDED}")):
        for test, one in judged(folder).items():
            rows[folder.parent.name, part(test)].append(one)
    lines = [
        "| suite | tests | pass stock | of these with an unpadded model | pass | refused | artefacts | faults |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (suite, name), found in rows.items():
        lines.append(_row(suite, name, found))
    for suite in dict.fromkeys(suite for suite, _ in rows):
        lines.append(
            _row(suite, "all", [one for (of, _), found in rows.items() if of == suite for one in found])
        )
    every = [one for found in rows.values() for one in found]
    for kind, heading in (("refusal", "refused"), ("artefact", "artefact"), ("fault", "fault")):
        counts = Counter(without_numbers(one.says) for one in every if one.kind == kind)
        if counts:
            lines += ["", f"| {heading} | tests |", "|---|---|"]
            lines += [f"| {says} | {number} |" for says, number in counts.most_common()]
    return "\n".join(lines) + "\n"


def _row(suite: str, name: str, found: Sequence[Verdict]) -> str:
    kinds = Counter(one.kind for one in found)
    unpadded = sum(one.has_model for one in found)
    counts = [len(found), unpadded, *(kinds[kind] for kind in ("passes", "refusal", "artefact", "fault"))]
    return f"| {suite} | {name} | " + " | ".join(f"{count:,}" for count in counts) + " |"


def part(test: str) -> str:
    """Under which name a test is counted: its model's, its folder's among the tests, or its file's.

    >>> part("tests/models/bert/test_modeling_bert.py::BertModelTest::test_training"), part("tests/test_x.py::test")
    ('bert', 'test_x.py')
    >>> part("tests/sparse_encoder/losses/test_x.py::test")
    'sparse_encoder'
    """
    parts = [name for name in Path(test.partition("::")[0]).parts if name not in ("tests", "models")]
    return parts[0]


def without_numbers(says: str) -> str:
    """What messages have in common that differ in their numbers, in one line of a table.

    >>> without_numbers("labels is (2, 7), not (14,)")
    'labels is (...), not (...)'
    """
    line = re.sub(r"\([\d, ]+\)", "(...)", says.partition("\n")[0])
    return re.sub(r"\d+(\.\d+)?", "...", line).replace("|", "\\|")[:300]


def with_table(page: str, tables: str) -> str:
    """The page with the tables between its two markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in page:
        raise ValueError(f"the page lacks the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run tests of a checkout, stock and unpadded")
    agains = commands.add_parser("again", help="run once more what did not pass unpadded")
    tables = commands.add_parser("table", help="print the tables of what was run, or write them")
    for command in (runs, agains):
        command.add_argument("checkout", type=Path)
        command.add_argument("--suite", required=True, help="name of the library, by which results are kept")
    runs.add_argument("paths", nargs="+", metavar="path", help="tests within the checkout")
    tables.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name}")
    for command in (runs, agains, tables):
        command.add_argument("--results", type=Path, required=True, help="folder in which results are kept")
    chosen = parser.parse_args(arguments)
    if chosen.command == "table":
        text = table(chosen.results)
        if chosen.write:
            PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
        else:
            print(text)
        return 0
    suite = (chosen.results / chosen.suite).resolve()
    if chosen.command == "run":
        folder = suite / "+".join(part(path) for path in chosen.paths)
        folder.mkdir(parents=True, exist_ok=True)
        run(chosen.checkout.resolve(), chosen.paths, folder)
    else:
        for folder in sorted(path.parent for path in suite.glob(f"*/{UNPADDED}")):
            again(chosen.checkout.resolve(), folder, ("fault", "artefact", "refusal"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
