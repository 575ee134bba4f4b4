"""Steps of masked pre-training, padded and packed: the same loss and gradient first, then time, then memory."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..corruption import Plan, Vocabulary
from ..machine import bound_kernel_caches, give_back, keep_buffers, peak_mib
from ..markers import Markers
from ..models import unpad
from ..seeded import seeded
from .contestants_hf import LONGEST as TO_LONGEST
from .contestants_hf import STATIC
from .contestants_pretraining import ALL_LOGITS, YANMA, Example, Packed, Pretraining, contestants
from .machine import Machine, here
from .measure import Timing, Turn, in_turns, timed
from .parity import FLOOR, ParityError, without_dropout
from .progress import Teller
from .workloads import LONGEST as MAX_LENGTH
from .workloads import SEED, lengths

TEXTS, SAMPLE = 32, 8
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

    def texts(self, count: int) -> list[list[int]]:
        """Random tokens between a first and a last special one; lengths as of the other benchmarks' drawn texts."""
        draw = torch.Generator().manual_seed(SEED)
        sizes = lengths(count, MAX_LENGTH)
        words = (torch.randint(len(SPECIAL), self.vocab_size, (size - 2,), generator=draw) for size in sizes)
        return [[CLS, *each.tolist(), SEP] for each in words]

    def contestants(self, stock: nn.Module, unpadded: nn.Module, size: int) -> list[Pretraining]:
        """Everyone, on models of this shape."""
        vocabulary = Vocabulary(self.vocab_size, special_ids=tuple(range(len(SPECIAL))), mask_id=MASK)
        return contestants(stock, unpadded, self.tokenizer(), Plan(vocabulary), MAX_LENGTH, size)


SHAPES = (
    Shape("BERT with 30,522 words", "BertForMaskedLM", 30_522),
    Shape("XLM-R with 250,002 words", "XLMRobertaForMaskedLM", 250_002),
)
QUICK_SHAPES = (
    Shape("BERT with 500 words", "BertForMaskedLM", 500, num_layers=2, hidden_size=32),
    Shape("XLM-R with 5,000 words", "XLMRobertaForMaskedLM", 5000, num_layers=2, hidden_size=32),
)
COLUMNS = (
    "",
    "texts at once",
    "a step",
    "x yanma",
    "peak memory",
    f"with {TEXTS} texts at once",
    "loss off float64 by",
    "gradient off by",
)


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
    loss: float
    """Relative difference, dropout off, from the stock model in float64 on one text at a time."""
    gradient: float
    """The same of the whole gradient."""

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
            f"{self.loss:.1e}",
            f"{self.gradient:.1e}",
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
        yield f"| {' | '.join(COLUMNS)} |"
        yield f"|---|{'---:|' * (len(COLUMNS) - 1)}"
        yield from (f"| {' | '.join(row.cells)} |" for row in self.rows)


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
    rounds: int = 3, *, quick: bool = False, teller: Teller | None = None
) -> PretrainingReport:
    """Measure; raises ParityError where a loss or gradient is further than 1e-5 from float64, one text at a time."""
    teller = teller or Teller(enabled=False)
    keep_buffers()
    bound_kernel_caches()
    shapes = QUICK_SHAPES if quick else SHAPES
    sections = tuple(_section(shape, rounds, teller) for shape in shapes)
    sizes = lengths(TEXTS, MAX_LENGTH)
    mean = f"mean {sum(sizes) / TEXTS:.1f}, longest {max(sizes)}"
    texts = f"{TEXTS} texts of random tokens, {sum(sizes):,} in all, {mean}, 15 % of them scored"
    return PretrainingReport(here(), texts, rounds, sections)


