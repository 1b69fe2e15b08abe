"""How long the page of a study of 100 trainings takes, and how much memory.

    python recipes/study_page.py STUDY

Copies the trainings of a finished study, in turn, into a temporary study of 4 variants and 25
seeds, then summarises it and writes its page.
"""

import resource
import shutil
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

from visavis import run_folder
from visavis.report.study_page import study_report
from visavis.stages.summarise import summarise

VARIANTS, SEEDS = 4, 25


def main() -> None:
    """Build the study, and time what `visavis report` does with it."""
    source = Path(sys.argv[1])
    study = run_folder.read_json(source / run_folder.STUDY)
    entry = next(iter(study["variants"].values())) | {"seeds": list(range(SEEDS))}
    finished = cycle(sorted(path.parent for path in source.glob(f"*/*/{run_folder.EXPLANATIONS}")))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        names = [f"variant-{i}" for i in range(VARIANTS)]
        for name in names:
            for seed in range(SEEDS):
                shutil.copytree(next(finished), out / name / run_folder.SEED.format(seed))
        variants = {name: entry | {"model": name} for name in names}
        run_folder.write_json(out / run_folder.STUDY, study | {"variants": variants})
        begun = time.perf_counter()
        summarise(out)
        summarised = time.perf_counter()
        page = study_report(out)
        finished_at = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"summarise {summarised - begun:.1f} s, page {finished_at - summarised:.1f} s")
        print(f"peak memory {peak:.2f} GB, page {page.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
