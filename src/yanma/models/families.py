"""What yanma knows of each family of models, in one table. A model that is not here is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from . import modules, recordings, relative

# N documents, M tokens of documents that lie end to end


@dataclass(frozen=True, eq=False)
class Head:
    """What a model with this head takes and gives, by the names of arguments and of output fields."""

    token_outputs: tuple[str, ...] = ()
    document_outputs: tuple[str, ...] = ()
    token_labels: tuple[str, ...] = ()
    document_labels: tuple[str, ...] = ()
    loss: str = "stock"
    """`stock`, or the rule of losses.py that takes the place of a stock loss which would mix documents."""
    scores_padding: bool = True
    """Whether the stock loss also scores hidden slots, unless their label is -100."""
    scores_vocabulary: bool = False
    """Whether its logits are of the tokens of a vocabulary, and its labels token ids."""
    pools_at: str = ""
    """By which token documents are judged, in last_token.py and not in the stock forward: `last`, `eos` or `end`."""
    decodes: bool = False
    """Whether there are an encoder and a decoder, and so pairs of a source and a target."""
    copies_source: bool = False
    """Whether the source is also the target where no other is given."""
    averages: str = ""
    """Attribute of the model: a linear layer, of whose output its forward takes the mean over slots."""
    token_arguments: tuple[str, ...] = ()
    """What its loss reads beside labels, one entry a token."""
    labelled_without_cache: bool = False
    """Whether its stock model keeps no keys and values where all labels are given."""
    counts_items: bool = False
    """Whether a loss of losses.py is divided by `num_items_in_batch` where that is given, as the stock one is."""

    @property
    def flat_labels(self) -> tuple[str, ...]:
        """Labels by token that the stock loss lays end to end before all else, and so takes as (N * S,) too.

        Not those that it shifts first: the last token of a row would be scored as if the next row came after it.
        """
        if self.loss == "next_token":
            return self.token_arguments
        return self.token_labels if self.scores_padding else ()


@dataclass(frozen=True, eq=False)
class Family:
    """One architecture: its heads by class name, and the few modules that must know of the pack."""

    model_type: str
    heads: Mapping[str, Head]
    attention: str
    """Class of the module that calls transformers' attention interface."""
    intermediate: str = ""
    """Class of the feed-forward's first half, where its activation can be fused."""
    drops_in_forward: tuple[str, ...] = ()
    """Classes that call `nn.functional.dropout` by themselves."""
    attention_output: str = ""
    """Class of what follows attention in a layer, called with (attended, residual); "" where there is no such class."""
    pools_input: tuple[str, ...] = ()
    """Classes of poolers and heads that read `[:, 0]` of their input."""
    pools_base: Mapping[str, str] = field(default_factory=dict)
    """Model class -> attribute of its base model, where the model's own forward reads `[:, 0]` or a mean over slots."""
    pools_within: tuple[str, ...] = ()
    """Classes of base models whose own forward hands `[:, 0]` of their `encoder` to a linear layer, their `pooler`."""
    positions: Callable[[Tensor | None, Tensor, int], Tensor] = lambda ids, slots, pad: slots
    """(input_ids (M,) or None, each token's slot in its document (M,), padding id) -> position ids (M,)."""
    reserved_positions: Callable[[int], int] = lambda pad: 0
    """Rows of the position table that no token uses, given the padding id."""
    counts_tokens: bool = False
    """Whether positions count tokens alone, hidden slots between or before them left out; then `positions` is idle."""
    position_argument: bool = True
    """Whether a model is given position ids; else one of `mixins` takes them from the layout, or there are none."""
    position_table: bool = True
    """Whether positions are rows of a table that ends, rather than angles."""
    token_types: bool = True
    default_token_type: int | None = 0
    """The type of tokens for which none is given; None = nothing is added for them."""
    token_arguments: tuple[str, ...] = ()
    """What its models take beside positions and types, one entry a token."""
    attention_mask: Callable[[int], Tensor] | None = None
    """(N) -> what a stock forward must be given as attention_mask, though no token is hidden; None = nothing."""
    by_interface: bool = True
    """Whether attention is called through transformers' interface; else `mixins` have one for it."""
    mixins: Mapping[str, Any] = field(default_factory=dict)
    """Class of a module -> what is put before that class, where a module of this family alone must know of the pack."""
    counts_distances: bool = False
    """Whether tokens' distances go into scores as slots between them, whatever their position ids."""
    repeats_layers: bool = False
    """Whether several layers are one module."""
    is_causal: Callable[[Any], bool] = lambda config: bool(getattr(config, "is_decoder", False))
    """Whether a model of this config lets no token read what comes after it, unless told by `is_causal`."""
    always_told_causal: bool = False
    """Whether stock models tell each attention that no token reads ahead, whatever a config or a caller says."""
    caches: bool = False
    """Whether its models keep keys and values unless told not to."""
    splits_at_jumps: bool = False
    """Whether a stock model begins a document where positions do not count on, given neither a mask nor a cache."""
    cross_attention: str = ""
    """What a decoder's layer calls its attention to what the encoder gives."""
    reads_source: tuple[str, ...] = ("k_proj", "v_proj")
    """What that attention calls the modules that are given the encoder's tokens."""
    starts_with_last: bool = False
    """Whether a decoder's input starts with the last token to be written, a language, and not with a token for all."""
    is_speech: bool = False
    """Whether it is given recordings, of which convolutions make frames: the tokens of the pack."""


