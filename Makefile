# `make` prints this list. Every target runs from a fresh clone; go, make and git
# are all it needs. COVEY_* variables are described in docs/operations.md.

SHELL := /bin/bash
GO ?= go
TOOL := $(GO) tool -modfile=internal/tools/go.mod
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X github.com/covey-dev/covey/node/cli.version=$(VERSION)
# The race detector needs a C compiler; without one the tests run without it.
RACE ?= $(if $(shell command -v $${CC:-gcc} 2>/dev/null || command -v clang 2>/dev/null),-race,)
TESTFLAGS ?=
EXAMPLES := $(notdir $(wildcard plugins/examples/*))

.DEFAULT_GOAL := help
.PHONY: help build examples test check generate demo bench sim soak clean

help: ## print this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

build: ## build bin/covey, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/covey ./cmd/covey

examples: ## build the example functions into build/functions
	@mkdir -p build/functions
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o build/functions/ ./plugins/examples/...

test: ## run all tests
	@[ -n "$(RACE)" ] || echo "no C compiler found: testing without the race detector"
	$(GO) test $(RACE) -shuffle=on -timeout 20m $(TESTFLAGS) ./...

check: ## formatting, vet, staticcheck, house rules, generated code is current
	@out=$$($(TOOL) gofumpt -l $$(git ls-files '*.go' ':!*.pb.go')); [ -z "$$out" ] || { echo "run gofumpt on:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) test ./internal/repotest
	$(MAKE) generate
	git diff --exit-code

generate: ## regenerate protobuf code
	@mkdir -p build/tools
	@for t in protoc-gen-go protoc-gen-go-grpc; do $(TOOL) -n $$t >/dev/null; done
	@ln -sf "$$($(TOOL) -n protoc-gen-go)" build/tools/protoc-gen-go
	@ln -sf "$$($(TOOL) -n protoc-gen-go-grpc)" build/tools/protoc-gen-go-grpc
	PATH="$(CURDIR)/build/tools:$$PATH" $(TOOL) buf generate

demo: build examples ## three nodes on loopback, a photograph through each, the leader killed (KEEP=1 leaves them running)
	@KEEP=$(KEEP) scripts/demo

bench: build examples ## the benchmark table (QUICK=1 for two minutes, PARTS=calls,runtimes for some of it)
	$(GO) run ./internal/loadgen/bench $(if $(QUICK),-quick) $(if $(PARTS),-parts $(PARTS))

sim: ## simulate placement at up to ten thousand nodes (QUICK=1 for two minutes)
	$(GO) run ./scheduler/sim/cmd -write docs/scheduling.md $(if $(QUICK),-quick)

soak: ## the reliability rows at their full counts; takes hours
	COVEY_SOAK=1 $(GO) test -timeout 24h -count=1 ./cluster/... ./executor/... ./node/...

clean: ## remove what was built
	rm -rf bin build
