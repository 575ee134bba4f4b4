"""The data set for DataLoader and Trainer: no worker, batch, process, padding, packing or restart changes a mask."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainingArguments

from corruption.packs import LENGTHS, flat, same, texts, words_of
from yanma.corruption import Corrupted, Decay, MaskedDataset, PadMasked, Plan, Spans

SOME = [{"input_ids": text, "words": words_of(text)} for text in texts(LENGTHS * 2)]
# torch counts the machine's cores and warns of more workers than those.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


class Tagged(MaskedDataset):
    """Says which text each is, so that it is found again in any order."""

    def __getitems__(self, indices):
        return [{**text, "number": n} for n, text in zip(indices, super().__getitems__(indices), strict=True)]


class PadTagged(PadMasked):
    def __call__(self, some):
        return {**super().__call__(some), "number": torch.tensor([text["number"] for text in some])}


def seen(loader) -> dict[int, Corrupted]:
    """Each text as it comes out of the loader, without its padding."""
    found = {}
    for batch in loader:
        for row, number in enumerate(batch["number"].tolist()):
            valid = batch["attention_mask"][row].bool()
            found[number] = Corrupted(batch["input_ids"][row][valid], batch["labels"][row][valid])
    return found


def assert_same(found, wanted, what):
    assert found.keys() == wanted.keys(), what
    differing = [number for number in wanted if not same(found[number], wanted[number])]
    assert not differing, f"{what}: texts {differing} differ"


@pytest.mark.parametrize(
    ("workers", "persistent"),
    [(0, False), (1, False), (1, True), (2, False), (2, True), (4, False), (4, True)],
)
@pytest.mark.parametrize("unit", ["token", Spans.geometric()], ids=["token", "span"])
def test_no_worker_batch_or_padding_changes_a_mask_and_every_epoch_has_its_own(
    vocabulary, workers, persistent, unit
):
    plan = Plan(vocabulary, unit)
    numbers = range(len(SOME))
    of_epoch = []
    for batch_size, side in ((1, "right"), (4, "left"), (18, "right")):
        dataset = Tagged(SOME, plan, seed=3)
        loader = DataLoader(
            dataset, batch_size, shuffle=True, num_workers=workers, collate_fn=PadTagged(0, side),
            persistent_workers=persistent,
        )  # fmt: skip
        for epoch in range(3):
            dataset.set_epoch(epoch)
            packed = flat(plan, [text["input_ids"] for text in SOME], numbers, seed=3, epoch=epoch)
            found = seen(loader)
            assert_same(
                found, dict(zip(numbers, packed, strict=True)), f"batches of {batch_size}, epoch {epoch}"
            )
            of_epoch.append(found)
    changed = [n for n in numbers if not same(of_epoch[0][n], of_epoch[1][n])]
    assert len(changed) > len(SOME) / 2, "epochs differ, whatever the workers"


def test_a_run_that_resumes_at_any_step_sees_what_it_would_have_seen(vocabulary):
    plan = Plan(vocabulary, "word")

    def batches(skip):
        dataset = Tagged(SOME, plan)
        for step in range(skip, 9):
            epoch, place = divmod(step, 3)
            dataset.set_epoch(epoch)
            yield seen(
                DataLoader(dataset, 6, sampler=range(place * 6, place * 6 + 6), collate_fn=PadTagged(0))
            )

    whole = list(batches(0))
    for step in range(9):
        for later, (found, wanted) in enumerate(zip(batches(step), whole[step:], strict=True)):
            assert_same(found, wanted, f"resumed at step {step}, step {step + later}")


RANK = """
import hashlib, json, sys
from corruption.packs import LENGTHS, texts, words_of
from yanma.corruption import Plan, Spans, Vocabulary
rank, ranks = int(sys.argv[1]), int(sys.argv[2])
vocabulary = Vocabulary(size=1000, special_ids=(0, 1, 2, 3), mask_id=4)
found = {}
for number, text in list(enumerate(texts(LENGTHS * 2)))[rank::ranks]:
    for epoch in range(2):
        made = Plan(vocabulary, Spans.geometric())(text, seed=0, epoch=epoch, example=number, words=words_of(text))
        found[f"{number}/{epoch}"] = hashlib.sha256(repr([x.tolist() for x in made]).encode()).hexdigest()
