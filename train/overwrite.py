"""Which folders may be overwritten: those that hold a run of ours, and nothing else."""

import os
import re
import shutil
from pathlib import Path

from models.families import FAMILIES
from models.files import beside, checksums, read_json
from train.checkpoint import Folder

# All names that runs of ours, also older ones, have in their folders.
OURS = re.compile(r"(config|trainer|tokenizer|corpus|finetune|command|preference)\.json|(train|val)\.bin|"
                  r"checksums\.list|(model|best|trainer|trained.*)\.safetensors|(metrics.*|preferences|held-out)\.jsonl|"
                  r"samples\.txt|\..*\.(tinytensor|tmp)|(loss|comparison|confusion|paradox|ppo|scene|unicorns)\.png|"
                  r"(comparison|lottery|paradox)\.md|comparison\.csv|explore\.html|drawings\.svg|unicorn-.*\.(svg|tex)|"
                  r"events\.out\.tfevents\..*")  # fmt: skip


def folder_beside(out: Path) -> Folder:
    """A new folder that is to take the place of a run."""
    if out.is_symlink() or not out.is_dir():
        raise ValueError(f"{out} is no folder, so it is not overwritten; choose another --out")
    check_ours(out)
    old, new = Folder(out), beside(Path(os.path.abspath(out)))
    shutil.rmtree(new, ignore_errors=True)  # of somebody who was killed: nobody else holds the old folder
    new.mkdir()
    return Folder(new, old)


def check_ours(folder: Path) -> None:
    """ValueError unless a folder is empty, or holds a run of ours and nothing else."""
    names = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in names if not OURS.fullmatch(name)]
    if foreign or (names and checksums(folder) is None and not _older_run(folder, names)):
        why = f"it holds {foreign[0]}" if foreign else "it lacks what a run has"
        what = f"{folder} does not look like a run ({why})"
        raise ValueError(f"{what}, so it is not overwritten; choose another --out, or empty it yourself")


def _older_run(folder: Path, names: list[str]) -> bool:
    """Whether these are the files of a run that was made before runs had checksums."""
    if not {"config.json", "tokenizer.json"} <= {*names}:
        return False
    return read_json(folder / "config.json").get("family") in (*FAMILIES, "finetuned")