def _section(shape: Shape, rounds: int, teller: Teller) -> Section:
    texts = shape.texts(TEXTS)
    everyone = shape.contestants(shape.model(), unpad(shape.model()), TEXTS)
    tried = {(each.name, size): each for each in everyone for size in each.sizes}
    turns = {
        f"{name}, {size}": timed(partial(each.step, texts, size)) for (name, size), each in tried.items()
    }
    with teller.stage(f"{shape.name}: numbers of texts at once", len(turns)):
        seconds = {label: timing.best for label, timing in in_turns(turns, 1, told=teller.turn).items()}
    sizes = {
        each.name: min(each.sizes, key=lambda size, name=each.name: seconds[f"{name}, {size}"])  # type: ignore[misc]
        for each in everyone
    }
    with teller.stage(f"{shape.name}: parity", len(everyone)):
        off = _parity(everyone, texts[:SAMPLE], sizes)
    turns = {each.name: _second(partial(each.step, texts, sizes[each.name])) for each in everyone}
    with teller.stage(f"{shape.name}: time", rounds * len(turns)):
        times = in_turns(turns, rounds, told=teller.turn)
    for name, time in times.items():  # what follows takes a minute, and may end for want of memory
        rounds_ms = ", ".join(f"{1000 * seconds:,.0f}" for seconds in time.seconds)
        teller.note(f"  {name}: {rounds_ms} ms, {time.over(times[YANMA]):.2f} x yanma")
    num_parameters = sum(p.numel() for p in everyone[0].model.parameters())
    del tried, turns, everyone
    give_back()
    rows = []
    with teller.stage(f"{shape.name}: memory", len(times)):
        for name, time in times.items():
            teller.turn(name)
            # With 250,002 words, static padding of all at once takes 16 GB.
            asked = {sizes[name]} if name.startswith(STATIC) else {sizes[name], TEXTS}
            peaks = {size: _peak_mib(shape, name, size) for size in asked}
            rows.append(
                Row(
                    name,
                    sizes[name],
                    time,
                    time.over(times[YANMA]),
                    peaks[sizes[name]],
                    peaks.get(TEXTS),
                    *off[name],
                )
            )
    return Section(shape, num_parameters, tuple(rows))


def _second(step: Callable[[], object]) -> Turn:
    """A step after one that is not timed, as in training: the memory that it takes is the contestant's own already.

    Else a step of half a second pays for what one of 20 seconds and 16 GB did to the heap.
    """

    def turn() -> float:
        step()
        return timed(step)()

    return turn


def _parity(
    everyone: Sequence[Pretraining], texts: list[list[int]], sizes: Mapping[str, int]
) -> dict[str, tuple[float, float]]:
    """How far loss and gradient of each are from float64, dropout off, on texts that are corrupted the same for all."""
    examples = _examples(everyone, texts)
    padded = next(each for each in everyone if each.name == TO_LONGEST)
    exact = replace(padded, model=copy.deepcopy(padded.model).double())
    with without_dropout(exact.model):
        loss = exact.step_on(examples, 1)
    wanted = list(_gradients(exact.model))
    norm = sum(float(grad.square().sum()) for grad in wanted) ** 0.5
    found = {}
    for each in everyone:
        with without_dropout(each.model):
            off = abs(each.step_on(examples, sizes[each.name]) - loss) / loss
        pairs = zip(_gradients(each.model), wanted, strict=True)
        gradient = sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5 / norm
        each.model.zero_grad(set_to_none=True)
        if not max(off, gradient) <= FLOOR:
            raise ParityError(
                f"{each.name}: loss is off float64, one text at a time, by {off:.1e}, the gradient by {gradient:.1e}; "
                f"accepted is {FLOOR:.0e}; no time is reported"
            )
        found[each.name] = off, gradient
    return found


def _examples(everyone: Sequence[Pretraining], texts: list[list[int]]) -> list[Example]:
    packed = next(each for each in everyone if isinstance(each, Packed))
    return [packed.plan(text, seed=SEED, epoch=0, example=index) for index, text in enumerate(texts)]


def _gradients(model: nn.Module) -> Iterator[Tensor]:
    """Each parameter's, float64; 0 where there is none."""
    for parameter in model.parameters():
        yield (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).double()


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
    model = shape.model()
    if name in (YANMA, ALL_LOGITS):
        unpad(model)
    contestant = next(each for each in shape.contestants(model, model, TEXTS) if each.name == name)
    contestant.step(shape.texts(TEXTS), size)
    return peak_mib()


MARKERS = Markers("yanma bench pretraining")
