"""Training, evaluation and prediction: what `yanma train`, `yanma evaluate` and `yanma predict` do.

config = load(Path("train.toml"), {"epochs": "5"})     config.py: settings, checked
trained = train(config)                                loop.py: the loop, top to bottom
ready = open_run(RunFolder("runs/x"), device)          setup.py: a run's best model, ready to compute
evaluate(ready, read_examples(ready, "test.jsonl"))    evaluate.py: a report
predict(ready, lines, sys.stdout, complain, note)       predict.py: rows in, rows with predictions out
"""
