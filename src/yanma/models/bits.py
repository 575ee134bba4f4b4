"""unpad(model, exact="bits"): on the machine at hand a text has the same bits in any batch, or nothing is computed.

Whether it has them is for kernels to say, which torch, MKL and oneDNN choose by chip, number of threads and sizes. So
every kind of part that a model has is tried, with its own sizes, before it is relied on: rows of a product, of a norm
or of an activation among other numbers of rows, documents under attention among other documents, and at last a few
documents through the whole model. What was found is kept as long as the process lives.
"""

# R rows, C numbers in each, T tokens of a pack, H heads, D head width

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..batch import PackedBatch
from ..errors import Unsupported
from .layout import Layout, run_with, running
from .trials import (
    Attention,
    Cached,
    Rowwise,
    documents_that_differ,
    readings_that_differ,
    rows_that_differ,
    same_bits,
)

if TYPE_CHECKING:
    from .family import Head

LEAST_ROWS = (16, 32, 64, 128, 256)
"""Numbers to which the rows of a thin product may be filled up."""
FEW_ROWS = (1, 2, 3, 5, 7, 8, 11, 15)
ROWS = (16, 17, 18, 20, 23, 24, 31, 32, 33, 48, 64, 65, 96, 127, 128, 129, 192, 255, 256, 257, 400, 512, 777)
MANY_ROWS = (1024, 1500, 2048, 4096)
MAX_FLOP = 2**35
"""What may be spent on one kind of product, 0.1 to 0.3 s: a wide one is tried with fewer rows, but with 129 always."""
TEXTS = (1, 2, 3, 5, 8, 13, 21)
"""Lengths of documents that go through the whole model."""


@dataclass(frozen=True)
class Setting:
    """What kernels are chosen by besides sizes."""

    dtype: torch.dtype
    device: torch.device
    threads: int
    autocast: torch.dtype | None = None

    @classmethod
    def of(cls, x: Tensor) -> Setting:
        """That of a computation with `x`, which is not cast any more."""
        return cls(x.dtype, x.device, torch.get_num_threads())

    def __str__(self) -> str:
        cast = "" if self.autocast is None else f", autocast to {self.autocast}".replace("torch.", "")
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.dtype}{cast} on {self.device} with {threads}".removeprefix("torch.")


@dataclass(frozen=True)
class Product:
    """How a product keeps the bits of its rows: by which kernel, filled up to how many rows."""

    kernel: str
    least_rows: int
    tried: int
    """The most rows with which it was tried."""

    def __str__(self) -> str:
        return f"by {self.kernel}, of {self.least_rows} rows or more, tried up to {self.tried:,}"


_FOUND: dict[Hashable, Any] = {}
"""What this process has found: a Product, or None for a part of another kind that keeps its bits."""


