"""How what cannot be loaded as it lies there is made loadable, in words: yanma itself converts nothing."""

from __future__ import annotations

from pathlib import Path

_WHOSE = (
    (("vocab.json", "merges.txt"), ("RobertaTokenizer", "GPT2Tokenizer")),
    (("vocab.txt",), ("BertTokenizer",)),
    (("spiece.model",), ("T5Tokenizer", "XLNetTokenizer")),
    (("sentencepiece.bpe.model",), ("XLMRobertaTokenizer", "CamembertTokenizer")),
)
"""Files of a vocabulary, and the tokenizers of transformers' that may be meant by them."""


def convert_tokenizer(folder: Path) -> str | None:
    """What to do with a folder of a vocabulary that does not say whose it is; None where it has none.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "vocab.txt").write_text("[PAD]")
    >>> convert_tokenizer(folder).partition(": ")[0]
    'vocab.txt does not say whose it is; convert it once'
    """
    for files, (kind, *others) in _WHOSE:
        if all((folder / name).is_file() for name in files):
            does, it = ("do", "they are") if len(files) > 1 else ("does", "it is")
            them = "them" if len(files) > 1 else "it"
            where = repr(str(folder))
            other = f" (or {', '.join(others)}, as the model has it)" if others else ""
            return (
                f"{' and '.join(files)} {does} not say whose {it}; convert {them} once: "
                f"transformers.{kind}.from_pretrained({where}).save_pretrained({where}){other}"
            )
    models = sorted(folder.glob("*.model"))
    return convert_sentencepiece(models[0]) if models else None


def convert_sentencepiece(model: Path) -> str:
    """What to do with a model of SentencePiece's that lies alone."""
    return (
        f"{model.name} is a model of SentencePiece's; copy it into a folder, as spiece.model for T5 or as "
        f"sentencepiece.bpe.model for XLM-R, and convert it there: "
        f"transformers.T5Tokenizer.from_pretrained('DIR').save_pretrained('DIR') (or XLMRobertaTokenizer)"
    )


def convert_pickle(name: str) -> str:
    """What to do with weights in a pickle."""
    return (
        f"convert it once: import torch, safetensors.torch; "
        f"safetensors.torch.save_file({{key: value.clone() for key, value in "
        f"torch.load('{name}', weights_only=True).items()}}, 'model.safetensors', {{'format': 'pt'}})"
    )
