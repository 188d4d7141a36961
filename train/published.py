"""Fine-tuned models in folders of `transformers`, for `ask`: read where their head has our form (models/heads.py). And
for `chat` a GPT that talks, whose tokenizer has the marks of who speaks (models/chat.py).

The class that `architectures` names says the task, `id2label` the labels. Heads of other forms (DistilBERT's classifier
has a ReLU, GPT-2 no place for "no answer") are refused by name.
"""

import dataclasses
from pathlib import Path

from models import GPT
from models.chat import END, MARKS, ChatInputs
from models.families import PUBLISHED, family_of
from models.files import read_json
from models.hub import newest_snapshot
from models.pretrained import opened
from models.schema import checked
from models.tokenizers import load as load_tokenizer
from nn import shapes_only
from train.checkpoint import check_vocabulary, load_model
from train.finetune import FineTuned
from train.tasks import Answer, Chat, Classify, Regress, Tag, Task

CLASSIFY, TAG, ANSWER = "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"
# by model_type and the end of the class's name: where the head's layers are, by our names for them
TOKENS = {TAG: {"out": "classifier"}, ANSWER: {"out": "qa_outputs"}}
HEADS = {
    "bert": TOKENS | {CLASSIFY: {"out": "classifier"}},
    "albert": TOKENS | {CLASSIFY: {"out": "classifier"}},
    "roberta": TOKENS | {CLASSIFY: {"dense": "classifier.dense", "out": "classifier.out_proj"}},
    "distilbert": TOKENS,
    "xlnet": {CLASSIFY: {"dense": "sequence_summary.summary", "out": "logits_proj"}, TAG: {"out": "classifier"}},
    "gpt2": {CLASSIFY: {"out": "score"}, TAG: {"out": "classifier"}},
    "openai-gpt": {CLASSIFY: {"out": "score"}},
}


@dataclasses.dataclass
class Described:
    """What the config.json of a fine-tuned model says of its head."""

    model_type: str
    architectures: list[str] | None = None
    problem_type: str | None = None
    id2label: dict[str, str | int] | None = None


def holds_one(folder: Path) -> bool:
    """Whether a folder holds a published model, not a run."""
    config = newest_snapshot(folder) / "config.json"
    return config.exists() and "model_type" in read_json(config)


def load(folder: Path) -> FineTuned:
    """The model, with what it takes to ask it, in evaluation mode."""
    folder = newest_snapshot(folder)
    said = checked(Described, read_json(folder / "config.json"), folder / "config.json", others=True)
    kind, name = said.model_type, (said.architectures or ["model without a head"])[0]
    form = next((form for form in HEADS.get(kind, ()) if name.endswith(form)), None)
    if form is None or said.problem_type == "multi_label_classification":
        known = ", ".join(f"{kind}'s {'/'.join(forms)}" for kind, forms in HEADS.items())
        what = name if form is None else f"{name} that gives a text several labels"
        raise ValueError(f"{folder} holds a {what}, whose head is not of our form; ask reads {known}")
    layers, family, tokenizer = HEADS[kind][form], PUBLISHED[kind], load_tokenizer(folder)
    names, ours, arrays = opened(folder, [kind], PUBLISHED[kind].config, layers)
    config = family.config(**(ours | family.model.needs))
    check_vocabulary(tokenizer, config.vocab_size)
    task = _task(form, said, len(arrays.get(f"{layers['out']}.weight", ())))
    with shapes_only(most=2 * len(arrays) + 16):
        body, inputs = family.reader(family.model(config), tokenizer, for_task=False)
        head = task.make_head(body, 0.0)
    names = dataclasses.replace(names, body="body.gpt." if family.model is GPT else "body.")
    optional = [*(["out.bias"] if layers["out"] == "score" else []), *([] if head.pooled else ["body.pooler.*"])]
    optional += [f"body.{pattern}" for pattern in family.model.heads]  # of pretraining, which a task has no use for
    head.load_state_dict(head.state_dict() | names.read(arrays, head.state_dict(), optional), assign=True)
    return FineTuned(head.eval(), task, inputs, family, 0.0)


def talker(folder: Path) -> FineTuned:
    """A GPT that has learned to talk, with what it takes to ask it, in evaluation mode."""
    gpt, tokenizer = load_model(folder)
    special = tokenizer.special_tokens
    if not (isinstance(gpt, GPT) and set(MARKS) <= special.keys() and special[END] == gpt.config.vocab_size - 1):
        what = f"holds a {type(gpt).__name__} whose tokenizer does not end with the marks {' '.join(MARKS)}"
        raise ValueError(f"{folder} {what}; teach one to talk with: python -m train finetune {folder} --task chat")
    task, inputs = Chat(), ChatInputs(tokenizer, gpt.config.context)
    return FineTuned(task.make_head(gpt, 0.0).eval(), task, inputs, family_of(gpt), 0.0)


def _task(form: str, said: Described, outputs: int) -> Task:
    if form == ANSWER:
        return Answer()
    if form == CLASSIFY and (outputs == 1 or said.problem_type == "regression"):
        return Regress(mean=0.0, deviation=1.0)
    labels = tuple(str((said.id2label or {}).get(str(i), f"LABEL_{i}")) for i in range(outputs))
    return Tag(labels) if form == TAG else Classify(labels)
