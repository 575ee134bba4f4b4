"""Who may import whom, so that the code is read downwards; and `import yanma` stays light."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "yanma"

# Each part of the package and which others it may import: a part names only parts that stand above it.
LIBRARY: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "autocast": set(),
    "callable_package": set(),
    "markers": {"errors"},
    "keyed": set(),
    "machine": set(),
    "packaged": {"errors"},
    "seeded": set(),
    "report": {"errors"},
    "settings": {"errors"},
    "masks": {"errors", "files", "keyed", "report", "settings"},
    "packing": {"errors"},
    "batch": {"errors", "masks", "packing"},
    "attention": {"errors", "autocast", "callable_package", "keyed", "masks"},
    "models": {"errors", "autocast", "keyed", "machine", "masks", "packing", "batch", "attention"},
    "audit": {"errors", "callable_package", "report", "settings", "masks", "batch", "models"},
    "corruption": {"errors", "files", "keyed", "packing", "report", "settings"},
    "loading": {"errors", "seeded"},
    "data": {"errors", "batch", "corruption", "packing"},
    "objectives": {
        "errors",
        "autocast",
        "keyed",
        "masks",
        "batch",
        "packing",
        "models",
        "corruption",
        "data",
    },
    "engine": {"errors", "models", "data", "objectives"},
    "runs": {
        "errors",
        "files",
        "machine",
        "report",
        "seeded",
        "settings",
        "masks",
        "models",
        "corruption",
        "loading",
        "data",
        "objectives",
        "engine",
    },
    "compare_masking": {
        "errors",
        "files",
        "machine",
        "markers",
        "report",
        "seeded",
        "settings",
        "corruption",
        "loading",
        "data",
        "objectives",
        "runs",
    },
    "serving": {"errors", "batch", "models", "objectives", "packing"},
    "apps": {"errors", "objectives", "runs", "serving"},
}
ALLOWED: dict[str, set[str]] = {
    **LIBRARY,
    "bench": {*LIBRARY},
    "demo": {*LIBRARY, "bench"},
    "cli": {*LIBRARY, "bench", "demo"},
    "__main__": {"cli"},
}
# `from yanma import unpad` goes through the whole package, so only those at the end of the road may write it.
MAY_IMPORT_PUBLIC_NAMES = {"bench", "demo", "cli"}

# What the extras bring: nobody who only wants masks and attention should wait for it.
HEAVY = (
    "accelerate datasets huggingface_hub jieba matplotlib pandas peft pyarrow pydantic rich safetensors scipy "
    "sentence_transformers sentencepiece seqeval sklearn tensorboard tokenizers transformers typer"
).split()


def part_of(path: Path) -> str:
    """The part a file belongs to: the first folder or module below the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def forbidden_imports(path: Path, source: str) -> list[str]:
    """A sentence for each import in the file, wherever it stands, that the table above does not allow."""
    part = part_of(path)
    if part == "__init__":
        return []  # collects the public names from anywhere; what that may cost is a test of its own
    package = ".".join(("yanma", *path.relative_to(PACKAGE).parent.parts))
    where = f"src/yanma/{path.relative_to(PACKAGE).as_posix()}"
    if part not in ALLOWED:
        return [f"{where}: '{part}' is not in the table of parts; add it with what it may import"]
    sentences = []
    for line, target in _imports_of_ours(ast.parse(source), package):
        if target == "yanma":
            allowed = part in MAY_IMPORT_PUBLIC_NAMES
        else:
            allowed = target == part or target in ALLOWED[part]
        if not allowed:
            may = ", ".join(sorted(ALLOWED[part])) or "nothing of ours"
            sentences.append(f"{where}:{line} imports {target}, but {part} may import only: {may}")
    return sentences


def test_the_page_of_the_architecture_knows_every_room_and_every_path_of_it_is_there():
    page = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    table = page.split("## Rooms")[1].split("Words:")[0]
    missing = [room for room in rooms & set(ALLOWED) - {"__main__"} if f"`{room}" not in table]
    assert not missing, f"docs/architecture.md says nothing of {sorted(missing)}"
    named = re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:\.py|/))`", page)
    assert len(named) > 40, f"only {len(named)} paths found: this test has lost its subject"
    gone = [path for path in named if not (PACKAGE / path).exists()]
    assert not gone, f"docs/architecture.md names {gone}, which are not there"


def test_the_table_of_the_architecture_names_arrows_that_are_allowed():
    page = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|.*\| ([^|]*) \|$", page.split("## Rooms")[1], re.MULTILINE)
    told = {room: arrows.split() for names, arrows in rows for room in re.findall(r"`([a-z_]+)", names)}
    assert len(told) > 15, "this test has lost its subject"
    for room, arrows in told.items():
        if arrows not in (["everything"], ["nothing", "of", "ours"]):
            assert set(arrows) <= ALLOWED[room], f"{room} may not import {set(arrows) - ALLOWED[room]}"
    for room in (room for room, arrows in told.items() if arrows == ["nothing", "of", "ours"]):
        assert not ALLOWED[room], f"{room} may import {ALLOWED[room]}, and the page says nothing"


