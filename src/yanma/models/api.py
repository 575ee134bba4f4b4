"""unpad(model): a Hugging Face model that computes real tokens only. restore(model): as it was."""

from __future__ import annotations

from typing import Literal, TypeVar

from torch import nn

from . import sentence
from .layer_masks import LayerMasks
from .passed_over import hear_no_more, hear_wrappers
from .unpad import is_unpadded_one, restore_one, unpad_one
from .wrapped import inner_models, rebind

Model = TypeVar("Model", bound=nn.Module)


def unpad(model: Model, mask: LayerMasks = None, *, exact: Literal["bits"] | None = None) -> Model:
    """Make `model` compute real tokens only, in place; the same object is returned.

    The model keeps its signature: padded in, padded out, the same numbers where there are tokens, 0 where there is
    padding (question answering: the smallest float, so that argmax never picks padding). It also takes a
    `PackedBatch` as its only positional argument and then gives token-level outputs flat, (T, ...), and
    document-level ones (N, ...). Parameters, `state_dict` and `save_pretrained` are untouched.

    Beside the PackedBatch that an encoder-decoder reads, `decoder_input_ids` or `labels`, of which the stock model
    makes them, are another of as many documents; outputs by token are those of the decoder, and what is named for the
    encoder belongs to the tokens that it read. Where padded `labels` come without `decoder_attention_mask`, slots
    behind a row's last label other than -100 are padding too.

    A speech model is given recordings, padded on the right, and no PackedBatch; its tokens are frames.

    In training, dropout is keyed by (seed, document, place, layer): pass `seed=` for runs that can be repeated, else
    one is drawn from torch's generator.

    `mask` is added to the model's own: a token reads what both allow. Its positions are those within a document. One
    for all layers, one a layer, or a dict of some layers' masks; a token that may read nothing attends to 0. The masks
    are no parameters: `save_pretrained` does not write them.

    `exact="bits"` promises that a document's outputs have the same bits in any batch, and tries that on the machine at
    hand, part by part: now, and again at the first forward in another dtype, on another device or with another number
    of threads. Without it kernels are taken of which that is known on the CPUs that were tried, and nothing is checked.
    `explain` tells what was found. It says nothing of gradients, of encoders by themselves, and of other machines.

    A model of sentence-transformers or peft is unpadded as a whole, by the transformers in it.

    Raises Unsupported, naming what there is, for models outside the table of families, for masks that hold for one
    pack only, for a model that is unpadded already, but with other masks or another `exact`, and, naming what differs,
    where this machine does not keep the bits.
    """
    if exact not in (None, "bits"):
        raise ValueError(f"exact is {exact!r}; it is 'bits', or None")
    changed, was_flat = [], isinstance(model, sentence.Door)
    try:
        for inner in inner_models(model):
            if not is_unpadded_one(inner):
                changed.append(inner)
            unpad_one(inner, mask, exact)
        if sentence.is_sentence_model(model):
            sentence.flatten(model)
        hear_wrappers(model)
    except BaseException:
        if sentence.is_sentence_model(model) and not was_flat:
            sentence.pad_again(model)
        for inner in filter(is_unpadded_one, changed):
            restore_one(inner)
        raise
    rebind(model)
    return model


def restore(model: Model) -> Model:
    """Undo `unpad`, in place; the same object is returned.

    Raises ValueError where the model is not unpadded.
    """
    if not is_unpadded(model):
        raise ValueError(f"{type(model).__name__} is not unpadded; there is nothing to restore")
    for inner in inner_models(model):
        restore_one(inner)
    if sentence.is_sentence_model(model):
        sentence.pad_again(model)
    hear_no_more(model)
    rebind(model)
    return model


def is_unpadded(model: nn.Module) -> bool:
    """Whether `unpad` was applied to this very model."""
    return all(is_unpadded_one(inner) for inner in inner_models(model))
