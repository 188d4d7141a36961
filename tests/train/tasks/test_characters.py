"""ELMo under a task's head: sentences between their marks, and what is learned when it is frozen."""

import numpy as np
import pytest

import tinytensor as tt
from models import ELMo, ELMoConfig
from models.families import family_of
from models.inputs import CharacterInputs, dress
from models.tokenizers import ElmoCharacters
from tests.models.published_elmo import make_files
from train import checkpoint, finetune
from train.tasks import TASKS, Classify, Tag

TINY = dict(vocab_size=20, width=8, hidden=12, char_width=4, filters="1x8,2x8", highways=1, dropout=0.3)
INPUTS = CharacterInputs(ElmoCharacters(), 100)


def spelled(arrays: dict) -> list[str]:
    """The words behind a row's ids, <S> and </S> for the marks."""
    marks = {259 - 2: "<S>", 259 - 1: "</S>"}  # 256 and 257 are stored plus one
    return [marks.get(int(row[1])) or bytes(int(i) - 1 for i in row if 1 <= i <= 256).decode() for row in arrays["ids"]]


def test_every_sentence_of_a_text_stands_between_its_marks():
    got = spelled(INPUTS.text("Hi there. Bye!", "A second text"))
    assert got == ["<S>", "Hi", "there", ".", "</S>", "<S>", "Bye", "!", "</S>", "<S>", "A", "second", "text", "</S>"]


def test_a_list_of_words_is_cut_after_full_stops_that_a_word_follows():
    words = ['He', 'said', '"', 'no', '.', '"', 'Then', 'he', 'left', '.', '.', '.', 'He', 'did']
    arrays, places = INPUTS.words(words)
    got = spelled(arrays)
    assert [got[place] for place in places] == words
    assert got.count("<S>") == 3 and got[0] == "<S>" and got[-1] == "</S>"


def test_words_beyond_the_longest_input_have_no_place():
    arrays, places = CharacterInputs(ElmoCharacters(), 4).words(["a", "b", "c", "d", "e"])
    assert places == [1, 2, 3] and len(arrays["ids"]) == 4


def test_dressing_counts_the_marks():
    assert dress([["a", "b"], ["c"]]) == (["<S>", "a", "b", "</S>", "<S>", "c", "</S>"], [1, 2, 5])


@pytest.mark.parametrize("text", ["", " ", "\n \t"])
def test_a_text_without_words_is_one_empty_sentence(text):
    for arrays in (INPUTS.text(text), INPUTS.text(text, text), INPUTS.words(text.split())[0]):
        assert spelled(arrays) == ["<S>", "</S>"]
    (arrays, spans), = INPUTS.passage(text, text)
    assert spelled(arrays) == ["<S>", "</S>"] * 2 and not spans


@pytest.mark.parametrize("kind", ["classify", "regress", "choose", "answer"])
def test_elmo_learns_and_answers_also_where_texts_are_blank(kind, tmp_path):
    examples = {
        "classify": [{"text": "", "label": "a"}, {"text": " ", "label": "b"}],
        "regress": [{"text": "", "score": 1}, {"text": "\n", "pair": "", "score": 2}],
        "choose": [{"text": "", "choices": ["", " "], "label": 0}],
        "answer": [{"question": "", "context": " ", "answer": ""}],
    }[kind]
    config = ELMoConfig(vocab_size=0, width=8, hidden=16, char_width=4, filters="1x4,2x8", highways=1)
    task, settings = TASKS[kind].of(examples), dict(batch=2, workers=1)
    trainer = finetune.begin(tmp_path, (ELMo(config), ElmoCharacters()), task, examples, examples,
                             finetune.FineTuneConfig(epochs=1), settings)  # fmt: skip
    trainer.report.start(0)
    trainer.train()
    trainer.report.close()
    assert np.isfinite(trainer.report.val_loss) and len(trainer.report.answers) == len(examples)


@pytest.mark.parametrize("max_length", [100, 14])
def test_a_passage_names_the_characters_of_each_of_its_words(max_length):
    context = "Mia has a ball. It is red. She likes it, and Tom likes it."
    rows = CharacterInputs(ElmoCharacters(), max_length).passage("What is it?", context)
    assert (len(rows) > 1) == (max_length == 14)
    seen = set()
    for arrays, spans in rows:
        got = spelled(arrays)
        assert len(got) <= max_length
        assert got[:6] == ["<S>", "What", "is", "it", "?", "</S>"]
        for place, (start, end) in spans.items():
            assert got[place] == context[start:end]
        seen |= set(spans.values())
    assert len(seen) == 18


