"""Rows of several documents, told apart by positions that begin again or by seq_idx: one document at a time."""

import copy

import pytest
import torch
from torch.nn import functional as F

import yanma
from models.builders import FAMILIES, build, every_head, head_named, labels, rectangle

BY_TYPE = {family.model_type: family for family in FAMILIES}
LENGTHS = (5, 1, 9, 9, 2, 4)
SPLITTERS = [family for family in FAMILIES if family.splits_at_jumps]
OF_FAMILIES = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)


def first_position(family, model):
    return family.reserved_positions(model.config.pad_token_id)


def end_to_end(documents, first=0):
    """Rows (1, T) of ids and of positions."""
    positions = [torch.arange(len(document)) + first for document in documents]
    return {"input_ids": torch.cat(documents)[None], "position_ids": torch.cat(positions)[None]}


def alone(stock, head, documents):
    """What a stock model gives for each document by itself: rows of tokens end to end, and rows of documents."""
    inputs = [document[None, None] if head.loss == "choice" else document[None] for document in documents]
    with torch.no_grad():
        outputs = [stock(input_ids=ids) for ids in inputs]
    found = {}
    for names, dim in ((head.token_outputs, 1), (head.document_outputs, 0)):
        for name in names:
            if outputs[0].get(name) is not None:
                found[name] = torch.cat([output[name] for output in outputs], dim)
    return found


@pytest.mark.parametrize(
    ("family", "name"), [*every_head()], ids=lambda value: getattr(value, "model_type", value)
)
def test_where_positions_begin_again_documents_are_apart(family, name):
    head, stock = family.heads[name], build(family, name)
    documents = rectangle(family, name, LENGTHS).documents
    row = end_to_end(documents, first_position(family, stock))
    expected = alone(stock, head, documents)
    ours = yanma.unpad(stock)
    with torch.no_grad():
        for more in ({}, {"attention_mask": torch.ones_like(row["input_ids"]), "use_cache": False}):
            found = ours(**row | (more if family.caches else {}))
            for key, value in expected.items():
                torch.testing.assert_close(found[key], value, rtol=1e-5, atol=5e-6, msg=key)
    assert expected, "no output was compared"


@OF_FAMILIES
def test_several_rows_of_documents_and_padding(family):
    name = head_named(family, "ForTokenClassification")
    head, stock = family.heads[name], build(family, name)
    documents, first = rectangle(family, name, LENGTHS).documents, first_position(family, stock)
    starts = (0, 5, 20, 31, 44, 50)
    slots = [start + torch.arange(len(document)) for start, document in zip(starts, documents, strict=True)]
    ids, positions, mask = torch.zeros(3, 20).long(), torch.ones(3, 20).long(), torch.zeros(3, 20).long()
    for document, places in zip(documents, slots, strict=True):
        ids.view(-1)[places], mask.view(-1)[places] = document, 1
        positions.view(-1)[places] = torch.arange(len(document)) + first
    expected = alone(stock, head, documents)
    ours = yanma.unpad(stock)
    with torch.no_grad():
        found = ours(input_ids=ids, position_ids=positions, attention_mask=mask)
    assert expected, "no output was compared"
    for key in head.token_outputs:
        assert found[key].shape[:2] == ids.shape
        at = torch.cat(slots)
        torch.testing.assert_close(
            found[key].flatten(0, 1)[at], expected[key][0], rtol=1e-5, atol=5e-6, msg=key
        )


@OF_FAMILIES
def test_slots_that_are_hidden_before_documents_move_no_document(family):
    name = head_named(family, "ForTokenClassification")
    head, stock = family.heads[name], build(family, name)
    documents = rectangle(family, name, (5, 3, 4)).documents
    slots = [start + torch.arange(len(d)) for start, d in zip((2, 9, 15), documents, strict=True)]
    ids, mask = torch.full((2, 12), stock.config.pad_token_id), torch.zeros(2, 12).long()
    for document, places in zip(documents, slots, strict=True):
        ids.view(-1)[places], mask.view(-1)[places] = document, 1
    numbers = torch.tensor([[0] * 8 + [1] * 4, [2] * 12])
    expected = alone(stock, head, documents)
    with torch.no_grad():
        found = yanma.unpad(stock)(input_ids=ids, attention_mask=mask, seq_idx=numbers)
    assert expected, "no output was compared"
    for key in head.token_outputs:
        got = found[key].flatten(0, 1)[torch.cat(slots)]
        torch.testing.assert_close(got, expected[key][0], rtol=1e-5, atol=5e-6, msg=key)


def test_seq_idx_alone_or_beside_positions_and_bounds():
    family, name = BY_TYPE["roberta"], "RobertaForTokenClassification"
    stock = build(family, name)
    documents = rectangle(family, name, LENGTHS).documents
    expected = alone(stock, family.heads[name], documents)["logits"]
    ours, row = yanma.unpad(stock), end_to_end(documents)
    numbers = torch.arange(len(documents)).repeat_interleave(torch.tensor(LENGTHS))[None].int()
    bounds = torch.tensor([0, *LENGTHS]).cumsum(0).int()
    told = {"seq_idx": numbers, "cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds.clone(), "max_length_q": 9}
    ids = {"input_ids": row["input_ids"]}
    calls = [ids | {"seq_idx": numbers}, row | {"seq_idx": numbers}, ids | told, row | told]
    calls.append(ids | told | {"attention_mask": torch.ones_like(ids["input_ids"])})
    embeddings = ours.get_input_embeddings()(ids["input_ids"]).detach()
    calls.append({"inputs_embeds": embeddings, "cu_seq_lens_q": bounds})
    for call in calls:
        with torch.no_grad():
            torch.testing.assert_close(
                ours(**call).logits, expected, rtol=1e-5, atol=5e-6, msg=str(list(call))
            )


@pytest.mark.parametrize("family", SPLITTERS, ids=lambda family: family.model_type)
def test_no_document_predicts_the_start_of_the_next(family):
    name = next(name for name, head in family.heads.items() if head.loss == "next_token")
    stock = build(family, name)
    documents = rectangle(family, name, LENGTHS).documents
    losses = [
        F.cross_entropy(stock(input_ids=d[None]).logits[0, :-1], d[1:], reduction="sum")
        for d in documents
        if len(d) > 1
    ]
    expected = torch.stack(losses).sum() / sum(n - 1 for n in LENGTHS)
    ours, row = yanma.unpad(stock), end_to_end(documents)
    collated = row["input_ids"].masked_fill(row["position_ids"] == 0, -100)
    for given in (row["input_ids"], collated):
        torch.testing.assert_close(ours(**row, labels=given).loss, expected, rtol=1e-5, atol=1e-6)
    counted = ours(**row, labels=collated, num_items_in_batch=10).loss
    torch.testing.assert_close(counted, expected * sum(n - 1 for n in LENGTHS) / 10, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="labels of document 1 begin with a token that nobody predicts"):
        ours(**row, labels=row["input_ids"], num_items_in_batch=10)


def test_rows_first_labels_are_counted_by_nobody():
    ours = yanma.unpad(build(BY_TYPE["llama"], "LlamaForCausalLM"))
    ids, positions = torch.arange(10, 22).view(2, 6), torch.tensor([[0, 1, 2, 0, 1, 2], [0, 1, 0, 1, 2, 3]])
    labels = ids.masked_fill((positions == 0) & (torch.arange(6) > 0), -100)
    row = {"input_ids": ids, "position_ids": positions}
    scored = int((labels[:, 1:] != -100).sum())  # as transformers' Trainer counts them
    counted = ours(**row, labels=labels, num_items_in_batch=scored).loss
    torch.testing.assert_close(counted, ours(**row, labels=ids).loss)
    shifted = F.pad(labels, (0, 1), value=-100)[:, 1:]
    by_shifted = ours(**row, labels=ids, shift_labels=shifted, num_items_in_batch=scored).loss
    torch.testing.assert_close(by_shifted, counted)
    with pytest.raises(ValueError, match="labels of document 3 begin with a token that nobody predicts"):
        ours(
            **row,
            labels=labels.index_put((torch.tensor(1), torch.tensor(2)), ids[1, 2]),
            num_items_in_batch=9,
        )


ODD = {"jump": [0, 1, 2, 7, 8, 9], "back": [0, 1, 2, 1, 2, 3], "still": [0, 1, 2, 2, 3, 4]}


@pytest.mark.parametrize("kind", ODD)
@OF_FAMILIES
def test_positions_that_jump_otherwise_mean_what_they_mean_to_the_stock_model(family, kind):
    name = head_named(family, "ForTokenClassification")
    stock = build(family, name)
    first = first_position(family, stock)
    row = {"input_ids": torch.arange(10, 16)[None], "position_ids": torch.tensor([ODD[kind]]) + first}
    ours = yanma.unpad(copy.deepcopy(stock))
    ones = {"attention_mask": torch.ones(1, 6).long()}
    with torch.no_grad():
        for more in (ones, {}, {"use_cache": False}) if family.caches else (ones, {}):
            expected, found = (model(**row | more)[0] for model in (stock, ours))
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=5e-6, msg=f"{list(more)}")


@pytest.mark.parametrize("side", ["left", "right"])
@OF_FAMILIES
def test_positions_of_hidden_slots_begin_nothing(family, side):
    name = head_named(family, "ForTokenClassification")
    data, stock = rectangle(family, name, (6, 4)), build(family, name)
    ids, mask = data.kwargs["input_ids"], data.kwargs["attention_mask"]
    if side == "left":
        ids, mask = ids.flip(1), mask.flip(1)
    for hidden in (0, 1):
        positions = (mask.cumsum(1) - 1 + first_position(family, stock)).masked_fill(mask == 0, hidden)
        call = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        with torch.no_grad():
            expected, found = stock(**call)[0], yanma.unpad(copy.deepcopy(stock))(**call)[0]
        torch.testing.assert_close(found[mask == 1], expected[mask == 1], rtol=1e-5, atol=5e-6)


