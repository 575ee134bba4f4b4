"""The gallery of masks: part of docs/masks.md, and docs/masks.svg. Written and checked by scripts/docs.py."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import torch

from yanma.masks import Mask, from_dense, from_mask_mod, parse
from yanma.masks.html import STYLE, strength
from yanma.masks.pictures import picture

BEGIN = "<!-- gallery: begin; written by scripts/docs.py from scripts/gallery.py -->"
END = "<!-- gallery: end -->"


@dataclass(frozen=True)
class Entry:
    """One mask of the gallery."""

    title: str
    mask: Mask
    size: tuple[int, int]
    meaning: str
    source: str = ""
    code: str = ""
    """How it is written, where that is not its text."""


def entries() -> list[Entry]:
    """A mask of every kind, and what people make of them."""
    return [*_kinds(), *_compositions()]


def section() -> str:
    """The gallery's part of docs/masks.md."""
    parts = ["\n![All masks of this gallery](masks.svg)\n"]
    for heading, shown in (("The kinds", _kinds()), ("What is made of them", _compositions())):
        parts.append(f"\n## {heading}\n")
        for entry in shown:
            source = f" {entry.source}." if entry.source else ""
            code = entry.code or str(entry.mask)
            drawn = entry.mask.show(entry.size)
            parts.append(
                f"\n### {entry.title}\n\n`{code}`: {entry.meaning}.{source}\n\n```text\n{drawn}\n```\n"
            )
    return "".join(parts) + "\n"


