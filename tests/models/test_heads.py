"""Every family and head: the padded model's numbers, and the same bits in any company."""

from __future__ import annotations

import copy

import pytest
import torch

import yanma
from models.builders import SLOTS, build, doubled, every_head, gradient, rectangle, scored
from yanma.models.families import FAMILIES, Family

HEADS = pytest.mark.parametrize(
    ("family", "name"), list(every_head()), ids=[name for _, name in every_head()]
)


def test_the_table_has_every_head_that_transformers_has():
    import transformers

    prefixes = {
        "bert": "Bert",
        "roberta": "Roberta",
        "xlm-roberta": "XLMRoberta",
        "distilbert": "DistilBert",
        "electra": "Electra",
    }
    known = {name for _, name in every_head()}
    for prefix in prefixes.values():
        theirs = {
            n
            for n in dir(transformers)
            if n.startswith((prefix + "For", prefix + "Model", prefix + "LMHead"))
        }
        assert theirs and theirs <= known, (
            f"transformers has {sorted(theirs - known)}, which the table does not know"
        )


@HEADS
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_padded_outputs_are_the_stock_models(family: Family, name: str, mode: str):
    head, data = family.heads[name], rectangle(family, name)
    stock = build(family, name)
    exact, ours = doubled(stock), yanma.unpad(copy.deepcopy(stock))
    for model in (stock, exact, ours):
        model.train(mode == "train")
    outputs = [
        scored(model(**data.kwargs, output_hidden_states=True), head, data.valid)
        for model in (exact, stock, ours)
    ]
    assert outputs[0].keys() == outputs[2].keys(), "the unpadded model gives other fields"
    compared = 0
    for key, truth in outputs[0].items():
        if key == "loss" and head.loss == "span":
            continue  # the stock loss spreads probability over padding; see the test of the span loss
        stock_error = (outputs[1][key].double() - truth).abs().max()
        our_error = (outputs[2][key].double() - truth).abs().max()
        rounding = truth.abs().max() * torch.finfo(torch.float32).eps
        assert our_error <= 2 * stock_error + 2 * rounding, (
            f"{key} is off by {our_error:.1e}, stock by {stock_error:.1e}"
        )
        compared += 1
    assert compared >= 2


@HEADS
def test_the_whole_gradient_is_the_stock_models(family: Family, name: str):
    head, data = family.heads[name], rectangle(family, name)
    if head.loss == "span":
        data = rectangle(family, name, lengths=(SLOTS,) * 4)  # without padding the two losses mean the same
    stock = build(family, name).train()
    ours = yanma.unpad(copy.deepcopy(stock))
    for model in (stock, ours):
        output = model(**data.kwargs)
        loss = output.loss if "loss" in output else output[0][data.valid].square().sum()
        loss.backward()
    expected, found = gradient(stock), gradient(ours)
    difference = float((expected - found).norm() / expected.norm())
    assert expected.norm() > 0 and difference <= 1e-5, f"the gradient differs by {difference:.1e}"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_the_span_loss_is_that_of_documents_alone(family: Family):
    name = next(name for name, head in family.heads.items() if head.loss == "span")
    head, data = family.heads[name], rectangle(family, name)
    stock = build(family, name)
    ours = yanma.unpad(copy.deepcopy(stock))
    alone = []
    for row, document in enumerate(data.documents):
        answers = {key: data.kwargs[key][row : row + 1] for key in head.document_labels}
        alone.append(stock(input_ids=document[None], **answers).loss)
    together = ours(**data.kwargs).loss
    packed = ours(
        yanma.PackedBatch.from_sequences(data.documents), **{k: data.kwargs[k] for k in head.document_labels}
    )
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(packed.loss, together, rtol=0, atol=0)


@HEADS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_200_documents_have_the_bits_that_each_has_alone(family: Family, name: str, dtype: torch.dtype):
    head = family.heads[name]
    model = yanma.unpad(build(family, name).to(dtype))
    draw = torch.Generator().manual_seed(2)
    lengths = torch.randint(1, 60, (200,), generator=draw).tolist()
    documents = [torch.randint(5, 100, (length,), generator=draw) for length in lengths]
    batch = yanma.PackedBatch.from_sequences(documents)
    with torch.no_grad():
        together = model(batch)
        different, compared = [], 0
        for index, document in enumerate(documents):
            alone = model(yanma.PackedBatch.from_sequences([document]))
            for key, value in alone.items():
                if key in head.token_outputs:
                    same = torch.equal(batch.unpack(together[key])[index], value)
                else:
                    same = torch.equal(together[key][index : index + 1], value)
                compared += 1
                if not same:
                    different.append((index, lengths[index], key))
    assert compared >= 200 and not different, f"{len(different)} outputs differ, the first: {different[:3]}"


@HEADS
def test_a_token_of_one_document_changes_no_bit_of_another(family: Family, name: str):
    head, data = family.heads[name], rectangle(family, name)
    model = yanma.unpad(build(family, name))
    batch = yanma.PackedBatch.from_sequences(data.documents)
    for changed in range(len(data.documents)):
        documents = [d.clone() for d in data.documents]
        documents[changed][-1] = 99 if documents[changed][-1] != 99 else 98
        with torch.no_grad():
            before, after = model(batch), model(yanma.PackedBatch.from_sequences(documents))
        moved = 0
        for key, value in before.items():
            if key in head.token_outputs:
                per_document = batch.unpack(value), batch.unpack(after[key])
            else:
                per_document = value.split(1), after[key].split(1)
            for index, (old, new) in enumerate(zip(*per_document, strict=True)):
                if index == changed:
                    moved += not torch.equal(old, new)
                else:
                    assert torch.equal(old, new), f"document {changed} leaks into {key} of document {index}"
        assert moved, "the change moved nothing, so the test shows nothing"


@HEADS
def test_packed_in_is_padded_in(family: Family, name: str):
    head, data = family.heads[name], rectangle(family, name)
    model = yanma.unpad(build(family, name))
    batch = yanma.PackedBatch.from_sequences(data.documents)
    with torch.no_grad():
        padded, packed = model(**data.kwargs), model(batch)
    for key, value in packed.items():
        if key in head.token_outputs:
            assert value.shape[0] == len(batch.input_ids)
            assert torch.equal(value, padded[key][data.valid]), f"{key} differs"
        else:
            assert value.shape[0] == len(batch)
            assert torch.equal(value.flatten(), padded[key].flatten()), f"{key} differs"
