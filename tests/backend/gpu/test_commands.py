"""Every command that runs a model runs it on the GPU's path too, and says the same as on the CPU."""

import json
from pathlib import Path

import numpy as np
import pytest

import tinytensor as tt
from models import BERTConfig, BERTForPreTraining
from models.tokenizers import WordPiece
from nn.compression.prune import sparsity
from train import checkpoint, finetune
from train.__main__ import main

LINES = ["the fox runs and the dog sleeps.", "a dog runs.", "the fox sleeps in the wood.", "a fox and a dog."]


def call(*words) -> None:
    assert main([str(word) for word in words]) in (None, 0)


def save(folder, family, model, tokenizer):
    folder.mkdir()
    tokenizer.save(folder)
    checkpoint.save_config(folder, family, model.config)
    checkpoint.save_weights(folder, model)


@pytest.fixture
def bert(tmp_path, monkeypatch):
    """An untrained BERT's run, and a text beside it."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("\n".join(LINES * 4))
    tokenizer = WordPiece.train(LINES, 60)
    with tt.random.seeded(1):
        model = BERTForPreTraining(BERTConfig(vocab_size=tokenizer.vocab_size, context=32, layers=1, heads=2, width=16,
                                              hidden=32, dropout=0.0, attention_dropout=0.0, init_std=0.3))
    save(tmp_path / "bert", "bert", model, tokenizer)
    return Path("bert")


@pytest.fixture
def gpt(tmp_path, monkeypatch):
    """A GPT trained for two steps on the CPU."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("\n".join(LINES * 40))
    shape = "--layers 2 --heads 2 --width 16 --context 8 --dropout 0 --batch 4 --steps 2 --eval-batches 1 --workers 2"
    call("gpt", "--data", "text.txt", "--out", "gpt", "--tokenizer", "characters", *shape.split())
    return Path("gpt")


def said(capsys, *words) -> list[str]:
    """What the command prints on each device."""
    texts = []
    for device in ("cpu", "cuda"):
        capsys.readouterr()
        call(*words, "--device", device)
        texts.append(capsys.readouterr().out)
    assert texts[0]
    return texts


def test_masked_words_are_filled_in_the_same_on_both_devices(cuda, bert, capsys):
    cpu, gpu = said(capsys, "fill", "the fox [MASK] and the [MASK] sleeps.", "--model", bert)
    assert gpu == cpu


def test_sentences_and_words_are_found_by_meaning_on_both_devices(cuda, bert, capsys):
    cpu, gpu = said(capsys, "embed", "text.txt", "a dog runs", "--model", bert, "--top", 2)
    assert gpu == cpu
    cpu, gpu = said(capsys, "neighbours", bert, "the *fox* runs", "--data", "text.txt", "--lines", 4, "--top", 2)
    assert gpu == cpu


def test_a_text_is_scored_the_same_on_both_devices(cuda, gpt, capsys):
    cpu, gpu = said(capsys, "score", gpt, "--text", "the fox runs and the dog")
    assert gpu == cpu


def test_a_fine_tuned_model_answers_the_same_on_both_devices(cuda, bert, capsys):
    Path("examples.tsv").write_text("text\tlabel\n" + "the fox runs\tyes\nthe dog sleeps\tno\n" * 8)
    flags = "--task classify --data examples.tsv --out tuned --epochs 1 --batch 8 --workers 1"
    call("finetune", bert, *flags.split())
    cpu, gpu = said(capsys, "ask", "tuned", "the fox sleeps")
    assert gpu == cpu


def table(folder) -> list[list[str]]:
    """The comparison's names, losses, accuracies, weights and bytes, line by line."""
    lines = [line for line in (Path(folder) / "comparison.md").read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("| ").split("|")][:5] for line in lines[2:]]


@pytest.mark.parametrize("words", [
    "prune --what weights --when cubic --by movement --steps 12 --amount 0.5",
    "prune --what heads --what neurons --by gradient --batches 1 --steps 1",
    "quantize --bits 4 --group 8 --rounding gptq --batches 1 --steps 1",
    "distill --layers 1 --steps 1 --written 4",
    "lottery --rounds 1 --seeds 1 --steps 2 --rewind 1",
])
def test_a_run_is_made_smaller_on_the_gpu_as_on_the_cpu(cuda, gpt, words):
    command, *flags = words.split()
    tables = []
    for device in ("cpu", "cuda"):
        call(command, gpt, "--out", device, "--device", device, "--limit", 1, "--eval-batches", 1, *flags)
        tables.append(table(device))
    for right, got in zip(*tables):
        assert got[0] == right[0] and got[3:] == right[3:]
        assert float(got[1]) == pytest.approx(float(right[1]), rel=2e-3)
    model, _ = checkpoint.load_model(Path("cuda"))
    assert model.parameters()[0].device == "cpu"  # what is saved is read anywhere


