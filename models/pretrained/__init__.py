"""Published checkpoints: a folder in Hugging Face's layout, read into our models and written from them.

Such a folder holds config.json (the shape, under the publisher's names), the weights (model.safetensors, or several
shards with an index; older ones pytorch_model.bin) and the tokenizer's files.

    weights.py      the weights' files <-> {published name: array}
    torch_files.py  the reader of pytorch_model.bin: a pickle of which nothing is ever executed
    names.py        {published name: array} <-> {our parameter's name: array}, from one table a family
    layout.py       what the record of a published kind says
    folders.py      reading and writing by it
    gpt.py, ...     the records;   elmo.py  ELMo's files, which are of another kind

A model's file imports its family's file here; these know nothing of the models.
"""

from models.pretrained.folders import Published, opened, save
from models.pretrained.layout import Layout
from models.pretrained.names import Names, Transposed
from models.pretrained.weights import read_config, read_weights, write_folder
