"""What is audited, as a few verbs: run documents together, with padding, with gradients, as one step of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, as_tensor, nn

from ..masks import Mask, documents, full
from .documents import Documents

# N documents, L tokens of one of them

Run = Callable[[Documents], list[Tensor]]


@dataclass(frozen=True, eq=False)
class Subject:
    """Something that turns documents into outputs; a verb that is None cannot be audited, and `absent` says why."""

    name: str
    run: Run
    """N documents in one batch -> N outputs: (L, ...) each, or (...) where a document has one output."""
    per_token: bool
    """Whether outputs have one row a token."""
    mask: Mask = field(default_factory=full)
    """Who may read whom inside a document, through all layers."""
    padded: Callable[[Documents, int], list[Tensor]] | None = None
    """The same with that many more slots of padding in each row."""
    module: nn.Module | None = None
    """The model behind it, in whose modes and embeddings gradients and training are measured."""
    share: Callable[[Documents, Documents, int], Tensor] | None = None
    """(micro-batch, all documents of the step, number of micro-batches) -> what the micro-batch adds to the loss."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Check -> why this subject cannot be asked."""
    fixes: Mapping[str, str] = field(default_factory=dict)
    """Check -> what to do when it fails."""
    steady: bool = True
    """Whether a bit that moves means something: not where each expert computes the rows of the tokens that chose it."""
    expects: Callable[[Documents], Mask] | None = None
    """Who may read whom in a batch, where that is no one mask inside each document."""

    def expected(self, found: Documents) -> Mask:
        """Who may read whom in a batch: rows are tokens, or documents where these have one output each."""
        if self.expects is not None:
            return self.expects(found) & self.mask
        lengths = [len(document) for document in found]
        if self.per_token:
            return documents(lengths) & self.mask
        return documents([1] * len(lengths), kv_lengths=lengths)


def from_callable(fn: Callable[[list[list[int]]], Sequence[Any]], found: Documents, mask: Mask) -> Subject:
    """Any function from a list of documents (lists of ids) to a list of outputs, one tensor or array a document.

    Outputs are taken as one row a token where each has as many rows as its document has tokens.

    Raises ValueError where there are not as many outputs as documents.
    """
    name = getattr(fn, "__name__", type(fn).__name__)

    def run(found: Documents) -> list[Tensor]:
        outputs = [as_tensor(output) for output in fn([list(document) for document in found])]
        if len(outputs) != len(found):
            raise ValueError(
                f"{name} gives {len(outputs)} outputs for {len(found)} documents; one each is needed"
            )
        return outputs

    hide = "hide each document from the others: attention under yanma.masks.documents(lengths)"
    outputs = run(found)
    per_token = all(
        output.dim() > 0 and len(output) == len(document)
        for output, document in zip(outputs, found, strict=True)
    )
    reason = "of a callable only the outputs are seen; audit the model itself"
    return Subject(
        name,
        run,
        per_token,
        mask,
        absent=dict.fromkeys(("padding", "gradients", "accumulation", "training"), reason),
        fixes={
            "repeatable": "switch off what is drawn at random, such as dropout: model.eval()",
            "batch": "each document's positions, statistics and pooling must be those of that document alone",
            "isolation": hide,
            "agreement": f"{hide}, and under the mask that is meant",
            "causality": "hide what comes later: & yanma.masks.causal()",
        },
    )
