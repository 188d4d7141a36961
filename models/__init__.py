"""models: whole models, each readable top to bottom in its own file, with their tokenizers and generation."""

from models.albert import ALBERT, ALBERTConfig, ALBERTForPreTraining
from models.bert import BERT, BERTConfig, BERTForPreTraining
from models.distilbert import DistilBERT, DistilBERTConfig, DistilBERTForPreTraining
from models.elmo import ELMo, ELMoConfig
from models.ernie_gen import ERNIEGen, ERNIEGenConfig
from models.gpt import GPT, GPTConfig
from models.opening import load
from models.roberta import RoBERTa, RoBERTaConfig, RoBERTaForPreTraining
from models.switch import SwitchConfig, SwitchTransformer
from models.t5 import T5, T5Config
from models.xlnet import XLNet, XLNetConfig
