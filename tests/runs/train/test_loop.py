"""A run: its curve does not depend on how it is computed, and what it leaves is the best model with true figures."""

import json
import math
from dataclasses import dataclass

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from yanma.engine import Engine
from yanma.errors import ConfigError, Unsupported
from yanma.masks import window
from yanma.models.unpad import masks_of
from yanma.runs import train_setup
from yanma.runs.evaluate import Evaluation
from yanma.runs.folder import RunFolder
from yanma.runs.train import train
from yanma.runs.train_config import TrainConfig
from yanma.runs.train_setup import open_run, read_examples

TASKS = ("sequence-classification", "token-classification")


def metrics(config):
    return json.loads((RunFolder(config.out, TrainConfig).path / "metrics.json").read_text("utf-8"))


def scalars(config, name):
    events = EventAccumulator(
        str(RunFolder(config.out, TrainConfig).tensorboard), size_guidance={"scalars": 0}
    )
    events.Reload()
    return torch.tensor([event.value for event in events.Scalars(name)], dtype=torch.float64)


@dataclass(frozen=True)
class Curve:
    """What a run did, step by step."""

    losses: torch.Tensor
    norms: torch.Tensor
    """Lengths of the gradients: AdamW forgives a gradient of the wrong size, so losses alone do not show it."""

    def __post_init__(self):
        few_or_flat = len(self.losses) < 5 or self.losses.max() - self.losses.min() < 0.05
        assert not few_or_flat, f"a short or flat curve shows nothing: {self.losses}"

    def differs(self, other):
        """The largest difference: of losses, or of lengths relative to them."""
        norms = (self.norms - other.norms).abs() / (1 + self.norms)
        return max((self.losses - other.losses).abs().max().item(), norms.max().item())


@pytest.fixture
def curve(config, tmp_path):
    """The curve of a run with these settings."""
    runs = iter(range(99))

    def run(*args, **flags):
        wanted = config(*args, out=str(tmp_path / f"run{next(runs)}"), **flags)
        train(wanted)
        losses = metrics(wanted)["loss_per_step"]
        return Curve(torch.tensor(losses, dtype=torch.float64), scalars(wanted, "train/gradient_norm"))

    return run


@pytest.mark.parametrize("task", TASKS)
def test_static_and_dynamic_masking_learn_the_same(curve, task):
    dynamic = curve(task, epochs=2, batching="packed")
    static = curve(task, epochs=2, batching="padded")
    assert dynamic.differs(static) < 1e-4, f"{dynamic}, {static}"
    assert dynamic.losses[-3:].mean() < dynamic.losses[:3].mean(), f"and it does learn: {dynamic}"


def test_a_mask_of_the_config_is_learned_under_and_predicted_under(curve, config, tmp_path):
    narrow = curve(mask="window(0, 0)")
    assert narrow.differs(curve()) > 1e-3, "a token that reads itself alone learns something else"
    assert narrow.differs(curve(mask="window(500, 500)")) > 1e-3
    assert curve().differs(curve(mask="window(500, 500)")) < 1e-5, (
        "a window wider than all texts hides nothing"
    )
    opened = open_run(RunFolder(tmp_path / "run0", TrainConfig), torch.device("cpu"))
    assert set(masks_of(opened.model)) == {window(0, 0)}
    with pytest.raises(Unsupported, match="holds for one pack only"):
        train(config(mask="documents([3, 4])", out=str(tmp_path / "refused")))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("batching", ["packed", "padded"])
def test_the_memory_bound_moves_no_result(curve, task, batching):
    whole = curve(task, batching=batching, max_batch_tokens=4096)
    packs = curve(task, batching=batching, max_batch_tokens=50)
    assert whole.differs(packs) < 1e-5, f"in one pack {whole}, in packs of one or two texts {packs}"


def test_dropout_under_dynamic_masking_does_not_depend_on_the_packs_either(curve):
    with_dropout = {"dropout": 0.2, "epochs": 1}
    whole, packs = curve(max_batch_tokens=4096, **with_dropout), curve(max_batch_tokens=50, **with_dropout)
    assert whole.differs(packs) < 1e-5, f"in one pack {whole}, in packs {packs}"
    assert whole.differs(curve(dropout=0.0)) > 1e-3, "dropout does something"


@pytest.mark.parametrize("batching", ["packed", "padded"])
def test_dropout_is_drawn_anew_in_every_step_and_every_pack(config, batching):
    """A rate of nearly 0 leaves the weights as they are, so whatever differs from step to step is dropout."""
    wanted = config(batching=batching, dropout=0.3, learning_rate=1e-30, batch_size=90, epochs=4)
    train(wanted)
    losses = {epoch["train_loss"] for epoch in metrics(wanted)["validations"]}
    assert len(losses) == 4, f"the same 90 texts, four times: {losses}"


