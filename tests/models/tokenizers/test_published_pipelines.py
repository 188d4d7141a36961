"""The steps of published models, from their documented settings, over small vocabularies: equal to `tokenizers`.

Each is trained by `tokenizers` on the corpus, saved, and read by us; texts are awkward ones. Byte-level models know all
bytes; the others meet what they can't spell.
"""

import base64
import json

import pytest

from models import tokenizers
from tests.models.tokenizers.awkward_texts import AWKWARD, CORPUS

pytestmark = pytest.mark.parity
hf = pytest.importorskip("tokenizers")
N, P, D, R = hf.normalizers, hf.pre_tokenizers, hf.decoders, hf.processors
GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
DEEPSEEK = "|".join([r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+", r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
                     r" ?[\p{P}\p{S}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
TEXTS = [*AWKWARD, *CORPUS.splitlines(), "In 2024, 17 cats", "Hello, world!", "x = 3.1415926535  # pi\n\n\treturn  x\n",
         "DeepSeek's 1234567890 tokens…", "``Quoted'' text", "我爱北京天安门,2024年", "naïve Ünï", "<s>[INST] a </s> b"]


def split(pattern, behavior="isolated"):
    return P.Split(hf.Regex(pattern), behavior)


def bytes_only():
    return P.ByteLevel(add_prefix_space=False, use_regex=False)


def charsmap():
    from tests.models.tokenizers.random_pipelines import CHARSMAPS
    return N.Precompiled(base64.b64decode(CHARSMAPS[0]))


def bpe_decoder(strip=True):
    last = [D.Strip(" ", 1, 0)] if strip else []
    return D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), *last])


QUOTES = [N.Replace("``", '"'), N.Replace("''", '"')]
ACCENTS = [N.NFKD(), N.StripAccents()]
SQUEEZE = N.Replace(hf.Regex(" {2,}"), " ")
BYTES = ("bytes", D.ByteLevel())
MODELS = {  # name: (normalizer, pre_tokenizer, (kind of model, decoder), post_processor)
    "GPT-2": (None, P.ByteLevel(add_prefix_space=False), BYTES, R.ByteLevel(trim_offsets=False)),
    "RoBERTa": (None, P.ByteLevel(add_prefix_space=False), BYTES, R.RobertaProcessing(("</s>", 1), ("<s>", 0))),
    "DeBERTa": (None, P.ByteLevel(add_prefix_space=False), BYTES, R.TemplateProcessing(
        single="<s>:0 $A:0 </s>:0", pair="<s>:0 $A:0 </s>:0 $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 1)])),
    "Phi": (None, P.ByteLevel(add_prefix_space=False), BYTES, R.ByteLevel(trim_offsets=True, add_prefix_space=False)),
    "Llama 3": (None, P.Sequence([split(GPT4), bytes_only()]), BYTES, R.Sequence([
        R.ByteLevel(trim_offsets=False), R.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                              special_tokens=[("<s>", 0)])])),
    "GPT-4o": (None, P.Sequence([split(O200K), bytes_only()]), BYTES, R.ByteLevel(trim_offsets=False)),
    "Qwen 2": (N.NFC(), P.Sequence([split(GPT4.replace("{1,3}", "")), bytes_only()]), BYTES,
               R.ByteLevel(trim_offsets=False)),
    "DeepSeek-Coder": (N.Sequence([]), P.Sequence([
        split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"), P.Digits(True),
        bytes_only()]), BYTES, R.ByteLevel(trim_offsets=False)),
    "DeepSeek-V3": (N.Sequence([]), P.Sequence([
        split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK), bytes_only()]), BYTES,
        R.ByteLevel(trim_offsets=False)),
    "Falcon": (None, P.Sequence([P.Punctuation("contiguous"), P.ByteLevel(add_prefix_space=False), P.Digits(False),
                                 split("[0-9][0-9][0-9]")]), BYTES, R.ByteLevel(trim_offsets=False)),
    "BLOOM": (None, P.Sequence([split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), bytes_only()]), BYTES,
              R.ByteLevel(trim_offsets=False)),
    "StarCoder": (None, P.Sequence([P.Digits(True), P.ByteLevel(add_prefix_space=False)]), BYTES,
                  R.ByteLevel(trim_offsets=True, add_prefix_space=False)),
    "CLIP": (N.Sequence([N.NFC(), N.Replace(hf.Regex(r"\s+"), " "), N.Lowercase()]), P.Sequence([
        P.Split(hf.Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True),
        P.ByteLevel(add_prefix_space=False)]), BYTES, R.RobertaProcessing(("</s>", 1), ("<s>", 0), False, False)),
    "Mistral": (N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None, ("fallback", bpe_decoder()),
                R.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)])),
    "Llama": (None, P.Metaspace(prepend_scheme="first", split=False), ("fallback", bpe_decoder()), None),
    "Gemma": (N.Replace(" ", "▁"), P.Split(" ", "merged_with_previous"), ("fallback", bpe_decoder(False)),
              R.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)])),
    "BERT multilingual": (N.BertNormalizer(lowercase=False), P.BertPreTokenizer(), ("wordpiece", D.WordPiece()),
                          R.BertProcessing(("</s>", 1), ("<s>", 0))),
    "BERT uncased": (N.BertNormalizer(), P.BertPreTokenizer(), ("wordpiece", D.WordPiece()),
                     R.BertProcessing(("</s>", 1), ("<s>", 0))),
    "GPT-1": (N.BertNormalizer(), P.BertPreTokenizer(), ("classic", D.BPEDecoder("</w>")), None),
    "T5": (N.Sequence([charsmap(), N.Strip(left=False), N.Replace(hf.Regex(" {2,}"), "▁")]), P.Metaspace(),
           ("unigram", D.Metaspace()), R.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>",
                                                            special_tokens=[("</s>", 1)])),
    "XLM-R": (N.Sequence([charsmap(), N.Replace(hf.Regex(r"\A +| +\z"), ""), SQUEEZE]), P.Metaspace(),
              ("unigram", D.Metaspace()), R.TemplateProcessing(
                  single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)])),
    "DeBERTa-v2": (N.Sequence([N.Strip(), charsmap(), SQUEEZE]), P.Sequence([P.Punctuation("isolated"), P.Metaspace()]),
                   ("unigram", D.Metaspace()), None),
    "ALBERT": (N.Sequence([*QUOTES, *ACCENTS, N.Lowercase(), charsmap(), SQUEEZE]), P.Metaspace(),
               ("unigram", D.Metaspace()), R.BertProcessing(("</s>", 1), ("<s>", 0))),
    "ALBERT, older": (N.Sequence([*QUOTES, *ACCENTS, N.Lowercase(), charsmap()]),
                      P.Sequence([P.WhitespaceSplit(), P.Metaspace()]), ("unigram", D.Metaspace()), None),
    "XLNet": (N.Sequence([*QUOTES, *ACCENTS, charsmap(), SQUEEZE]), P.Metaspace(), ("unigram", D.Metaspace()),
              R.TemplateProcessing(single="$A:0 </s>:0 <s>:2", pair="$A:0 </s>:0 $B:1 </s>:1 <s>:2",
                                   special_tokens=[("<s>", 0), ("</s>", 1)])),
}


