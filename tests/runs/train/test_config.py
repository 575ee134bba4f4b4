"""A config says what is wrong with it in one line that names file and key, or the flag."""

import pytest

from yanma.errors import ConfigError
from yanma.runs.train_config import TrainConfig, load
from yanma.settings import settings_of, to_toml

COMPLETE = """
out = "runs/x"
[task]
name = "token-classification"
[data]
train = "train.jsonl"
[model]
path = "some-model"
"""


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "train.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[optim]\nlearning_rat = 1", "[optim] has no key 'learning_rat'; did you mean 'learning_rate'?"),
        ("epochs = 3", "[model] has no key 'epochs'; it belongs in [optim]"),
        ("seed = 3", "[model] has no key 'seed'; it belongs in the top, before the first section"),
        ("[optimm]\nepochs = 3", "the top has no key 'optimm'; did you mean 'optim'?"),
        ("[optim]\nxyz = 3", "[optim] has no key 'xyz'; it has: learning_rate, epochs, steps, warmup,"),
        ("[optim]\nepochs = 0", "[optim] epochs: must be greater than or equal to 1; got 0"),
        ('dropout = "much"', "[model] dropout: must be a number; got 'much'"),
        ("dropout = 1.0", "[model] dropout: must be less than 1; got 1.0"),
        ("from_scratch = 'bert-tiny'", "[model]: give either `model` or `from_scratch`"),
        ("tokenizer = 'x'", "[model]: `tokenizer` goes with `from_scratch`"),
        (
            "[optim]\nbatch_size = 4\nbatch_tokens = 100",
            "[optim]: `batch_size` and `batch_tokens` both say",
        ),
        ("mask = 'windoww(2, 2)'", "[model] mask: "),
        ("mask = 'window(2, 2) &'", "[model] mask: "),
        ("x =", "not TOML: Invalid value (at"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_key(toml, more, message):
    path = toml(COMPLETE + more)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {message}"), f"says: {caught.value}"
    assert "\n" not in str(caught.value), "one line"


def test_a_mask_is_read_as_a_text_and_needs_packs(toml):
    path = toml(COMPLETE + "mask = 'window(64,64)|global_tokens(first=1)'")
    assert load(path).model.mask == "window(64, 64) | global_tokens(first=1)"
    with pytest.raises(ConfigError, match=r"`mask` goes with `batching`"):
        load(path, {"batching": "padded"})


def test_the_old_name_of_batching_is_understood_for_now_and_contradicted_by_the_new_one(toml):
    for old, new in (("dynamic", "packed"), ("static", "padded")):
        config = load(toml(f"masking = '{old}'\n{COMPLETE}"))
        assert config.batching == new and "masking" not in to_toml(config)
        assert load(toml(COMPLETE), {"masking": old}).batching == new
    with pytest.raises(ConfigError, match=r"`masking` is the old name of `batching`"):
        load(toml(COMPLETE), {"masking": "static", "batching": "packed"})


def test_a_misspelt_key_is_told_before_the_key_that_it_leaves_missing(toml):
    path = toml(COMPLETE.replace("train =", "trian ="))
    with pytest.raises(ConfigError, match=r"has no key 'trian'; did you mean 'train'\?"):
        load(path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"epochs": "many"}, "`epochs`: must be a whole number; got 'many'"),
        ({"epochs": 1.5}, "`epochs`: must be a whole number; got 1.5"),
        ({"learning_rate": "-1"}, "`learning_rate`: must be greater than 0; got '-1'"),
        (
            {"task": "poetry"},
            "`task`: must be 'sequence-classification' or 'token-classification'; got 'poetry'",
        ),
        ({"validation": "2"}, "`validation`: 2 is no share; give a number between 0 and 1, or a file"),
        ({"columns": "text"}, "`columns`: columns are said as usual=yours"),
        ({"columns": "tokens=A,tokens=B"}, "`columns`: 'tokens' is said twice, 'A' and 'B'; say one"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_told_with_its_flag(toml, flags, message):
    with pytest.raises(ConfigError) as caught:
        load(toml(COMPLETE), flags)
    assert str(caught.value).startswith(message), f"says: {caught.value}"


@pytest.mark.parametrize(("missing", "flag"), [("out", "`out`"), ("train", "`train`"), ("name", "`task`")])
def test_what_is_missing_is_told_with_the_flag_that_gives_it(toml, missing, flag):
    text = "\n".join(line for line in COMPLETE.splitlines() if not line.startswith(missing))
    with pytest.raises(ConfigError, match=rf"{missing} is missing: set it in a config file, or say {flag}$"):
        load(toml(text))


def test_a_config_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"nope\.toml: No such file or directory"):
        load(tmp_path / "nope.toml")


def test_flags_override_the_file_and_nothing_else(toml):
    path = toml(COMPLETE + "[optim]\nepochs = 7\nwarmup = 0.5")
    config = load(
        path, {"epochs": "2", "freeze": "embeddings, layers.0-3", "columns": "tokens=words", "seed": None}
    )
    assert (config.optim.epochs, config.optim.warmup) == (2, 0.5), (
        "the flag counts, the file's other keys stay"
    )
    assert config.model.freeze == ("embeddings", "layers.0-3")
    assert config.task.columns == {"tokens": "words"}
    assert config.seed == 0, "a flag that was not given does not count"


def test_no_file_is_needed():
    flags = {
        "task": "sequence-classification",
        "train": "a.jsonl",
        "test": "b.jsonl",
        "model": "m",
        "out": "runs/x",
    }
    config = load(flags=flags)
    assert (config.model.path, config.data.validation, config.optim.batch_size) == ("m", 0.1, 32)


def test_validation_is_a_file_or_a_share(toml):
    assert load(toml(COMPLETE), {"validation": "0.25"}).data.validation == 0.25
    assert load(toml(COMPLETE), {"validation": "dev.jsonl"}).data.validation == "dev.jsonl"


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"learning_rate": "3e-5", "clip_norm": "inf", "bf16": True, "dropout": "0"},
        {"train": 'a "quoted" \\ 掩码 \x7f \U0001f600 \t.csv', "columns": "text=an odd = name"},
        {"batch_tokens": "1000", "freeze": "embeddings,layers.0-1", "validation": "dev.csv"},
    ],
)
def test_a_saved_config_reads_back_as_the_same(toml, flags):
    config = load(toml(COMPLETE), flags)
    assert load(toml(to_toml(config))) == config, f"saved as\n{to_toml(config)}"


def test_every_setting_is_a_flag_of_its_own_and_says_what_it_does():
    flags = [setting.flag for setting in settings_of(TrainConfig)]
    assert len(flags) > 20 and len(flags) == len(set(flags)), "two settings share a flag"
    silent = [setting.flag for setting in settings_of(TrainConfig) if not setting.field.description]
    assert not silent, f"no description: {silent}"


def test_a_config_cannot_be_changed(toml):
    config = load(toml(COMPLETE))
    with pytest.raises(ValueError, match="frozen"):
        config.optim.epochs = 3
    assert isinstance(config, TrainConfig)