def test_no_class_of_data_objectives_and_runs_has_the_name_of_another():
    found: dict[str, list[str]] = {}
    for path in (path for room in ("data", "objectives", "runs") for path in (PACKAGE / room).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(path.name)
    assert len(found) > 40, "this test has lost its subject"
    twice = {name: paths for name, paths in found.items() if len(paths) > 1}
    assert not twice, f"one name, two things: {twice}"


def _imports_of_ours(tree: ast.Module, package: str) -> list[tuple[int, str]]:
    """(line, part) of each import; the part is "yanma" for a public name of the package itself."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = [f"yanma.{alias.name}" if alias.name in ALLOWED else "yanma" for alias in node.names]
            modules = names if base == "yanma" else [base]
        else:
            continue
        for module in modules:
            top, *below = module.split(".")
            if top == "yanma":
                found.add((node.lineno, below[0] if below else "yanma"))
    return sorted(found)


def test_every_import_follows_the_arrows():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) >= 12, f"only {len(files)} modules found in {PACKAGE}: this test has lost its subject"
    sentences = [s for path in files for s in forbidden_imports(path, path.read_text(encoding="utf-8"))]
    assert not sentences, "\n".join(["imports against the arrows:", *sentences])


def test_a_part_imports_only_parts_above_it():
    above: set[str] = set()
    for part, allowed in ALLOWED.items():
        assert allowed <= above, f"{part} may import {sorted(allowed - above)}, which do not stand above it"
        above.add(part)


@pytest.mark.parametrize(
    ("file", "source", "part"),
    [
        ("masks/tree.py", "from ..batch import PackedBatch", "batch"),
        ("masks/tree.py", "from .. import attention", "attention"),
        ("masks/tree.py", "def f():\n    from yanma.models import linear", "models"),
        ("masks/tree.py", "import yanma.models.linear as linear", "models"),
        ("masks/tree.py", "if TYPE_CHECKING:\n    from yanma import runs", "runs"),
        ("packing.py", "from .batch import PackedBatch", "batch"),
        ("packing.py", "from . import unpad", "yanma"),
        ("models/__init__.py", "from ..runs import train", "runs"),
        ("runs/loop.py", "import yanma", "yanma"),
        ("data/rows/words.py", "from ...models import unpad", "models"),
    ],
)
def test_a_forbidden_import_is_caught_however_it_is_written(file, source, part):
    sentences = forbidden_imports(PACKAGE / file, f"import torch\n{source}\n")
    assert len(sentences) == 1 and f"imports {part}," in sentences[0], (
        f"{source!r} in {file} imports {part}: caught {sentences}"
    )


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (
            "masks/tree.py",
            "from .interval import Interval\nfrom . import picture\nfrom ..errors import Unsupported",
        ),
        ("batch.py", "from .masks import documents\nfrom yanma.packing import groups"),
        ("cli/train.py", "def train():\n    from yanma import unpad\n    from ..runs import train"),
        ("runs/loop.py", "import yanmar\nfrom torch import yanma"),
        ("__init__.py", "from .models import unpad"),
    ],
)
def test_an_allowed_import_is_let_through(file, source):
    assert not forbidden_imports(PACKAGE / file, source), f"{source!r} is allowed in {file}"


def test_a_part_that_is_not_in_the_table_is_named():
    (sentence,) = forbidden_imports(PACKAGE / "utils.py", "")
    assert "'utils' is not in the table" in sentence, "the sentence names the unknown part"


def _in_a_fresh_process(code: str):
    """What the code prints last, from JSON; a warning on the way is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"python -c {code!r} fails:\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


LOADED = "import sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def test_importing_yanma_pulls_in_torch_and_nothing_heavier():
    loaded = _in_a_fresh_process(f"import yanma; {LOADED}")
    assert "torch" in loaded, "yanma is built on torch"
    heavy = sorted(set(HEAVY) & set(loaded))
    assert not heavy, f"`import yanma` also imports {heavy}; import them in the functions that need them"


def test_the_command_line_imports_its_parts_only_when_a_command_runs():
    loaded = _in_a_fresh_process(f"import yanma.cli; {LOADED}")
    assert "typer" in loaded, "the command line is built on typer"
    heavy = sorted((set(HEAVY) - {"pydantic", "rich", "typer"}) & set(loaded))  # typer needs these two itself
    assert not heavy, f"`yanma --help` waits for {heavy}; import them in the commands that need them"


@pytest.mark.parametrize("package", ["typer", "accelerate"])
def test_without_the_extra_the_command_line_says_in_one_line_what_to_install(package, tmp_path):
    """The package is hidden from a fresh process, as if it were not installed."""
    code = (
        f"import sys, runpy; sys.modules[{package!r}] = None\n"
        f"sys.argv = ['yanma', 'evaluate', {str(tmp_path)!r}, 'a.jsonl']\n"
        "runpy.run_module('yanma', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == f"error: the command line needs the package {package}: pip install 'yanma[train]'\n"


def test_all_names_what_is_public_in_order():
    code = (
        "import yanma, json, types\n"
        "here = [n for n, v in vars(yanma).items() if n[0] != '_' and not isinstance(v, types.ModuleType)]\n"
        "lost = [n for n in yanma.__all__ if not hasattr(yanma, n)]\n"
        "print(json.dumps([yanma.__all__, here, lost]))"
    )
    names, here, lost = _in_a_fresh_process(code)
    assert names == sorted(names), f"yanma.__all__ is not sorted; sorted: {sorted(names)}"
    assert len(names) == len(set(names)), "a name stands twice in yanma.__all__"
    assert not lost, f"yanma.__all__ names {lost}, which yanma does not have"
    unnamed = sorted(set(here) - set(names))
    assert not unnamed, f"yanma has {unnamed}, which yanma.__all__ does not name"
