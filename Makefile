# Everything a checkout can do. It needs Python 3.11 or newer with venv, git and make; the rest it gets itself.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run pyz release install uninstall test lint format bench lock docs clean

PYTHON ?= $(shell for each in 3.11 3.12 3.13 3.14 3.15 3; do command -v python$$each && break; done)
VENV := .venv/bin/python
PREFIX ?= /opt
INSTALLED_PYZ = $(DESTDIR)$(PREFIX)/stator/stator.pyz
INSTALLED_UNIT = $(DESTDIR)/etc/systemd/system/stator.service
INSTALLED_ENV = $(DESTDIR)/etc/stator.env
PIP := $(VENV) -m pip install -qq --disable-pip-version-check --no-deps
# All files in the .pyz have the time of the last commit: a commit makes another one.
SOURCES := $(shell find stator -type f ! -name '*.pyc') $(wildcard .git/logs/HEAD)
RECIPE := $(addprefix build/,pyz.py elf.py check_python.py bootstrap_main.py requirements.lock) pyproject.toml README.md LICENSE

help: ## list what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: dist/stator.pyz ## build stator.pyz and run it with its defaults
	@echo "look at http$${STTR_SERVER_CERTFILE:+s}://localhost:$${STTR_SERVER_PORT:-8087}/ in a browser; Ctrl-C stops"
	@exec $(PYTHON) dist/stator.pyz

pyz: dist/stator.pyz ## build dist/stator.pyz

release: .venv/.tools ## build dist/stator.pyz for every platform, with checksums and a bill of materials
	@$(VENV) build/release.py

install: dist/stator.pyz ## install it as a systemd service, below DESTDIR; PREFIX=/opt has the folder stator
	@install -D -m 644 $< "$(INSTALLED_PYZ)"
	@sed 's|/opt/stator/|$(PREFIX)/stator/|' etc/stator.service | install -D -m 644 /dev/stdin "$(INSTALLED_UNIT)"
	@[ -e "$(INSTALLED_ENV)" ] || [ -L "$(INSTALLED_ENV)" ] || install -D -m 640 etc/stator.env "$(INSTALLED_ENV)"
	@echo "edit $(INSTALLED_ENV), then: systemctl daemon-reload && systemctl enable --now stator"

uninstall: ## remove what install has put in place, but for the settings in /etc/stator.env
	@rm -f "$(INSTALLED_PYZ)" "$(INSTALLED_UNIT)"
	@rmdir --ignore-fail-on-non-empty "$(dir $(INSTALLED_PYZ))" 2>/dev/null || true
	@echo "kept $(INSTALLED_ENV); now: systemctl daemon-reload"

test: lint ## run all checks and tests; ARGS go to pytest
	@$(VENV) tests/integration/fetch.py
	@$(VENV) -m tests.pythons
	@$(VENV) -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile $(ARGS)

lint: .venv/.dev ## run ruff and mypy
	@$(VENV) -m ruff check
	@$(VENV) -m ruff format --check
	@$(VENV) -m mypy

format: .venv/.dev ## format the code, and fix what ruff can
	@$(VENV) -m ruff format
	@$(VENV) -m ruff check --fix

bench: .venv/.dev dist/stator.pyz ## compare speed and memory with peers; ARGS go to tests.bench
	@$(VENV) -m tests.bench $(ARGS)

lock: .venv/.dev ## write build/*.lock from pyproject.toml; ARGS=--upgrade takes the newest versions
	@$(VENV) build/lock.py $(ARGS)

docs: .venv/.dev ## write what docs/ says of the code: settings, collectors, the tree of packages
	@$(VENV) build/docs.py
	@$(VENV) build/pages.py

clean: ## remove all that make has made
	rm -rf .venv .peers .cache dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

dist/stator.pyz: .venv/.tools $(SOURCES) $(RECIPE)
	@$(VENV) build/pyz.py

.venv/.tools: build/tools.lock | $(VENV)
	@echo "installing what builds stator.pyz into .venv"
	@$(PIP) --require-hashes -r $<
	@touch $@

.venv/.dev: build/dev.lock pyproject.toml .venv/.tools
	@echo "installing what checks and tests it into .venv"
	@$(PIP) --require-hashes -r $<
	@$(PIP) --no-build-isolation -e .
	@touch $@

# A .venv whose Python is gone holds nothing that can be used, whatever its stamps say.
ifeq ($(wildcard $(VENV)),)
$(shell rm -f .venv/.tools .venv/.dev)
endif

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Stator needs Python 3.11 or newer; name one: make PYTHON=/usr/bin/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv \
		|| { rm -rf .venv; echo "$(PYTHON) can't make .venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
