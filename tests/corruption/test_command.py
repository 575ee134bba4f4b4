"""`yanma corrupt` and `yanma pmi`: what is printed, and what is refused in one line."""

import gzip
import json
import re
from typing import get_args

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast, T5Tokenizer
from typer.testing import CliRunner

from yanma.cli import app, main
from yanma.corruption import Corrupted, Vocabulary, statistics
from yanma.corruption.by_name import REPLACEMENTS, UNITS
from yanma.corruption.command import shown
from yanma.corruption.config import DENOISERS, CorruptConfig
from yanma.corruption.pieces import pieces

TEXT = "the unbelievable cat sat on the cat in new york ."


T5_TEXT = "the cat sat on a mat"


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory):
    words = [f"▁{word}" for word in T5_TEXT.split()]
    pieces = [(piece, -float(rank)) for rank, piece in enumerate(("<pad>", "</s>", "<unk>", *words))]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=20)
    tokenizer.add_tokens(["[NLU]", "[NLG]", "[S2S]"], special_tokens=True)
    folder = tmp_path_factory.mktemp("t5")
    tokenizer.save_pretrained(folder)
    return folder


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("unit", ["token", "word", "sentence", "span", "ngram", "bart"])
def test_each_epoch_is_a_line_of_its_own(unit, tokenizer_folder):
    printed = run(
        "corrupt", TEXT, "--tokenizer", tokenizer_folder, "--unit", unit, "--epochs", 5, "--rate", 0.5
    )
    lines = [line for line in printed.splitlines() if line.startswith("epoch")]
    assert len(lines) == 5 and len(set(lines)) > 1, printed
    assert all("[CLS]" in line and "[SEP]" in line for line in lines)
    again = run(
        "corrupt", TEXT, "--tokenizer", tokenizer_folder, "--unit", unit, "--epochs", 5, "--rate", 0.5
    )
    assert again == printed, "the same every time"


def versions(folder, *arguments):
    printed = run("corrupt", TEXT, "--tokenizer", folder, "--epochs", 4, *arguments)
    return [line.partition("  ")[2] for line in printed.splitlines() if line.startswith("epoch")]


@pytest.mark.parametrize("unit", ["token", "bart"])
def test_copies_take_turns(unit, tokenizer_folder):
    how = ("--unit", unit, "--rate", 0.5, "--resampling")
    anew = versions(tokenizer_folder, *how, "every epoch")
    assert len(set(anew)) > 2
    assert versions(tokenizer_folder, *how, "never") == [anew[0]] * 4
    assert versions(tokenizer_folder, *how, "2") == [anew[0], anew[1]] * 2


def test_what_stands_for_hidden_tokens_is_as_it_was_asked(tokenizer_folder):
    masks = " ".join(versions(tokenizer_folder, "--rate", 0.6, "--replacement", "mask"))
    randoms = " ".join(versions(tokenizer_folder, "--rate", 0.6, "--replacement", "random"))
    assert "[MASK]" in masks and not set("({") & set(masks)
    assert "{" in randoms and "[MASK]" not in randoms


def test_a_rate_may_change_from_epoch_to_epoch(tokenizer_folder):
    mask = ("--replacement", "mask", "--rate")
    counts = [line.count("[MASK]") for line in versions(tokenizer_folder, *mask, "0.1->0.8 linear")]
    assert counts[0] <= 2 and counts[-1] >= 7 and counts == sorted(counts), counts


def test_hidden_tokens_can_be_told_apart(tokenizer):
    ids, labels = (
        [tokenizer.convert_tokens_to_ids(t) for t in s.split()]
        for s in ("the [MASK] on cat", "the cat sat cat")
    )
    pair = Corrupted(torch.tensor(ids), torch.tensor([-100, *labels[1:]]))
    assert shown(pair, tokenizer, color=False) == "the [MASK] {on} (cat)"
    assert (
        shown(pair, tokenizer, color=True) == "the \x1b[31m[MASK]\x1b[0m \x1b[33mon\x1b[0m \x1b[32mcat\x1b[0m"
    )


def test_whole_words_are_hidden_whole(tokenizer_folder):
    printed = run(
        "corrupt", TEXT, "--tokenizer", tokenizer_folder, "--unit", "word", "--epochs", 40, "--rate", 0.3
    )
    for line in printed.splitlines():
        pieces = line.split()[4:7] if line.startswith("epoch") else []
        assert sum(piece in ("un", "##believ", "##able") for piece in pieces) in (0, 3), line


