"""Pre-training on text: what `yanma pretrain` does.

config = load(Path("pretrain.toml"), {"steps": "1000"})    config.py: settings, checked
pretrained = pretrain(config)                              loop.py: the loop, top to bottom

corpus.py       documents, from files of any size, folders, globs and sets of `datasets`
blocks.py       documents as blocks of tokens that a model reads at once
order.py        which blocks move the weights together
objectives.py   what is hidden of them, and which losses come of it
stepper.py      one move of the weights
checkpoint.py   how a run that was killed goes on
evaluate.py     how well a model does on held-back blocks
"""
