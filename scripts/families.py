"""docs/families.md: what `unpad` supports, listed from the table of families, and what was measured of each.

    python scripts/families.py --write               measure every head, and write the page; a minute or two
    python scripts/families.py --write --pairs 10000 the same, and at least so many (document, batch) pairs
    python scripts/families.py --check               exit with 1 if the page does not list what the table has

Models are small and random, those of the tests (tests/models/builders.py), and so are the measurements
(tests/models/measured.py). Numbers are of the machine that wrote the page: `--check` looks at names alone.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "families.md"
sys.path.insert(0, str(ROOT / "tests"))

HEAD = """\
# Families and heads, measured

<!-- Written by scripts/families.py: python scripts/families.py --write --pairs 10000 -->

Every head of every family that [unpad](unpad.md) supports, as a small model with random weights: six documents in one
pack against the same stock model on one document at a time. `make test-all` runs the same matrix, `make test` a part;
they fail where an error is above 2, a document leaks, or a gradient in float32 differs by more than 1e-5.

- error: of outputs (root mean square), in units of plain torch's own error against float64 and a rounding step
- gradient: in float32 the relative difference of the whole gradient from the stock model's; in bfloat16 its error, in
  units of the stock gradient's
- leaks: pairs of documents in which one was changed and any bit of the other's outputs moved
- train: in training mode without dropout

Documents of `wav2vec2` and `hubert` are recordings, given padded; their tokens are frames.
"""
REFUSALS: dict[str, dict[str, Any]] = {
    "add_cross_attention": {"add_cross_attention": True, "is_decoder": True},
    "use_bidirectional_attention": {"use_bidirectional_attention": True},
    "sparse_prediction": {"sparse_prediction": True},
    "add_adapter": {"add_adapter": True},
    "conv_pos_batch_norm": {"conv_pos_batch_norm": True},
}
"""Settings that some families have and `unpad` may refuse, and how they are asked for."""


def listed(text: str) -> list[tuple[str, str]]:
    """(family, head) of each row of the page's table of heads, in order."""
    return re.findall(r"^\| (\S+) \| `(\w+)` \|", text, re.MULTILINE)


def every_family() -> tuple[Any, ...]:
    """The table of families: text, then speech."""
    from yanma.models.families import FAMILIES, SPEECH

    return (*FAMILIES, *SPEECH)


def table() -> list[tuple[str, str]]:
    """(family, head) as the table of families has them."""
    return [(family.model_type, name) for family in every_family() for name in family.heads]


def problems(text: str) -> list[str]:
    """Sentences about rows of a page that are missing, too many or out of order."""
    found, wanted = listed(text), table()
    if found == wanted:
        return []
    lacks, extra = set(wanted) - set(found), set(found) - set(wanted)
    what = (
        f"lacks {sorted(lacks)} and has {sorted(extra)} too many" if lacks or extra else "has another order"
    )
    return [f"{PAGE.name} {what}; run: python scripts/families.py --write --pairs 10000"]


def beyond_bounds(text: str) -> list[str]:
    """Sentences about numbers of a page that are beyond what its head states: errors, leaks, bits that differ."""
    said = [
        f"{PAGE.name}: of {count} (document, batch) pairs, {differing} differ"
        for count, differing in re.findall(r"of ([\d,]+) \(document, batch\) pairs, ([\d,]+) differ", text)
        if differing != "0"
    ]
    rows = re.findall(r"^\| (\S+) \| `(\w+)` \| (.+) \| (\d+) of (\d+) \|$", text, re.MULTILINE)
    for family, head, cells, leaks, pairs in rows:
        where = f"{PAGE.name}: {family}, {head}"
        if leaks != "0" or pairs == "0":
            said.append(f"{where}: {leaks} of {pairs} pairs leak")
        for column, cell in enumerate(cells.split(" | ")):
            error, gradient = map(float, cell.split(", "))
            # The gradients of float32 have a bound of their own each (tests/models/measured.py); none is far from 1e-5.
            if error > 2 or gradient > (2e-5 if column < 2 else 2):
                said.append(f"{where}: error {error:g}, gradient {gradient:g}")
    if len(rows) != len(listed(text)):
        said.append(f"{PAGE.name}: {len(rows)} of {len(listed(text))} rows have all numbers")
    return said


def page(pairs: int) -> str:
    """The whole page, measured anew."""
    sections = HEAD, _seen(), _pairs(pairs), *_families(), *_heads()
    return "\n".join(section.rstrip("\n") + "\n" for section in sections if section)


