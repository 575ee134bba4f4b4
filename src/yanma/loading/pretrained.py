"""Models and tokenizers from a folder or a hub name: safetensors only, no code from elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from huggingface_hub.utils import logging as hub_logging
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from ..errors import ConfigError, Unsupported
from ..seeded import seeded
from .convert import convert_pickle, convert_sentencepiece, convert_tokenizer
from .head import classes_of, renew, set_task, weights_of_head

_HUB_PATIENCE_S = 10.0
_FETCHED_FIRST = ("config.json", "tokenizer_config.json")
_TOKENIZERS = ("tokenizer*.json", "vocab.*", "*.model", "*.tiktoken")

_ONE_OUTPUT = ("LABEL_0",)
_POSITIONS = ("position_embeddings", "position_embedding", "embed_positions", "wpe")
"""What tables of positions are called."""


@dataclass(frozen=True)
class Loaded:
    """A model with the head that the task needs, its weights in float32."""

    model: PreTrainedModel
    fresh: tuple[str, ...]
    """Names of the weights that were not in the folder, or had another shape or meaning there, and start at random."""
    labels: tuple[str, ...] = ()
    """The classes' names in the order of the head's outputs; () where no classes were asked for."""
    notes: tuple[str, ...] = ()
    """What the user should read."""


def check_place(name: str) -> None:
    """Refuse a name that is a path without a model, or that the hub does not answer for, before anything is loaded.

    Raises ConfigError for a folder that is missing or holds no model, Unsupported for a pickle checkpoint.
    """
    _check_no_file(name, "model")
    if is_elsewhere(name):
        return _check_hub(name)
    folder = at_home(name)
    if not folder.is_dir():
        raise ConfigError(f"{name}: no such model folder")
    if not (folder / "config.json").is_file():
        within = _meant(folder, "config.json")
        raise ConfigError(f"{name}: no config.json in it, so this is not a model folder{within}")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(
            path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")
        )
        if pickles:
            raise Unsupported(
                f"{name}: holds only a pickle checkpoint ({pickles[0]}), which could run code when loaded; "
                f"{convert_pickle(pickles[0])}"
            )
        raise ConfigError(f"{name}: no model.safetensors in it")


def _check_no_file(name: str, what: str) -> None:
    if at_home(name).is_file():
        folder = at_home(name).parent
        raise ConfigError(
            f"{name}: a file; a {what} is a folder, or a name on the hub; did you mean {folder}?"
        )


def _meant(folder: Path, *files: str) -> str:
    """A question, where a run's folder is given and its model is meant."""
    model = folder / "model"
    return f"; did you mean {model}?" if any(any(model.glob(name)) for name in files) else ""


def is_elsewhere(name: str) -> bool:
    """Whether it is no folder here, and may be one of a hub's names."""
    return not looks_like_a_path(name) and not at_home(name).is_dir()


def _check_hub(name: str) -> None:
    """Refuse at once a name that the hub does not answer for; transformers would try again for most of a minute.

    What was fetched before needs no hub. Raises ConfigError.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        with quiet():
            if not any(isinstance(try_to_load_from_cache(name, file), str) for file in _FETCHED_FIRST):
                HfApi().model_info(name, timeout=_HUB_PATIENCE_S)
    except HFValidationError:
        raise ConfigError(f"{name}: no such folder here, and no name that a hub could have") from None
    except (
        Exception
    ) as error:  # the hub's client raises nearly everything: no network, no such name, no right, ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"{name}: no model folder of this name, and the hub gives none (mind its spelling, and the network): "
            f"{reason}"
        ) from None


def looks_like_a_path(name: str) -> bool:
    """True for what can only be meant as a folder: a hub name is NAME or OWNER/NAME, and no folder here is OWNER.

    >>> [looks_like_a_path(name) for name in ("./m", "/srv/m", "~/m", "a/b/c", "m/", "bert-base-cased", "org/bert")]
    [True, True, True, True, True, False, False]
    """
    owner, *rest = name.split("/")
    if name.startswith((".", "/", "~")) or "\\" in name or len(rest) > 1:
        return True
    return bool(rest) and (rest == [""] or Path(owner).is_dir())


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a folder or hub name.

    Raises ConfigError where there is none, Unsupported for a slow one, which cannot say which word a token is of.
    """
    if at_home(name).suffix == ".model" and at_home(name).is_file():
        raise ConfigError(f"{name}: {convert_sentencepiece(at_home(name))}")
    _check_no_file(name, "tokenizer")
    if is_elsewhere(name):
        _check_hub(name)
    elif not at_home(name).is_dir():
        raise ConfigError(f"{name}: no such tokenizer folder")
    elif not any(any(at_home(name).glob(files)) for files in _TOKENIZERS):
        within = _meant(at_home(name), *_TOKENIZERS)
        raise ConfigError(f"{name}: no tokenizer in it (tokenizer.json, vocab.txt, ...){within}")
    tokenizer = _asked(
        name,
        lambda: AutoTokenizer.from_pretrained(_place(name), trust_remote_code=False),
        None if is_elsewhere(name) else convert_tokenizer(at_home(name)),
    )
    if not tokenizer.is_fast:
        raise Unsupported(f"{name}: its tokenizer has no fast form (tokenizer.json)")
    if len(tokenizer) <= len(
        tokenizer.all_special_tokens
    ):  # what transformers makes up where the files are missing
        raise ConfigError(f"{name}: no tokenizer in it (tokenizer.json, vocab.txt, ...)")
    return tokenizer  # type: ignore[no-any-return]


