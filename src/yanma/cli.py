"""The command line. Data goes to stdout, words to stderr; each command is a thin wrapper over an importable function.

Exit codes: 0 done; 1 input that cannot be used, a full disk and the like, or an audit that failed; 2 a wrong setting
or usage; 130 Ctrl-C.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, get_type_hints

import typer

from .errors import ConfigError, DataError, YanmaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .markers import Markers
    from .training.evaluate import Evaluation
    from .training.settings import Setting

_AUDITED_TEXTS = 5

Command = TypeVar("Command", bound=Callable[..., None])

app = typer.Typer(
    name="yanma",
    help="Transformers without padding: masks that follow the data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="print the report as JSON")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="folder that `yanma train` made")]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit; every error that is the user's to solve is one line on stderr."""
    try:
        app(None if arguments is None else list(arguments))
    except YanmaError as error:
        _fail(str(error), code=1 if isinstance(error, DataError) else 2)
    except OSError as error:
        _fail(_told(error), code=1)
    sys.exit(0)


# -- train, evaluate, predict ------------------------------------------------------------------------------------------


def _one_flag_a_setting(settings: Callable[[], Iterable[Setting]]) -> Callable[[Command], Command]:
    """Give a command a flag for every setting of a run, so that flags and settings never differ."""

    def with_flags(command: Command) -> Command:
        named = inspect.signature(command).parameters.values()
        parameters = [p for p in named if p.kind is not p.VAR_KEYWORD]
        hints = get_type_hints(command, include_extras=True)
        for setting in settings():
            switch = setting.field.annotation is bool
            dashed = setting.flag.replace("_", "-")
            about = typer.Option(
                f"--{dashed}/--no-{dashed}" if switch else f"--{dashed}",
                help=setting.help,
                metavar=None if switch else setting.metavar,
                rich_help_panel=setting.section or "run",
            )
            kind: Any = bool if switch else list[str] if setting.is_repeated else str
            hints[setting.flag] = Annotated[kind | None, about]
            parameters.append(inspect.Parameter(setting.flag, inspect.Parameter.KEYWORD_ONLY, default=None))
        command.__signature__ = inspect.Signature([p.replace(annotation=hints[p.name]) for p in parameters])  # type: ignore[attr-defined]
        command.__annotations__ = hints
        return command

    return with_flags


def _train_settings() -> Iterable[Setting]:
    from .training.config import settings

    return settings()


@app.command()
@_one_flag_a_setting(_train_settings)
def train(
    config: Annotated[Path | None, typer.Option(help="TOML file; flags override what it says")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the run that is in --out")] = False,
    as_json: Json = False,
    **flags: str | bool | None,
) -> None:
    """Fine-tune a model; its best state and its figures are left in a folder.

    Example: yanma train --task sequence-classification --train a.jsonl --test b.jsonl --model DIR --out runs/x
    """
    from .training.config import load

    wanted = load(config, flags)
    try:
        from .training.folder import RunFolder
        from .training.loop import train as run
    except KeyboardInterrupt:
        _say("interrupted before anything was begun")
        raise typer.Exit(130) from None
    folder = RunFolder(wanted.out)
    try:
        trained = run(wanted, overwrite=overwrite)
    except KeyboardInterrupt:
        _say(f"interrupted; {folder.describe()}")
        raise typer.Exit(130) from None
    except OSError as error:
        _fail(f"{_told(error)}; {folder.describe()}", code=1)
    _say(folder.describe())
    if as_json:
        _print(json.dumps(trained.as_dict(), ensure_ascii=False))
    elif trained.test is not None:
        _print_report(trained.test, "test")
    else:
        _print_report(trained.validation, f"validation, epoch {trained.best_epoch}")


@app.command()
def evaluate(
    run: Run,
    data: Annotated[str, typer.Argument(metavar="DATA", help="rows with their truth: a file, or NAME:SPLIT")],
    as_json: Json = False,
) -> None:
    """Report how well a run's best model predicts some rows."""
    from .training.evaluate import evaluate_run

    evaluation = evaluate_run(run, data, _say)
    if as_json:
        _print(json.dumps(evaluation.as_dict(), ensure_ascii=False))
    else:
        _print_report(evaluation, data)


@app.command()
def predict(
    run: Run,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="JSON lines, also .gz (default: stdin)")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="where the answers go (default: stdout)")] = None,
) -> None:
    """Predict row by row: JSON lines in, the same lines with predictions out, in their order.

    A line that cannot be used is told on stderr and gets no answer; the exit code is then 1.
    """
    from .training.predict import partial, predict_run

    try:
        refused = predict_run(run, file, out, _say_error, _say)
    except KeyboardInterrupt:
        if out is not None:
            _say(f"interrupted; what was answered is in {partial(out)}")
        raise typer.Exit(130) from None
    if refused:
        raise typer.Exit(1)