def with_section(page: str) -> str:
    """The page with the gallery between its two markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in page:
        raise ValueError(f"the page lacks the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{section()}{END}{after}"


_COLUMNS = 6
_SIDE, _GAP, _TITLE = 132, 18, 22


def overview() -> str:
    """All masks on one SVG."""
    shown = entries()
    lines = -(-len(shown) // _COLUMNS)
    width = _GAP + _COLUMNS * (_SIDE + _GAP)
    height = _GAP + lines * (_SIDE + _TITLE + _GAP)
    parts = [
        f'<svg class="mask" xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="Masks: queries downwards, keys to the right">',
        f'<style>\n{STYLE}\n</style>\n<rect class="paper" width="{width}" height="{height}"/>',
    ]
    for index, entry in enumerate(shown):
        x = _GAP + index % _COLUMNS * (_SIDE + _GAP)
        y = _GAP + index // _COLUMNS * (_SIDE + _TITLE + _GAP)
        parts.append(f'<g transform="translate({x} {y})"><text y="12">{escape(entry.title)}</text>')
        parts += [_small(entry), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _small(entry: Entry) -> str:
    """The cells, one path a colour, so that a page of masks stays small."""
    drawn = picture(entry.mask, entry.size)
    rows, columns = drawn.shape
    unit = _SIDE / max(rows, columns)
    paths: dict[tuple[str, float], str] = {}
    for row in drawn.rows:
        for cell in row:
            hue = "x" if cell.document is None else "ab"[cell.document % 2]
            place = f"M{cell.column} {cell.row}h.92v.92h-.92z"
            if strength(cell):
                paths[hue, strength(cell)] = paths.get((hue, strength(cell)), "") + place
    back = f'<rect class="o" width="{columns}" height="{rows}"/>'
    cells = (
        f'<path class="{hue}"{"" if part == 1 else f""" fill-opacity="{part:g}" """.rstrip()} d="{d}"/>'
        for (hue, part), d in sorted(paths.items())
    )
    return f'<g transform="translate(0 {_TITLE}) scale({unit:.6g})">{back}{"".join(cells)}</g>'


def _kinds() -> list[Entry]:
    rules = '[("i", "i", "run"), ("t", "t", "causal"), ("t", "i", "causal"), ("i", "t", "causal")]'
    pairs = "[(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3)]"
    return [
        _of("Full", "full", 8, "every key, of any document"),
        _of("Causal", "causal", 8, "itself and what stands before it"),
        _of("Window", "window(2, 1)", 8, "itself, up to 2 tokens before it and up to 1 after it; None = no limit"),
        _of("Documents", "documents([4, 1, 3])", 8, "the keys of its own document; documents lie end to end"),
        _of(
            "Padding", "padding([3, 1], 4)", 8,
            "the valid slots of its own row of a padded rectangle: the static mask, for comparison",
        ),
        _of(
            "Prefix-LM", "prefix(3)", 8, "the first 3 tokens of its document, and what stands before it",
            "Dong et al. 2019 (UniLM); Raffel et al. 2020 (T5)",
        ),
        _of(
            "Global tokens", "global_tokens([4], first=1)", 8,
            "the global tokens of its document; those read all of it", "Beltagy et al. 2020 (Longformer)",
        ),
        _of("Chunks", "chunked(3)", 8, "its own chunk of 3 positions", "Meta 2025 (Llama 4), with `causal()`"),
        _of(
            "Dilated window", "dilated(2, 2, 1)", 8, "itself and every second key: 2 before it, 1 after it",
            "Beltagy et al. 2020 (Longformer)",
        ),
        _of("Strided", "strided(3)", 10, "the last 3 tokens, and every third before them",
            "Child et al. 2019 (Sparse Transformer)"),
        _of("Blocks", "blocks('#.#/.#./###', 3)", 9, "the blocks of 3 x 3 that the pattern shows",
            "Child et al. 2019"),
        _of(
            "Random blocks", "random_blocks(1, 2, 4)", 10,
            "one block of 2 keys, drawn from (seed, block): the same in any batch", "Zaheer et al. 2020 (BigBird)",
        ),
        _of("Random drop", "random_drop(0.4, 3)", 8,
            "itself, and each other key with probability 0.6, drawn from (seed, query, key)"),
        _of("Segments", f"segments('tiiittii', {rules})", 8,
            "text causally; patches of an image, `i`, all of their own image", "Zhou et al. 2024 (Transfusion)"),
        _of("Tree", "tree([-1, 0, 0, 1, 1, 2, 3])", 7, "itself and its ancestors: drafts of several continuations",
            "Miao et al. 2024 (SpecInfer)"),
        _of("Visible matrix", f"visible([(4, 4, {pairs})])", 4, "what the pairs say, a matrix a document",
            "Liu et al. 2020 (K-BERT)"),
        Entry(
            "From a tensor", from_dense(torch.eye(6, dtype=torch.bool).flip(0)), (6, 6), "what a bool tensor says",
            code="from_dense(torch.eye(6, dtype=torch.bool).flip(0))",
        ),
        Entry(
            "From a function", from_mask_mod(lambda b, h, q, kv: (q + kv) % 3 == 0), (8, 8),
            "what a function says, as flex_attention takes it", "Dong et al. 2024 (FlexAttention)",
            "from_mask_mod(lambda b, h, q, kv: (q + kv) % 3 == 0)",
        ),
        _of("And", "causal & dilated(2, None, None)", 8, "what both allow; `&`"),
        _of("Or", "window(0, 0) | blocks('.#/..', 4)", 8, "what either allows; `|`"),
        _of("Not", "~window(1, 1)", 8, "what the mask forbids, of other documents too; `~`"),
    ]  # fmt: skip


def _compositions() -> list[Entry]:
    # Two sentences of K-BERT: "Tim Cook [CEO Apple] visits": branch tokens see their entity, the trunk sees the trunk.
    trunk = [0, 1, 4]
    branch = [1, 2, 3]
    pairs = sorted({(q, kv) for group in (trunk, branch) for q in group for kv in group})
    rules = '[("i", "i", "run"), ("t", "t", "causal"), ("t", "i", "causal"), ("i", "t", "causal")]'
    return [
        _of("Causal documents", "documents([5, 3, 4]) & causal", 12, "packed texts for a decoder"),
        _of("Sliding window", "documents([8, 4]) & window(3, 0)", 12, "a decoder's sliding window",
            "Jiang et al. 2023 (Mistral)"),
        _of("Attention sinks", "causal & (window(3, 0) | global_tokens(first=1))", 12,
            "a sliding window that keeps the first token", "Xiao et al. 2024 (StreamingLLM)"),
        _of("Longformer", "documents([9, 5]) & (window(1, 1) | global_tokens(first=1))", 14,
            "a window, and a first token that reads and is read by all", "Beltagy et al. 2020"),
        _of("BigBird", "window(2, 2) | random_blocks(1, 3, 5) | global_tokens(first=1)", 15,
            "a window, one drawn block, and a global token", "Zaheer et al. 2020"),
        _of("Packed prefix-LM", "documents([6, 5]) & prefix([3, 2])", 11,
            "a prompt in both directions, its answer causally",
            "Raffel et al. 2020"),
        _of("Llama 4 chunks", "documents([7, 5]) & chunked(4) & causal", 12,
            "causal within chunks; other layers are `causal()`",
            "Meta 2025"),
        _of("Image and text", f"documents([8, 4]) & segments('ttiiiittiitt', {rules})", 12,
            "two packed texts with images", "Zhou et al. 2024"),
        _of("Speculative tree", "documents([3, 6]) & tree([[-1, 0, 1], [-1, 0, 0, 1, 1, 2]])", 9,
            "two requests, each checks its own tree of drafts", "Miao et al. 2024"),
        _of("K-BERT", f"visible([(5, 5, {pairs})])", 5,
            "`Tim Cook (CEO Apple) visits`: the branch in brackets is visible to `Cook` alone", "Liu et al. 2020"),
        _of("Dropped keys", "documents([6, 5]) & causal & random_drop(0.3, 1)", 11,
            "keys hidden at random, to regularise"),
        _of("Cross attention", "documents([2, 4, 3], kv_lengths=[5, 2, 4])", (9, 11), "a target reads its own source",
            "Vaswani et al. 2017"),
    ]  # fmt: skip


def _of(title: str, text: str, size: int | tuple[int, int], meaning: str, source: str = "") -> Entry:
    return Entry(title, parse(text), (size, size) if isinstance(size, int) else size, meaning, source, text)
