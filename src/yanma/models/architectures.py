"""What several families have in common: heads of one kind, and architectures that go by several names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import modules, recordings, relative
from .family import Family, Head, after_padding_id

TOKENS = Head(token_outputs=("logits",), token_labels=("labels",))
WORDS = replace(TOKENS, scores_vocabulary=True)
DOCUMENTS = Head(document_outputs=("logits",), document_labels=("labels",))
BASE = Head(token_outputs=("last_hidden_state",), document_outputs=("pooler_output",))
NEXT_TOKEN = replace(WORDS, loss="next_token", token_arguments=("shift_labels",))
LABELLED_NEXT_TOKEN = replace(NEXT_TOKEN, labelled_without_cache=True)
CHOICES = Head(document_outputs=("logits",), document_labels=("labels",), loss="choice")
SPANS = Head(
    token_outputs=("start_logits", "end_logits"),
    document_labels=("start_positions", "end_positions"),
    loss="span",
)
COUNTED_SPANS = replace(SPANS, counts_items=True)


COMMON = {
    "Model": BASE,
    "ForMaskedLM": WORDS,
    "ForTokenClassification": TOKENS,
    "ForSequenceClassification": DOCUMENTS,
    "ForQuestionAnswering": SPANS,
    "ForMultipleChoice": CHOICES,
}


def common_heads(prefix: str, **more: Head) -> dict[str, Head]:
    """The heads that most encoders have, and `more` of one's own, by class name."""
    return {prefix + name: head for name, head in (COMMON | more).items()}


PRETRAINING = Head(
    ("prediction_logits",), ("seq_relationship_logits",), ("labels",), ("next_sentence_label",)
)


def bert_like(model_type: str, prefix: str, heads: Mapping[str, Head], **more: Any) -> Family:
    """BERT under another name."""
    defaults: dict[str, Any] = {
        "attention": prefix + "SelfAttention",
        "intermediate": prefix + "Intermediate",
        "attention_output": prefix + "SelfOutput",
        "pools_input": (prefix + "Pooler",),
    }
    return Family(model_type, heads, **(defaults | more))


def roberta_like(model_type: str, prefix: str, **more: Any) -> Family:
    """RoBERTa under another name."""
    defaults: dict[str, Any] = {
        "pools_input": (prefix + "Pooler", prefix + "ClassificationHead"),
        "positions": after_padding_id,
        "reserved_positions": lambda pad: pad + 1,
    }
    heads = common_heads(prefix, ForCausalLM=LABELLED_NEXT_TOKEN)
    return bert_like(model_type, prefix, heads, **(defaults | more))


def rotary_encoder(model_type: str, prefix: str, *names: str, spans: Head = SPANS, **more: Any) -> Family:
    """An encoder with rotary positions and heads of these names."""
    defaults: dict[str, Any] = {
        "attention": prefix + "Attention",
        "pools_input": (prefix + "Pooler", prefix + "ClassificationHead"),
        "position_table": False,
    }
    known = COMMON | {"ForQuestionAnswering": spans}
    heads = {prefix + name: head for name, head in known.items() if name in names}
    return Family(model_type, heads, **(defaults | more))


LAST_TOKEN = Head(document_outputs=("logits",), document_labels=("labels",), pools_at="last")


def decoder(model_type: str, prefix: str, heads: Mapping[str, Head], **more: Any) -> Family:
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


DECODER_HEADS = {
    "Model": BASE,
    "ForCausalLM": NEXT_TOKEN,
    "ForSequenceClassification": LAST_TOKEN,
    "ForTokenClassification": TOKENS,
    "ForQuestionAnswering": COUNTED_SPANS,
}


PAIRS = {
    "Model": Head(("last_hidden_state",), decodes=True),
    "ForConditionalGeneration": replace(WORDS, decodes=True, labelled_without_cache=True),
    "ForSequenceClassification": replace(
        DOCUMENTS, pools_at="eos", decodes=True, copies_source=True, labelled_without_cache=True
    ),
    "ForQuestionAnswering": replace(SPANS, decodes=True, copies_source=True, labelled_without_cache=True),
}


def seq2seq(model_type: str, prefix: str, heads: Mapping[str, Head], **more: Any) -> Family:
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


def copying(heads: Mapping[str, Head]) -> dict[str, Head]:
    """The same, all of which write the source again where no target is given."""
    return {name: replace(head, copies_source=True) for name, head in heads.items()}


def t5_like(model_type: str, prefix: str) -> Family:
    """T5 under another name."""
    heads = PAIRS | {
        "ForConditionalGeneration": replace(WORDS, decodes=True),
        "EncoderModel": Head(("last_hidden_state",)),
        "ForTokenClassification": TOKENS,
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


CLIP = {
    "Model": Head(("last_hidden_state",), ("pooler_output",), pools_at="end"),
    "ModelWithProjection": Head(("last_hidden_state",), ("text_embeds",), pools_at="end"),
}


def speech(model_type: str, prefix: str, more: dict[str, Head], base: Head) -> Family:
    """wav2vec 2.0 under another name."""
    heads = {
        "Model": base,
        "ForCTC": Head(("logits",), (), (), ("labels",), loss="ctc"),
        "ForSequenceClassification": replace(DOCUMENTS, averages="projector"),
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


def without(heads: Mapping[str, Head], name: str) -> dict[str, Head]:
    return {other: head for other, head in heads.items() if other != name}