def test_statistics_of_a_file(tokenizer_folder, tmp_path):
    (tmp_path / "a.txt").write_text(f"{TEXT}\n\n我 来 到 北 京\n", encoding="utf-8")
    arguments = ("corrupt", tmp_path / "a.txt", "--tokenizer", tokenizer_folder, "--epochs", 200, "--stats")
    found = json.loads(run(*arguments, "--json"))
    assert found["texts"] == 400 and found["tokens"] == 200 * (13 + 5)
    assert abs(found["rate"] - 0.15) < 0.02 and abs(found["masked"] - 0.8) < 0.08
    assert found["masked"] + found["random"] + found["kept"] == pytest.approx(1)
    printed = run(*arguments)
    assert "of 3,600 tokens in 400 texts hidden" in printed and "million tokens/s" in printed


def test_statistics_of_a_denoiser_are_its_rate_and_spans(t5_folder, tmp_path):
    (tmp_path / "a.txt").write_text(f"{' '.join([T5_TEXT] * 8)}\n" * 3, encoding="utf-8")
    arguments = ("corrupt", tmp_path / "a.txt", "--tokenizer", t5_folder, "--epochs", 50, "--stats", "--json")
    t5 = json.loads(run(*arguments, "--unit", "t5"))
    assert t5["texts"] == 150 and t5["tokens"] == 150 * 48 and t5["rate"] == pytest.approx(7 / 48)
    assert list(t5["spans"]) == sorted(t5["spans"], key=int)
    assert sum(t5["spans"].values()) == 150 * 2, "7 tokens of 48 in 2 spans of about 3"
    # Inputs lack 7 and have 2 sentinels and </s>; targets have those 7, 3 sentinels and </s>.
    assert (t5["input_tokens"], t5["label_tokens"]) == (150 * (48 - 7 + 2 + 1), 150 * (7 + 3 + 1))
    ul2 = json.loads(run(*arguments, "--unit", "ul2"))
    assert 0.2 < ul2["rate"] < 0.45 and max(map(int, ul2["spans"])) > 8, "three of seven hide half of a text"
    assert t5["tokens_per_s"] > 0


def test_ul2_shows_which_denoiser_each_epoch_has(t5_folder):
    printed = run("corrupt", T5_TEXT, "--tokenizer", t5_folder, "--unit", "ul2", "--epochs", 40)
    blocks = printed.split("epoch ")[1:]
    assert len(blocks) == 40
    for block in blocks:
        head, inputs, target = block.splitlines()
        mode = (
            "[S2S]"
            if "the text's end" in head
            else "[NLU]"
            if "15%" in head and "64" not in head
            else "[NLG]"
        )
        assert inputs.split()[:2] == ["input", mode], block
        assert target.split()[:2] == ["target", "<extra_id_0>"]
    assert len({block.splitlines()[0].split("  ", 1)[1] for block in blocks}) == 7


def test_statistics_of_nothing_are_zeros():
    found = statistics([], Vocabulary(10))
    assert found.rate == 0 and found.lines()


def test_collocations_are_found_and_hidden_as_one(tokenizer_folder, tmp_path):
    (tmp_path / "corpus.txt").write_text(f"{TEXT}\nin new york .\n" * 20, encoding="utf-8")
    run("pmi", tmp_path / "corpus.txt", "--out", tmp_path / "found.tsv", "--size", 8)
    assert "new york" in (tmp_path / "found.tsv").read_text(encoding="utf-8")
    printed = run(
        "corrupt", "the cat sat on new york .", "--tokenizer", tokenizer_folder, "--unit", "phrase", "--phrases",
        tmp_path / "found.tsv", "--epochs", 60, "--rate", 0.4,
    )  # fmt: skip
    lines = [line for line in printed.splitlines() if "{" not in line and "(" not in line]
    assert any("new york" in line for line in lines) and any("[MASK] [MASK]" in line for line in lines)
    assert not any(("new" in line) != ("york" in line) for line in lines)


def test_files_may_be_packed_and_what_is_no_text_is_refused_by_name(tokenizer_folder, tmp_path, capsys):
    plain, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    plain.write_text(f"{TEXT}\n" * 20, encoding="utf-8")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    of_both = [run("corrupt", path, "--tokenizer", tokenizer_folder) for path in (plain, packed)]
    assert of_both[0] == of_both[1] and of_both[0].count("epoch 0") == 20
    plain.write_bytes(b"abc\n\xff\xfe\x00\n")
    packed.write_bytes(packed.read_bytes()[:-20])
    for path, said in ((plain, ":2: not UTF-8"), (packed, ": the gzip file is damaged or cut off")):
        for words in (["corrupt", path, "--tokenizer", tokenizer_folder], ["pmi", path, "--out", "x.tsv"]):
            with pytest.raises(SystemExit) as caught:
                main([str(word) for word in words])
            told = capsys.readouterr().err
            assert caught.value.code == 1 and told.startswith(f"error: {path}") and said in told, told


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.txt", "none.txt: no such file (what has a space"),
        ("none.JSONL.gz", "none.JSONL.gz: no such file"),
        ("runs/none", "runs/none: no such file"),
        ("here", "here: a folder without a file of text"),
        ("a.zip", "a.zip: the name does not say its format"),
        ("bad.jsonl", "bad.jsonl:2: no column 'text'; it has: body"),
    ],
)
def test_the_name_of_what_is_no_file_of_texts_is_not_masked(
    tokenizer_folder, tmp_path, monkeypatch, capsys, name, told
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "a.zip").write_text("text")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"body": "b"}\n')
    with pytest.raises(SystemExit) as caught:
        main(["corrupt", name, "--tokenizer", str(tokenizer_folder)])
    said = capsys.readouterr()
    assert caught.value.code == 1 and said.err.startswith(f"error: {told}") and not said.out, said