print(json.dumps(found))
"""


def test_two_processes_with_other_hash_seeds_see_what_one_sees(vocabulary):
    wanted = {}
    for number, text in enumerate(texts(LENGTHS * 2)):
        for epoch in range(2):
            made = Plan(vocabulary, Spans.geometric())(
                text, seed=0, epoch=epoch, example=number, words=words_of(text)
            )
            wanted[f"{number}/{epoch}"] = hashlib.sha256(
                repr([x.tolist() for x in made]).encode()
            ).hexdigest()
    found = {}
    for rank in range(2):
        path = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", RANK, str(rank), "2"], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": str(rank + 1), "PYTHONPATH": path},
        )  # fmt: skip
        found |= json.loads(done.stdout)
    assert len(found) == 36 and found == wanted


@pytest.mark.parametrize("workers", [0, 2])
def test_trainer_shows_each_text_with_another_mask_in_each_epoch(vocabulary, tmp_path, workers):
    """Trainer and accelerate call set_epoch themselves; what the model reads is recorded."""
    numbered = [[2, *range(100 + 10 * n, 108 + 10 * n), 3] for n in range(8)]
    config = BertConfig(
        vocab_size=1000, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    read: list[list[int]] = []

    class Recording(BertForMaskedLM):
        def forward(self, input_ids=None, labels=None, **rest):
            read.extend(torch.where(labels >= 0, labels, input_ids).tolist())
            hidden.append((labels >= 0).tolist())
            return super().forward(input_ids=input_ids, labels=labels, **rest)

    hidden: list[list[list[bool]]] = []
    plan = Plan(vocabulary, rate=0.3)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=3, per_device_train_batch_size=3, report_to=[], use_cpu=True,
        save_strategy="no", dataloader_num_workers=workers, disable_tqdm=True, logging_strategy="no",
        dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(
        model=Recording(config),
        args=arguments,
        train_dataset=MaskedDataset([{"input_ids": text} for text in numbered], plan, seed=1),
        data_collator=PadMasked(0),
    )
    assert torch.isfinite(torch.tensor(trainer.train().training_loss))
    rows = [row for batch in hidden for row in batch]
    assert len(rows) == 24
    for place, (text, row) in enumerate(zip(read, rows, strict=True)):
        number = numbered.index(text)
        wanted = plan(text, seed=1, epoch=place // 8, example=number).labels >= 0
        assert wanted.tolist() == row, f"text {number} in epoch {place // 8}"


def test_the_last_text_is_the_same_counted_from_either_end_and_there_is_none_after_it(vocabulary):
    dataset = MaskedDataset(SOME, Plan(vocabulary))
    assert dataset[-1]["labels"].equal(dataset[len(SOME) - 1]["labels"])
    assert len(list(dataset)) == len(SOME)


def test_a_rate_that_decays_is_at_its_end_in_the_last_epoch(vocabulary):
    (text,) = texts([1000])
    dataset = MaskedDataset([{"input_ids": text}], Plan(vocabulary, rate=Decay(0.4, 0.2)), num_epochs=3)
    counts = []
    for epoch in range(4):
        dataset.set_epoch(epoch)
        counts.append(int((dataset[0]["labels"] >= 0).sum()))
    assert counts == pytest.approx([400, 300, 200, 200], abs=1)
    with pytest.raises(ValueError, match="say num_epochs"):
        MaskedDataset([], Plan(vocabulary, rate=Decay(0.4, 0.2)))


def test_what_would_make_the_loss_nan_is_refused(vocabulary):
    dataset = MaskedDataset([{"input_ids": [2, 3]}, {"input_ids": [2, 60, 3]}], Plan(vocabulary))
    collate = PadMasked(0)
    assert int((collate([dataset[0], dataset[1]])["labels"] >= 0).sum()) == 1
    with pytest.raises(ValueError, match="none of these 1 texts has a token that may be hidden"):
        collate([dataset[0]])


def test_words_must_be_there_where_they_are_needed_and_other_columns_pass(vocabulary):
    row = {"input_ids": [2, 60, 3], "token_type_ids": [0, 0, 0]}
    (text,) = MaskedDataset([row], Plan(vocabulary)).__getitems__([0])
    assert PadMasked(0)([text])["token_type_ids"].tolist() == [[0, 0, 0]]
    with pytest.raises(ValueError, match="no column 'words'"):
        MaskedDataset([row], Plan(vocabulary, "word"))[0]
    with_none = {**row, "words": [None, 0, None]}
    assert "words" not in MaskedDataset([with_none], Plan(vocabulary, "word"))[0]
