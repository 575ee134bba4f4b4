"""Ways to mask, compared under one budget, pair by pair. What `yanma compare-masking` does.

config = read(ComparisonConfig, flags={...})                         config.py: settings, checked
report = compare_masking(config)                                     compare.py: runs, report, page
arms.py: what is compared; schedule.py: what is finished is kept; statistics.py: means and their intervals
"""
