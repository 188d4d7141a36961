"""A published tokenizer, step by step: normalizer, pre-tokenizer, model, post-processor, decoder.

Each step is a small class under its published name, with the published options: read them to learn what a file says.
`tokenizer.py` leads a text through them, `file.py` reads and writes tokenizer.json, `text.py` keeps track of where
each character came from.
"""
