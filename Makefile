# make demo   train, decode and score the mini corpus; ends with a table and a picture (8 to 27 minutes on 2 cores)
# make test   run the fast tests                   make test-all   also run the slow ones
# make check  check format, lint, shell and types  make format     apply the formatting
# make inputs list what the tests hand to commands and readers, and the errors, in tests/INPUTS.md
# make bench  compare the speed with other packages (about 40 minutes); results in tools/bench/RESULTS.md
# make docs   check and build the documentation site in build/docs
# make wheel  build the wheel and try it in a fresh environment (downloads torch)
# make gpu    check and measure a GPU (about 8 minutes); results in exp/gpu
# Each target first installs what it needs into .venv, which takes no time if nothing changed.

SHELL := /bin/bash
bin := .venv/bin
code := irl egs tests utils tools

unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test test-all inputs bench docs wheel gpu check format clean

install:
	@tools/install

demo: install
	egs/wsj/run.sh --methods "irl_loss irl_batching baseline"

# The tests of a file share trained models, so each file stays in one process. tests/conftest.py has the long files first.
parallel := --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: install
	$(bin)/python -m pytest -q $(parallel)

test-all: install
	$(bin)/python -m pytest -q $(parallel) -m ""

inputs: install
	$(bin)/python -m pytest -q $(parallel) --inputs-page tests/INPUTS.md

bench:
	@tools/install --extras all,bench
	$(bin)/python tools/bench/run.py

docs:
	@tools/install --extras all,docs
	$(bin)/python -m pytest -q tests/test_docs.py
	$(bin)/mkdocs build --strict --quiet --config-file tools/docs/mkdocs.yml

wheel:
	tools/check_wheel

gpu: install
	tools/bench/gpu.sh exp/gpu

check: install
	$(bin)/black --quiet --check --line-length 120 $(code)
	$(bin)/isort --quiet --check-only $(code)
	$(bin)/flake8 $(code)
	$(bin)/shellcheck --external-sources --source-path=SCRIPTDIR tools/install tools/check_wheel tools/bench/*.sh utils/*.sh egs/*/run.sh egs/*/local/corpora/*.sh .ci/run
	$(bin)/mypy

format: install
	$(bin)/isort --quiet $(code)
	$(bin)/black --quiet --line-length 120 $(code)

clean:
	rm -rf .venv *.egg-info egs/*/exp egs/*/data
