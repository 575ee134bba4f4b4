"""Every module of sentence-transformers beside an unpadded transformer: the stock model's numbers, or refused."""

from importlib import import_module

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.multi_vector_encoder import modules as of_tokens
from sentence_transformers.sentence_transformer import modules
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.sparse_encoder import modules as of_sparse
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

import yanma
from plays.tiny import TEXTS, save_models

GIVEN = TEXTS[:10]
PAIRS = list(zip(GIVEN, reversed(GIVEN), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = save_models(tmp_path_factory.mktemp("tiny"))
    tokenizer = AutoTokenizer.from_pretrained(place / "base")
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(place / "base", output_hidden_states=True)
    BertModel(config).save_pretrained(place / "layers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(place / "causal")
    for name in ("layers", "causal"):
        tokenizer.save_pretrained(place / name)
    return place


def inner(folder, name="base", **more):
    return Transformer(str(folder / name), max_seq_length=100, **more)


def words(folder) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "base" / "tokenizer.json"))


def bi(*more, start="base"):
    """Of modules, or of functions that make one of the folder."""

    def build(folder):
        parts = [part if isinstance(part, torch.nn.Module) else part(folder) for part in more]
        return SentenceTransformer(modules=[inner(folder, start), *parts], device="cpu")

    return build


def weighted_words(folder):
    ids = words(folder).get_vocab()
    return modules.WordWeights(sorted(ids, key=ids.__getitem__), {"the": 0.3, "cat": 2.0})


def routed(folder):
    queries = [modules.StaticEmbedding(words(folder), embedding_dim=32)]
    return SentenceTransformer(
        modules=[Router.for_query_document(queries, [inner(folder), Pooling(32)])], device="cpu"
    )


def sparse_routed(folder):
    queries = [of_sparse.SparseStaticEmbedding(AutoTokenizer.from_pretrained(folder / "masked"))]
    documents = [inner(folder, "masked", transformer_task="fill-mask"), of_sparse.SpladePooling()]
    return SparseEncoder(modules=[Router.for_query_document(queries, documents)], device="cpu")


def splade(folder):
    parts = [inner(folder, "masked", transformer_task="fill-mask"), of_sparse.SpladePooling("sum")]
    return SparseEncoder(modules=parts, device="cpu")


def coded(folder):
    parts = [inner(folder), Pooling(32), of_sparse.SparseAutoEncoder(32, 64, k=4)]
    return SparseEncoder(modules=parts, device="cpu")


def multi(*more):
    def build(folder):
        shrink = Dense(32, 16, module_input_name="token_embeddings")
        unit = Normalize(module_input_name="token_embeddings")
        mask = of_tokens.MultiVectorMask(skiplist_words=["the"])
        return MultiVectorEncoder(modules=[inner(folder), shrink, mask, unit, *more], device="cpu")

    return build


def judged(folder):
    parts = [inner(folder, "causal", transformer_task="text-generation"), LogitScore(5, 6)]
    return CrossEncoder(modules=parts, device="cpu")


BUILT = {
    "Transformer": bi(Pooling(32)),
    "Pooling": bi(Pooling(32, ("mean", "max", "cls", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"))),
    "Normalize": bi(Pooling(32), Normalize()),
    "Dense": bi(Pooling(32), lambda _: Dense(32, 8, use_residual=True)),
    "Dropout": bi(Pooling(32), modules.Dropout(0.5)),
    "LayerNorm": bi(Pooling(32), modules.LayerNorm(32)),
    "CNN": bi(lambda _: modules.CNN(32, 16), Pooling(48)),
    "WordWeights": bi(weighted_words, Pooling(32)),
    "WeightedLayerPooling": bi(modules.WeightedLayerPooling(32, 2, 1), Pooling(32), start="layers"),
    "Router": routed,
    "StaticEmbedding": routed,
    "SpladePooling": splade,
    "MLMTransformer": splade,
    "SparseAutoEncoder": coded,
    "SparseStaticEmbedding": sparse_routed,
    "MultiVectorMask": multi(),
    "HierarchicalTokenPooling": multi(of_tokens.HierarchicalTokenPooling(pool_factor=2)),
    "LambdaTokenPooling": multi(of_tokens.LambdaTokenPooling(lambda vectors: vectors[::2])),
    "LogitScore": judged,
}
NOT_BUILT = {
    "Asym": "Router's older name",
    "BoW": "of words, without a transformer",
    "WordEmbeddings": "of words, without a transformer",
    "LSTM": "behind WordEmbeddings alone",
    "CLIPModel": "refused: its model has images beside texts",
    "Module": "a base class",
    "InputModule": "a base class",
    "BaseTokenPooling": "a base class",
}


def test_every_module_of_theirs_has_been_looked_at():
    kinds = ("base", "sentence_transformer", "cross_encoder", "sparse_encoder", "multi_vector_encoder")
    packages = [import_module(f"sentence_transformers.{kind}.modules") for kind in kinds]
    assert {name for package in packages for name in package.__all__} == {*BUILT, *NOT_BUILT}


def answers(model, **kwargs):
    if isinstance(model, CrossEncoder):
        yield from model.predict(PAIRS, **kwargs)
        return
    roads = ("encode_query", "encode_document") if hasattr(model, "encode_query") else ("encode",)
    for road in roads:
        for found in getattr(model, road)(GIVEN, **kwargs):
            found = found.to_dense() if isinstance(found, torch.Tensor) and found.is_sparse else found
            yield np.asarray(found)


@pytest.mark.parametrize("name", BUILT)
def test_numbers_are_the_stock_models(name, folder):
    made = []
    for _ in range(2):
        torch.manual_seed(4)
        made.append(BUILT[name](folder))
    stock, ours = made[0], yanma.unpad(made[1])
    # A stock CNN reads what stands in slots of padding behind a text, but for one text at a time.
    found, expected = [*answers(ours)], [*answers(stock, batch_size=1)]
    assert len(found) == len(expected) >= len(GIVEN)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape and np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
