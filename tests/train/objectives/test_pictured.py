from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from models.sight import SightConfig
from models.tokenizers import ByteLevelBPE, Characters
from tinytensor.ops.softmax import IGNORED
from train.data import pictures
from train.data.pictures import ScenesSource, draw, numbers, parse, scenes
from train.objectives.pictured import (
    CAPTION,
    STORY,
    Asking,
    Pictured,
    SceneEncoder,
    end_of,
    pictured,
    spoken,
)
from train.trainer import TrainConfig

SCENES = [*islice(scenes(4), 30)]
TEXT = "".join(scene.line() + "\n" for scene in SCENES)
TOKENIZER = ByteLevelBPE.train(spoken([TEXT]), 400)
DATA = SceneEncoder(TOKENIZER).encode_array(TEXT)
OBJECTIVE = Pictured(TOKENIZER, side=16, context=64, batch=4, asking=Asking(questions=6, room=120))


def test_a_corpus_is_the_scenes_as_numbers():
    np.testing.assert_array_equal(DATA.reshape(-1, pictures.WIDTH), [numbers(scene) for scene in SCENES])
    assert DATA.dtype == np.uint16 and not SceneEncoder(TOKENIZER).gives_back(TEXT)
    with pytest.raises(ValueError, match="is no scene; one is a line such as 'in the park: a big"):
        SceneEncoder(TOKENIZER).encode_array("Once there was a fox.")


def test_a_tokenizer_that_cannot_spell_the_questions_says_so_before_any_work():
    with pytest.raises(ValueError, match="is not among the 8 characters of this tokenizer"):
        SceneEncoder(Characters.train(["the cat sat."]))


def test_a_batch_is_a_function_of_its_number_and_every_row_has_its_own_picture():
    whole = replace(OBJECTIVE, asking=replace(OBJECTIVE.asking, grow=0))
    one, again, other = (whole.training_batch(DATA, number) for number in (3, 3, 4))
    for name, array in one.items():
        np.testing.assert_array_equal(array, again[name])
    assert not np.array_equal(one["ids"], other["ids"])
    T = one["ids"].shape[1]
    assert T <= 120 and (one["parts"][:, -1] >= 0).any()  # as long as the longest row
    assert {name: array.shape for name, array in one.items()} == {
        "ids": (4, T), "targets": (4, T), "parts": (4, T), "pixels": (4, 16, 16, 3)}  # fmt: skip
    drawn = [draw(scene, 16) for scene in SCENES]
    for picture in one["pixels"]:
        assert any((picture == some).all() for some in drawn)


def test_targets_are_the_answers_and_their_ends_and_nothing_else():
    scene = parse("on the beach: a big green kite at 60 60, a small red dog at 150 180")
    asked = [("Is there a kite?", "yes"), (CAPTION, scene.caption)]
    batch = OBJECTIVE.rows([(scene, asked)], 60)
    ids, targets, parts = (batch[name][0] for name in ("ids", "targets", "parts"))
    for part, (question, answer) in enumerate(asked):
        own = parts == part
        read, said = ids[own], targets[own]
        before = len(TOKENIZER.encode(question))
        assert TOKENIZER.decode(read) == f"{question} {answer}"
        assert (said[: before - 1] == IGNORED).all() and said[-1] == TOKENIZER.end_id
        assert TOKENIZER.decode(said[before - 1 : -1]) == f" {answer}"
        np.testing.assert_array_equal(said[before - 1 : -1], read[before:])  # moved by one
    assert (targets[parts < 0] == IGNORED).all() and (parts >= 0).sum() < 60


def test_what_does_not_fit_into_the_room_or_the_context_is_not_asked():
    scene = SCENES[0]
    asked = [("Is there a kite?", "no")] * 20
    length = len(TOKENIZER.encode("Is there a kite?")) + 1
    batch = OBJECTIVE.rows([(scene, asked)], 3 * length + 2)
    assert batch["parts"].max() == 2 and (batch["targets"] != IGNORED).sum() == 3 * 2
    short = Pictured(TOKENIZER, side=16, context=length - 1, batch=1)
    assert (short.rows([(scene, asked)], 60)["parts"] == -1).all()


def test_pictures_have_one_thing_first_and_then_more(monkeypatch):
    asking, drawn = Asking(questions=2, room=60, grow=10), []
    objective = Pictured(TOKENIZER, side=16, context=64, batch=8, asking=asking)
    monkeypatch.setattr(pictures, "draw", lambda scene, side: drawn.append(scene) or draw(scene, side))
    for number in (0, 9, 10, 25, 55, 500):
        drawn.clear()
        objective.training_batch(DATA, number)
        assert max(len(scene.things) for scene in drawn) <= 1 + number // 10
        assert all(any(scene.place == whole.place and {*scene.things} <= {*whole.things} for whole in SCENES)
                   for scene in drawn)  # fmt: skip
    assert max(len(scene.things) for scene in drawn) >= 5
    drawn.clear()
    Pictured(TOKENIZER, side=16, context=64, batch=8, asking=Asking(grow=0)).training_batch(DATA, 0)
    assert max(len(scene.things) for scene in drawn) > 3


def test_captions_and_stories_are_asked_for_in_turn_and_then_the_questions():
    rows = [next(OBJECTIVE._asked(SCENES[0], np.random.default_rng(seed))) for seed in range(40)]
    assert {question for question, _ in rows} == {CAPTION, STORY}
    many = [*OBJECTIVE._asked(SCENES[0], np.random.default_rng(0))]
    assert 2 <= len(many) <= 1 + 6


def test_evaluation_goes_once_through_the_scenes_and_asks_the_same_each_time():
    keys = OBJECTIVE.evaluation_batches(DATA)
    np.testing.assert_array_equal(np.concatenate(keys), np.arange(30))
    one, again = (OBJECTIVE.evaluation_batch(DATA, keys[1]) for _ in "ab")
    np.testing.assert_array_equal(one["ids"], again["ids"])
    assert len(OBJECTIVE.evaluation_batches(DATA, 2)) == 2
    for row, scene in zip(one["pixels"], SCENES[4:8]):
        np.testing.assert_array_equal(row, draw(scene, 16))


def test_without_a_token_for_the_end_answers_end_with_the_line():
    characters = Characters.train([*spoken([TEXT])])
    assert characters.end_id is None and end_of(characters) == characters.encode("\n")[0]
    assert end_of(TOKENIZER) == TOKENIZER.end_id


def test_the_recipe_makes_it_of_the_models_shape():
    config = SightConfig(vocab_size=400, context=48, layers=1, heads=2, width=8, side=24)
    made = pictured(config, TrainConfig(batch=3, seed=5), Asking(), TOKENIZER)
    assert (made.side, made.context, made.batch, made.seed) == (24, 48, 3, 5)
    with pytest.raises(ValueError, match="the training part has no scene"):
        made.check(DATA[:5], "training")
    assert len([*spoken(ScenesSource(2000).lines[0])]) == len(ScenesSource(2000).lines[0])
