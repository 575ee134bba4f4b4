"""pipeline, autocast and DistributedDataParallel around an unpadded model."""

import copy
import os

import pytest
import torch
import transformers
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import yanma
from models.builders import FAMILIES, build, gradient, rectangle

BERT = next(family for family in FAMILIES if family.model_type == "bert")


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("token-classification", "BertForTokenClassification"),
        ("text-classification", "BertForSequenceClassification"),
        ("feature-extraction", "BertModel"),
    ],
)
def test_a_pipeline_gives_what_it_gives_of_the_stock_model(task, name, tmp_path):
    words = [f"w{i}" for i in range(90)]
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]), encoding="utf-8")
    tokenizer = transformers.BertTokenizer(str(vocabulary))
    texts = [" ".join(words[i % 5 : i % 5 + n]) for i, n in enumerate((1, 40, 3, 17, 2))]
    stock = build(BERT, name)
    found = []
    for model in (stock, yanma.unpad(copy.deepcopy(stock))):
        run = transformers.pipeline(task, model=model, tokenizer=tokenizer, device="cpu")
        found.append(run(texts, batch_size=3))
    expected, ours = found
    assert len(ours) == len(texts)
    for one, other in zip(ours, expected, strict=True):
        if task == "feature-extraction":
            length = len(tokenizer(texts[ours.index(one)])["input_ids"])
            torch.testing.assert_close(
                torch.tensor(one)[0, :length], torch.tensor(other)[0, :length], rtol=1e-5, atol=1e-5
            )
        else:
            rows = zip(one, other, strict=True) if isinstance(one, list) else [(one, other)]
            for mine, theirs in rows:
                assert mine.keys() == theirs.keys()
                assert abs(mine["score"] - theirs["score"]) < 1e-5
                assert all(mine[key] == theirs[key] for key in mine if key != "score")


def test_autocast_rounds_no_worse_than_the_stock_model():
    name = "BertForTokenClassification"
    stock, data = build(BERT, name), rectangle(BERT, name)
    ours = yanma.unpad(copy.deepcopy(stock))
    exact = stock(**data.kwargs).logits[data.valid]
    with torch.autocast("cpu", torch.bfloat16):
        theirs, found = (model(**data.kwargs) for model in (stock, ours))
    assert found.logits.dtype == theirs.logits.dtype == torch.bfloat16
    errors = [(out.logits[data.valid].float() - exact).abs().max().item() for out in (theirs, found)]
    assert 0 < errors[1] < 2 * errors[0] + 2**-8, f"stock and ours differ from float32 by {errors}"
    found.loss.backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in ours.parameters())


def _rank(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    name = "BertForTokenClassification"
    data = rectangle(BERT, name)
    model = DistributedDataParallel(yanma.unpad(build(BERT, name)))
    rows = [{"input_ids": d, "labels": d % 3} for d in data.documents]
    own = yanma.PackedCollator()(rows[rank::2])
    scored = own["labels"].numel()
    loss = torch.nn.functional.cross_entropy(
        model(input_ids=own["input_ids"], cu_seq_lens_q=own["cu_seq_lens_q"]).logits[0],
        own["labels"][0],
        reduction="sum",
    )
    total = torch.tensor(float(scored))
    distributed.all_reduce(total)
    (loss * 2 / total).backward()
    if rank == 0:
        torch.save(gradient(model.module), f"{folder}/gradient.pt")
    distributed.destroy_process_group()


def test_two_processes_have_the_gradient_of_one(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (port, str(tmp_path)), nprocs=2)
    name = "BertForTokenClassification"
    model, data = build(BERT, name), rectangle(BERT, name)
    rows = [{"input_ids": d, "labels": d % 3} for d in data.documents]
    yanma.unpad(model)(**yanma.PackedCollator()(rows)).loss.backward()
    torch.testing.assert_close(torch.load(tmp_path / "gradient.pt"), gradient(model), rtol=1e-5, atol=1e-6)
