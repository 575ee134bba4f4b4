"""CLIP's text models: pooling where a text ends, positions of one text each, and the text side of a whole CLIP."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers

import yanma
from models.builders import FAMILIES, build, doubled, gradient, rectangle
from models.test_exactness import sharpened

CLIP = next(family for family in FAMILIES if family.model_type == "clip_text_model")
END, OLD_END = 60, 2
TEXTS = [[7, 99, 8, END, 98, END], [END], [5, 6], [8, 70, 70, 9, 2], [9, 61, END]]
"""With one end, several, or none; the highest ids stand before ends, behind them, and twice."""
HEADS = pytest.mark.parametrize("name", CLIP.heads)
ENDS = pytest.mark.parametrize("eos_token_id", [END, OLD_END], ids=["first end", "highest id"])


def pair(name: str, **settings):
    stock = doubled(sharpened(build(CLIP, name, **settings)))
    return stock, yanma.unpad(copy.deepcopy(stock))


def pooled(name: str, output) -> torch.Tensor:
    return output[CLIP.heads[name].document_outputs[0]]


@HEADS
@ENDS
def test_texts_are_pooled_where_the_stock_model_pools_each_alone(name: str, eos_token_id: int):
    stock, ours = pair(name, eos_token_id=eos_token_id)
    alone = torch.cat([pooled(name, stock(input_ids=torch.tensor([text]))) for text in TEXTS])
    together = pooled(name, ours(yanma.PackedBatch.from_sequences(TEXTS)))
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    for vectors in (alone, together):
        vectors.square().sum().backward()
    assert (gradient(ours) - gradient(stock)).norm() <= 1e-12 * gradient(stock).norm()
    elsewhere = pair(name, eos_token_id=END + OLD_END - eos_token_id)[1]
    other = pooled(name, elsewhere(yanma.PackedBatch.from_sequences(TEXTS)))
    assert not torch.allclose(other, together), "both ways pool alike: this test has lost its subject"


@HEADS
def test_padding_with_the_id_that_ends_texts_is_never_pooled(name: str):
    """As OpenAI's tokenizer pads. On the left the stock model would pool the first slot, which is hidden."""
    stock, ours = pair(name, eos_token_id=END, pad_token_id=END)
    texts = [torch.tensor(text) for text in ([7, 8, END], [9, END], [5, 6, 7, 8, END])]
    alone = torch.cat([pooled(name, stock(input_ids=text[None])) for text in texts])
    for side in ("right", "left"):
        ids = torch.nn.utils.rnn.pad_sequence(texts, True, END, padding_side=side)
        ones = [torch.ones_like(text) for text in texts]
        mask = torch.nn.utils.rnn.pad_sequence(ones, True, 0, padding_side=side)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        found = pooled(name, ours(input_ids=ids, attention_mask=mask, position_ids=places))
        torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-12)


@HEADS
def test_a_pack_may_be_longer_than_the_positions_but_a_text_may_not(name: str):
    stock, ours = pair(name, max_position_embeddings=12)
    documents = rectangle(CLIP, name, lengths=(12, 1, 11, 12, 7), slots=12).documents
    alone = torch.cat([pooled(name, stock(input_ids=ids[None])) for ids in documents])
    together = pooled(name, ours(yanma.PackedBatch.from_sequences(documents)))
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="a document has 13 tokens; this model has 12 positions"):
        ours(yanma.PackedBatch.from_sequences([[5] * 13]))


def test_the_text_model_of_a_whole_clip_can_be_unpadded_and_restored():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = sizes | {"vocab_size": 100, "eos_token_id": END, "pad_token_id": 0, "bos_token_id": 1}
    vision = sizes | {"image_size": 8, "patch_size": 4}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    clip = transformers.CLIPModel(config).eval()
    ids = torch.tensor([[7, 8, END, 0], [9, 10, 11, END]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long(), "pixel_values": torch.randn(2, 3, 8, 8)}
    with pytest.raises(yanma.Unsupported, match=r"its text model, `model\.text_model`, can be unpadded"):
        yanma.unpad(clip)
    with torch.no_grad():
        before = clip(**inputs)
        yanma.unpad(clip.text_model)
        unpadded = clip(**inputs)
        yanma.restore(clip.text_model)
        after = clip(**inputs)
    torch.testing.assert_close(unpadded.logits_per_text, before.logits_per_text, rtol=1e-5, atol=1e-5)
    assert torch.equal(unpadded.image_embeds, before.image_embeds)
    assert torch.equal(after.logits_per_text, before.logits_per_text)
