"""ELMo: vectors for words that depend on their sentence, from two LSTMs that read it both ways (Peters et al. 2018).

Each word is read by its characters, so there are no unknown words. One stack of LSTMs reads the sentence forwards and
learns to predict the next word; another reads it backwards and predicts the word before. What they have seen when they
reach a word is that word in its context: `bank` by the river gets another vector than `bank` in the city.

Notable (arXiv:1802.05365; the published code is bilm-tf):
- characters are UTF-8 bytes; convolutions of seven widths, the maximum over the word, two highways, a projection
- a big cell (4096) with a small projected output (512), both clipped; layers above the first add their input
- both directions share the characters' encoder and the softmax, but no LSTM
- a task weighs the layers itself: a scalar mix of the token vectors and each LSTM layer, both directions side by side
- the states go on from batch to batch, in training and in the published evaluation
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np

from models.config import Config, option
from models.contract import Body, Model, StaticBatch
from models.pretrained.elmo import read_published, write_published
from models.schema import Count, Few, FewOrNone, NotNegative, Share, Whole
from models.tokenizers import ElmoCharacters
from nn import LSTM, Dropout, Embedding, Linear, Module, ScalarMix, check_finite, init, shapes_only
from nn.compression import storage
from nn.conv import CharacterConvolutions, Highway
from nn.softmax import AdaptiveSoftmax, FullSoftmax, SampledSoftmax
from tinytensor import Tensor, backend, ops

SOFTMAXES = ("full", "sampled", "adaptive")
CHARACTERS = 262  # 256 bytes, five marks, and row 0 for padded words
PADDING = 261  # the id of a padded character

# The published sizes, and one that trains on a laptop's CPU.
PRESETS: dict[str, dict] = {
    "toy": dict(width=64, hidden=256, char_width=16, filters="1x16,2x32,3x48,4x32", highways=1),
    "elmo-small": dict(width=128, hidden=1024, highways=1),
    "elmo-medium": dict(width=256, hidden=2048, highways=1),
    "elmo": {},
}


@dataclass(frozen=True)
class ELMoConfig(Config):
    """The shape of an ELMo."""

    presets: ClassVar[dict[str, dict]] = PRESETS

    vocab_size: Whole = option(793471, "V, the number of words the softmax tells apart (0: no softmax)")
    width: Count = option(512, "P, the length of token vectors and of each LSTM's output")
    hidden: Count = option(4096, "the cells of each LSTM; narrower outputs than that are projections")
    layers: Few = option(2, "L, the LSTM layers in each direction")
    char_width: Count = option(16, "the length of a character's vector")
    filters: str = option("1x32,2x32,3x64,4x128,5x256,6x512,7x1024", "the convolutions, as WIDTHxCOUNT", "LIST")
    activation: Literal["relu", "tanh"] = option("relu", "of the convolutions: relu or tanh")
    highways: FewOrNone = option(2, "the highway layers above them")
    char_projection: bool = option(True, "a linear layer from the filters' answers to the width")
    characters: Few = option(50, "the longest word in bytes, its two marks included; the rest is cut off")
    cell_clip: NotNegative = option(3.0, "the largest value of a cell (0: no limit)")
    proj_clip: NotNegative = option(3.0, "the largest value of a projected output (0: no limit)")
    skip: bool = option(True, "layers above the first add their input to their output")
    dropout: Share = option(0.1, "share dropped from each LSTM layer's input and the last one's output in training")
    softmax: Literal[*SOFTMAXES] = option("full", f"how words are predicted: {', '.join(SOFTMAXES)}")
    samples: Count = option(8192, "the words a sampled softmax compares with")
    mix_norm: bool = option(False, "a task sees each layer with mean 0 and variance 1 over the batch")
    mix_dropout: Share = option(0.0, "share dropped from what a task's mix gives it, in training")
    mix_l2: NotNegative = option(0.0, "how strongly a task's weights of the layers are pulled to the plain average")
    cutoffs: str = option("", "where an adaptive softmax cuts the vocabulary, as N,N,... [V/8, V/2]", "LIST")

    def __post_init__(self):
        super().__post_init__()
        if self.width > self.hidden:
            raise ValueError(f"width {self.width} is more than the {self.hidden} hidden cells; lower it to that")
        widest = max(width for width, _ in self.filter_pairs)
        if self.characters < widest:
            raise ValueError(f"a filter {widest} wide does not fit into words of {self.characters} characters")
        if not self.char_projection and self.filter_count != self.width:
            raise ValueError(f"without char_projection the {self.filter_count} filters must be the width, {self.width}")

    @property
    def filter_pairs(self) -> list[tuple[int, int]]:
        """(width, count) of each convolution."""
        try:
            pairs = [tuple(int(n) for n in pair.split("x")) for pair in self.filters.split(",")]
            if all(width >= 1 and count >= 1 for width, count in pairs):
                return pairs
        except ValueError:
            pass
        raise ValueError(f"filters {self.filters!r} must be like 1x32,2x32,3x64: WIDTHxCOUNT, ...")

    @property
    def filter_count(self) -> int:
        return sum(count for _, count in self.filter_pairs)


class CharacterEncoder(Module):
    """Words as character ids (..., characters) -> vectors (..., width), each word by itself."""

    def __init__(self, config: ELMoConfig):
        self.embedding = Embedding(CHARACTERS, config.char_width, _zero_for_padded_words)
        self.convolutions = CharacterConvolutions(config.char_width, config.filter_pairs, config.activation)
        count = config.filter_count
        self.highways = [Highway(count) for _ in range(config.highways)]
        weights = init.normal(count**-0.5)
        self.projection = Linear(count, config.width, weight_init=weights) if config.char_projection else None
        self.widest = max(width for width, _ in config.filter_pairs)

    def __call__(self, ids, every: bool = False) -> Tensor:
        """Each different word is encoded once, however often it occurs in `ids`.

        every: encode all, and whole: the work must not depend on how many differ, as in a StaticBatch.
        """
        if every:
            return self.encode(ids.reshape(-1, ids.shape[-1])).reshape(*ids.shape[:-1], -1)
        words, places = different_rows(backend.to_numpy(ids).reshape(-1, ids.shape[-1]))
        device = self.embedding.weight.xp.asarray
        return ops.embedding(self.encode(device(self.without_padding(words))), device(places.reshape(ids.shape[:-1])))

    def encode(self, words) -> Tensor:
        """(N, characters) -> (N, width)"""
        x = self.convolutions(self.embedding(words))  # (N, characters, char_width) -> (N, filters)
        for highway in self.highways:
            x = highway(x)
        return self.projection(x) if self.projection else x

    def without_padding(self, words: np.ndarray) -> np.ndarray:
        """Only as many padded characters as the longest word's end needs to meet every filter once.

        All windows of padding alone give the same answer, so the maximum is that of one of them.
        """
        used = ((words != PADDING) & (words != 0)).any(axis=0)
        longest = words.shape[1] - int(used[::-1].argmax()) if used.any() else 0
        return words[:, : max(longest, 1) + self.widest]


def _zero_for_padded_words(shape: tuple[int, ...]) -> np.ndarray:
    table = init.uniform(1.0)(shape)
    table[0] = 0
    return table


def different_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the different rows of (N, M), for each row its place among them)."""
    rows = np.ascontiguousarray(rows, np.int16)
    if not rows.size:
        return rows.astype(np.int64), np.zeros(len(rows), np.int64)
    whole = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]  # one value a row, compared as bytes
    _, first, places = np.unique(whole, return_index=True, return_inverse=True)
    return rows[first].astype(np.int64), places


