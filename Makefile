# `make run` transcribes a real recording, `make test` runs the tests; each sets up what it needs.

VENV := .venv
BIN := $(VENV)/bin
CONVERT := .venv-convert
MODEL ?= base

# The first Python on the machine that Sotto runs on; set PYTHON to choose.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)

.PHONY: help run serve test test-convert test-image bench soak check format docs lock clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 22

run: $(VENV)/ready weights/$(MODEL)/model.json ## Transcribe test_input.json with the handler
	@SOTTO_MODEL=$(MODEL) $(BIN)/python handler.py

serve: $(VENV)/ready weights/$(MODEL)/model.json ## Serve endpoint.toml on this machine
	@$(if $(filter file,$(origin MODEL)),,SOTTO_MODEL=$(MODEL)) $(BIN)/sotto serve

test: $(VENV)/ready-dev weights/base/model.json weights/tiny.en/model.json ## Run all tests
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses 2 --dist loadfile
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

test-convert: $(CONVERT)/ready weights/base/model.json weights/tiny.en/model.json ## Test the conversion of checkpoints (needs torch)
	CONVERT_TESTS=required $(CONVERT)/bin/python -m pytest -p no:xdist tests/convert

test-image: $(VENV)/ready-dev weights/base/model.json weights/tiny.en/model.json ## Build both images and test them (needs podman or Docker)
	tools/ensure-builder
	IMAGE_TESTS=$${IMAGE_TESTS:-required} $(BIN)/python -m pytest -p no:xdist tests/image

bench: $(VENV)/ready-bench weights/base/model.json ## Measure against faster-whisper (long)
	$(BIN)/python -m bench

soak: $(VENV)/ready-bench weights/base/model.json ## Half an hour of mixed jobs for one worker
	$(BIN)/python -m bench soak

check: $(VENV)/ready-dev ## Lint, check formatting, types and generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/docs.py --check
	$(BIN)/python tools/hub.py --check

format: $(VENV)/ready-dev ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/ready-dev ## Write the generated parts of docs/ and .runpod/
	$(BIN)/python tools/docs.py
	$(BIN)/python tools/hub.py

lock: ## Pin the dependencies of pyproject.toml again (needs uv)
	$(LOCK) -o requirements.txt
	$(LOCK) --extra dev -o requirements-dev.txt
	$(LOCK) --extra dev --extra bench -o requirements-bench.txt

clean: ## Remove the environment and the caches; keep the weights
	rm -rf $(VENV) $(CONVERT) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-header --quiet pyproject.toml

# pip compiles nothing here: what is imported is compiled at its first import.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/ready: requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing the pinned packages (about 120, 300 MB; a minute or so)"
	@$(INSTALL) --require-hashes --requirement requirements.txt
	@$(INSTALL) --quiet --no-deps --editable .
	@touch $@

$(VENV)/ready-dev: requirements-dev.txt $(VENV)/ready
	@echo "Installing the packages for development"
	@$(INSTALL) --require-hashes --requirement requirements-dev.txt
	@touch $@

$(VENV)/ready-bench: requirements-bench.txt $(VENV)/ready
	@echo "Installing the packages for the benchmarks"
	@$(INSTALL) --require-hashes --requirement requirements-bench.txt
	@touch $@

# torch and transformers only convert checkpoints: they stay out of the environment of the rest, which
# this one sees.
$(CONVERT)/ready: builder/requirements.txt $(VENV)/ready-dev
	@$(PYTHON) -m venv --clear $(CONVERT)
	@realpath $(VENV)/lib/python*/site-packages > \
		"$$($(CONVERT)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	@$(CONVERT)/bin/python -m pip install --disable-pip-version-check --no-compile \
		--requirement builder/requirements.txt
	@touch $@

weights/%/model.json: | $(VENV)/ready
	@$(BIN)/python builder/bake.py $* --into weights