FAMILIES = {  # command and shape, the task's kind, two examples, what to ask
    "gpt": ("--tokenizer characters --layers 1 --heads 2 --width 16 --context 32 --dropout 0", "classify",
            ("text\tlabel", "the fox runs\tyes", "the dog sleeps\tno"), "the fox sleeps"),
    "t5": ("--tokenizer bytes --layers 1 --heads 2 --head-width 8 --width 16 --hidden 32", "text2text",
           ("input\ttarget", "the fox\txof", "a dog\tgod"), "the dog"),
    "ernie-gen": ("--layers 1 --heads 2 --width 16 --context 32 --dropout 0 --attention-dropout 0 --vocab-size 70",
                  "text2text", ("input\ttarget", "the fox\tfox the", "a dog\tdog a"), "the dog"),
    "elmo": ("--layers 1 --width 8 --hidden 12 --char-width 4 --filters 1x4,2x4 --dropout 0", "tag",
             ("words\ttags", "the fox runs\tD N V", "a dog sleeps\tD N V"), "the fox sleeps"),
}


def losses_of_fine_tuning(family, runs) -> list[list[float]]:
    """What each of the runs, {folder: flags}, logs when it fine-tunes the same body of this family."""
    shape, task, (head, *examples), _ = FAMILIES[family]
    Path("text.txt").write_text("\n".join(LINES * 40))
    Path("examples.tsv").write_text("\n".join([head, *examples * 6]) + "\n")
    few = ["--batch", 4, "--workers", 1, "--log-every", 1]
    call(family, "--data", "text.txt", "--out", "body", *shape.split(), *few, "--steps", 1, "--eval-batches", 1)
    losses = []
    for folder, flags in runs.items():
        tt.manual_seed(0)  # as in a process of its own
        fixed = ["--task", task, "--data", "examples.tsv", "--epochs", 1, "--head-dropout", 0]
        call("finetune", "body", "--out", folder, *fixed, *few, *flags)
        lines = map(json.loads, (Path(folder) / "metrics.jsonl").read_text().splitlines())
        losses.append([line["loss"] for line in lines if "loss" in line])
    return losses


@pytest.mark.parametrize("family, more", [("gpt", []), ("gpt", ["--lora", "2"]), ("t5", []), ("elmo", ["--frozen"]),
                                          ("ernie-gen", ["--noise", "0.3", "--label-smoothing", "0.1"])])
def test_each_family_is_fine_tuned_and_asked_on_the_gpu_as_on_the_cpu(cuda, tmp_path, monkeypatch, capsys, family,
                                                                      more):
    monkeypatch.chdir(tmp_path)
    losses = losses_of_fine_tuning(family, {device: ["--device", device, *more] for device in ("cpu", "cuda")})
    assert len(losses[0]) > 1 and losses[1] == pytest.approx(losses[0], rel=1e-4)
    cpu, gpu = said(capsys, "ask", "cpu", FAMILIES[family][3])
    assert gpu == cpu


@pytest.mark.parametrize("by", ["magnitude", "movement"])
def test_a_run_pruned_in_half_precision_keeps_its_float32_weights_and_its_mask(cuda, gpt, by):
    flags = ["--when", "cubic", "--by", by, "--steps", 12, "--amount", 0.5, "--limit", 1, "--eval-batches", 1]
    call("prune", gpt, "--out", "half", "--device", "cuda", "--dtype", "float16", *flags)
    model, _ = checkpoint.load_model(Path("half"))
    assert sparsity(model) == pytest.approx(0.5, abs=1e-2)
    masked = [p for p in model.parameters() if p.mask is not None and not p.mask.all()]
    assert masked
    for parameter in masked:
        assert parameter.dtype == np.float32 and not parameter.data[~parameter.mask].any()
        kept = parameter.data[parameter.mask]
        assert (kept != kept.astype(np.float16)).any()  # not the rounded copy that the model computed with


@pytest.mark.parametrize("family, more", [("gpt", ["--lora", "2"]), ("elmo", ["--frozen"])])
def test_what_is_not_trained_is_rounded_for_the_model_and_saved_as_it_was(cuda, tmp_path, monkeypatch, family, more):
    monkeypatch.chdir(tmp_path)
    dtypes = ("float32", "float16")
    runs = {dtype: ["--device", "cuda", "--dtype", dtype, *more] for dtype in dtypes}
    losses = losses_of_fine_tuning(family, runs)
    weights = [dict(finetune.load(Path(dtype)).model.named_parameters()) for dtype in dtypes]
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    same = [name for name, p in weights[0].items() if np.array_equal(p.data, weights[1][name].data)]
    assert len(same) >= 5  # what is frozen, but for what adapters were merged into
    assert any((weights[1][name].data != weights[1][name].data.astype(np.float16)).any() for name in same)


def test_a_student_in_half_precision_follows_its_teacher_in_full(cuda, gpt):
    losses = []
    for dtype in ("float32", "float16"):
        parts = "--layers 1 --steps 3 --hidden 1 --attention 1 --embedding 1 --cosine 0 --limit 1 --eval-batches 1"
        flags = ["--dtype", dtype, "--log-every", 1, "--written", 4, *parts.split()]
        call("distill", gpt, "--out", dtype, "--device", "cuda", *flags)
        lines = [json.loads(line) for path in sorted(Path(dtype).rglob("metrics.jsonl")) for line in path.open()]
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert len(losses[0]) >= 3 and losses[1] == pytest.approx(losses[0], rel=5e-3)
