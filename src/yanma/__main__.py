"""The program `yanma`, also `python -m yanma`: the command line where what it needs is installed, else one line."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; say which extra to install where a package of another one is missing."""
    try:
        from .cli import main as run

        run()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "yanma"):  # a slip of ours
            raise
        sys.exit(f"error: the command line needs the package {package}: pip install 'yanma[train]'")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
