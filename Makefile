# Every command that CI runs is one that a person can type.
PYTHON ?= python3
BIN := .venv/bin
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
# The image that the chart expects. "localhost" is not a registry: docker, podman, buildah and containerd all keep this name unchanged.
IMAGE ?= localhost/dittofs-operator:$(VERSION)
SECONDS ?= 60
DIST ?= dist
# Where the files of a release will be downloaded from, for krew; and what the image is built for: nothing means no image.
DOWNLOADS ?= https://example.com/dittofs-operator
PLATFORMS ?= linux/amd64,linux/arm64
LOCK := $(BIN)/uv pip compile --quiet --universal --no-strip-extras --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade
BUILDER ?= $(notdir $(firstword $(shell command -v buildah docker podman)))

.DEFAULT_GOAL := help
.PHONY: help install run test fuzz check format manifests schema lock image release plugin publish cut e2e bench profile picture browser

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## Create the virtual environment: versions locked, every download checked by its hash

.venv/installed: requirements-dev.lock pyproject.toml
	@echo "Creating .venv with the locked packages (about a minute the first time)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: install ## Serve a sample cluster on https://localhost:9443 and send three sample reviews to it
	@$(BIN)/python -m tests.demo

test: install ## Run all tests; the control plane, helm and Prometheus are built the first time (20 minutes). COVERAGE=yes lists lines that no test runs
	@$(BIN)/python -m tests.controlplane.build
	@$(BIN)/python -m tests.helm.build
	@$(BIN)/python -m tests.prometheus.build
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not alone" $(if $(COVERAGE),--cov --cov-report= --cov-fail-under=0)
	@$(BIN)/python -m pytest -m alone $(if $(COVERAGE),--cov --cov-append --cov-report=term)

fuzz: install ## Send mutated reviews to the webhook for SECONDS=60; SEED=... repeats a run, FILE=... one review
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(FILE)

e2e: install ## Test in a real cluster on this machine, as root; its programs are built the first time
	@$(BIN)/python -m pytest --verbose -rP tests/e2e

bench: .venv/bench-installed ## Measure the operator, on a machine that does nothing else; OPTIONS="--quick --against 'COMMAND' --json FILE --plot FILE"
	@$(BIN)/python -m tests.controlplane.build
	@$(BIN)/python -m tests.helm.build
	@$(BIN)/python -m tests.bench $(OPTIONS)

profile: .venv/bench-installed ## Account for the processor time of a review; OPTIONS="--instructions --json FILE --plot FILE"
	@$(BIN)/python -m tests.bench.profile $(OPTIONS)

picture: .venv/bench-installed ## Draw the dashboard for the documentation, from the data of a real operator (4 minutes)
	@$(BIN)/python -m tests.controlplane.build
	@$(BIN)/python -m tests.helm.build
	@$(BIN)/python -m tests.prometheus.build
	@$(BIN)/python -m tests.prometheus docs/how-to/dashboard.png

.venv/bench-installed: .venv/installed requirements-bench.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

browser: .venv/browser-installed ## Test the page of status in the Chromium of this machine; PICTURES=docs/how-to takes its pictures
	@$(BIN)/python -m pytest --verbose tests/browser
	@$(if $(PICTURES),$(BIN)/python -m tests.browser $(PICTURES))

.venv/browser-installed: .venv/installed requirements-browser.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-browser.lock
	@touch $@

image: ## Build the image with buildah, docker or podman; BASE=... for another base, IMAGE=... for another name, BUILDER=... to choose
	@test -n "$(BUILDER)" || { echo "No buildah, docker or podman here to build an image with"; exit 1; }
	@$(BUILDER) build $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD) $(BUILD_OPTIONS) $(if $(IMAGE),--tag $(IMAGE)) .

release: install ## Build all files of a release into DIST=dist, the same ones for the same commit; it publishes nothing
	@$(BIN)/python -m manifests.release build --folder $(DIST) --downloads $(DOWNLOADS) --platforms "$(PLATFORMS)" $(if $(PLUGINS),--plugins $(PLUGINS))

plugin: install ## Build kubectl's plugin as a single file for this machine into PLUGINS=plugins
	@$(BIN)/python -m manifests.release plugin --folder $(or $(PLUGINS),plugins)

cut: install ## Make version NEW=... of what is unreleased
	@$(BIN)/python -m manifests.release cut "$(NEW)"
	@$(MAKE) --no-print-directory manifests

publish: install ## List the commands that publish and sign what is in DIST to REGISTRY=...; CONFIRM=yes runs them
	@$(BIN)/python -m manifests.release publish --folder $(DIST) --registry "$(REGISTRY)" --confirm "$(CONFIRM)"

check: install ## Check style, types and imports (seconds)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m pytest --quiet tests/test_layout.py

format: install ## Format the code
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

manifests: install ## Generate the manifests, parts of the chart and the reference pages
	@helm=$$($(BIN)/python -m tests.helm.build) && $(BIN)/python -m manifests "$$helm"

schema: install ## Generate the types of core/v1 from what the API server of the tests publishes
	@$(BIN)/python -m tests.controlplane.openapi /openapi/v3/api/v1 | $(BIN)/python -m manifests.core_v1

lock: install ## Lock the dependencies of pyproject.toml at their newest versions
	@$(LOCK) --extra serve pyproject.toml --output-file requirements.lock
	@$(LOCK) --constraint requirements.lock pyproject.toml --output-file requirements-client.lock
	@$(LOCK) --constraint requirements.lock --extra serve --group dev pyproject.toml --output-file requirements-dev.lock
	@$(LOCK) --constraint requirements-dev.lock --group build --output-file requirements-build.lock
	@$(LOCK) --constraint requirements-dev.lock --group plugin pyproject.toml --output-file requirements-plugin.lock
	@$(LOCK) --constraint requirements-dev.lock --group bench --output-file requirements-bench.lock
	@$(LOCK) --constraint requirements-dev.lock --group browser --output-file requirements-browser.lock
