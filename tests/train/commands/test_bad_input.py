"""What makes no sense on the command line: one sentence that names it, status 2, no traceback, and nothing lost."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from models import GPT, GPTConfig
from models.tokenizers import Characters
from train.__main__ import main
from train.report import describe_loss, perplexity

TEXT = "the cat sat on the mat. the dog sat on the log. the hen sat in the pen.\n" * 30
SHAPE = "--layers 1 --heads 2 --width 16 --workers 1 --steps 2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Finished runs of two steps: a GPT, a BERT, a T5, and a classifier."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT)
    for name, more in (
        ("gpt", f"--data {folder}/text.txt --context 16"),
        ("bert", "--stories 30000 --context 48 --vocab-size 300"),
        ("t5", "--stories 10000 --context 16 --vocab-size 300 --head-width 8 --hidden 16"),
    ):
        assert main([name, "--out", str(folder / name), *SHAPE.split(), *more.split()]) == 0
    tuned = f"finetune {folder}/bert --task sentiment --examples 16 --epochs 1 --workers 1 --out {folder}/tuned"
    assert main(tuned.split()) == 0
    return folder


def refused(command: str, capsys) -> str:
    """The one sentence that a command ends with."""
    capsys.readouterr()
    assert main(shlex.split(command)) == 2, command
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


BAD = {
    "gpt --data text.txt --stories 9": "leave out one of the two",
    "gpt --data text.txt --lr nan": "argument --lr: it must be a finite number, not nan",
    "gpt --data text.txt --lr 1e-5": "min_lr 0.0001 is above lr 1e-05",
    "gpt --data text.txt --weight-decay nan": "argument --weight-decay: it must be a finite number, not nan",
    "gpt --data text.txt --beta2 1": "argument --beta2: it must be less than 1, not 1.0",
    "gpt --data text.txt --init-std -1": "argument --init-std: it must be at least 0, not -1.0",
    "gpt --data text.txt --activation sine": "argument --activation: it must be one of gelu, gelu_tanh",
    "gpt --resume gpt --stories 9": "leave out --stories",
    "gpt --resume gpt --overwrite": "leave out --overwrite",
    "gpt --resume gpt --steps 4 --optimizer sgd": "the saved state is not SGD's: velocity is missing",
    "gpt --resume tuned": "tuned is a run of finetune; go on with: python -m train finetune --resume tuned",
    "eval gpt --batch 0": "argument --batch: it must be at least 1, not 0",
    "eval published": "published has no text that it held out; name one with --data",
    "sample published --best --length-penalty 2": "--length-penalty 2.0 is for beams; add --beams, or leave it out",
    "sample t5 --input a --prompt b": "--prompt, --stop and --past-context are for a GPT",
    "sample tuned": "tuned was fine-tuned to classify; ask it with: python -m train ask",
    "embed text.txt cat --model bert --top 0": "argument --top: it must be at least 1, not 0",
    "embed text.txt cat --model t5": "a T5 writes texts and makes no vectors of them",
    "embed text.txt --model bert --out v": "--out v must end in .npz",
    "neighbours bert *cat* --data text.txt --lines 0": "argument --lines: it must be at least 1, not 0",
    "neighbours t5 *cat* --data text.txt": "a T5 writes texts and makes no vectors of them",
    f"neighbours bert '{'the ' * 60}*cat*' --data text.txt": "*cat* is word 61, behind all that the model reads",
    "finetune bert --task sentiment --batch 0": "argument --batch: it must be at least 1, not 0",
    "finetune bert --task sentiment --max-length -1": "argument --max-length: it must be at least 0, not -1",
    "finetune bert --task roles --max-length 2": "2 tokens are too few for a word",
    "finetune bert --task questions --max-length 6": "6 tokens are too few for a question and a passage",
    "finetune bert --task sentiment --held-out x.tsv": "--held-out goes with --data",
    "finetune bert --task classify --data moods.tsv --examples 9": "--examples are made where there is no --data",
    "finetune t5 --task coherence --both-orders": "and a T5 has none; leave it out",
    "finetune --resume bert": "bert is a run of bert; go on with: python -m train bert --resume bert",
    "t5 --data text.txt --objective prefix --tokenizer gpt/tokenizer.json": "a T5 needs tokens for padding and the end",
    "tokenizer --data text.txt --vocab-size 300 --out gpt": "gpt/tokenizer.json is a file of the run gpt",
    "tokenizer --data text.txt --vocab-size 300 --out t.json --cased": "--cased is for --kind wordpiece, classic, not",
    "tokenizer --data text.txt --vocab-size 300 --out t.json --min-frequency -1":
        "--min-frequency: it must be at least 0, not -1",
    "tokenizer --data text.txt --vocab-size 300 --out t.json --special a a": "the special token 'a' is named twice",
    "tokenizer --kind unigram --data text.txt --vocab-size 30 --out t.json --special a": "'<unk>' is not among",
}  # fmt: skip


@pytest.fixture
def beside(folder, monkeypatch):
    """The folder of the runs, where commands run, with a published GPT and a file of examples in it."""
    monkeypatch.chdir(folder)
    if not Path("published").exists():
        GPT(GPTConfig(vocab_size=17, context=16, layers=1, heads=2, width=16)).save_pretrained("published")
        Characters.train([TEXT]).save("published")
        Path("moods.tsv").write_text("text\tlabel\n" + "glad\tgood\nsad\tbad\n" * 10)
    return folder


@pytest.mark.parametrize("command", BAD)
def test_one_sentence_says_what_is_wrong(command, beside, capsys):
    files = lambda: {path: path.stat().st_mtime_ns for path in beside.rglob("*") if path.is_file()}
    before = files()
    assert BAD[command] in refused(command, capsys)
    assert files() == before


def test_a_published_folder_is_never_overwritten(beside, capsys):
    files = sorted(Path("published").iterdir())
    error = refused("gpt --data text.txt --out published --overwrite", capsys)
    assert "published does not look like a run" in error and sorted(Path("published").iterdir()) == files


def test_settings_that_are_damaged_are_named(beside, capsys):
    Path("gpt/checksums.list").unlink()  # as whoever changes settings by hand does
    for name, text in (
        ("config.json", {"family": "gpt", "layers": "two"}),
        ("config.json", {"family": "gpt", "depth": 2}),
        ("trainer.json", {"train": {"pace": 1}}),
        ("trainer.json", []),
    ):
        path = Path("gpt") / name
        whole = path.read_text()
        path.write_text(json.dumps(text))
        try:
            assert f"gpt/{name}" in refused("gpt --resume gpt", capsys)
        finally:
            path.write_text(whole)


def test_a_damaged_record_of_a_fine_tuning_is_named(beside, capsys):
    path = Path("tuned/finetune.json")
    Path("tuned/checksums.list").unlink()
    whole = path.read_text()
    path.write_text(json.dumps({name: value for name, value in json.loads(whole).items() if name != "checksum"}))
    try:
        error = refused("finetune --resume tuned --epochs 2", capsys)
    finally:
        path.write_text(whole)
    assert "finetune.json: checksum is missing" in error


def test_a_run_that_is_killed_while_its_text_is_read_may_be_overwritten(beside, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("train.pretrain.build_corpus", die)
        patch.setattr("train.runs.shutil.rmtree", lambda folder, **_: None)  # as after kill -9
        with pytest.raises(Killed):
            main(["gpt", "--data", "text.txt", "--out", str(tmp_path / "run"), *SHAPE.split()])
    assert list((tmp_path / "run").iterdir())
    again = ["gpt", "--data", "text.txt", "--out", str(tmp_path / "run"), "--overwrite", "--context", "16"]
    assert main([*again, *SHAPE.split()]) == 0


def test_an_interruption_before_the_first_step_leaves_no_folder(beside, tmp_path, monkeypatch, capsys):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("train.pretrain.build_corpus", stop)
    assert main(["gpt", "--data", "text.txt", "--out", str(tmp_path / "run"), *SHAPE.split()]) == 130
    assert not (tmp_path / "run").exists()


def test_what_the_system_refuses_is_a_sentence_too(beside, monkeypatch, capsys):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "gpt/train.bin")

    monkeypatch.setattr("train.commands.eval.evaluate_on_all_cores", full)
    assert refused("eval gpt", capsys) == "error: gpt/train.bin: No space left on device\n"


def test_a_reader_that_has_had_enough_ends_the_command_quietly(beside):
    command = [sys.executable, "-m", "train", "score", "gpt", "--file", "text.txt"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 141


def test_a_text_shorter_than_the_context_is_evaluated_as_one_window(beside, capsys):
    Path("short.txt").write_text("the cat")
    assert main(["eval", "gpt", "--data", "short.txt"]) == 0
    assert capsys.readouterr().out.startswith("6 of 7 tokens: ")
    Path("short.txt").write_text("t")
    assert "the evaluated part has 1 tokens" in refused("eval gpt --data short.txt", capsys)


def test_a_hopeless_loss_has_an_infinite_perplexity():
    assert perplexity(2.0) == pytest.approx(7.389056)
    assert "perplexity inf" in describe_loss(1e4, 10, 10)


def test_examples_are_asked_about_whatever_answers_their_file_has(beside, capsys):
    capsys.readouterr()
    assert main(["ask", "tuned", "--data", "moods.tsv"]) == 0
    answers = [json.loads(line)["answer"] for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 20 and set(answers) <= {"happy", "sad", "cross", "scared"}
