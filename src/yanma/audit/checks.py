"""The checks: each runs a subject in a few ways that should not matter and looks at what moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DataError, YanmaError
from ..masks import from_dense
from .documents import Document, Documents, own_ids, pictured, replaced
from .findings import Finding, Leak, Place, Verdict
from .measure import change, differing, rounding, rows, tolerance
from .pairs import has_decoder
from .subject import Subject

# N documents, L tokens of one of them, R rows of its output

_MORE_SLOTS = (1, 7)
_NOT_FINITE = (
    "look for weights that are no numbers (of a run that came to nan), or half precision that overflows"
)


@dataclass(frozen=True, eq=False)
class Trial:
    """A subject with the documents that it is asked about."""

    subject: Subject
    documents: Documents
    exact: bool = True
    """Whether two runs of one batch have the same bits here, so that a moved bit means something."""

    @cached_property
    def outputs(self) -> list[Tensor]:
        """The documents in one batch."""
        return self.run(self.documents)

    @cached_property
    def tolerance(self) -> float:
        """What rounding may change."""
        return max(tolerance(output) for output in self.outputs)

    def run(self, documents: Documents) -> list[Tensor]:
        """(R, ...) of each document, flattened behind."""
        with torch.no_grad():
            return self.rows(self.subject.run(documents))

    def rows(self, outputs: list[Tensor]) -> list[Tensor]:
        """Each output as (R, everything else)."""
        return [rows(output, self.subject.per_token) for output in outputs]

    def moved(self, before: Tensor, after: Tensor) -> Tensor:
        """(R,) bool: in any bit, or by more than rounding where bits move by themselves."""
        return differing(before, after) if self.exact else change(before, after) > self.tolerance

    def place(self, document: int, row: int) -> Place:
        """A row of a document's output."""
        return Place(document, row if self.subject.per_token else None)

    def passed(self, check: str, is_fine: bool, about: str, **found: Any) -> Finding:
        """A finding with its verdict, and the fix where it failed."""
        if is_fine:
            return Finding(check, Verdict.PASS, about, **found)
        return Finding(check, Verdict.FAIL, about, fix=self.subject.fixes.get(check), **found)

    def skipped(self, check: str, reason: str) -> Finding:
        """The check could not be made."""
        return Finding(check, Verdict.SKIPPED, self.subject.absent.get(check, reason))


def repeatable(trial: Trial) -> Finding:
    """The same batch twice."""
    same, apart = _compare(trial.outputs, trial.run(trial.documents))
    if not all(bool(output.isfinite().all()) for output in trial.outputs):
        about = "outputs are not finite, so nothing can be compared"
        return Finding("repeatable", Verdict.FAIL, about, apart, same, fix=_NOT_FINITE)
    about = "the same batch, run twice"
    return trial.passed("repeatable", apart <= trial.tolerance, about, number=apart, same_bits=same)


def padding(trial: Trial) -> Finding:
    """The same documents, more slots of padding."""
    if trial.subject.padded is None:
        return trial.skipped("padding", "there is no padding")
    same, worst = True, 0.0
    for more in _MORE_SLOTS:
        with torch.no_grad():
            wider = trial.rows(trial.subject.padded(trial.documents, more))
        is_same, apart = _compare(trial.outputs, wider)
        same, worst = same and is_same, max(worst, apart)
    slots = " and ".join(map(str, _MORE_SLOTS))
    about = f"largest difference with {slots} more slots of padding"
    return trial.passed("padding", worst <= trial.tolerance, about, number=worst, same_bits=same)


def batch(trial: Trial) -> Finding:
    """Each document alone and in company."""
    alone = [_alone(trial, document) for document in trial.documents]
    same, worst = _compare(trial.outputs, alone)
    num_same = sum(not differing(a, b).any() for a, b in zip(trial.outputs, alone, strict=True))
    about = (
        f"largest difference to the document alone; {num_same} of {len(alone)} documents have the same bits"
    )
    return trial.passed("batch", worst <= trial.tolerance, about, number=worst, same_bits=same)


def _alone(trial: Trial, document: Document) -> Tensor:
    try:
        return trial.run((document,))[0]
    except YanmaError:
        raise
    except Exception as error:  # of any kind: it is somebody else's model
        raise DataError(
            f"documents: {trial.subject.name} runs one of {len(document)} tokens in company, but not alone "
            f"({type(error).__name__}: {_first_line(error)}); give documents none of which is so short"
        ) from error


