"""Pictures say what the mask says, pair by pair or in cells, and stay small however long the mask is."""

import re
import subprocess
import sys
from html import unescape
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given

from masks.expressions import cases
from yanma.masks import block_structure, causal, documents, from_dense, full, global_tokens, window
from yanma.masks.html import page, svg
from yanma.masks.pictures import MOST_CELLS, picture

ODD = (1, 63, 64, 65, 127, 128, 129, 1000)


def expected_cells(mask, size, shown):
    """Visible pairs of each cell, from the dense mask."""
    dense = mask.dense(size).long()
    rows = [dense[q : min(q + shown.queries.step, shown.queries.stop)].sum(0) for q in shown.queries]
    table = [
        [int(row[k : min(k + shown.keys.step, shown.keys.stop)].sum()) for k in shown.keys] for row in rows
    ]
    return torch.tensor(table, dtype=torch.int64).view(shown.shape)


@given(cases())
def test_cells_count_the_visible_pairs(case):
    shown = picture(case.mask, case.size)
    assert max(shown.shape) <= MOST_CELLS
    assert torch.equal(shown.counts, expected_cells(case.mask, case.size, shown)), f"{case.mask}"


@pytest.mark.parametrize("n", ODD)
def test_a_picture_of_any_length_covers_it_with_at_most_64_cells_a_side(n):
    mask = window(3, 0) | global_tokens(first=1)
    shown = picture(mask, n)
    assert max(shown.shape) <= MOST_CELLS and shown.shape[0] * shown.queries.step >= n
    assert torch.equal(shown.counts, expected_cells(mask, n, shown)), "no pair is lost at the end"
    assert shown.is_reduced == (n > MOST_CELLS)


@pytest.mark.parametrize("n", [65, 127, 129, 1000])
def test_a_reduced_picture_has_the_signs_of_the_block_structure(n):
    mask = documents([n - 40, 40]) & window(30, 11)
    shown = picture(mask)
    blocks = block_structure(mask, shown.queries.step, shown.keys.step)
    for row, cells in enumerate(shown.rows):
        whole = [cell for cell in cells if cell.queries[1] - cell.queries[0] == shown.queries.step]
        for sign, lists in (("#", blocks.full), ("+", blocks.partial)):
            found = {
                cell.column for cell in whole if cell.sign == sign and cell.keys[1] % shown.keys.step == 0
            }
            inside = {
                int(i) for i in lists.indices[lists.offsets[row] : lists.offsets[row + 1]]
                if whole and int(i) < n // shown.keys.step
            }  # fmt: skip
            assert found == inside, f"row {row}, {sign}"
    signs = {cell.sign for cells in shown.rows for cell in cells}
    assert signs == {"#", "+", "."} or n < 100, f"all signs occur: {signs}"


def test_a_cell_belongs_to_the_document_that_its_queries_and_keys_share():
    owners = [[cell.document for cell in row] for row in picture(documents([2, 0, 1], [1, 2, 2])).rows]
    assert owners == [[0, None, None, None, None]] * 2 + [[None, None, None, 2, 2]]
    # Cells of 4: the second row and column of cells touch both documents.
    owners = [[cell.document for cell in row] for row in picture(documents([6, 194])).rows]
    assert owners[0][:3] == [0, 0, None] and owners[1][:3] == [0, 0, 1] and owners[2][:3] == [None, 1, 1]


def test_a_million_tokens_are_a_small_picture():
    mask = documents([700_000, 1, 299_999]) & (window(64, 64) | global_tokens(first=1))
    text = mask.show()
    lines = text.splitlines()
    assert len(lines) <= MOST_CELLS + 1 and max(map(len, lines[:-1])) <= MOST_CELLS
    assert lines[-1].startswith("a cell is 16384 queries x 16384 keys")
    assert len(mask.to_html()) < 1_000_000


@given(cases(most=60))
def test_up_to_64_tokens_the_text_is_the_dense_mask(case):
    if max(case.size) > MOST_CELLS:
        return
    rows = case.mask.dense(case.size).tolist()
    assert case.mask.show(case.size) == "\n".join("".join(".#"[seen] for seen in row) for row in rows)


def test_a_range_is_a_part_of_the_picture():
    whole = causal().show(60).splitlines()
    part = causal().show(60, queries=(10, 13), keys=(8, 20)).splitlines()
    assert part[:-1] == [line[8:20] for line in whole[10:13]]
    assert part[-1] == "queries 10:13 of 60, keys 8:20 of 60"
    for wrong in ((5, 61), (7, 3), (-1, 4)):
        with pytest.raises(
            ValueError, match=rf"keys: {wrong[0]}:{wrong[1]} does not lie in the mask's 60 keys"
        ):
            causal().show(60, keys=wrong)


