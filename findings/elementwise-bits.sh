#!/usr/bin/env bash
# torch 2.13.0 on x86-64 CPUs, one thread, seen 2026-11-27.
# Guess: what an element-wise function makes of a number depends on that number alone, to the bit.
# Seen:  of 4,099 float32 numbers, sigmoid, silu, gelu, mish, softplus and elu give 100 to 1,200 other bits in a vector of one than
#        in a vector of all, as whole lanes and what is left over are computed by different formulas. tanh, exp, erf, log1p
#        and sqrt: none. So a classifier's probability can depend on how many texts were scored beside it.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq torch==2.13.0
"$folder/venv/bin/python" -m pip install -qq numpy
cat >"$folder/bits.py" <<'PYTHON'
import torch
from torch.nn import functional as F

torch.set_num_threads(1)
numbers = torch.linspace(-8, 8, 4099)
MOVING = [torch.sigmoid, F.silu, F.gelu, F.mish, F.softplus, F.elu]
STEADY = [torch.tanh, torch.exp, torch.erf, torch.log1p, torch.sqrt]


def differing(function, x):
    alone = torch.cat([function(one) for one in x.split(1)])
    return int((alone != function(x)).sum())


print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}: numbers of {len(numbers)} with other bits alone")
moved = {function.__name__: differing(function, numbers) for function in MOVING}
stayed = {function.__name__: differing(function, numbers.abs()) for function in STEADY}
print(moved | stayed)
assert all(moved.values()), "one of these functions no longer depends on company: this finding is out of date"
assert not any(stayed.values()), "one of these functions now depends on company: this finding is out of date"
PYTHON
"$folder/venv/bin/python" "$folder/bits.py"