@pytest.mark.parametrize("batching", ["packed", "padded"])
def test_a_run_is_repeated_by_its_seed(curve, batching):
    first, again = (curve(batching=batching, dropout=0.2, seed=5) for _ in range(2))
    assert torch.equal(first.losses, again.losses)
    other = curve(batching=batching, dropout=0.2, seed=6)
    assert not torch.equal(first.losses, other.losses), "another seed is another run"


def test_steps_by_tokens_have_so_many_tokens_and_learn_the_same_either_way(curve, config, tmp_path):
    dynamic = curve(batch_size=None, batch_tokens=120)
    static = curve(batch_size=None, batch_tokens=120, batching="padded")
    assert dynamic.differs(static) < 1e-4
    tokens = metrics(config(out=str(tmp_path / "run0")))["data"]["train"]["tokens"]
    steps = len(dynamic.losses)
    assert tokens / 120 <= steps < 2 * tokens / 120, f"{tokens} tokens in {steps} steps of 120"


def test_bfloat16_learns_nearly_the_same(curve):
    exact, rounded = curve(bf16=False), curve(bf16=True)
    assert 0 < (exact.losses - rounded.losses).abs().max() < 0.05, f"float32 {exact}, bfloat16 {rounded}"


@pytest.mark.parametrize(
    ("task", "auto"),
    [(TASKS[0], AutoModelForSequenceClassification), (TASKS[1], AutoModelForTokenClassification)],
)
def test_the_folder_holds_a_model_that_plain_transformers_loads(config, task, auto, data_folder):
    wanted = config(task)
    trained = train(wanted)
    folder = RunFolder(wanted.out, TrainConfig)
    model = auto.from_pretrained(folder.model, use_safetensors=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder.model)
    labels = tuple(model.config.id2label[i] for i in range(model.num_labels))
    assert labels == tuple(metrics(wanted)["labels"]), "class names by id"
    assert model.config.label2id == {label: i for i, label in enumerate(labels)}

    ready = open_run(folder, torch.device("cpu"))
    (example, *_), text = read_examples(ready, wanted.data.test, pytest.fail), "where is my red card"
    with torch.no_grad():
        stock = model(torch.tensor([example.tokens.input_ids])).logits
    ours = Engine(ready.model).run([example])[0].result()
    assert torch.allclose(stock.reshape(ours.shape), ours, atol=1e-5), "stock transformers computes the same"
    assert tokenizer(text)["input_ids"] == ready.tokenizer(text)["input_ids"]
    assert trained.test.report.as_dict() == {k: v for k, v in metrics(wanted)["test"].items() if k != "loss"}


def test_metrics_tell_speeds_sizes_and_versions(config):
    wanted = config(epochs=2)
    train(wanted)
    told = metrics(wanted)
    assert set(told["versions"]) == {"python", "yanma", "torch", "transformers", "accelerate"}
    assert [part["examples"] for part in told["data"].values()] == [90, 20, 30]
    assert [epoch["epoch"] for epoch in told["validations"]] == [1, 2]
    steps = len(told["loss_per_step"]) // 2
    for number, epoch in enumerate(told["validations"]):
        assert epoch["tokens_per_s"] > 0 and epoch["seconds"] > 0
        assert epoch["padding_computed"] == 0 and 0.3 < epoch["padding_avoided"] < 0.9, (
            "lengths are very uneven"
        )
        losses = told["loss_per_step"][number * steps :][:steps]
        assert epoch["train_loss"] == pytest.approx(sum(losses) / len(losses))
        assert {"precision", "recall", "f1", "support"} == set(epoch["validation"]["classes"]["red"])
    assert told["parameters_trained"] == told["parameters"]


def test_static_masking_computes_padding_and_says_so(config):
    wanted = config(batching="padded", max_length=40)
    train(wanted)
    told = metrics(wanted)
    sizes = told["data"]["train"]
    assert told["validations"][0]["padding_computed"] == pytest.approx(
        1 - sizes["tokens"] / (40 * sizes["examples"])
    )


def test_curves_go_to_tensorboard(config):
    wanted = config(epochs=2)
    train(wanted)
    losses = metrics(wanted)["loss_per_step"]
    assert scalars(wanted, "train/loss").tolist() == pytest.approx(losses)
    assert scalars(wanted, "train/learning_rate").max() == pytest.approx(3e-3)
    assert len(scalars(wanted, "validation/accuracy")) == len(scalars(wanted, "validation/loss")) == 2


