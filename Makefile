# make run        set up .venv (the first time) and run the whole experiment
# make run ARGS="--preset quick --data.source shapes"     the same with flags of `visavis run`
# make test       the whole test suite
# make check      lint, format, types, import contracts: with `make test`, what CI runs
# make docs       the documentation as a site, in build/site: no network needed
# make setup      only set up .venv: once, and again when pyproject.toml or the lock file changes
# make clean      remove .venv and all caches; keeps runs/
#
# make run PYTHON=python3.12    with another Python than python3

PYTHON ?= python3
BIN = .venv/bin
READY = .venv/.ready

.PHONY: run test browser check docs setup clean

run: $(READY)
	@$(BIN)/visavis run $(ARGS)

test: $(READY) browser
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# The tests of the pages need Chromium. If there is none and it cannot be installed, they are skipped,
# with the reason.
browser:
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v $$name >/dev/null 2>&1 && exit 0; done; \
	as=; [ "$$(id -u)" = 0 ] || as="sudo -n"; \
	if command -v apt-get >/dev/null 2>&1 && $$as true 2>/dev/null; then \
		echo "Installing Chromium, for the tests of the pages." >&2; \
		$$as apt-get update -qq >&2; \
		$$as env DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends chromium >&2; \
	fi || echo "make: Chromium could not be installed" >&2

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Warnings are errors: a broken link, a name that does not exist.
docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/site
	@echo build/site/index.html

setup: $(READY)

$(READY): requirements/lock.txt pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "make: no $(PYTHON) here; install Python 3.11 or newer, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $$("$(PYTHON)" --version 2>&1) is too old; visavis needs 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "make: this Python cannot make a virtual environment; install its venv package (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Setting up .venv; the first time this downloads about 3 GB and takes a few minutes." >&2
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements/lock.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +
