#!/bin/sh
# Does the built wheel work in an empty environment, without the repository?
#
#     recipes/install.sh [PYTHON]
#
# Builds the wheel, installs it with no extra into a new virtual environment (about 3 GB of packages),
# and runs the command line and a short experiment from another folder. Prints how much is installed.
set -eu
python=${1:-python3}
repository=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$python" -m venv built
built/bin/pip install --quiet --disable-pip-version-check build
built/bin/python -m build --wheel --outdir wheel "$repository" >/dev/null
"$python" -m venv empty
empty/bin/pip install --quiet --disable-pip-version-check wheel/*.whl
empty/bin/visavis --help >/dev/null
empty/bin/python -c 'import visavis, sys; assert "torch" not in sys.modules'
empty/bin/visavis doctor
empty/bin/visavis run --preset smoke --data.source shapes --out runs --tracking.wandb off
test -s runs/report.html
cd empty/lib/python3*/site-packages
echo "MB installed, and the largest parts:"
du -sm .
du -sm ./* | sort -rn | head -12