@dataclass(eq=False)
class Bits:
    """What was found for one model in one setting; a part that was not met before is tried when it is met."""

    setting: Setting
    parts: dict[str, str] = field(default_factory=dict)
    """What was tried, in words, and how it keeps its bits."""
    num_texts: int = 0
    """How many documents went through the whole model."""

    def product(
        self, name: str, key: Hashable, ways: Mapping[str, Rowwise], rows: Tensor, flop: int
    ) -> Product:
        """The first of `ways`, by name of kernel, in which rows such as `rows` (R, C) keep their bits.

        `flop`: what one row costs. Raises Unsupported where there is none.
        """
        where = Setting.of(rows)
        key = "product", name, key, tuple(ways), rows.shape[1], where
        if key not in _FOUND:
            _FOUND[key] = _steady_product(name, ways, rows, flop)
        found: Product = _FOUND[key]
        self.parts[f"{name} in {_short(where.dtype)}"] = str(found)
        return found

    def rowwise(self, name: str, module: Rowwise, rows: Tensor) -> None:
        """Raises Unsupported where `module` gives rows such as `rows` (R, C) other bits in other company."""
        where = Setting.of(rows)
        name = f"{name} of {rows.shape[1]}"
        key = "rowwise", name, where
        if key not in _FOUND:
            differing = rows_that_differ(module, rows, (*FEW_ROWS, *ROWS, *MANY_ROWS))
            if differing:
                raise Unsupported(
                    f"exact='bits': {name} in {where} gives a row other bits among {differing[-1]} rows than among "
                    f"{MANY_ROWS[-1]}; leave exact out, or try another number of threads"
                )
            _FOUND[key] = None
        self.parts[f"{name} in {_short(where.dtype)}"] = "keeps its rows' bits"

    def attention(
        self, key: Hashable, attend: Attention, q: Tensor, k: Tensor, layout: Layout, crosses: bool = False
    ) -> None:
        """Raises Unsupported where `attend` gives a document other bits in other company.

        `q` and `k` are such as it will get, those of a decoder and of its encoder where it `crosses` from one to the
        other. `key` tells it apart from others that take them.
        """
        sizes = q.shape[1], k.shape[1], q.shape[2]
        name = f"{'cross-' * crosses}attention with {sizes[0]} heads of {sizes[2]}"
        key = "attention", key, sizes, layout.causal, crosses
        self._by_document(name, key, q, lambda: documents_that_differ(attend, q, k, layout, crosses))

    def cached(self, key: Hashable, attend: Cached, q: Tensor, k: Tensor, causal: bool) -> None:
        """Raises Unsupported where `attend` gives a document's newest tokens other bits in other company.

        `q` and `k` are such as it will get. `key` tells it apart from others that take them.
        """
        sizes = q.shape[1], k.shape[1], q.shape[2]
        name = f"{'' if causal else 'cross-'}attention with {sizes[0]} heads of {sizes[2]} to a cache"
        key = "cached", key, sizes, causal
        self._by_document(name, key, q, lambda: readings_that_differ(attend, q, k, causal))

    def _by_document(
        self, name: str, key: Hashable, q: Tensor, differing: Callable[[], Sequence[int]]
    ) -> None:
        where = Setting.of(q)
        if (key, where) not in _FOUND:
            lengths = differing()
            if lengths:
                raise Unsupported(
                    f"exact='bits': {name} in {where} gives a document of {lengths[0]} tokens other bits alone than "
                    f"in company; leave exact out, or try another number of threads"
                )
            _FOUND[key, where] = None
        self.parts[f"{name} in {_short(where.dtype)}"] = "keeps its documents' bits"

    def __str__(self) -> str:
        lines = [f"  {part}: {how}" for part, how in self.parts.items()]
        texts = f"  {self.num_texts} documents through the whole model: the same bits alone and together"
        return "\n".join([f"exact in bits in {self.setting}", *lines, texts])


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _steady_product(name: str, ways: Mapping[str, Rowwise], rows: Tensor, flop: int) -> Product:
    costs = accumulate((*ROWS, *MANY_ROWS))
    counts = [
        rows
        for rows, cost in zip((*ROWS, *MANY_ROWS), costs, strict=True)
        if rows <= 129 or cost * flop <= MAX_FLOP
    ]
    for kernel, way in ways.items():
        differing = rows_that_differ(way, rows, counts)
        enough = [least for least in LEAST_ROWS if least > max(differing, default=0)]
        if enough:
            return Product(kernel, enough[0], counts[-1])
    raise Unsupported(
        f"exact='bits': {name} in {Setting.of(rows)} gives a row other bits among {max(differing)} rows than among "
        f"{counts[-1]}, by {' and by '.join(ways)}; leave exact out, or try another number of threads"
    )


_OF: WeakKeyDictionary[nn.Module, dict[Setting, Bits]] = WeakKeyDictionary()


def is_exact(model: nn.Module) -> bool:
    """Whether the model was unpadded with exact="bits"."""
    return "_yanma_exact" in model.__dict__


def found(model: nn.Module) -> tuple[Bits, ...]:
    """What was found for a model, one for each setting in which it was."""
    return tuple(_OF.get(model, {}).values())


def forget(model: nn.Module) -> None:
    """The promise is taken back; what was found of parts remains known for other models."""
    model.__dict__.pop("_yanma_exact", None)
    _OF.pop(model, None)


def of(model: nn.Module, head: Head) -> Bits | None:
    """What is known of the bits of an exact model as it is set now, found out first if need be; None for others.

    Raises Unsupported, naming what differs, where a part or the whole does not keep its bits.
    """
    if not is_exact(model):
        return None
    setting = _setting(model)
    settings = _OF.setdefault(model, {})
    if setting not in settings:
        # Known before it is complete, as the model asks for it when it is tried.
        settings[setting] = Bits(setting)
        try:
            _try(model, head, settings[setting])
        except BaseException:
            del settings[setting]
            raise
    return settings[setting]


