"""Why some well-known families are not in the table of those that are unpadded."""

from __future__ import annotations

from collections.abc import Mapping

_OWN_CHUNKS = "it computes attention by itself, in chunks of a row that is padded to a multiple of its window"
_STATE = (
    "it carries a state from token to token, without attention and a mask that could end it between documents"
)
_IMAGES = (
    "the images of a batch are one tensor of one size, so all rows have as many patches and none is padding; "
    "interpolate_pos_encoding stretches positions to another size, but that of a whole batch"
)
_LAST_SLOT = "its stock model pools texts at the last slot of the padded row, which holds padding"
_BLOCKS = (
    "in its sparse attention all tokens read the last block of the padded row, so that its width decides"
)

REASONS: Mapping[str, str] = {
    "big_bird": _BLOCKS,
    "bigbird_pegasus": _BLOCKS,
    "canine": "it makes one place of every few characters, by convolutions over the padded row",
    "clip": "it has images beside texts; its text model, `model.text_model`, can be unpadded by itself",
    "clip_vision_model": _IMAGES,
    "convbert": "its convolutions read the padding behind a text",
    "deit": _IMAGES,
    "dinov2": (
        "the images of a batch are one tensor of one size, to which it stretches positions, so all rows have as many "
        "patches and none is padding"
    ),
    "fnet": "it mixes tokens by a Fourier transform of the whole padded row, and takes no attention mask",
    "funnel": "it pools neighbouring slots into one, so that the end of a text is mixed with its padding",
    "led": _OWN_CHUNKS,
    "longformer": _OWN_CHUNKS,
    "longt5": "its encoder computes attention by itself, between neighbouring blocks of the padded row",
    "mamba": _STATE,
    "mamba2": (
        "it carries a state from token to token, which `seq_idx` ends between documents in kernels for GPUs alone; in "
        "torch's own code it runs on"
    ),
    "nystromformer": "it attends by landmarks, each the mean of a segment of the padded row, padding included",
    "reformer": "it sorts tokens by random hashes into chunks of a row that is padded to a multiple of their size",
    "rwkv": _STATE,
    "siglip_text_model": _LAST_SLOT,
    "vit": _IMAGES,
    "wavlm": (
        "it computes attention by torch's own function, with biases by distance that each frame weighs, for all pairs "
        "of the padded row"
    ),
    "whisper": (
        "its encoder takes rows of 30 seconds alone and uses no attention mask, so that all frames read the silence "
        "behind a recording; leaving it out would change its numbers"
    ),
    "xlnet": "it computes attention by itself, in two streams and with memories of the text before",
    "yoso": "it attends by hashes that are drawn at random in each forward",
}
"""Model type -> the reason."""
