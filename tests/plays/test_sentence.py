"""sentence-transformers around an unpadded model: the stock model's vectors, whatever encode and predict are asked."""

import copy
import pickle
import random
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import (
    CrossEncoder,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    SparseEncoder,
)
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding
from sentence_transformers.sparse_encoder.modules import SpladePooling
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch.nn import functional as F

import yanma
from plays.tiny import PAIRS, TEXTS, encoder, save_models
from yanma.masks import window
from yanma.models import is_unpadded


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("tiny"))


def same(ours, stock) -> None:
    np.testing.assert_allclose(np.asarray(ours), np.asarray(stock), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "weightedmean", "lasttoken", ("mean", "max")])
def test_vectors_are_the_stock_models(folder, pooling):
    stock, ours = encoder(folder, pooling, Normalize()), yanma.unpad(encoder(folder, pooling, Normalize()))
    assert is_unpadded(ours) and ours[0].can_flatten_inputs, (
        "texts are padded: this test has lost its subject"
    )
    same(ours.encode(TEXTS), stock.encode(TEXTS))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"normalize_embeddings": True},
        {"batch_size": 1},
        {"batch_size": 7, "show_progress_bar": True},
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"precision": "binary"},
        {"truncate_dim": 5},
        {"prompt": "the cat"},
        {"prompt_name": "ask"},
        {"processing_kwargs": {"text": {"max_length": 9}}},
        {"output_value": "token_embeddings"},
        {"output_value": None},
    ],
    ids=str,
)
def test_every_argument_of_encode_is_honoured(folder, kwargs):
    stock, ours = encoder(folder), encoder(folder)
    for model in (stock, ours):
        model.prompts = {"ask": "what is"}
        model.set_pooling_include_prompt(False)
    found, expected = yanma.unpad(ours).encode(TEXTS, **kwargs), stock.encode(TEXTS, **kwargs)
    assert type(found) is type(expected) and len(found) == len(expected) == len(TEXTS)
    if kwargs.get("output_value", "") is None:
        assert [*found[0]] == [*expected[0]]
        found, expected = ([row["sentence_embedding"] for row in rows] for rows in (found, expected))
    for one, other in zip(found, expected, strict=True):
        assert type(one) is type(other) and one.shape == other.shape and one.dtype == other.dtype
        if one.dtype != np.int8:
            same(one, other)
        else:
            assert (one == other).all()


def test_a_text_alone_and_no_text(folder):
    stock, ours = encoder(folder), yanma.unpad(encoder(folder))
    same(ours.encode(TEXTS[2]), stock.encode(TEXTS[2]))
    for kwargs in ({}, {"convert_to_tensor": True}, {"convert_to_numpy": False}, {"output_value": None}):
        found, expected = (model.encode([], **kwargs) for model in (ours, stock))
        assert type(found) is type(expected) and len(found) == len(expected) == 0


def test_no_pair(folder):
    stock, ours = (CrossEncoder(str(folder / "classifier"), device="cpu") for _ in range(2))
    yanma.unpad(ours)
    for kwargs in ({}, {"convert_to_tensor": True}, {"convert_to_numpy": False}, {"apply_softmax": True}):
        found, expected = (model.predict([], **kwargs) for model in (ours, stock))
        assert type(found) is type(expected) and len(found) == len(expected) == 0
    assert ours.rank("the cat", []) == []


def test_a_batch_without_a_text_is_refused_in_words(folder):
    ours = yanma.unpad(encoder(folder))
    nothing = torch.zeros(0, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"the input is \(0, 4\): there is no token in it"):
        ours({"input_ids": nothing, "attention_mask": nothing})


def test_a_vector_has_the_same_bits_whatever_texts_are_encoded_with_it(folder):
    ours = yanma.unpad(encoder(folder))
    together = ours.encode(TEXTS)
    for index, text in enumerate(TEXTS[:10]):
        assert (ours.encode([text])[0] == together[index]).all(), f"text {index} differs"