def load_model(name: str, head: str, labels: Sequence[str], *, dropout: float | None = None) -> Loaded:
    """The model of a folder or hub name under a head for the classes `labels`, which are named in its config.

    `head` is that of an `AutoModelFor...`, such as "TokenClassification"; without labels it has one output. A head that
    knows these classes is kept, and so is its order of them: `Loaded.labels`. Any other is replaced by a fresh one;
    `Loaded.fresh` tells. Draws from torch's own generator: call it within `seeded`.
    """
    auto = auto_of(head)
    config = _config(auto, name)
    classes = classes_of(config, f"For{head}", labels or _ONE_OUTPUT)
    set_task(config, head, classes.labels)
    loaded = _load(auto, name, config, dropout)
    fresh, note = loaded.fresh, classes.note
    if not classes.keeps_head:
        weights = weights_of_head(loaded.model, auto)
        if set(weights) <= set(fresh):
            note = None  # there was none, or one of another size: `fresh` says so
        else:
            renew(loaded.model, auto, weights)
            fresh = tuple(sorted({*fresh, *weights}))
    notes = loaded.notes if note is None else (*loaded.notes, f"{name}: {note}")
    return Loaded(loaded.model, fresh, classes.labels if labels else (), notes)


def load_finished(name: str, head: str) -> Loaded:
    """The model of a folder with the head and the classes that it was saved with."""
    return load_with(auto_of(head), name)


def auto_of(head: str) -> Any:
    """transformers' `AutoModelFor...` of a head, such as "MaskedLM"."""
    return getattr(transformers, f"AutoModelFor{head}")


def load_with(auto: Any, name: str, *, dropout: float | None = None) -> Loaded:
    """The model of a folder or hub name as an `AutoModelFor...` of transformers' loads it, in float32.

    Raises ConfigError or Unsupported for what cannot be loaded.
    """
    return _load(auto, name, _config(auto, name), dropout)


def _config(auto: Any, name: str) -> PreTrainedConfig:
    """Raises ConfigError for a model that has no such head."""
    check_place(name)
    config = _asked(name, lambda: AutoConfig.from_pretrained(_place(name), trust_remote_code=False))
    if type(config) not in auto._model_mapping:
        head = auto.__name__.removeprefix("AutoModelFor")
        raise ConfigError(
            f"{name}: a model of the type {config.model_type}, which has no head {head}; take another"
        )
    return config  # type: ignore[no-any-return]


def _load(auto: Any, name: str, config: PreTrainedConfig, dropout: float | None) -> Loaded:
    stored = config.dtype
    if dropout is not None:
        set_dropout(config, dropout)
    model, info = _asked(
        name,
        lambda: auto.from_pretrained(
            _place(name),
            config=config,
            dtype=torch.float32,  # in the checkpoint's own, small updates would be rounded away
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        ),
    )
    fresh = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if len(fresh) >= len(model.state_dict()):
        raise ConfigError(f"{name}: none of its weights fits {type(model).__name__}")
    notes = () if stored in (None, torch.float32) else (_in_float32(name, stored),)
    return Loaded(model, tuple(fresh), notes=notes)


def _in_float32(name: str, stored: object) -> str:
    stored_as = str(stored).removeprefix("torch.")
    return f"{name}: weights of {stored_as} are trained, and saved, in float32"


