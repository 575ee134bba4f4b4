"""Steps of masked pre-training, padded and packed: the same loss and gradient first, then time, then memory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from ..corruption import Plan, Vocabulary
from ..machine import bound_kernel_caches, give_back, keep_buffers, peak_mib
from ..markers import Markers
from ..models import unpad
from ..report.progress import ProgressReporter
from ..report.tables import Table
from ..seeded import seeded
from . import hf, ours, parity
from .contestant import Contestant
from .measure import Timing, Turn, in_turns
from .parity import Verdict
from .report import Machine, here
from .run import best_sizes, turn_of
from .workloads import LONGEST as MAX_LENGTH
from .workloads import SEED, Workload, lengths

TEXTS, SAMPLE = 32, 8
SIZES = (8, TEXTS)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, CLS, SEP, MASK = 0, 2, 3, 4


@dataclass(frozen=True)
class Shape:
    """What is pre-trained."""

    name: str
    head: str
    """Its class, with the `Config` of the same prefix."""
    vocab_size: int
    num_layers: int = 6
    hidden_size: int = 384

    def model(self) -> nn.Module:
        """Random weights, the same each time; the config's own dropout."""
        import transformers

        config = getattr(transformers, self.head.removesuffix("ForMaskedLM") + "Config")(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=max(1, self.hidden_size // 32),
            intermediate_size=4 * self.hidden_size,
            max_position_embeddings=MAX_LENGTH + PAD + 2,
            pad_token_id=PAD,
        )
        with seeded(SEED):
            model: nn.Module = getattr(transformers, self.head)(config)
        return model

    def tokenizer(self) -> Any:
        """Numbers as words: what HF's collator asks a tokenizer is its special tokens, its size and padding."""
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast

        words = [*SPECIAL, *map(str, range(len(SPECIAL), self.vocab_size))]
        made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, "[UNK]"))
        names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        return PreTrainedTokenizerFast(tokenizer_object=made, **dict(zip(names, SPECIAL, strict=True)))

    def texts(self, count: int) -> Workload:
        """Random tokens between a first and a last special one; lengths as of the other benchmarks' drawn texts."""
        draw = torch.Generator().manual_seed(SEED)
        sizes = lengths(count, MAX_LENGTH)
        words = (torch.randint(len(SPECIAL), self.vocab_size, (size - 2,), generator=draw) for size in sizes)
        return Workload("drawn", "random tokens", tuple((CLS, *each.tolist(), SEP) for each in words))

    def corrupted(self, count: int) -> Workload:
        """The same with tokens hidden, the same ones for everybody."""
        texts = self.texts(count)
        made = [self.plan(ids, seed=SEED, epoch=0, example=key) for key, ids in enumerate(texts.sequences)]
        hidden = tuple(tuple(ids.tolist()) for ids, _ in made)
        return replace(texts, sequences=hidden, labels=tuple(labels for _, labels in made))

    @property
    def plan(self) -> Plan:
        """What yanma's contestants hide: 15 % of the tokens, by BERT's rule."""
        return Plan(Vocabulary(self.vocab_size, special_ids=tuple(range(len(SPECIAL))), mask_id=MASK))

    def padded(self, model: nn.Module) -> list[Contestant]:
        """HF's, on a stock model of this shape."""
        return hf.pretraining(model, self.tokenizer(), range(len(SPECIAL)), MAX_LENGTH, SIZES)

    def packed(self, model: nn.Module) -> list[Contestant]:
        """yanma's, on an unpadded one."""
        return ours.pretraining(model, self.plan, TEXTS)


