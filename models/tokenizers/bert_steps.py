"""BERT's clean-up as the steps of a tokenizer.json, and back: which files' words BertText finds."""

from models.tokenizers.bert_text import BertText
from models.tokenizers.pipeline.file import Published, Steps
from models.tokenizers.pipeline.normalizers import BertNormalizer
from models.tokenizers.pipeline.pretokenizers import BertPreTokenizer


def bert_steps(text: BertText, decoder: object, post_processor: object = None) -> Steps:
    normalizer = BertNormalizer(True, text.handle_chinese_chars, text.strip_accents, text.lowercase)
    return Steps(normalizer, BertPreTokenizer(), post_processor, decoder)


def bert_text_of(file: Published) -> BertText | None:
    """None if its steps are others, or an added token asks for them: one found in normalized text, or as a word."""
    step = file.steps.normalizer
    if not isinstance(step, BertNormalizer) or not step.clean_text or file.steps.pre_tokenizer != BertPreTokenizer():
        return None
    text = BertText(step.lowercase, step.strip_accents, step.handle_chinese_chars)
    if any(token.normalized or (token.special and text.words(name) == [name]) for name, token in file.added.items()):
        return None
    return text
