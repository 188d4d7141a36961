"""The same models in PyTorch, eager mode, as one would write them: the peers that the benchmarks race against."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from models import BERTConfig, ELMoConfig, GPTConfig, T5Config
from models.elmo import CHARACTERS
from models.pretrained import t5 as published


class Norm(nn.Module):
    """LayerNorm with an optional bias."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.width))
        self.bias = nn.Parameter(torch.zeros(config.width)) if config.bias else None

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Block(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        C, bias = config.width, config.bias
        self.heads, self.p = config.heads, config.dropout
        self.norm1, self.norm2 = Norm(config), Norm(config)
        self.qkv, self.out = nn.Linear(C, 3 * C, bias), nn.Linear(C, C, bias)
        self.into, self.back = nn.Linear(C, 4 * C, bias), nn.Linear(4 * C, C, bias)
        self.dropout = nn.Dropout(config.dropout)
        self.approximate = "tanh" if config.activation == "gelu_tanh" else "none"

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(self.norm1(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in (q, k, v))
        p = self.p if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=p)
        x = x + self.dropout(self.out(y.transpose(1, 2).reshape(B, T, C)))
        hidden = F.gelu(self.into(self.norm2(x)), approximate=self.approximate)
        return x + self.dropout(self.back(hidden))


class TorchGPT(nn.Module):
    """The architecture of models/gpt.py with a tied output table."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = Norm(config)
        for name, p in self.named_parameters():
            if p.ndim > 1:
                residual = name.endswith(("out.weight", "back.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.layers) if residual else 0.02)

    def forward(self, ids):
        x = self.dropout(self.tokens(ids) + self.positions.weight[: ids.shape[1]])
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.T

    def loss(self, batch):
        logits = self(batch["ids"])
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), batch["targets"].reshape(-1))


class PostNormBlock(nn.Module):
    def __init__(self, config: BERTConfig):
        super().__init__()
        C, eps = config.width, config.norm_eps
        self.heads, self.p = config.heads, config.attention_dropout
        self.qkv, self.out = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.into, self.back = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)
        self.norm1, self.norm2 = nn.LayerNorm(C, eps), nn.LayerNorm(C, eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in self.qkv(x).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p if self.training else 0.0)
        x = self.norm1(x + self.dropout(self.out(y.transpose(1, 2).reshape(B, T, C))))
        return self.norm2(x + self.dropout(self.back(F.gelu(self.into(x)))))


class TorchBERT(nn.Module):
    """The architecture of models/bert.py. As there, only the tokens to be predicted go through the output table."""

    def __init__(self, config: BERTConfig):
        super().__init__()
        C = config.width
        self.tokens = nn.Embedding(config.vocab_size, C)
        self.positions = nn.Embedding(config.context, C)
        self.types = nn.Embedding(config.token_types, C)
        self.norm = nn.LayerNorm(C, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(PostNormBlock(config) for _ in range(config.layers))
        self.pooler, self.pair = nn.Linear(C, C), nn.Linear(C, 2)
        self.dense, self.head_norm = nn.Linear(C, C), nn.LayerNorm(C, config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.trunc_normal_(p, std=0.02, a=-0.04, b=0.04)

    def loss(self, batch):
        ids, targets = batch["ids"], batch["targets"]
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]] + self.types(batch["token_types"])
        x = self.dropout(self.norm(x))
        for block in self.blocks:
            x = block(x)
        asked = targets != -100
        chosen = self.head_norm(F.gelu(self.dense(x[asked])))
        words = F.cross_entropy(F.linear(chosen, self.tokens.weight, self.bias), targets[asked])
        return words + F.cross_entropy(self.pair(torch.tanh(self.pooler(x[:, 0]))), batch["next"])


class TorchT5(nn.Module):
    """The T5 of `transformers`, which runs in eager mode as all else here."""

    def __init__(self, config: T5Config):
        super().__init__()
        import transformers

        fields = published.LAYOUT.published_fields(config)
        self.model = transformers.T5ForConditionalGeneration(transformers.T5Config(**fields))

    def loss(self, batch):
        return self.model(input_ids=batch["ids"], labels=batch["targets"]).loss


class TorchELMo(nn.Module):
    """The architecture of models/elmo.py with a full softmax, without clipping, which nn.LSTM does not have. As there,
    a word that occurs again is not spelt again."""

    def __init__(self, config: ELMoConfig):
        super().__init__()
        self.config, n, C = config, config.filter_count, config.width
        self.characters = nn.Embedding(CHARACTERS, config.char_width)
        self.convolutions = nn.ModuleList(nn.Conv1d(config.char_width, count, w) for w, count in config.filter_pairs)
        self.carry, self.transform = (nn.ModuleList(nn.Linear(n, n) for _ in range(config.highways)) for _ in range(2))
        self.projection, self.out = nn.Linear(n, C), nn.Linear(C, config.vocab_size)
        one = lambda: nn.LSTM(C, config.hidden, batch_first=True, proj_size=C if C < config.hidden else 0)
        self.sides = nn.ModuleList(nn.ModuleList(one() for _ in range(config.layers)) for _ in range(2))
        self.dropout = nn.Dropout(config.dropout)

    def words(self, ids):
        """(N, T, characters) -> (N, T, width)"""
        different, places = torch.unique(ids.flatten(0, 1), dim=0, return_inverse=True)
        x = self.characters(different.long()).transpose(1, 2)
        x = torch.relu(torch.cat([convolution(x).amax(dim=2) for convolution in self.convolutions], dim=1))
        for carry, transform in zip(self.carry, self.transform):
            x = x + torch.sigmoid(carry(x)) * (torch.relu(transform(x)) - x)
        return self.projection(x)[places].view(*ids.shape[:2], -1)

    def loss(self, batch):
        ahead, back = self.words(torch.cat([batch["ids"], batch["back_ids"]])).chunk(2)
        losses = []
        read = (ahead, batch["targets"]), (back.flip(1), batch["back_targets"].flip(1))
        for lstms, (x, targets) in zip(self.sides, read):
            for layer, lstm in enumerate(lstms):
                y = lstm(self.dropout(x))[0]
                x = y + x if layer and self.config.skip else y
            losses.append(F.cross_entropy(self.out(self.dropout(x)).flatten(0, 1), targets.flatten()))
        return sum(losses) / 2


class TorchTrainer:
    """step(batch): forward, backward, clipping, AdamW.

    compiled: the loss by torch.compile, which needs a C++ compiler.
    """

    def __init__(self, config: GPTConfig | BERTConfig | T5Config | ELMoConfig, threads: int, compiled: bool = False):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        kinds = {GPTConfig: TorchGPT, BERTConfig: TorchBERT, T5Config: TorchT5, ELMoConfig: TorchELMo}
        self.model = kinds[type(config)](config).train()
        self.loss = torch.compile(self.model.loss) if compiled else self.model.loss
        matrices = [p for p in self.model.parameters() if p.ndim >= 2]
        vectors = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))

    def step(self, batch: dict) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss({name: torch.from_numpy(array) for name, array in batch.items()})
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()
