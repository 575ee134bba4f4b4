"""Freezing by short names."""

import pytest
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
)

from yanma.errors import ConfigError
from yanma.loading.freeze import freeze

SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
CONFIGS = [
    BertConfig(**SMALL),
    RobertaConfig(**SMALL),
    ElectraConfig(**SMALL, embedding_size=16),
    DistilBertConfig(vocab_size=50, dim=32, n_layers=3, n_heads=2, hidden_dim=64),
    ModernBertConfig(**SMALL, pad_token_id=0, cls_token_id=1, bos_token_id=1, sep_token_id=2, eos_token_id=2),
]
HEADS = [AutoModelForSequenceClassification, AutoModelForTokenClassification]


@pytest.fixture(
    params=[(c, h) for c in CONFIGS for h in HEADS], ids=lambda p: f"{p[0].model_type}-{p[1].__name__}"
)
def model(request):
    config, head = request.param
    return head.from_config(config)


def test_embeddings_and_the_first_layers_freeze_and_nothing_else_does(model):
    frozen = freeze(model, ["embeddings", "layers.0-1"])
    assert len(frozen) == 3, f"one module for the embeddings, one a layer: {frozen}"
    for name, parameter in model.named_parameters():
        inside = any(name.startswith(f"{path}.") for path in frozen)
        assert parameter.requires_grad is not inside, f"{name} is {'not ' if inside else ''}frozen"
    pieces = [path.split(".") for path in frozen]
    assert [p[-1] for p in pieces] == ["embeddings", "0", "1"], f"what the names say: {frozen}"


def test_every_name_that_a_refusal_offers_freezes_something(model):
    with pytest.raises(ConfigError, match="'nothing' freezes nothing; there is: ") as caught:
        freeze(model, ["nothing"])
    offered = str(caught.value).split("there is: ")[1].split(", ")
    assert "embeddings" in offered and "layers.0-2" in offered and "classifier" in offered, (
        f"offers {offered}"
    )
    for name in offered:
        assert freeze(model, [name]) if name != offered[-1] else True, (
            f"{name} is offered and freezes nothing"
        )


@pytest.mark.parametrize("name", ["layers.3", "layers.1-7", "layer.9", "encoder.9", "embedding"])
def test_a_name_that_freezes_nothing_is_refused_with_what_there_is(name):
    model = AutoModelForSequenceClassification.from_config(BertConfig(**SMALL))
    with pytest.raises(ConfigError, match=r"there is: embeddings, layers\.0-2, pooler, classifier"):
        freeze(model, [name])


def test_a_span_that_counts_down_and_a_model_with_nothing_left_are_refused():
    model = AutoModelForSequenceClassification.from_config(BertConfig(**SMALL))
    with pytest.raises(ConfigError, match=r"'layers\.2-0' counts down; say layers\.0-2"):
        freeze(model, ["layers.2-0"])
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        freeze(model, ["bert", "classifier"])


def test_full_names_and_single_layers_work_too():
    model = AutoModelForSequenceClassification.from_config(BertConfig(**SMALL))
    assert freeze(model, ["layer.1"]) == ("bert.encoder.layer.1",)
    assert freeze(model, ["bert.encoder.layer.0-2.attention"]) == tuple(
        f"bert.encoder.layer.{i}.attention" for i in range(3)
    )
    assert freeze(model, []) == ()
