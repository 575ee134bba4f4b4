"""yanma: the same model, unpadded."""

from __future__ import annotations

from torch import Tensor, inference_mode, nn

from ..batch import PackedBatch
from .batching import PackedRows, Packs
from .contestant import Batched, Compute, Sequences
from .contestants_hf import SIZES as ROWS
from .outputs import Kind, of_pack

PACK_SIZES = (1024, 2048, 4096, 8192)
FP32, BF16 = "yanma", "yanma, bf16"
ARRIVAL = "yanma, the batches of 'padded to the longest'"


def contestants(model: nn.Module, kind: Kind, *, precision: str = "fp32") -> list[Batched]:
    """Packs of the best size; in fp32 also the very batches that the padded baseline computes, at its best size.

    `model` is unpadded and in eval mode, its weights of the named precision.
    """
    compute = packed(model, kind)
    if precision == "bf16":
        return [Batched(BF16, Packs(), PACK_SIZES, compute, precision=precision)]
    return [
        Batched(FP32, Packs(), PACK_SIZES, compute),
        Batched(ARRIVAL, PackedRows(), ROWS, compute),
    ]


def packed(model: nn.Module, kind: Kind) -> Compute:
    """One batch as a pack."""

    def compute(sequences: Sequences) -> list[Tensor]:
        with inference_mode():
            return of_pack(model, kind, PackedBatch.from_sequences(sequences))

    return compute