@pytest.mark.parametrize("text", ["and/or is a text .", "end.txt is one", "他/她", "over."])
def test_a_text_that_looks_a_little_like_a_file_is_a_text(tokenizer_folder, text):
    assert "epoch 2" in run("corrupt", text, "--tokenizer", tokenizer_folder)


def test_of_rows_the_text_is_read_and_versions_of_a_text_stand_together(tokenizer_folder, tmp_path):
    plain, rows = tmp_path / "a.txt", tmp_path / "a.jsonl"
    texts = [TEXT, "the cat sat", "new york"]
    plain.write_text("\n".join(texts))
    rows.write_text("\n".join(json.dumps({"id": 1, "text": text}) for text in texts))
    of_both = [run("corrupt", path, "--tokenizer", tokenizer_folder, "--epochs", 2) for path in (plain, rows)]
    assert of_both[0] == of_both[1]
    lines = [line for line in of_both[0].splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in lines] == ["0", "1"] * 3
    assert len(lines[0].split()) == len(lines[1].split()) > len(lines[2].split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "0"], "--size: must be greater than or equal to 1; got '0'"),
        (["--min-count", "-1"], "--min-count: must be greater than or equal to 1; got '-1'"),
        (["--out", "a.txt"], "--out is a.txt, which is read; name another file"),
    ],
)
def test_collocations_that_cannot_be_are_refused(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("new york " * 20)
    with pytest.raises(SystemExit) as caught:
        out = [] if "--out" in arguments else ["--out", "b.tsv"]
        main(["pmi", str(tmp_path / "a.txt"), *out, *arguments])
    told = capsys.readouterr().err
    assert caught.value.code == 2 and message in told and len(told.strip().splitlines()) == 1, told
    assert (tmp_path / "a.txt").read_text() == "new york " * 20 and not (tmp_path / "b.tsv").exists()


def test_no_collocation_is_told_and_refused(tokenizer_folder, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("the cat sat")
    (tmp_path / "b.tsv").write_text("")
    for out in ("b.tsv", "c.tsv"):
        with pytest.raises(SystemExit) as caught:
            main(["pmi", str(tmp_path / "a.txt"), "--out", str(tmp_path / out)])
        assert caught.value.code == 1 and "nothing stands together 11 times" in capsys.readouterr().err
    assert not (tmp_path / "c.tsv").exists()
    arguments = [
        "--unit",
        "phrase",
        "--phrases",
        str(tmp_path / "b.tsv"),
        "--tokenizer",
        str(tokenizer_folder),
    ]
    with pytest.raises(SystemExit) as caught:
        main(["corrupt", "the cat sat", *arguments])
    assert caught.value.code == 1 and "b.tsv: no collocation in it" in capsys.readouterr().err


def test_tokenizers_that_lack_what_a_unit_wants_are_refused_in_plain_words(t5_folder, tmp_path, capsys):
    tokenizer = T5Tokenizer(vocab=[(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>", "▁a")], extra_ids=5)
    tokenizer.save_pretrained(tmp_path)
    for unit, folder, told in (
        ("token", t5_folder, "--unit token: the tokenizer has no mask token; take one that has"),
        ("bart", t5_folder, "--unit bart: the tokenizer has no mask token; take one that has"),
        (
            "ul2",
            tmp_path,
            "--unit ul2: to the tokenizer [NLU], [NLG], [S2S] are the same; take one that knows",
        ),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["corrupt", "a a a a", "--unit", unit, "--tokenizer", str(folder)])
        assert caught.value.code == 2 and told in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_text_without_a_word_is_refused(tokenizer_folder, capsys, text):
    with pytest.raises(SystemExit) as caught:
        main(["corrupt", text, "--tokenizer", str(tokenizer_folder)])
    assert (caught.value.code, capsys.readouterr().err) == (1, f"error: {text!r}: no text in it\n")


def test_units_and_replacements_of_the_command_are_those_of_plans_and_denoisers():
    known = {key: CorruptConfig.model_fields[key].annotation for key in ("unit", "replacement")}
    assert get_args(known["unit"]) == (*UNITS, *DENOISERS)
    assert get_args(get_args(known["replacement"])[0]) == (*REPLACEMENTS,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--unit", "wrod"], "--unit: must be 'token', 'word', "),
        (["--unit", "wrod"], "; got 'wrod'; did you mean 'word'?"),
        (["--epochs", "0"], "--epochs: must be greater than or equal to 1; got '0'"),
        (["--unit", "phrase"], "--unit phrase and --phrases (which yanma pmi writes) go together; give both"),
        (
            ["--rate", "1.5"],
            "--rate: give a share above 0 and up to 0.8, no more is hidden of a text; got 1.5",
        ),
        (
            ["--rate", "0.9"],
            "--rate: give a share above 0 and up to 0.8, no more is hidden of a text; got 0.9",
        ),
        (["--seed", "-1"], "--seed: must be greater than or equal to 0; got '-1'"),
        (["--unit", "t5"], "--unit t5: the tokenizer has no <extra_id_0>, <extra_id_1>, ... to stand for"),
        (["--unit", "ul2"], "--unit ul2: the tokenizer has no <extra_id_0>, <extra_id_1>, ... to stand for"),
        (
            ["--unit", "ul2", "--rate", "0.3"],
            "--rate: --unit ul2 is seven denoisers, each with a rate of its own",
        ),
        (["--unit", "bart", "--rate", "0"], "--rate: give a share between 0 and 1, such as 0.15; got 0"),
        (["--rate", "0"], "--rate: give a share above 0"),
        (["--unit", "word", "--segmenter", "x"], "--segmenter: must be 'jieba'; got 'x'"),
        (["--rate", "most"], "--rate: 'most' is no rate; give a share as 0.15"),
        (["--rate", "0.9->0.1 linear"], "--rate: give a share above 0 and up to 0.8"),
        (
            ["--unit", "bart", "--rate", "0.1..0.5"],
            "--rate: --unit bart takes one share for all texts and epochs",
        ),
        (["--replacement", "berd"], "; got 'berd'; did you mean 'bert'?"),
        (["--unit", "bart", "--replacement", "mask"], "--replacement: --unit bart has one of its own"),
        (["--resampling", "0"], "--resampling: must be 'every epoch', 'never' or a number of fixed copies"),
        (["--rate", "0.3->0.1 linear", "--resampling", "2"], "--resampling is 2; a --rate that changes"),
        (["--segmenter", "jieba"], "--segmenter cuts words; --unit token has none"),
        (["--json"], "--json prints what --stats counts"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(arguments, message, tokenizer_folder, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["corrupt", TEXT, "--tokenizer", str(tokenizer_folder), *arguments])
    told = capsys.readouterr().err
    assert caught.value.code == 2 and message in told and len(told.strip().splitlines()) == 1, told


def test_texts_of_a_table_in_another_encoding_are_shown(tokenizer_folder, tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_bytes("id;body\n1;the cat sat\n".encode("utf-16"))
    flags = ["--text-column", "body", "--delimiter", ";", "--encoding", "utf-16", "--epochs", "1"]
    with pytest.raises(SystemExit) as caught:
        main(["corrupt", str(path), "--tokenizer", str(tokenizer_folder), *flags])
    assert caught.value.code == 0 and capsys.readouterr().out.startswith("epoch 0")
    with pytest.raises(SystemExit):
        main(["corrupt", str(path), "--tokenizer", str(tokenizer_folder), *flags[2:]])
    told = capsys.readouterr().err
    assert "no column 'text'" in told and "--text-column says which is meant" in told, told


def test_tokens_of_bytes_are_shown_as_characters(tmp_path):
    text = "我在北京 a\tb"
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([text] * 9, vocab_size=262, special_tokens=["<mask>"])
    trained.save(str(tmp_path / "tokenizer.json"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), mask_token="<mask>")
    ids = tokenizer(text)["input_ids"]
    shown = pieces(tokenizer, [*ids, tokenizer.mask_token_id])
    assert shown[-1] == "<mask>" and len(shown) == len(ids) + 1

    def spelt(piece: str) -> bytes:
        plain = piece.replace("Ġ", " ").replace("ĉ", "\t").encode()
        return re.sub(rb"<0x([0-9A-F]{2})>", lambda found: bytes.fromhex(found[1].decode()), plain)

    assert b"".join(map(spelt, shown[:-1])).decode() == text, "no byte is lost"
    assert any("<0x" in piece for piece in shown), "one is a part of a character"
