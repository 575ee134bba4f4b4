"""pipeline, autocast, DistributedDataParallel and fully_shard around an unpadded model."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

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


RANK = """
import sys, torch, yanma
from torch import distributed
from models.builders import FAMILIES, build, gradient, rectangle

rank, folder, kind = int(sys.argv[1]), *sys.argv[2:]
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
bert, name = FAMILIES[0], "BertForTokenClassification"
model = base = yanma.unpad(build(bert, name))
if kind == "replicated":
    model = torch.nn.parallel.DistributedDataParallel(base)
else:
    mesh = distributed.init_device_mesh("cpu", (2,))
    for part in (*base.bert.encoder.layer, base):
        distributed.fsdp.fully_shard(part, mesh=mesh)
    assert sum(p.to_local().numel() for p in base.parameters()) < 0.6 * sum(p.numel() for p in base.parameters())
    assert "BertForTokenClassification (family bert): unpadded" in str(yanma.explain(base))
rows = [{"input_ids": d, "labels": d % 3} for d in rectangle(bert, name).documents]
pack = yanma.PackedCollator()(rows[rank::2])
labels = pack.pop("labels")[0]
scored = torch.tensor(float(len(labels)))
distributed.all_reduce(scored)
loss = torch.nn.functional.cross_entropy(model(**pack).logits[0], labels, reduction="sum")
(2 * loss / scored).backward()
if kind == "sharded":
    for p in base.parameters():
        p.grad = None if p.grad is None else p.grad.full_tensor()
torch.save(gradient(base), f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.parametrize("kind", ["replicated", "sharded"])
def test_two_processes_have_the_gradient_of_one(kind, tmp_path):
    places = [str(Path(__file__).parent.parent), str(Path(yanma.__file__).parent.parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path), kind], env=environment)
        for rank in range(2)
    ]
    try:
        assert [rank.wait(timeout=60) for rank in ranks] == [0, 0], "a process failed"
    finally:
        for rank in ranks:
            rank.kill()
    name = "BertForTokenClassification"
    model = build(BERT, name)
    rows = [{"input_ids": d, "labels": d % 3} for d in rectangle(BERT, name).documents]
    yanma.unpad(model)(**yanma.PackedCollator()(rows)).loss.backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found, gradient(model), rtol=1e-5, atol=1e-6)


def test_a_compiled_model_is_computed_as_it_is_and_compiles_nothing():
    name = "BertForTokenClassification"
    model, frames = yanma.unpad(build(BERT, name)), []

    def backend(graph, inputs):
        frames.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        for lengths in ((3, 5), (7, 2, 4), (9,)):
            batch = yanma.PackedBatch.from_sequences([list(range(5, 5 + n)) for n in lengths])
            assert torch.equal(compiled(batch).logits, model(batch).logits)
    assert not frames, f"{len(frames)} graphs were compiled"