def after_padding_id(input_ids: Tensor | None, slots: Tensor, pad_token_id: int) -> Tensor:
    """RoBERTa's rule: tokens other than the padding id are counted per document, from the number after that id.

    >>> after_padding_id(torch.tensor([5, 6, 7, 8]), torch.tensor([0, 1, 2, 0]), 1).tolist()
    [2, 3, 4, 2]
    """
    if input_ids is None:
        return slots + pad_token_id + 1
    counted = input_ids.ne(pad_token_id).long()
    so_far = counted.cumsum(0)
    starts = torch.arange(len(slots), device=slots.device) - slots
    before = so_far[starts] - counted[starts]
    return (so_far - before) * counted + pad_token_id


_TOKENS = Head(token_outputs=("logits",), token_labels=("labels",))
_WORDS = replace(_TOKENS, scores_vocabulary=True)
_DOCUMENTS = Head(document_outputs=("logits",), document_labels=("labels",))
_BASE = Head(token_outputs=("last_hidden_state",), document_outputs=("pooler_output",))
_NEXT_TOKEN = replace(_WORDS, loss="next_token", token_arguments=("shift_labels",))
_LABELLED_NEXT_TOKEN = replace(_NEXT_TOKEN, labelled_without_cache=True)
_CHOICES = Head(document_outputs=("logits",), document_labels=("labels",), loss="choice")
_SPANS = Head(
    token_outputs=("start_logits", "end_logits"),
    document_labels=("start_positions", "end_positions"),
    loss="span",
)
_COUNTED_SPANS = replace(_SPANS, counts_items=True)


_COMMON = {
    "Model": _BASE,
    "ForMaskedLM": _WORDS,
    "ForTokenClassification": _TOKENS,
    "ForSequenceClassification": _DOCUMENTS,
    "ForQuestionAnswering": _SPANS,
    "ForMultipleChoice": _CHOICES,
}


def _heads(prefix: str, **more: Head) -> dict[str, Head]:
    """The heads that most encoders have, and `more` of one's own, by class name."""
    return {prefix + name: head for name, head in (_COMMON | more).items()}


_PRETRAINING = Head(
    ("prediction_logits",), ("seq_relationship_logits",), ("labels",), ("next_sentence_label",)
)


def _bert(model_type: str, prefix: str, heads: Mapping[str, Head], **more: Any) -> Family:
    """BERT under another name."""
    defaults: dict[str, Any] = {
        "attention": prefix + "SelfAttention",
        "intermediate": prefix + "Intermediate",
        "attention_output": prefix + "SelfOutput",
        "pools_input": (prefix + "Pooler",),
    }
    return Family(model_type, heads, **(defaults | more))


def _roberta(model_type: str, prefix: str, **more: Any) -> Family:
    """RoBERTa under another name."""
    defaults: dict[str, Any] = {
        "pools_input": (prefix + "Pooler", prefix + "ClassificationHead"),
        "positions": after_padding_id,
        "reserved_positions": lambda pad: pad + 1,
    }
    heads = _heads(prefix, ForCausalLM=_LABELLED_NEXT_TOKEN)
    return _bert(model_type, prefix, heads, **(defaults | more))


