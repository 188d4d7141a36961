"""nn.prune and nn.quantize go on working as import names."""

import nn.prune
import nn.quantize
from nn import compression


def test_the_short_names_are_those_of_the_package():
    assert nn.prune.prune is compression.prune
    assert nn.prune.shrink is compression.shrink
    assert nn.quantize.quantize is compression.quantize
