"""ELMo once more, from the published description alone: files with random weights, and what should come out of them.

Everything is float64, one word, one filter and one LSTM step at a time, straight from the file's datasets in their own
layout (TensorFlow's). Nothing of the project is used.
"""

from __future__ import annotations

import json

import numpy as np


def make_files(
    folder, seed=0, *, skip=True, highways=2, project=True, cell_clip=0.5, proj_clip=0.2, hidden=12, layers=2
):
    """options.json and weights.hdf5 in `folder`, small and random; returns both paths."""
    import h5py

    draw = np.random.default_rng(seed)
    filters = [[1, 4], [2, 5], [3, 7]]
    count, char_dim = sum(n for _, n in filters), 3
    proj = 6 if project else count
    hidden = max(hidden, proj)
    options = {
        "lstm": {
            "dim": hidden, "projection_dim": proj, "n_layers": layers, "cell_clip": cell_clip, "proj_clip": proj_clip,
            "use_skip_connections": skip,
        },
        "char_cnn": {
            "activation": "relu", "embedding": {"dim": char_dim}, "filters": filters, "n_highway": highways,
            "n_characters": 262, "max_characters_per_token": 50,
        },
    }  # fmt: skip
    arrays = {"char_embed": (261, char_dim)}
    for i, (width, n) in enumerate(filters):
        arrays |= {f"CNN/W_cnn_{i}": (1, width, char_dim, n), f"CNN/b_cnn_{i}": (n,)}
    for k in range(highways):
        for part in ("carry", "transform"):
            arrays |= {f"CNN_high_{k}/W_{part}": (count, count), f"CNN_high_{k}/b_{part}": (count,)}
    if project:
        arrays |= {"CNN_proj/W_proj": (count, proj), "CNN_proj/b_proj": (proj,)}
    for d in (0, 1):
        for layer in range(layers):
            cell = f"RNN_{d}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            arrays |= {f"{cell}/W_0": (2 * proj, 4 * hidden), f"{cell}/B": (4 * hidden,)}
            if hidden > proj:
                arrays[f"{cell}/W_P_0"] = (hidden, proj)
    (folder / "options.json").write_text(json.dumps(options))
    with h5py.File(folder / "weights.hdf5", "w") as file:
        for name, shape in arrays.items():
            file[name] = draw.normal(0, 1 if name == "char_embed" else 0.5, shape).astype(np.float32)
    return folder / "options.json", folder / "weights.hdf5"


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def spell(word):
    """The 50 character ids of a word; None is the sentence's begin, Ellipsis its end."""
    inside = {None: [256], Ellipsis: [257]}.get(word) or list(word.encode("utf-8")[:48])
    ids = [258, *inside, 259]
    return ids + [260] * (50 - len(ids))


class PublishedELMo:
    """Reads batches as the published code does; the states of the rows are kept from batch to batch."""

    def __init__(self, options_path, weights_path):
        import h5py

        self.options = json.loads(options_path.read_text())
        with h5py.File(weights_path) as file:
            names = []
            file.visit(names.append)
            self.w = {n: file[n][...].astype(np.float64) for n in names if isinstance(file[n], h5py.Dataset)}
        self.states = {}  # (row, direction, layer) -> (c, h)

    def token(self, word):
        w = self.w
        characters = w["char_embed"][spell(word)]  # the file has no row for padded words: ids are used as they are
        pieces = []
        for i, (width, n) in enumerate(self.options["char_cnn"]["filters"]):
            kernel = w[f"CNN/W_cnn_{i}"][0]  # (width, char_dim, n)
            best = np.full(n, -np.inf)
            for start in range(50 - width + 1):
                answer = np.zeros(n)
                for k in range(width):
                    answer = answer + characters[start + k] @ kernel[k]
                best = np.maximum(best, answer + w[f"CNN/b_cnn_{i}"])
            pieces.append(np.where(best > 0, best, 0))
        x = np.concatenate(pieces)
        for k in range(self.options["char_cnn"]["n_highway"]):
            gate = sigmoid(x @ w[f"CNN_high_{k}/W_carry"] + w[f"CNN_high_{k}/b_carry"])
            new = np.maximum(0, x @ w[f"CNN_high_{k}/W_transform"] + w[f"CNN_high_{k}/b_transform"])
            x = gate * new + (1 - gate) * x
        return x @ w["CNN_proj/W_proj"] + w["CNN_proj/b_proj"] if "CNN_proj/W_proj" in w else x

    def run(self, row, direction, vectors):
        """The outputs of every layer for one sentence, marks included, in the order the words stand in it."""
        lstm = self.options["lstm"]
        D, P = lstm["dim"], lstm["projection_dim"]
        inputs = vectors[::-1] if direction else vectors
        layers = []
        for layer in range(lstm["n_layers"]):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell/"
            c, h = self.states.get((row, direction, layer), (np.zeros(D), np.zeros(P)))
            outputs = []
            for x in inputs:
                z = np.concatenate([x, h]) @ self.w[cell + "W_0"] + self.w[cell + "B"]
                i, j, f, o = z[:D], z[D : 2 * D], z[2 * D : 3 * D], z[3 * D :]
                c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
                if lstm["cell_clip"]:
                    c = np.minimum(np.maximum(c, -lstm["cell_clip"]), lstm["cell_clip"])
                h = sigmoid(o) * np.tanh(c)
                if cell + "W_P_0" in self.w:
                    h = h @ self.w[cell + "W_P_0"]
                    if lstm["proj_clip"]:
                        h = np.minimum(np.maximum(h, -lstm["proj_clip"]), lstm["proj_clip"])
                outputs.append(h + x if lstm["use_skip_connections"] and layer > 0 else h)
            self.states[row, direction, layer] = c, h
            inputs = outputs
            layers.append(outputs[::-1] if direction else outputs)
        return layers

    def __call__(self, sentences):
        """For each sentence an array (layers + 1, its words, 2 * projection), as the published evaluation has it."""
        answers = []
        for row, sentence in enumerate(sentences):
            vectors = [self.token(word) for word in [None, *sentence, Ellipsis]]
            forward, backward = self.run(row, 0, vectors), self.run(row, 1, vectors)
            layers = [np.concatenate([vectors, vectors], axis=1)]
            layers += [np.concatenate([f, b], axis=1) for f, b in zip(forward, backward)]
            answers.append(np.stack(layers)[:, 1:-1])
        return answers
