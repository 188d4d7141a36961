"""Prints the RECORDED table of test_bert.py from `transformers` in float64: python -m tests.models.record_bert"""

import tempfile

import numpy as np
import torch
import transformers

from models.pretrained.bert import NAMES
from tests.models.test_bert import MODELS, WATCHED, patterned, patterned_batch
from tests.models.test_bert_parity import THEIRS, their_inputs, their_logits


def published_name(family: str, ours: str) -> str:
    return NAMES[family].published(ours.removeprefix("bert."))[0][0]


for family, model in MODELS.items():
    with tempfile.TemporaryDirectory() as folder:
        patterned(model).save_pretrained(folder)
        theirs = getattr(transformers, THEIRS[family][2]).from_pretrained(folder, attn_implementation="eager")
    theirs = theirs.double().eval()
    batch = patterned_batch(family)
    words, sentence = their_logits(theirs(**their_inputs(batch, family)), family)
    loss = torch.nn.functional.cross_entropy(words.flatten(0, 1), torch.tensor(batch["targets"]).flatten())
    if sentence is not None:
        loss = loss + torch.nn.functional.cross_entropy(sentence, torch.tensor(batch["next"]))
    loss.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    ours = [next(name for name, _ in model.named_parameters() if name.endswith(ending)) for ending in WATCHED]
    norms = [round(float(np.linalg.norm(gradients[published_name(family, name)].numpy())), 8) for name in ours]
    hidden = theirs.base_model(**their_inputs(batch, family)).last_hidden_state.detach().numpy()[batch["mask"]]
    print(f'    "{family}": ({loss.item()!r}, {norms}, {float(np.abs(hidden).sum())!r}),')
