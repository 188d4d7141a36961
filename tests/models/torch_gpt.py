"""nanoGPT's architecture once more, in PyTorch, for comparisons; and the maker of the numbers recorded in test_gpt.py.

    python -m tests.models.torch_gpt        prints them
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as f


class Norm(nn.Module):
    """LayerNorm whose bias can be left out."""

    def __init__(self, width, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x):
        return f.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c.heads
        self.approximate = "tanh" if c.activation == "gelu_tanh" else "none"
        self.ln_1, self.ln_2 = Norm(c.width, c.bias), Norm(c.width, c.bias)
        self.c_attn = nn.Linear(c.width, 3 * c.width, bias=c.bias)
        self.c_proj = nn.Linear(c.width, c.width, bias=c.bias)
        self.c_fc = nn.Linear(c.width, 4 * c.width, bias=c.bias)
        self.c_out = nn.Linear(4 * c.width, c.width, bias=c.bias)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (y.view(B, T, self.heads, -1).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).split(C, dim=2))
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~torch.ones(T, T, dtype=torch.bool).tril(), -math.inf)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, C)
        x = x + self.c_proj(y)
        return x + self.c_out(f.gelu(self.c_fc(self.ln_2(x)), approximate=self.approximate))


class TorchGPT(nn.Module):
    """The tied form."""

    def __init__(self, c):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(c.vocab_size, c.width), nn.Embedding(c.context, c.width)
        self.h = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.ln_f = Norm(c.width, c.bias)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T

    def loss(self, batch):
        logits, targets = self(torch.tensor(batch["ids"])), torch.tensor(batch["targets"])
        return f.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def load(self, state: dict[str, np.ndarray]) -> TorchGPT:
        """Take over the weights of our GPT."""
        self.load_state_dict({torch_name(name): torch.tensor(array) for name, array in state.items()})
        return self


def torch_name(name: str) -> str:
    """Our name of a parameter -> its name here."""
    for ours, theirs in {
        "token_embedding": "wte", "position_embedding": "wpe", "blocks": "h", "norm1": "ln_1", "norm2": "ln_2",
        "attention.qkv": "c_attn", "attention.out": "c_proj", "feed_forward.into": "c_fc", "feed_forward.out": "c_out",
    }.items():  # fmt: skip
        name = name.replace(ours, theirs)
    return name.replace("norm.", "ln_f.") if name.startswith("norm.") else name


def train(model, batches, rates, betas, weight_decay, clip) -> list[float]:
    """AdamW with clipping, decaying matrices only, as nanoGPT does it; the loss of each step."""
    groups = [
        dict(params=[p for p in model.parameters() if p.ndim >= 2], weight_decay=weight_decay),
        dict(params=[p for p in model.parameters() if p.ndim < 2], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=rates[0], betas=betas)
    losses = []
    for batch, rate in zip(batches, rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


def cosine(step: int, lr: float, min_lr: float, warmup: int, steps: int) -> float:
    """nanoGPT's schedule."""
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    done = (step - warmup) / (steps - warmup)
    return min_lr + 0.5 * (1 + math.cos(math.pi * done)) * (lr - min_lr)


if __name__ == "__main__":
    from tests.models import test_gpt as recorded

    torch.set_default_dtype(torch.float64)  # the references are exact to every printed digit
    for config in recorded.CONFIGS.values():
        ours = recorded.patterned(config)
        twin = TorchGPT(config).load({name: array.astype(np.float64) for name, array in ours.state_dict().items()})
        batch = recorded.patterned_batch(config)
        loss = twin.loss(batch)
        loss.backward()
        named = dict(twin.named_parameters())
        norms = [round(named[torch_name(name)].grad.norm().item(), 8) for name in recorded.WATCHED]
        print(config, "\n loss", loss.item(), "\n gradients", norms)
        rates = [cosine(t, 1e-2, 1e-3, 2, 8) for t in range(8)]
        losses = train(twin, [batch] * 8, rates, (0.9, 0.99), 0.1, 0.5)
        print(" training", [round(loss, 7) for loss in losses])
