import numpy as np
import pytest

import tinytensor as tt
from models.families import FAMILIES
from tests.train.data.test_images import saved
from tinytensor import Tensor
from tinytensor.ops.softmax import IGNORED
from train import checkpoint, seeing
from train.__main__ import main
from train.data.pictures import draw, parse
from train.data.questions import FORMS
from train.data.raster import png
from train.objectives.pictured import Pictured
from train.overwrite import check_ours

Image = pytest.importorskip("PIL.Image", reason="pictures in files: pip install -e '.[images]'")
TINY = ["--layers", "1", "--heads", "2", "--width", "16", "--side", "16", "--room", "64", "--batch", "4",
        "--workers", "1", "--eval-batches", "2", "--steps", "6", "--quiet"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sight") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.commands.sight.EACH", 2)
        assert main(["sight", "--stories", "20000", "--out", str(folder), *TINY]) == 0
    return folder


def said(capsys, *words) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def refused(capsys, *words) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error
    return error


def test_a_run_leaves_a_picture_and_what_it_says_about_others(run):
    assert Image.open(run / "scene.png").size == (128, 128)
    samples = (run / "samples.txt").read_text()
    assert "| attribute |" in samples and "seen:" in samples


def test_ask_answers_each_question_as_the_model_writes(run, capsys):
    questions = "Where is this?", "Is there a dog?"
    lines = said(capsys, "ask", run, "--image", run / "scene.png", *questions)
    assert lines == said(capsys, "ask", run, *questions, "--image", run / "scene.png")
    model, tokenizer = seeing.open_run(run)
    pixels = seeing.images.load(run / "scene.png", 16)
    assert lines == "".join("".join(seeing.answers(model, tokenizer, pixels, asked)) + "\n" for asked in questions)


def test_what_it_writes_is_what_is_most_probable_step_by_step(run):
    model, tokenizer = seeing.open_run(run)
    pixels, ids = draw(parse("in the wood: a big red ball at 99 99"), 16), tokenizer.encode("Where is this?")
    text = "".join(seeing.answers(model, tokenizer, pixels, "Where is this?", tokens=3))
    written = list(ids)
    with tt.no_grad():
        for _ in range(3):
            best = int(model(np.array([written]), pixels=pixels[None]).numpy()[0, -1].argmax())
            if best == tokenizer.end_id:
                break
            written.append(best)
    assert text.strip() == tokenizer.decode(written)[len("Where is this?") :].strip()


