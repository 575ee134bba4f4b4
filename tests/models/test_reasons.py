"""Families that are refused with a reason: each is one of transformers', and its models hear the reason."""

from __future__ import annotations

import pytest
import torch
import transformers

import yanma
from yanma.models.families import FAMILIES, SPEECH
from yanma.models.reasons import REASONS

CLASSES = {"siglip_text_model": transformers.SiglipTextModel}
"""Models that `AutoModel` does not know."""


def model_of(model_type: str) -> torch.nn.Module:
    """One of the family's own sizes, without memory for its weights."""
    config = transformers.CONFIG_MAPPING[model_type]()
    if model_type == "funnel":  # looks into its weights when it is built
        config = transformers.FunnelConfig(
            d_model=8, n_head=1, d_head=8, d_inner=8, vocab_size=9, block_sizes=[1]
        )
        return transformers.FunnelModel(config)
    with torch.device("meta"):
        return CLASSES.get(model_type, transformers.AutoModel.from_config)(config)


@pytest.mark.parametrize("model_type", REASONS)
def test_each_family_with_a_reason_is_one_of_transformers_and_is_refused_with_it(model_type: str):
    model = model_of(model_type)
    assert model.config.model_type == model_type
    with pytest.raises(yanma.Unsupported) as refusal:
        yanma.unpad(model)
    families = (
        f"{type(model).__name__} (model type {model_type}) is not among the families that unpad supports"
    )
    assert str(refusal.value) == f"{families}: {REASONS[model_type]}"
    assert REASONS[model_type] in str(yanma.explain(model))


def test_no_family_has_a_reason_and_is_supported():
    assert len(REASONS) > 20
    assert not REASONS.keys() & {family.model_type for family in (*FAMILIES, *SPEECH)}


def test_whispers_encoder_takes_rows_of_30_seconds_alone_and_reads_what_its_mask_hides():
    sides = {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 8,
        "decoder_ffn_dim": 8,
        "d_model": 8,
    }
    heads = {
        "encoder_attention_heads": 1,
        "decoder_attention_heads": 1,
        "vocab_size": 9,
        "max_source_positions": 8,
    }
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
    torch.manual_seed(0)
    encoder = (
        transformers.WhisperModel(transformers.WhisperConfig(**sides, **heads, **ends)).eval().get_encoder()
    )
    with pytest.raises(ValueError, match="expects the mel input features to be of length 16, but found 10"):
        encoder(torch.randn(1, 80, 10))
    sound, hidden = torch.randn(1, 80, 16), torch.arange(16) >= 10
    for table in encoder.parameters():
        torch.nn.init.normal_(table)
    mask = (~hidden).long()[None]
    before, after = (
        encoder(features, attention_mask=mask).last_hidden_state
        for features in (sound, sound.masked_fill(hidden, 0.0))
    )
    assert not torch.allclose(before[:, :4], after[:, :4], atol=1e-4)


@pytest.mark.parametrize("model_type", ["vit", "deit", "dinov2", "clip_vision_model"])
def test_images_of_another_size_get_other_positions_as_a_whole_batch(model_type: str):
    """An image in the corner of a larger one has other numbers than alone, so it cannot be called padded."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[model_type](**sizes, image_size=16, patch_size=4)
    model = transformers.AutoModel.from_config(config).eval()
    embeddings = model.get_submodule("embeddings")
    stretched = {} if model_type == "dinov2" else {"interpolate_pos_encoding": True}
    for table in embeddings.parameters():
        torch.nn.init.normal_(table)
    image = torch.randn(1, 3, 8, 8)
    padded = torch.nn.functional.pad(image, (0, 16, 0, 16))
    special = 2 if model_type == "deit" else 1
    alone, among = (embeddings(pixels, **stretched)[:, special:] for pixels in (image, padded))
    corner = among.view(1, 6, 6, 8)[:, :2, :2].reshape(1, 4, 8)
    assert alone.shape == corner.shape and not torch.allclose(alone, corner, atol=1e-2)
