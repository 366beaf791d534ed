# make demo: install and run on the shipped image.   make test: everything that is checked.   make coverage: which lines the tests run.
PYTHON ?= python3
BIN := .venv/bin
# Processes of the tests; each computes in one thread.
JOBS ?= 2

.PHONY: demo test coverage format clean

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/tests-installed: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@

demo: .venv/installed
	$(BIN)/hrnet predict pose src/hrnet/assets/astronaut.jpg --out demo-output
	$(BIN)/hrnet predict segmentation src/hrnet/assets/astronaut.jpg --out demo-output/segmentation

test: export OMP_NUM_THREADS := 1
test: .venv/tests-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/pytest -n $(JOBS)

coverage: export OMP_NUM_THREADS := 1
coverage: .venv/tests-installed
	$(BIN)/pytest -n $(JOBS) --cov --cov-report=term:skip-covered

format: .venv/tests-installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv demo-output .coverage .coverage.*
