"""The matrix: every family x every operation, and every kind of task x everything that makes models smaller.

The rows come from the records (models/families.py) and TASKS. A cell works, with its numbers checked, or refuses in one
sentence before any work is done and leaves no folder behind. A new family brings its row by one line in ROWS.
"""

import argparse
import copy
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tinytensor as tt
from models.contract import Filler, LeftToRight, Writer
from models.families import FAMILIES
from models.files import read_metadata, read_safetensors, write_safetensors
from nn.compression import is_quantized, qat, quantize, storage
from nn.compression.lora import add_adapters, merge
from nn.compression.prune import WHAT, prune, shrink, sparsity
from nn.compression.quantize import Quantized
from tests.helpers import assert_close
from train import checkpoint, finetune, pretrain, recipes
from train.__main__ import main
from train.commands import bert, elmo, ernie_gen, gpt, sight, switch, t5, xlnet
from train.compression import compare, measure
from train.embedding import embed, reader
from train.resume import load_trainer
from train.tasks import TASKS

ENCODER = dict(context=48, layers=2, heads=2, width=16, dropout=0.0, attention_dropout=0.0, init_std=0.2)
TEXT_TO_TEXT = dict(layers=2, heads=2, head_width=8, width=16, hidden=32)
ROWS = {  # family: the recipe to train it by, and a shape that takes a moment
    "gpt": (gpt.RECIPE, dict(context=48, layers=2, heads=2, width=16, init_std=0.2)),
    "sight": (sight.RECIPE, dict(context=48, layers=2, heads=2, width=16, init_std=0.2, side=16, patch=4)),
    "elmo": (elmo.RECIPE, dict(width=8, hidden=16, char_width=4, filters="1x4,2x8", highways=1, dropout=0.0)),
    "bert": (bert.RECIPE, ENCODER),
    "roberta": (bert.RECIPE, ENCODER | dict(token_types=2)),
    "distilbert": (bert.RECIPE, ENCODER),
    "albert": (bert.RECIPE, ENCODER | dict(embedding_width=8)),
    "xlnet": (xlnet.RECIPE, dict(context=48, layers=2, heads=2, width=16, memory=16, reuse=20, init_std=0.2)),
    "t5": (t5.RECIPE, TEXT_TO_TEXT),
    "switch": (switch.RECIPE, TEXT_TO_TEXT | dict(experts=4, every=1, capacity=8)),
    "ernie-gen": (ernie_gen.RECIPE, ENCODER | dict(context=64)),
}
SETTINGS = {"text to text": ["--context", "24"], "masked": ["--pairs", "none"], "bidirectional": ["--context", "8"],
            "pictures": ["--room", "64"]}
UNPUBLISHED = {"ernie-gen": "no layout of an ERNIE-GEN in PyTorch was ever published",  # in a form that can be read
               "sight": "no layout of a GPT that reads pictures was ever published"}
TRAINING = dict(steps=4, batch=4, lr=1e-2, warmup=1, eval_batches=1, workers=1, save_every=2)


def begin(name: str, folder: Path, *more: str) -> pretrain.Job:
    """A run of the family, ready to train."""
    base, shape = ROWS[name]
    recipe = dataclasses.replace(base, family=name, model=shape, vocab_size=320, stories=60_000, training=TRAINING)
    parser = argparse.ArgumentParser()
    pretrain.add_arguments(parser, recipe)
    flags = [] if "--resume" in more else ["--out", str(folder), *SETTINGS.get(recipe.record.objective, [])]
    return pretrain.start(parser.parse_args([*flags, *more]), recipe)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """name -> the folder of a finished run of that family, trained when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def run(name: str) -> Path:
        if name not in made:
            assert pretrain.train(begin(name, folder / name))
            made[name] = folder / name
        return made[name]

    return run


@pytest.fixture(autouse=True)
def nothing_is_timed(monkeypatch):
    monkeypatch.setattr(measure, "time_losses", lambda models, batch, clock: dict.fromkeys(models, np.ones(5)))


def batch_of(run: Path) -> dict:
    """A batch that the run's objective makes of its held-out part."""
    source = compare.source_of(run)
    objective = source.make_objective(dataclasses.replace(source.config, batch=4))
    return objective.evaluation_batch(source.val_data, objective.evaluation_batches(source.val_data, 1)[0])


