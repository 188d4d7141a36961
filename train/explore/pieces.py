"""How each token of a text came about: the merges of BPE, WordPiece's tries, the cuts that Unigram compared."""

from collections.abc import Callable
from itertools import pairwise

from models.tokenizers import ByteLevelBPE, ClassicBPE, Tokenizer, Unigram, WordPiece, classic
from models.tokenizers.bytelevel import show

Steps = list[tuple[str, list[str]]]  # what was done, and the parts after it


def merged(tokenizer: ByteLevelBPE | ClassicBPE, ids: list[int], place: int) -> Steps:
    """The merges that made the token of its bytes or characters, the earliest learnt first."""
    if isinstance(tokenizer, ByteLevelBPE):
        parts, shown = [bytes([byte]) for byte in tokenizer.token_bytes[ids[place]]], show
    else:
        parts, shown = classic.spell(tokenizer.tokens[ids[place]].removesuffix(classic.END)), str
        if not tokenizer.tokens[ids[place]].endswith(classic.END):
            parts[-1] = parts[-1].removesuffix(classic.END)
    known = {pair: rank for rank, pair in enumerate(map(tuple, tokenizer.merges), start=1)}
    steps = [("single symbols", list(map(shown, parts)))]
    while ranks := [known[pair] for pair in pairwise(parts) if pair in known]:
        i = [known.get(pair) for pair in pairwise(parts)].index(min(ranks))
        parts = [*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :]]
        steps.append((f"merge {min(ranks):,}", list(map(shown, parts))))
    return steps


def tried(tokenizer: WordPiece, ids: list[int], place: int) -> Steps:
    """What was looked up before the token was found: the rest of the word, then ever shorter beginnings of it."""
    sign, token = tokenizer.prefix, tokenizer.tokens[ids[place]]
    rest = token
    for later in ids[place + 1 :]:
        if not tokenizer.tokens[later].startswith(sign):
            break
        rest += tokenizer.tokens[later].removeprefix(sign)
    tries = [rest[:end] for end in range(len(rest), len(token), -1)]
    return [*(("not in the vocabulary", [one]) for one in tries), ("found", [token])]


def compared(tokenizer: Unigram, ids: list[int], place: int) -> Steps:
    """The token's log probability, and that of the likeliest way to make it of smaller pieces."""
    piece, score = tokenizer.pieces[ids[place]]
    cuts = []
    for middle in range(1, len(piece)):
        found = [i for half in (piece[:middle], piece[middle:]) for i, _ in tokenizer.segment(half)]
        if tokenizer.unk_id not in found:
            cuts.append((sum(tokenizer.pieces[i][1] for i in found), [tokenizer.tokens[i] for i in found]))
    best = max(cuts, default=None)
    return [(f"log p {score:.2f}", [piece]), *([(f"in smaller pieces {best[0]:.2f}", best[1])] if best else [])]


STEPS: dict[type, Callable[..., Steps]] = {
    ByteLevelBPE: merged, ClassicBPE: merged, WordPiece: tried, Unigram: compared}


def tokens(tokenizer: Tokenizer, ids: list[int], names: list[str]) -> list[dict]:
    """Each token's id, name, bytes, and how it came about; special tokens just are."""
    found, steps = [], STEPS.get(type(tokenizer))
    special = {*tokenizer.special_tokens.values(), tokenizer.unk_id} if steps else set()
    for place, (token, name) in enumerate(zip(ids, names)):
        ordinary = steps is not None and token not in special and 0 <= token < tokenizer.vocab_size
        of_bytes = ordinary and isinstance(tokenizer, ByteLevelBPE)
        data = tokenizer.token_bytes[token] if of_bytes else name.replace("␣", " ").replace("⏎", "\n").encode()
        found.append(dict(id=token, name=name, bytes=data.hex(" "),
                          steps=steps(tokenizer, ids, place) if ordinary else []))  # fmt: skip
    return found
