"""nn: layers with parameters, and the Module that holds them together."""

from nn.attention import Attention
from nn.cache import DecoderCache, KVCache, StaticCache
from nn.conv import CharacterConvolutions, Conv1d, Highway
from nn.dropout import Dropout
from nn.embedding import Embedding
from nn.linear import Linear
from nn.lstm import LSTM
from nn.mix import ScalarMix
from nn.module import Module, Parameter, evaluating, shapes_only
from nn.norm import LayerNorm, RMSNorm
from nn.softmax import AdaptiveSoftmax, FullSoftmax, SampledSoftmax
from nn.transformer import Block, Blocks, FeedForward, Stream
