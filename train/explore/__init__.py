"""`python -m train explore`: what happens inside a model that reads a text, as one HTML page that needs nothing else.

reading.py says what a model of each kind is given, inside.py watches it read, ahead.py lets it write, pieces.py shows
how the tokenizer cut the text; page.py puts their data beside page.html, page.css and page.js.
"""
