"""The cache that downloads from a hub leave behind: a folder a model, with `blobs`, `refs` and `snapshots`.

Each snapshot is a folder with the files of one revision; refs/main names the newest that was asked for.
"""

from pathlib import Path

from models.files import read_text


def newest_snapshot(folder: str | Path) -> Path:
    """The snapshot that refs/main names, or else the one made last; any other folder is itself."""
    folder = Path(folder)
    if not (folder / "snapshots").is_dir() or (folder / "config.json").exists():
        return folder
    there = [path for path in (folder / "snapshots").iterdir() if path.is_dir()]
    if not there:
        raise ValueError(f"{folder} is a hub's cache without a snapshot; download the model again")
    main = folder / "refs" / "main"
    named = read_text(main).strip() if main.exists() else None
    return max(there, key=lambda path: (path.name == named, path.stat().st_mtime))
