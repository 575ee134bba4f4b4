"""What yanma knows of each family of models, in one table. A model that is not here is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from . import modules, relative
from .architectures import (
    BASE,
    CLIP,
    COMMON,
    COUNTED_SPANS,
    DECODER_HEADS,
    DOCUMENTS,
    LABELLED_NEXT_TOKEN,
    LAST_TOKEN,
    NEXT_TOKEN,
    PAIRS,
    PRETRAINING,
    SPANS,
    TOKENS,
    WORDS,
    bert_like,
    common_heads,
    copying,
    decoder,
    roberta_like,
    rotary_encoder,
    seq2seq,
    speech,
    t5_like,
    without,
)
from .family import Family, Head, after_padding_id

FAMILIES: Sequence[Family] = (
    bert_like(
        "bert",
        "Bert",
        common_heads(
            "Bert",
            ForPreTraining=PRETRAINING,
            ForNextSentencePrediction=DOCUMENTS,
            LMHeadModel=LABELLED_NEXT_TOKEN,
        ),
    ),
    bert_like(
        "ernie",
        "Ernie",
        common_heads(
            "Ernie",
            ForPreTraining=PRETRAINING,
            ForNextSentencePrediction=DOCUMENTS,
            ForCausalLM=LABELLED_NEXT_TOKEN,
        ),
        token_arguments=("task_type_ids",),
    ),
    roberta_like("roberta", "Roberta"),
    roberta_like("xlm-roberta", "XLMRoberta"),
    roberta_like("xlm-roberta-xl", "XLMRobertaXL"),
    roberta_like("roberta-prelayernorm", "RobertaPreLayerNorm", intermediate=""),
    roberta_like("camembert", "Camembert"),
    roberta_like("data2vec-text", "Data2VecText"),
    Family(
        "distilbert",
        common_heads("DistilBert"),
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
        common_heads(
            "Electra",
            ForPreTraining=Head(("logits",), (), ("labels",), scores_padding=False),
            ForCausalLM=LABELLED_NEXT_TOKEN,
        ),
        attention="ElectraSelfAttention",
        intermediate="ElectraIntermediate",
        attention_output="ElectraSelfOutput",
        pools_input=("ElectraClassificationHead", "ElectraSequenceSummary"),
    ),
    Family(
        "albert",
        common_heads(
            "Albert",
            ForPreTraining=Head(
                ("prediction_logits",), ("sop_logits",), ("labels",), ("sentence_order_label",)
            ),
        ),
        attention="AlbertAttention",
        pools_within=("AlbertModel",),
        repeats_layers=True,
    ),
    rotary_encoder(
        "modernbert",
        "ModernBert",
        *COMMON,
        spans=COUNTED_SPANS,
        pools_base={
            "ModernBertForSequenceClassification": "model",
            "ModernBertForMultipleChoice": "model",
        },
        token_types=False,
        attention_mask=lambda num_documents: torch.ones(num_documents, 1, dtype=torch.long),
    ),
    rotary_encoder(
        "eurobert",
        "EuroBert",
        *("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"),
        pools_base={"EuroBertForSequenceClassification": "model"},
        token_types=False,
    ),
    rotary_encoder(
        "nomic_bert",
        "NomicBert",
        *("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"),
    ),
    rotary_encoder(
        "gte", "Gte", *("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
    ),
    rotary_encoder(
        "jina_embeddings_v3",
        "JinaEmbeddingsV3",
        *(name for name in COMMON if name != "ForMultipleChoice"),
    ),
    Family(
        "mpnet",
        common_heads("MPNet"),
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
        common_heads("DebertaV2"),
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
    decoder(
        "gpt2",
        "GPT2",
        without(DECODER_HEADS, "ForCausalLM") | {"LMHeadModel": NEXT_TOKEN, "ForQuestionAnswering": SPANS},
        position_table=True,
        token_types=True,
        default_token_type=None,
    ),
    decoder("llama", "Llama", DECODER_HEADS),
    decoder("mistral", "Mistral", DECODER_HEADS),
    decoder("qwen2", "Qwen2", DECODER_HEADS),
    decoder("qwen3", "Qwen3", DECODER_HEADS),
    decoder(
        "opt",
        "OPT",
        without(DECODER_HEADS, "ForTokenClassification") | {"ForQuestionAnswering": SPANS},
        drops_in_forward=("OPTDecoderLayer",),
        mixins={"OPTDecoder": modules.DropsLayers},
        counts_tokens=True,
        position_table=True,
        splits_at_jumps=False,
    ),
    decoder("gpt_neox", "GPTNeoX", DECODER_HEADS | {"ForQuestionAnswering": SPANS}),
    decoder("gemma", "Gemma", without(DECODER_HEADS, "ForQuestionAnswering")),
    decoder("gemma2", "Gemma2", without(DECODER_HEADS, "ForQuestionAnswering")),
    decoder(
        "gemma3_text",
        "Gemma3",
        {"TextModel": BASE, "ForCausalLM": NEXT_TOKEN, "TextForSequenceClassification": LAST_TOKEN},
        is_causal=lambda config: not config.use_bidirectional_attention,
    ),
    decoder(
        "clip_text_model",
        "CLIPText",
        CLIP,
        attention="CLIPAttention",
        position_table=True,
        caches=False,
        splits_at_jumps=False,
        always_told_causal=True,
        mixins={"CLIPTextEmbeddings": modules.PlacedTokens},
    ),
    seq2seq(
        "bart",
        "Bart",
        copying(PAIRS) | {"ForCausalLM": WORDS},
        mixins={"BartLearnedPositionalEmbedding": modules.PlacedPositions},
    ),
    seq2seq(
        "mbart",
        "MBart",
        copying(PAIRS) | {"ForCausalLM": WORDS},
        mixins={"MBartLearnedPositionalEmbedding": modules.PlacedPositions},
        starts_with_last=True,
    ),
    seq2seq(
        "marian",
        "Marian",
        {"Model": PAIRS["Model"], "MTModel": PAIRS["ForConditionalGeneration"], "ForCausalLM": WORDS},
        mixins={"MarianSinusoidalPositionalEmbedding": modules.PlacedPositions},
    ),
    seq2seq(
        "pegasus",
        "Pegasus",
        {name: PAIRS[name] for name in ("Model", "ForConditionalGeneration")} | {"ForCausalLM": WORDS},
        mixins={"PegasusSinusoidalPositionalEmbedding": modules.PlacedPositions},
    ),
    seq2seq(
        "m2m_100",
        "M2M100",
        {"Model": PAIRS["Model"], "ForConditionalGeneration": replace(WORDS, decodes=True)},
        mixins={"M2M100SinusoidalPositionalEmbedding": modules.PlacedSinusoids},
        positions=after_padding_id,
        position_table=False,
    ),
    t5_like("t5", "T5"),
    t5_like("mt5", "MT5"),
)
"""All that reads tokens: with SPEECH, the whole of what `unpad` supports."""

SPEECH: Sequence[Family] = (
    speech(
        "wav2vec2",
        "Wav2Vec2",
        {"ForAudioFrameClassification": TOKENS},
        Head(token_outputs=("last_hidden_state", "extract_features")),
    ),
    speech("hubert", "Hubert", {}, Head(token_outputs=("last_hidden_state",))),
)
"""Families of speech models."""
