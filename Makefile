# Sluice: what a developer runs. `make help` lists the targets.
GO ?= go
GOLANGCI_LINT_VERSION := v2.15.0
GOFUMPT_VERSION := v0.12.0
BIN := $(CURDIR)/bin
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
FUZZTIME ?= 10s
FUZZTURN ?= 1/1
SCHEDULES ?= 10000
KILLS ?= 500
CONTACTS ?= 5000000
# Of a release: the tag, and what came after it; any other can be given.
VERSION ?= $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null || echo 0.0.0-$$(git rev-parse --short=12 HEAD))

.DEFAULT_GOAL := help
.PHONY: help build test race lint fmt vet tools fuzz sim crash soak e2e cross release bench bench-nightly golden clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/sluice
	$(GO) build -o $(BIN)/sluice ./cmd/sluice

test: ## Run the tests
	$(GO) test ./...

race: ## Run the tests under the race detector, in random order
	$(GO) test -race -shuffle=on ./...

tools: ## Install the pinned linter and formatter into bin/
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	GOBIN=$(BIN) $(GO) install mvdan.cc/gofumpt@$(GOFUMPT_VERSION)

lint: ## Check format and rules (run `make tools` once before)
	@unformatted="$$($(BIN)/gofumpt -l .)"; test -z "$$unformatted" || { echo "not formatted by gofumpt:"; echo "$$unformatted"; exit 1; }
	$(BIN)/golangci-lint run ./...

fmt: ## Format the code
	$(BIN)/gofumpt -l -w .
	$(BIN)/golangci-lint fmt

vet: ## Run go vet
	$(GO) vet ./...

fuzz: ## Fuzz every fuzz target for FUZZTIME each; FUZZTURN=K/N: those of every Nth package
	@set -e; turn=$(FUZZTURN); n=0; for pkg in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  n=$$((n + 1)); [ $$(((n - $${turn%/*}) % $${turn#*/})) -eq 0 ] || continue; \
	  for target in $$(grep -h '^func Fuzz' $$pkg/*_test.go | sed 's/func \(Fuzz[A-Za-z0-9_]*\).*/\1/'); do \
	    echo "fuzz $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; done; done

sim: ## Simulate SCHEDULES schedules of a changing source against the walk
	SLUICE_SIM_SCHEDULES=$(SCHEDULES) $(GO) test -count=1 -run Sim ./extract/...

crash: ## Kill runs, cut the power and fail the disk, KILLS times in all
	SLUICE_CRASH_KILLS=$(KILLS) $(GO) test -count=1 -timeout 2h -v ./internal/crashtest
	SLUICE_CRASH_KILLS=$(KILLS) $(GO) test -count=1 -timeout 2h -v -run KilledAtAnyTime ./cmd/sluice

soak: sim crash ## The long tests: simulation and crashes at full size

e2e: build ## Run the main job from an empty directory and query it
	.ci/e2e $(BIN)/sluice

cross: ## Build without cgo for every supported platform
	@set -e; for p in $(PLATFORMS); do echo "build $$p"; CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -o /dev/null ./cmd/sluice; done

release: ## Build the archives of a release, and their checksums, into dist/
	GO="$(GO)" .ci/release "$(VERSION)" $(PLATFORMS)

bench: ## JSON to Parquet beside DuckDB on the same bytes
	$(GO) run ./bench

bench-nightly: ## What a first run and a night cost at CONTACTS contacts
	$(GO) run ./bench -contacts $(CONTACTS) -rounds 3 nightly

golden: ## Rewrite the golden files from the present output
	UPDATE_GOLDEN=1 $(GO) test ./internal/...

clean: ## Remove what was built
	rm -rf $(BIN) dist
