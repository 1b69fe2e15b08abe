#!/bin/sh
# Compiles the LaTeX document of an export: every figure, table and reference of a report. With pdfTeX and
# LuaTeX. On Debian and Ubuntu:
#   apt-get install --no-install-recommends texlive-latex-recommended texlive-latex-extra texlive-luatex lmodern
# Usage: recipes/latex.sh EXPERIMENT
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT
"${PYTHON:-$here/.venv/bin/python}" -m visavis export "$1" --to "$out/export"
cd "$out/export"
for engine in pdflatex lualatex; do
	command -v $engine >/dev/null || { echo "no $engine here" >&2; continue; }
	$engine -interaction=batchmode -halt-on-error report.tex >/dev/null
	bibtex -terse report
	for _ in 1 2; do $engine -interaction=batchmode -halt-on-error report.tex >/dev/null; done
	! grep -E "^!|undefined|Missing character|too large" report.log
	echo "$engine: $(grep -a "^Output written" report.log)"
	rm -f report.aux report.bbl
done
