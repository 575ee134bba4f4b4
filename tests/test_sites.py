"""Where keys come from: every constant is registered, no two paths meet, and what is drawn stays the same for ever."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import yanma
from models.builders import FAMILIES, build
from yanma.attention.dropout import _row_keys
from yanma.corruption.draws import drawn, example_keys
from yanma.keyed import Site, derived, document_keys, numbers
from yanma.models.layout import Layout, own_mask
from yanma.models.modules import _KeyedCalls
from yanma.models.spec_augment import masked_frames

PACKAGE = Path(yanma.__file__).parent
CPU = torch.device("cpu")
PLACES = torch.arange(12)
DECISIONS = [site for site in Site if site.value[0] == "epoch"]

COUNTED = {
    ("corruption/draws.py", "epoch"),
    ("corruption/draws.py", "what"),  # a Site itself: see the test of decisions
    ("models/interface.py", "site"),  # a module's number, from `Layout.visit`
    ("models/modules.py", "layout.visit(self._yanma_site)"),
    ("models/modules.py", "self.calls"),
    ("models/modules.py", "site"),
    ("models/relative.py", "layout.visit(module._yanma_site)"),
}
"""What keys are derived by beside constants: what is counted."""


def layout(seed: int, ids: tuple[int, ...], lengths: tuple[int, ...]) -> Layout:
    return Layout(lengths, own_mask(lengths, False), False, False, seed, ids, CPU)


def paths(seed: int) -> Iterator[tuple[str, Tensor]]:
    """Keys of a model's step over documents 0 to 6 and of their corruption, under one seed.

    Paths nest as `Site` draws them: each name below is a path from the document to what is drawn.
    """
    ids, lengths = tuple(range(7)), (12,) * 7
    modules = [*range(1, 30), *(Site.LATER_MODULES + place for place in range(1, 30))]
    visited = [layout(seed, ids, lengths).visit(module) for module in modules]
    visited += [number + 2**32 * again for number in visited for again in (1, 2)]  # as `visit` counts them
    here = layout(seed, ids, lengths)
    yield "document", here.document_keys
    yield "document, token", here.token_keys
    yield "seed, layers, call", torch.cat([_calls(_KeyedCalls(here, m).key) for m in modules])
    yield "document, time spans", numbers(derived(here.document_keys, Site.TIME_SPANS)[:, None], PLACES)
    asked = derived(here.document_keys, Site.PSEUDO_PERPLEXITY)
    yield "document, pseudo-perplexity", numbers(asked[:, None], PLACES)
    for module in visited:
        own = derived(here.document_keys, module)
        yield f"document, module {module}", own
        yield f"document, module {module}, head, query", _row_keys(own, torch.tensor(lengths), 4)
        yield f"document, token, module {module}", derived(here.token_keys, module)
    for module in modules:
        yield f"document, token, module {module}, call", _calls(_KeyedCalls(here, module).keys)
    for epoch in range(4):
        examples = example_keys(seed, epoch, ids, CPU)
        yield f"document, epoch {epoch}", examples
        for what in DECISIONS:
            yield f"document, epoch {epoch}, {what.name}", drawn(examples, what)
            yield (
                f"document, epoch {epoch}, {what.name}, place",
                drawn(examples[:, None], what, PLACES),
            )


def _calls(keys: Tensor) -> Tensor:
    return torch.cat([derived(keys, call) for call in (1, 2, 3)])


def test_no_two_paths_share_a_key():
    names, keys = [], []
    for seed in (0, 1, 2, 0 ^ Site.GENERATOR):
        for name, found in paths(seed):
            names += [f"seed {seed}, {name}"] * found.numel()
            keys.append(found.flatten())
    flat, order = torch.cat(keys).sort(stable=True)
    meet = (flat[1:] == flat[:-1]).nonzero().flatten().tolist()
    assert not meet, [(names[order[i]], names[order[i + 1]]) for i in meet[:5]]
    assert len(flat) > 300_000


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_modules_are_numbered_from_1_and_below_those_that_come_later(family):
    model = yanma.unpad(build(family, next(iter(family.heads))))
    found = [vars(module)["_yanma_site"] for module in model.modules() if "_yanma_site" in vars(module)]
    assert found and len(set(found)) == len(found)
    assert min(found) >= 1 and max(found) < Site.LATER_MODULES


def test_a_module_that_runs_again_has_another_number_and_none_is_a_constants():
    here = layout(0, (0,), (1,))
    found = [here.visit(module) for _ in range(3) for module in (1, 2, Site.LATER_MODULES + 1)]
    assert len(set(found)) == 9
    constants = {int(site) for site in Site if site.value[0] == "document"} - {Site.LATER_MODULES}
    assert not {number % 2**32 for number in found} & {number % 2**32 for number in constants}


def calls_of(name: str, within: Path = PACKAGE) -> Iterator[tuple[str, str, Site | None]]:
    """(file, second argument, the Site that it is) of each such call."""
    registered = {f"Site.{site.name}": site for site in Site}
    for path in sorted(within.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] != name:
                continue
            written = ast.unparse(node.args[1])
            where = path.relative_to(PACKAGE).as_posix()
            yield where, written, registered.get(written)


def test_keys_are_derived_by_registered_sites_or_by_what_is_counted():
    found = {(where, written): site for where, written, site in calls_of("derived")}
    others = {call for call, site in found.items() if site is None}
    assert others == COUNTED, "register the constant in keyed.Site, or name what is counted here"
    assert {site.name for site in found.values() if site is not None} >= {"TOKENS", "HEADS", "CORRUPTION"}


def test_corruptions_draw_by_decisions():
    found = list(calls_of("drawn", PACKAGE / "corruption"))
    assert {site.name for _, _, site in found if site is not None} | {"GAP"} == {
        what.name for what in DECISIONS
    }
    assert {written for _, written, site in found if site is None} == {"what"}, "of GAP and LENGTH"


def test_every_registered_site_is_used():
    used = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used |= {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    unused = [site.name for site in Site if f"Site.{site.name}" not in used]
    assert not unused, f"nobody draws by {unused}"


def digest(drawn: Tensor) -> str:
    return hashlib.sha256(drawn.to(torch.int64).numpy().tobytes()).hexdigest()[:16]


def test_draws_are_the_same_for_ever():
    # Runs that are repeated after an upgrade must drop, hide and ask what they did before: change these only knowingly.
    here = layout(7, (2, 0, 9), (3, 5, 40))
    calls, examples = _KeyedCalls(here, 5), example_keys(3, 4, range(6), CPU)
    asked = derived(document_keys(3, range(4)), Site.PSEUDO_PERPLEXITY)
    rows = _row_keys(derived(here.document_keys, 6), torch.tensor(here.lengths), 4)
    assert {
        "tokens": digest(here.token_keys),
        "rows of a table": digest(here.row_keys(torch.Size((1, 1, 9, 4)))),
        "queries of heads": digest(rows),
        "calls of a module": digest(derived(calls.keys, 3)),
        "layers of a stack": digest(calls.key),
        "time spans": digest(masked_frames(here, 0.5, 2, 1)),
        "examples of an epoch": digest(examples),
        "tokens asked": digest(numbers(asked[:, None], torch.arange(6))),
    } | {what.name: digest(drawn(examples, what)) for what in DECISIONS} == {
        "tokens": "6891478bfa2d8829",
        "rows of a table": "5b12c7a6a2256db0",
        "queries of heads": "dff783f0960b1eaf",
        "calls of a module": "78a0503c0ab93d5a",
        "layers of a stack": "a076d9a610dbde39",
        "time spans": "a3e3d391c56658f3",
        "examples of an epoch": "44b6c5d6ac22fe1c",
        "tokens asked": "feb1eba2541c86b0",
        "ORDER": "f56709d40a731cfd",
        "WINDOW": "1626d19637e4354a",
        "RATE": "3e484a6cf35b0bc0",
        "LENGTH": "43728fd250242474",
        "REPLACEMENT": "260767ffda18a0b9",
        "SUBSTITUTE": "8947d19341892857",
        "DENOISER": "297d2bc3a8aed877",
        "GAP": "3f9b18c1338ab43a",
        "CUT": "f73c834ece24024c",
    }
