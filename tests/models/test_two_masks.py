"""Encoders with decoders whose source and target hide different slots: one of two masks, or two that differ."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import yanma
from models.builders import SEQ2SEQ, SMALL, build, every_head
from models.measured import sharpened
from models.pairs import EOS, Pairs, mask_of, pairs
from yanma import PackedBatch
from yanma.models.family import Family

# N pairs, S slots of a padded row

READ_AND_WRITE = list(every_head(decodes=True))
HEADS = pytest.mark.parametrize(("family", "name"), READ_AND_WRITE, ids=[name for _, name in READ_AND_WRITE])
JUDGED = [(family, name) for family, name in READ_AND_WRITE if family.heads[name].pools_at == "eos"]
JUDGES = pytest.mark.parametrize(("family", "name"), JUDGED, ids=[name for _, name in JUDGED])
SIDES = pytest.mark.parametrize("on_the_left", [False, True], ids=["padded right", "padded left"])


def rows(data: Pairs, pad: int, on_the_left: bool) -> tuple[Tensor, Tensor]:
    """Ids of the sources and their mask, (N, S) each."""
    ids, mask = pad_sequence(data.sources, True, pad), mask_of(data.sources)
    if not on_the_left:
        return ids, mask
    rolls = (mask.shape[1] - mask.sum(1)).tolist()
    return torch.stack([row.roll(by) for row, by in zip(ids, rolls, strict=True)]), mask.flip(1)


def models(family: Family, name: str, **settings) -> tuple[nn.Module, nn.Module]:
    stock = sharpened(build(family, name, **settings))
    return stock, yanma.unpad(copy.deepcopy(stock))


@HEADS
@SIDES
@torch.no_grad()
def test_one_of_two_masks_gives_what_the_padded_stock_model_gives(
    family: Family, name: str, on_the_left: bool
):
    head, data, (stock, ours) = family.heads[name], pairs(family, name), models(family, name)
    ids, mask = rows(data, SMALL[family.model_type].pad_token_id, on_the_left)
    seen, ways = [], product(("attention_mask", "decoder_attention_mask"), (True, False))
    for hiding, is_given in ways:
        if not (is_given or head.copies_source):
            continue
        call = {"input_ids": ids, hiding: mask, "use_cache": False}
        call |= {"decoder_input_ids": ids} if is_given else {}
        call |= data.labels() if name.endswith("ForSequenceClassification") else {}
        call |= {"labels": ids.masked_fill(mask == 0, -100)} if is_given and head.token_labels else {}
        if on_the_left and hiding == "attention_mask" and not is_given:
            message = "slots that attention_mask hides.*give decoder_attention_mask too, or decoder_input_ids"
            with pytest.raises(yanma.Unsupported, match=message):
                ours(**call)
            continue
        target_hides = hiding == "decoder_attention_mask" or not is_given or bool(head.token_labels)
        expected, found = stock(**call), ours(**call)
        for key, value in expected.items():
            if not isinstance(value, Tensor):
                continue
            hides = hiding == "attention_mask" if key.startswith("encoder") else target_hides
            kept = mask.bool() if hides else torch.ones_like(mask, dtype=torch.bool)
            mine, theirs = (x[kept] if x.shape[:2] == mask.shape else x for x in (found[key], value))
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4, msg=lambda t: f"{key}: {t}")  # noqa: B023
            seen.append(key)
    assert len(seen) >= 4


@JUDGES
@torch.no_grad()
def test_masks_that_differ_judge_by_the_slot_of_the_callers_row(family: Family, name: str):
    data, (stock, ours) = pairs(family, name), models(family, name)
    ids, mask = rows(data, SMALL[family.model_type].pad_token_id, False)
    behind = mask.roll(1, 1).index_fill(1, torch.tensor([0]), 1)  # as the target begins with one token more
    call = {
        "input_ids": ids,
        "attention_mask": mask,
        "decoder_input_ids": ids,
        "decoder_attention_mask": behind,
    }
    assert not torch.equal(mask, behind)
    torch.testing.assert_close(ours(**call).logits, stock(**call).logits, rtol=1e-4, atol=1e-4)


@JUDGES
@torch.no_grad()
def test_hidden_slots_that_hold_eos_judge_nothing(family: Family, name: str):
    """Where one id pads and ends texts, the padded stock model counts it in padding too, and refuses the batch."""
    data, (stock, ours) = pairs(family, name), models(family, name, pad_token_id=EOS)
    ids, mask = rows(data, EOS, False)
    expected = torch.cat([stock(input_ids=source[None], use_cache=False).logits for source in data.sources])
    for more in ({}, {"decoder_attention_mask": mask}):
        found = ours(input_ids=ids, attention_mask=mask, **more).logits
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="same number of <eos>"):
        stock(input_ids=ids, attention_mask=mask)


@pytest.mark.parametrize("family", SEQ2SEQ[:1], ids=lambda family: family.model_type)
def test_a_slot_that_the_target_hides_or_lacks_is_refused_by_name(family: Family):
    _, ours = models(family, "BartForSequenceClassification")
    ids, mask = torch.tensor([[5, 6, 7, 2], [5, 2, 1, 1]]), torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    with pytest.raises(
        yanma.Unsupported, match=r"document 0 is judged in slot 3.*decoder_attention_mask is 0 there"
    ):
        ours(input_ids=ids, decoder_attention_mask=mask)
    with pytest.raises(ValueError, match=r"document 0 has no eos_token_id \(2\) in input_ids"):
        ours(input_ids=ids, attention_mask=mask)
    with pytest.raises(
        ValueError, match=r"4 slots in the source and 3 in the target.*decoder_input_ids must be as long"
    ):
        ours(input_ids=ids, decoder_input_ids=ids[:, :3])
    sources, targets = (
        PackedBatch.from_sequences(texts) for texts in ([[5, 2], [5, 6, 2]], [[5, 2], [5, 2]])
    )
    with pytest.raises(ValueError, match="document 1 has 3 slots in the source and 2 in the target"):
        ours(sources, decoder_input_ids=targets)