def test_colour_changes_no_sign_and_tells_documents_apart():
    mask = (documents([2, 3]) & causal()) | from_dense(torch.eye(5, dtype=torch.bool).flip(0))
    painted = mask.show(color=True)
    assert re.sub(r"\x1b\[[\d;]*m", "", painted) == mask.show()
    own, other, across, hidden = ("\x1b[1;36m", "\x1b[1;35m", "\x1b[1;33m", "\x1b[90m")
    assert all(code in painted for code in (own, other, across, hidden))
    assert "\x1b" not in mask.show(), "no colour unless asked for"


def test_tokens_stand_beside_their_queries_and_their_number_is_checked():
    lines = causal().show(3, tokens=["the", "cat", "猫"]).splitlines()
    assert lines == ["#..  the", "##.  cat", "###  猫"]
    for draw in (causal().show, causal().to_html):
        with pytest.raises(ValueError, match="tokens: 2 tokens for a mask of 3 queries; give one a query"):
            draw(3, tokens=["a", "b"])


def hover_texts(drawn):
    return [unescape(text) for text in re.findall(r"<rect[^>]*><title>(.*?)</title>", drawn)]


@given(cases(most=40))
def test_the_page_names_exactly_the_visible_pairs(case):
    shown = picture(case.mask, case.size)
    if shown.is_reduced:
        return
    queries, keys = case.mask.dense(case.size).nonzero(as_tuple=True)
    expected = [f"query {q} reads key {k}" for q, k in zip(queries.tolist(), keys.tolist(), strict=True)]
    assert hover_texts(svg(shown, "")) == expected


def test_what_is_text_stays_text():
    evil = "<script>alert('&')</script>"
    drawn = page(picture(full(), 2), evil, [evil, '"quoted"'])
    assert "<script" not in drawn, "tokens and titles are escaped"
    assert f"query 0 '{evil}' reads key 1 '\"quoted\"'" in hover_texts(drawn)
    ElementTree.fromstring(svg(picture(full(), 2), evil, [evil, '"quoted"']))
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", drawn), "nothing comes from elsewhere"


@pytest.mark.parametrize("size", [(0, 0), (0, 3), (3, 0), (1, 1), (2, 300), (300, 2)])
def test_empty_and_oblong_masks_have_pictures(size):
    shown = picture(causal(), size)
    for length, cells in zip(size, shown.shape, strict=True):
        assert cells == length if length <= MOST_CELLS else MOST_CELLS // 2 < cells <= MOST_CELLS
    assert int(shown.counts.sum()) == int(causal().dense(size).sum())
    ElementTree.fromstring(svg(shown, "mask"))
    pytest.importorskip("matplotlib")
    causal().plot(size).savefig(_Nowhere())


class _Nowhere:
    """A file that forgets."""

    def write(self, data):
        return len(data)

    def flush(self):
        pass

    def tell(self):
        return 0


def test_a_figure_has_a_colour_a_cell_tokens_as_labels_and_lines_between_documents():
    pytest.importorskip("matplotlib")
    mask = documents([2, 1]) & causal()
    figure = mask.plot(tokens=["$a", "b", "c"])
    (axes,) = figure.axes
    (mesh,) = axes.collections
    colors = mesh.get_facecolor().reshape(3, 3, -1)[..., :3] if mesh.get_array() is None else mesh.get_array()
    dark = torch.tensor([[float(sum(cell[:3])) < 1.9 for cell in row] for row in colors.tolist()])
    assert torch.equal(dark, mask.dense()), "visible cells are dark"
    assert [label.get_text() for label in axes.get_yticklabels()] == [r"\$a", "b", "c"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("key", "query")
    borders = [line for line in axes.lines if set(line.get_xdata()) == {2} or set(line.get_ydata()) == {2}]
    assert len(borders) == 2, "one line across, one down, where the first document ends"


def test_without_matplotlib_plot_says_what_to_install():
    code = (
        "import sys; sys.modules['matplotlib.figure'] = None\n"
        "from yanma import Unsupported; from yanma.masks import causal\n"
        "try: causal().plot(2)\n"
        "except Unsupported as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "a .png, a .pdf and plot() need the package matplotlib: pip install matplotlib (or the extra `plot`); "
        "show(), to_html(), and files called .svg or .html need none\n"
    )
