"""Pre-training: texts are cut into blocks of tokens, parts of these are hidden, and a model learns to find them.

corpus.py     documents, from files of any size, folders, globs and sets of `datasets`
blocks.py     documents as blocks of tokens that a model reads at once
evaluate.py   how well a model does on held-back blocks
"""