def scores_of(model, batch: dict) -> np.ndarray:
    with tt.no_grad():
        return model.eval().scores(batch).data


def refused(capsys, *arguments) -> str:
    """The one sentence with which a command line is refused."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and "Traceback" not in error
    return error


def works_or_refuses(works: bool, capsys, *arguments) -> str:
    """What a command prints where it must work, or the sentence where it must not."""
    if not works:
        return refused(capsys, *arguments)
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


# ---- a family and what is done with it as it is


@pytest.mark.parametrize("name", FAMILIES)
def test_four_steps_are_two_and_two_more_bit_for_bit(runs, name, tmp_path):
    assert not pretrain.train(begin_and_stop(name, tmp_path / "parts"))
    assert pretrain.train(begin(name, tmp_path / "parts", "--resume", str(tmp_path / "parts")))
    whole, parts = (load_trainer(folder)[0] for folder in (runs(name), tmp_path / "parts"))
    assert whole.keys() == parts.keys()
    for part, arrays in whole.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(parts[part][key], array, err_msg=f"{part}.{key}")


def begin_and_stop(name: str, folder: Path) -> pretrain.Job:
    job = begin(name, folder)
    job.trainer.between = lambda loop, step: setattr(job.trainer, "stop_asked", step == 1)
    return job


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_opens_as_the_model_that_was_trained(name, tmp_path):
    job = begin(name, tmp_path / "run")
    assert pretrain.train(job)
    model, tokenizer = checkpoint.load_model(tmp_path / "run")
    batch = batch_of(tmp_path / "run")
    np.testing.assert_array_equal(scores_of(model, batch), scores_of(job.trainer.model, batch))
    assert tokenizer.encode("Mia met Tom.") == job.tokenizer.encode("Mia met Tom.")
    again = begin(name, tmp_path / "more", "--init", str(tmp_path / "run"))
    np.testing.assert_array_equal(scores_of(again.trainer.model, batch), scores_of(model, batch))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_cut_over_two_workers_learns_the_same_or_is_refused(runs, name, tmp_path):
    cut = ["--workers", "2", "--tensor", "2", "--worker-kind", "threads"]
    if name in ("elmo", "xlnet"):
        with pytest.raises(ValueError, match="--tensor cuts plain attention and feed-forward layers"):
            begin(name, tmp_path / "cut", *cut)
        assert not (tmp_path / "cut").exists()
        return
    assert pretrain.train(begin(name, tmp_path / "cut", *cut))
    batch = batch_of(runs(name))
    mine, whole = (scores_of(checkpoint.load_model(folder)[0], batch) for folder in (tmp_path / "cut", runs(name)))
    assert_close(mine, whole, 1e-3)  # Adam's first steps are as long for rounding as for a gradient


@pytest.mark.parametrize("name", FAMILIES)
def test_eval_measures_the_held_out_text_or_refuses(runs, name, capsys):
    plain = recipes.OBJECTIVES[FAMILIES[name].objective].plain
    said = works_or_refuses(plain, capsys, "eval", runs(name), "--batch", 4)
    if plain:
        source = compare.source_of(runs(name))
        assert f"{source.loss(source.model):.4f} nats" in said
    else:
        assert "measured on tasks" in said


@pytest.mark.parametrize("name", FAMILIES)
def test_sample_writes_or_refuses(runs, name, capsys):
    writes = Writer in FAMILIES[name].model.__mro__
    reads = writes and FAMILIES[name].model.reads_source
    ask = ["--input", "Mia met Tom.", "--temperature", 2] if reads else ["--prompt", "Mia met"]
    both = [works_or_refuses(writes, capsys, "sample", runs(name), *ask, "--tokens", 8, "--seed", 5) for _ in "ab"]
    assert both[0] == both[1] and both[0].strip()


@pytest.mark.parametrize("name", FAMILIES)
def test_score_and_fill_work_or_refuse(runs, name, capsys):
    reads = LeftToRight in FAMILIES[name].model.__mro__
    score = works_or_refuses(reads, capsys, "score", runs(name), "--text", "Mia met")
    assert "nats" in score or "score works with" in score
    fills, (_, tokenizer) = Filler in FAMILIES[name].model.__mro__, checkpoint.load_model(runs(name))
    mask = tokenizer.tokens[tokenizer.mask_id] if fills else "[MASK]"
    fill = works_or_refuses(fills, capsys, "fill", f"Mia met {mask}.", "--model", runs(name))
    assert "1: " in fill if fills else "fills in no words" in fill


@pytest.mark.parametrize("name", FAMILIES)
def test_explore_shows_what_the_family_has(runs, name, tmp_path, capsys):
    path = tmp_path / "a.html"
    works_or_refuses(True, capsys, "explore", runs(name), "--text", "Mia met Tom. Tom ran.", "--out", path)
    data = json.loads(path.read_text().partition('id="data">')[2].partition("</script>")[0])
    model, _ = checkpoint.load_model(runs(name))
    assert data["family"] == name and sum(size for _, size, _ in data["parameters"]) == model.parameter_count()
    assert len(data["lens"]) == 3 and min(min(layer["own"]) for layer in data["lens"]) >= 0
    heads = sum(len(row["loss"]) for row in data["heads"]["rows"]) if data["heads"] else 0
    assert heads == {"elmo": 0, "t5": 12, "switch": 12, "albert": 2}.get(name, 4)
    assert bool(data["ahead"]) == (Writer in FAMILIES[name].model.__mro__)


@pytest.mark.parametrize("name", FAMILIES)
def test_embed_makes_vectors_or_refuses(runs, name, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("Mia met Tom. The fox ran off.\n")
    has_body = FAMILIES[name].body is not None
    arguments = [tmp_path / "text.txt", "Mia met Tom.", "--model", runs(name), "--out", tmp_path / "vectors.npz"]
    said = works_or_refuses(has_body, capsys, "embed", *arguments)
    assert has_body == (tmp_path / "vectors.npz").exists()
    if has_body:
        model, tokenizer = checkpoint.load_model(runs(name))
        expected = embed(*reader(model, tokenizer), ["Mia met Tom.", "The fox ran off."])
        assert_close(np.load(tmp_path / "vectors.npz")["vectors"], expected, 1e-5)
        assert said.splitlines()[1].startswith("1.000  Mia met Tom.")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_published_folder_gives_the_model_back(runs, name, tmp_path):
    model, _ = checkpoint.load_model(runs(name))
    batch = batch_of(runs(name))
    if name in UNPUBLISHED:
        for refuses in (model.save_pretrained, type(model).from_pretrained):
            with pytest.raises(ValueError, match=UNPUBLISHED[name]):
                refuses(tmp_path / "published")
        assert not (tmp_path / "published").exists()
        return
    again = published(name, model, tmp_path / "published")
    assert_close(outputs(name, again, batch), outputs(name, model, batch), 1e-5)


def published(name: str, model, folder: Path):
    """The model after it was written in the published form and read again."""
    if not FAMILIES[name].published:  # ELMo's two files
        pytest.importorskip("h5py")
        folder.mkdir()
        model.save_pretrained(folder / "options.json", folder / "weights.hdf5")
        return type(model).from_pretrained(folder / "options.json", folder / "weights.hdf5")
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder)


def outputs(name: str, model, batch: dict) -> np.ndarray:
    """The model's scores; ELMo's published files have no softmax, so of it the layers."""
    if FAMILIES[name].published:
        return scores_of(model, batch)
    with tt.no_grad():
        return np.stack([layer.data for layer in model.eval().marked_layers(batch["ids"])[0]])


# ---- made smaller


def smaller_models(model, batch: dict):
    """(what was done, the model after it, one that computes the same as it is said to, or the refusal)."""
    for what in WHAT:
        masked = copy.deepcopy(model)
        try:
            prune(masked, 0.5, what)
        except ValueError as error:
            yield f"prune {what}", None, str(error)
            continue
        yield f"prune {what}", masked, zeroed(masked)
        yield f"shrink {what}", shrink(copy.deepcopy(masked)), masked
    for bits in (8, 4):
        whole = quantize(copy.deepcopy(model), bits, activations="none")
        yield f"quantize {bits}", whole, dequantized(model, whole)
    adapted = add_adapters(copy.deepcopy(model), 2, layers=("*",))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1
    yield "adapters", merge(copy.deepcopy(adapted)), adapted


def zeroed(masked):
    """The same model with zeros in place of masks."""
    plain = copy.deepcopy(masked)
    for parameter in plain.parameters():
        if parameter.mask is not None:
            parameter.data, parameter.mask = parameter.data * parameter.mask, None
    return plain


def dequantized(model, integers):
    """The float model with the values that the integers stand for."""
    plain = copy.deepcopy(model)
    values = {}
    for name, module in integers.named_modules():
        if isinstance(module, Quantized):
            values[name] = module.weight.data
    for name, parameter in plain.named_parameters():
        owner, _, last = name.rpartition(".")
        for key in (owner, name, f"{owner}.matrices.{last}"):
            if key in values and values[key].shape == parameter.shape:
                parameter.data = values[key]
    return plain


@pytest.mark.parametrize("name", FAMILIES)
def test_a_smaller_model_computes_what_its_masks_and_integers_say_also_from_its_file(runs, name):
    model, _ = checkpoint.load_model(runs(name))
    batch, done = batch_of(runs(name)), 0
    for what, small, same in smaller_models(model, batch):
        if small is None:
            assert "has no" in same or "2:4" in same, f"{what}: {same}"
            continue
        got = scores_of(small, batch)
        assert_close(got, scores_of(same, batch), 1e-4)
        again = FAMILIES[name].model(model.config if "layers" not in what else small.config)
        storage.load(again, storage.state(small))
        assert_close(scores_of(again, batch), got, 1e-6)
        done += 1
    assert done >= 7


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in UNPUBLISHED])
def test_a_smaller_model_is_published_as_what_it_computes_or_refused(runs, name, tmp_path):
    model, _ = checkpoint.load_model(runs(name))
    batch = batch_of(runs(name))
    for what, small, _ in smaller_models(model, batch):
        if small is None:
            continue
        folder = tmp_path / what.replace(" ", "-").replace(":", "-")
        try:
            again = published(name, small, folder)
        except ValueError as error:
            assert (len(str(error)) > 30 and not folder.exists()) or not any(folder.iterdir()), what
            assert is_quantized(small), f"{what}: {error}"
        else:
            assert_close(outputs(name, again, batch), outputs(name, small, batch), 1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_for_integers_ends_in_the_integers_it_trained_for(runs, name):
    model, _ = checkpoint.load_model(runs(name))
    batch = batch_of(runs(name))
    model = qat.prepare(model, 4, [batch])
    trained = scores_of(model, batch)
    small = qat.finish(model)
    again = FAMILIES[name].model(small.config)
    storage.load(again, storage.state(small))
    assert_close(scores_of(again, batch), scores_of(small, batch), 1e-6)
    assert np.abs(scores_of(small, batch) - trained).max() < 0.2 * np.abs(trained).max()


COMMANDS = {
    "prune": ["--amount", 0.5, "--steps", 2],
    "quantize": ["--bits", 4, "--steps", 2],
    "distill": ["--layers", 1, "--steps", 2],
    "lottery": ["--rounds", 1, "--seeds", 1, "--steps", 2],
}


@pytest.mark.parametrize("name", ["gpt", "elmo", "bert", "t5", "switch", "xlnet", "ernie-gen", "sight"])
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_make_a_pretrained_model_smaller_leave_what_they_measured(runs, name, command, tmp_path, capsys):
    works = not (name in ("elmo", "xlnet") and command == "distill")
    arguments = [command, runs(name), "--out", tmp_path / "small", "--limit", 1, "--workers", 1, *COMMANDS[command]]
    said = works_or_refuses(works, capsys, *arguments)
    if not works:
        assert "blocks of a transformer" in said and not (tmp_path / "small").exists()
        return
    if command != "lottery":
        assert_measured_again(tmp_path / "small")


def assert_measured_again(folder: Path) -> None:
    """The last line of the comparison is what the folder's model gives."""
    lines = [line for line in (folder / "comparison.md").read_text().splitlines() if line.startswith("|")]
    last = [cell.strip() for cell in lines[-1].strip("| ").split("|")]
    source = compare.source_of(folder)
    assert f"{source.loss(source.model, 1):.4f}" == last[1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", FAMILIES)
def test_weights_that_are_no_numbers_are_named_and_nothing_is_computed_from_them(runs, name, value, tmp_path, capsys):
    run, examples = tmp_path / "run", tmp_path / "examples.jsonl"
    shutil.copytree(runs(name), run)
    (run / "checksums.list").unlink()  # they would tell first
    examples.write_text("".join(json.dumps(example) + "\n" for example in examples_of("classify")))
    for file in ("model.safetensors", "trainer.safetensors"):
        arrays, about = read_safetensors(run / file), read_metadata(run / file)
        wrong = next(key for key in arrays if key.endswith("embedding.weight") or key.endswith("token.weight"))
        arrays[wrong] = np.where(np.arange(arrays[wrong].size) == 5, value, arrays[wrong].ravel()).astype(
            np.float32).reshape(arrays[wrong].shape)  # fmt: skip
        write_safetensors(run / file, arrays, about)
    out, family = ["--out", tmp_path / "out"], ROWS[name][0].family
    for command in (["sample", run], ["sample", run, "--input", "a"], ["score", run, "--text", "a b"], ["eval", run],
                    ["embed", examples, "a", "--model", run], ["neighbours", run, "a *b*"],
                    ["finetune", run, "--task", "classify", "--data", examples, "--held-out", examples, *out],
                    ["prune", run, "--what", "weights", *out], ["quantize", run, *out], ["distill", run, *out],
                    [family, "--init", run, *out], [family, "--resume", run, "--steps", 8]):  # fmt: skip
        said = refused(capsys, *command)
        assert "holds NaN or infinities" in said or "is a run of" in said, command
        assert not (tmp_path / "out").exists()


# ---- tasks


def examples_of(kind: str, count: int = 12) -> list[dict]:
    """A few examples of the kind."""
    who = ["Mia", "Tom", "Ben", "Ann"]
    said = lambda role, text: {"role": role, "content": text}
    made = {
        "classify": lambda n: {"text": f"{who[n % 4]} ran.", "label": "boy" if n % 2 else "girl"},
        "regress": lambda n: {"text": f"{who[n % 4]} ran.", "score": n % 4},
        "tag": lambda n: {"words": [who[n % 4], "ran", "off"], "tags": ["B-who", "O", "O"]},
        "answer": lambda n: {"question": "Who ran?", "context": f"Then {who[n % 4]} ran off.", "answer": who[n % 4]},
        "choose": lambda n: {"text": "Who is it?", "choices": [who[n % 4], "a dog"], "label": 0},
        "text2text": lambda n: {"input": f"say {who[n % 4]}", "target": who[n % 4]},
        "chat": lambda n: {"messages": [said("user", f"Say {who[n % 4]}."), said("assistant", who[n % 4])]},
        "reward": lambda n: {"messages": [said("user", "Who is it?")], "replies": [who[n % 4], "a dog"]},
        "draw": lambda n: {"caption": f"a ball for {who[n % 4]}", "program": rf"\fill[red] (1,2) circle ({1 + n});"},
    }[kind]
    return [made(n) for n in range(count)]


def tune(run: Path, kind: str, folder: Path) -> list:
    """The command that fine-tunes a run for a kind of task; the examples lie beside the folder."""
    file = folder.parent / f"{kind}.jsonl"
    file.write_text("".join(json.dumps(example) + "\n" for example in examples_of(kind)))
    quick = ["--epochs", 1, "--batch", 4, "--workers", 1]
    return ["finetune", run, "--task", kind, "--data", file, "--held-out", file, "--out", folder, *quick]


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_learns_every_task_or_refuses(runs, name, kind, tmp_path, capsys):
    family = FAMILIES[name]
    works = family.body is None or (kind != "text2text" and (not TASKS[kind].talks or family.talker is not None))
    said = works_or_refuses(works, capsys, *tune(runs(name), kind, tmp_path / "tuned"))
    if not works:
        assert f"{kind} needs a model that" in said and "writes" in said and not (tmp_path / "tuned").exists()
        return
    tuned = finetune.load(tmp_path / "tuned")
    scores = [json.loads(line) for line in (tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()]
    examples = examples_of(kind)
    if FAMILIES[name].body is None and kind != "text2text":
        _, examples, _ = finetune.put_for(tuned.family, TASKS[kind].of(examples), examples, [])
    right = tuned.task.told(examples, tuned.inputs.tokenizer)
    found = tuned.task.score(right, tuned.answers(examples))
    assert [line[key] for key in found for line in scores if key in line] == list(found.values())


@pytest.fixture(scope="module")
def tuned_runs(runs, tmp_path_factory):
    """kind -> the folder of a run that was fine-tuned for it."""
    folder, made = tmp_path_factory.mktemp("tuned"), {}

    def run(kind: str) -> Path:
        if kind not in made:
            name = {"text2text": "t5", "chat": "gpt", "draw": "gpt"}.get(kind, "bert")
            assert main([str(one) for one in tune(runs(name), kind, folder / kind)]) == 0
            made[kind] = folder / kind
        return made[kind]

    return run


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", TASKS)
def test_a_model_fine_tuned_for_any_task_is_made_smaller_by_any_command(tuned_runs, kind, command, tmp_path, capsys):
    arguments = [command, tuned_runs(kind), "--out", tmp_path / "small", "--limit", 1, "--workers", 1]
    said = works_or_refuses(command != "lottery", capsys, *arguments, *COMMANDS[command])
    if command == "lottery":
        assert "tickets are looked for in what starts from nothing" in said and not (tmp_path / "small").exists()
        return
    assert_measured_again(tmp_path / "small")
    small = finetune.load(tmp_path / "small")
    assert len(small.answers(examples_of(kind))) == 12
    if command == "prune":
        assert sparsity(small.model) == pytest.approx(0.5, abs=0.02)
    if command == "quantize":
        assert is_quantized(small.model)


# ---- long inputs


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_begun_with_a_longer_context_is_stretched_or_refused(runs, name, tmp_path, capsys):
    out, context = tmp_path / "out", 96
    if name != "gpt":
        with pytest.raises(ValueError, match=r"--init goes on with the tokenizer and the shape of|unrecognized"):
            begin(name, out, "--init", str(runs(name)), *given_context(name, context))
        assert not out.exists()
        return
    job = begin(name, out, "--init", str(runs(name)), "--context", str(context), "--recompute")
    assert pretrain.train(job)
    model, _ = checkpoint.load_model(out)
    assert model.config == dataclasses.replace(job.trainer.model.config, context=context, recompute=True)
    assert model.position_embedding.weight.shape[0] == context


def given_context(name: str, context: int) -> list[str]:
    """A flag of the model's shape: its context or, where that is the objective's, another."""
    fields = {field.name for field in dataclasses.fields(FAMILIES[name].config)}
    return ["--context", str(context)] if "context" in fields else ["--hidden", "20"]


@pytest.mark.parametrize("kind", ["float16", "int8"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_writer_remembers_in_narrow_numbers_or_has_nothing_to_remember(runs, name, kind, capsys):
    run = runs(name)
    model, _ = checkpoint.load_model(run)
    writes = isinstance(model, Writer)
    reads = ["--input" if writes and model.reads_source else "--prompt", "Mia met Tom."]
    said = works_or_refuses(writes and name != "elmo", capsys, "sample", run, *reads, "--tokens", 8, "--cache", kind)
    assert said and (name != "elmo" or f"no attention, so no keys and values to keep in {kind}" in said)