def isolation(trial: Trial) -> Finding:
    """A changed token of one document moves no other."""
    numbers = range(len(trial.documents))
    changes = [
        (Place(document, token), {other: slice(None) for other in numbers if other != document})
        for document, content in enumerate(trial.documents)
        for token in sorted({0, len(content) - 1})
    ]
    worst, leak = _worst_leak(trial, changes)
    about = "largest move of a document when a token of another changes"
    return trial.passed("isolation", leak is None, about, number=worst, same_bits=leak is None, where=leak)


def gradients(trial: Trial) -> Finding:
    """One document's output has no gradient at the embeddings of another."""
    model = trial.subject.module
    if not hasattr(model, "get_input_embeddings"):
        return trial.skipped("gradients", "there is no model whose embeddings are known")
    with _embedded(model) as seen:
        outputs = trial.subject.run(trial.documents)
    if not seen:
        return trial.skipped("gradients", "the model runs without its own embeddings of tokens")
    leaves = [embeddings for _, embeddings in seen]
    worst, leak, draw = 0.0, None, torch.Generator().manual_seed(0)
    for reader, output in enumerate(outputs):
        # Weighed, as a plain sum of normalised rows is constant.
        weights = torch.rand(output.shape, generator=draw).to(output)
        found = torch.autograd.grad(
            (output * weights).sum(), leaves, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        for read in range(len(outputs)):
            if read == reader:
                continue
            for (ids, _), gradient in zip(seen, found, strict=True):
                strength, token = _strongest(gradient, ids, trial.documents, read)
                if not strength <= worst:  # also what is not a number
                    worst, leak = strength, Leak(Place(reader, None), Place(read, token))
    about = "largest gradient of a document's output at the embeddings of another"
    return trial.passed("gradients", leak is None, about, number=worst, where=leak)


def _strongest(gradient: Tensor, ids: Tensor, documents: Documents, read: int) -> tuple[float, int | None]:
    """The largest gradient at the embeddings of a document's own tokens, and the place of the token that has it."""
    own = torch.tensor(sorted(own_ids(documents, read)), dtype=ids.dtype, device=ids.device)
    slots = torch.isin(ids, own)
    if not bool(slots.any()):
        return 0.0, None
    strength = gradient[slots].abs().amax(-1)
    return float(strength.max()), documents[read].index(int(ids[slots][strength.argmax()]))


def causality(trial: Trial) -> Finding:
    """A changed token moves nothing that stands before it, where none of that may read it."""
    if not trial.subject.per_token:
        return trial.skipped("causality", "documents have one output each, after all of their tokens")
    later = [_unread_before(trial.subject, document) for document in trial.documents]
    if not any(later):
        return trial.skipped("causality", "tokens may read what comes after them")
    changes = [
        (Place(document, token), {document: slice(token)})
        for document, tokens in enumerate(later)
        for token in (sorted({tokens[(len(tokens) - 1) // 2], tokens[-1]}) if tokens else ())
    ]
    worst, leak = _worst_leak(trial, changes)
    about = "largest move of a token when a later one changes"
    return trial.passed("causality", leak is None, about, number=worst, same_bits=leak is None, where=leak)


def _unread_before(subject: Subject, document: Document) -> list[int]:
    """The tokens that none before them may read."""
    says = subject.expected((document,)).dense()
    return [token for token in range(1, len(document)) if not bool(says[:token, token].any())]


def agreement(trial: Trial) -> Finding:
    """Who is moved by whom, token by token, beside what the mask says."""
    small = Trial(trial.subject, pictured(trial.documents), trial.exact)
    places = [Place(d, t) for d, document in enumerate(small.documents) for t in range(len(document))]
    columns = []
    for place in places:
        after = small.run(replaced(small.documents, place.document, place.token or 0))
        both = [*zip(small.outputs, after, strict=True)]
        columns.append(torch.cat([torch.stack([small.moved(*x), differing(*x)]) for x in both], 1))
    moved, touched = torch.stack(columns, 2).cpu()
    says = small.subject.expected(small.documents).dense()
    reads = moved | touched & says  # of what may be read, a move as small as rounding counts too
    wrong = (reads & ~says).nonzero().tolist() or (says & ~reads).nonzero().tolist()
    leak = None
    if wrong:
        readers = [small.place(d, r) for d, output in enumerate(small.outputs) for r in range(len(output))]
        leak = Leak(readers[wrong[0][0]], places[wrong[0][1]])
    num_read, num_unread = int((reads & ~says).sum()), int((says & ~reads).sum())
    about = f"of {says.numel()} pairs, {num_read} are read that the mask hides, {num_unread} are not that it shows"
    return trial.passed(
        "agreement",
        not wrong,
        about,
        number=num_read + num_unread,
        where=leak if num_read else None,
        pictures=(from_dense(says), from_dense(reads)),
    )


def accumulation(trial: Trial) -> Finding:
    """The gradient of one step does not depend on how it is cut into micro-batches."""
    share, model = trial.subject.share, trial.subject.module
    step = tuple(document for document in trial.documents if len(document) > 1)
    if share is None or model is None:
        return trial.skipped("accumulation", "there is no loss")
    if len(step) < 2:
        return trial.skipped("accumulation", "it takes two documents of two tokens or more")
    parameters = [p for p in model.parameters() if p.requires_grad]
    whole = _gradient(share(step, step, 1), parameters)
    cut = torch.stack([_gradient(share((d,), step, len(step)), parameters) for d in step]).sum(0)
    apart = float((whole - cut).norm() / whole.norm())
    about = f"relative difference of the gradient, one batch or {len(step)} micro-batches"
    return trial.passed("accumulation", apart <= rounding(parameters[0].dtype), about, number=apart)


def training(trial: Trial) -> Finding:
    """Forward and backward run in train mode, and give numbers."""
    model = trial.subject.module
    if model is None:
        return trial.skipped("training", "there is no model that could be trained")
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.train()
    try:
        outputs = trial.subject.run(trial.documents)
        gradient = _gradient(torch.stack([output.double().sum() for output in outputs]).sum(), parameters)
    except Exception as error:  # of any kind: it is somebody else's model
        return trial.passed("training", False, f"{type(error).__name__}: {error}")
    finally:
        model.eval()
    finite = bool(gradient.isfinite().all())
    about = "forward and backward in train mode" + ("" if finite else ": the gradient is not finite")
    return trial.passed("training", finite, about)


CHECKS: dict[str, Callable[[Trial], Finding]] = {
    check.__name__: check
    for check in (padding, batch, isolation, gradients, causality, agreement, accumulation, training)
}
"""All but `repeatable`, on which they depend."""


def asked(check: Callable[[Trial], Finding], trial: Trial) -> Finding:
    """What a check finds; skipped where it needs gradients and the model raises then, as RWKV's backward may."""
    try:
        return check(trial)
    except RuntimeError as error:
        if check not in (gradients, accumulation):
            raise
        why = _first_line(error).partition(". ")[0]
        return trial.skipped(check.__name__, f"with gradients the model raises {type(error).__name__}: {why}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _compare(before: list[Tensor], after: list[Tensor]) -> tuple[bool, float]:
    """Whether all bits are the same, and the largest difference."""
    pairs = list(zip(before, after, strict=True))
    same = not any(bool(differing(b, a).any()) for b, a in pairs)
    return same, max(float(change(b, a).max()) for b, a in pairs)


def _worst_leak(
    trial: Trial, changes: Iterable[tuple[Place, Mapping[int, slice]]]
) -> tuple[float, Leak | None]:
    """Tokens are changed one at a time; of the rows watched then, by document: the largest move, and whose it is."""
    worst, leak = 0.0, None
    for changed, watched in changes:
        after = trial.run(replaced(trial.documents, changed.document, changed.token or 0))
        for document, part in watched.items():
            apart, row = _most_moved(trial, trial.outputs[document][part], after[document][part])
            if apart > worst:
                worst, leak = apart, Leak(trial.place(document, row), changed)
    return worst, leak


def _most_moved(trial: Trial, before: Tensor, after: Tensor) -> tuple[float, int]:
    """By how much the most moved row moved, and which it is; 0 where none did.

    Bits can differ where numbers do not (0 and -0): that is a move too, the smallest there is.
    """
    least = torch.finfo(torch.float64).tiny
    apart = change(before, after).clamp(min=least) * trial.moved(before, after)
    return float(apart.max()), int(apart.argmax())


def _gradient(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """All gradients end to end, in float64; absent ones are 0."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return torch.cat([part.double().flatten() for part in parts])


@contextmanager
def _embedded(model: Any) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The ids that the model embeds and their embeddings, call by call; gradients can be asked of these.

    An encoder and a decoder may have a table of embeddings each, and what runs may be another module of that weight.
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def watch(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        embeddings, *rest = output if isinstance(output, tuple) else (output,)  # I-BERT's with their scale
        leaf = embeddings.detach().requires_grad_()
        seen.append((arguments[0], leaf))
        free = leaf.clone()  # which a model may change in place
        return (free, *rest) if rest else free

    parts = [model, model.get_encoder(), model.get_decoder()] if has_decoder(model) else [model]
    named = {part.get_input_embeddings() for part in parts}
    weights = [table.weight for table in named if isinstance(table, nn.Embedding)]
    shared = (module for module in model.modules() if isinstance(module, nn.Embedding))
    tables = named | {module for module in shared if any(module.weight is weight for weight in weights)}
    handles = [table.register_forward_hook(watch) for table in tables]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
