"""Training and pre-training: from a config to a folder with a model, its figures and what to go on from.

trained = train(train_config.load(Path("train.toml")))            what `yanma train` does
pretrained = pretrain(pretrain_config.load(Path("run.toml")))     what `yanma pretrain` does
"""
