# make demo | make test | make lint | make bench | make messages     Needs python3 (3.11 or newer), make and git.

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed-$(shell cksum < requirements.txt | tr ' ' -)
DEV_STAMP := $(VENV)/.installed-dev-$(shell cat requirements.txt requirements-dev.txt | cksum | tr ' ' -)
# The checks of `make lint` read the settings but reach no service.
LINT := SECRET_KEY=for-the-checks-alone-never-for-a-server DATABASE_URL=postgres://nobody@127.0.0.1/none BROKER_URL=memory://

.PHONY: demo test lint bench chromium messages

demo: $(STAMP)
	@exec $(PY) -m config.supervisor

test: $(DEV_STAMP) chromium
	@exec $(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

lint: $(DEV_STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	git ls-files -z '*.html' | xargs -0 -r $(VENV)/bin/djhtml --tabwidth 2 --check
	$(LINT) $(PY) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(LINT) $(VENV)/bin/mypy

bench: $(DEV_STAMP)
	@exec $(PY) -m tests.bench

$(PY):
	@found=; for python in python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Podium needs Python 3.11 or newer; here is: $$(python3 --version 2>&1 || true)" >&2; exit 1; \
	fi; \
	$$found -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "No virtual environment could be made. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(STAMP): | $(PY)
	@echo "Installing what Podium needs into $(VENV) (torch is large: the first time takes some minutes) ..."
	@$(PY) -m pip install --disable-pip-version-check -r requirements.txt
	@rm -f $(VENV)/.installed-[0-9]*; touch $@

$(DEV_STAMP): $(STAMP)
	@echo "Installing what the tests need ..."
	@$(PY) -m pip install --disable-pip-version-check -r requirements-dev.txt
	@rm -f $(VENV)/.installed-dev-*; touch $@

chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Chromium for the browser tests ..."; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	else \
	  echo "The browser tests need Chromium, and only root can install it: sudo apt-get install chromium" >&2; exit 1; \
	fi

# After strings were changed: collects them into locale/, then, once translated, compiles them. Needs GNU gettext.
messages: $(DEV_STAMP)
	$(LINT) $(PY) -W ignore::RuntimeWarning manage.py makemessages --locale de --no-location --no-obsolete --ignore '.venv' --ignore 'tests' --ignore 'client' --ignore '.podium'
	$(LINT) $(PY) -W ignore::RuntimeWarning manage.py compilemessages --locale de --ignore '.venv'