@pytest.mark.parametrize(
    ("scores", "best"), [([0.5, 0.7, 0.6], 2), ([0.7, 0.7, 0.6], 1), ([0.1, 0.2, 0.3], 3)]
)
def test_the_best_epoch_is_kept_and_of_equals_the_earlier(config, monkeypatch, scores, best):
    """Validation is made up; the weights that are kept must be those of the epoch that it calls best."""
    weights = []
    genuine = train_setup.evaluate

    def made_up(predictor, examples, accelerator) -> Evaluation:
        evaluation = genuine(predictor, examples, accelerator)
        if len(weights) == len(scores):  # the test report
            return evaluation
        weights.append(predictor.model.classifier.weight.detach().clone())
        report = type(evaluation.report)(**{**vars(evaluation.report), "headline": scores[len(weights) - 1]})
        return Evaluation(report, evaluation.loss)

    monkeypatch.setattr(train_setup, "evaluate", made_up)
    wanted = config(epochs=3)
    trained = train(wanted)
    assert trained.best_epoch == metrics(wanted)["best"]["epoch"] == best
    kept = AutoModelForSequenceClassification.from_pretrained(
        RunFolder(wanted.out, TrainConfig).model
    ).classifier.weight
    same = [torch.equal(kept, epoch) for epoch in weights]
    assert same == [epoch == best for epoch in (1, 2, 3)], "the model in the folder is the best epoch's"


def test_frozen_weights_stay_and_the_others_move(config, model_folder):
    wanted = config(freeze="embeddings,layers.0")
    train(wanted)
    before = AutoModelForSequenceClassification.from_pretrained(model_folder).state_dict()
    after = AutoModelForSequenceClassification.from_pretrained(
        RunFolder(wanted.out, TrainConfig).model
    ).state_dict()
    for name, tensor in after.items():
        if name.startswith("bert."):
            frozen = name.startswith(("bert.embeddings.", "bert.encoder.layer.0."))
            assert torch.equal(tensor, before[name]) is frozen, f"{name} {'moved' if frozen else 'stayed'}"
    told = metrics(wanted)
    assert 0 < told["parameters_trained"] < told["parameters"]


def test_without_validation_a_share_of_train_is_held_out_and_told(config, capsys):
    wanted = config(validation=0.2)
    train(wanted)
    sizes = metrics(wanted)["data"]
    assert sizes["train"]["examples"] + sizes["validation"]["examples"] == 90, "no row is lost"
    assert 8 <= sizes["validation"]["examples"] <= 30, "about a fifth"
    said = capsys.readouterr().err
    assert (
        f"{sizes['validation']['examples']} of its 90 rows, drawn by the seed, are kept for validation"
        in said
    )


def test_texts_that_are_cut_are_counted(config, capsys):
    train(config(max_length=12))
    assert "texts are longer than 12 tokens" in capsys.readouterr().err


def test_a_model_from_scratch_learns_its_own_vocabulary(config):
    wanted = config(model=None, from_scratch="bert-tiny", max_length=40, freeze="layers.1")
    train(wanted)
    model = AutoModelForSequenceClassification.from_pretrained(RunFolder(wanted.out, TrainConfig).model)
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (2, 128)
    assert (
        model.config.vocab_size
        == len(AutoTokenizer.from_pretrained(RunFolder(wanted.out, TrainConfig).model))
        > 20
    )


def test_a_loss_that_is_no_number_ends_the_run_with_advice(config):
    with pytest.raises(
        ConfigError,
        match=r"the loss became (nan|inf), the length of its gradient (nan|inf); a lower learning_rate",
    ):
        train(config(learning_rate=1e30, clip_norm=math.inf))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"max_length": 49},
            r"`max_length`: the model reads at most 48 tokens; got 49",
        ),
        (
            {"max_length": 48, "max_batch_tokens": 47},
            r"`max_batch_tokens`: 47 is less than one text of 48 tokens",
        ),
        ({"freeze": "foo"}, r"'foo' freezes nothing; there is: embeddings, layers\.0-1, pooler, classifier"),
        (
            {"columns": "txt=a"},
            r"`columns`: this task has no column 'txt'; did you mean 'text'\?",
        ),
        ({"model": "./nope"}, r"\./nope: no such model folder"),
    ],
)
def test_what_keeps_a_run_from_starting_leaves_no_folder(config, flags, message):
    wanted = config(**flags)
    with pytest.raises(ConfigError, match=message):
        train(wanted)
    assert not RunFolder(wanted.out, TrainConfig).path.exists()


@pytest.mark.parametrize("wish", ["bf16", "fp16"])
def test_a_launcher_that_asks_for_another_precision_is_refused(config, monkeypatch, wish):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", wish)
    with pytest.raises(
        ConfigError, match=f"the launcher asks for mixed precision {wish}; tell yanma instead"
    ):
        train(config())
