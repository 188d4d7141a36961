"""Writes recorded.json and tiny.model: what the published libraries answer, for tests that run without them.

python -m tests.models.tokenizers.record, where tokenizers, transformers and sentencepiece are installed. Run again only
when the texts change; the alphabets of WordPiece and classic BPE come out in another order each time.
"""

import io
import json
from pathlib import Path

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from models.tokenizers.split import GPT2, GPT4
from tests.models.tokenizers.awkward_texts import AWKWARD, CORPUS

HERE = Path(__file__).parent


def trained(model, trainer, pre_tokenizer, normalizer=None):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator([CORPUS], trainer)
    return tokenizer


def answers(tokenizer):
    encodings = [tokenizer.encode(text, add_special_tokens=False) for text in AWKWARD]
    return {"tokenizer": json.loads(tokenizer.to_str()), "ids": [one.ids for one in encodings],
            "offsets": [one.offsets for one in encodings], "decoded": [tokenizer.decode(one.ids) for one in encodings]}


def words(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return [[word for word, _ in split.pre_tokenize_str(text)] for text in AWKWARD]


recorded = {"gpt2_words": words(GPT2), "gpt4_words": words(GPT4)}

bytelevel = trained(
    models.BPE(), trainers.BpeTrainer(vocab_size=500, show_progress=False, special_tokens=["<|endoftext|>"],
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False))
bytelevel.decoder = decoders.ByteLevel()
recorded["bytelevel"] = answers(bytelevel)

for name, lowercase in (("uncased", True), ("cased", False)):
    wordpiece = trained(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=300, show_progress=False,
                                  special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
        pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer(lowercase=lowercase))
    wordpiece.decoder = decoders.WordPiece()
    wordpiece.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    recorded[f"wordpiece_{name}"] = answers(wordpiece)
wordpiece.enable_padding(pad_token="[PAD]", pad_id=0)
recorded["pairs"] = []
for max_length in (3, 8, 9, 16, 17, 40, 100):
    wordpiece.enable_truncation(max_length, strategy="longest_first")
    rows = wordpiece.encode_batch(list(zip(AWKWARD[3:12], AWKWARD[11:2:-1])))
    recorded["pairs"].append({"max_length": max_length, "ids": [row.ids for row in rows],
                              "types": [row.type_ids for row in rows], "mask": [row.attention_mask for row in rows]})

classic = trained(
    models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"),
    trainers.BpeTrainer(vocab_size=300, show_progress=False, special_tokens=["<unk>"], end_of_word_suffix="</w>"),
    pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer())
classic.decoder = decoders.BPEDecoder()
recorded["classic"] = answers(classic)

rules = HERE / "rules.tsv"      # a few replacements, so that the table in the model stays small
replaced = (("\t", " "), ("\n", " "), ("\u3000", " "), ("ﬁ", "fi"), ("①", "1"), ("é", "e"), ("e\u0301", "e"),
            ("\x07", ""), ("¨", " \u0308"))
rules.write_text("".join("\t".join(" ".join(f"{ord(one):X}" for one in text) for text in rule) + "\n"
                         for rule in replaced))
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(CORPUS.splitlines()), model_writer=model, vocab_size=140, model_type="unigram", pad_id=0,
    eos_id=1, unk_id=2, bos_id=-1, minloglevel=2, normalization_rule_tsv=str(rules), user_defined_symbols=["harbour's"],
    character_coverage=0.98)
rules.unlink()
(HERE / "tiny.model").write_bytes(model.getvalue())
processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
ids = [processor.encode(text) for text in AWKWARD + CORPUS.splitlines()]
recorded["spiece"] = {"ids": ids, "decoded": [processor.decode(one) for one in ids]}

(HERE / "recorded.json").write_text(json.dumps(recorded, ensure_ascii=True, separators=(",", ":")) + "\n")
