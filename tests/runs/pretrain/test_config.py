"""What is wrong with a config is told in one line that names the key or the flag."""

import pytest

from yanma.errors import ConfigError
from yanma.runs.config import resumed
from yanma.runs.pretrain_config import load
from yanma.settings import to_toml


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"objective": "mlmm", "from_scratch": "bert-tiny"},
            "`objective`: must be 'mlm', 'rtd', 'span-corruption' or 'causal-lm'",
        ),
        ({"rate": "a lot"}, "`rate`: 'a lot' is no rate; give a share as 0.15"),
        ({"rate": "0.3->0.15"}, "`rate`: '0.3->0.15' is no rate"),
        ({"rate": "15"}, "`rate`: give a share above 0 and up to 0.8, no more is hidden of a text; got 15"),
        (
            {"rate": "0.9->0.1 linear"},
            "`rate`: give a share above 0 and up to 0.8, no more is hidden of a text",
        ),
        (
            {"objective": "span-corruption", "from_scratch": "t5-tiny", "rate": "1"},
            "`rate`: give a share between 0 and 1, such as 0.15; got 1",
        ),
        ({"unit": "wrd"}, "`unit`: must be 'token', 'word'"),
        (
            {"resampling": "0"},
            "`resampling`: must be 'every epoch', 'never' or a number of fixed copies, 1 or more",
        ),
        (
            {"resampling": "3", "rate": "0.3->0.1 linear"},
            "`resampling` is 3; a `rate` that changes needs 'every epoch'",
        ),
        ({"resampling": "always"}, "a number of fixed copies, 1 or more; got 'always'"),
        (
            {"objective": "span-corruption", "from_scratch": "t5-tiny", "rate": "0.3->0.1 linear"},
            "`rate`: `objective` span-corruption takes one share for all texts and epochs, such as 0.15",
        ),
        ({"unit": "phrase"}, "`unit` phrase and `phrases` (which yanma pmi writes) go together; give both"),
        ({"phrases": "p.tsv"}, "`unit` phrase and `phrases` (which yanma pmi writes) go together; give both"),
        ({"segmenter": "jieba"}, "`segmenter` cuts words; `unit` token has none: leave it out"),
        ({"mean_span": "4"}, "`mean_span` does nothing with mlm; it goes with span-corruption"),
        (
            {"objective": "causal-lm", "from_scratch": "gpt2-tiny", "resampling": "never"},
            "does nothing with causal-lm; it goes with mlm, rtd and span-corruption",
        ),
        ({"generator_share": "0.5"}, "`generator_share` does nothing with mlm"),
        ({"from_scratch": "bert-huge"}, "`from_scratch`: there is no shape 'bert-huge'; there are bert-tiny"),
        (
            {"from_scratch": "gpt2-tiny"},
            "`from_scratch` gpt2-tiny does not learn mlm; bert-tiny",
        ),
        ({"model": "m"}, "give either `model` or `from_scratch`"),
        ({"from_scratch": None}, "give either `model` or `from_scratch`"),
        ({"tokenizer": "t"}, "`vocab_size` is of a tokenizer that is learned; t brings one"),
        ({"epochs": "2"}, "`epochs` and `steps` both say how long to train"),
        ({"streaming": True}, "`streaming` needs `validation`"),
        ({"streaming": True, "steps": None}, "`streaming` needs `steps`"),
        ({"validation": "2"}, "`validation`: 2 is no share"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings, flags, message):
    with pytest.raises(ConfigError) as caught:
        load(flags=settings(**flags))
    assert message in str(caught.value) and "\n" not in str(caught.value), f"says: {caught.value}"


@pytest.mark.parametrize("objective", ["rtd", "span-corruption", "causal-lm"])
def test_a_setting_that_would_do_nothing_is_refused(settings, objective):
    unused = {"rtd": "replacement", "span-corruption": "replacement", "causal-lm": "rate"}[objective]
    value = {"replacement": "mask", "rate": "0.4"}[unused]
    with pytest.raises(ConfigError, match=f"{unused}` does nothing with {objective}"):
        load(flags=settings(objective, **{unused: value}))
    with pytest.raises(ConfigError, match="`pseudo_perplexity_tokens` goes with mlm"):
        load(flags=settings(objective, pseudo_perplexity_tokens=7))


def test_a_config_comes_back_from_toml_as_it_was(settings, tmp_path):
    config = load(flags=settings(rate="0.1..0.5", resampling="10", train=["a,b.txt", "c.txt"]))
    assert config.objective.resampling == 10 and config.data.train == ("a,b.txt", "c.txt")
    path = tmp_path / "pretrain.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load(path) == config


def test_a_setting_that_changed_is_named(settings):
    before = load(flags=settings())
    assert resumed(before, load(flags=settings(out="elsewhere", save_every=7))).saving.save_every == 7
    assert resumed(before, load(flags=settings(max_length=None))) == before
    for changed in ({"seed": 1}, {"rate": 0.3}, {"batch_tokens": 400}, {"steps": 4}):
        ((name, value),) = changed.items()
        with pytest.raises(
            ConfigError, match=rf"--{name.replace('_', '-')} is '?{value}'?, but the run was begun"
        ):
            resumed(before, load(flags=settings(**changed)))
