"""Tasks to fine-tune for: one file a kind, with its head. What every kind promises stands in task.py."""

from train.tasks.answer import Answer
from train.tasks.chat import Chat
from train.tasks.choose import Choose
from train.tasks.classify import Classify
from train.tasks.draw import Draw
from train.tasks.regress import Regress
from train.tasks.reward import Reward
from train.tasks.tag import Tag
from train.tasks.task import Row, Task
from train.tasks.text2text import Text2Text

TASKS = {task.kind: task for task in (Classify, Regress, Tag, Answer, Choose, Text2Text, Chat, Reward, Draw)}
