#!/bin/sh
# Seconds of `visavis --help`, and of rebuilding a report if an experiment is given: the best of
# five. Under a minute.
#   recipes/startup.sh [EXPERIMENT]
set -eu
cd "$(dirname "$0")/.."
for command in "--help" ${1:+"report $1"}; do
    .venv/bin/python - "$command" <<'PY'
import subprocess, sys, time
seconds = []
for _ in range(5):
    start = time.perf_counter()
    subprocess.run([".venv/bin/visavis", *sys.argv[1].split()], check=True, capture_output=True)
    seconds.append(time.perf_counter() - start)
print(f"visavis {sys.argv[1].split()[0]}: {min(seconds):.2f} s")
PY
done
