"""Whole runs: the loss falls, a run goes on where it stopped with the same bits, and the folder is of use."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig

from runs.ranks import killed
from yanma.corruption.pmi import collocations, save
from yanma.data.hold_out import hold_out
from yanma.data.order import Streamed
from yanma.errors import ConfigError, DataError, Unsupported
from yanma.loading.pretrained import load_tokenizer, quiet
from yanma.loading.tokenizer import learn_tokenizer
from yanma.runs import pretrain_setup as setup
from yanma.runs.folder import RunFolder
from yanma.runs.pretrain import pretrain
from yanma.runs.pretrain_config import PretrainConfig, load
from yanma.runs.pretrain_setup import set_up
from yanma.runs.stepper import Stepper
from yanma.runs.train import train
from yanma.runs.train_config import load as load_fine_tuning
from yanma.runs.trainee import make

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
CPU = torch.device("cpu")
RUN = """
import json, sys
from yanma.runs.pretrain_config import load
from yanma.runs.pretrain import pretrain
pretrain(load(flags=json.loads(sys.argv[1])), resume="--resume" in sys.argv)
"""


def figures(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text("utf-8"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.parametrize(
    ("objective", "flags", "falls_by"),
    [
        ("mlm", {"unit": "word", "hard_tokens": True, "pseudo_perplexity_tokens": 40}, 1.0),
        ("rtd", {}, 4.0),
        ("span-corruption", {"vocab_size": 300}, 1.0),
        ("causal-lm", {}, 1.0),
    ],
)
def test_the_loss_falls(config, objective, flags, falls_by):
    done = pretrain(config(objective, steps=40, evaluate_every=20, **flags))
    told = figures(done.folder)
    losses = told["loss_per_step"]
    assert len(losses) == 40 == done.steps
    assert sum(losses[-5:]) / 5 < losses[0] - falls_by, f"training loss: {losses[0]} to {losses[-5:]}"
    validations = [entry["validation"]["loss"] for entry in told["validations"]]
    assert len(validations) == 2 and validations[1] < validations[0]
    assert validations[-1] == done.validation.loss
    if objective == "mlm":
        assert set(done.validation.figures["units"]) == {"token", "word", "span"}
        assert done.pseudo_perplexity["tokens"] == 40 and done.pseudo_perplexity["perplexity"] > 1


def test_a_pretrained_model_is_fine_tuned_and_loaded_by_transformers(config, tmp_path):
    done = pretrain(config())
    model = AutoModelForMaskedLM.from_pretrained(done.folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(done.folder / "model")
    assert model(**tokenizer("the red fox", return_tensors="pt")).logits.shape[-1] == len(tokenizer)
    rows = [{"text": f"the {colour} fox", "label": colour} for colour in ("red", "blue") * 6]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = {"task": "sequence-classification", "train": str(tmp_path / "rows.jsonl"), "epochs": 1}
    trained = train(
        load_fine_tuning(flags=wanted | {"model": str(done.folder / "model"), "out": str(tmp_path / "tuned")})
    )
    assert trained.best_epoch == 1
    again = pretrain(
        config(from_scratch=None, model=str(done.folder / "model"), vocab_size=8192, out=str(tmp_path / "on"))
    )
    assert again.validation.loss < done.validation.loss, "it goes on from what was learned"


@pytest.mark.parametrize("unit", ["phrase", "sentence", "ngram"])
def test_every_unit_is_hidden_and_measured(config, corpus, tmp_path, unit):
    flags = {}
    if unit == "phrase":
        found = collocations(lambda: corpus.read_text().splitlines(), 50, min_count=5)
        save(found, tmp_path / "phrases.tsv")
        flags = {"phrases": str(tmp_path / "phrases.tsv")}
    done = pretrain(config(unit=unit, steps=1, **flags))
    units = done.validation.figures["units"]
    assert set(units) == {"token", "word", "span", unit}
    assert units[unit]["loss"] != units["word"]["loss"], "other tokens are hidden"


def test_chinese_words_are_hidden_whole_by_jieba(config, tmp_path):
    texts = ["我来到北京清华大学。", "他在南京市长江大桥上看见了一只鸟。", "今天天气很好，我们去公园。"] * 8
    (tmp_path / "chinese.txt").write_text("\n".join(texts), encoding="utf-8")
    wanted = config(train=str(tmp_path / "chinese.txt"), unit="word", segmenter="jieba", steps=1)
    ready = set_up(wanted, CPU, lambda words: None)
    words = {len(block.words.unique()) - 1 for block in ready.order.items}
    characters = {len(block.input_ids) - 2 for block in ready.order.items}
    assert max(words) < max(characters), f"words of several characters: {words}, {characters}"
    assert pretrain(wanted).steps == 1


def test_electra_goes_on_with_its_generator(config, tmp_path):
    done = pretrain(config("rtd"))
    more = {"from_scratch": None, "model": str(done.folder / "model"), "vocab_size": None}
    tokenizer = load_tokenizer(more["model"])
    made = make(config("rtd", **more), tokenizer, CPU, 48)
    saved = load_file(done.folder / "model" / "generator" / "model.safetensors")
    for name, parameter in made.trained.generator.named_parameters():
        assert torch.equal(parameter, saved[name]), f"{name} of the generator was learned"
    table = made.trained.discriminator.electra.embeddings.word_embeddings.weight
    assert made.trained.generator.generator_lm_head.weight is table, "and shares its embeddings"
    width = made.trained.generator.config.hidden_size
    assert width < made.saved.config.hidden_size, f"the generator is narrower: {width}"
    with pytest.raises(ConfigError, match=r"`generator_share` is of a fresh generator, and .* is one"):
        make(config("rtd", **more, generator_share=0.5), tokenizer, CPU, 48)
    still = make(config("rtd", **more, dropout=0), tokenizer, CPU, 48).trained
    rates = {part.p for part in still.modules() if isinstance(part, torch.nn.Dropout)}
    assert rates == {0}, "--dropout is the generator's too"
    beside = done.folder / "model" / "generator"
    AutoModelForMaskedLM.from_pretrained(beside).bfloat16().save_pretrained(beside)
    notes = make(config("rtd", **more), tokenizer, CPU, 48).notes
    assert notes == (f"{beside}: weights of bfloat16 are trained, and saved, in float32",)
    shutil.rmtree(beside)
    assert make(config("rtd", **more), tokenizer, CPU, 48).fresh == ("generator: all",), "which is told"


def test_an_encoder_is_not_taught_to_copy_what_it_reads(config):
    done = pretrain(config(steps=1))
    more = {"from_scratch": None, "model": str(done.folder / "model"), "vocab_size": None}
    with pytest.raises(Unsupported, match=r"reads the token that it is to predict: .* is_decoder=true"):
        make(config("causal-lm", **more), load_tokenizer(more["model"]), CPU, 48)


def test_a_decoder_reads_no_more_than_it_has_positions_for(config, tmp_path):
    done = pretrain(config("causal-lm"))
    more = {"from_scratch": None, "model": str(done.folder / "model"), "vocab_size": None}
    long = {"max_length": 600, "batch_tokens": 700, "max_batch_tokens": 700, "out": str(tmp_path / "on")}
    with pytest.raises(ConfigError, match=r"`max_length`: the model reads at most 512 tokens; got 600"):
        pretrain(config("causal-lm", **more, **long))


def test_bfloat16_computes_nearly_the_same(config, tmp_path):
    runs = [pretrain(config(bf16=bf16, dropout=0, out=str(tmp_path / str(bf16)))) for bf16 in (False, True)]
    exact, rounded = (figures(run.folder)["loss_per_step"] for run in runs)
    assert exact != rounded and rounded == pytest.approx(exact, rel=1e-2)


def test_a_tokenizer_that_does_not_pad_is_told_by_the_objective_that_needs_it(config, tmp_path):
    tokenizer = learn_tokenizer(lambda: iter(["the red fox watches a story"]), "bpe", 400, style="t5")
    tokenizer.pad_token = None
    with quiet():
        tokenizer.save_pretrained(tmp_path / "own")
    given = {"vocab_size": None, "tokenizer": str(tmp_path / "own")}
    with pytest.raises(ConfigError, match="span-corruption needs a padding token"):
        pretrain(config("span-corruption", **given))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_a_checkpoint_of_half_precision_goes_on_in_float32(config, tmp_path, capsys, stored, bf16):
    torch.manual_seed(0)
    tokenizer = learn_tokenizer(lambda: iter(["the red fox watches an unbelievable story"]), "wordpiece", 80)
    own = BertConfig(
        **SIZES, vocab_size=len(tokenizer), problem_type="regression", num_labels=1, finetuning_task="stsb"
    )
    with quiet():
        AutoModelForMaskedLM.from_config(own).to(stored).save_pretrained(tmp_path / "half")
        tokenizer.save_pretrained(tmp_path / "half")
    given = {"from_scratch": None, "vocab_size": None, "model": str(tmp_path / "half")}
    pretrain(config(**given, learning_rate=2e-5, bf16=bf16, steps=2))
    before, after = load_file(tmp_path / "half" / "model.safetensors"), weights(tmp_path / "run")
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    matrices = [name for name in after if "layer" in name and after[name].dim() == 2]
    for name in matrices:
        moved = (after[name] != before[name].float()).float().mean()
        assert moved > 0.9, f"of {name} only {moved:.0%} moved"
    assert matrices and "are trained, and saved, in float32" in " ".join(capsys.readouterr().err.split())
    saved = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert saved["dtype"] == "float32" and not {"problem_type", "finetuning_task", "id2label"} & set(saved)


def test_a_run_that_was_stopped_goes_on_with_the_same_bits(config, monkeypatch, tmp_path):
    how = {"steps": 7, "save_every": 2, "hard_tokens": True, "rate": "0.4->0.1 linear", "dropout": 0.1}
    whole = pretrain(config(out=str(tmp_path / "whole"), **how))
    genuine, moves = Stepper.move, []

    def stopping(self, *args, **kwargs):
        if len(moves) == 5:
            raise KeyboardInterrupt
        moves.append(1)
        return genuine(self, *args, **kwargs)

    monkeypatch.setattr(Stepper, "move", stopping)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config(out=str(tmp_path / "cut"), **how))
    monkeypatch.undo()
    folder = RunFolder(tmp_path / "cut", PretrainConfig)
    assert folder.checkpoints.newest().name == "step-00000004"
    assert "no model yet, none was saved; --resume goes on from" in folder.describe()
    for left in (".new/model", "checkpoints/step-00000003.new"):  # as by SIGKILL while something is saved
        (tmp_path / "cut" / left).mkdir(parents=True)
    resumed = pretrain(config(out=str(tmp_path / "cut"), **how), resume=True)
    assert figures(resumed.folder)["loss_per_step"] == figures(whole.folder)["loss_per_step"]
    for name, tensor in weights(whole.folder).items():
        assert torch.equal(tensor, weights(resumed.folder)[name]), f"{name} has other bits"
    kept = sorted(path.name for path in (resumed.folder / "checkpoints").iterdir())
    assert kept == ["step-00000006", "step-00000007", "tokenizer"]
    again = pretrain(config(out=str(tmp_path / "cut"), **how), resume=True)
    assert (again.steps, again.validation) == (7, resumed.validation), "nothing is left to do"


def test_a_run_killed_at_a_random_step_and_resumed_ends_with_the_same_bits(settings, tmp_path):
    how = {"steps": 60, "save_every": 1, "unit": "word", "epochs": None, "pseudo_perplexity_tokens": 0}
    flags = {
        name: value for name, value in settings(**how, out=str(tmp_path / "cut")).items() if value is not None
    }
    whole = pretrain(load(flags=flags | {"out": str(tmp_path / "whole")}))
    checkpoints = RunFolder(tmp_path / "cut", PretrainConfig).checkpoints
    reached = killed(RUN, [json.dumps(flags)], checkpoints, last=50, log=tmp_path / "log")
    resumed = pretrain(load(flags=flags), resume=True)
    assert resumed.steps == whole.steps == 60
    for name, tensor in weights(whole.folder).items():
        assert torch.equal(tensor, weights(resumed.folder)[name]), (
            f"{name} has other bits, killed after {reached}"
        )


def test_what_would_lead_elsewhere_is_refused_on_resume(config, corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"--resume: .* holds no run"):
        pretrain(config(), resume=True)
    copy = tmp_path / "texts.txt"
    copy.write_text(corpus.read_text())
    pretrain(config(train=str(copy)))
    with pytest.raises(ConfigError, match=r"--learning-rate is 0\.001, but the run was begun with 0.002"):
        pretrain(config(train=str(copy), learning_rate=1e-3), resume=True)
    copy.write_text(corpus.read_text() + "One more text.\n")
    with pytest.raises(DataError, match="the texts of train are others now"):
        pretrain(config(train=str(copy)), resume=True)
    with pytest.raises(
        ConfigError, match=r"is not empty; name another --out, or say --resume .* or --overwrite"
    ):
        pretrain(config())
    with pytest.raises(ConfigError, match="overwrite and resume exclude each other"):
        pretrain(config(), overwrite=True, resume=True)
    pretrain(config(steps=2), overwrite=True)
    assert figures(tmp_path / "run")["num_steps"] == 2


def test_other_words_or_another_stream_are_refused_on_resume(config, corpus, tmp_path):
    phrases, stream = tmp_path / "phrases.tsv", tmp_path / "stream.txt"
    found = collocations(lambda: corpus.read_text().splitlines(), 50, min_count=5)
    save(found, phrases)
    how = {"unit": "phrase", "phrases": str(phrases), "steps": 1, "out": str(tmp_path / "words")}
    pretrain(config(**how))
    save(found[:3], phrases)
    with pytest.raises(DataError, match=r"labels, words \(`phrases`\)"):
        pretrain(config(**how), resume=True)
    stream.write_text(corpus.read_text())
    how = {"train": str(stream), "streaming": True, "validation": str(corpus), "steps": 1, "vocab_size": 150}
    pretrain(config(**how))
    lines = corpus.read_text().splitlines()
    for place in (0, 20):
        stream.write_text("\n".join([*lines[:place], "Another text.", *lines[place:]]))
        with pytest.raises(DataError, match="the texts of train are others now"):
            pretrain(config(**how), resume=True)


@pytest.mark.parametrize("held_out", [True, False])
def test_other_texts_of_validation_are_refused_on_resume(config, corpus, tmp_path, held_out):
    """Which model is the best one was measured on them."""
    lines, path = corpus.read_text().splitlines(), tmp_path / "texts.txt"
    path.write_text("\n".join(lines))
    how = {"train": str(path), "validation": 0.2} if held_out else {"validation": str(path)}
    pretrain(config(steps=1, **how))
    place = hold_out(range(len(lines)), 0.2, seed=0)[1][0] if held_out else 0
    path.write_text("\n".join([*lines[:place], "Another text.", *lines[place + 1 :]]))
    with pytest.raises(DataError, match="the texts of validation are others now"):
        pretrain(config(steps=1, **how), resume=True)


def test_a_checkpoint_that_knows_the_texts_of_train_alone_is_read(config):
    """As checkpoints were before: no best model, one fingerprint, fewer figures of a validation."""
    done = pretrain(config(steps=4, save_every=2))
    whole = weights(done.folder)
    shutil.rmtree(done.folder / "checkpoints" / "step-00000004")
    path = done.folder / "checkpoints" / "step-00000002" / "state.json"
    state = json.loads(path.read_text())
    del state["best"]
    path.write_text(json.dumps(state | {"fingerprint": state["fingerprint"]["train"]}))
    resumed = pretrain(config(steps=4, save_every=2), resume=True)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(resumed.folder).items())


def test_settings_that_were_edited_in_the_folder_are_refused_on_resume(config, tmp_path):
    done = pretrain(config(steps=4, save_every=2))
    shutil.rmtree(done.folder / "checkpoints" / "step-00000004")
    toml = done.folder / "config.toml"
    assert "learning_rate = 0.002" in toml.read_text()
    toml.write_text(toml.read_text().replace("learning_rate = 0.002", "learning_rate = 0.01"))
    with pytest.raises(ConfigError, match=r"--learning-rate is 0.01, but the run was begun with 0.002"):
        pretrain(load(toml), resume=True)


def test_a_run_without_its_checkpoints_is_not_begun_again_once_it_is_finished(config, capfd):
    done = pretrain(config(steps=4))
    kept = weights(done.folder)
    for path in (done.folder / "checkpoints").glob("step-*"):
        shutil.rmtree(path)
    with pytest.raises(ConfigError, match="the run is finished, and its checkpoints are gone"):
        pretrain(config(steps=4), resume=True)
    figures_of_half = figures(done.folder) | {"num_steps": 8}
    (done.folder / "metrics.json").write_text(json.dumps(figures_of_half))
    capfd.readouterr()
    again = pretrain(config(steps=4), resume=True)
    assert "there is no checkpoint; the run begins again at step 0" in capfd.readouterr().err
    assert all(torch.equal(tensor, kept[name]) for name, tensor in weights(again.folder).items())


def test_a_tokenizer_that_is_gone_is_named_on_resume(config):
    done = pretrain(config())
    shutil.rmtree(done.folder / "checkpoints" / "tokenizer")
    with pytest.raises(DataError, match=r"tokenizer: gone, and --resume needs the run's tokenizer; copy"):
        pretrain(config(), resume=True)


def test_a_short_stream_gives_the_weights_of_texts_in_memory(config, corpus, tmp_path):
    how = {"validation": str(corpus), "steps": 12, "batch_tokens": 600}
    streamed = pretrain(config(out=str(tmp_path / "stream"), streaming=True, save_every=5, **how))
    kept = pretrain(config(out=str(tmp_path / "kept"), **how))
    assert figures(kept.folder)["loss_per_step"] == figures(streamed.folder)["loss_per_step"]
    assert figures(kept.folder)["validations"][-1]["epoch"] > 1, "the stream was read more than once"
    state = json.loads((streamed.folder / "checkpoints" / "step-00000010" / "state.json").read_text())
    assert state["begin"] > 0
    whole, without_end = weights(streamed.folder), weights(kept.folder)
    assert all(torch.equal(tensor, without_end[name]) for name, tensor in whole.items())
    (streamed.folder / "checkpoints" / "step-00000012").rename(tmp_path / "gone")
    shutil.rmtree(streamed.folder / "model")
    resumed = pretrain(config(out=str(tmp_path / "stream"), streaming=True, save_every=5, **how), resume=True)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(resumed.folder).items())


def test_a_stream_longer_than_its_window_goes_on_with_the_same_bits(config, corpus, monkeypatch, tmp_path):
    class Short(Streamed):
        def __init__(self, blocks, seed, size):
            super().__init__(blocks, seed, size, window=16)

    monkeypatch.setattr(setup, "Streamed", Short)
    how = {"validation": str(corpus), "steps": 12, "batch_tokens": 600, "streaming": True, "save_every": 5}
    done = pretrain(config(**how))
    whole = weights(done.folder)
    (done.folder / "checkpoints" / "step-00000012").rename(tmp_path / "gone")
    shutil.rmtree(done.folder / "model")
    resumed = pretrain(config(**how), resume=True)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(resumed.folder).items())


def test_epochs_are_whole_and_each_is_shuffled_anew(config, monkeypatch):
    seen = []
    genuine = Stepper.move

    def noting(self, step, place, **kwargs):
        seen.append((place.epoch, place.progress, [block.key for block in step]))
        return genuine(self, step, place, **kwargs)

    monkeypatch.setattr(Stepper, "move", noting)
    done = pretrain(config(steps=None, epochs=2))
    orders = [[n for epoch, _, numbers in seen for n in numbers if epoch == wanted] for wanted in (0, 1)]
    assert (
        sorted(orders[0]) == sorted(orders[1]) == list(range(figures(done.folder)["data"]["train"]["blocks"]))
    )
    assert orders[0] != orders[1], "another order"
    assert (seen[0][1], seen[-1][1]) == (0, 1), "progress goes from 0 to 1"
    assert [entry["epoch"] for entry in figures(done.folder)["validations"]] == [1, 2]


@pytest.mark.parametrize(
    ("objective", "flags", "message"),
    [
        ("mlm", {"max_length": 400}, "`batch_tokens`: 300 is less than one block of 400 tokens"),
        (
            "span-corruption",
            {"vocab_size": 300, "mean_span": 1, "rate": 0.5, "max_length": 250, "max_batch_tokens": 300},
            "may need 126 sentinels and the tokenizer has 100",
        ),
        ("mlm", {"train": "missing.txt"}, "missing.txt: no such file"),
    ],
)
def test_what_cannot_start_is_refused_before_the_folder_is_touched(
    config, tmp_path, objective, flags, message
):
    with pytest.raises((ConfigError, DataError), match=message):
        pretrain(config(objective, **flags))
    assert not (tmp_path / "run").exists()


def test_spans_without_a_sentinel_are_told_before_a_tokenizer_is_learned(config, monkeypatch):
    def never(*_, **__):
        raise AssertionError("learned")

    monkeypatch.setattr(setup, "learn_tokenizer", never)
    with pytest.raises(ConfigError, match=r"^`objective` span-corruption: blocks of 250 tokens may need 126"):
        pretrain(config("span-corruption", mean_span=1, rate=0.5, max_length=250, max_batch_tokens=300))


def test_spans_without_a_sentinel_of_a_given_tokenizer_are_told_by_their_objective(config, tmp_path):
    done = pretrain(config("span-corruption", steps=1, vocab_size=300, out=str(tmp_path / "learned")))
    given = {"tokenizer": str(done.folder / "model"), "vocab_size": None}
    with pytest.raises(ConfigError, match=r"^`objective` span-corruption: blocks of 250 tokens may need 126"):
        pretrain(
            config("span-corruption", mean_span=1, rate=0.5, max_length=250, max_batch_tokens=300, **given)
        )


@pytest.mark.parametrize(
    ("names", "flags", "message"),
    [
        (["a.txt"], {"column": "body"}, r"`column` is 'body', but .*a.txt is plain text without columns"),
        (["a.jsonl"], {"documents": "file"}, r"`documents` is 'file', but .*a.jsonl has rows"),
        (["a.txt", "a.jsonl"], {"column": "body", "documents": "file"}, None),
        (["a.txt"], {"column": "body", "validation": "a.jsonl"}, None),
    ],
)
def test_settings_that_no_file_uses_are_refused_and_no_others(
    config, corpus, tmp_path, names, flags, message
):
    lines = corpus.read_text().splitlines()
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": x, "body": x}) + "\n" for x in lines))
    if "validation" in flags:
        flags = flags | {"validation": str(tmp_path / flags["validation"])}
    wanted = config(train=[str(tmp_path / name) for name in names], **flags)
    if message is None:
        assert pretrain(wanted).tokens > 0
        return
    with pytest.raises(ConfigError, match=message):
        pretrain(wanted)


@pytest.mark.parametrize("streaming", [False, True])
def test_texts_that_are_empty_are_refused(config, corpus, tmp_path, streaming):
    given = pretrain(config(steps=1, out=str(tmp_path / "given")))
    (tmp_path / "empty.txt").write_text("\n \n")
    more = {"tokenizer": str(given.folder / "model"), "vocab_size": None, "validation": str(corpus)}
    with pytest.raises(DataError, match=r"empty\.txt: no text in it"):
        pretrain(config(train=str(tmp_path / "empty.txt"), streaming=streaming, **more))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"evaluate_every": 1, "save_every": 1}, "the validation loss became (nan|inf) at step 1"),
        ({"save_every": 2}, "the loss became (nan|inf), the length of its gradient (nan|inf)"),
    ],
)
def test_what_is_no_number_stops_the_run_before_it_is_saved(config, tmp_path, flags, message):
    with pytest.raises(ConfigError) as caught:
        pretrain(config(learning_rate=1e30, warmup=0, **flags))
    said = str(caught.value)
    assert re.match(message, said) and "a lower learning_rate or more warmup may help" in said
    assert said.endswith(f"{tmp_path / 'run'}: no model yet, none was saved"), said
    assert not (tmp_path / "run" / "model").exists()
    assert not [path for path in (tmp_path / "run").rglob("*.safetensors")]


def test_weights_that_are_no_numbers_are_not_saved(config, tmp_path, monkeypatch):
    genuine = Stepper.move

    def spoiling(self, *args, **kwargs):
        moved = genuine(self, *args, **kwargs)
        with torch.no_grad():
            self._parameters[0].view(-1)[0] = float("nan")
        return moved

    monkeypatch.setattr(Stepper, "move", spoiling)
    with pytest.raises(ConfigError, match="a weight is no number after step 1; a lower learning_rate"):
        pretrain(config(save_every=1))
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_evaluating_and_saving_move_no_weight(config, tmp_path):
    plain = pretrain(config(out=str(tmp_path / "plain")))
    busy = pretrain(config(out=str(tmp_path / "busy"), evaluate_every=1, save_every=1))
    assert len(figures(busy.folder)["validations"]) == 3
    for name, tensor in weights(plain.folder).items():
        assert torch.equal(tensor, weights(busy.folder)[name])
    assert busy.as_dict()["steps"] == 3
