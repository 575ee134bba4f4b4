"""A schedule that is cut off goes on; a run that fails is named and holds up no other."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from yanma.compare_masking.outcome import Outcome
from yanma.compare_masking.schedule import Wanted, complete, wanted
from yanma.errors import DataError
from yanma.report.progress import ProgressReporter

RUNS = wanted(("dynamic", "word"), 3)


class Counted:
    """A run that says who was computed; it fails for one arm and seed, or is interrupted there."""

    def __init__(self, fails=None, error=None):
        self.asked, self._fails, self._error = [], fails, error

    def __call__(self, arm, seed):
        self.asked.append((arm, seed))
        if (arm, seed) == self._fails:
            raise self._error
        return Outcome(arm, seed, 1, 2, {"validation loss": seed / 3}, {"w": "x"}, {"all": 0.5})


def go(run, folder):
    with ThreadPoolExecutor(1) as executor:
        try:
            return complete(RUNS, run, folder, executor, ProgressReporter(enabled=False))
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def test_every_arm_has_every_seed_and_a_seed_is_finished_before_the_next_begins():
    assert RUNS[:3] == [Wanted("dynamic", 0), Wanted("word", 0), Wanted("dynamic", 1)] and len(RUNS) == 6


def test_an_interrupted_schedule_goes_on_with_the_same_outcomes(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go(Counted(("dynamic", 1), KeyboardInterrupt()), tmp_path)
    kept = {path.stem: path.read_bytes() for path in (tmp_path / "outcomes").iterdir()}
    assert {"dynamic-0", "word-0"} <= set(kept) and "dynamic-1" not in kept, "those that were over are kept"
    again = Counted()
    outcomes = go(again, tmp_path)
    computed = {f"{arm}-{seed}" for arm, seed in again.asked}
    assert computed == {f"{run.arm}-{run.seed}" for run in RUNS} - set(kept), (
        "only what is missing is computed"
    )
    assert {
        path.stem: path.read_bytes() for path in (tmp_path / "outcomes").iterdir()
    }.items() >= kept.items()
    assert outcomes == go(Counted(), tmp_path / "new"), "interrupted or not, in the order of the runs"
    assert [(outcome.arm, outcome.seed) for outcome in outcomes] == [(run.arm, run.seed) for run in RUNS]


def test_a_run_that_fails_is_named_and_the_others_are_computed(tmp_path):
    run = Counted(("word", 1), DataError("no text"))
    with pytest.raises(DataError, match=r"1 of 6 runs failed.*word, seed 1: no text"):
        go(run, tmp_path)
    assert len(run.asked) == 6 and len(list((tmp_path / "outcomes").iterdir())) == 5
    again = Counted()
    go(again, tmp_path)
    assert again.asked == [("word", 1)]


@pytest.mark.parametrize("text", ["", "{}", '{"arm": "dynamic"}', "[1]"])
def test_a_file_that_is_no_outcome_is_refused_by_name(tmp_path, text):
    (tmp_path / "outcomes").mkdir()
    (tmp_path / "outcomes" / "word-2.json").write_text(text)
    run = Counted()
    with pytest.raises(DataError, match=r"word-2\.json: no outcome of a run"):
        go(run, tmp_path)
    assert not run.asked, "nothing is computed before"


def test_an_outcome_under_another_name_is_refused(tmp_path):
    go(Counted(), tmp_path)
    (tmp_path / "outcomes" / "word-2.json").replace(tmp_path / "outcomes" / "word-1.json")
    with pytest.raises(DataError, match=r"word-1\.json: holds the outcome of word, seed 2"):
        go(Counted(), tmp_path)
