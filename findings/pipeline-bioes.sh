#!/usr/bin/env bash
# transformers 5.23.0, torch 2.13.0, seen 2026-11-27.
# Guess: the token-classification pipeline puts entities together in every common scheme of tags, BIOES among them.
# Seen:  it knows B- and I- alone. Of "maria del rio", B-PER I-PER E-PER, it makes two persons, "maria del" and "rio"; of "paris
#        rome", S-LOC S-LOC, one place. Nothing warns.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq torch==2.13.0
"$folder/venv/bin/python" -m pip install -qq transformers==5.23.0 numpy
cat >"$folder/tags.py" <<'PYTHON'
import torch
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast, TokenClassificationPipeline

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "maria", "del", "rio", "paris", "rome", "saw"]
tags = ["O", "B-PER", "I-PER", "E-PER", "S-LOC"]
meant = {"maria": "B-PER", "del": "I-PER", "rio": "E-PER", "paris": "S-LOC", "rome": "S-LOC"}
config = BertConfig(
    vocab_size=len(words), hidden_size=len(words), num_hidden_layers=0, num_attention_heads=1, intermediate_size=8,
    id2label=dict(enumerate(tags)), label2id={tag: i for i, tag in enumerate(tags)},
)
model = BertForTokenClassification(config).eval()
with torch.no_grad():  # a model that gives each word the tag that is meant for it
    for parameter in model.parameters():
        parameter.zero_()
    model.bert.embeddings.LayerNorm.weight.fill_(1)
    model.bert.embeddings.word_embeddings.weight.copy_(torch.eye(len(words)))
    for i, word in enumerate(words):
        model.classifier.weight[tags.index(meant.get(word, "O")), i] = 1
tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
pipeline = TokenClassificationPipeline(model=model, tokenizer=tokenizer, aggregation_strategy="simple")


def entities(text: str) -> list[tuple[str, str]]:
    return [(found["word"], found["entity_group"]) for found in pipeline(text)]


name, places = entities("maria del rio saw"), entities("saw paris rome")
print("maria del rio saw:", name)
print("saw paris rome:   ", places)
assert len(name) == 2, "one name is one entity: this finding is out of date"
assert len(places) == 1, "two places are two entities: this finding is out of date"
PYTHON
"$folder/venv/bin/python" "$folder/tags.py"