def test_packs_hold_no_more_tokens_than_batch_size_texts_could(folder):
    ours, seen = yanma.unpad(encoder(folder)), []
    ours[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]["input_ids"].shape))
    ours.encode(TEXTS, batch_size=3)
    assert len(seen) > 1 and all(rows == 1 and tokens <= 300 for rows, tokens in seen)
    seen.clear()
    ours.encode(TEXTS)
    assert len(seen) == 1, "these texts fit into one pack"


@pytest.mark.parametrize(
    "kwargs", [{}, {"convert_to_tensor": True, "batch_size": 2}, {"activation_fn": torch.tanh}]
)
def test_scores_of_pairs_are_the_stock_models(folder, kwargs):
    stock, ours = (CrossEncoder(str(folder / "classifier"), device="cpu") for _ in range(2))
    yanma.unpad(ours)
    assert ours[0].can_flatten_inputs
    same(ours.predict(PAIRS, **kwargs), stock.predict(PAIRS, **kwargs))
    assert ours.rank(TEXTS[1], TEXTS[:9])[0]["corpus_id"] == stock.rank(TEXTS[1], TEXTS[:9])[0]["corpus_id"]


def test_restored_copied_pickled_and_saved_models_are_what_they_were(folder, tmp_path):
    stock, ours = encoder(folder), encoder(folder)
    classes = [*map(type, ours.modules())]
    yanma.unpad(ours)
    assert yanma.unpad(ours) is ours
    expected, bits = stock.encode(TEXTS), ours.encode(TEXTS)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert is_unpadded(other) and (other.encode(TEXTS) == bits).all()
    ours.save(str(tmp_path / "saved"))
    loaded = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert not is_unpadded(loaded) and (loaded.encode(TEXTS) == expected).all()
    assert [*map(type, yanma.restore(ours).modules())] == classes
    assert (ours.encode(TEXTS) == expected).all() and not ours[0].can_flatten_inputs


def test_layers_behind_the_transformer_are_restored_copied_and_saved_too(folder, tmp_path):
    layers = [Dense(32, 9, activation_function=torch.nn.Sigmoid()), Dense(9, 5)]
    stock = encoder(folder, "mean", *layers)
    classes, expected = [*map(type, stock.modules())], stock.encode(TEXTS)
    ours = yanma.unpad(copy.deepcopy(stock))
    assert [*map(type, ours.modules())] != classes
    for other in (ours, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        same(other.encode(TEXTS), expected)
    ours.save(str(tmp_path / "saved"))
    loaded = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert [*map(type, loaded.modules())] == classes and (loaded.encode(TEXTS) == expected).all()
    assert [*map(type, yanma.restore(ours).modules())] == classes and (ours.encode(TEXTS) == expected).all()


def test_a_head_kept_in_float32_is_the_stock_models(folder):
    stock, ours = (
        CrossEncoder(
            str(folder / "classifier"),
            device="cpu",
            model_kwargs={"dtype": torch.bfloat16},
            keep_in_fp32_modules=["0.model.classifier"],
        )
        for _ in range(2)
    )
    yanma.unpad(ours)
    found, expected = ours.predict(PAIRS, batch_size=1), stock.predict(PAIRS, batch_size=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-2)
    assert (ours.predict(PAIRS) == found).all(), "pairs have other bits in company"


def test_workers_on_a_list_of_devices_give_the_stock_vectors(folder):
    stock, ours = encoder(folder), yanma.unpad(encoder(folder))
    same(ours.encode(TEXTS, device=["cpu"], chunk_size=7), stock.encode(TEXTS))
    assert is_unpadded(ours)


def routed(folder, query: list, seed: int = 0) -> SentenceTransformer:
    document = [Transformer(str(folder / "base"), max_seq_length=100), Pooling(32)]
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in document[0].parameters():  # another model than the queries'
            parameter += 0.1 * torch.randn(parameter.shape)
    return SentenceTransformer(modules=[Router.for_query_document(query, document)], device="cpu")


def test_queries_and_documents_take_their_own_way_without_padding(folder):
    stock, ours = (
        routed(folder, [Transformer(str(folder / "base"), max_seq_length=100), Pooling(32, "max")])
        for _ in range(2)
    )
    yanma.unpad(ours)
    inner = [module for module in ours.modules() if isinstance(module, Transformer)]
    assert len(inner) == 2 and all(module.can_flatten_inputs for module in inner)
    found = [model.encode_query(TEXTS) for model in (ours, stock)]
    same(*found)
    same(ours.encode_document(TEXTS), stock.encode_document(TEXTS))
    assert abs(found[0] - ours.encode_document(TEXTS)).max() > 0.1, "both go the same way"


def test_where_queries_go_through_a_table_documents_are_padded_and_right(folder):
    def made() -> SentenceTransformer:
        words = Tokenizer.from_file(str(folder / "base" / "tokenizer.json"))
        torch.manual_seed(3)
        return routed(folder, [StaticEmbedding(words, embedding_dim=32)])

    stock, ours = made(), yanma.unpad(made())
    same(ours.encode_query(TEXTS), stock.encode_query(TEXTS))
    same(ours.encode_document(TEXTS), stock.encode_document(TEXTS))


@pytest.mark.parametrize("strategy", ["max", "sum"])
def test_sparse_vectors_are_the_stock_models(folder, strategy):
    def made() -> SparseEncoder:
        inner = Transformer(str(folder / "masked"), transformer_task="fill-mask", max_seq_length=100)
        return SparseEncoder(modules=[inner, SpladePooling(strategy)], device="cpu")

    stock, ours = made(), yanma.unpad(made())
    assert is_unpadded(ours) and ours[0].can_flatten_inputs
    for kwargs in ({}, {"max_active_dims": 5}, {"batch_size": 3, "convert_to_sparse_tensor": False}):
        found, expected = (model.encode(TEXTS, **kwargs).to_dense() for model in (ours, stock))
        assert found.shape == expected.shape and expected.count_nonzero() > 0
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


class Shift(torch.nn.Module):
    """Each token takes the vector of the one before it."""

    def forward(self, features):
        return features | {"token_embeddings": F.pad(features["token_embeddings"], (0, 0, 1, 0))[:, :-1]}


def test_modules_of_ones_own_are_given_rectangles_as_they_may_mix_tokens(folder):
    inner = Transformer(str(folder / "base"), max_seq_length=100)
    stock = SentenceTransformer(modules=[inner, Shift(), Pooling(32)], device="cpu")
    ours = yanma.unpad(copy.deepcopy(stock))
    assert not ours[0].can_flatten_inputs
    same(ours.encode(TEXTS), stock.encode(TEXTS))


def test_what_others_read_in_features_is_the_stock_models(folder):
    stock, ours = encoder(folder, "mean", Normalize()), yanma.unpad(encoder(folder, "mean", Normalize()))
    given = [model.preprocess(TEXTS[:10]) for model in (stock, ours)]
    found = [model(features) for model, features in zip((stock, ours), given, strict=True)]
    for before, after in zip(given, found, strict=True):
        assert after is before, "losses read the features that they gave"
    assert [*found[0]] == [*found[1]]
    hidden = found[0]["attention_mask"] == 0
    found[0]["token_embeddings"] = found[0]["token_embeddings"].masked_fill(hidden[..., None], 0)
    for name, value in found[0].items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(found[1][name], value, rtol=0, atol=1e-6)
    again = ours(found[1])["sentence_embedding"]
    torch.testing.assert_close(again, found[0]["sentence_embedding"], rtol=0, atol=1e-6)


def test_features_that_went_through_once_may_do_so_again(folder):
    stock, ours = encoder(folder), yanma.unpad(encoder(folder))
    features = ours.preprocess(TEXTS[:5])
    features["attention_mask"][:, 1] = 0  # torn rows are no pack
    expected = stock(dict(features))["sentence_embedding"]
    for _ in range(2):
        features = ours(features)
        torch.testing.assert_close(features["sentence_embedding"], expected, rtol=0, atol=1e-6)


def test_threads_that_pad_do_not_disturb_threads_that_do_not(folder):
    """A fast tokenizer has one state for all threads: whether it pads."""
    ours, draw = yanma.unpad(encoder(folder)), random.Random(0)
    expected, tokens = ours.encode(TEXTS), ours.encode(TEXTS, output_value="token_embeddings")
    chosen = [draw.sample(range(len(TEXTS)), 9) for _ in range(60)]

    def is_right(number):
        places, asked = chosen[number], ("sentence_embedding", "token_embeddings")[number % 2]
        found = ours.encode([TEXTS[place] for place in places], output_value=asked, show_progress_bar=False)
        wanted = [(expected, tokens)[number % 2][place] for place in places]
        return all(a.shape == b.shape and abs(a - b).max() < 1e-6 for a, b in zip(found, wanted, strict=True))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(is_right, range(len(chosen))))
    finally:
        sys.setswitchinterval(interval)


