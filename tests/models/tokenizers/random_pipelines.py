"""Random tokenizer.json files, and random texts for them: every step and option of the published format.

Steps stand in the orders that published files use, and in random ones. Vocabularies are small, made of pieces of the
texts as they look after the steps before, so that every model has something to find and something it does not know.
"""

import base64
import json
import struct

import tokenizers as hf

LETTERS = "abcdeHIM"
ALPHABETS = [
    "abcde ", "abcAB  ", "Hi there ", "0123456789", ".,!?-_'\"()$+~", "\t\n\r\u00a0\u3000\u2028\u2003\x85", "éüñÅçø",
    "e\u0301a\u0327\u0302o\u0308\u0345", "ÀÉÎõ\u1e69\u1ea5", "中文日本語",
    "どこですかカタカナー", "한국어\u1112\u1161\u11ab",
    "привет", "ΑΒΓΣσς", "שלום\u05b7", "مرحبا", "हिन्दी", "ไทย", "①½²Ⅷ٣४", "ﬁﬃ㍿ﷺ～¨ﾞﾊ", "👍🏽👩\u200d👧🏳\ufe0f🇩🇪",
    "\x00\x01\x0b\x1c\x7f\x8f\u200b\u200e\ufeff\ufffd\ue000\u00ad", "▁▁ Ġ#</w>", "İßŉǅẞ", "<0x41>",
    "\u1d165\u0f71\u0f72\u0f80",
]
NAMES = ["<s>", "</s>", "[CLS]", "[SEP]", "[MASK]", "<pad>", "<unk>", "newtok", "cat", "CoViD", "ab", "<｜end▁of｜>",
         "é1"]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