def test_chat_answers_line_by_line(run, capsys, monkeypatch):
    lines = iter(["Where is this?", "/reset", "Where is this?", "/quit", "never"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    before, answer, after = said(capsys, "chat", run, "--image", run / "scene.png").partition(
        "/reset is unknown here; there is /quit\n")  # fmt: skip
    assert answer and before == after and before.endswith("\n")
    assert "leave them out" in refused(capsys, "chat", run, "--image", run / "scene.png", "--system", "Be kind.")


def test_what_cannot_be_seen_is_refused(run, tmp_path, capsys):
    assert "reads pictures: say which with --image FILE" in refused(capsys, "ask", run, "Where is this?")
    assert "--image goes with questions" in refused(capsys, "ask", run, "--image", run / "scene.png")
    (tmp_path / "text.png").write_text("no picture")
    assert "is no picture" in refused(capsys, "ask", run, "--image", tmp_path / "text.png", "Where is this?")
    assert "the question is empty" in refused(capsys, "ask", run, "--image", run / "scene.png", "")
    long = "Where is this? " * 40
    assert "leaves no room in a context of 64" in refused(capsys, "ask", run, "--image", run / "scene.png", long)


def test_what_reads_no_pictures_says_so(tmp_path, capsys):
    family = FAMILIES["gpt"]
    checkpoint.save_config(tmp_path, "gpt", family.config(vocab_size=300, context=8, layers=1, heads=1, width=8))
    picture = saved(tmp_path / "a.png", Image.new("RGB", (4, 4)))
    error = refused(capsys, "ask", tmp_path, "--image", picture, "Where is this?")
    assert "holds a gpt, which reads no pictures; train one that does: python -m train sight" in error


def test_a_gpt_goes_on_as_a_model_that_reads_pictures(tmp_path, capsys):
    small = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "64", "--steps", "2", "--workers", "1"]
    said(capsys, "gpt", "--stories", 20_000, "--vocab-size", 400, "--out", tmp_path / "gpt", *small)
    begun = ["--room", "64", "--batch", "4", "--workers", "1", "--steps", "2", "--eval-batches", "1"]
    out = said(capsys, "sight", "--init", tmp_path / "gpt", "--stories", 20_000, "--out", tmp_path / "sight", *begun)
    assert "ask" in out and "| count" in out
    check_ours(tmp_path / "sight")
    model, tokenizer = seeing.open_run(tmp_path / "sight")
    assert model.config.side == 32 and tokenizer.vocab_size == 400


# ---- the examination


class Sure:
    """Says one token everywhere, whatever it sees, and the end behind it."""

    def __init__(self, word: int, end: int, vocab_size: int):
        self.word, self.end, self.vocab_size = word, end, vocab_size

    def scores(self, batch: dict) -> Tensor:
        targets = batch["targets"]
        last = (targets != IGNORED) & (np.pad(targets, ((0, 0), (0, 1)), constant_values=IGNORED)[:, 1:] == IGNORED)
        return Tensor(np.eye(self.vocab_size, dtype=np.float32)[np.where(last, self.end, self.word)])


def test_who_always_says_yes_is_right_about_half_of_what_can_be_answered_so(run):
    _, tokenizer = seeing.open_run(run)
    objective = Pictured(tokenizer, 16, 64, 4)
    yes = Sure(tokenizer.encode(" yes")[0], tokenizer.end_id, tokenizer.vocab_size)
    for unseen in (False, True):
        found = seeing.examine(yes, objective, 4, 1, unseen=unseen)
        for form, (_, _, answers) in FORMS.items():
            assert found[form].tolist() == ([0.5, 0.5] if "yes" in answers else [0.0, 0.0])


def test_who_looks_is_told_from_who_does_not(run):
    """One that knows the place by the colour of the upper left corner."""
    _, tokenizer = seeing.open_run(run)
    objective = Pictured(tokenizer, 16, 64, 4)

    class Looks:
        def __init__(self, seen: dict):
            self.seen = seen

        def scores(self, batch: dict) -> Tensor:
            truth = np.eye(tokenizer.vocab_size, dtype=np.float32)[np.maximum(batch["targets"], 0)]
            mine = [(row[0, 0] == self.seen[tuple(ids)]).all() for row, ids in zip(batch["pixels"], batch["targets"])]
            return Tensor(truth * np.array(mine)[:, None, None])

    places = {place: draw(parse(f"{place}: a small red ball at 200 200"), 16)[0, 0]
              for place in ("in the park", "on the beach", "in the wood", "in the town")}  # fmt: skip
    asked = [(parse(f"{place}: a small red ball at 200 200"), [("Where is this?", place)]) for place in places]
    batch = objective.rows(asked, 24)
    looks = Looks({tuple(row): colour for row, colour in zip(batch["targets"], places.values())})
    assert seeing.answered(looks, batch).all()
    assert not seeing.answered(looks, batch | {"pixels": np.roll(batch["pixels"], 1, axis=0)}).any()


def test_the_table_has_a_line_for_each_kind_of_question(run):
    model, tokenizer = seeing.open_run(run)
    table = seeing.examined(model, Pictured(tokenizer, 16, 64, 4), 2)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert [line[0] for line in lines[2:]] == ["exists", "count", "attribute", "compare", "relation"]
    assert [line[-1] for line in lines[2:]] == ["50.0%", "20.0%", "26.0%", "50.0%", "31.2%"]


def test_the_saved_scene_is_what_the_question_is_about(tmp_path):
    scene = parse("in the town: a big red ball at 60 60")
    (tmp_path / "a.png").write_bytes(png(draw(scene, 128)))
    assert np.abs(seeing.images.load(tmp_path / "a.png", 16) - draw(scene, 16)).max() < 0.1
