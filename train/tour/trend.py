"""The lecture's table of growing models, counted anew (Bender et al. 2021, "On the Dangers of Stochastic Parrots").

What that table and the papers print stands here; what is computed does not: parameters are counted from a config of
ours, built under shapes_only(). From them follow

    bytes    parameters x 4 (float32), x 2 (bfloat16), x 1 (int8)
    FLOPs    6 N D (Kaplan et al. 2020, arXiv:2001.08361): two operations per parameter and token forward, four
             backward. N counts what a token passes through: of a mixture the experts it is sent to, of ALBERT its one
             layer twelve times, of an encoder-decoder one of the two halves.

D are the tokens read in training, steps x batch x length as the papers say; where they do not there is no figure.
Published FLOPs are those of Brown et al. 2020 (arXiv:2005.14165, table D.1) and, measured on the machine, of Patterson
et al. 2021 (arXiv:2104.10350, table 4).
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models import GPT, T5, GPTConfig, SwitchConfig, SwitchTransformer, T5Config
from models.albert import ALBERTConfig, ALBERTForPreTraining
from models.bert import PRESETS as BERTS
from models.bert import BERTConfig, BERTForPreTraining
from models.config import Config
from models.contract import Writer
from models.distilbert import DistilBERTConfig, DistilBERTForPreTraining
from models.ernie_gen import ERNIEGen, ERNIEGenConfig
from models.roberta import RoBERTaConfig, RoBERTaForPreTraining
from models.xlnet import XLNet, XLNetConfig
from nn import Embedding, Module, shapes_only
from nn.experts import Experts
from train.report import picture
from train.tables import markdown


def count(model: Callable[..., Module], *config) -> int:
    """The parameters of a model that is never filled."""
    with shapes_only():
        return model(*config).parameter_count()


def passed(model: type[Module], config: Config) -> float:
    """N: the parameters that a token passes through, counted as often as it does."""
    if "groups" in vars(config):  # layers that share
        config = dataclasses.replace(config, groups=config.layers)
    with shapes_only():
        made = model(config)
    mixtures = [(part.networks, part.router.top) for part in made.modules() if isinstance(part, Experts)]
    idle = sum(networks.parameter_count() // networks.experts * (networks.experts - top) for networks, top in mixtures)
    return (made.parameter_count() - idle) / (2 if Writer in model.__mro__ and model.reads_source else 1)


MEGATRON = GPTConfig(vocab_size=51200, context=1024, layers=72, heads=32, width=3072)
T_NLG = GPTConfig(vocab_size=50257, context=1024, layers=78, heads=28, width=4256)


@dataclass(frozen=True)
class Row:
    """One model: what is published of it, how to count it, and why the two differ."""

    name: str
    month: str  # of the first version of its paper
    published: float | None  # parameters
    count: Callable[[], int]
    why: str
    gigabytes: float | None = None  # of text, in the lecture's table
    tokens: float | None = None  # read in training
    passed: Callable[[], float] | None = None  # parameters that one token passes through, if not all, once
    flops: float | None = None  # published


BYTES = (" B", " KB", " MB", " GB", " TB")


def ours(model: type[Module], config: Config) -> Callable[[], int]:
    return lambda: count(model, config)


ALBERT, T5_11B = (ALBERTForPreTraining, ALBERTConfig.preset("xxlarge")), (T5, T5Config.preset("t5-11b"))
GSHARD, SWITCH_C = ((SwitchTransformer, SwitchConfig.preset(name)) for name in ("gshard-600b", "switch-c-2048"))
TREND = (
    Row("BERT", "2018-10", 3.4e8, ours(BERTForPreTraining, BERTConfig.preset("large")),
        "340M rounds up; FLOPs: table D.1 takes 250B tokens, more than the paper's steps x batch x length",
        16, 1e6 * 256 * 512, flops=5.33e20),
    Row("DistilBERT", "2019-10", 6.6e7, ours(DistilBERTForPreTraining, DistilBERTConfig.preset("base")),
        "66M is the body; the head for masked words is counted here too", 16),
    Row("ALBERT", "2019-09", 2.23e8, ours(*ALBERT),
        "agree with both heads; its one layer is passed twelve times, so N counts it twelve times",
        16, 125e3 * 4096 * 512, lambda: passed(*ALBERT)),
    Row("XLNet", "2019-06", 3.4e8, ours(XLNet, XLNetConfig.preset("large")),
        "340M is BERT-Large's figure; each layer of its own has a fifth projection, for positions",
        126, 500e3 * 8192 * 512),
    Row("ERNIE-GEN", "2020-01", 3.4e8, ours(ERNIEGen, ERNIEGenConfig.preset("large")),
        "BERT-Large's shape, and the same rounding up", 16),
    Row("RoBERTa", "2019-07", 3.55e8, ours(RoBERTaForPreTraining, RoBERTaConfig.preset("large", pooler=False)),
        "agree to rounding; FLOPs: a batch of 8k is 8192 here, and the tokens are 2000B in table D.1",
        161, 500e3 * 8192 * 512, flops=4.26e21),
    Row("Megatron-LM", "2019-09", 8.3e9, ours(GPT, MEGATRON),
        "agree to rounding; the vocabulary is filled up to 51,200 so that eight GPUs can share it",
        174, 300e3 * 512 * 1024),
    Row("T5-11B", "2019-10", 1.1e10, ours(*T5_11B),
        "11B rounds down; FLOPs: a token passes the encoder or the decoder, so half of N",
        745, 1e6 * 2048 * 512, lambda: passed(*T5_11B), 3.30e22),
    Row("T-NLG", "2020-02", 1.7e10, ours(GPT, T_NLG),
        "17B rounds down; the vocabulary is not published, GPT-2's is taken", 174, 300e3 * 512 * 1024),
    Row("GPT-3", "2020-05", 1.75e11, ours(GPT, GPTConfig.preset("gpt3-175b")),
        "rounds up: the paper's appendix prints 174,600M; FLOPs agree",
        570, 300e9, flops=3.14e23),
    Row("GShard", "2020-06", 6e11, ours(*GSHARD),
        "600B is a name: the experts alone are more (Patterson et al. say 619B); the vocabulary and the tokens are "
        "not published, T5's vocabulary is taken", None, None, lambda: passed(*GSHARD), 1.33e22),
    Row("Switch-C", "2021-01", 1.57e12, ours(*SWITCH_C),
        "agree to rounding; published FLOPs are chips x speed x days, with padding, routing and copies",
        745, 500e3 * 2**20, lambda: passed(*SWITCH_C), 8.22e22),
)  # fmt: skip
SMALL = (
    Row("word2vec, 200,000 x 768", "2013-01", None, lambda: count(Embedding, 200_000, 768),
        "one table and nothing else, and yet more than all of BERT-Base"),
    *(Row(f"BERT-{name.capitalize()}", "2018-10" if name in ("base", "large") else "2019-08", published,
          ours(BERTForPreTraining, BERTConfig.preset(name)), why)
      for name, published, why in zip(BERTS, (4.4e6, 11.3e6, 29.1e6, 41.7e6, 110e6, 340e6), (
          "agree to rounding, with or without heads", "agree with both heads, not without",
          "agree with both heads", "agree with both heads", "agree to rounding", "340M rounds up"))),
)  # fmt: skip


def table(rows: tuple[Row, ...]) -> str:
    """Markdown: all that is published beside all that is computed, and a line on each difference."""
    number = lambda value: "-" if value is None else f"{value:.2e}"
    lines = [("model", "month", "text", "published", "computed", "apart", "tokens", "6 N D", "published", "float32",
              "bfloat16", "int8")]  # fmt: skip
    for row in rows:
        n = row.count()
        work = row.tokens and 6 * (row.passed() if row.passed else n) * row.tokens
        apart = f"{n / row.published - 1:+.1%}" if row.published else "-"
        text = f"{row.gigabytes} GB" if row.gigabytes else "-"
        sizes = [in_words(n * width, BYTES) for width in (4, 2, 1)]
        printed = row.name, row.month, text, number(row.published)
        lines.append((*printed, f"{n:,}", apart, number(row.tokens), number(work), number(row.flops), *sizes))
    notes = [f"- {row.name}: {row.why}" for row in rows]
    return "\n".join([markdown(lines), "", *notes])


def in_words(n: float, units: tuple[str, ...]) -> str:
    """A number in the unit, each a thousand of the one before, that leaves one to three digits before the point."""
    for unit in units[:-1]:
        if n < 1000:
            return f"{n:.3g}{unit}"
        n /= 1000
    return f"{n:.3g}{units[-1]}"


def draw(path: Path) -> bool:
    """The growth picture: parameters, counted, over the month of publication."""
    right, left = dict(ha="left", xytext=(7, -3)), dict(ha="right", xytext=(-7, -3))
    above, below = dict(ha="center", xytext=(0, 7)), dict(ha="center", xytext=(0, -15))
    places = {"BERT": below, "XLNet": above, "ALBERT": below, "Megatron-LM": left, "Switch-C": left}

    def points(axes) -> None:
        for label, colour, some in (("each token passes all parameters once", "#08519c", False),
                                    ("some of them, or one layer many times", "#d94801", True)):  # fmt: skip
            rows = [row for row in TREND if bool(row.passed) == some]
            dates = [int(row.month[:4]) + (int(row.month[5:]) - 0.5) / 12 for row in rows]
            axes.plot(dates, [row.count() for row in rows], "o", color=colour, label=label)
            for row, x in zip(rows, dates):
                text = f"{row.name} {in_words(row.count(), ('', 'K', 'M', 'B', 'T'))}"
                place = places.get(row.name, right)
                axes.annotate(text, (x, row.count()), textcoords="offset points", fontsize=9, **place)
        axes.set(yscale="log", xlim=(2018.5, 2021.3), xticks=range(2019, 2022), ylim=(3e7, 5e12))

    title = "Language models grow: parameters, counted from configs"
    return picture(path, points, "year of publication", "parameters", title)
