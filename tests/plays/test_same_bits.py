"""What is handed to a user has the same bits alone and in any company, by every public road."""

import random

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder, SpladePooling
from torch import nn
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    pipeline,
)

import yanma
from plays.tiny import WORDS, save_models
from yanma.data.rows import Row
from yanma.objectives import TASKS, Packed
from yanma.runs.predictor import Predictor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("tiny"), initializer_range=0.2)


def texts() -> list[str]:
    """Of many lengths."""
    draw = random.Random(0)
    lengths = [1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 11, 12, 15, 17, 24, 31, 40, 90]
    draw.shuffle(lengths)
    return [" ".join(draw.choices(WORDS, k=length)) for length in lengths]


class Roads:
    """Each method makes a model, and what takes a list of texts to a list of numbers, one entry a text."""

    def __init__(self, folder, dtype):
        self.folder, self.dtype = folder, dtype
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "base")
        torch.manual_seed(5)

    def inner(self, name="base", **more):
        kwargs = {"dtype": self.dtype}
        return Transformer(str(self.folder / name), max_seq_length=100, model_kwargs=kwargs, **more)

    def unpadded(self, *modules, kind=SentenceTransformer):
        return yanma.unpad(kind(modules=list(modules), device="cpu").to(self.dtype))

    def head(self, kind, **config):
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        sizes |= {"max_position_embeddings": 100, "vocab_size": len(self.tokenizer), "initializer_range": 0.2}
        config = BertConfig(**sizes, **config)
        return yanma.unpad(kind(config).eval().to(self.dtype))

    def pooled(self, *modes):
        return self.unpadded(self.inner(), Pooling(32, modes)).encode

    def bi_pooled(self):
        return self.pooled("mean", "cls", "max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens")

    def bi_normalised(self):
        model = self.unpadded(self.inner(), Pooling(32), Normalize())
        return lambda texts: model.encode(texts, normalize_embeddings=True, batch_size=7)

    def bi_binary(self):
        model = self.unpadded(self.inner(), Pooling(32))
        return lambda texts: model.encode(texts, precision="ubinary")

    def bi_tokens(self):
        model = self.unpadded(self.inner(), Pooling(32))
        return lambda texts: model.encode(texts, output_value="token_embeddings")

    def bi_by_forward(self):
        model = self.unpadded(self.inner(), Pooling(32))
        return lambda texts: model.eval()(model.preprocess(texts))["sentence_embedding"].detach()

    def bi_dense(self):
        layers = [
            Dense(32, 21, activation_function=nn.Sigmoid()),
            Dense(21, 9, activation_function=nn.GELU()),
        ]
        return self.unpadded(self.inner(), Pooling(32), *layers, LayerNorm(9)).encode

    def bi_routed(self):
        routes = [self.inner(), Pooling(32)], [self.inner(), Pooling(32, "max")]
        return self.unpadded(Router.for_query_document(*routes)).encode_query

    def cross(self, labels, **kwargs):
        place = str(self.folder / ("classifier" if labels == 1 else "base"))
        kwargs = {"dtype": self.dtype}
        model = CrossEncoder(place, num_labels=labels, device="cpu", model_kwargs=kwargs)
        yanma.unpad(model)
        return lambda texts: model.predict([(text, text[::-1]) for text in texts], **kwargs)

    def cross_default(self):
        return self.cross(1)

    def cross_function(self):
        return self.cross(1, activation_fn=lambda scores: torch.nn.functional.softplus(scores))

    def cross_classes(self):
        return self.cross(3, activation_fn=nn.Sigmoid())

    def cross_softmax(self):
        return self.cross(3, activation_fn=nn.Identity(), apply_softmax=True)

    def splade(self):
        inner = self.inner("masked", transformer_task="fill-mask")
        return self.unpadded(inner, SpladePooling("sum", "log1p_relu"), kind=SparseEncoder).encode

    def sparse_coder(self):
        return self.unpadded(
            self.inner(), Pooling(32), SparseAutoEncoder(32, 64, k=4), kind=SparseEncoder
        ).encode

    def multi_vector(self):
        shrink = Dense(32, 16, module_input_name="token_embeddings")
        unit = Normalize(module_input_name="token_embeddings")
        return self.unpadded(
            self.inner(), shrink, MultiVectorMask(), unit, kind=MultiVectorEncoder
        ).encode_query

    def pipeline_classes(self, labels=3, **kwargs):
        model = self.head(BertForSequenceClassification, num_labels=labels)
        run = pipeline("text-classification", model=model, tokenizer=self.tokenizer, device="cpu")

        def answer(texts):
            rows = run(texts, batch_size=16, top_k=None, **kwargs)
            return [[found["score"] for found in sorted(row, key=lambda own: own["label"])] for row in rows]

        return answer

    def pipeline_score(self):
        return self.pipeline_classes(1)

    def pipeline_sigmoids(self):
        return self.pipeline_classes(function_to_apply="sigmoid")

    def pipeline_tags(self):
        model = self.head(BertForTokenClassification, num_labels=4)
        run = pipeline("token-classification", model=model, tokenizer=self.tokenizer, device="cpu")

        def answer(texts):
            rows = run(texts, batch_size=16)
            return [
                [found["score"] for found in row] for row in ([rows] if isinstance(rows[0], dict) else rows)
            ]

        return answer

    def pipeline_features(self):
        model = self.head(BertModel)
        run = pipeline("feature-extraction", model=model, tokenizer=self.tokenizer, device="cpu")

        def answer(texts):  # padded rows are handed out as they are
            rows = zip(texts, run(texts, batch_size=16), strict=True)
            return [found[0][: 2 + len(text.split())] for text, found in rows]

        return answer

    def writing(self, kind, side, **ways):
        """Scores of each step of `generate`, (steps, beams, vocabulary)."""
        config = LlamaConfig if kind is LlamaForCausalLM else MarianConfig
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        if kind is MarianMTModel:
            layers = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}
            sizes = {
                f"{part}_{name}": size for name, size in layers.items() for part in ("encoder", "decoder")
            }
            sizes |= {
                "d_model": 32,
                "decoder_start_token_id": 0,
                "forced_eos_token_id": None,
                "init_std": 0.2,
            }
        common = {"vocab_size": len(self.tokenizer), "pad_token_id": 0, "eos_token_id": 3}
        model = yanma.unpad(kind(config(**sizes, **common, initializer_range=0.2)).eval().to(self.dtype))
        ways = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False, "output_scores": True} | ways

        def answer(texts):
            given = self.tokenizer(texts, padding=True, padding_side=side, return_tensors="pt")
            rows = {name: given[name] for name in ("input_ids", "attention_mask")}
            found = model.generate(**rows, return_dict_in_generate=True, **ways)
            return torch.stack(found.scores).unflatten(1, (len(texts), -1)).transpose(0, 1)

        return answer

    def generate(self):
        return self.writing(LlamaForCausalLM, "left")

    def generate_beams(self):
        return self.writing(LlamaForCausalLM, "left", num_beams=2)

    def generate_translations(self):
        return self.writing(MarianMTModel, "right")

    def predict(self):
        """What `yanma predict` answers, and what `yanma evaluate` counts."""
        labels = ["a", "b", "c"]
        task = TASKS["sequence-classification"].from_rows(
            [Row({"text": "a", "label": name}, name) for name in labels]
        )
        model = self.head(BertForSequenceClassification, num_labels=3)
        predictor = Predictor(task, self.tokenizer, model, Packed(300), max_length=100)

        def answer(texts):
            rows = [Row({"text": text}, "here:1") for text in texts]
            return [[found.probability] for found in predictor.predict(predictor.encode(rows).examples)]

        return answer


