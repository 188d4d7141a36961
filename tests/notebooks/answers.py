"""The answers to the notebooks' exercises, as code for the end of each notebook, and what must hold of them.

SMALL: what a notebook's settings are set to in the tests, so that it takes seconds.
"""

SMALL = {
    "1-engine": "steps = 400",
    "2-gpt": "steps = 40",
    "3-tokenizers": "characters = 40_000",
    "4-bert": "steps = 30",
    "5-elmo": "steps = 15",
    "6-t5": "steps = 25",
    "7-compression": "steps = 30",
    "8-tour": "steps, seconds = 10, 0.5",
}

ANSWERS = {
    "1-engine": '''
def cube(x):
    return record("cube", x.data**3, (x,), lambda dy: [3 * x.data**2 * dy])

def slope(f, x, eps=1e-5):
    return (f(x + eps) - f(x - eps)) / (2 * eps)

z = tt.Tensor(np.array([[0.5, -2.0], [3.0, 0.1]]), requires_grad=True)
tt.gradcheck(cube, [z])
assert np.allclose(cube(z).data, z.data * z.data * z.data)
assert abs(slope(np.sin, 0.3) - np.cos(0.3)) < 1e-9 and abs(slope(lambda x: x**3, 2.0) - 12) < 1e-6
assert losses[-1] < losses[0] and float(a.grad) != 0
''',
    "2-gpt": '''
def first_changed(model, ids, place, token):
    changed = np.array(ids)
    changed[place] = token
    with tt.no_grad():
        before, after = (model(np.array(row)[None]).data[0] for row in (ids, changed))
    return int((abs(after - before).max(axis=-1) > 1e-5).argmax())

def perplexity(model, ids):
    with tt.no_grad():
        log_p = model(np.array(ids)[None]).log_softmax(axis=-1).data[0]
    return float(np.exp(-log_p[np.arange(len(ids) - 1), ids[1:]].mean()))

for place in (0, 3, 7):  # no token sees what comes after it
    assert first_changed(gpt, sentence, place, (sentence[place] + 1) % 512) == place
row = np.array([sentence])
loss = gpt.loss({"ids": row[:, :-1], "targets": row[:, 1:]}).item()
assert abs(perplexity(gpt, sentence) - np.exp(loss)) < 1e-3 * np.exp(loss)
assert all(np.allclose(p.sum(axis=-1), 1, atol=1e-5) and not np.triu(p, 1).any() for p in seen) and len(seen) == 2
''',
    "3-tokenizers": '''
def bytes_per_token(tokenizer, text):
    return len(text.encode()) / len(tokenizer.encode(text))

def most_frequent_pair(words):
    counts = {}
    for symbols, count in words:
        for pair in zip(symbols, symbols[1:]):
            counts[pair] = counts.get(pair, 0) + count
    return min(counts, key=lambda pair: (-counts[pair], pair), default=None)

assert bytes_per_token(bpe, text) > 2 and bytes_per_token(bpe, "é") == 1
words = [([0, 1, 2, 1, 2], 3), ([1, 2], 4), ([5], 100)]
assert most_frequent_pair(words) == (1, 2) and most_frequent_pair([([7], 2)]) is None
assert most_frequent_pair([([1, 2, 0, 1], 1)]) == (0, 1)
left, right, _ = next(plain_train(words, lambda left, right: 9))
assert most_frequent_pair(words) == (left, right)
''',
    "4-bert": '''
def blot(ids, every, mask_id):
    chosen = np.arange(len(ids)) % every == 0
    return np.where(chosen, mask_id, ids), np.where(chosen, ids, IGNORED)

def share_right(model, batch):
    with tt.no_grad():
        guesses = model.scores(batch).data.argmax(axis=-1)
    asked = batch["targets"] != IGNORED
    return float((guesses == batch["targets"])[asked].mean())

some, targets = blot(np.arange(10, 17), 3, 4)
assert some.tolist() == [4, 11, 12, 4, 14, 15, 4] and targets.tolist() == [10, -100, -100, 13, -100, -100, 16]
assert 0 <= share_right(bert, batch) <= 1
guesses = bert.scores(batch).data.argmax(axis=-1)
assert share_right(bert, batch | {"targets": np.where(batch["targets"] == IGNORED, IGNORED, guesses)}) == 1
''',
    "5-elmo": '''
def alike(elmo, one, two, word):
    layers, _ = elmo([one, two])
    pairs = [(layer.data[0, one.index(word)], layer.data[1, two.index(word)]) for layer in layers]
    return [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in pairs]

def mixed(layers, weights, gamma):
    shares = np.exp(weights - np.max(weights))
    return gamma * sum(share * layer for share, layer in zip(shares / shares.sum(), layers))

cosines = alike(elmo, one, two, "ball")
assert abs(cosines[0] - 1) < 1e-5 and all(cosine < 0.9999 for cosine in cosines[1:]) and len(cosines) == 3
assert abs(alike(elmo, one, one, "ball")[2] - 1) < 1e-5
elmo.mix.weights.data[:], elmo.mix.gamma.data[...] = [0.5, -1, 2], 1.5
right = elmo.mix(layers, mask).data
assert np.allclose(mixed([layer.data for layer in layers], np.array([0.5, -1, 2]), 1.5), right, atol=1e-5)
''',
    "6-t5": '''
def corrupt(words, spans):
    source, target, done = [], [], 0
    for number, (start, stop) in enumerate(spans):
        source += [*words[done:start], f"<extra_id_{number}>"]
        target += [f"<extra_id_{number}>", *words[start:stop]]
        done = stop
    return source + words[done:], target

def first_distance(bucket):
    from models.t5 import relative_position_bucket
    distances = np.arange(200)
    return int((relative_position_bucket(-distances, False, 32, 128) == bucket).argmax())

source, target = corrupt("thank you for inviting me to your party last week".split(), [(2, 4), (8, 9)])
assert " ".join(source) == "thank you <extra_id_0> me to your party <extra_id_1> week"
assert " ".join(target) == "<extra_id_0> for inviting <extra_id_1> last"
assert [first_distance(bucket) for bucket in (0, 15, 16, 17, 31)] == [0, 15, 16, 19, 113]
assert np.allclose(seen[0].sum(axis=-1), 1, atol=1e-5) and seen[0].shape == (4, 6, 6)
''',
    "7-compression": '''
def share_of_zeros(model):
    return sum(int((p.data == 0).sum()) for p in model.parameters()) / model.parameter_count()

def rounded(weights, bits):
    scale = abs(weights).max() / (2 ** (bits - 1) - 1)
    return np.round(weights / scale) * scale

half = prune(copy.deepcopy(gpt), 0.5)
linear = sum(p.size for name, p in gpt.named_parameters() if "blocks" in name and p.ndim == 2)
assert abs(share_of_zeros(half) - linear / 2 / gpt.parameter_count()) < 1e-3 and share_of_zeros(gpt) < 1e-3
weights = np.random.default_rng(0).standard_normal(1000)
step = abs(weights).max() / 7
assert abs(rounded(weights, 4) - weights).max() <= step / 2 + 1e-12 and len(np.unique(rounded(weights, 4))) <= 15
weights, sizes = ([int(line[n].replace(",", "")) for line in lines[1:]] for n in (3, 4))
assert weights[1] < weights[0] and sizes[4] < 0.4 * sizes[0] and len(lines) == 7
''',
    "8-tour": '''
from train.tour import carbon

def training_days(parameters, tokens, gpus, tflops):
    return 6 * parameters * tokens / (gpus * tflops * 1e12) / 86400

def grams(kwh, grid):
    return kwh * carbon.GRIDS[grid]

assert abs(training_days(1e9, 86400e9, 6, 1000) - 1000) < 1e-9
gpt3 = carbon.Training(6 * 175e9 * 300e9, 1024, 105, 400, 1.1, carbon.GRIDS["germany"])
assert abs(training_days(175e9, 300e9, 1024, 105) - gpt3.days) < 1e-9
assert grams(2, "france") < grams(2, "poland") == 2 * carbon.grams_per_kwh("poland")
assert Path("runs/paradox-1/paradox.md").exists()
''',
}
