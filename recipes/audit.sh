#!/bin/sh
# Known vulnerabilities of the packages in the lock file, by pip-audit, which asks a public database:
# this needs a network. About a minute. Exit code 1 if there is one, or if a package was not found.
#   recipes/audit.sh
set -eu
cd "$(dirname "$0")/.."
audit=$(mktemp -d)
trap 'rm -rf "$audit"' EXIT
python3 -m venv "$audit"
"$audit/bin/pip" install --quiet --disable-pip-version-check pip-audit
"$audit/bin/pip-audit" --strict --requirement requirements/lock.txt --require-hashes --disable-pip
