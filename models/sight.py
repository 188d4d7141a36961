"""A GPT that reads a picture before its text, as GPT-4 does at its interface: pictures and text in, text out.

A picture is cut into patches; each becomes a vector by one linear layer and a norm, and stands in front of the text as
if it were a token (Fuyu, Bavishi et al. 2023; the cutting is ViT's, Dosovitskiy et al. 2020, arXiv:2010.11929):

    32 x 32 pixels, patches of 4 x 4        64 rows of 48 numbers -> 64 vectors | What colour is the dog? red
    vector = norm(patch W + b) + row + column        a position of its own for each row and column of patches

Notable, against a GPT:
- the vectors of a picture see each other, all of them; the text sees the picture, and itself from left to right
- several texts may stand behind one picture, `parts`: each sees the picture and itself, as if it stood there alone, so
  that a picture is read once for all that is asked about it
- the norm gives what is in a patch ten times the weight that its place has, or the place would drown it
- no loss is taken of the picture: it is there to be read
Without a picture it is a GPT, and any GPT can become one (`from_gpt`). How GPT-4 itself reads pictures is not public.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NoReturn, Self

import numpy as np

from models.config import option
from models.contract import Writer
from models.gpt import GPT, GPTConfig
from models.schema import Few
from nn import DecoderCache, Embedding, LayerNorm, Linear, Module, init
from nn.attention import KVCache, positions_of
from nn.recompute import remade
from nn.transformer import Block, Stream
from tinytensor import Tensor, backend, no_grad, ops


@dataclass(frozen=True)
class SightConfig(GPTConfig):
    """The shape of a GPT that reads pictures."""

    presets: ClassVar[dict[str, dict]] = {"toy": dict(vocab_size=512, context=64, layers=4, heads=4, width=128)}

    side: Few = option(32, "pixels along a side of a picture")
    patch: Few = option(4, "pixels along a side of a patch")

    def __post_init__(self):
        super().__post_init__()
        if self.side % self.patch:
            raise ValueError(f"patches of {self.patch} pixels do not fill a side of {self.side}; try --patch "
                             f"{next(n for n in range(self.patch, 0, -1) if self.side % n == 0)}")
        if self.window:
            raise ValueError(f"window {self.window}: every block must see the whole picture; leave out --window")
        if self.rotary:
            raise ValueError(f"rotary {self.rotary}: a GPT that reads pictures has learned positions; leave it out")

    @property
    def patches(self) -> int:
        """N, the vectors of a picture."""
        return (self.side // self.patch) ** 2


class Sight(GPT):
    """ids (B, T) -> logits (B, T, V), behind a picture where there is one.

    pixels: (B, side, side, 3), numbers from 0 to 1.   parts: (B, T), which of several texts a token belongs to.
    mask, cache: see GPT; what a cache holds of a picture, `new_cache` has read.
    """

    config_class, kinds = SightConfig, ()

    def __init__(self, config: SightConfig):
        super().__init__(config)
        c, self.repeatable = config, False
        numbers, along = 3 * c.patch**2, c.side // c.patch
        self.patch_layer = Linear(numbers, c.width, weight_init=init.normal(1 / math.sqrt(numbers)))
        self.patch_norm = LayerNorm(c.width, c.bias, c.norm_eps)
        self.rows = Embedding(along, c.width, init.normal(c.init_std))
        self.columns = Embedding(along, c.width, init.normal(c.init_std))

    def _block(self, layer: int, weights: init.Initializer, residual: init.Initializer) -> Block:
        block = super()._block(layer, weights, residual)
        block.attention.causal = False  # who sees whom is said by a mask: a picture's vectors look both ways
        return block

    @classmethod
    def from_gpt(cls, gpt: GPT, **changes) -> Self:
        """A GPT, with a fresh layer for pictures.   changes: side, patch"""
        sight = cls(SightConfig(**dataclasses.asdict(gpt.config) | changes))
        sight.load_state_dict(sight.state_dict() | gpt.state_dict())
        return sight

    # ---- reading

    def look(self, pixels) -> Tensor:
        """(B, side, side, 3) -> the picture's vectors (B, N, C)"""
        c, xp = self.config, self.rows.weight.xp
        if pixels.shape[1:] != (c.side, c.side, 3):
            raise ValueError(f"pictures have shape {pixels.shape}, expected (B, {c.side}, {c.side}, 3)")
        cut = cut_patches(xp.asarray(pixels, self.rows.weight.dtype), c.patch)
        where = self.rows.weight.expand_dims(1) + self.columns.weight  # (rows, columns, C)
        vectors = self.patch_norm(self.patch_layer(Tensor(2 * cut - 1)))
        return self.dropout(vectors + where.reshape(c.patches, c.width))

    def hidden(self, ids, mask=None, cache: DecoderCache | None = None, loads: list | None = None, pixels=None,
               parts=None) -> Tensor:  # fmt: skip
        """The final vectors of the text, (B, T, C)."""
        x, keys = self._embed(ids, mask, cache) if parts is None else (self._embed_parts(ids, parts), mask)
        before, T = 0 if pixels is None else self.config.patches, ids.shape[1]
        if before:
            x = ops.concatenate([self.look(pixels), x], axis=1)  # (B, N + T, C)
        seen = who_sees(T, before, cache.length if cache else 0, keys, parts)
        return self._through(x, None if seen is None else backend.beside(x.data, seen), cache, loads)[:, before:]

    def _through(self, x: Tensor, seen, cache: DecoderCache | None, loads: list | None) -> Tensor:
        stream = Stream(x, loads=loads)
        for block, layer in zip(self.blocks, cache.layers if cache else [None] * len(self.blocks)):
            again = self.config.recompute and cache is None
            stream = remade(block, stream, seen) if again else block(stream, seen, cache=layer)
        return stream.normalized(self.norm) if self.norm else stream.full

    def _embed_parts(self, ids, parts) -> Tensor:
        """Of several texts in a row, the vectors of tokens and positions, each text from position 0 on.

        parts: each token's text, by number; -1 where there is none.
        """
        places = np.arange(ids.shape[1])
        first = np.where(np.diff(parts, axis=1, prepend=-1) != 0, places, 0)
        positions = np.where(parts < 0, 0, places - np.maximum.accumulate(first, axis=1))
        self._check_length(int(positions.max(initial=0)) + 1)
        return self.dropout(self.token_embedding(ids) + self.position_embedding(positions))

    def __call__(self, ids, mask=None, cache: DecoderCache | None = None, pixels=None, parts=None) -> Tensor:
        return (self.head or self.token_embedding).compared(self.hidden(ids, mask, cache, pixels=pixels, parts=parts))

    def loss(self, batch: dict, counts: dict[str, int] | None = None) -> Tensor:
        """As GPT's; batch: also "pixels" and "parts", if there is a picture."""
        loads, counts = [] if self.training else None, counts or self.divisors(batch)
        hidden = self.hidden(batch["ids"], batch.get("mask"), None, loads, batch.get("pixels"), batch.get("parts"))
        loss = (self.head or self.token_embedding).cross_entropy(hidden, batch["targets"]) / counts["targets"]
        return loss + self.config.penalty(loads, counts=counts) if loads else loss

    def scores(self, batch: dict) -> Tensor:
        return self(batch["ids"], batch.get("mask"), None, batch.get("pixels"), batch.get("parts"))

    # ---- writing

    def new_cache(self, batch: int, capacity: int | None = None, pixels=None) -> DecoderCache:
        """Empty memory for `batch` texts, or one that has read a picture, (side, side, 3)."""
        before = 0 if pixels is None else self.config.patches
        capacity, like = (capacity or self.config.context) + before, self.token_embedding.weight.data
        cache = PictureCache([block.attention.new_cache(batch, capacity, like) for block in self.blocks], before)
        if before:
            with no_grad():
                self._through(self.look(np.broadcast_to(pixels, (batch, *pixels.shape))), None, cache, None)
        return cache

    def looking_at(self, pixels) -> "Looking":
        """What writes about a picture, (side, side, 3), by whatever models/generate has."""
        return Looking(self, pixels)

    # ---- files

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> NoReturn:
        raise ValueError(f"{folder}: no layout of a GPT that reads pictures was ever published; a run is opened with "
                         "models.load")

    def save_pretrained(self, folder: str | Path, tokenizer=None) -> NoReturn:
        raise ValueError(f"{folder}: no layout of a GPT that reads pictures was ever published, so none is written; "
                         "the folder of its run opens with models.load")