IDS = torch.tensor([[7, 8, 9, 9, 5]])
AGAIN = torch.tensor([[0, 1, 2, 0, 1]])
BOUNDS = torch.tensor([0, 3, 5])


@pytest.mark.parametrize(
    ("model_type", "suffix", "change", "error", "words"),
    [
        ("llama", "ForCausalLM", {"use_cache": True}, yanma.Unsupported, "leave out use_cache"),
        ("llama", "Model", {"use_cache": True}, yanma.Unsupported, "leave out use_cache"),
        ("llama", "ForCausalLM", {"past_key_values": []}, yanma.Unsupported, "leave out past_key_values"),
        ("llama", "Model", {"token_type_ids": torch.zeros(1, 5).long()}, yanma.Unsupported, "no token types"),
        ("roberta", "Model", {}, ValueError, "position_ids_start=2"),
        ("bert", "Model", {"position_ids": torch.zeros(1, 5).long()}, ValueError, "0 throughout"),
        ("llama", "Model", {"position_ids": torch.zeros(1, 5).long()}, ValueError, "0 throughout"),
        (
            "bert",
            "Model",
            {"position_ids": torch.zeros(1, 4).long()},
            ValueError,
            r"position_ids is \(1, 4\)",
        ),
        ("bert", "Model", {"seq_idx": torch.tensor([[0, 0, 1, 1, 1]])}, ValueError, "otherwise than seq_idx"),
        ("bert", "Model", {"seq_idx": torch.zeros(1, 4).long()}, ValueError, r"seq_idx is \(1, 4\)"),
        ("bert", "Model", {"cu_seq_lens_q": torch.tensor([0, 2, 5])}, ValueError, "otherwise than cu_seq"),
        ("bert", "Model", {"cu_seq_lens_q": torch.tensor([0, 3, 3, 5])}, ValueError, "document 1 has 0"),
        ("bert", "Model", {"max_length_q": 9}, ValueError, "cu_seq_lens_q is missing"),
        (
            "bert",
            "Model",
            {"cu_seq_lens_q": BOUNDS, "cu_seq_lens_k": torch.tensor([0, 2, 5])},
            ValueError,
            "cu_seq_lens_k is not",
        ),
        ("bert", "Model", {"cu_seq_lens_q": BOUNDS, "max_length_k": 2}, ValueError, "max_length_k is 2"),
        (
            "bert",
            "Model",
            {"cu_seq_lens_q": BOUNDS, "seq_idx": torch.tensor([[0, 0, 1, 1, 1]])},
            ValueError,
            "seq_idx changes elsewhere",
        ),
        ("bert", "ForMultipleChoice", {"input_ids": IDS[None]}, yanma.Unsupported, "rows, slots"),
    ],
)
def test_what_does_not_go_with_several_documents_is_refused_by_name(model_type, suffix, change, error, words):
    family = BY_TYPE[model_type]
    model = yanma.unpad(build(family, next(name for name in family.heads if name.endswith(suffix))))
    call = {"input_ids": IDS, "position_ids": AGAIN} | change
    if call["input_ids"].dim() == 3:
        call["position_ids"] = AGAIN[None]
    with pytest.raises(error, match=words):
        model(**call)


def test_a_pack_takes_no_bounds():
    model = yanma.unpad(build(BY_TYPE["llama"], "LlamaModel"))
    with pytest.raises(ValueError, match="cu_seq_lens_q is part of a PackedBatch"):
        model(yanma.PackedBatch.from_sequences([[5, 6], [7]]), cu_seq_lens_q=torch.tensor([0, 2, 3]))


def test_labels_and_token_types_lie_as_the_callers_rows():
    family, name = BY_TYPE["bert"], "BertForTokenClassification"
    stock, head = build(family, name), family.heads[name]
    documents = rectangle(family, name, LENGTHS).documents
    draw = torch.Generator().manual_seed(2)
    types = [torch.randint(0, 2, (len(d),), generator=draw) for d in documents]
    valid = torch.ones(1, sum(LENGTHS), dtype=torch.bool)
    given = labels(head, valid, draw)["labels"]
    logits = torch.cat(
        [
            stock(input_ids=d[None], token_type_ids=t[None]).logits[0]
            for d, t in zip(documents, types, strict=True)
        ]
    )
    ours = yanma.unpad(stock)
    found = ours(**end_to_end(documents), token_type_ids=torch.cat(types)[None], labels=given)
    torch.testing.assert_close(found.logits[0], logits, rtol=1e-5, atol=5e-6)
    torch.testing.assert_close(found.loss, F.cross_entropy(logits, given[0]), rtol=1e-5, atol=1e-6)
