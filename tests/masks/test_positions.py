"""Kinds that speak of positions: each against its definition, within documents of odd lengths, never across them."""

import subprocess
import sys
import time

import pytest
import torch

from yanma.masks import (
    blocks,
    causal,
    chunked,
    dilated,
    documents,
    full,
    global_tokens,
    prefix,
    random_blocks,
    random_drop,
    segments,
    strided,
    tree,
    visible,
    window,
)

LENGTHS = [
    ((1,), (1,)),
    ((5, 1, 7, 3), (5, 1, 7, 3)),
    ((5, 0, 2), (1, 3, 8)),
    ((127, 128, 129), (127, 128, 129)),
]
DEFINITIONS = {
    "causal": (causal(), lambda q, k: k <= q),
    "window": (window(2, 1), lambda q, k: q - 2 <= k <= q + 1),
    "prefix": (prefix(2), lambda q, k: k < 2 or k <= q),
    "first": (global_tokens(first=2), lambda q, k: q < 2 or k < 2),
    "global": (global_tokens([1, 4]), lambda q, k: q in (1, 4) or k in (1, 4)),
    "chunked": (chunked(3), lambda q, k: q // 3 == k // 3),
    "dilated": (dilated(3, 2, 1), lambda q, k: k - q in (-6, -3, 0, 3)),
    "dilated without limits": (dilated(4, None, None), lambda q, k: (k - q) % 4 == 0),
    "dilated by 1": (dilated(1, None, 1), lambda q, k: k <= q + 1),
    "strided": (strided(3), lambda q, k: k <= q and (q - k < 3 or (q - k) % 3 == 0)),
    "strided by 1": (strided(1), lambda q, k: k <= q),
}


def spelled_out(lengths, kv_lengths, may_read):
    parts = [
        torch.tensor([[may_read(q, k) for k in range(num_kv)] for q in range(num_q)]).view(num_q, num_kv)
        for num_q, num_kv in zip(lengths, kv_lengths, strict=True)
    ]
    return torch.block_diag(*[part.double() for part in parts]).bool()


@pytest.mark.parametrize(("lengths", "kv_lengths"), LENGTHS, ids=str)
@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_position_counts_from_the_start_of_its_document(name, lengths, kv_lengths):
    mask, may_read = DEFINITIONS[name]
    framed = documents(lengths, kv_lengths) & mask
    expected = spelled_out(lengths, kv_lengths, may_read)
    assert torch.equal(framed.dense(), expected)
    assert torch.equal(framed.intervals().dense(), expected)
    beside = mask | documents(lengths, kv_lengths) & ~full()
    assert torch.equal(beside.dense(), expected), "a kind of positions never reads another document"


def test_a_number_a_document():
    lengths = (4, 1, 3)
    mask = documents(lengths) & prefix([3, 0, 2])
    expected = torch.block_diag(*(prefix(p).dense(n) for n, p in zip(lengths, (3, 0, 2), strict=True)))
    assert torch.equal(mask.dense(), expected)
    assert [part.mask for part in mask.per_document()] == [prefix(3), prefix(0), prefix(2)]


PICTURES = [
    (global_tokens([1, 3, 4], first=2), 5, "#####\n#####\n##.##\n#####\n#####"),
    (global_tokens([2], first=1), 4, "####\n#.#.\n####\n#.#."),
    (global_tokens(first=10**12), 2, "##\n##"),
    (blocks("#.#/.##", 2), (4, 5), "##..#\n##..#\n..###\n..###"),
    (blocks([[True, False], [True, True]], 1), 2, "#.\n##"),
    (tree([-1, 0, -1, 1, 3, 2]), 6, "#.....\n##....\n..#...\n##.#..\n##.##.\n..#..#"),
    (documents([2, 2]) & tree([[-1, 0], [-1, -1]]), None, "#...\n##..\n..#.\n...#"),
    (visible([torch.tensor([[True, False, True], [False, True, False]])]), None, "#.#\n.#."),
    (visible([(2, 3, [(1, 1), (0, 2), (0, 0)])]), None, "#.#\n.#."),
    (segments("aab", [("a", "b", "full")]), None, "..#\n..#\n..."),
    (segments("abba", [("a", "a", "run"), ("b", "a", "causal")]), None, "#...\n#...\n#...\n...#"),
    (segments([1, 1, 2], [(1, 1, "causal"), (2, 1, "full"), (2, 2, "run")]), None, "#..\n##.\n###"),
    # A run ends where its document does.
    (documents([1, 2]) & segments("iii", [("i", "i", "run")]), None, "#..\n.##\n.##"),
    (documents([2, 1], [1, 2]) & window(0, 1), None, "#..\n...\n.##"),
    # The negation reads other documents, unless documents forbid it.
    (~causal() & documents([2, 1]), None, ".#.\n...\n..."),
    (~(causal() & documents([2, 1])), None, ".##\n..#\n##."),
    (random_drop(0.0, 1), 2, "##\n##"),
    (random_drop(1.0, 1), 2, "#.\n.#"),
]  # fmt: skip


@pytest.mark.parametrize(("mask", "n", "picture"), PICTURES, ids=lambda value: str(value)[:40])
def test_a_mask_is_as_it_is_drawn(mask, n, picture):
    assert mask.show(n) == picture
    rows = mask.intervals(n).dense().tolist()
    assert "\n".join("".join(".#"[seen] for seen in row) for row in rows) == picture


@pytest.mark.parametrize("mask", [random_blocks(2, 4, 7), random_drop(0.5, 7)], ids=str)
def test_what_is_drawn_for_a_document_does_not_depend_on_the_batch(mask):
    alone = mask.dense(33)
    for lengths in [(33, 5), (5, 33), (1, 127, 33, 33)]:
        seen = (documents(lengths) & mask).dense()
        start = sum(lengths[: lengths.index(33)])
        assert torch.equal(seen[start : start + 33, start : start + 33], alone), lengths
    assert not torch.equal(alone, type(mask)(*list(vars(mask).values())[:-1], 8).dense(33)), (
        "the seed matters"
    )


def test_random_blocks_reads_so_many_blocks_and_all_are_equally_likely():
    seen = random_blocks(3, 2, 0).dense((4096, 32))[::2, ::2]
    assert torch.all(seen.sum(1) == 3)
    assert (seen.double().mean(0) - 3 / 16).abs().max() < 0.04  # 4.6 standard deviations of 2048 draws
    assert random_blocks(3, 2, 0).dense((6, 6)).all() and random_blocks(9, 2, 0).dense((6, 5)).all()


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_random_drop_hides_that_share_and_no_token_from_itself(p):
    seen = random_drop(p, 3).dense(300)
    assert seen.diagonal().all()
    others = seen[~torch.eye(300, dtype=torch.bool)].double()
    assert abs(others.mean() - (1 - p)) < 0.01
    assert (seen != seen.T).any(), "queries and keys are told apart"
    by_document = (documents([9, 9, 9]) & random_drop(p, [1, 2, 1])).dense()
    first, second, third = (by_document[i : i + 9, i : i + 9] for i in (0, 9, 18))
    assert torch.equal(first, third) and not torch.equal(first, second)


def test_equal_documents_have_equal_masks():
    mask = documents([4, 4, 2]) & (window(1, 0) | global_tokens(first=1)) - random_drop(0.3, 5)
    first, second, third = mask.per_document()
    assert first == second != third and first.mask == third.mask and hash(first) == hash(second)
    grids = documents([2, 2]) & visible([torch.eye(2, dtype=torch.bool)] * 2)
    assert len(set(grids.per_document())) == 1


def test_a_million_tokens_are_lowered_in_a_moment():
    lengths = [7, 100, 333, 2048, 9000, 127, 128, 129] * 84 + [1_000_000 - 84 * 11872]
    for mask in (
        documents(lengths) & (window(64, 64) | global_tokens(first=1)),
        (documents(lengths) & window(64, 64)) | global_tokens(first=1),
    ):
        mask.intervals()
        start = time.perf_counter()
        runs = mask.intervals()
        assert time.perf_counter() - start < 1, "0.02 s on an idle machine of two cores"
        assert runs.starts.shape == (1_000_000, 2) and runs.starts.dtype == torch.int32
        last = lengths[-1]
        alone = (window(64, 64) | global_tokens(first=1)).intervals(last)
        shift = 1_000_000 - last
        used = alone.starts < alone.ends
        assert torch.equal(runs.starts[shift:][used], alone.starts[used] + shift)


_PEAK = """
from yanma.masks import causal, documents, global_tokens, window
def peak_mib(): return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024
causal().intervals(100_000)
before = peak_mib()
mask = documents([10_000] * 100) & window(64, 64) | global_tokens(first=1)
assert mask.intervals().starts.shape == (1_000_000, 2)
print(peak_mib() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_million_tokens_are_lowered_in_little_memory():
    """The intervals themselves are 16 MB."""
    peak = int(
        subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, check=True, text=True).stdout
    )
    assert 10 < peak <= 40, f"{peak} MiB"


REFUSED = [
    (lambda: prefix(-1), "prefix: a length is negative"),
    (lambda: documents([1, 2]) & prefix([1]), "prefix: 1 lengths for 2 documents; give one a document"),
    (lambda: global_tokens(), "global_tokens: say which tokens"),
    (lambda: global_tokens([-1]), "global_tokens: a position counts from 0"),
    (lambda: chunked(0), "chunked: size is 0"),
    (lambda: dilated(0, 1, 1), "dilated: step is 0"),
    (lambda: dilated(1, -1, 1), "dilated: left is -1"),
    (lambda: strided(0), "strided: step is 0"),
    (lambda: blocks("#x", 1), "blocks: a picture has '#' and '.' only"),
    (lambda: blocks("##/#", 1), "blocks: the pattern's rows differ in length"),
    (lambda: documents([2, 5]) & blocks("#", 2), "a document of 5 queries has 3 blocks of 2; the pattern has 1"),
    (lambda: blocks([], 2).dense(2), "a document of 2 queries has 1 blocks of 2; the pattern has 0"),
    (lambda: blocks("#", 2).dense((2, 3)), "blocks: a document of 3 keys has 2 blocks"),
    (lambda: random_blocks(0, 1, 0), "random_blocks: count is 0"),
    (lambda: random_drop(1.5, 0), "random_drop: p is 1.5"),
    (lambda: documents([1]) & random_drop(0.5, [1, 2]), "random_drop: 2 seeds for 1 documents"),
    (lambda: tree([0]), "tree: token 0 has parent 0"),
    (lambda: tree([-1, 2, 0]), "tree: token 1 has parent 2"),
    (lambda: tree([-2]), "tree: token 0 has parent -2"),
    (lambda: documents([2]) & tree([-1]), "tree: 1 parents, but document 0 has 2 queries"),
    (lambda: documents([1]) & tree([[-1], [-1]]), "tree: 2 trees for 1 documents"),
    (lambda: visible([(2, 2, [(0, 2)])]), r"visible: the pair \(0, 2\) lies outside of 2 x 2"),
    (lambda: visible([torch.ones(2, 2)]), "visible: a matrix is bool"),
    (lambda: documents([2, 1]) & visible([(2, 2, [])]), "visible: 1 matrices for 2 documents"),
    (lambda: documents([2]) & visible([(2, 1, [])]), "visible: matrix 0 is 2 x 1, its document 2 x 2"),
    (lambda: segments("ab", [("a", "b", "never")]), "segments: a rule says 'never'"),
    (lambda: segments("ab", [("a", "b", "run")]), "segments: 'run' is about one type"),
    (lambda: documents([3]) & segments("ab", []), "segments: 2 types, but the documents have 3 queries"),
    (lambda: documents().dense(), r"documents fits any size; .*bind\(lengths\)"),
    (lambda: (documents() & causal()).intervals(), r"bind\(lengths\)"),
    (lambda: causal().bind([2]), r"causal\(\) has no documents to bind; write documents\(lengths\) & causal\(\)"),
    (lambda: documents([2]).bind([3]), r"bind: the mask has documents\(\[2\]\) already, which"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_what_a_kind_cannot_be_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_documents_without_lengths_are_bound_later():
    mask = (documents() & causal()) | ~documents()
    assert mask.frame is None and mask.shape is None
    bound = mask.bind([2, 1])
    assert bound == (documents([2, 1]) & causal()) | ~documents([2, 1])
    assert bound.frame == documents([2, 1]) and bound.bind([2, 1]) == bound
    assert torch.equal((documents() & causal()).dense(3), causal().dense(3)), "a size makes it one document"
    assert documents([2, 1]) & documents() == documents([2, 1])
    cross = (documents() & causal()).bind([2, 1], [1, 2])
    assert cross.shape == (3, 3) and cross.show() == "#..\n#..\n.#."