def trained(name):
    normalizer, pre_tokenizer, (kind, decoder), post_processor = MODELS[name]
    options = {"vocab_size": 700, "show_progress": False, "special_tokens": ["<s>", "</s>", "<unk>", "<mask>"]}
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    model, trainer = {
        "bytes": lambda: (hf.models.BPE(), hf.trainers.BpeTrainer(initial_alphabet=P.ByteLevel.alphabet(), **options)),
        "fallback": lambda: (
            hf.models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
            hf.trainers.BpeTrainer(limit_alphabet=40, **options | {
                "special_tokens": [*options["special_tokens"], *byte_tokens]})),
        "classic": lambda: (hf.models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"),
                            hf.trainers.BpeTrainer(end_of_word_suffix="</w>", **options)),
        "wordpiece": lambda: (hf.models.WordPiece(unk_token="<unk>"), hf.trainers.WordPieceTrainer(**options)),
        "unigram": lambda: (hf.models.Unigram(), hf.trainers.UnigramTrainer(unk_token="<unk>",
                                                                            **options | {"vocab_size": 200})),
    }[kind]()
    tokenizer = hf.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer or P.Split("\0", "isolated")
    tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = [token | {"lstrip": token["content"] == "<mask>"} for token in spec["added_tokens"]
                            if token["content"] not in byte_tokens]
    tokenizer = hf.Tokenizer.from_str(json.dumps(spec))
    if pre_tokenizer is None:
        spec["pre_tokenizer"] = None
        tokenizer = hf.Tokenizer.from_str(json.dumps(spec))
    tokenizer.decoder = decoder
    if post_processor:
        tokenizer.post_processor = post_processor
    return tokenizer


@pytest.mark.parametrize("name", MODELS)
def test_a_published_models_steps_equal_tokenizers(name, tmp_path):
    theirs = trained(name)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = tokenizers.load(tmp_path)
    for text in TEXTS:
        want = theirs.encode(text, add_special_tokens=False)
        assert ours.encode(text, special=True) == want.ids
        assert ours.encode_with_offsets(text, special=True) == (want.ids, want.offsets)
        assert ours.decode(want.ids) == theirs.decode(want.ids, skip_special_tokens=False)
        for pair in (None, "the sea"):
            full = theirs.encode(text, pair)
            dressed = ours.dress(want.ids, pair and ours.encode(pair, special=True))
            assert dressed == (full.ids, full.type_ids)
    ours.save(tmp_path / "again.json")
    again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    assert again == json.loads(theirs.to_str())


@pytest.mark.parametrize(("name", "scheme"), [
    ("GPT-2", "ByteLevelBPE"), ("RoBERTa", "ByteLevelBPE"), ("Llama 3", "ByteLevelBPE"), ("GPT-4o", "ByteLevelBPE"),
    ("BLOOM", "ByteLevelBPE"), ("BERT uncased", "WordPiece"), ("BERT multilingual", "WordPiece"),
    ("GPT-1", "ClassicBPE"), ("Qwen 2", "Pipeline"), ("T5", "Pipeline")])
def test_what_a_scheme_follows_faster_is_recognized(name, scheme, tmp_path):
    trained(name).save(str(tmp_path / "tokenizer.json"))
    tokenizer = tokenizers.load(tmp_path)
    assert type(tokenizer).__name__ == scheme and (scheme != "Pipeline" or bool(tokenizer.spaces) == (name == "T5"))
