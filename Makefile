# One command each. A fresh checkout needs only Python 3.11: whatever is missing is installed into .venv on first use.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell .ci/find-python)
INSTALL = $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo quick test weekly shown check fix docs course bench results changelog dist clean

help:  ## Show this list.
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(VENV)/.dev $(VENV)/.docs  ## Install everything a developer needs into .venv.

demo: $(VENV)/.demo  ## Train on glyphs, evaluate on unseen characters, search, write a report.
	$(BIN)/tuplet demo

quick: $(VENV)/.dev  ## Tests without the slow, the distributed and the browser ones.
	$(PYTEST) -m "not slow and not weekly and not distributed and not browser" $(TESTS)

test: $(VENV)/.dev  ## All tests but the slow ones; with SLOW=1 these too.
	$(PYTEST) -m "$(if $(SLOW),not weekly,not slow and not weekly)" $(TESTS)

weekly: $(VENV)/.dev  ## Whole products of which `make test` tries a part, and more deaths.
	$(PYTEST) -m weekly $(TESTS)

shown: $(VENV)/.bench  ## Run the tests that show something of each loss, and take down which pass.
	$(PYTEST) -m shows --shown tests/shown.json tests/battery tests/losses tests/interop tests/distributed

check: $(VENV)/.dev  ## Lint, types, layers, freshness of generated docs, the words of the glossary; writes nothing.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/python docs/terms.py

fix: $(VENV)/.dev  ## Format, apply safe lint fixes, regenerate docs.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/python docs/generate.py

# without --quiet, under which mkdocs does not count the warnings that --strict is about
docs: $(VENV)/.docs  ## Build the documentation into site/; a broken link is an error.
	$(BIN)/python docs/chapters.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html"

course: $(VENV)/.docs  ## Run the chapters of the course whose code has changed; CHAPTER=name for one of them.
	$(BIN)/python docs/chapters.py $(CHAPTER)

bench: $(VENV)/.bench  ## Measure speed and memory against a dense computation and other libraries.
	for script in $(or $(BENCH),$(wildcard benchmarks/bench_*.py)); do $(BIN)/python $$script || exit 1; done

results: $(VENV)/.bench  ## Train every recipe of docs/results.md again; ROW=name for one of them.
	$(BIN)/python results/run.py $(ROW)

changelog: $(VENV)/.dev  ## Show what changelog.d adds to the next release.
	$(BIN)/towncrier build --draft --version next

dist: $(VENV)/.dev  ## Build wheel and sdist into dist/.
	$(BIN)/python -m build --no-isolation

clean:  ## Remove what was built, but not .venv.
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# A stamp per extra: installed again only when the list of packages changes. Every extra named here contains `demo`.
$(BIN)/python:
	@test -n "$(PYTHON)"
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[$*]'
	@touch $@ $(VENV)/.demo
