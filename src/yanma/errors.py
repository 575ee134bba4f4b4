"""What yanma raises.

YanmaError
├── ConfigError    a setting that is unknown, missing or impossible       (the command line exits with 2)
├── DataError      input that cannot be used; the message names file:line (the command line exits with 1)
└── Unsupported    a wish that cannot be honoured exactly, and who can    (the command line exits with 2)

Wrong arguments of a Python call are plain `ValueError`s: each class here is one too.
"""


class YanmaError(ValueError):
    """Base of everything yanma raises on purpose."""


class ConfigError(YanmaError):
    """A setting is unknown, missing or impossible."""


class DataError(YanmaError):
    """Input data cannot be used; the message names `file:line` where there is one."""


class Unsupported(YanmaError):
    """What was asked for cannot be honoured exactly; the message says by whom it can."""