KINDS = ("bi", "cross", "splade", "sparse", "multi", "pipeline", "predict", "generate")
ROADS = [name for name in vars(Roads) if name not in ("cross", "pooled") and name.split("_")[0] in KINDS]


def numbers(found) -> np.ndarray:
    if isinstance(found, torch.Tensor):
        found = (found.to_dense() if found.is_sparse else found).float().cpu().numpy()
    return np.asarray(found)


@pytest.mark.filterwarnings("ignore:.*pipelines sequentially on GPU.*:UserWarning")
@pytest.mark.parametrize("dtype", DTYPES)
def test_of_more_than_ten_thousand_numbers_none_has_other_bits_alone_than_in_company(folder, dtype):
    assert len(ROADS) >= 20
    given, compared, differing = texts(), 0, {}
    for name in ROADS:
        run = getattr(Roads(folder, DTYPES[dtype]), name)()
        alone = [numbers(run([text])[0]) for text in given]
        for company in (given, given[::-1][:11]):
            together = dict(zip(company, map(numbers, run(company)), strict=True))
            for text, own in zip(given, alone, strict=True):
                if text in together:
                    assert own.shape == together[text].shape and own.size
                    compared += own.size
                    differing[name] = differing.get(name, 0) + int((own != together[text]).sum())
    assert compared > 10_000
    assert not any(differing.values()), {name: count for name, count in differing.items() if count}
