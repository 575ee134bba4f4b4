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
}
"""Olmo is a decoder that `unpad` does not know."""


def build(name: str, attention: str = "sdpa", of: Any = None, **settings: Any) -> Any:
    """A random model of a class of transformers, or of its subclass `of`."""
    family = next(family for family in CONFIGS if name.startswith(family))
    common = {"vocab_size": 100, "max_position_embeddings": 80, "initializer_range": 0.2}
    common["num_labels"] = 2 if name.endswith("QuestionAnswering") else 3
    config = CONFIGS[family](
        **common,
        **(DISTIL_SIZE if family == "DistilBert" else SIZE | settings),
        **({"pad_token_id": 1} if family == "Roberta" else {}),
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    return (of or getattr(transformers, name))(config).eval()


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