def _rotary(model_type: str, prefix: str, *names: str, spans: Head = _SPANS, **more: Any) -> Family:
    """An encoder with rotary positions and heads of these names."""
    defaults: dict[str, Any] = {
        "attention": prefix + "Attention",
        "pools_input": (prefix + "Pooler", prefix + "ClassificationHead"),
        "position_table": False,
    }
    known = _COMMON | {"ForQuestionAnswering": spans}
    heads = {prefix + name: head for name, head in known.items() if name in names}
    return Family(model_type, heads, **(defaults | more))


_LAST_TOKEN = Head(document_outputs=("logits",), document_labels=("labels",), pools_at="last")


def _decoder(model_type: str, prefix: str, heads: Mapping[str, Head], **more: Any) -> Family:
    """A family in which no token reads what comes after it."""
    defaults: dict[str, Any] = {
        "attention": prefix + "Attention",
        "position_table": False,
        "token_types": False,
        "is_causal": lambda config: True,
        "caches": True,
        "splits_at_jumps": True,
    }
    return Family(model_type, {prefix + name: head for name, head in heads.items()}, **(defaults | more))


_DECODER_HEADS = {
    "Model": _BASE,
    "ForCausalLM": _NEXT_TOKEN,
    "ForSequenceClassification": _LAST_TOKEN,
    "ForTokenClassification": _TOKENS,
    "ForQuestionAnswering": _COUNTED_SPANS,
}


_PAIRS = {
    "Model": Head(("last_hidden_state",), decodes=True),
    "ForConditionalGeneration": replace(_WORDS, decodes=True, labelled_without_cache=True),
    "ForSequenceClassification": replace(
        _DOCUMENTS, pools_at="eos", decodes=True, copies_source=True, labelled_without_cache=True
    ),
    "ForQuestionAnswering": replace(_SPANS, decodes=True, copies_source=True, labelled_without_cache=True),
}


def _seq2seq(model_type: str, prefix: str, heads: Mapping[str, Head], **more: Any) -> Family:
    """BART under another name: an encoder with a decoder that embed positions."""
    layers = ("Encoder", "EncoderLayer", "Decoder", "DecoderLayer")
    defaults: dict[str, Any] = {
        "attention": prefix + "Attention",
        "drops_in_forward": tuple(prefix + layer for layer in layers),
        "position_argument": False,
        "token_types": False,
        "cross_attention": "encoder_attn",
    }
    return Family(model_type, {prefix + name: head for name, head in heads.items()}, **(defaults | more))


def _copying(heads: Mapping[str, Head]) -> dict[str, Head]:
    """The same, all of which write the source again where no target is given."""
    return {name: replace(head, copies_source=True) for name, head in heads.items()}


def _t5(model_type: str, prefix: str) -> Family:
    """T5 under another name."""
    heads = _PAIRS | {
        "ForConditionalGeneration": replace(_WORDS, decodes=True),
        "EncoderModel": Head(("last_hidden_state",)),
        "ForTokenClassification": _TOKENS,
    }
    return Family(
        model_type,
        {prefix + name: head for name, head in heads.items()},
        attention=prefix + "Attention",
        position_argument=False,
        position_table=False,
        token_types=False,
        mixins={prefix + "Attention": relative.BucketedAttention},
        counts_distances=True,
        cross_attention="EncDecAttention",
        reads_source=("k", "v"),
    )


_CLIP = {
    "Model": Head(("last_hidden_state",), ("pooler_output",), pools_at="end"),
    "ModelWithProjection": Head(("last_hidden_state",), ("text_embeds",), pools_at="end"),
}


def _speech(model_type: str, prefix: str, more: dict[str, Head], base: Head) -> Family:
    """wav2vec 2.0 under another name."""
    heads = {
        "Model": base,
        "ForCTC": Head(("logits",), (), (), ("labels",), loss="ctc"),
        "ForSequenceClassification": replace(_DOCUMENTS, averages="projector"),
    } | more
    return Family(
        model_type,
        {prefix + name: head for name, head in heads.items()},
        attention=prefix + "Attention",
        position_argument=False,
        position_table=False,
        token_types=False,
        mixins={
            prefix + "FeatureEncoder": recordings.EachRecording,
            prefix + "PositionalConvEmbedding": recordings.EachRecordingsFrames,
            prefix + "Encoder": modules.DropsLayers,
            prefix + "EncoderStableLayerNorm": modules.DropsLayers,
        },
        token_arguments=("mask_time_indices",),
        is_speech=True,
    )