def test_modules_are_given_packs_and_other_models_rectangles(folder):
    ours, guide, seen = yanma.unpad(encoder(folder)), encoder(folder), []
    ours[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]["input_ids"].shape))
    features = ours.preprocess(TEXTS[:10])
    expected = guide(dict(features))["sentence_embedding"]
    torch.testing.assert_close(ours(features)["sentence_embedding"], expected, rtol=0, atol=1e-6)
    assert seen == [(1, int(features["attention_mask"].sum()))]


def test_columns_that_the_stock_model_merges_go_through_one_forward(folder):
    runs = []
    for model in (encoder(folder), yanma.unpad(encoder(folder))):
        runs.append([])
        model[1].register_forward_pre_hook(lambda *_, own=runs[-1]: own.append(1))
        columns = [model.preprocess(TEXTS[i : i + 5]) for i in (0, 5, 10, 15)]
        MultipleNegativesRankingLoss(model)(columns, None)
    assert runs[0] == runs[1] == [1, 1], "the first column, then all others together"


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken", "weightedmean"])
def test_rows_padded_on_the_left_are_each_texts_alone(folder, pooling):
    stock, ours = encoder(folder, pooling), yanma.unpad(encoder(folder, pooling))
    ours.tokenizer.padding_side = "left"
    features = ours.preprocess(TEXTS[:5])
    assert not features["attention_mask"][0, 0]
    same(ours(features)["sentence_embedding"].detach(), stock.encode(TEXTS[:5], batch_size=1))


@pytest.mark.parametrize("group", ["common", "text"])
def test_arguments_about_tensors_are_honoured_or_fail_where_the_stock_model_fails(folder, group):
    stock, ours = encoder(folder), yanma.unpad(encoder(folder))
    asked = {"processing_kwargs": {group: {"return_tensors": "np"}}}
    for found, expected in zip(
        *(m.preprocess(TEXTS[:3], **asked).values() for m in (ours, stock)), strict=True
    ):
        assert type(found) is type(expected)
    if group == "common":
        with pytest.raises(TypeError, match="not callable"):
            stock.encode(TEXTS[:3], **asked)
        with pytest.raises(ValueError, match="from_sequences"):
            ours.encode(TEXTS[:3], **asked)
    wide = {"processing_kwargs": {"text": {"padding": "max_length"}}}
    assert ours.preprocess(TEXTS[:3], **wide)["input_ids"].shape == (3, 100)
    same(ours.encode(TEXTS[:3], **wide), stock.encode(TEXTS[:3], **wide))


def test_one_may_still_ask_for_padding(folder):
    stock, ours = encoder(folder), yanma.unpad(encoder(folder))
    ours[0].unpad_inputs = False
    seen = []
    ours[1].register_forward_pre_hook(lambda _, args: seen.append("attention_mask" in args[0]))
    same(ours.encode(TEXTS), stock.encode(TEXTS))
    assert seen and all(seen)


def test_training_gives_the_stock_gradients(folder, tmp_path):
    rows = Dataset.from_dict({"anchor": TEXTS[:8], "positive": TEXTS[8:16]})
    found = []
    for made in (lambda model: model, yanma.unpad):
        model = made(encoder(folder))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model[0].model.config.attention_probs_dropout_prob = 0.0
        for module in model.modules():
            if hasattr(module, "attention_dropout") or type(module).__name__ == "BertSelfAttention":
                module.dropout.p = 0.0
        args = SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=4, max_steps=2, optim="sgd", learning_rate=0.1,
            report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False,
            max_grad_norm=0.0,
        )  # fmt: skip
        loss = MultipleNegativesRankingLoss(model)
        runner = SentenceTransformerTrainer(model=model, args=args, train_dataset=rows, loss=loss)
        found.append(
            (runner.train().training_loss, torch.cat([p.detach().flatten() for p in model.parameters()]))
        )
    assert abs(found[0][0] - found[1][0]) < 1e-5
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-4, atol=1e-5)


