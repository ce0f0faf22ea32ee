# make demo   train, decode and score the mini corpus: ends with a table and a picture (about 12 minutes on 2 cores)
# make test   the fast tests                       make test-all   also the slow ones
# make check  format, lint, shellcheck, types      make format     apply the formatting
# make bench  measure speed beside other packages (about 40 minutes); results in tools/bench/RESULTS.md
# make gpu    check and measure a GPU (8 minutes); results in exp/gpu
# Each installs what it needs into .venv first; when nothing changed that takes no time.

SHELL := /bin/bash
bin := .venv/bin
code := irl egs tests utils tools

.PHONY: install demo test test-all bench gpu check format clean

install:
	@tools/install

demo: install
	egs/wsj/run.sh --methods "irl_loss irl_batching baseline" --results exp/mini/results.jsonl

# A file's tests share what they trained; files are spread over the processes.
parallel := --numprocesses 2 --dist loadfile

test: install
	$(bin)/python -m pytest -q $(parallel)

test-all: install
	$(bin)/python -m pytest -q $(parallel) -m ""

bench:
	@tools/install --extras all,bench
	$(bin)/python tools/bench/run.py

gpu: install
	tools/bench/gpu.sh exp/gpu

check: install
	$(bin)/black --quiet --check --line-length 120 $(code)
	$(bin)/isort --quiet --check-only $(code)
	$(bin)/flake8 $(code)
	$(bin)/shellcheck --external-sources --source-path=SCRIPTDIR tools/install tools/bench/*.sh utils/*.sh egs/*/run.sh egs/*/local/*.sh egs/*/local/corpora/*.sh .ci/run
	$(bin)/mypy

format: install
	$(bin)/isort --quiet $(code)
	$(bin)/black --quiet --line-length 120 $(code)

clean:
	rm -rf .venv *.egg-info egs/*/exp egs/*/data