def _seen() -> str:
    import torch
    import transformers

    from yanma.machine import chip

    asked = re.search(r'"transformers(>=[^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert asked is not None
    old = re.search(
        r"transformers (\S+?)(?: to (\S+))?, torch", PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    )
    versions = {transformers.__version__, *(version for version in (old.groups() if old else ()) if version)}
    first, last = (pick(versions, key=_numbers) for pick in (min, max))
    span = first if first == last else f"{first} to {last}"
    threads = torch.get_num_threads()
    return (
        f"Seen with transformers {span}, torch {torch.__version__}, "
        f"on {chip()} with {threads} thread{'s' * (threads > 1)}. "
        f"yanma asks for transformers {asked[1]}.\n"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _pairs(wanted: int) -> str:
    """The line that counts pairs of a document and a batch, over all families; empty where none are wanted."""
    import torch

    import yanma
    from models.builders import build
    from models.measured import differing_pairs, sharpened

    if not wanted:
        return ""
    families = every_family()
    dtypes = torch.float32, torch.bfloat16
    share = -(-wanted // (len(dtypes) * len(families)))
    differing = count = 0
    for family in families:
        name = next(iter(family.heads))
        for dtype in dtypes:
            model = yanma.unpad(sharpened(build(family, name)).to(dtype))
            found = differing_pairs(model, family, name, share)
            differing, count = differing + found[0], count + found[1]
    return (
        f"Documents alone and in random batches, over {len(families)} families in float32 and bfloat16: "
        f"of {count:,} (document, batch) pairs, {differing:,} differ in any bit.\n"
    )


def _families() -> Iterator[str]:
    """A row a family: how attention goes, and settings that are refused."""
    yield "## Families\n"
    rows = ["| family | heads | attention | settings refused |", "|---|---|---|---|"]
    for family in every_family():
        rows.append(
            f"| {family.model_type} | {len(family.heads)} | {_attention(family)} | {', '.join(_refused(family))} |"
        )
    yield "\n".join(rows)


def _attention(family: Any) -> str:
    from models.builders import build

    config: Any = build(family, next(iter(family.heads))).config
    kinds = getattr(config, "layer_types", None) or []
    windows = bool(getattr(config, "sliding_window", None)) or "sliding_attention" in kinds
    words = [
        _direction(family, config),
        "windows by layer" if windows else "",
        "capped scores" if getattr(config, "attn_logit_softcapping", None) else "",
        "" if family.by_interface else "distances in scores; takes no mask of yours",
        "one layer repeated" if family.repeats_layers else "",
        "frames of recordings" if family.is_speech else "",
    ]
    return ", ".join(word for word in words if word)


def _direction(family: Any, config: Any) -> str:
    if family.cross_attention:
        return "encoder in both directions, decoder causal, and across"
    return "causal" if family.is_causal(config) else "in both directions"


def _refused(family: Any) -> Iterator[str]:
    import yanma
    from models.builders import build

    for setting, asked in REFUSALS.items():
        suffix = "ForMaskedLM" if setting == "sparse_prediction" else "Model"
        name = next((name for name in family.heads if name.endswith(suffix)), next(iter(family.heads)))
        if not hasattr(build(family, name).config, setting):
            continue
        model = build(family, name, **asked)
        try:
            yanma.unpad(model)
        except yanma.Unsupported:
            yield f"`{setting}`"


def _heads() -> Iterator[str]:
    """A row a head: error, gradient and leaks in each mode and dtype."""
    import torch

    from models.measured import measure

    cells = [(mode, dtype) for dtype in (torch.float32, torch.bfloat16) for mode in ("eval", "train")]
    yield "## Heads\n"
    names = [f"{mode} {'fp32' if dtype == torch.float32 else 'bf16'}" for mode, dtype in cells]
    rows = [
        "| family | head | " + " | ".join(f"{name}: error, gradient" for name in names) + " | leaks |",
        "|---" * (len(names) + 3) + "|",
    ]
    for family in every_family():
        for name in family.heads:
            found = [measure(family, name, *cell) for cell in cells]
            texts = [
                f"{own.error:.2f}, "
                + (f"{own.gradient:.0e}" if dtype == torch.float32 else f"{own.gradient_error:.2f}")
                for own, (_, dtype) in zip(found, cells, strict=True)
            ]
            leaks = f"{sum(own.leaks for own in found)} of {sum(own.pairs for own in found)}"
            rows.append(f"| {family.model_type} | `{name}` | {' | '.join(texts)} | {leaks} |")
    yield "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/families.md, or check what it lists.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="measure, and write the page")
    action.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 if it lists other heads than the table, or a number is beyond its bound",
    )
    parser.add_argument(
        "--pairs", type=int, default=0, help="count at least so many (document, batch) pairs too"
    )
    arguments = parser.parse_args()
    if arguments.write:
        with warnings.catch_warnings(action="ignore"):
            PAGE.write_text(page(arguments.pairs), encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    found = problems(text) + beyond_bounds(text)
    print("\n".join(found), file=sys.stderr, end="\n" * bool(found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
