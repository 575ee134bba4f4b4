"""Every loss of sentence-transformers around an unpadded model: the stock model's numbers and gradients."""

import copy
import random

import pytest
import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.cross_encoder import losses as of_pairs
from sentence_transformers.multi_vector_encoder import losses as of_tokens
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.sparse_encoder import losses as of_sparse
from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder, SpladePooling

import yanma
from plays.tiny import WORDS, encoder, save_models

COLUMNS = [
    [" ".join((WORDS * 3)[i * j % 11 : i * j % 11 + 1 + (5 * i + 3 * j) % 13]) for i in range(6)]
    for j in range(1, 4)
]
RANKED = [COLUMNS[0], [list(texts) for texts in zip(*COLUMNS[1:], strict=True)]]
FLOATS = torch.tensor([0.1, 0.9, 0.3, 0.7, 0.5, 0.2])
CLASSES = torch.tensor([0, 1, 0, 1, 1, 0])
NUM = len(CLASSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_models(
        tmp_path_factory.mktemp("tiny"), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )


def guide(folder):
    """Another model than the one that is trained, never unpadded."""
    torch.manual_seed(1)
    model = encoder(folder, "cls")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model


def ranking(model, **kwargs):
    return losses.MultipleNegativesRankingLoss(model, **kwargs)


def two(make, labels=None):
    return make, 2, labels


# name: how the loss is made of a model and the folder, how many columns of texts it reads, its labels
BI = {
    "AdaptiveLayerLoss": (lambda m, _: losses.AdaptiveLayerLoss(m, ranking(m)), 3, None),
    "CosineSimilarityLoss": two(lambda m, _: losses.CosineSimilarityLoss(m), FLOATS),
    "SoftmaxLoss": two(lambda m, _: losses.SoftmaxLoss(m, 32, 2), CLASSES),
    "MultipleNegativesRankingLoss": (lambda m, _: ranking(m), 3, None),
    "MultipleNegativesSymmetricRankingLoss": two(
        lambda m, _: losses.MultipleNegativesSymmetricRankingLoss(m)
    ),
    "TripletLoss": (lambda m, _: losses.TripletLoss(m), 3, None),
    "MarginMSELoss": (lambda m, _: losses.MarginMSELoss(m), 3, FLOATS),
    "MatryoshkaLoss": (lambda m, _: losses.MatryoshkaLoss(m, ranking(m), [32, 8]), 3, None),
    "Matryoshka2dLoss": (lambda m, _: losses.Matryoshka2dLoss(m, ranking(m), [32, 8]), 3, None),
    "MSELoss": (lambda m, _: losses.MSELoss(m), 1, torch.linspace(-1, 1, NUM * 32).view(NUM, 32)),
    "ContrastiveLoss": two(lambda m, _: losses.ContrastiveLoss(m), CLASSES),
    "CachedGISTEmbedLoss": (
        lambda m, f: losses.CachedGISTEmbedLoss(m, guide(f), mini_batch_size=4),
        3,
        None,
    ),
    "CachedMultipleNegativesRankingLoss": (
        lambda m, _: losses.CachedMultipleNegativesRankingLoss(m, mini_batch_size=4),
        3,
        None,
    ),
    "CachedMultipleNegativesSymmetricRankingLoss": two(
        lambda m, _: losses.CachedMultipleNegativesSymmetricRankingLoss(m, mini_batch_size=4)
    ),
    "ContrastiveTensionLoss": two(lambda m, _: losses.ContrastiveTensionLoss(m), CLASSES),
    "ContrastiveTensionLossInBatchNegatives": two(
        lambda m, _: losses.ContrastiveTensionLossInBatchNegatives(m)
    ),
    "CoSENTLoss": two(lambda m, _: losses.CoSENTLoss(m), FLOATS),
    "AnglELoss": two(lambda m, _: losses.AnglELoss(m), FLOATS),
    "OnlineContrastiveLoss": two(lambda m, _: losses.OnlineContrastiveLoss(m), CLASSES),
    "MegaBatchMarginLoss": two(lambda m, _: losses.MegaBatchMarginLoss(m, mini_batch_size=4)),
    "DenoisingAutoEncoderLoss": two(
        lambda m, f: losses.DenoisingAutoEncoderLoss(m, str(f / "base"), tie_encoder_decoder=False)
    ),
    "GISTEmbedLoss": (lambda m, f: losses.GISTEmbedLoss(m, guide(f)), 3, None),
    "GlobalOrthogonalRegularizationLoss": two(lambda m, _: losses.GlobalOrthogonalRegularizationLoss(m)),
    "BatchHardTripletLoss": (lambda m, _: losses.BatchHardTripletLoss(m), 1, CLASSES),
    "BatchHardSoftMarginTripletLoss": (lambda m, _: losses.BatchHardSoftMarginTripletLoss(m), 1, CLASSES),
    "BatchSemiHardTripletLoss": (lambda m, _: losses.BatchSemiHardTripletLoss(m), 1, CLASSES),
    "BatchAllTripletLoss": (lambda m, _: losses.BatchAllTripletLoss(m), 1, CLASSES),
    "DistillKLDivLoss": (lambda m, _: losses.DistillKLDivLoss(m), 3, torch.stack([FLOATS, 1 - FLOATS], 1)),
    "EmbedDistillLoss": (
        lambda m, _: losses.EmbedDistillLoss(m),
        1,
        torch.linspace(-1, 1, NUM * 32).view(NUM, 32),
    ),
}
LISTED = list(torch.stack([FLOATS, 1 - FLOATS], 1))
PAIRWISE = {
    "ADRMSELoss": (lambda m, _: of_pairs.ADRMSELoss(m), 0, LISTED),
    "BinaryCrossEntropyLoss": two(lambda m, _: of_pairs.BinaryCrossEntropyLoss(m), CLASSES.float()),
    "CrossEntropyLoss": two(lambda m, _: of_pairs.CrossEntropyLoss(m), CLASSES),
    "MultipleNegativesRankingLoss": (
        lambda m, _: of_pairs.MultipleNegativesRankingLoss(m, num_negatives=None),
        3,
        None,
    ),
    "CachedMultipleNegativesRankingLoss": (
        lambda m, _: of_pairs.CachedMultipleNegativesRankingLoss(m, None, mini_batch_size=4),
        3,
        None,
    ),
    "MarginMSELoss": (lambda m, _: of_pairs.MarginMSELoss(m), 3, FLOATS),
    "MSELoss": two(lambda m, _: of_pairs.MSELoss(m), FLOATS),
    "ListNetLoss": (lambda m, _: of_pairs.ListNetLoss(m), 0, LISTED),
    "ListMLELoss": (lambda m, _: of_pairs.ListMLELoss(m), 0, LISTED),
    "PListMLELoss": (lambda m, _: of_pairs.PListMLELoss(m), 0, LISTED),
    "LambdaLoss": (lambda m, _: of_pairs.LambdaLoss(m), 0, LISTED),
    "RankNetLoss": (lambda m, _: of_pairs.RankNetLoss(m), 0, LISTED),
}


def splade(loss):
    return {"loss": loss, "document_regularizer_weight": 0.1, "query_regularizer_weight": 0.2}


def within(model, loss):
    """Theirs are refused by themselves, and stand within this one."""
    return of_sparse.SpladeLoss(model, **splade(loss))


def sparse_ranking(model):
    return of_sparse.SparseMultipleNegativesRankingLoss(model)


SPARSE = {
    "CachedSpladeLoss": (
        lambda m, _: of_sparse.CachedSpladeLoss(m, **splade(sparse_ranking(m)), mini_batch_size=4),
        3,
        None,
    ),
    "SpladeLoss": (lambda m, _: within(m, sparse_ranking(m)), 3, None),
    "CSRLoss": (lambda m, _: of_sparse.CSRLoss(m), 3, None),
    "SparseMSELoss": (
        lambda m, _: of_sparse.SparseMSELoss(m),
        1,
        torch.linspace(0, 1, NUM * 21).view(NUM, 21),
    ),
    "SparseMultipleNegativesRankingLoss": (lambda m, _: within(m, sparse_ranking(m)), 3, None),
    "SparseCoSENTLoss": two(lambda m, _: within(m, of_sparse.SparseCoSENTLoss(m)), FLOATS),
    "SparseTripletLoss": (lambda m, _: within(m, of_sparse.SparseTripletLoss(m)), 3, None),
    "SparseMarginMSELoss": (lambda m, _: within(m, of_sparse.SparseMarginMSELoss(m)), 3, FLOATS),
    "SparseCosineSimilarityLoss": two(
        lambda m, _: within(m, of_sparse.SparseCosineSimilarityLoss(m)), FLOATS
    ),
    "SparseAnglELoss": two(lambda m, _: within(m, of_sparse.SparseAnglELoss(m)), FLOATS),
    "SparseDistillKLDivLoss": (
        lambda m, _: within(m, of_sparse.SparseDistillKLDivLoss(m)),
        3,
        torch.stack([FLOATS, 1 - FLOATS], 1),
    ),
}
TOKENWISE = {
    "MultiVectorMultipleNegativesRankingLoss": (
        lambda m, _: of_tokens.MultiVectorMultipleNegativesRankingLoss(m),
        3,
        None,
    ),
    "CachedMultiVectorMultipleNegativesRankingLoss": (
        lambda m, _: of_tokens.CachedMultiVectorMultipleNegativesRankingLoss(m, mini_batch_size=4),
        3,
        None,
    ),
    "MultiVectorDistillKLDivLoss": (
        lambda m, _: of_tokens.MultiVectorDistillKLDivLoss(m),
        3,
        torch.stack([FLOATS, 1 - FLOATS], 1),
    ),
    "MultiVectorMarginMSELoss": (lambda m, _: of_tokens.MultiVectorMarginMSELoss(m), 3, FLOATS),
}
NO_LOSSES = {
    "TripletDistanceMetric", "SiameseDistanceMetric", "ContrastiveTensionDataLoader",
    "BatchHardTripletLossDistanceFunction", "PListMLELambdaWeight", "NoWeightingScheme", "NDCGLoss1Scheme",
    "NDCGLoss2Scheme", "LambdaRankScheme", "NDCGLoss2PPScheme",
    "CSRReconstructionLoss", "FlopsLoss",  # within CSRLoss and SpladeLoss alone
}  # fmt: skip
KINDS = {
    "bi": (losses, BI),
    "pairs": (of_pairs, PAIRWISE),
    "sparse": (of_sparse, SPARSE),
    "tokens": (of_tokens, TOKENWISE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_of_theirs_has_been_looked_at(kind):
    module, looked_at = KINDS[kind]
    assert set(module.__all__) - NO_LOSSES == set(looked_at)


def build(kind, name, folder):
    torch.manual_seed(2)
    if kind == "bi":
        return encoder(folder)
    if kind == "pairs":
        with_two = name == "CrossEntropyLoss"
        place = folder / ("base" if with_two else "classifier")
        return CrossEncoder(str(place), device="cpu", num_labels=2 if with_two else 1)
    if kind == "tokens":
        inner = Transformer(str(folder / "base"), max_seq_length=100)
        shrink = Dense(32, 16, module_input_name="token_embeddings")
        unit = Normalize(module_input_name="token_embeddings")
        return MultiVectorEncoder(modules=[inner, shrink, MultiVectorMask(), unit], device="cpu")
    if name.startswith("CSR"):
        inner = Transformer(str(folder / "base"), max_seq_length=100)
        coder = SparseAutoEncoder(32, 64, k=4, k_aux=8)
        return SparseEncoder(modules=[inner, Pooling(32), coder], device="cpu")
    inner = Transformer(str(folder / "masked"), transformer_task="fill-mask", max_seq_length=100)
    return SparseEncoder(modules=[inner, SpladePooling()], device="cpu")


def total(found):
    return sum(found.values()) if isinstance(found, dict) else found


def outcome(model, case, folder, kind):
    """Its loss, and the gradient of every parameter by name."""
    make, num_columns, labels = case
    random.seed(3)
    torch.manual_seed(3)
    loss = make(model, folder).train()
    texts = RANKED if num_columns == 0 else COLUMNS[:num_columns]
    given = copy.deepcopy(texts) if kind == "pairs" else [model.preprocess(column) for column in texts]
    found = loss(given, labels)
    total(found).backward()
    return total(found).item(), {name: p.grad for name, p in loss.named_parameters() if p.grad is not None}


@pytest.mark.filterwarnings(
    "ignore:The .*MultipleNegativesSymmetricRankingLoss is deprecated:DeprecationWarning"
)
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (_, cases) in KINDS.items() for name in cases]
)
def test_loss_and_gradients_are_the_stock_models(kind, name, folder):
    case = KINDS[kind][1][name]
    stock, ours = (build(kind, name, folder) for _ in range(2))
    yanma.unpad(ours)
    expected, gradients = outcome(stock, case, folder, kind)
    found, own = outcome(ours, case, folder, kind)
    assert abs(found - expected) <= 1e-5 * max(1, abs(expected)), f"{found} for {expected}"
    assert own.keys() == gradients.keys() and len(own) > 10
    whole = torch.cat([gradient.flatten() for gradient in gradients.values()])
    ours_whole = torch.cat([own[name].flatten() for name in gradients])
    assert whole.norm() > 0 and (ours_whole - whole).norm() <= 1e-4 * whole.norm() + 1e-6
