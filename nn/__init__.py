"""nn: layers with parameters, and the Module that holds them together."""

from nn import show as _show  # how a Module looks in a notebook
from nn.attention import Attention, DecoderCache, KVCache
from nn.conv import CharacterConvolutions, Conv1d, Highway, ScalarMix
from nn.data_parallel import DataParallel
from nn.experts import ExpertBlock, Experts, Networks, Router
from nn.layers import Dropout, Embedding, LayerNorm, Linear, RMSNorm
from nn.lstm import LSTM
from nn.module import Module, Parameter, check_finite, evaluating, shapes_only
from nn.rotary import Rotary
from nn.softmax import AdaptiveSoftmax, FullSoftmax, SampledSoftmax
from nn.transformer import Block, Blocks, FeedForward, Stream