def test_a_batch_is_padded_with_words_of_zeros_which_change_nothing():
    tt.manual_seed(1)
    elmo = ELMo(ELMoConfig(**TINY)).eval()
    rows = [INPUTS.text("A long text of many words."), INPUTS.text("Short.")]
    batch = INPUTS.pad(rows)
    assert batch["ids"].shape == (2, 9, 50) and not batch["ids"][1, 4:].any()
    alone = {name: array[None] for name, array in rows[1].items()}
    np.testing.assert_allclose(elmo.features(batch).data[1, :4], elmo.features(alone).data[0], atol=1e-6)
    np.testing.assert_allclose(elmo.summary(batch).data[1], elmo.features(alone).data[0].mean(axis=0), atol=1e-6)


def tuned(tmp_path, task, examples, frozen, elmo=None):
    """(the trained head, the weights of the ELMo before)"""
    tt.manual_seed(2)
    elmo = elmo or ELMo(ELMoConfig(**TINY))
    before = {name: array.copy() for name, array in elmo.state_dict().items()}
    pretrained, settings = (elmo, ElmoCharacters()), dict(workers=1, batch=8, lr=0.02, seed=1)
    config = finetune.FineTuneConfig(epochs=20, frozen=frozen)
    trainer = finetune.begin(tmp_path, pretrained, task, examples, examples, config, settings)
    trainer.report.start(0)
    trainer.train()
    trainer.report.close()
    return trainer, before


@pytest.mark.parametrize("frozen", [True, False])
def test_a_tagger_learns_on_a_frozen_and_on_a_tuned_mix(tmp_path, frozen):
    names, verbs = ["Mia", "Tom", "Ann", "Bob"], ["runs", "sits", "hops"]
    examples = [
        {"words": [name, verb, "."], "tags": ["B-who", "B-what", "O"]} for name in names for verb in verbs
    ]
    trainer, before = tuned(tmp_path, Tag.of(examples), examples, frozen)
    assert trainer.report.scores["accuracy"] == 1.0
    after = trainer.model.body.state_dict()
    assert not any(name.startswith("softmax") for name in after)
    moved = {name for name, array in after.items() if not np.array_equal(array, before[name])}
    assert "mix.weights" in moved and "mix.gamma" in moved
    assert (moved == {"mix.weights", "mix.gamma"}) == frozen
    again = finetune.load(tmp_path)
    assert again.answers(examples) == trainer.report.answers


def test_a_classifier_learns_from_the_mean_of_a_text(tmp_path):
    examples = [
        {"text": f"The {thing} is {word}.", "label": label}
        for thing in ("cat", "dog", "hen", "box")
        for word, label in (("good", "plus"), ("great", "plus"), ("bad", "minus"), ("awful", "minus"))
    ]
    trainer, _ = tuned(tmp_path, Classify.of(examples), examples, frozen=False)
    assert trainer.report.scores["accuracy"] == 1.0


def test_the_mixs_penalty_is_part_of_a_tasks_loss_once_however_the_batch_is_cut():
    tt.manual_seed(1)
    elmo = ELMo(ELMoConfig(**TINY | dict(mix_l2=0.5, dropout=0.0)))
    elmo.mix.weights.data[...] = [1.0, -2.0, 0.5]
    task = Tag(("O", "B-who"))
    rows = [task.rows({"words": ["Mia", verb], "tags": ["B-who", "O"]}, INPUTS)[0] for verb in ("runs", "sits", "hops")]
    batch, head = INPUTS.pad([row.arrays for row in rows]), task.make_head(elmo, 0.0)
    counts = head.counts(batch)
    whole = head.loss(batch).item()
    assert abs(whole - head.loss_sum(batch).item() / counts["tags"] - 0.5 * 5.25) < 1e-5
    parts = [head.loss({name: a[cut] for name, a in batch.items()}, counts).item() for cut in (slice(1), slice(1, 3))]
    assert abs(sum(parts) - whole) < 1e-5


def test_a_folder_with_the_published_files_is_a_model_to_fine_tune(tmp_path):
    pytest.importorskip("h5py")
    folder, out = tmp_path / "published", tmp_path / "tuned"
    folder.mkdir()
    out.mkdir()
    make_files(folder)
    elmo, tokenizer = checkpoint.load_model(folder)
    assert isinstance(tokenizer, ElmoCharacters) and family_of(elmo).name == "elmo"
    examples = [{"words": [name, "runs"], "tags": ["B-who", "O"]} for name in ("Mia", "Tom", "Ann", "Bob")]
    trainer, _ = tuned(out, Tag.of(examples), examples, frozen=True, elmo=elmo)
    assert trainer.report.scores["accuracy"] == 1.0
    assert finetune.load(out).answers(examples) == trainer.report.answers
    (folder / "weights.hdf5").rename(folder / "weights.h5")
    with pytest.raises(ValueError, match=r"has an ELMo's options.json and 0 hdf5 files beside it; it takes one"):
        checkpoint.load_model(folder)