def without_special_tokens(folder, place, make):
    """A model whose tokenizer adds none, so that it makes nothing of an empty text."""
    tokenizer = Tokenizer.from_file(str(folder / "base" / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B")
    shutil.copytree(folder, place, dirs_exist_ok=True)
    for name in ("base", "classifier", "masked"):
        tokenizer.save(str(place / name / "tokenizer.json"))
    return make(place)


EMPTY = ["", TEXTS[1], "", TEXTS[2], TEXTS[3]]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "weightedmean", "lasttoken", ("mean", "max")])
def test_texts_of_which_the_tokenizer_makes_nothing_have_the_stock_vectors(folder, tmp_path, pooling):
    stock, ours = (
        without_special_tokens(folder, tmp_path, lambda place: encoder(place, pooling)) for _ in range(2)
    )
    assert not stock.tokenizer("")["input_ids"], "this text has a token: the test has lost its subject"
    found, expected = yanma.unpad(ours).encode(EMPTY), stock.encode(EMPTY)
    same(found, expected)
    for index, text in enumerate(EMPTY):
        assert (ours.encode([text])[0] == found[index]).all(), f"text {index} differs alone"


def test_pairs_of_empty_texts_have_the_stock_scores(folder, tmp_path):
    def make(place):
        return CrossEncoder(str(place / "classifier"), device="cpu")

    stock, ours = (without_special_tokens(folder, tmp_path, make) for _ in range(2))
    pairs = [("", ""), PAIRS[0], ("", TEXTS[1]), ("", "")]
    same(yanma.unpad(ours).predict(pairs), stock.predict(pairs))


def test_in_training_they_have_the_stock_gradients(folder, tmp_path):
    stock, ours = (without_special_tokens(folder, tmp_path, encoder) for _ in range(2))
    yanma.unpad(ours)
    for model in (stock, ours):
        found = model(model.preprocess(EMPTY))["sentence_embedding"]
        (found * torch.arange(1, 33)).sum().backward()
    learned = [dict(model[0].model.named_parameters()) for model in (ours, stock)]
    assert any(weight.grad is not None for weight in learned[1].values())
    for name, weight in learned[1].items():
        if weight.grad is not None:
            torch.testing.assert_close(learned[0][name].grad, weight.grad, rtol=1e-4, atol=1e-4)


def test_an_added_mask_and_a_text_without_tokens_are_refused_together(folder, tmp_path):
    ours = yanma.unpad(without_special_tokens(folder, tmp_path, encoder), mask=window(3, 3))
    assert len(ours.encode(TEXTS[:2])) == 2
    with pytest.raises(yanma.Unsupported, match=r"text of no token .*window\(3, 3\); leave that text out"):
        ours.encode(EMPTY)


def test_an_unpad_that_fails_behind_the_transformer_undoes_all(folder):
    ours = encoder(folder, "mean", Dense(32, 4))
    expected = ours.encode(TEXTS)
    before = [[type(module), set(vars(module))] for module in ours.modules()]

    class Final(torch.nn.PReLU):
        def __init_subclass__(cls, **more):
            raise TypeError("this class is final")

    ours[2].activation_function = Final()
    with pytest.raises(TypeError, match="this class is final"):
        yanma.unpad(ours)
    ours[2].activation_function = torch.nn.Tanh()
    assert not is_unpadded(ours)
    assert [[type(module), set(vars(module))] for module in ours.modules()] == before
    assert (ours.encode(TEXTS) == expected).all()


def test_a_model_without_a_transformer_is_refused():
    model = SentenceTransformer(modules=[torch.nn.Identity()], device="cpu")
    with pytest.raises(yanma.Unsupported, match="no Transformer of sentence-transformers"):
        yanma.unpad(model)
