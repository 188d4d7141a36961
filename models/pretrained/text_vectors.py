"""Folders of sentence-transformers: how the vector of a text is made of its tokens' (Reimers & Gurevych 2019).

modules.json lists the steps: the model, in the folder itself or in one below; the pooling, with its config.json; and
perhaps a normalization. sentence_bert_config.json beside the model says at how many tokens a text is cut (in newer
folders tokenizer_config.json does), config_sentence_transformers.json what stands before a text or a query.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.files import JSON_BYTES, parse_json, read_json, read_text
from models.hub import newest_snapshot
from models.schema import Count, check, checked

POOLS = ("mean", "cls", "max")  # what may become of all tokens' vectors: their mean, the first, the largest numbers
OLD_NAMES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
STEPS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])


@dataclass(frozen=True)
class TextVectors:
    """How to make them. model: its folder.   max_length: tokens that a text is cut to (0: what the model can read).

    before, before_query: what is put in front of a text, and of a query that looks for one.
    """

    model: Path
    pool: str = "mean"
    normalize: bool = True
    max_length: int = 0
    lowercase: bool = False
    before: str = ""
    before_query: str = ""

    def prepared(self, texts: list[str], query: bool = False) -> list[str]:
        """The texts as the model reads them: behind what stands before them, and in small letters if it wants them."""
        texts = [(self.before_query if query else self.before) + text for text in texts]
        return ["".join(map(str.lower, text)) for text in texts] if self.lowercase else texts  # each for itself


@dataclass(frozen=True)
class Step:
    type: str
    path: str = ""


@dataclass(frozen=True)
class Reading:
    """Of sentence_bert_config.json, what changes the vectors."""

    max_seq_length: Count | None = None
    do_lower_case: bool = False
    transformer_task: Literal["feature-extraction"] = "feature-extraction"
    module_output_name: Literal["token_embeddings"] = "token_embeddings"
    processing_kwargs: dict[str, None] | None = None


@dataclass(frozen=True)
class Prompts:
    """Of config_sentence_transformers.json. The first of the names that has a prompt is used."""

    prompts: dict[str, str] | None = None
    default_prompt_name: str | None = None

    def of(self, *names: str | None) -> str:
        return next((self.prompts[name] for name in names if name in (self.prompts or {})), "")


def text_vectors(folder: Path) -> TextVectors:
    """What such a folder says; of any other folder, the mean of its model's vectors, with length 1."""
    folder = newest_snapshot(folder)
    if not (listed := folder / "modules.json").exists():
        return TextVectors(folder)
    found = check(parse_json(read_text(listed, most=JSON_BYTES), listed), list, f"{listed}: it")
    steps = [checked(Step, step, listed, others=True) for step in found]
    kinds = [step.type.rpartition(".")[2] for step in steps]
    if kinds not in STEPS:
        raise ValueError(f"{listed} has the steps {', '.join(kinds)}; embed takes Transformer, Pooling and Normalize, "
                         "in this order")
    model, pooling = folder / steps[0].path, folder / steps[1].path / "config.json"
    table = read_json(pooling, "the settings of a pooling")
    reading, prompts = _read(Reading, model, "sentence_*_config.json"), _read(Prompts, folder, "config_sentence_*.json")
    before = prompts.of("document", "passage", "corpus", prompts.default_prompt_name)
    before_query = prompts.of("query", prompts.default_prompt_name)
    if (before or before_query) and not table.get("include_prompt", True):
        raise ValueError(f"{pooling} leaves out the vectors of the prompt, which embed does not; its include_prompt "
                         "must be true")
    return TextVectors(model, _pool(table, pooling), kinds[-1] == "Normalize", _longest(reading, model),
                       reading.do_lower_case, before, before_query)


def _read(kind: type, folder: Path, name: str):
    """The dataclass of a file that may be missing."""
    path = next(iter(sorted(folder.glob(name))), None)
    return kind() if path is None else checked(kind, read_json(path), path, others=True)


def _pool(table: dict, path: Path) -> str:
    modes = table.get("pooling_mode") or [name for name, on in table.items() if name.startswith("pooling_mode_") and on]
    modes = [OLD_NAMES.get(mode, str(mode)) for mode in ([modes] if isinstance(modes, str) else modes or ["mean"])]
    if len(modes) > 1 or modes[0] not in POOLS:
        raise ValueError(f"{path} asks for the pooling {' + '.join(modes)}; embed has {', '.join(POOLS)}")
    return modes[0]


def _longest(reading: Reading, model: Path) -> int:
    """0 where nothing is said, or only a number that means no limit."""
    about = model / "tokenizer_config.json"
    said = read_json(about).get("model_max_length") if about.exists() else None
    return reading.max_seq_length or (said if isinstance(said, int) and 0 < said < 2**31 else 0)
