"""`yanma pretrain`."""

from __future__ import annotations

import json

from ..runs.pretrain_config import PretrainConfig
from .flags import Config, Overwrite, Resume, one_flag_a_setting, wished
from .output import Json, leaving, put


@one_flag_a_setting(PretrainConfig)
def pretrain(
    config: Config = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    as_json: Json = False,
    **flags: str | bool | list[str] | None,
) -> None:
    """Pre-train a model on texts: find hidden tokens, replaced tokens, hidden spans, or the next token.

    Example: yanma pretrain --objective mlm --train a.txt --from-scratch bert-mini --unit word --steps 1000 --out runs/x
    """
    wanted = wished(PretrainConfig, config, flags, overwrite=overwrite, resume=resume)
    with leaving(PretrainConfig, wanted.out):
        from ..runs.pretrain import pretrain as run

        done = run(wanted, overwrite=overwrite, resume=resume)
    if as_json:
        put(json.dumps(done.as_dict(), ensure_ascii=False))
