"""A published tokenizer, step by step: normalizer, pre-tokenizer, model, post-processor, decoder.

Each step is a small class under its published name, with the published options: read them to learn what a file says.
`tokenizer.py` leads a text through them, `file.py` reads and writes tokenizer.json, `text.py` keeps track of where
each character came from.

Left out, and refused by name: patterns that Oniguruma reads otherwise than `regex` (\\w, \\b, {1,2}+, (?m)), a template
token of several ids, two post-processors around one text, a BPE with bytes and marks of a word's parts or whose unknown
token is made by a merge, and added tokens of which the normalizer leaves nothing. Characters that came with Unicode 17
or later may count otherwise than in `tokenizers`, for UnicodeScripts those since Unicode 9.
"""
