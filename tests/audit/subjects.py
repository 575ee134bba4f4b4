"""Small models, sound and spoilt, for audits."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

SIZE = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}
DISTIL_SIZE = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
CONFIGS: dict[str, Any] = {
    "Bert": transformers.BertConfig,
    "Roberta": transformers.RobertaConfig,
    "DistilBert": transformers.DistilBertConfig,
    "Llama": transformers.LlamaConfig,
    "Olmo": transformers.OlmoConfig,
    "T5": transformers.T5Config,
    "Bart": transformers.BartConfig,
    "PLBart": transformers.PLBartConfig,
}
"""`unpad` knows neither Olmo, a decoder, nor PLBart, an encoder with a decoder."""
_BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "init_std": 0.2,
}
PAIR_SIZES: dict[str, dict[str, Any]] = {
    "T5": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
    },
    "Bart": _BART,
    "PLBart": _BART,
}
"""Of encoders with decoders, whose configs have other names."""


def build(name: str, attention: str = "sdpa", of: Any = None, **settings: Any) -> Any:
    """A random model of a class of transformers, or of its subclass `of`."""
    family = next(family for family in CONFIGS if name.startswith(family))
    common = {"vocab_size": 100, "max_position_embeddings": 80, "initializer_range": 0.2}
    common["num_labels"] = 2 if name.endswith("QuestionAnswering") else 3
    config = CONFIGS[family](
        **common,
        **_sizes(family, settings),
        **({"pad_token_id": 1} if family == "Roberta" else {}),
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    return (of or getattr(transformers, name))(config).eval()


def _sizes(family: str, settings: dict[str, Any]) -> dict[str, Any]:
    if family == "DistilBert":
        return DISTIL_SIZE
    return PAIR_SIZES.get(family, SIZE) | settings


class Deaf(transformers.BertForTokenClassification):
    """Does not listen to attention_mask, so that padding is read."""

    def forward(self, input_ids: Tensor, attention_mask: Any = None, **more: Any) -> Any:
        return super().forward(input_ids, **more)


class Restless(transformers.BertForTokenClassification):
    """Its dropout does not ask whether the model is in training."""

    def forward(self, *args: Any, **more: Any) -> Any:
        output = super().forward(*args, **more)
        output.logits = nn.functional.dropout(output.logits, 0.5, training=True)
        return output


class Unfinished(transformers.BertForTokenClassification):
    """Reads in training what nobody has set."""

    def forward(self, *args: Any, **more: Any) -> Any:
        output = super().forward(*args, **more)
        if self.training:
            output.logits = nn.functional.dropout(output.logits, self.dropout_prob)
        return output


class Whispering(transformers.BertForTokenClassification):
    """Adds nothing to each row, whose gradient is that of all rows."""

    def forward(self, *args: Any, **more: Any) -> Any:
        output = super().forward(*args, **more)
        total = output.logits.sum()
        output.logits = output.logits + (total - total.detach())
        return output


class Steep(transformers.BertForTokenClassification):
    """In training it takes the square root of 0, whose slope is infinite."""

    def forward(self, *args: Any, **more: Any) -> Any:
        output = super().forward(*args, **more)
        if self.training:
            output.logits = output.logits + (output.logits * 0).sqrt()
        return output


class Foreseeing(transformers.T5ForConditionalGeneration):
    """Its decoder reads what comes after."""

    def forward(self, *args: Any, **more: Any) -> Any:
        rows, slots = more["decoder_input_ids"].shape
        more["decoder_attention_mask"] = torch.zeros(rows, 1, slots, slots)
        return super().forward(*args, **more)


class DeafToSources(transformers.T5ForConditionalGeneration):
    """Does not listen to the attention_mask of its sources, so that their padding is read."""

    def forward(self, *args: Any, **more: Any) -> Any:
        return super().forward(*args, **more | {"attention_mask": None})


class CountingSlots(transformers.T5ForConditionalGeneration):
    """Adds to its logits how many slots the targets have, padding included."""

    def forward(self, *args: Any, **more: Any) -> Any:
        output = super().forward(*args, **more)
        output.logits = output.logits + output.logits.shape[1]
        return output


class Blind(transformers.T5ForConditionalGeneration):
    """Its decoder is given nothing of the source."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        for module in self.modules():
            if type(module).__name__ == "T5LayerCrossAttention":
                module.register_forward_pre_hook(self._nothing, with_kwargs=True)

    def _nothing(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        return args, kwargs | {"key_value_states": torch.zeros_like(kwargs["key_value_states"])}


class WhisperingOfSources(transformers.T5ForConditionalGeneration):
    """Adds nothing to each row, whose gradient is that of all sources."""

    def forward(self, *args: Any, **more: Any) -> Any:
        output = super().forward(*args, **more)
        total = output.encoder_last_hidden_state.sum()
        output.logits = output.logits + (total - total.detach())
        return output


class Comparing(transformers.BertForMultipleChoice):
    """Tells each question's choices from the mean of all questions'."""

    def forward(self, *args: Any, **more: Any) -> Any:
        output = super().forward(*args, **more)
        output.logits = output.logits - output.logits.mean(0)
        return output
