# make serve    start the server on 127.0.0.1:8000 (ARGS="--port 9000" and the like are passed on)
# make test     the tests that need nothing but Python, in a few minutes (ARGS="-k softmax" ...)
# make test-all every test, those marked `thorough` too: they need Graphviz, Redis, Node, Go, R, PHP, curl, jq, promtool (.ci/run
#               installs these), kill servers, or go through all of what `make test` takes a sample of; nothing is skipped
# make lint     ruff, mypy, import-linter; `make format` mends what can be mended
# make mirror   write what follows from the table of operations: its document, and the functions of the Python SDK
# make bench    our figures beside those of HIPS autograd, JAX, PyTorch, bare servers and code by hand, in ten minutes
#               (ARGS=--write records them); `make bench-quick` in one, for a first look
# make soak     100,000 requests with new programs: what the memory does (ARGS="--requests N"); and a training over
#               HTTP of which servers and workers are killed 100 times each, on SQLite and on Redis, by one server and by
#               two processes of one (each takes a quarter of an hour on two busy cores); and one over a bad network
# make chaos    attacks of some fifty kinds, each on a server of its own with honest clients beside it, in eight minutes;
#               fails where a bound does not hold (ARGS="-k inv", --same-address, --list; --write records the table)
# make schema   ask servers, without and with keys, all that their OpenAPI document allows and much that it does not, in three
#               minutes (schemathesis; ARGS="--seed 7 --max-time 600"); fails where one answers otherwise than the document says
# make pin      write the digests of all images into the Dockerfile and docker-compose.yml; needs `crane` or `docker buildx`,
#               and a network in which the registry can be reached
# make sbom     write dist/sbom.cdx.json, the packages of the server and their hashes (CycloneDX); needs a package index
# make audit    look for known vulnerabilities in all that is locked; needs a network in which pypi.org can be reached
# make lock     choose versions anew within pyproject.toml (ARGS=--upgrade for the newest)
#
# Each first brings its virtual environment up to date with its lock; that costs nothing where nothing changed.
# PYTHON=... chooses the interpreter, 3.11 or newer.

VENV := .venv
BENCH := tests/benchmarks
TOOLS := tools/.venv
UV_VERSION := 0.13.9
ARGS ?=
# Tests run on all processors.
SPREAD := --numprocesses logical --maxprocesses 8 --dist worksteal

ifeq ($(origin PYTHON),undefined)
INTERPRETERS := python3 python3.14 python3.13 python3.12 python3.11
else
INTERPRETERS := $(PYTHON)
endif

# Sets $python in the shell to the first of INTERPRETERS that will do.
define find_python
python=$$(for candidate in $(INTERPRETERS); do \
	"$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		&& { echo "$$candidate"; break; }; \
done); \
if [ -z "$$python" ]; then \
	echo "Python 3.11 or newer with its venv module is needed (on Debian: apt install python3-venv)." >&2; \
	echo "Tried: $(INTERPRETERS). Choose another with make PYTHON=/path/to/python3" >&2; \
	exit 1; \
fi
endef

.PHONY: serve test test-all lint mirror format bench bench-quick soak chaos schema pin sbom audit lock clean
.DEFAULT_GOAL := test

serve: $(VENV)/installed-lock
	$(VENV)/bin/pullback serve $(ARGS)

test: $(VENV)/installed-lock
	$(VENV)/bin/pytest $(SPREAD) $(ARGS)

test-all: $(VENV)/installed-lock $(TOOLS)/installed-lock
	$(VENV)/bin/pytest $(SPREAD) -m "" $(ARGS)

lint: $(VENV)/installed-lock
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy --strict engine app tools
	$(VENV)/bin/mypy --strict --python-version 3.10 clients/python/src/pullback
	$(VENV)/bin/lint-imports

mirror: $(VENV)/installed-lock
	$(VENV)/bin/python -m tools.operations
	$(VENV)/bin/python -m tools.functions

format: $(VENV)/installed-lock
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(VENV)/installed-lock $(BENCH)/.venv/installed-lock
	$(VENV)/bin/python -m tests.benchmarks.run $(ARGS)

bench-quick: ARGS += --quick
bench-quick: bench

soak: $(VENV)/installed-lock
	$(VENV)/bin/python -m tests.benchmarks.soak $(ARGS)
	$(VENV)/bin/python -m tests.app.test_session_crashes
	$(VENV)/bin/python -m tests.clients.test_faults

chaos: $(VENV)/installed-lock
	$(VENV)/bin/python -m tests.chaos $(ARGS)

schema: $(VENV)/installed-lock $(TOOLS)/installed-lock
	$(VENV)/bin/python -m tests.schema $(ARGS)

pin: $(VENV)/installed-lock
	$(VENV)/bin/python -m tools.pins

# The lock has what developers need too: the versions in it are kept, and only what the server needs is listed.
sbom: $(TOOLS)/installed-lock .uv/bin/uv
	mkdir -p dist
	$(COMPILE) --constraint requirements.lock --extra traces -o dist/server.lock pyproject.toml
	$(TOOLS)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/sbom.cdx.json dist/server.lock

audit: $(TOOLS)/installed-lock
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock $(ARGS)

$(VENV)/installed-lock: requirements.lock pyproject.toml clients/python/pyproject.toml
	@$(find_python); "$$python" .ci/install.py $(VENV) requirements.lock --editable . clients/python

# The rivals' environment has the same interpreter as ours.
$(BENCH)/.venv/installed-lock: $(BENCH)/requirements.lock | $(VENV)/installed-lock
	@$(VENV)/bin/python .ci/install.py $(BENCH)/.venv $(BENCH)/requirements.lock

# Programs that are run, and that nothing imports.
$(TOOLS)/installed-lock: tools/requirements.lock | $(VENV)/installed-lock
	@$(VENV)/bin/python .ci/install.py $(TOOLS) tools/requirements.lock

# One version of a package for all Pythons and systems, so that results are the same everywhere. The benchmark's lock
# follows the project's.
COMPILE := .uv/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-header --no-annotate

lock: .uv/bin/uv
	$(COMPILE) $(ARGS) --extra traces --group dev -o requirements.lock pyproject.toml
	$(COMPILE) $(ARGS) --constraint requirements.lock -o $(BENCH)/requirements.lock $(BENCH)/requirements.in
	$(COMPILE) $(ARGS) -o tools/requirements.lock tools/requirements.in

.uv/bin/uv:
	@$(find_python); "$$python" -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

clean:
	rm -rf $(VENV) $(BENCH)/.venv $(TOOLS) .uv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find app engine tests -name __pycache__ -prune -exec rm -rf {} +
