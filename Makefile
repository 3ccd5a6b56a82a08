# Everything here builds what it needs: a clean clone, Python 3.11 and make are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
OUT ?=
OPTIONS ?=
JOBS ?= 2

.PHONY: demo test lint bench smoke clean

# The main job. `make demo DATA=folder` trains on your clips instead of generated ones.
demo: $(VENV)/.installed
	$(BIN)/tome-audio demo $(if $(DATA),--data "$(DATA)") $(if $(OUT),--out "$(OUT)")

# In two processes of one thread each; JOBS=0 runs all tests in this process.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p tome_audio
	$(BIN)/mypy --strict --follow-imports=silent -p tome_audio.merge -p tome_audio.patch -p tome_audio.losses

# Within 10 minutes on two cores. `make bench OPTIONS=--full` is the whole grid.
bench: $(VENV)/.installed
	mkdir -p runs
	$(BIN)/python -m pytest benchmarks --benchmark-only --capture=no --benchmark-columns=median,iqr,rounds \
	  --benchmark-json=runs/bench.json $(OPTIONS)

smoke: $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" bash egs/smoke/run.sh

clean:
	rm -rf $(VENV) runs

# The mark is written last, so that an installation that was stopped is done again.
$(VENV)/.installed: setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[hf,dev]'
	touch $@
