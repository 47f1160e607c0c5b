"""A copy of the project in which a patch harms nobody: hard links, but for the files that a mutant changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.mutants.entries import ROOT, Hunk

FOLDERS = ("pipeline", "tests", "infra")
FILES = ("pyproject.toml", "function_app.py", "host.json")


class PatchError(AssertionError):
    """A patch does not fit the source any more: whoever changed the source must say what breaks it now."""


def make(place: Path) -> None:
    """Fill an empty folder with the project as it stands, compiled files and all."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, place / folder, copy_function=_link, ignore=shutil.ignore_patterns("*.sock"))
    for name in FILES:
        if (ROOT / name).exists():
            _link(str(ROOT / name), str(place / name))


def patched(hunks: Sequence[Hunk], root: Path = ROOT) -> dict[str, str]:
    """Give the new text of each file that a patch changes."""
    texts: dict[str, str] = {}
    for hunk in hunks:
        text = texts.get(hunk.file)
        if text is None:
            text = (root / hunk.file).read_text()
        if text.count(hunk.old) != 1:
            raise PatchError(f"{hunk.file} has {text.count(hunk.old)} times, not once:\n{hunk.old}")
        texts[hunk.file] = text.replace(hunk.old, hunk.new)
    for file, text in texts.items():
        compile(text, file, "exec")  # a mutant that is no Python is killed by nothing but its own mistake
    return texts


@contextmanager
def applied(place: Path, hunks: Sequence[Hunk]) -> Iterator[None]:
    """Break the copy for a while."""
    texts = patched(hunks, place)
    for file in texts:
        _forget_compiled(place / file)
        (place / file).rename(place / f"{file}.whole")
    try:
        for file, text in texts.items():
            (place / file).write_text(text)
        yield
    finally:
        for file in texts:
            _forget_compiled(place / file)
            (place / f"{file}.whole").replace(place / file)


def _forget_compiled(path: Path) -> None:
    """Remove what Python compiled of a file: the next one may have the same size and second."""
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink(missing_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or a compiled file that was just replaced
        if Path(source).exists():
            shutil.copy2(source, target)
