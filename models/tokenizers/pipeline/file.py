"""tokenizer.json as it is published: read into steps, each checked by name and option, and written again.

The layout is that of the `tokenizers` library: truncation, padding, added tokens, normalizer, pre_tokenizer,
post_processor, decoder and model in one file. A step or an option that is not known here is refused by its name.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from models.files import read_json, write_json
from models.schema import Id, Whole, checked, shown
from models.tokenizers.base import Frame, Special, Tokenizer, file_to_read, tokenizer_file
from models.tokenizers.pipeline.decoders import DECODERS
from models.tokenizers.pipeline.models import MODELS, Model, Unigram
from models.tokenizers.pipeline.normalizers import NORMALIZERS
from models.tokenizers.pipeline.postprocessors import PROCESSORS, Offsets, TemplateProcessing
from models.tokenizers.pipeline.pretokenizers import PRETOKENIZERS

# the steps that each part of the file may name, and what its Sequence calls them
PARTS = {"normalizer": (NORMALIZERS, "normalizers"), "pre_tokenizer": (PRETOKENIZERS, "pretokenizers"),
         "post_processor": (PROCESSORS, "processors"), "decoder": (DECODERS, "decoders")}


@dataclass(frozen=True)
class Truncation:
    """How rows are cut that are too long. stride: by how much the parts of a text overlap, where there are several."""

    direction: Literal["Right", "Left"] = "Right"
    max_length: Whole | None = 512
    strategy: Literal["LongestFirst", "OnlyFirst", "OnlySecond"] = "LongestFirst"
    stride: Whole = 0


@dataclass(frozen=True)
class Padding:
    """How rows are made equally long: as the longest, or {"Fixed": n}; a multiple of a number."""

    strategy: Literal["BatchLongest"] | dict[str, Whole] = "BatchLongest"
    direction: Literal["Right", "Left"] = "Right"
    pad_to_multiple_of: Whole | None = None
    pad_id: Id = 0
    pad_type_id: Whole = 0
    pad_token: str = "[PAD]"

    def length(self, longest: int) -> int:
        """Of rows of which the longest has so many tokens."""
        least = longest if isinstance(self.strategy, str) else max(longest, self.strategy["Fixed"])
        return -(-least // self.pad_to_multiple_of) * self.pad_to_multiple_of if self.pad_to_multiple_of else least


@dataclass(frozen=True)
class AddedToken:
    """An entry of added_tokens; see base.Special."""

    id: Id
    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = False

    def token(self) -> Special:
        return Special(self.id, self.lstrip, self.rstrip, self.single_word, self.normalized, self.special)


@dataclass(frozen=True)
class Steps:
    """What a text passes through, but for the model; None where there is no such step."""

    normalizer: object = None
    pre_tokenizer: object = None
    post_processor: object = None
    decoder: object = None

    def trimmed(self, tokens: list[str], offsets: Offsets) -> Offsets:
        return self.post_processor.trimmed(tokens, offsets) if self.post_processor else offsets

    def frame(self) -> Frame:
        """What the post-processor puts around texts."""
        return (self.post_processor and self.post_processor.frame()) or Frame()


def listed(step: object) -> tuple:
    """The steps of a Sequence, and of those in it; a step by itself; nothing of None."""
    inner = next(iter(vars(step).values()), None) if type(step).__name__ == "Sequence" else None
    return tuple(one for each in inner for one in listed(each)) if inner is not None else (step,) * (step is not None)


@dataclass
class Published:
    """A tokenizer.json that has been read and checked."""

    path: Path
    steps: Steps
    model: Model
    added: dict[str, Special] = field(default_factory=dict)
    truncation: Truncation | None = None
    padding: Padding | None = None
    longest: int | None = None  # text that the model was made for

    def pad_token(self) -> str | None:
        """The padding token the file names, if it is an added token, else the first usual one that it has."""
        if self.padding:
            return self.padding.pad_token if self.padding.pad_token in self.added else None
        return usual_pad_token(self.added)

    def finish(self, tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer made of this file, with what every scheme takes from it."""
        tokenizer.steps, tokenizer.longest = self.steps, self.longest
        tokenizer.truncation, tokenizer.padding = self.truncation, self.padding
        return tokenizer

    def need(self, kind: str) -> None:
        """ValueError unless the model is of this kind."""
        if type(self.model).__name__ != kind:
            raise ValueError(f"{self.path} holds a {type(self.model).__name__} model, not {kind}; "
                             f"open it with models.tokenizers.load")


# ---- reading

