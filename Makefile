# Every target prepares .venv by itself. Needed beforehand: Python 3.11, 3.12 or 3.13, git and make.

UV_VERSION := 0.13.8
# Processes that share the tests, a file at a time; each has databases and a browser of its own.
WORKERS    ?= 2

CANDIDATES := python3.13 python3.12 python3.11 python3 python
FITTING    := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
FOUND       = $(shell for p in $(CANDIDATES); do "$$p" -c '$(FITTING)' 2>/dev/null && command -v "$$p" && break; done)
PYTHON     ?= $(eval PYTHON := $(FOUND))$(PYTHON)
INSTALLED  := .venv/.installed
CODE       := ml_workbench app tests benchmarks nbs
TESTED     := test-artefacts/tests.xml

# dvc.yaml says `python`; so do subprocesses. Bytecode is kept: without it every import is slow.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH VIRTUAL_ENV
# Nothing is written to the home folder, and nothing in it changes what happens here.
export IPYTHONDIR         := $(CURDIR)/state/jupyter/ipython
export JUPYTER_CONFIG_DIR := $(CURDIR)/state/jupyter/config
export JUPYTER_DATA_DIR   := $(CURDIR)/state/jupyter/data
export DVC_NO_ANALYTICS   := true
$(shell mkdir -p state/jupyter)
# uv does not read pip's settings: a mirror named for pip holds for it too.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

.DEFAULT_GOAL := help
.PHONY: help run test reproduced lab app export check lessons bench lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(INSTALLED) ## check, then run the pipeline: data, features, train, evaluate
	@ml-workbench check
	@dvc repro
	@echo
	@echo "Done. The result as a page: make app"

test: $(INSTALLED) ## everything: the gates, the lessons, the pipeline, the tests, the score card
	@$(MAKE) --no-print-directory check lessons
	@dvc repro
	@python tests/services.py python -m pytest -n $(WORKERS) --dist loadfile --cov --cov-report=term:skip-covered $(if $(ARGS),,--junitxml=$(TESTED)) $(ARGS)
	@$(if $(ARGS),:,ml-workbench score-card)

reproduced: $(INSTALLED) ## whether the committed results are what the pipeline just wrote
	@CI=true python -m pytest tests/repository/test_reproduction.py -k 'again or holds'

lab: $(INSTALLED) ## open the notebooks in JupyterLab
	@jupyter lab --config=nbs/jupyter_server_config.py $(ARGS)

app: $(INSTALLED) ## open the page with the result
	@ml-workbench app

export: $(INSTALLED) ## write the package from the notebooks
	@ml-workbench export

check: $(INSTALLED) ## the gates that take seconds: drift, style, layers, notebooks, workflows, parameters
	@ml-workbench export --check
	@ruff check $(CODE)
	@ruff format --check --quiet $(CODE)
	@said=$$(lint-imports --no-cache --no-logo) || { echo "$$said"; exit 1; }
	@zizmor --offline --quiet --no-progress .github
	@python -m pytest tests/repository/test_notebooks.py tests/repository/test_files.py
	@ml-workbench check

lessons: $(INSTALLED) ## run the lessons in the library notebooks
	@nbdev-test nbs --n-workers 2

bench: $(INSTALLED) ## measure, and print one table
	@python tests/services.py python benchmarks/run.py $(ARGS)

lock: $(INSTALLED) ## resolve the dependencies anew into requirements.lock
	@uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --all-extras \
		--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" \
		$(ARGS) --output-file requirements.lock pyproject.toml

clean: ## remove environment, caches and results; .env and state/ stay
	@git clean -fdXq -e '!/.env' -e '!/state/'

# ---------------------------------------------------------------------------------------------------------

# An environment that stands elsewhere than it was made (the folder was moved) is made again.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
.PHONY: $(INSTALLED)
endif

# `.installing` stands while it runs: whatever an interrupted installation left is thrown away by the next.
$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; found none of: $(CANDIDATES). \
	Install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c '$(FITTING)' || { echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13" >&2; exit 1; }
	@if [ -e $@ ] && [ "$$(cat $@)" != "$(CURDIR)" ] || [ -e .venv/.installing ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; \
	then rm -rf .venv && echo "Creating .venv with $$("$(PYTHON)" --version)" && "$(PYTHON)" -m venv .venv; fi
	@rm -f $@ && touch .venv/.installing
	@.venv/bin/uv --version 2>/dev/null | grep -qF 'uv $(UV_VERSION) ' \
		|| .venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv==$(UV_VERSION)'
	@echo "Installing requirements.lock into .venv"
	@.venv/bin/uv pip sync --quiet --python .venv --require-hashes --compile-bytecode requirements.lock
	@.venv/bin/uv pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
	@rm .venv/.installing && echo "$(CURDIR)" > $@
