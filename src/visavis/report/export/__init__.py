"""What one takes away of a report: figures, tables, text and references, as files in a folder.

Writes into that folder report.md, report.tex, references.bib, figures/ (PDF, SVG, PNG, and a TXT
with the caption), tables/ (CSV, LaTeX, Markdown), and export.json, the checksums of these files.
"""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from visavis import run_folder
from visavis.errors import ConfigError, EnvironmentFault
from visavis.files import bytes_sha256, file_sha256, write_bytes
from visavis.report.citations import bibliography
from visavis.report.export.bundle import Bundle
from visavis.report.export.document import document
from visavis.report.export.print_size import FORMATS, image_of
from visavis.report.export.tabular import as_csv, as_latex, as_markdown

log = logging.getLogger(__name__)

MANIFEST = "export.json"
"""The SHA-256 of each file when it was written, so that what was edited is not overwritten."""


def export(bundle: Bundle, folder: Path) -> Path:
    """Write all files and return the folder. Files of an earlier export are replaced.

    Raises:
        ConfigError: the folder holds something else, or files that were edited since.
        EnvironmentFault: the folder cannot be written.
    """
    before = _written(folder)
    log.info("drawing %d figures", sum(len(plate.figures) for plate in bundle.plates))
    files = dict(_files(bundle))
    now = {name: [bytes_sha256(content)] for name, content in files.items()}
    try:
        for name in ("figures", "tables"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"cannot write to {folder}: {error.strerror}") from error
    # Until all are written, either content of a file is ours: an export that is stopped goes on.
    both = {name: [*before.get(name, []), *now.get(name, [])] for name in {**before, **now}}
    _write_manifest(folder, both)
    for name, content in files.items():
        write_bytes(folder / name, content)
    for name in before.keys() - now.keys():
        (folder / name).unlink(missing_ok=True)
    _write_manifest(folder, now)
    return folder


def require_apart(folder: Path, source: Path) -> None:
    """Raise a ConfigError if an export would mix with the files of its experiment or study."""
    taken = [source, *(path.parent for path in source.rglob(run_folder.CONFIG))]
    # Where a path leads to; Path.resolve raises an error of its own at links that lead in a circle.
    if os.path.realpath(folder) in map(os.path.realpath, taken):
        raise ConfigError(
            f"--to {folder} is a folder of {source} itself; name another one, such as "
            f"{source / 'export'}"
        )


def _written(folder: Path) -> dict[str, list[str]]:
    """What an earlier export has written there, and nobody has edited."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(
                f"--to {folder} holds files that visavis did not export; name a new or an empty "
                "folder"
            )
        return {}
    try:
        written: dict[str, list[str]] = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        present = {name: folder / name for name in written if (folder / name).exists()}
        edited = [name for name, path in present.items() if file_sha256(path) not in written[name]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{manifest} is not what visavis wrote; name a new folder") from error
    if edited:
        raise ConfigError(
            f"{folder / edited[0]} was edited since the last export and would be overwritten; "
            "move it, or name a new folder"
        )
    return written


def _write_manifest(folder: Path, files: dict[str, list[str]]) -> None:
    text = json.dumps({"files": dict(sorted(files.items()))}, indent=1)
    write_bytes(folder / MANIFEST, (text + "\n").encode())


def _files(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    """Every file by its path within the folder."""
    texts = {
        "report.md": bundle.markdown,
        "report.tex": document(bundle),
        "references.bib": bibliography(bundle.works),
    }
    for name, (table, note) in bundle.tables.items():
        texts |= {
            f"tables/{name}.csv": as_csv(table),
            f"tables/{name}.tex": as_latex(table, name, note),
            f"tables/{name}.md": as_markdown(table),
        }
    for plate in bundle.plates:
        for name, figure in plate.figures.items():
            texts[f"figures/{name}.txt"] = plate.caption + "\n"
            for kind in FORMATS:
                yield f"figures/{name}.{kind}", image_of(figure, name, kind)
    for path, text in texts.items():
        yield path, text.encode()
