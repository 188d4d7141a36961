import pytest

from models.generate import Constraints, write
from models.generate.beam import beam_search
from train import checkpoint
from train.__main__ import main

TEXT = "the cat sat on the mat. the dog sat on the log. the hen sat in the pen.\n" * 40
TINY = "--layers 1 --heads 2 --width 16 --context 16 --batch 4 --lr 0.01 --warmup 4 --workers 1 --steps 150"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    assert main(["gpt", "--data", str(folder / "text.txt"), "--out", str(folder / "run"), *TINY.split()]) == 0
    return folder / "run"


def sample(capsys, trained, *arguments) -> str:
    assert main(["sample", str(trained), *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def model(trained):
    return checkpoint.load_model(trained)


def test_the_text_follows_its_prompt_and_ends_before_a_stop_string(trained, model, capsys):
    free = write(*model, "the c", 30, temperature=0)[0]
    assert sample(capsys, trained, "--prompt", "the c", "--tokens", 30, "--temperature", 0) == f"the c{free}\n"
    stopped = sample(capsys, trained, "--prompt", "the c", "--tokens", 30, "--temperature", 0, "--stop", free[4:6])
    assert stopped == f"the c{free.split(free[4:6])[0]}\n"


def test_equal_seeds_write_equal_texts_and_samples_differ(trained, capsys):
    how = ["--tokens", 20, "--temperature", 2, "--top-p", 0.99, "--typical-p", 0.99, "--min-p", 0.001, "--samples", 2]
    first, again = (sample(capsys, trained, *how, "--seed", 3) for _ in range(2))
    assert first == again != sample(capsys, trained, *how, "--seed", 4)
    texts = first.split("-" * 30 + "\n")
    assert len(texts) == 2 and texts[0] != texts[1]


def test_beams_write_the_best_texts_found(trained, model, capsys):
    ids = model[1].encode_array("the c").astype(int)[None]
    tokens, _ = beam_search(model[0], ids, 8, 3, returned=2, length_penalty=0.5)
    how = ["--prompt", "the c", "--tokens", 8, "--beams", 3, "--samples", 2, "--length-penalty", 0.5]
    first, second = sample(capsys, trained, *how).split("-" * 30 + "\n")
    assert first == "the c" + model[1].decode(tokens[0].tolist()) + "\n"
    assert second == "the c" + model[1].decode(tokens[1].tolist()) + "\n"


def test_nothing_is_repeated_when_that_is_asked_for(trained, capsys):
    text = sample(capsys, trained, "--prompt", "t", "--tokens", 60, "--temperature", 0, "--no-repeat-ngram", 3)
    runs = [text[n : n + 3] for n in range(len(text) - 3)]
    assert len(set(runs)) == len(runs)


def test_rules_are_flags(trained, model, capsys):
    free = sample(capsys, trained, "--prompt", "the c", "--tokens", 30, "--temperature", 0)
    text = sample(capsys, trained, "--prompt", "the c", "--tokens", 30, "--temperature", 0, "--bad-words", free[6:8])
    assert free[6:8] in free[5:] and free[6:8] not in text[5:]
    text = sample(capsys, trained, "--prompt", "the c", "--tokens", 12, "--temperature", 0, "--written-penalty", 3)
    penalized = write(*model, "the c", 12, temperature=0, constraints=Constraints(written_penalty=3.0))[0]
    assert text == f"the c{penalized}\n" and not free.startswith(text[:-1])
    assert len(sample(capsys, trained, "--prompt", "t", "--tokens", 9, "--min-tokens", 9)) == 11


@pytest.mark.parametrize(
    "arguments, message",
    [(["--tokens", "20", "--past-context", "fail"], "21 tokens|more than the context of 16"),
     (["--top-k", "0"], "argument --top-k: it must be at least 1, not 0"),
     (["--beams", "2", "--top-k", "3"], "top_k has no meaning in it"),
     (["--min-tokens", "0"], "argument --min-tokens: it must be at least 1, not 0"),
     (["--written-penalty", "0"], "argument --written-penalty: it must be more than 0, not 0"),
     (["--bad-words", ""], "bad word '' has no token"), (["--begin", "a"], "--begin are for a T5"),
     (["--stop", ""], "an empty stop string"), (["--prompt", ""], "--prompt is empty"),
     (["--samples", "3", "--beams", "2"], "returns 1 to all of them, not 3 of 2")],
)  # fmt: skip
def test_bad_arguments_are_named(trained, capsys, arguments, message):
    assert main(["sample", str(trained), *arguments]) == 2
    error = capsys.readouterr().err
    assert any(part in error for part in message.split("|")) and "Traceback" not in error
