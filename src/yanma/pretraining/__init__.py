"""Pre-training on text: what `yanma pretrain` does.

config = load(Path("pretrain.toml"), {"steps": "1000"})    config.py: settings, checked
pretrained = pretrain(config)                              loop.py: the loop, top to bottom
objectives.py: what is hidden and which losses come of it; checkpoint.py: how a killed run goes on
"""
