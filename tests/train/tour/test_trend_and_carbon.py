"""The lecture's tables: what is computed, beside what is printed."""

import pytest

from tests.train.test_compress import command
from train.tour import carbon, trend

# Counted by transformers itself on its meta device, or from the papers' own formulas.
COUNTS = {
    "BERT": 336_226_108, "DistilBERT": 66_985_530, "ALBERT": 223_158_450, "XLNet": 360_300_800,
    "ERNIE-GEN": 335_700_794, "RoBERTa": 355_412_057, "Megatron-LM": 8_317_040_640,
    "T5-11B": 11_307_321_344, "T-NLG": 17_176_845_728, "GPT-3": 174_604_259_328,
}  # fmt: skip


def test_the_twelve_rows_are_counted():
    rows = {row.name: row.count() for row in trend.TREND}
    assert len(rows) == 12 and {name: rows[name] for name in COUNTS} == COUNTS
    experts = 18 * 2048 * 2 * 1024 * 8192
    assert rows["GShard"] == pytest.approx(619.3e9, rel=1e-4) and rows["GShard"] > experts == 618_475_290_624
    assert rows["Switch-C"] == 1_571_308_972_448  # the published 1.571T; transformers' class of this shape has as many


def test_every_count_is_within_seven_percent_of_the_published_one():
    for row in (*trend.TREND, *trend.SMALL):
        assert row.published is None or row.count() == pytest.approx(row.published, rel=0.07)


def test_the_small_models_agree_to_the_digits_that_are_printed():
    small = {row.name: row.count() for row in trend.SMALL}
    assert small["word2vec, 200,000 x 768"] == 153_600_000 > small["BERT-Base"] == 110_106_428
    printed = {"Tiny": 4.4, "Mini": 11.3, "Small": 29.1, "Medium": 41.7}
    assert {name: round(small[f"BERT-{name}"] / 1e6, 1) for name in printed} == printed


def test_what_a_token_passes_through():
    rows = {row.name: row for row in trend.TREND}
    assert rows["ALBERT"].passed() == pytest.approx(2.44e9, rel=0.01)  # twelve layers, though the file has one
    assert rows["T5-11B"].passed() == rows["T5-11B"].count() / 2
    assert rows["Switch-C"].count() - 2 * rows["Switch-C"].passed() == 30 * 2047 * 2 * 2080 * 6144  # one of 2048
    assert rows["GShard"].count() - 2 * rows["GShard"].passed() == 18 * 2046 * 2 * 1024 * 8192


def test_six_times_parameters_and_tokens_is_gpt3s_published_work(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "trend.png"
    assert command("tour", "trend", "--picture", picture) == 0
    lines = {line.split("|")[1].strip(): line for line in capsys.readouterr().out.splitlines() if line.startswith("|")}
    cells = [cell.strip() for cell in lines["GPT-3"].split("|")[1:-1]]
    assert cells == ["GPT-3", "2020-05", "570 GB", "1.75e+11", "174,604,259,328", "-0.2%", "3.00e+11", "3.14e+23",
                     "3.14e+23", "698 GB", "349 GB", "175 GB"]  # fmt: skip
    assert 6 * 174_604_259_328 * 300e9 / 86400e15 == pytest.approx(3640, rel=1e-3)
    assert "GShard" in lines and picture.stat().st_size > 10_000


def test_strubells_figures_are_reckoned_again_and_two_rows_do_not_fit(capsys):
    assert command("tour", "carbon") == 0
    said = capsys.readouterr().out
    amiss = [(row.model, row.device) for row in carbon.STRUBELL if not row.fits()]
    assert amiss == [("BERT base", "V100"), ("NAS", "TPUv2")]
    assert "BERT base on V100 x 64: the printed 79 hours do not fit its printed figures; 79.2 do" in said
    assert "NAS on TPUv2 x 1: the printed 32,623 hours do not fit its printed figures; 32,633.0 do" in said
    assert "NAS = 4.97 x a car with its fuel, its lifetime" in said
    assert "1,507 -> 1,503.0" in said and "656,347 -> 656,347.3" in said and "43,008 -> 43,008.0" in said


def test_gpt3_on_a100s_takes_the_published_34_days(capsys):
    flags = ["--preset", "gpt3-175b", "--tokens", "300e9", "--gpus", 1024, "--grid", "germany"]
    assert command("tour", "carbon", *flags) == 0
    said = capsys.readouterr().out
    assert "gpt3-175b: 174,604,259,328 parameters, 3e+11 tokens" in said and "33.8 days" in said
    assert "of CO2e at 381 g per kWh" in said


def test_gpt3_on_v100s_takes_what_patterson_and_others_publish():
    """14.8 days, 1,287 MWh, 552.1 t (2021, table 4)."""
    training = carbon.Training(6 * 174_604_259_328 * 300e9, 10_000, 24.6, 330, 1.10, 429)
    assert training.days == pytest.approx(14.8, abs=0.05)
    assert training.kwh / 1000 == pytest.approx(1287, rel=2e-3) and "552.7 t of CO2e" in str(training)


@pytest.mark.parametrize(("flags", "sentence"), [
    (["--grid", "atlantis", "--preset", "gpt2", "--tokens", "1e9"], "unknown --grid atlantis"),
    (["--preset", "gpt2"], "or a --preset with the --tokens it reads"),
    (["--preset", "gpt2", "--tokens", "nan"], "argument --tokens: it must be a finite number, not nan"),
    (["--tokens", "1e9"], "or a --preset with the --tokens it reads"),
    (["--preset", "gpt5", "--tokens", "1e9"], "unknown preset 'gpt5'"),
    (["--preset", "gpt2", "--tokens", "1e9", "--gpus", "0"], "argument --gpus: it must be at least 1, not 0"),
    (["nowhere"], "nowhere is not a folder"),
    (["nowhere", "--preset", "gpt2", "--tokens", "1e9"], "give a RUN that was trained here, or"),
])  # fmt: skip
def test_what_cannot_be_reckoned_is_refused(flags, sentence, capsys):
    assert command("tour", "carbon", *flags) == 2
    assert sentence in capsys.readouterr().err
