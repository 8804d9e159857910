# Bare `make` lists what can be done.
.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

VENV := .venv
STAMP := $(VENV)/.stamp
BIN := $(VENV)/bin
UV := 0.13.9
JOBS ?= 3

.PHONY: help setup run test check bench soak db-check screenshots lock vendor clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## The environment in .venv, so that .venv/bin/billing is there
	@:

# sync installs exactly what the lock file lists, by hash, and removes the rest; it spares pip and uv themselves. Where
# uv cannot reach the index (it does not read pip's settings for mirrors and certificates), pip does the same slowly.
$(STAMP): requirements.lock pyproject.toml
	@$(MAKE) $(BIN)/uv
	@$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements.lock || \
		{ echo "uv could not install; pip tries"; $(BIN)/python -m pip install -q --require-hashes -r requirements.lock; }
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# PYTHON names the interpreter; without it the first one that is new enough is taken. Debian ships Python without the
# module that a virtual environment needs: root can add it, anybody else is told what to ask for.
.PHONY: $(BIN)/uv
$(BIN)/uv:
	@set -eu; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		python=; \
		for name in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
			if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
		done; \
		if [ -z "$$python" ]; then echo "Python 3.11 or newer is needed. Name it: make setup PYTHON=/path/to/python" >&2; exit 1; fi; \
		if ! $$python -c 'import ensurepip' 2>/dev/null; then \
			if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
				{ apt-get install -qq -y python3-venv || { apt-get update -qq && apt-get install -qq -y python3-venv; }; } </dev/null >/dev/null; \
			else \
				echo "This Python lacks ensurepip. Install it: sudo apt-get install python3-venv" >&2; exit 1; \
			fi; \
		fi; \
		echo "Setting up $(VENV) with $$($$python --version)"; \
		$$python -m venv --clear $(VENV); \
	fi; \
	if [ "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" != "$(UV)" ]; then \
		$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV); \
	fi

run: setup ## From a fresh clone to a running, seeded site; Ctrl-C stops it
	@exec $(BIN)/billing run

test: check ## Everything CI runs, in its order; T=tests/unit narrows it
	@$(BIN)/pytest -n $(JOBS) --dist worksteal --durations=25 -m "not soak" $(T)

check: setup ## The quick part of it: lint, format, types, import contracts
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check . || { echo "Run .venv/bin/ruff format" >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: setup ## The figures: entries, usage rows and invoices a second, beside plain COPY
	@$(BIN)/python -m tests.benchmarks

# Stories share nothing, so they run on all cores; the other long runs measure, or need the machine for themselves.
soak: setup ## The long runs, at full size
	@if [ -z "$(T)" ]; then \
		$(BIN)/pytest -n auto --dist worksteal -m soak tests/story; stories=$$?; \
		$(BIN)/pytest -m soak --ignore=tests/story && exit $$stories; \
	else \
		$(BIN)/pytest $(if $(findstring tests/story,$(T)),-n auto --dist worksteal) -m soak $(T); \
	fi

db-check: setup ## Whether the tables in code and the migrated database agree
	@$(BIN)/billing db upgrade
	@$(BIN)/billing db check

screenshots: setup ## Every page as an image, into docs/screenshots
	@$(BIN)/python -m tests.screenshots

lock: setup ## Resolve requirements.lock anew; U=1 takes newer versions
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --all-extras --generate-hashes --no-header \
		--no-emit-index-url $(if $(U),--upgrade) -o requirements.lock pyproject.toml
	@$(MAKE) setup

# Libraries for the browser are committed, so running the site needs no node. VENDORED.md lists version, licence, sha256.
VENDOR := support_ui/static/vendor
vendor: ## Fetch the browser's libraries anew with npm, and print their checksums
	@set -eu; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	for entry in htmx.org@4.0.1:dist/htmx.min.js @picocss/pico@2.1.1:css/pico.min.css; do \
		package=$${entry%%:*}; file=$${entry#*:}; version=$${package##*@}; \
		target=$(VENDOR)/$$(basename "$$file" | cut -d. -f1)-$$version; \
		(cd "$$folder" && npm pack --silent "$$package" >packed && tar -xzf "$$(tail -n 1 packed)"); \
		mkdir -p "$$target"; \
		cp "$$folder/package/$$file" "$$target/"; \
		cp "$$folder"/package/LICENSE* "$$target/LICENSE"; \
		rm -rf "$$folder/package"; \
	done; \
	cd $(VENDOR) && sha256sum */*.min.js */*.min.css

clean: ## Stop the embedded services and delete their data, and what tools left behind
	@if [ -x $(BIN)/billing ]; then $(BIN)/billing services down --erase; fi
	@rm -rf var .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
