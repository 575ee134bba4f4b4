"""Other runtimes compute the same model, where they are installed."""

import copy
import dataclasses
import os

import pytest

from yanma.bench import ours, parity, runtimes
from yanma.bench.apart import apart
from yanma.bench.contestant import Rows, batched
from yanma.bench.runtimes import Absent
from yanma.bench.workloads import drawn
from yanma.errors import YanmaError

from .conftest import MAX_LENGTH


@pytest.fixture
def workload(models):
    return drawn(models.tokenizer, 20, MAX_LENGTH)


def test_onnx_runtime(models, workload, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    everyone = runtimes.onnx_runtime(models.base, tmp_path, 1, sizes=(3, 8))
    _agree(models, everyone, workload, 2)


def test_ctranslate2(models, workload, tmp_path):
    pytest.importorskip("ctranslate2")
    everyone = runtimes.ctranslate2(models.saved(tmp_path), tmp_path, 1, sizes=(3, 8))
    _agree(models, everyone, workload, 4)


def test_ctranslate2_gets_a_token_for_every_row_of_the_embedding(models, workload, tmp_path):
    pytest.importorskip("ctranslate2")
    from transformers import BertModel

    config = copy.deepcopy(models.base.config)
    config.vocab_size += 7
    larger = dataclasses.replace(models, base=BertModel(config).eval())
    everyone = runtimes.ctranslate2(larger.saved(tmp_path), tmp_path, 1, sizes=(3, 8))
    _agree(larger, everyone, workload, 4)


def test_ctranslate2_says_which_model_it_cannot_convert(models, tmp_path):
    pytest.importorskip("ctranslate2")
    from transformers import ElectraConfig, ElectraModel

    model = ElectraModel(
        ElectraConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    model.save_pretrained(tmp_path / "model")
    models.tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(Absent, match="ElectraConfig"):
        runtimes.ctranslate2(tmp_path / "model", tmp_path, 1)


def test_sentence_transformers(models, workload, tmp_path):
    pytest.importorskip("sentence_transformers")
    everyone = runtimes.sentence_transformers(models.saved(tmp_path), MAX_LENGTH, sizes=(3, 8))
    _agree(models, everyone, workload, 2)


def test_yanma_from_text(models, workload):
    _agree(models, [ours.from_text(models.unpadded, "embedding", models.tokenizer, MAX_LENGTH)], workload, 1)


def _agree(models, everyone, workload, count):
    verdicts = parity.outputs(models.base, "embedding", everyone, workload, lambda name: None)
    assert len(verdicts) == len(everyone) == count
    for contestant in everyone:
        verdict = verdicts[contestant.name]
        if contestant.precision == "fp32":
            assert 0 < verdict.difference < 1e-5
        else:
            assert verdict.cosine > 0.98


def _nobody():
    raise Absent("there is nobody")


def _one_that_dies():
    return [batched("dies", lambda pack: os._exit(3), (2,), Rows)]


def test_what_goes_wrong_in_another_process_is_raised_in_this_one(workload):
    pytest.importorskip("ctranslate2", reason="processes apart serve other runtimes only")
    with pytest.raises(Absent, match="there is nobody"):
        apart(_nobody, 1)
    (dead,) = apart(_one_that_dies, 1)
    with pytest.raises(YanmaError, match="ended before it answered"):
        dead.run(workload, 2)
