"""How long the page of a study of 100 trainings takes, and how much memory.

    python recipes/study_page.py STUDY

Copies the trainings of a finished study, in turn, into temporary studies of 4 variants and 25 seeds
and of 20 variants and 5 seeds, then summarises each and writes its page.
"""

import resource
import shutil
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

from visavis import run_folder
from visavis.files import bytes_sha256
from visavis.report.page import report
from visavis.stages.summarise import summarise

SIZES = ((4, 25), (20, 5))


def main() -> None:
    """Time both."""
    for variants, seeds in SIZES:
        timed(Path(sys.argv[1]), variants, seeds)


def timed(source: Path, variants: int, seeds: int) -> None:
    """Build a study, and time what `visavis report` does with it."""
    study = run_folder.read_json(source / run_folder.STUDY)
    entry = next(iter(study["variants"].values())) | {"seeds": list(range(seeds))}
    finished = cycle(sorted(path.parent for path in source.glob(f"*/*/{run_folder.EXPLANATIONS}")))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        names = [f"variant-{i}" for i in range(variants)]
        for name in names:
            for seed in range(seeds):
                target = out / name / run_folder.SEED.format(seed)
                shutil.copytree(next(finished), target)
                pretend(target, name, seed)
        planned = {name: entry | {"model": name} for name in names}
        run_folder.write_json(out / run_folder.STUDY, study | {"variants": planned})
        begun = time.perf_counter()
        summarise(out)
        summarised = time.perf_counter()
        page = report(out)
        finished_at = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{variants} variants of {seeds} seeds: ", end="")
        print(f"summarise {summarised - begun:.1f} s, page {finished_at - summarised:.1f} s")
        print(f"peak memory {peak:.2f} GB, page {page.stat().st_size / 1e6:.1f} MB")


def pretend(folder: Path, name: str, seed: int) -> None:
    """Make a copy look like a training of its own: copies are refused."""
    model = run_folder.ModelFolder(folder)
    config, training = model.config, model.training
    named = {**config, "model": {**config["model"], "name": name}, "seed": seed}
    run_folder.write_json(folder / run_folder.CONFIG, named)
    weights = bytes_sha256(f"{name} {seed}".encode())
    run_folder.write_json(folder / run_folder.TRAINING, {**training, "weights_sha256": weights})


if __name__ == "__main__":
    main()
