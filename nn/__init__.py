"""nn: layers with parameters, and the Module that holds them together."""

from nn.attention import CrossAttention, SelfAttention, merge_heads, padding_mask, split_heads
from nn.cache import DecoderCache, KVCache
from nn.conv import CharacterConvolutions, Conv1d, Highway
from nn.dropout import Dropout
from nn.embedding import Embedding
from nn.linear import Linear
from nn.loss import CrossEntropyLoss, MSELoss
from nn.lstm import LSTM
from nn.mix import ScalarMix
from nn.module import Module, Parameter, evaluating, shapes_only
from nn.norm import LayerNorm, RMSNorm
from nn.softmax import AdaptiveSoftmax, FullSoftmax, SampledSoftmax
from nn.transformer import FeedForward, PostNormBlock, PreNormBlock