PATTERNS = [
    {"String": " "}, {"String": "a"}, {"String": "ab"}, {"String": "."}, {"String": "▁"}, {"Regex": r"\s+"},
    {"Regex": r"\p{N}{1,3}"}, {"Regex": "[aeiou]"}, {"Regex": r"\p{L}+"}, {"Regex": "[一-龥぀-ゟ゠-ヿ]+"},
    {"Regex": r" ?[^(\s|[.,!?…。，、।۔،])]+"},
    {"Regex": r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"},
    {"Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
              r"|\s+(?!\S)|\s+"},
    {"Regex": r"^a|b$"}, {"Regex": r"(?=\p{Lu})"}, {"Regex": r"[0-9][0-9][0-9]"}, {"Regex": " {2,}"},
]


def text(rng):
    parts = []
    for _ in range(rng.choice([0, 1, 2, 3, 4, 6])):
        alphabet = rng.choice(ALPHABETS)
        parts.append(rng.choice(NAMES) if rng.random() < 0.15 else
                     "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 7))))
        parts.append(rng.choice(["", "", " ", " ", "  "]))
    return "".join(parts)


def double_array(table):
    """A Darts double array (see sentencepiece.Charsmap) of the keys' bytes, with the place of each replacement."""
    outputs, trie = b"", {}
    for key, value in table.items():
        node = trie
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[0] = len(outputs)
        outputs += value.encode() + b"\0"
    units, free = [0] * 4096, [True] * 4096
    free[0] = False

    def place(node, at):
        base = next(base for base in range(1, 4096 - 256) if all(free[base ^ label] for label in node)
                    and not (base ^ at) >> 21)
        units[at] |= (base ^ at) << 10 | (0 in node) << 8
        for label in node:
            free[base ^ label] = False
        for label, child in node.items():
            if label == 0:
                units[base] = child | 1 << 31
            else:
                units[base ^ label] |= label
        for label, child in node.items():
            if label:
                place(child, base ^ label)
    place(trie, 0)
    trie_bytes = struct.pack("<4096I", *units)
    return base64.b64encode(struct.pack("<I", len(trie_bytes)) + trie_bytes + outputs).decode()


CHARSMAPS = [double_array({"\t": " ", "\n": " ", "\r": " ", "\u3000": " ", "ﬁ": "fi", "①": "1", "é": "é", "\x01": "",
                           "e\u0301": "é", "\u200b": " ", "¨": " \u0308", "～": "~", "ß": "ss", "A": "a", "한": "x",
                           "\x7f": ""}),
             double_array({"\u00a0": " ", "a\u0327": "b", "Å": "A", "ﬃ": "ffi", "\u0301": "", "\u0327": "b",
                           "ﷺ": "صلى الله عليه وسلم"})]


def normalizer(rng, depth=0):
    kind = rng.choice(["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "Replace", "Prepend",
                       "BertNormalizer", "Precompiled", "Nmt", "ByteLevel", *["Sequence"] * 4 * (depth < 2)])
    flip = lambda: rng.random() < 0.5
    return {"type": kind} | {
        "Strip": lambda: {"strip_left": flip(), "strip_right": flip()},
        "Replace": lambda: {"pattern": rng.choice(PATTERNS), "content": rng.choice(["", "▁", " ", "xy", "é"])},
        "Prepend": lambda: {"prepend": rng.choice(["▁", " ", "xy"])},
        "BertNormalizer": lambda: {"clean_text": flip(), "handle_chinese_chars": flip(),
                                   "strip_accents": rng.choice([None, True, False]), "lowercase": flip()},
        "Precompiled": lambda: {"precompiled_charsmap": rng.choice(CHARSMAPS)},
        "Sequence": lambda: {"normalizers": [normalizer(rng, depth + 1) for _ in range(rng.randint(0, 3))]},
    }.get(kind, dict)()


def byte_level(rng):
    return {"type": "ByteLevel", "add_prefix_space": rng.random() < 0.5, "trim_offsets": rng.random() < 0.5,
            "use_regex": rng.random() < 0.6}


def pre_tokenizer(rng, depth=0):
    kind = rng.choice(["ByteLevel", "Split", "Split", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit",
                       "CharDelimiterSplit", "BertPreTokenizer", "Metaspace", "Metaspace", "UnicodeScripts",
                       "FixedLength", *["Sequence"] * 5 * (depth < 2)])
    flip = lambda: rng.random() < 0.5
    return {"type": kind} | {
        "ByteLevel": lambda: byte_level(rng),
        "Split": lambda: {"pattern": rng.choice(PATTERNS), "behavior": rng.choice(BEHAVIORS), "invert": flip()},
        "Digits": lambda: {"individual_digits": flip()},
        "Punctuation": lambda: {"behavior": rng.choice(BEHAVIORS)},
        "CharDelimiterSplit": lambda: {"delimiter": rng.choice("a -é")},
        "Metaspace": lambda: {"replacement": rng.choice("▁▁_"), "split": flip(),
                              "prepend_scheme": rng.choice(["always", "first", "never"])},
        "FixedLength": lambda: {"length": rng.randint(1, 6)},
        "Sequence": lambda: {"pretokenizers": [pre_tokenizer(rng, depth + 1) for _ in range(rng.randint(0, 3))]},
    }.get(kind, dict)()


def decoder(rng, depth=0):
    kind = rng.choice(["ByteLevel", "WordPiece", "Metaspace", "BPEDecoder", "ByteFallback", "Fuse", "Strip", "Replace",
                       "CTC", *["Sequence"] * 4 * (depth < 2)])
    return {"type": kind} | {
        "ByteLevel": lambda: byte_level(rng),
        "WordPiece": lambda: {"prefix": rng.choice(["##", ""]), "cleanup": rng.random() < 0.5},
        "Metaspace": lambda: {"replacement": rng.choice("▁_"), "split": rng.random() < 0.5,
                              "prepend_scheme": rng.choice(["always", "first", "never"])},
        "BPEDecoder": lambda: {"suffix": rng.choice(["</w>", "a"])},
        "Strip": lambda: {"content": rng.choice(" a▁"), "start": rng.randint(0, 2), "stop": 0},
        "Replace": lambda: {"pattern": rng.choice(PATTERNS), "content": rng.choice(["", " ", "x"])},
        "CTC": lambda: {"pad_token": rng.choice(["<pad>", "a"]), "word_delimiter_token": "|",
                        "cleanup": rng.random() < 0.5},
        "Sequence": lambda: {"decoders": [decoder(rng, depth + 1) for _ in range(rng.randint(0, 3))]},
    }.get(kind, dict)()


def post_processor(rng, added, depth=0):
    names = {token["content"]: token["id"] for token in added if token["special"]}
    kinds = ["ByteLevel"] + ["Sequence"] * (depth == 0)
    if len(names) > 1:
        kinds += ["TemplateProcessing", "BertProcessing", "RobertaProcessing"]
    kind = rng.choice(kinds)
    if kind == "ByteLevel":
        return {"type": kind} | byte_level(rng)
    if kind == "Sequence":
        steps = [{"type": "ByteLevel"} | byte_level(rng) for _ in range(rng.randint(0, 2))]
        return {"type": kind, "processors": [*steps, post_processor(rng, added, 1)]}
    cls, sep = rng.sample(sorted(names), 2)
    if kind == "BertProcessing":
        return {"type": kind, "sep": [sep, names[sep]], "cls": [cls, names[cls]]}
    if kind == "RobertaProcessing":
        return {"type": kind, "sep": [sep, names[sep]], "cls": [cls, names[cls]], "trim_offsets": rng.random() < 0.5,
                "add_prefix_space": rng.random() < 0.5}

    def some(*texts):
        items = [{"Sequence": {"id": one, "type_id": rng.randint(0, 2)}} for one in texts]
        for _ in range(rng.randint(0, 3)):
            items.insert(rng.randint(0, len(items)), {"SpecialToken": {"id": rng.choice([cls, sep]),
                                                                       "type_id": rng.randint(0, 2)}})
        return items
    return {"type": kind, "single": some("A"), "pair": some(*rng.choice(["AB", "BA"])), "special_tokens": {
        name: {"id": name, "ids": [names[name]], "tokens": [name]} for name in sorted({cls, sep})}}


def model(rng, words, kind=None):
    """A model over pieces of these words; unk is always there."""
    kind = kind or rng.choice(["BPE", "BPE", "WordPiece", "WordLevel", "Unigram"])
    words = [word for word in words if word] or ["a"]
    characters = sorted({one for word in words for one in word})
    known = rng.sample(characters, max(1, int(len(characters) * rng.choice([0.7, 0.9, 1]))))
    bytes_of = [f"<0x{byte:02X}>" for byte in range(256)] if rng.random() < 0.3 else []
    pieces = []
    for _ in range(rng.randint(0, 60)):
        word = rng.choice(words)
        start = rng.randrange(len(word))
        pieces.append((word[start:start + rng.randint(1, 5)], start > 0))
    if kind == "WordLevel":
        tokens = dict.fromkeys(["<unk>", *rng.sample(words, len(words) * 2 // 3)])
        return {"type": kind, "vocab": ids(tokens), "unk_token": "<unk>"}
    if kind == "WordPiece":
        prefix = rng.choice(["##", "##", "", "@"])
        tokens = dict.fromkeys(["<unk>", *known, *(prefix + one for one in known),
                                *(prefix * inside + piece for piece, inside in pieces)])
        return {"type": kind, "unk_token": "<unk>", "continuing_subword_prefix": prefix,
                "max_input_chars_per_word": rng.choice([100, 4]), "vocab": ids(tokens)}
    if kind == "Unigram":
        tokens = dict.fromkeys(["<unk>", *known, *(piece for piece, _ in pieces), *bytes_of])
        return {"type": kind, "unk_id": 0, "vocab": [[token, -rng.randint(0, 90) / 7] for token in tokens],
                "byte_fallback": bool(bytes_of)}
    affixed = rng.random() < 0.3
    prefix, suffix = (rng.choice([None, "##"]), rng.choice([None, "</w>"])) if affixed else (None, None)
    spelt = [[(prefix or "") * (i > 0) + one + (suffix or "") * (i == len(word) - 1) for i, one in enumerate(word)]
             for word in words]
    symbols = sorted({one for word in spelt for one in word})
    known = set(rng.sample(symbols, max(1, int(len(symbols) * rng.choice([0.7, 0.9, 1])))))
    merges = []
    for _ in range(rng.randint(0, 40)):
        word = rng.choice(spelt)
        if len(word) < 2:
            continue
        at = rng.randrange(len(word) - 1)
        pair = word[at:at + 2]
        if set(pair) <= known and pair not in merges:
            merges.append(pair)
            both = pair[0] + pair[1][len(prefix or ""):]
            known.add(both)
            for one in spelt:
                i = 0
                while i < len(one) - 1:
                    if one[i:i + 2] == pair:
                        one[i:i + 2] = [both]
                    i += 1
    whole = rng.sample(words, min(5, len(words))) if rng.random() < 0.5 else []
    alphabet = sorted(hf.pre_tokenizers.ByteLevel.alphabet()) if rng.random() < 0.5 else []
    tokens = dict.fromkeys(["<unk>", *alphabet, *sorted(known), *whole, *(bytes_of if not affixed else [])])
    return {"type": kind, "dropout": rng.choice([None] * 6 + [0.0, 1.0]),
            "unk_token": rng.choice(["<unk>", "<unk>", None]),
            "continuing_subword_prefix": prefix, "end_of_word_suffix": suffix, "fuse_unk": rng.random() < 0.5,
            "byte_fallback": bool(bytes_of) and not affixed, "ignore_merges": rng.random() < 0.4, "vocab": ids(tokens),
            "merges": merges}


def ids(tokens):
    return {token: i for i, token in enumerate(tokens)}


def added_tokens(rng, vocab):
    tokens, next_id, plain = [], len(vocab), rng.random() < 0.4
    for name in sorted({"<unk>", *rng.sample(NAMES, rng.randint(0, 6))} if rng.random() < 0.9 else [],
                       key=lambda name: (vocab.get(name, len(vocab)), name)):
        flip = lambda share=0.25: rng.random() < share and not plain
        i = vocab.get(name, next_id)
        next_id += name not in vocab
        special = name == "<unk>" or plain or flip(0.6)
        tokens.append({"id": i, "content": name, "single_word": flip(), "lstrip": flip(), "rstrip": flip(),
                       "normalized": flip(0.2 if special else 0.6), "special": special})
    return tokens


# ---- the orders that published files use

def published_steps(rng):
    """normalizer, pre_tokenizer, decoder and model as in files of one family, with some of their options."""
    flip = lambda: rng.random() < 0.5
    sequence = lambda name, *steps: {"type": "Sequence", name: list(steps)}
    split = lambda pattern, behavior="Isolated", invert=False: {
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}
    bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    bytes_gpt2 = bytes_only | {"use_regex": True, "add_prefix_space": flip()}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": rng.choice(["always", "first", "never"]),
                 "split": flip()}
    charsmap = {"type": "Precompiled", "precompiled_charsmap": rng.choice(CHARSMAPS)}
    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    squeeze = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": rng.choice([" ", "▁"])}
    quotes = [{"type": "Replace", "pattern": {"String": quote}, "content": '"'} for quote in ("``", "''")]
    always = metaspace | {"prepend_scheme": "always", "split": True}
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": flip(), "strip_accents": None,
            "lowercase": flip()}
    gpt4 = PATTERNS[12]["Regex"]
    return rng.choice([
        (None, bytes_gpt2, bytes_gpt2, "BPE"),
        (None, sequence("pretokenizers", split(gpt4), bytes_only), bytes_only, "BPE"),
        ({"type": "NFC"}, sequence("pretokenizers", split(gpt4.replace("{1,3}", "")), bytes_only), bytes_only, "BPE"),
        (None, sequence("pretokenizers", split(gpt4, "Removed", True), bytes_only), bytes_only, "BPE"),
        (None, sequence("pretokenizers", split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(PATTERNS[11]["Regex"]),
                        bytes_only), bytes_only, "BPE"),
        (None, sequence("pretokenizers", {"type": "Punctuation", "behavior": "Contiguous"}, bytes_gpt2,
                        {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]")), bytes_gpt2, "BPE"),
        (None, sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, bytes_gpt2), bytes_gpt2, "BPE"),
        (None, sequence("pretokenizers", split(PATTERNS[10]["Regex"]), bytes_only), bytes_only, "BPE"),
        (bert, {"type": "BertPreTokenizer"}, {"type": "WordPiece", "prefix": "##", "cleanup": True}, "WordPiece"),
        (bert, {"type": "BertPreTokenizer"}, {"type": "BPEDecoder", "suffix": "</w>"}, "BPE"),
        (sequence("normalizers", charsmap, strip, squeeze), always, always, "Unigram"),
        (sequence("normalizers", *quotes, {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, charsmap),
         sequence("pretokenizers", {"type": "WhitespaceSplit"}, always), always, "Unigram"),
        (sequence("normalizers", charsmap, squeeze), metaspace, metaspace, "Unigram"),
        (sequence("normalizers", {"type": "Prepend", "prepend": "▁"},
                  {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}), None,
         sequence("decoders", {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                  {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}), "BPE"),
        (sequence("normalizers", {"type": "Nmt"}, {"type": "NFKC"}, strip, squeeze), always, always, "Unigram"),
        (None, {"type": "Whitespace"}, None, None),
        ({"type": "Lowercase"}, {"type": "WhitespaceSplit"}, None, "WordLevel"),
        (sequence("normalizers", {"type": "NFC"}, {"type": "ByteLevel"}), None, bytes_only, "BPE"),
    ])


def pipeline(rng):
    """(tokenizers' Tokenizer, the texts to try)."""
    texts = [text(rng) for _ in range(6)]
    maybe = lambda make: None if rng.random() < 0.25 else make(rng)
    if rng.random() < 0.5:
        norm, pre, dec, kind = published_steps(rng)
        kind = rng.choice([kind, kind, None])
    else:
        kind = None
        norm, pre, dec = maybe(normalizer), maybe(pre_tokenizer), maybe(decoder)
    spec = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": norm,
            "pre_tokenizer": pre, "post_processor": None, "decoder": dec,
            "model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"}}
    first = hf.Tokenizer.from_str(json.dumps(spec))
    words = [first.normalizer.normalize_str(text) if first.normalizer else text for text in texts]
    if first.pre_tokenizer:
        words = [word for text in words for word, _ in first.pre_tokenizer.pre_tokenize_str(text)]
    spec["model"] = model(rng, words, kind)
    vocab = spec["model"]["vocab"]
    vocab = vocab if isinstance(vocab, dict) else {token: i for i, (token, _) in enumerate(vocab)}
    spec["added_tokens"] = added_tokens(rng, vocab)
    seen = set()
    for token in spec["added_tokens"]:  # of two that normalize to one name, `tokenizers` finds now one, now the other
        name = first.normalizer.normalize_str(token["content"]) if first.normalizer else token["content"]
        token["normalized"] &= name not in seen and name != ""
        seen |= {name} if token["normalized"] else set()
    if rng.random() < 0.7:
        spec["post_processor"] = post_processor(rng, spec["added_tokens"])
    if rng.random() < 0.3:
        spec["truncation"] = {"direction": rng.choice(["Left", "Right"]), "max_length": rng.randint(6, 14),
                              "strategy": "LongestFirst", "stride": 0}
    spec["padding"] = {
        "strategy": rng.choice(["BatchLongest", {"Fixed": 300}]), "direction": rng.choice(["Left", "Right"]),
        "pad_to_multiple_of": rng.choice([None, 3]), "pad_id": 1, "pad_type_id": rng.randint(0, 2), "pad_token": "[P]"}
    return hf.Tokenizer.from_str(json.dumps(spec)), texts
