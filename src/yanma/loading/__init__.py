"""Hugging Face folders into models and tokenizers, safely: safetensors only, no code from elsewhere.

pretrained.py      models and tokenizers of a folder or a hub name
head.py            the classes of a task under the head of a model that is given
shapes.py          fresh models by name
tokenizer.py       tokenizers learned from text
special_tokens.py  [CLS] and [SEP], or <s> and </s>, around a text
freeze.py          modules that are not trained
"""
