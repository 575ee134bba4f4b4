"""`yanma demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import fail, say


def demo(
    out: Annotated[Path, typer.Option(help="folder for its data, run and figures")] = Path("runs/demo"),
) -> None:
    """Fine-tune MiniLM on real text, and time it side by side with padding. Needs the extra `demo`, no network."""
    from ..bench.parity import ParityError
    from ..demo import run

    try:
        run(out)
    except ParityError as error:
        fail(str(error), code=1)
    except KeyboardInterrupt:
        say("interrupted; the next `yanma demo` begins anew")
        raise typer.Exit(130) from None
