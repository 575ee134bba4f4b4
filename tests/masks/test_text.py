"""What a mask writes can be read back, and what is no mask is refused with the place."""

import pytest
import torch
from hypothesis import given

from masks.expressions import cases
from yanma.masks import causal, documents, from_dense, from_mask_mod, global_tokens, parse, segments, window


@given(cases(writable=True))
def test_a_text_reads_back_as_the_very_mask(case):
    assert parse(str(case.mask)) == case.mask, str(case.mask)


def test_long_lists_survive():
    mask = documents(range(1, 200)) & causal()
    assert len(mask.describe()) < 80 and parse(str(mask)) == mask
    long = segments(["text", "image"] * 50, [("text", "image", "full")])
    assert parse(str(long)) == long


def test_documents_without_lengths_take_those_given():
    text = "documents & causal & window(127, 0)"
    assert parse(text, lengths=(5, 3, 7)) == documents([5, 3, 7]) & window(127, 0)
    assert parse(text) == documents() & window(127, 0) and parse(str(parse(text))) == parse(text)
    assert parse("documents", [2], [3]) == documents([2], kv_lengths=[3])


def test_signs_bind_as_in_python():
    a, b, c = documents([4]), causal(), window(1, 1)
    assert parse("documents([4]) | causal & window(1, 1)") == a | (b & c)
    assert parse("(documents([4]) | causal) & window(1, 1)") == (a | b) & c
    assert parse("~causal & documents([4])") == ~b & a
    assert parse(" window(1, 1) - causal ") == c - b
    assert parse("(documents([4])\n & causal)") == a & b
    assert parse("global_tokens(first=2)") == global_tokens(first=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("documents & casual", r"called casual; did you mean causal\? there are blocks, .*\n.*\n {14}\^"),
        ("documents & xyz", r"no mask is called xyz; there are blocks"),
        ("window & causal", r"window needs arguments.*\n.*\n  \^"),
        ("window(1, 0, **{'left': 3})", r"not with \*\*"),
        ("~" * 5000 + "causal", r"nested too deeply"),
        ("~" * 300_000 + "causal", r"nested too deeply"),
        ("window(1)", r"missing 1 required positional argument: 'right'"),
        ("window(-1, 0)", r"window: left is -1"),
        ("causal(3)", r"takes 0 positional arguments"),
        ("documents(", r"cannot read the mask: .*\n  documents\("),
        ("", r"cannot read the mask"),
        ("causal & 3", r"a mask is a name.*\n.*\n {11}\^"),
        ("causal + full", r"joined by &, \|, - and ~"),
        ("window(open('x'), 0)", r"an argument is a number"),
        ("__import__('os')", r"no mask is called __import__"),
        ("causal.show(3)", r"a mask is a name"),
        ("documents([2]) & documents([3])", r"must cover the same tokens"),
    ],
)  # fmt: skip
def test_what_is_no_mask_is_refused_with_the_place(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "mask", [from_dense(torch.ones(2, 2, dtype=torch.bool)), from_mask_mod(lambda b, h, q, k: q > k)]
)
def test_tensors_and_functions_say_that_they_cannot_be_written(mask):
    with pytest.raises(ValueError, match=r"from_(dense|mask_mod) ha(s|ve).* no text|have no text"):
        parse(str(documents([1, 1]) & mask))


def test_lengths_for_a_mask_without_documents_are_refused():
    with pytest.raises(
        ValueError, match=r"causal\(\) has no documents to bind; write documents\(lengths\) & causal"
    ):
        parse("causal", lengths=[3])