def _print_report(evaluation: Evaluation, title: str) -> None:
    from rich.console import Console

    from .training.reports import table

    if _is_first_rank():
        Console().print(table(evaluation.report, title))


# -- pretrain ----------------------------------------------------------------------------------------------------------


def _pretrain_settings() -> Iterable[Setting]:
    from .pretraining.config import settings

    return settings()


@app.command()
@_one_flag_a_setting(_pretrain_settings)
def pretrain(
    config: Annotated[Path | None, typer.Option(help="TOML file; flags override what it says")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the run that is in --out")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="go on with the run in --out from its newest checkpoint, with its own settings"
        ),
    ] = False,
    as_json: Json = False,
    **flags: str | bool | list[str] | None,
) -> None:
    """Pre-train a model on texts: find hidden tokens, replaced tokens, hidden spans, or the next token.

    Example: yanma pretrain --objective mlm --train a.txt --from-scratch bert-mini --unit word --steps 1000 --out runs/x
    """
    from .pretraining.config import begun, load

    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other: begin anew, or go on")
    out = flags.get("out")
    if resume and config is None and isinstance(out, str):
        config = begun(Path(out).expanduser())
    wanted = load(config, {name: value for name, value in flags.items() if value != []})
    try:
        from .pretraining.folder import PretrainingFolder
        from .pretraining.loop import pretrain as run
    except KeyboardInterrupt:
        _say("interrupted before anything was begun")
        raise typer.Exit(130) from None
    folder = PretrainingFolder(wanted.out)
    try:
        done = run(wanted, overwrite=overwrite, resume=resume)
    except KeyboardInterrupt:
        _say(f"interrupted; {folder.describe()}")
        raise typer.Exit(130) from None
    except OSError as error:
        _fail(f"{_told(error)}; {folder.describe()}", code=1)
    _say(folder.describe())
    if as_json:
        _print(json.dumps(done.as_dict(), ensure_ascii=False))


# -- bench -------------------------------------------------------------------------------------------------------------


benches = typer.Typer(invoke_without_command=True)
app.add_typer(benches, name="bench")


@benches.callback()
def bench(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="folder or hub name (default: MiniLM, from the extra `demo`)")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="bert-base|xlm-roberta-base|deberta-v3-base",
            help="random weights of this shape instead of a model: the time is that of real ones",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="real text: a file, or NAME:SPLIT (default: the demo's corpus)")
    ] = None,
    text_column: Annotated[str, typer.Option(help="its column of texts")] = "text",
    texts: Annotated[int, typer.Option(help="how many texts of each kind are computed")] = 512,
    max_length: Annotated[
        int, typer.Option(help="longer texts are cut; also the width of static padding")
    ] = 128,
    rounds: Annotated[int, typer.Option(help="turns of each contestant that are counted")] = 5,
    threads: Annotated[int | None, typer.Option(help="of everyone (default: as many as torch takes)")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="embeddings, text, classification or training; may be repeated")
    ] = None,
    workload: Annotated[list[str] | None, typer.Option(help="drawn or real; may be repeated")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="a few texts: to see that it runs, not for numbers")
    ] = False,
    json_to: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="all numbers as JSON")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="a page whose part between two markers is rewritten")
    ] = None,
) -> None:
    """Measure speed side by side: padded in three ways, other runtimes, yanma. Results are compared first.

    Exits with 1, and no time, where someone's results are not those of the model in float64.
    """
    if context.invoked_subcommand is not None:
        return
    from .bench import PARTS, WORKLOADS, ParityError, Settings
    from .bench.command import execute

    wanted = Settings(
        model=model,
        shape=shape,
        data=data,
        text_column=text_column,
        texts=texts,
        max_length=max_length,
        rounds=rounds,
        threads=threads,
        only=tuple(only or PARTS),
        workloads=tuple(workload or WORKLOADS),
        quick=quick,
    )
    try:
        execute(wanted, json_to=json_to, write=write)
    except ParityError as error:
        _fail(str(error), code=1)


@benches.command("masks")
def bench_masks(
    rounds: Annotated[int, typer.Option(min=1, help="turns of each that are counted")] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="few tokens: to see that it runs, not for numbers")
    ] = False,
    as_json: Json = False,
    write: Annotated[
        Path | None, typer.Option(help="a page whose part between two markers is rewritten")
    ] = None,
) -> None:
    """Measure attention under masks against torch with a dense mask. Results are compared with float64 first."""
    from .bench.masks import MARKERS
    from .bench.masks import bench_masks as run

    _measured(lambda: run(rounds, quick=quick), MARKERS, as_json, write)


@benches.command("pretraining")
def bench_pretraining(
    rounds: Annotated[int, typer.Option(min=1, help="turns of each that are counted")] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="tiny models: to see that it runs, not for numbers")
    ] = False,
    as_json: Json = False,
    write: Annotated[
        Path | None, typer.Option(help="a page whose part between two markers is rewritten")
    ] = None,
) -> None:
    """Measure steps of masked pre-training, padded and packed. Losses and gradients are compared with float64 first."""
    from .bench.pretraining import MARKERS
    from .bench.pretraining import bench_pretraining as run
    from .bench.progress import Teller

    _measured(lambda: run(rounds, quick=quick, teller=Teller()), MARKERS, as_json, write)


def _measured(run: Callable[[], Any], markers: Markers, as_json: bool, write: Path | None) -> None:
    """Run a bench whose report has a part of a page to itself."""
    from .bench import ParityError

    if write is not None:
        markers.check(write)
    try:
        report = run()
    except ParityError as error:
        _fail(str(error), code=1)
    _print(json.dumps(report.as_dict()) if as_json else "\n".join(report.lines()))
    if write is not None:
        markers.write(write, report.lines())


# -- mask --------------------------------------------------------------------------------------------------------------


@app.command()
def mask(
    expression: Annotated[
        str, typer.Argument(metavar="EXPRESSION", help="as in 'documents & causal & window(2, 0)'")
    ],
    lengths: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="tokens of each document (default: those of --tokens)"),
    ] = None,
    kv_lengths: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="keys of each document, where they differ")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="TEXT|FILE", help="words to show beside it, a document a line")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="draw into this file instead: .html, .svg, .png or .pdf")
    ] = None,
    counts: Annotated[
        bool, typer.Option("--counts", help="print the visible pairs of each document instead")
    ] = False,
    as_json: Json = False,
) -> None:
    """Draw a mask: who may read whom. What is visible is counted on stderr.

    Example: yanma mask "documents & causal & window(2, 0)" --lengths 5,3,7
    """
    from .masks.command import read, summary, table

    shown = read(expression, lengths, kv_lengths, tokens)
    if out is not None:
        shown.save(out)
    if as_json:
        _print(json.dumps(shown.as_dict(), ensure_ascii=False))
    elif counts:
        _print(table(shown.counts))
    elif out is None:
        _print(shown.mask.show(shown.size, tokens=shown.tokens, color=_is_coloured()))
    _say(summary(shown.counts))