def _setting(model: nn.Module) -> Setting:
    parameter = next(model.parameters())
    kind = parameter.device.type
    cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    return Setting(parameter.dtype, parameter.device, torch.get_num_threads(), cast)


def check(model: Any) -> None:
    """Refuse, before anything is changed, a model for which no texts can be made up."""
    if model.main_input_name != "input_ids":
        raise Unsupported(
            f"exact='bits' is tried on texts, one a document, and {type(model).__name__} takes something else; leave "
            f"exact out"
        )


def _try(model: Any, head: Head, bits: Bits) -> None:
    """Run a few documents together and alone, which tries the products and attention on the way; then other parts."""
    outputs = _outputs_of_texts(model, head, bits.setting.device)
    with torch.no_grad():
        together = outputs(range(len(TEXTS)))
        with _heard(model) as rowwise:
            outputs(range(len(TEXTS)))
        for (name, _), (module, rows) in rowwise.items():
            bits.rowwise(name, module, rows)
        for i, expected in enumerate(together):
            (alone,) = outputs([i])
            if not all(same_bits(a, b) for a, b in zip(alone, expected, strict=True)):
                raise Unsupported(
                    f"exact='bits': the parts of {type(model).__name__} keep their bits in {bits.setting}, but the "
                    f"whole gives a document of {TEXTS[i]} tokens other bits alone than among {len(TEXTS)}; "
                    f"leave exact out"
                )
    bits.num_texts = len(TEXTS)


def _outputs_of_texts(
    model: Any, head: Head, device: torch.device
) -> Callable[[Sequence[int]], list[list[Tensor]]]:
    """What gives the outputs of some of the texts, by number; each has a target of another length where one is due."""
    draw = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().num_embeddings
    texts, targets = (
        [torch.randint(vocabulary, (n,), generator=draw).to(device) for n in lengths]
        for lengths in (TEXTS, TEXTS[::-1])
    )
    if head.pools_at == "eos":
        for text in texts:
            text[-1] = model.config.eos_token_id
    writes = head.decodes and not (head.document_outputs or head.loss == "span")

    def outputs(indices: Sequence[int]) -> list[list[Tensor]]:
        batch = PackedBatch.from_sequences([texts[i] for i in indices], ids=list(indices))
        written = PackedBatch.from_sequences([targets[i] for i in indices]) if writes else batch
        output = model(batch, **({"decoder_input_ids": written} if writes else {}), seed=0, return_dict=True)
        tokens = [written.unpack(output[name]) for name in head.token_outputs if output.get(name) is not None]
        documents = [output[name].split(1) for name in head.document_outputs if output.get(name) is not None]
        read = [batch.unpack(output.encoder_last_hidden_state)] if head.decodes else []
        return [list(own) for own in zip(*tokens, *documents, *read, strict=True)]

    return outputs


@contextmanager
def _heard(model: nn.Module) -> Iterator[dict[tuple[str, int], tuple[Rowwise, Tensor]]]:
    """While it is entered, norms and activations are noted as they run: one of each kind, and the rows it was given."""
    noted: dict[tuple[str, int], tuple[Rowwise, Tensor]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor) and args[0].is_floating_point():
            rows = args[0].detach().reshape(-1, args[0].shape[-1])
            noted.setdefault((type(module).__name__, rows.shape[1]), (_by_rows(module), rows))

    parts = [module for module in model.modules() if _is_rowwise(module)]
    handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in parts]
    try:
        yield noted
    finally:
        for handle in handles:
            handle.remove()


def _is_rowwise(module: nn.Module) -> bool:
    """Whether it is a norm or an activation: what has neither parts nor, but for norms, numbers of its own."""
    if any(module.children()) or isinstance(module, nn.Dropout | nn.Identity):
        return False
    return type(module).__name__.endswith("Norm") or not any(True for _ in module.parameters())


def _by_rows(module: nn.Module) -> Rowwise:
    """The module as it runs in a forward: some take another formula there."""
    layout = running()

    def run(rows: Tensor) -> Tensor:
        assert layout is not None
        with run_with(layout):
            out: Tensor = module(rows[None])[0]
            return out

    return run
