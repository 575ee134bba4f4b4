"""The data set for DataLoader and Trainer: no worker, batch, process, padding, packing or restart changes a mask."""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainingArguments

from corruption.loaders import SOME, PadTagged, Tagged, digest, seen
from corruption.packs import flat, same, texts
from corruption.rank import EPOCHS, PLAN
from yanma.corruption import Decay, MaskedDataset, PadMasked, Plan, RunningLoss, Spans
from yanma.corruption.shared import SharedLosses

# torch counts the machine's cores and warns of more workers than those.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


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


def test_two_processes_with_other_hash_seeds_see_what_one_sees(tmp_path):
    """torch.distributed with gloo: by DistributedSampler and by accelerate, with workers, resumed at every step."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    paths = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    ranks = []
    for rank in ("0", "1"):
        own = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "PYTHONHASHSEED": rank,
            "PYTHONPATH": paths,
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "corruption.rank", str(tmp_path / "seen.json")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        ranks.append(subprocess.Popen(command, env={**os.environ, **meeting, **own}, **pipes))
    try:
        printed = [rank.communicate(timeout=120)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(printed)
    numbers, texts_ = range(len(SOME)), [text["input_ids"] for text in SOME]
    wanted = [
        [digest(pair) for pair in flat(PLAN, texts_, numbers, seed=5, epoch=epoch)] for epoch in range(EPOCHS)
    ]
    first, second = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    assert len(first) == len(second) == 60, "10 ways in 2 epochs, resumed at 20 steps in each"
    for (way, epoch, mine), (same_way, _, others) in zip(first, second, strict=True):
        assert way == same_way and 0 < len(mine) < len(SOME) and mine.keys() != others.keys(), "shared out"
        if "resumed" not in way:
            assert {*mine, *others} == set(map(str, numbers)), f"{way}: every text"
        for number, found in (*mine.items(), *others.items()):
            assert found == wanted[epoch][int(number)], f"{way}, epoch {epoch}: text {number} differs"


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
    with pytest.raises(ValueError, match="say num_epochs, or call set_progress"):
        MaskedDataset([{"input_ids": text}], Plan(vocabulary, rate=Decay(0.4, 0.2)))[0]


def first_half_is_hard(size=1000) -> RunningLoss:
    tokens = torch.arange(50, size)
    return RunningLoss.start(size).updated(tokens, torch.where(tokens < 500, 9.0, 1.0))


@pytest.mark.parametrize(("workers", "how"), [(0, None), (2, "fork"), (1, "spawn")])
def test_progress_and_losses_told_between_epochs_hold_for_each_text_on_any_workers(vocabulary, workers, how):
    some = texts([400] * 8)
    plan = Plan(vocabulary, rate=Decay(0.4, 0.1))
    dataset = MaskedDataset([{"input_ids": text} for text in some], plan, losses=RunningLoss.start(1000))
    loader = DataLoader(
        dataset, 2, num_workers=workers, multiprocessing_context=how, collate_fn=PadMasked(0),
        persistent_workers=workers > 0,
    )  # fmt: skip
    seen = []
    for epoch, losses in enumerate((RunningLoss.start(1000), first_half_is_hard())):
        dataset.set_epoch(epoch)
        dataset.set_progress(epoch / 2)
        dataset.set_losses(losses)
        found = torch.cat([batch["labels"] for batch in loader])
        wanted = flat(plan, some, range(8), epoch=epoch, progress=epoch / 2, losses=losses)
        assert torch.equal(found, torch.stack([pair.labels for pair in wanted])), f"epoch {epoch}"
        seen.append(found)
    rates = [(found >= 0).double().sum().item() / (8 * 400) for found in seen]
    assert rates == pytest.approx([0.4, 0.25], abs=0.01)
    hard = [(found[found >= 0] < 500).double().mean().item() for found in seen]
    assert hard[1] > hard[0] + 0.2, "hard tokens are hidden more often"


@pytest.mark.parametrize(("workers", "late"), [(0, 0), (2, 4)])
def test_progress_told_amid_an_epoch_reaches_the_texts_that_are_drawn_after_it(vocabulary, workers, late):
    """DataLoader asks each worker for prefetch_factor batches ahead: so many come late and no more."""
    some = texts([1000]) * 16
    dataset = MaskedDataset([{"input_ids": text} for text in some], Plan(vocabulary, rate=Decay(0.4, 0.1)))
    loader = DataLoader(
        dataset, 1, num_workers=workers, prefetch_factor=2 if workers else None, collate_fn=PadMasked(0)
    )
    dataset.set_progress(0.0)
    counts = []
    for step, batch in enumerate(loader):
        counts.append(int((batch["labels"] >= 0).sum()))
        if step == 7:
            dataset.set_progress(1.0)
    assert counts[: 8 - 2 * late] == pytest.approx([400] * (8 - 2 * late), abs=1)
    assert counts[8 + late :] == pytest.approx([100] * (8 - late), abs=1)
    assert all(min(abs(count - 400), abs(count - 100)) <= 1 for count in counts)


def test_what_was_told_is_read_whole_while_the_next_is_told():
    size = 50_000
    shared = SharedLosses(RunningLoss.start(size))

    def read() -> set[float]:
        found = set()
        while len(found) < 20:
            losses = shared.last()
            value = losses.values[0].item()
            assert bool((losses.values == value).all()), "values of two"
            assert bool((losses.seen == (value // 2 % 2 == 1)).all()), "values of one, seen of another"
            found.add(value)
        return found

    with ThreadPoolExecutor(1) as pool:
        reading, told = pool.submit(read), 0
        while not reading.done():
            told += 1
            values, seen = torch.full((size,), float(told)), torch.full((size,), told // 2 % 2 == 1)
            shared.tell(RunningLoss(values, seen))
        assert len(reading.result()) == 20
    assert shared.last().values[0] == told


def test_what_would_be_told_in_vain_is_refused(vocabulary):
    decaying = Plan(vocabulary, rate=Decay(0.4, 0.1))
    with pytest.raises(ValueError, match="rate does not decay"):
        MaskedDataset([], Plan(vocabulary)).set_progress(0.5)
    with pytest.raises(ValueError, match="follows the epochs; leave num_epochs out"):
        MaskedDataset([], decaying, num_epochs=3).set_progress(0.5)
    with pytest.raises(ValueError, match=r"progress is 1\.5"):
        MaskedDataset([], decaying).set_progress(1.5)
    with pytest.raises(ValueError, match="begin with losses="):
        MaskedDataset([], decaying).set_losses(RunningLoss.start(1000))
    with pytest.raises(ValueError, match="losses are of 5 tokens; those at the beginning were of 1000"):
        MaskedDataset([], decaying, losses=RunningLoss.start(1000)).set_losses(RunningLoss.start(5))


def test_the_loss_of_texts_of_1_to_3_tokens_is_a_number(vocabulary):
    tiny = BertConfig(
        vocab_size=1000, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    model = BertForMaskedLM(tiny)
    dataset = MaskedDataset([{"input_ids": text} for text in texts([1, 2, 3])], Plan(vocabulary))
    for epoch in range(20):
        dataset.set_epoch(epoch)
        for number in range(3):
            assert torch.isfinite(model(**PadMasked(0)([dataset[number]])).loss), f"{number + 1} tokens"


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