def _is_coloured() -> bool:
    """Whether stdout is a terminal that shows colours, and nobody asked for none (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


# -- compare-masking ---------------------------------------------------------------------------------------------------


def _laboratory_settings() -> Iterable[Setting]:
    from .laboratory.config import settings

    return settings()


@app.command("compare-masking")
@_one_flag_a_setting(_laboratory_settings)
def compare_masking(
    config: Annotated[Path | None, typer.Option(help="TOML file; flags override what it says")] = None,
    write: Annotated[
        Path | None, typer.Option(help="a page whose part between two markers is rewritten")
    ] = None,
    as_json: Json = False,
    **flags: str | bool | list[str] | None,
) -> None:
    """Compare ways to mask: static, dynamic, scheduled, by units; the same budget, paired by seed, with intervals.

    What is finished is kept: the same command again computes what is missing. --out then has page.html.

    Example: yanma compare-masking --train corpus.txt --epochs 40 --seeds 5 --jobs 2 --out runs/masking
    """
    from .laboratory.config import load

    wanted = load(config, {name: value for name, value in flags.items() if value != []})
    try:
        from .laboratory import markdown
        from .laboratory.compare import compare_masking as run

        if write is not None:
            markdown.MARKERS.check(write)
        report = run(wanted)
    except KeyboardInterrupt:
        _say(f"interrupted; what was finished is in {wanted.out}, and the same command goes on from there")
        raise typer.Exit(130) from None
    if write is not None:
        markdown.MARKERS.write(write, [markdown.render(report)])
    _print(json.dumps(report.as_dict()) if as_json else markdown.render(report))
    _say(f"{Path(wanted.out) / 'page.html'} shows it")


# -- corrupt, pmi ------------------------------------------------------------------------------------------------------


@app.command()
def corrupt(
    text: Annotated[
        str, typer.Argument(metavar="TEXT|FILE", help="a text, or a file: one a line, or .jsonl with `text`")
    ],
    tokenizer: Annotated[str, typer.Option(metavar="DIR", help="folder or hub name")],
    epochs: Annotated[int, typer.Option(help="how many versions of each text")] = 3,
    unit: Annotated[
        str,
        typer.Option(
            help="what is hidden as a whole: token, word, phrase, sentence, span, ngram, t5, bart or ul2"
        ),
    ] = "token",
    rate: Annotated[
        float | None, typer.Option(help="share of tokens that is hidden (default: 0.15; bart: 0.3)")
    ] = None,
    seed: Annotated[int, typer.Option(help="other seeds hide other tokens")] = 0,
    segmenter: Annotated[str | None, typer.Option(help="jieba: Chinese words by its dictionary")] = None,
    phrases: Annotated[Path | None, typer.Option(help="for --unit phrase: what yanma pmi wrote")] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="count instead: rates, lengths of spans, positions, tokens/s")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="with --stats: print them as JSON")] = False,
) -> None:
    """Show what a masked language model would see of a text, epoch by epoch.

    Example: yanma corrupt "dynamic masks are drawn anew" --tokenizer DIR --unit word --epochs 3
    """
    from .corruption import command
    from .training.pretrained import load_tokenizer

    if as_json and not stats:
        raise ConfigError("--json prints what --stats counts; say both")
    wish = command.Wish(unit, rate, seed, epochs, segmenter, phrases)
    texts, loaded = command.texts_of(text), load_tokenizer(tokenizer)
    if stats:
        found = command.stats(texts, loaded, wish)
        _print(json.dumps(found.as_dict()) if as_json else "\n".join(found.lines()))
        return
    for line in command.lines(texts, loaded, wish, color=_is_coloured()):
        _print(line)
    if unit not in command.DENOISERS:
        _say(command.LEGEND)


@app.command()
def pmi(
    corpus: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="text files, a text a line, or .jsonl with `text`")
    ],
    out: Annotated[Path, typer.Option(help="file for the collocations, for yanma corrupt --phrases")],
    size: Annotated[int, typer.Option(help="how many at most")] = 10_000,
    min_count: Annotated[int, typer.Option(help="rarer ones are left out")] = 11,
    segmenter: Annotated[str | None, typer.Option(help="jieba: Chinese words by its dictionary")] = None,
) -> None:
    """Find a corpus' collocations, words that belong together, to be hidden as one (PMI-Masking).

    Example: yanma pmi corpus.txt --out collocations.tsv
    """
    from .corruption.command import lines_of, segmenter_of
    from .corruption.pmi import collocations, save

    found = collocations(
        lambda: lines_of(corpus), size, min_count=min_count, segmenter=segmenter_of(segmenter)
    )
    save(found, out)
    few = f": nothing stands together {min_count} times; give more text, or a lower --min-count"
    _say(f"{len(found):,} collocations are in {out}{'' if found else few}")


# -- audit -------------------------------------------------------------------------------------------------------------


@app.command()
def audit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="folder or hub name")],
    data: Annotated[
        str | None,
        typer.Option(
            help="texts to audit it with: .txt, a text a line, rows, or NAME:SPLIT (default: random)"
        ),
    ] = None,
    text_column: Annotated[str, typer.Option(help="where texts stand in rows")] = "text",
    way: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="WAY",
            help="padded, packed or unpadded: the way that decides the exit code "
            "(default: unpadded where yanma knows the model, else packed, else padded)",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure what leaks in a model: padding, company, other documents, later tokens, micro-batches.

    It is run as it is, padded and packed, and unpadded where yanma knows it. Exits with 1 where a check fails in the
    way that --as names.
    """
    from .audit import WAYS

    if way is not None and way not in WAYS:
        raise ConfigError(f"--as is {way!r}; there are {', '.join(WAYS)}")
    from .audit.report import every_way
    from .training.pretrained import load_as_saved

    stock = load_as_saved(model)
    report = every_way(stock, None if data is None else _texts(model, stock, data, text_column), way)
    if as_json:
        _print(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        report.show()
    if not report.ok:
        raise typer.Exit(1)


def _texts(name: str, model: PreTrainedModel, data: str, column: str) -> list[list[int]]:
    """The first few texts as the model's tokens, cut to what it can read."""
    from itertools import islice

    from .audit import longest_document
    from .pretraining.corpus import read_documents
    from .training.pretrained import check_vocabulary, load_tokenizer

    tokenizer = load_tokenizer(name)
    check_vocabulary(model, tokenizer)
    texts = [document.text for document in islice(read_documents([data], column=column), _AUDITED_TEXTS)]
    if not texts:
        raise DataError(f"{data}: no text in it")
    return [ids[: longest_document(model)] for ids in tokenizer(texts, verbose=False)["input_ids"]]


# -- demo --------------------------------------------------------------------------------------------------------------


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for its data, run and figures")] = Path("runs/demo"),
) -> None:
    """Fine-tune MiniLM on real text, and time it side by side with padding. Needs the extra `demo`, no network."""
    from .bench import ParityError
    from .demo import run

    try:
        run(out)
    except ParityError as error:
        _fail(str(error), code=1)
    except KeyboardInterrupt:
        _say("interrupted; the next `yanma demo` begins anew")
        raise typer.Exit(130) from None


# -- what all commands share -------------------------------------------------------------------------------------------


def _is_first_rank() -> bool:
    """Whether this is the process that speaks, of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def _print(data: str) -> None:
    if _is_first_rank():
        print(data, flush=True)


def _say(words: str) -> None:
    if _is_first_rank():
        print(words, file=sys.stderr, flush=True)


def _say_error(words: str) -> None:
    _say(f"error: {' '.join(words.splitlines())}")


def _fail(words: str, *, code: int) -> NoReturn:
    _say_error(words)
    sys.exit(code)


def _told(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"
