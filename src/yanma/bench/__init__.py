"""Side-by-side measurements of what users run; no time is reported before parity.

workloads    texts                             contestant            how a way of computing is named, batched and run
hf, ours     transformers and yanma            runtimes, apart       others, in processes of their own
parts        who meets whom                    floor                 the least time there is
parity       are the results the model's       measure               times, taken in turns
run          bench(config)                     compare               side_by_side, training_side_by_side
report       what was found                    pretraining, masks    benches of their own
"""