def _without(heads: Mapping[str, Head], name: str) -> dict[str, Head]:
    return {other: head for other, head in heads.items() if other != name}


FAMILIES: Sequence[Family] = (
    _bert(
        "bert",
        "Bert",
        _heads(
            "Bert",
            ForPreTraining=_PRETRAINING,
            ForNextSentencePrediction=_DOCUMENTS,
            LMHeadModel=_LABELLED_NEXT_TOKEN,
        ),
    ),
    _bert(
        "ernie",
        "Ernie",
        _heads(
            "Ernie",
            ForPreTraining=_PRETRAINING,
            ForNextSentencePrediction=_DOCUMENTS,
            ForCausalLM=_LABELLED_NEXT_TOKEN,
        ),
        token_arguments=("task_type_ids",),
    ),
    _roberta("roberta", "Roberta"),
    _roberta("xlm-roberta", "XLMRoberta"),
    _roberta("xlm-roberta-xl", "XLMRobertaXL"),
    _roberta("roberta-prelayernorm", "RobertaPreLayerNorm", intermediate=""),
    _roberta("camembert", "Camembert"),
    _roberta("data2vec-text", "Data2VecText"),
    Family(
        "distilbert",
        _heads("DistilBert"),
        attention="DistilBertSelfAttention",
        intermediate="FFN",
        pools_base={
            "DistilBertForSequenceClassification": "distilbert",
            "DistilBertForMultipleChoice": "distilbert",
        },
        token_types=False,
    ),
    Family(
        "electra",
        _heads(
            "Electra",
            ForPreTraining=Head(("logits",), (), ("labels",), scores_padding=False),
            ForCausalLM=_LABELLED_NEXT_TOKEN,
        ),
        attention="ElectraSelfAttention",
        intermediate="ElectraIntermediate",
        attention_output="ElectraSelfOutput",
        pools_input=("ElectraClassificationHead", "ElectraSequenceSummary"),
    ),
    Family(
        "albert",
        _heads(
            "Albert",
            ForPreTraining=Head(
                ("prediction_logits",), ("sop_logits",), ("labels",), ("sentence_order_label",)
            ),
        ),
        attention="AlbertAttention",
        pools_within=("AlbertModel",),
        repeats_layers=True,
    ),
    _rotary(
        "modernbert",
        "ModernBert",
        *_COMMON,
        spans=_COUNTED_SPANS,
        pools_base={
            "ModernBertForSequenceClassification": "model",
            "ModernBertForMultipleChoice": "model",
        },
        token_types=False,
        attention_mask=lambda num_documents: torch.ones(num_documents, 1, dtype=torch.long),
    ),
    _rotary(
        "eurobert",
        "EuroBert",
        *("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"),
        pools_base={"EuroBertForSequenceClassification": "model"},
        token_types=False,
    ),
    _rotary(
        "nomic_bert",
        "NomicBert",
        *("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"),
    ),
    _rotary("gte", "Gte", *("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")),
    _rotary(
        "jina_embeddings_v3",
        "JinaEmbeddingsV3",
        *(name for name in _COMMON if name != "ForMultipleChoice"),
    ),
    Family(
        "mpnet",
        _heads("MPNet"),
        attention="MPNetSelfAttention",
        intermediate="MPNetIntermediate",
        pools_input=("MPNetPooler", "MPNetClassificationHead"),
        positions=lambda ids, slots, pad: after_padding_id(ids, slots, 1),
        reserved_positions=lambda pad: 2,
        token_types=False,
        attention_mask=lambda num_documents: torch.zeros(1, 1, 1, 1),
        by_interface=False,
        mixins={
            "MPNetModel": relative.TakesWhatItIgnores,
            "MPNetEncoder": relative.DistanceBias,
            "MPNetSelfAttention": relative.DistanceBiasedAttention,
        },
        counts_distances=True,
    ),
    Family(
        "deberta-v2",
        _heads("DebertaV2"),
        attention="DisentangledSelfAttention",
        intermediate="DebertaV2Intermediate",
        attention_output="DebertaV2SelfOutput",
        pools_input=("ContextPooler",),
        by_interface=False,
        mixins={
            "DebertaV2Model": relative.TakesWhatItIgnores,
            "DebertaV2Encoder": relative.DisentangledEncoder,
            "DisentangledSelfAttention": relative.DisentangledAttention,
            "DebertaV2LMPredictionHead": relative.TiedPrediction,
            "Conv1d": relative.DocumentConvolution,
        },
        counts_distances=True,
    ),
    _decoder(
        "gpt2",
        "GPT2",
        _without(_DECODER_HEADS, "ForCausalLM")
        | {"LMHeadModel": _NEXT_TOKEN, "ForQuestionAnswering": _SPANS},
        position_table=True,
        token_types=True,
        default_token_type=None,
    ),
    _decoder("llama", "Llama", _DECODER_HEADS),
    _decoder("mistral", "Mistral", _DECODER_HEADS),
    _decoder("qwen2", "Qwen2", _DECODER_HEADS),
    _decoder("qwen3", "Qwen3", _DECODER_HEADS),
    _decoder(
        "opt",
        "OPT",
        _without(_DECODER_HEADS, "ForTokenClassification") | {"ForQuestionAnswering": _SPANS},
        drops_in_forward=("OPTDecoderLayer",),
        mixins={"OPTDecoder": modules.DropsLayers},
        counts_tokens=True,
        position_table=True,
        splits_at_jumps=False,
    ),
    _decoder("gpt_neox", "GPTNeoX", _DECODER_HEADS | {"ForQuestionAnswering": _SPANS}),
    _decoder("gemma", "Gemma", _without(_DECODER_HEADS, "ForQuestionAnswering")),
    _decoder("gemma2", "Gemma2", _without(_DECODER_HEADS, "ForQuestionAnswering")),
    _decoder(
        "gemma3_text",
        "Gemma3",
        {"TextModel": _BASE, "ForCausalLM": _NEXT_TOKEN, "TextForSequenceClassification": _LAST_TOKEN},
        is_causal=lambda config: not config.use_bidirectional_attention,
    ),
    _decoder(
        "clip_text_model",
        "CLIPText",
        _CLIP,
        attention="CLIPAttention",
        position_table=True,
        caches=False,
        splits_at_jumps=False,
        always_told_causal=True,
        mixins={"CLIPTextEmbeddings": modules.PlacedTokens},
    ),
    _seq2seq(
        "bart",
        "Bart",
        _copying(_PAIRS) | {"ForCausalLM": _WORDS},
        mixins={"BartLearnedPositionalEmbedding": modules.PlacedPositions},
    ),
    _seq2seq(
        "mbart",
        "MBart",
        _copying(_PAIRS) | {"ForCausalLM": _WORDS},
        mixins={"MBartLearnedPositionalEmbedding": modules.PlacedPositions},
        starts_with_last=True,
    ),
    _seq2seq(
        "marian",
        "Marian",
        {"Model": _PAIRS["Model"], "MTModel": _PAIRS["ForConditionalGeneration"], "ForCausalLM": _WORDS},
        mixins={"MarianSinusoidalPositionalEmbedding": modules.PlacedPositions},
    ),
    _seq2seq(
        "pegasus",
        "Pegasus",
        {name: _PAIRS[name] for name in ("Model", "ForConditionalGeneration")} | {"ForCausalLM": _WORDS},
        mixins={"PegasusSinusoidalPositionalEmbedding": modules.PlacedPositions},
    ),
    _seq2seq(
        "m2m_100",
        "M2M100",
        {"Model": _PAIRS["Model"], "ForConditionalGeneration": replace(_WORDS, decodes=True)},
        mixins={"M2M100SinusoidalPositionalEmbedding": modules.PlacedSinusoids},
        positions=after_padding_id,
        position_table=False,
    ),
    _t5("t5", "T5"),
    _t5("mt5", "MT5"),
)
"""All that reads tokens: with SPEECH, the whole of what `unpad` supports."""

SPEECH: Sequence[Family] = (
    _speech(
        "wav2vec2",
        "Wav2Vec2",
        {"ForAudioFrameClassification": _TOKENS},
        Head(token_outputs=("last_hidden_state", "extract_features")),
    ),
    _speech("hubert", "Hubert", {}, Head(token_outputs=("last_hidden_state",))),
)
"""Families of speech models."""