class ELMo(Module, Model, Body):
    """Sentences, as lists of words -> (layers, mask): see __call__."""

    def __init__(self, config: ELMoConfig):
        self.config = c = config
        self.tokenizer = ElmoCharacters(c.characters)
        self.encoder = CharacterEncoder(c)
        self.forward = [_lstm(c, reverse=False) for _ in range(c.layers)]
        self.backward = [_lstm(c, reverse=True) for _ in range(c.layers)]
        self.dropout = Dropout(c.dropout)
        self.softmax = _softmax(c) if c.vocab_size else None
        self.mix = _mix(c)
        self.state: dict | None = None  # what stateful reading left behind, a row for each sentence of the batch

    @property
    def repeatable(self) -> bool:
        """Whether a step does the same for every batch of one shape, so that a CUDA graph can repeat it (--graph).

        Not so the sampled and the adaptive softmax, whose work depends on the words; nor does CuPy join more than 8
        arrays without a word from the CPU.
        """
        return self.config.softmax == "full" and len(self.config.filter_pairs) <= 8

    def __call__(self, sentences: list[list[str]], stateful: bool = False) -> tuple[list[Tensor], np.ndarray]:
        """(layers, mask) of B sentences, each a list of words, the longest of T words.

        layers: the token vectors (twice, side by side), then the output of each LSTM layer, forwards and backwards side
        by side; each (B, T, 2 * width), 0 on padding.  mask: (B, T), True on words.

        stateful: each row goes on from the state that the same row of the call before ended in, as in the published
        evaluation, which makes the same sentence come out different the next time; `reset()` starts anew. Otherwise
        every sentence is read by itself.
        """
        if not len(sentences):
            raise ValueError("ELMo reads a list of sentences, each a list of words; this one is empty")
        ids = self.tokenizer.encode_batch(sentences)  # (B, T + 2, characters), with marks, 0 on padding
        layers, mask = self.marked_layers(ids, self._kept_state(len(ids)) if stateful else None)
        inside = np.arange(ids.shape[1] - 2) < mask.sum(axis=1)[:, None] - 2  # the words, without the sentence's marks
        keep = layers[0].xp.asarray(inside[:, :, None], layers[0].dtype)
        return [layer[:, 1:-1] * keep for layer in layers], inside

    def marked_layers(self, ids: np.ndarray, state: dict | None = None) -> tuple[list[Tensor], np.ndarray]:
        """The layers at every place of `ids` (B, T, characters), the sentences' marks among them, and their mask."""
        mask = backend.to_numpy((ids != 0).any(axis=-1))  # (B, T)
        x = self.encoder(ids)  # (B, T, width)
        keep = x.xp.asarray(mask)
        forward, backward = self.read(x, x, state or self.new_state(len(ids)), keep)
        tokens = x * keep[:, :, None].astype(x.dtype)
        return [ops.concatenate(pair, axis=-1) for pair in [(tokens, tokens), *zip(forward, backward)]], mask

    def read(self, x: Tensor, y: Tensor, state: dict, mask=None) -> tuple[list[Tensor], list[Tensor]]:
        """What each layer of the forward LSTMs makes of x, and of the backward LSTMs of y; both (B, T, width).

        state: as new_state makes it; overwritten with the state after the last step.
        """
        sides = []
        for side, (lstms, inputs) in enumerate([(self.forward, x), (self.backward, y)]):
            outputs = []
            for layer, lstm in enumerate(lstms):
                inputs = self.dropout(inputs)
                h, c = (state[name][:, side, layer] for name in ("state_h", "state_c"))
                output, (h_n, c_n) = lstm(inputs, (Tensor(h[None]), Tensor(c[None])), mask)
                h[...], c[...] = h_n.data[0], c_n.data[0]
                inputs = output + inputs if layer and self.config.skip else output
                outputs.append(inputs)
            sides.append(outputs)
        return tuple(sides)

    def as_body(self) -> Self:
        """For a task: without the softmax, and without the dropout, which were for predicting words."""
        self.softmax, self.dropout = None, Dropout(0.0)
        return self

    def counts(self, batch: dict) -> dict[str, int]:
        """How many words the loss of a batch is a mean over, in each direction."""
        return {"forward": ops.count_targets(batch["targets"]), "backward": ops.count_targets(batch["back_targets"])}

    def loss(self, batch: dict, counts: dict[str, int] | None = None) -> Tensor:
        """The mean of -log p over the next words and over the words before, in nats; half of the two's sum.

        ids, targets: (B, T, characters) and (B, T): a stretch of text, and the word after each of its words.
        back_ids, back_targets: another such stretch (it may be the same), and the word before each of its words.
        state_h, state_c: the states to go on from, overwritten with those after the last step. Without them both
            stretches are read as the beginning of a text.
        """
        if self.softmax is None:
            raise ValueError("this ELMo has no softmax (nor have the published weights); give it a vocab_size to train")
        counts = counts or self.divisors(batch)
        both = [batch["ids"], batch["back_ids"]]
        both = self.encoder(backend.array_module(both[0]).stack(both), every=isinstance(batch, StaticBatch))
        state = {name: batch[name] for name in ("state_h", "state_c") if name in batch}
        sides = self.read(both[0], both[1], state or self.new_state(len(batch["ids"])))
        forward, backward = (self.softmax.loss(self.dropout(outputs[-1]), batch[targets])
                             for outputs, targets in zip(sides, ("targets", "back_targets")))
        return (forward / counts["forward"] + backward / counts["backward"]) / 2

    def scores(self, batch: dict) -> Tensor:
        """(B, T, V): of the word after each, by the forward half."""
        x = self.encoder(batch["ids"])
        forward, _ = self.read(x, x, self.new_state(len(batch["ids"])))
        return self.softmax.scores(forward[-1])

    # ---- as the body under a task's head (models/heads.py)

    pools = False

    @property
    def feature_width(self) -> int:
        return 2 * self.config.width

    def features(self, batch: dict) -> Tensor:
        """The mixed representation of batch["ids"] (B, T, characters), every place by itself: (B, T, 2 * width)."""
        layers, mask = self.marked_layers(batch["ids"])
        return self.mix(layers, layers[0].xp.asarray(mask))

    def summary(self, batch: dict) -> Tensor:
        """The mean of each text's features, (B, 2 * width)."""
        mixed = self.features(batch)
        counts = (batch["ids"] != 0).any(axis=-1).sum(axis=1).clip(1)
        return mixed.sum(axis=1) / mixed.xp.asarray(counts[:, None], mixed.dtype)

    def remix(self, **changes) -> Self:
        """Begin anew to mix, with other options: mix_norm, mix_dropout, mix_l2."""
        self.config = replace(self.config, **changes)
        self.mix = _mix(self.config)
        return self

    def penalty(self) -> Tensor:
        return self.mix.penalty()

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Freeze (False) or unfreeze everything but the mix: how to weigh the layers is always the task's to learn."""
        super().requires_grad_(wanted)
        self.mix.requires_grad_(True)
        return self

    # ---- the state

    def new_state(self, rows: int) -> dict:
        """The state before any text: zeros, (rows, 2 directions, layers, width and hidden)."""
        c, like = self.config, self.encoder.embedding.weight
        zeros = lambda width: like.xp.zeros((rows, 2, c.layers, width), like.dtype)
        return {"state_h": zeros(c.width), "state_c": zeros(c.hidden)}

    def reset(self) -> None:
        """Forget what was read with stateful=True."""
        self.state = None

    def _kept_state(self, rows: int) -> dict:
        """That many rows of self.state, to be written to; new ones begin with zeros."""
        state = self.state or self.new_state(0)
        more = self.new_state(max(0, rows - len(state["state_h"])))
        join = self.encoder.embedding.weight.xp.concatenate
        self.state = {name: join([array, more[name]]) for name, array in state.items()}
        return {name: array[:rows] for name, array in self.state.items()}

    @classmethod
    def from_pretrained(cls, options: str | Path, weights: str | Path, **changes) -> Self:
        """The published files, options.json and the hdf5 weights (needs h5py), in evaluation mode.

        changes: of the config, such as dropout=0.5, or vocab_size=10000 for a softmax to train (the files have none).
        """
        fields, state = read_published(options, weights)
        config = ELMoConfig(**({"vocab_size": 0} | fields | changes))
        own = lambda model: {n: array for n, array in model.state_dict().items() if n.startswith(("softmax.", "mix."))}
        try:
            with shapes_only(most=2 * len(state) + 16):  # of the mix
                bare = cls(replace(config, vocab_size=0))
            bare.load_state_dict(own(bare) | state, assign=True)
        except ValueError as error:
            raise ValueError(f"{weights} does not fit {options}: {error}") from None
        model = cls(config)
        model.load_state_dict(own(model) | state)
        check_finite(model, weights)
        return model.eval()

    def save_pretrained(self, options: str | Path, weights: str | Path) -> None:
        """Write both files in the published format, which has no place for the softmax and the mix.

        A model that was made smaller computes the same there (nn/compression/storage.py: plain_state).
        """
        with shapes_only():
            full = ELMo(replace(self.config, vocab_size=0))
        write_published(options, weights, asdict(self.config), storage.plain_state(self, full))


def _lstm(c: ELMoConfig, reverse: bool) -> LSTM:
    projected = c.width < c.hidden
    clips = dict(cell_clip=c.cell_clip or None, proj_clip=(c.proj_clip or None) if projected else None)
    return LSTM(c.width, c.hidden, proj_size=c.width if projected else 0, reverse=reverse, forget_bias=1.0, **clips)


def _mix(c: ELMoConfig) -> ScalarMix:
    return ScalarMix(c.layers + 1, layer_norm=c.mix_norm, dropout=c.mix_dropout, l2=c.mix_l2)


def _softmax(c: ELMoConfig) -> Module:
    if c.softmax == "sampled":
        return SampledSoftmax(c.width, c.vocab_size, c.samples)
    if c.softmax == "adaptive":
        try:
            cutoffs = [int(n) for n in c.cutoffs.split(",")] if c.cutoffs else [c.vocab_size // 8, c.vocab_size // 2]
        except ValueError:
            raise ValueError(f"cutoffs {c.cutoffs!r} must be whole numbers with commas between them") from None
        return AdaptiveSoftmax(c.width, c.vocab_size, cutoffs)
    return FullSoftmax(c.width, c.vocab_size)
