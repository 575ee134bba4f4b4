"""Settings for long runs."""

import os
import subprocess
import sys

import pytest

from yanma.machine import bound_kernel_caches, keep_buffers

_GROWTH = """
import torch
from yanma.machine import bound_kernel_caches
def resident_mib(): return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024
if {bounded}: bound_kernel_caches()
weight, rows = torch.randn(1536, 384), torch.randn(600, 384)
product = torch.ops.mkldnn._linear_pointwise
product(rows, weight, None, "none", [], "")
before = resident_mib()
for count in range(300, 500):
    product(rows[:count], weight, None, "none", [], "")
print(resident_mib() - before)
"""


def test_the_allocator_takes_the_settings_on_linux():
    assert keep_buffers() is sys.platform.startswith("linux")


def test_what_the_environment_says_of_kernels_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    bound_kernel_caches()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "64"
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_products_of_many_sizes_take_less_memory():
    grown = {}
    for bounded in (True, False):
        code = _GROWTH.format(bounded=bounded)
        environment = {k: v for k, v in os.environ.items() if "CACHE_CAPACITY" not in k}
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        )
        grown[bounded] = int(run.stdout)
    if grown[False] < 200:
        pytest.skip(f"without a bound this machine's torch grows by {grown[False]} MiB only")
    assert grown[True] < 0.75 * grown[False], f"{grown[True]} MiB with the bound, {grown[False]} without"


_GIVEN = """
import torch
from yanma.machine import give_back, keep_buffers
def resident_mib(): return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024
keep_buffers()
some = [torch.ones(2**18) for _ in range(400)]
del some
kept = resident_mib()
give_back()
print(kept - resident_mib())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_is_kept_can_be_given_back():
    found = subprocess.run([sys.executable, "-c", _GIVEN], capture_output=True, text=True, check=True)
    assert int(found.stdout) > 200, "400 MiB were kept"
