"""Making models smaller: pruning, quantization, adapters, and the surgery that all of them need.

    surgery.py    other layers in the place of some; layers with fewer heads, neurons, blocks
    prune.py      which weights, neurons, heads, rows and layers a model can do without; masks
    quantize.py   layers of small integers;   integers.py  numbers as integers and back;   gptq.py  better rounding
    qat.py        training as if the weights were integers already
    lora.py       adapters: two thin matrices trained beside each frozen one
    storage.py    weights of models that were made smaller, in files and as an ordinary model's

Whole procedures, with data and training, are in train/compression; there each file is named as the method it runs.
"""

from nn.compression.prune import prune, shrink
from nn.compression.quantize import is_quantized, quantize
