"""A BERT of a few weights and its tokenizer, in a folder, for tests that begin with one."""

from pathlib import Path

from transformers import BertConfig, BertModel, PreTrainedTokenizerBase

from yanma.loading.pretrained import quiet
from yanma.seeded import seeded


def save_tiny_bert(folder: Path, tokenizer: PreTrainedTokenizerBase, **more: object) -> Path:
    """Two layers with random weights, the same each time, and no head; `more` goes to the config."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with quiet(), seeded(0):
        BertModel(BertConfig(vocab_size=len(tokenizer), **sizes | more)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder
