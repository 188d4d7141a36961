"""Tasks to fine-tune for: one file a kind. Examples are dicts, as they stand in JSON lines.

A task (`Classify`, `Tag`, ...) is all that is known of it besides the model: its labels, how an example becomes arrays
and a model's scores an answer, and how good the answers are. Every task has

    Task.of(examples, held_out)      the task these examples pose
    rows(example, inputs)            one or more Rows: what the body reads (models/inputs.py) and the targets
    make_head(body, dropout)         the body with the head that fits (models/heads.py)
    decode(row, scores)              what the model says about one Row
    answer(example, decoded)         the answer of an example, from what was said about its Rows
    score(examples, answers)         metrics by name, the main one first
    as_text(example)                 (source, target) for models that read and write text
    from_text(text)                  the answer that such a model's text means
"""

from train.tasks.answer import Answer
from train.tasks.choose import Choose
from train.tasks.classify import Classify
from train.tasks.regress import Regress
from train.tasks.rows import Row
from train.tasks.tag import Tag
from train.tasks.text2text import Text2Text

TASKS = {task.kind: task for task in (Classify, Regress, Tag, Answer, Choose, Text2Text)}