class PictureCache(DecoderCache):
    """Memory that begins with a picture, of `before` vectors, which count as no positions of the text."""

    def __init__(self, layers: list[KVCache], before: int = 0):
        super().__init__(layers)
        self.before = before

    def look(self, T: int, mask=None) -> tuple:
        start, end = self.length - self.before, self.length - self.before + T
        _, seen = super().look(T, mask)
        if seen is None:
            return slice(start, end), None
        return positions_of(self.seen[:, self.before : self.before + end])[:, start:], seen


class Looking(Module, Writer):
    """A Sight that has a picture before it; it writes as any Writer does."""

    steps_alike = False

    def __init__(self, sight: Sight, pixels: np.ndarray):
        self.sight, self.pixels, self.config, self.step = sight, pixels, sight.config, sight.step

    @property
    def longest(self) -> int:
        return self.config.context

    def new_cache(self, batch: int, capacity: int | None = None) -> DecoderCache:
        return self.sight.new_cache(batch, capacity, self.pixels)


def cut_patches(pixels, patch: int):
    """(B, S, S, 3) -> (B, N, patch * patch * 3): patches row by row, and in each its pixels row by row."""
    B, S, _, channels = pixels.shape
    n = S // patch
    grid = pixels.reshape(B, n, patch, n, patch, channels).swapaxes(2, 3)  # (B, rows, columns, patch, patch, 3)
    return grid.reshape(B, n * n, patch * patch * channels)


def who_sees(T: int, before: int, read: int, keys=None, parts=None):
    """Booleans (1 or B, before + T, read + before + T): what each vector may look at; None: everything.

    T tokens of a text stand behind `before` vectors of a picture, or behind `read` ones that a cache holds.
    keys: (B, read + T), False at padding.   parts: (B, T), texts that do not see each other.
    """
    if T == 1 and not before:
        return None if keys is None else keys[:, None]
    seen = np.ones((1, before + T, read + before + T), bool)
    seen[:, :before, read + before :] = False
    text = np.tri(T, read + T, read, dtype=bool)[None]
    if keys is not None:
        text = text & backend.to_numpy(keys)[:, None]
    if parts is not None:
        text = text & (parts[:, :, None] == parts[:, None])
    if len(text) > 1:
        seen = np.repeat(seen, len(text), axis=0)
    seen[:, before:, :read], seen[:, before:, read + before :] = text[:, :, :read], text[:, :, read:]
    return seen
