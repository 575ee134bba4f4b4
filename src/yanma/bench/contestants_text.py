"""From text to embedding, tokenisation included: sentence-transformers, and yanma behind the same tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from ..errors import Unsupported
from ..models import unpad
from .absent import need
from .contestant import Batched
from .workloads import Workload

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIZES = (8, 16, 32, 64)
NAME = "sentence-transformers, encode"
UNPADDED = "sentence-transformers, unpadded"


@dataclass(frozen=True)
class FromText:
    """A contestant that is given texts: it tokenises them first, and that is timed too."""

    inner: Batched
    tokenizer: PreTrainedTokenizerBase
    max_length: int

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def precision(self) -> str:
        return self.inner.precision

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.inner.sizes

    @property
    def unit(self) -> str:
        return self.inner.unit

    def with_sizes(self, sizes: tuple[int, ...]) -> Self:
        return replace(self, inner=self.inner.with_sizes(sizes))

    def run(self, workload: Workload, size: int) -> list[Tensor]:
        texts = list(workload.texts)
        encoded = self.tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]
        return self.inner.run(replace(workload, sequences=tuple(encoded)), size)

    def padding(self, workload: Workload, size: int) -> float | None:
        return self.inner.padding(workload, size)


@dataclass(frozen=True)
class Encode:
    """`SentenceTransformer.encode`, which sorts by length by itself; mean pooling, nothing after it."""

    model: Any
    sizes: tuple[int, ...] = SIZES
    name: str = NAME
    precision: str = "fp32"
    unit: str = "texts"

    def with_sizes(self, sizes: tuple[int, ...]) -> Self:
        return replace(self, sizes=sizes)

    def run(self, workload: Workload, size: int) -> list[Tensor]:
        encoded = self.model.encode(
            list(workload.texts), batch_size=size, convert_to_tensor=True, show_progress_bar=False
        )
        return list(encoded.unbind())

    def padding(self, workload: Workload, size: int) -> float | None:
        return None


def sentence_transformers(
    model_folder: Path, max_length: int, sizes: tuple[int, ...] = SIZES
) -> list[Encode]:
    """The same model under sentence-transformers, stock and unpadded. Absent without the package."""
    need("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    modules = _modules()

    def model() -> Any:
        transformer = modules.Transformer(str(model_folder), max_seq_length=max_length)
        pooling = modules.Pooling(transformer.auto_model.config.hidden_size, "mean")
        return SentenceTransformer(modules=[transformer, pooling], device="cpu").eval()

    found = [Encode(model(), sizes)]
    try:
        found.append(Encode(unpad(model()), sizes, UNPADDED))
    except Unsupported:  # a version before 6: only the stock model takes part
        pass
    return found


def _modules() -> Any:
    """Where sentence-transformers keeps Transformer and Pooling; they have moved in version 6."""
    try:
        return import_module("sentence_transformers.sentence_transformer.modules")
    except ModuleNotFoundError:
        return import_module("sentence_transformers.models")
