"""A text as a model of each kind reads it: what stands at its places, and which token each place should point to.

What differs hangs on what a family is pretrained for, which its record says (models/families.py): READINGS has a
function for each such objective, as OBJECTIVES in train/recipes.py has.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.contract import Filler, Model, Writer
from models.ernie_gen import ERNIEGen
from models.generate.answers import answer_ids
from models.inputs import dress
from models.sentences import words_of_sentences
from models.sight import Sight
from models.t5 import shift_right
from models.tokenizers import ElmoCharacters, Tokenizer, Words
from tinytensor import Tensor, ops
from tinytensor.ops.softmax import IGNORED

MASKED_EVERY = 7  # about as many as in BERT's training


@dataclass
class Reading:
    """One text.

    sides: the tokens' names on each side of the model, by what the names of its layers begin with.
    ids: likewise their ids.   look: lets the model read the text once.
    points: the side whose vectors point to tokens, and to which.   truth: (T,), the right ones, IGNORED where unknown.
    ask: lets the model read the text T times, place t being blotted out in row t; None if it sees no truth anyway.
    lens: None, or vectors (T, C) -> scores (T, V), where that is not what the layers above would make of them.
    layers: None, or what stands behind each layer of each side, (L + 1, T, C), where there are no blocks to watch.
    batch: what its loss is taken of, if it has one.   start: of a writer, the ids it goes on from, and its source's.
    streams: what each layer is called for in turn, where that is more than one thing; the first points to tokens.
    picture: what was looked at before the text, (side, side, 3).   writer: what goes on from `start`, if not the model.
    """

    sides: dict[str, list[str]]
    ids: dict[str, list[int]]
    look: Callable[[], object]
    points: tuple[str, str]
    truth: np.ndarray
    batch: dict | None = None
    ask: Callable[[], object] | None = None
    lens: Callable[[np.ndarray], np.ndarray] | None = None
    layers: Callable[[], dict[str, np.ndarray]] | None = None
    start: tuple[np.ndarray, np.ndarray | None] | None = None
    streams: tuple[str, ...] = ("",)
    picture: np.ndarray | None = None
    writer: Writer | None = None


def name_of(tokenizer: Tokenizer, token: int) -> str:
    """A token as a reader should see it: spaces and line ends visible, bytes as the character they are."""
    if token >= tokenizer.vocab_size or tokenizer.tokens[token] is None:
        return f"<{token}>"
    name = tokenizer.tokens[token]
    if token in tokenizer.special_tokens.values() or tokenizer.continuing:
        return name
    text = tokenizer.decode([token])
    space = bool(tokenizer.opening) and name.startswith(tokenizer.opening) and not text.startswith(" ")
    shown = " " * space + text if text and "\ufffd" not in text else name.replace(tokenizer.opening or " ", " ")
    return shown.replace(" ", "␣").replace("\n", "⏎")


def causal(model: Model, tokenizer: Tokenizer, text: str, answer: str | None, most: int) -> Reading:
    ids = tokenizer.encode(text)[: min(most, model.longest or most)]
    if len(ids) < 2:
        raise ValueError(f"{len(ids)} tokens are read of --text {text[:40]!r}; it takes two, and --tokens 2 or more")
    row = np.array([ids])
    batch = {"ids": row, "targets": np.append(row[:, 1:], [[IGNORED]], axis=1)}
    names = [name_of(tokenizer, i) for i in ids]
    return Reading({"": names}, {"": ids}, lambda: model.scores(batch), ("", "the next token"), batch["targets"][0],
                   batch, start=(row, None))  # fmt: skip


def pictured(model: Sight, tokenizer: Tokenizer, text: str, pixels: np.ndarray, most: int) -> Reading:
    """A text behind a picture, whose patches stand before the tokens."""
    read, along = causal(model, tokenizer, text, None, most), model.config.side // model.config.patch
    names = [f"▦{row + 1},{column + 1}" for row in range(along) for column in range(along)]
    read.sides[""], read.ids[""] = names + read.sides[""], [-1] * len(names) + read.ids[""]
    read.truth = np.concatenate([np.full(len(names), IGNORED), read.truth])
    read.batch |= {"pixels": pixels[None]}
    normed = model.norm or (lambda x: x)
    read.lens = lambda x: ops.linear(normed(Tensor(x)), model.output_table).numpy()
    read.picture, read.writer = pixels, model.looking_at(pixels)
    return read


def masked(model: Filler, tokenizer: Tokenizer, text: str, answer: str | None, most: int) -> Reading:
    row = tokenizer.prepare([text], max_length=min(most, model.config.context), special=True)
    ids, types, mask = row.ids, row.types, row.mask
    open_ = np.flatnonzero(~np.isin(ids[0], list(tokenizer.special_tokens.values())))
    if not len(open_):
        raise ValueError(f"--text {text[:40]!r}, cut to --tokens {most}, has no token that could be guessed")
    blotted = np.repeat(ids, ids.shape[1], axis=0)
    blotted[open_, open_] = tokenizer.mask_id
    truth = np.full(ids.shape[1], IGNORED)
    truth[open_] = ids[0, open_]
    some, targets = ids.copy(), np.full_like(ids, IGNORED)
    some[0, open_[::MASKED_EVERY]], targets[0, open_[::MASKED_EVERY]] = tokenizer.mask_id, ids[0, open_[::MASKED_EVERY]]
    names = [name_of(tokenizer, i) for i in ids[0]]
    several = lambda a: np.repeat(a, len(blotted), axis=0)
    ask = lambda: model.body.features({"ids": blotted, "token_types": several(types), "mask": several(mask)})
    batch = {"ids": some, "token_types": types, "mask": mask, "targets": targets}
    return Reading({"": names}, {"": ids[0].tolist()}, lambda: model.fill_scores(ids, types, mask),
                   ("", "the token that stands here, were it blotted out"), truth,
                   None if "mlm" in model.untrained else batch, ask)  # fmt: skip


def text_to_text(model: Writer, tokenizer: Tokenizer, text: str, answer: str | None, most: int) -> Reading:
    row, end = tokenizer.prepare([text], max_length=most, special=True), model.config.eos_id
    if answer is None:
        targets = answer_ids(model, row.ids, row.mask, min(most, 24))
    else:
        targets = np.array([[*tokenizer.encode(answer, special=True)[: most - 1], end]])
    batch = {"ids": row.ids, "mask": row.mask, "targets": targets}
    read = shift_right(targets, model.config.pad_id)
    ids = {"encoder": row.ids[0].tolist(), "decoder": read[0].tolist()}
    names = {side: [name_of(tokenizer, i) for i in some] for side, some in ids.items()}
    return Reading(names, ids, lambda: model.scores(batch), ("decoder", "the next token"), targets[0], batch,
                   start=(read[:, :1], row.ids))  # fmt: skip


def infilling(model: ERNIEGen, tokenizer: Tokenizer, text: str, answer: str | None, most: int) -> Reading:
    """Source, contextual flow and word queries stand side by side; the queries point to the words of the answer."""
    row, end = tokenizer.prepare([text], max_length=min(most, model.longest // 2), special=True), model.config.eos_id
    room = min(24, model.longest - row.ids.shape[1])
    if answer is None:
        targets = answer_ids(model, row.ids, row.mask, room)
    else:
        targets = np.array([[*tokenizer.encode(answer, special=True)[: room - 1], end]])
    batch = {"ids": row.ids, "mask": row.mask, "targets": targets}
    ids = model.rows(batch).ids[0].tolist()
    truth = np.concatenate([np.full(len(ids) - targets.size, IGNORED), targets[0]])
    start = shift_right(targets, model.config.start_id)[:, :1], row.ids
    return Reading({"": [name_of(tokenizer, i) for i in ids]}, {"": ids}, lambda: model.logits(model.flows(batch)[0]),
                   ("", "the word that an [ATTN] stands for"), truth, batch, start=start)  # fmt: skip


def bidirectional(model: Model, tokenizer: Tokenizer, text: str, answer: str | None, most: int) -> Reading:
    words = dress(words_of_sentences(text))[0][:most]
    if not words:
        raise ValueError(f"--text {text[:40]!r} has no word")
    spelled = ElmoCharacters(model.config.characters).encode_words(words).astype(np.int16)[None]
    predicts = model.softmax is not None and isinstance(tokenizer, Words)
    known = [tokenizer.ids.get(word, tokenizer.unk_id) for word in words] if predicts else [IGNORED] * len(words)
    truth = np.array([*known[1:], IGNORED])
    truth[truth >= model.config.vocab_size] = tokenizer.unk_id if predicts else IGNORED

    def layers() -> dict[str, np.ndarray]:
        halves = np.stack([np.split(layer.numpy()[0], 2, axis=-1) for layer in model.marked_layers(spelled)[0]])
        return {"forward": halves[:, 0], "backward": halves[:, 1]}

    lens = (lambda x: model.softmax.scores(Tensor(x)).numpy()) if predicts else None
    return Reading(dict.fromkeys(("forward", "backward"), words), dict.fromkeys(("forward", "backward"), known),
                   layers, ("forward", "the next word"), truth, lens=lens, layers=layers)  # fmt: skip


def permutation(model: Filler, tokenizer: Tokenizer, text: str, answer: str | None, most: int) -> Reading:
    row = tokenizer.prepare([text], max_length=min(most, model.config.context), special=True)
    ids, places = row.ids, np.arange(row.ids.shape[1])
    open_ = np.flatnonzero(~np.isin(ids[0], list(tokenizer.special_tokens.values())))
    if not len(open_):
        raise ValueError(f"--text {text[:40]!r}, cut to --tokens {most}, has no token that could be guessed")
    several = lambda a: np.repeat(a, len(places), axis=0)
    blotted, some, truth = several(ids), open_[None, ::MASKED_EVERY], np.full(len(places), IGNORED)
    blotted[open_, open_], truth[open_] = tokenizer.mask_id, ids[0, open_]
    sees = np.broadcast_to(~np.isin(places, some), (1, len(places), len(places)))  # what is predicted nobody sees
    batch = {"ids": ids, "token_types": row.types, "sees": sees, "places": some, "targets": ids[:, some[0]]}
    lens = lambda x: ops.linear(Tensor(x), model.output_table, model.output_bias).numpy()
    others = ~np.eye(len(places), dtype=bool)[None]  # shows who looks at whom; a guess each must be asked for alone
    look = lambda: model(ids, row.types, sees=others, places=places[None])
    return Reading({"": [name_of(tokenizer, i) for i in ids[0]]}, {"": ids[0].tolist()},
                   look, ("", "the token that stands here, by the others"), truth, batch,
                   lambda: model.fill_scores(blotted, several(row.types), several(row.mask)), lens,
                   start=(ids[:, open_], None), streams=("query stream", "content stream"))  # fmt: skip


READINGS: dict[str, Callable[..., Reading]] = {
    "causal": causal, "pictures": causal, "masked": masked, "text to text": text_to_text, "infilling": infilling,
    "bidirectional": bidirectional, "permutation": permutation}