def read_published(path: str | Path) -> Published:
    path = file_to_read(path)
    spec = read_json(path, "a tokenizer")
    if not isinstance(spec.get("model"), dict):
        raise ValueError(f"{path} has no model: it is not a tokenizer.json of a published kind")
    known = {"version", "truncation", "padding", "added_tokens", "model", *PARTS}
    if unknown := [name for name in spec if name not in known]:
        raise ValueError(f"{path}: {unknown[0]!r} is not known in a tokenizer.json")
    steps = Steps(**{part: read_step(spec.get(part), part, path) for part in PARTS})
    model = read_model(spec["model"], path)
    added = {}
    for entry in spec.get("added_tokens") or []:
        token = checked(AddedToken, entry, f"{path}: added_tokens")
        if (found := model.vocab.get(token.content, token.id)) != token.id:
            raise ValueError(f"{path}: the added token {token.content!r} has id {token.id} there, and {found} in the "
                             f"vocabulary")
        added[token.content] = token.token()
    for name, i in steps.post_processor.named().items() if steps.post_processor else ():
        if name not in added or added[name].id != i:
            raise ValueError(f"{path}: the post_processor puts {name!r} (id {i}) around texts, which is not an added "
                             f"token with that id")
    others = {name: cls for name, cls in (("truncation", Truncation), ("padding", Padding)) if spec.get(name)}
    return Published(path, steps, model, added, **{
        name: checked(cls, spec[name], f"{path}: {name}") for name, cls in others.items()})


def read_step(spec: object, part: str, path: Path) -> object:
    """A step of this part of the file, as the small class of its name; None of null."""
    if spec is None:
        return None
    known, plural = PARTS[part]
    cls, options = named_kind(spec, known, f"{path}: the {part}")
    if cls.__name__ != "Sequence":
        return checked(cls, options, f"{path}: {part} {cls.__name__}")
    if not isinstance(options.get(plural), list) or len(options) > 1:
        raise ValueError(f"{path}: a Sequence in the {part} has {plural} and nothing else")
    try:
        return cls(tuple(read_step(each, part, path) for each in options[plural]))
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from None


def named_kind(spec: object, known: tuple[type, ...], where: str) -> tuple[type, dict]:
    """The class that a table's "type" names, and its other entries."""
    if not isinstance(spec, dict):
        raise ValueError(f"{where} must be a table or null, not {shown(spec)}")
    classes = {cls.__name__: cls for cls in known}
    if not isinstance(spec.get("type"), str) or spec["type"] not in classes:
        raise ValueError(f"{where} {shown(spec.get('type'))} is not known; known are {', '.join(classes)}")
    return classes[spec["type"]], {name: value for name, value in spec.items() if name != "type"}


def read_model(spec: dict, path: Path) -> Model:
    spec = dict(spec)
    if "merges" in spec:
        spec.setdefault("type", "BPE")
        if isinstance(spec["merges"], list):  # older files have strings with a space between
            spec["merges"] = [merge.split(" ") if isinstance(merge, str) else merge for merge in spec["merges"]]
    cls, options = named_kind(spec, MODELS, f"{path}: the model")
    if cls is Unigram and "vocab" in options:
        options["pieces"] = options.pop("vocab")
    return checked(cls, options, f"{path}: model {cls.__name__}")


# ---- writing

def write_published(path: str | Path, tokenizer: Tokenizer, model: Model, steps: Steps) -> None:
    """Writes tokenizer.json: the steps of the file the tokenizer came from, else these; the rest as it is now."""
    steps, added, padding, cut = tokenizer.steps or steps, tokenizer.added, tokenizer.padding, tokenizer.truncation
    if steps.frame() != tokenizer.frame:
        template = TemplateProcessing.of(tokenizer.frame, {name: token.id for name, token in added.items()})
        steps = dataclasses.replace(steps, post_processor=template)
    found_again = usual_pad_token(added) if padding is None else padding.pad_token
    if tokenizer.pad_token and not (tokenizer.steps and tokenizer.pad_token == found_again):
        padding = dataclasses.replace(padding or Padding(), pad_id=tokenizer.pad_id, pad_token=tokenizer.pad_token)
    tokens = [AddedToken(token.id, name, token.single_word, token.lstrip, token.rstrip, token.normalized, token.special)
              for name, token in sorted(added.items(), key=lambda entry: entry[1].id)]
    table = {one.name: getattr(model, one.name) for one in dataclasses.fields(model)}
    if isinstance(model, Unigram):
        table["vocab"] = table.pop("pieces")
    write_json(tokenizer_file(path), {
        "version": "1.0", "truncation": cut and cut.max_length and dataclasses.asdict(cut),
        "padding": padding and dataclasses.asdict(padding), "added_tokens": [dataclasses.asdict(one) for one in tokens],
        **{part: step_table(getattr(steps, part), part) for part in PARTS},
        "model": {"type": type(model).__name__} | table})


def step_table(step: object, part: str) -> dict | None:
    """A step as the file has it."""
    if step is None:
        return None
    name, plural = type(step).__name__, PARTS[part][1]
    if name == "Sequence":
        return {"type": name, plural: [step_table(each, part) for each in getattr(step, plural)]}
    options = dataclasses.asdict(step)
    if name == "Metaspace":
        del options["add_prefix_space"]  # prepend_scheme says it
    return {"type": name} | options


def usual_pad_token(added: dict[str, Special]) -> str | None:
    """What fills up rows where the file does not say it."""
    return next((token for token in ("<pad>", "[PAD]", "<|endoftext|>") if token in added), None)