def load_as_saved(name: str) -> PreTrainedModel:
    """The model of a folder or hub name with the head that it was saved with, in float32.

    Weights that it lacks are the same in every process, and no generator of the caller's is moved.

    Raises ConfigError or Unsupported for what cannot be loaded.
    """
    check_place(name)
    config = _asked(name, lambda: AutoConfig.from_pretrained(_place(name), trust_remote_code=False))
    named: Any = getattr(transformers, (config.architectures or [""])[0], None)
    is_model = isinstance(named, type) and issubclass(named, PreTrainedModel)
    load = (named if is_model else AutoModel).from_pretrained
    with seeded(0):
        model: PreTrainedModel = _asked(
            name,
            lambda: load(_place(name), dtype=torch.float32, use_safetensors=True, trust_remote_code=False),
        )
    return model


def labels(name: str) -> tuple[str, ...]:
    """The labels' names in a model's config, by class id."""
    config = _asked(name, lambda: AutoConfig.from_pretrained(_place(name), trust_remote_code=False))
    return tuple(config.id2label[index] for index in range(len(config.id2label)))


def fresh_model(
    config: PreTrainedConfig, head: str, labels: Sequence[str], *, dropout: float | None
) -> Loaded:
    """A model with random weights, of torch's own generator: call it within `seeded`."""
    set_task(config, head, labels or _ONE_OUTPUT)
    fresh = fresh_with(auto_of(head), config, dropout=dropout)
    return Loaded(fresh.model, fresh.fresh, tuple(labels))


def fresh_with(auto: Any, config: PreTrainedConfig, *, dropout: float | None = None) -> Loaded:
    """A model with random weights, as `fresh_model`'s, of the class that an `AutoModelFor...` names."""
    if dropout is not None:
        set_dropout(config, dropout)
    return Loaded(auto.from_config(config), ("all",))


def longest_text(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Tokens of the longest text that the model can read, special tokens counted; None where nothing limits it."""
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < 10**9 else []
    for path, module in model.named_modules():
        if path.endswith(_POSITIONS) and isinstance(module, nn.Embedding):
            # RoBERTa counts positions from its padding id + 1, BART from an offset of 2
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - cast(int, getattr(module, "offset", first)))
    return min(limits, default=None)


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that knows more tokens than the model."""
    embeddings = model.get_input_embeddings()
    if isinstance(embeddings, nn.Embedding) and len(tokenizer) > embeddings.num_embeddings:
        raise ConfigError(
            f"the tokenizer has {len(tokenizer)} tokens, the model knows {embeddings.num_embeddings}; "
            f"they do not belong together"
        )


def set_dropout(config: PreTrainedConfig, dropout: float) -> None:
    """Set every dropout rate that a config has (attention, hidden states, head).

    >>> from transformers import DistilBertConfig
    >>> config = DistilBertConfig()
    >>> set_dropout(config, 0.0)
    >>> config.dropout, config.attention_dropout, config.seq_classif_dropout
    (0.0, 0.0, 0.0)
    """
    numbers = (int, float, type(None))  # and not bool
    rates = [
        key
        for key, value in config.to_dict().items()
        if ("dropout" in key or key.endswith("_pdrop")) and type(value) in numbers
    ]
    if not rates:
        raise ConfigError(f"[model] dropout: {config.model_type} has no dropout to set")
    if not hasattr(
        config, "hidden_dropout"
    ):  # else the head of a decoder that tags has 0.1, of no key of its config
        rates.append("classifier_dropout")
    for key in rates:
        setattr(config, key, dropout)


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' and the hub's own bars, reports and retries; what matters is told in yanma's words."""
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hub_verbosity = hub_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hub_logging.set_verbosity(logging.ERROR)
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if bars:
            hf_logging.enable_progress_bar()


def at_home(name: str | Path) -> Path:
    """The path with `~` spelled out, where there is such a home."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # no such user
        return Path(name)


def _place(name: str) -> str:
    folder = at_home(name)
    return str(folder) if folder.is_dir() else name


def _asked(name: str, load: Callable[[], Any], unknown: str | None = None) -> Any:
    """What transformers loads, its many kinds of failure as one line; `unknown` where it does not know what to load."""
    from safetensors import SafetensorError

    try:
        with quiet():
            return load()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if unknown is not None and "instantiate the backend tokenizer" in reason:
            reason = unknown
        elif reason.endswith(":"):  # a list follows
            reason = " ".join(str(error).split())
        if isinstance(error, SafetensorError):
            reason = f"its .safetensors file is damaged or cut off, fetch it again ({reason})"
        if "trust_remote_code" in str(error):
            reason = "it needs code that comes with it, which yanma does not run"
        elif not at_home(name).is_dir():
            reason = f"no such folder here; as a name on the hub: {reason}"
        raise ConfigError(f"{name}: {reason}") from error