SHAPES = (
    Shape("BERT with 30,522 words", "BertForMaskedLM", 30_522),
    Shape("XLM-R with 250,002 words", "XLMRobertaForMaskedLM", 250_002),
)
QUICK_SHAPES = (
    Shape("BERT with 500 words", "BertForMaskedLM", 500, num_layers=2, hidden_size=32),
    Shape("XLM-R with 5,000 words", "XLMRobertaForMaskedLM", 5000, num_layers=2, hidden_size=32),
)
COLUMNS = (
    "", "texts at once", "a step", "x yanma", "peak memory", f"with {TEXTS} texts at once", "loss off float64 by",
    "gradient off by",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One contestant."""

    name: str
    size: int
    """Texts at once, the fastest of those that were tried."""
    step: Timing
    times_yanma: float
    peak_mib: float | None
    """The most memory that a process of its own held; None where the system does not tell."""
    peak_at_once_mib: float | None
    """The same where all texts of the step are computed at once, the fastest or not; None of static padding, too."""
    verdict: Verdict
    """Loss and whole gradient, dropout off, against the stock model in float64 on one text at a time."""

    @property
    def cells(self) -> tuple[str, ...]:
        """As text."""
        return (
            self.name,
            str(self.size),
            f"{1000 * self.step.median:,.0f} ms",
            f"{self.times_yanma:.2f}",
            _mib(self.peak_mib),
            _mib(self.peak_at_once_mib),
            f"{self.verdict.loss:.1e}",
            f"{self.verdict.gradient:.1e}",
        )


def _mib(peak: float | None) -> str:
    return "not measured" if peak is None else f"{peak:,.0f} MiB"


@dataclass(frozen=True)
class Section:
    """One shape."""

    shape: Shape
    num_parameters: int
    rows: tuple[Row, ...]

    def lines(self) -> Iterator[str]:
        """Markdown."""
        shape = self.shape
        size = f"{shape.num_layers} layers of {shape.hidden_size}, {self.num_parameters / 1e6:.0f} million parameters"
        yield from ("", f"### {shape.name}, {size}", "")
        yield from Table(COLUMNS, tuple(row.cells for row in self.rows)).markdown()


@dataclass(frozen=True)
class PretrainingReport:
    """One run."""

    machine: Machine
    texts: str
    """How many of which lengths."""
    rounds: int
    sections: tuple[Section, ...]

    def lines(self) -> Iterator[str]:
        """Markdown."""
        machine = self.machine
        yield (
            f"{self.texts}, in one step, fp32, {self.rounds} rounds in turns, medians; "
            f"{machine.device}, {machine.threads} threads, {machine.date}; torch {machine.versions['torch']}, "
            f"transformers {machine.versions['transformers']}."
        )
        for section in self.sections:
            yield from section.lines()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


@seeded(SEED)
def bench_pretraining(
    rounds: int = 3, *, quick: bool = False, reporter: ProgressReporter | None = None
) -> PretrainingReport:
    """Measure; raises ParityError where a loss or gradient is further than 1e-5 from float64, one text at a time."""
    reporter = reporter or ProgressReporter(enabled=False)
    keep_buffers()
    bound_kernel_caches()
    shapes = QUICK_SHAPES if quick else SHAPES
    sections = tuple(_section(shape, rounds, reporter) for shape in shapes)
    sizes = lengths(TEXTS, MAX_LENGTH)
    mean = f"mean {sum(sizes) / TEXTS:.1f}, longest {max(sizes)}"
    texts = f"{TEXTS} texts of random tokens, {sum(sizes):,} in all, {mean}, 15 % of them scored"
    return PretrainingReport(here(), texts, rounds, sections)


def _section(shape: Shape, rounds: int, reporter: ProgressReporter) -> Section:
    stock = shape.model()
    everyone = [*shape.padded(stock), *shape.packed(unpad(shape.model()))]
    with reporter.counting(sum(len(each.sizes) for each in everyone), name=f"{shape.name}: parity"):
        verdicts = parity.gradients(
            lambda model: shape.padded(model)[1], stock, everyone, shape.corrupted(SAMPLE), reporter.turn
        )
    texts = shape.texts(TEXTS)
    sizes = best_sizes(everyone, texts, reporter, shape.name)
    turns = {each.name: _second(turn_of(each, texts, sizes[each.name])) for each in everyone}
    with reporter.counting(rounds * len(turns), name=f"{shape.name}: time"):
        times = in_turns(turns, rounds, told=reporter.turn)
    for name, time in times.items():  # what follows takes a minute, and may end for want of memory
        rounds_ms = ", ".join(f"{1000 * seconds:,.0f}" for seconds in time.seconds)
        reporter.note(f"  {name}: {rounds_ms} ms, {time.over(times[ours.FP32]):.2f} x yanma")
    num_parameters = sum(p.numel() for p in stock.parameters())
    del stock, turns, everyone
    give_back()
    rows = []
    with reporter.counting(len(times), name=f"{shape.name}: memory"):
        for name, time in times.items():
            reporter.turn(name)
            size = sizes[name]
            # With 250,002 words, static padding of all at once takes 16 GB.
            asked = {size} if name.startswith(hf.STATIC) else {size, TEXTS}
            peaks = {each: _peak_mib(shape, name, each) for each in asked}
            times_yanma = time.over(times[ours.FP32])
            rows.append(Row(name, size, time, times_yanma, peaks[size], peaks.get(TEXTS), verdicts[name]))
    return Section(shape, num_parameters, tuple(rows))


def _second(step: Turn) -> Turn:
    """A step after one that is not timed, as in training: the memory that it takes is the contestant's own already.

    Else a step of half a second pays for what one of 20 seconds and 16 GB did to the heap.
    """

    def turn() -> float:
        step()
        return step()

    return turn


_LIBRARIES = (
    "transformers.data.data_collator",
    "transformers.models.bert.modeling_bert",
    "transformers.models.xlm_roberta.modeling_xlm_roberta",
)


def _peak_mib(shape: Shape, name: str, size: int) -> float | None:
    """The most memory of a process in which one contestant alone does a step: model and libraries are in it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *_LIBRARIES])  # read once for all, before anything is computed
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_peak_there, shape, name, size, torch.get_num_threads()).result()


def _peak_there(shape: Shape, name: str, size: int, threads: int) -> float | None:
    keep_buffers()
    bound_kernel_caches()
    torch.set_num_threads(threads)
    packed = name in (ours.FP32, ours.ALL_LOGITS)
    everyone = shape.packed(unpad(shape.model())) if packed else shape.padded(shape.model())
    contestant = next(each for each in everyone if each.name == name)
    contestant.run(shape.texts(TEXTS), size)
    return peak_mib()


MARKERS = Markers("yanma bench pretraining")
