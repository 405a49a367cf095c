# SPDX-License-Identifier: Apache-2.0
#
# `make help` lists what there is. What a target needs, it installs: see
# hack/deps.sh. All pinned versions are in hack/versions.env.

include hack/versions.env

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# Tools and downloads are kept here, so that every checkout can use them.
export NODEGADGET_CACHE ?= $(HOME)/.cache/nodegadget

VERSION ?= $(shell git describe --always --dirty --tags --abbrev=12 2>/dev/null || echo devel)
# Stripped, without paths and build IDs: the same commit gives the same bytes.
GO_BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false \
	-ldflags '-s -w -buildid= -X nodegadget.dev/pkg/version.Version=$(VERSION)'
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

FUZZTIME ?= 50000x
# Files that collect test results across targets, and further arguments.
TALLY ?=
KERNEL_ARGS ?=
CORPUS_ARGS ?=
BENCH_ARGS ?=
BENCH_BTF_ARGS ?=
BENCHTIME ?= 1s

SUMMARY := build/testsummary $(if $(TALLY),-tally $(TALLY))

##@ Start here

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: build ## Build, then trace exec on this machine
	@hack/foreground.sh $(SUDO) bin/kubectl-gadget trace exec --local

.PHONY: test
test: objects deps-test build/testsummary ## Vet, and run all tests; as root also those on this kernel
	go vet ./...
	$(SUMMARY) test -timeout 30m $$(go list ./... | grep -vE '/test/(live|image|e2e|e2e/mixed|e2e/apiserver)$$')
	$(SUMMARY) test -timeout 30m -count 1 ./test/live

##@ Build

.PHONY: build
build: objects ## Build every program of cmd/ to bin/
	$(GO_BUILD) -o bin/ ./cmd/...

# Every folder of gadgets/ with a gadget.bpf.c is a gadget.
GADGETS := $(wildcard gadgets/*/gadget.bpf.c)
SOURCES := $(GADGETS) pkg/btf/witness/bpf/witness.bpf.c pkg/container/bpf/tracker.bpf.c \
	pkg/agent/heartbeat/bpf/heartbeat.bpf.c
OBJECTS := $(SOURCES:.bpf.c=.x86_64.o) $(SOURCES:.bpf.c=.arm64.o)
HEADERS := $(wildcard gadgets/*/*.h)
JOBS = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: objects
objects: deps-build ## Compile the gadgets that changed, for x86_64 and arm64
	@+$(MAKE) --no-print-directory $(JOBS) compile

.PHONY: compile
compile: $(OBJECTS)
	@:

%.x86_64.o: %.bpf.c $(HEADERS) hack/bpfcc.sh hack/versions.env
	hack/bpfcc.sh $< $@

%.arm64.o: %.bpf.c $(HEADERS) hack/bpfcc.sh hack/versions.env
	hack/bpfcc.sh $< $@

.PHONY: generate
generate: deps-generate ## Regenerate all that is generated: gRPC code, the API, objects, go generate
	hack/protobuf.sh
	hack/api.sh
	@+$(MAKE) --no-print-directory $(JOBS) compile
	go generate ./...

.PHONY: image
image: ## Build the agent's container image with buildah, podman or docker
	hack/image.sh nodegadget:$(VERSION) --build-arg VERSION=$(VERSION) \
		--build-arg GOLANG=$(IMAGE_GOLANG) --build-arg BASE=$(IMAGE_BASE) \
		$(if $(BTFHUB),--build-context btfhub=$(BTFHUB)) $(if $(PLATFORM),--platform $(PLATFORM)) $(IMAGE_ARGS)

.PHONY: clean
clean: ## Remove what the build made, except files that are in git
	rm -rf bin build

##@ Check

.PHONY: fmt
fmt: deps-lint ## Format Go and C
	$(NODEGADGET_CACHE)/bin/gofumpt -w .
	find gadgets pkg/btf pkg/container pkg/agent -name '*.[ch]' -exec clang-format-$(LLVM) -i {} +

.PHONY: lint
lint: deps-lint deps-generate ## Run every linter, and check that generated files are current
	hack/lint.sh

.PHONY: test-image
test-image: deps-image build/testsummary ## Build the images for real, and run what is in them
	$(SUMMARY) test -timeout 30m -count 1 ./test/image

.PHONY: test-race
test-race: build/testsummary ## Run the unit tests under the race detector
	CGO_ENABLED=1 $(SUMMARY) test -race -short $$(go list ./... | grep -v '/test/')

# What is tested where the kernel shows no types: the perf buffer has nothing to do with them.
TYPES_TESTS := -test.run 'Scenarios|EveryExec|Types|Bundle' -test.skip //perf_buffer

.PHONY: test-kernels
test-kernels: CORPUS_ARGS = --built
test-kernels: deps-kernels corpus build build/testsummary ## Run the live tests on other kernels, under qemu; none may be skipped
	CGO_ENABLED=0 GOARCH=amd64 go test -c -o build/live.amd64 ./test/live
	CGO_ENABLED=0 GOARCH=arm64 go test -c -o build/live.arm64 ./test/live
	hack/guest-types.sh build/guest
	rm -rf build/kernels
	status=0; \
	run() { go run ./test/kernels run "$$@" || status=1; }; \
	run $(KERNEL_ARGS) --timeout 12m --log-dir build/kernels \
		--bin amd64=build/live.amd64 --bin arm64=build/live.arm64 -- -test.v -test.short; \
	$(if $(KERNEL_ARGS),:,run) --btf hidden,none --timeout 12m --log-dir build/kernels/untyped \
		--bin amd64=build/live.amd64 --bin arm64=build/live.arm64 --add build/guest:/btf \
		--env LIVE_BTF_BUNDLE=/btf/btf.bundle --env LIVE_BTF_FOREIGN=/btf/foreign \
		-- -test.v -test.short $(TYPES_TESTS); \
	$(SUMMARY) -strict read $$(find build/kernels -name "*.log") || status=1; \
	exit $$status

.PHONY: test-e2e
test-e2e: deps-e2e build build/testsummary ## Run the tests on a real cluster of two nodes, which it brings up
	go run ./test/e2e/lab build
	$(SUMMARY) test -timeout 20m -count 1 -p 1 ./test/e2e/apiserver ./test/e2e

.PHONY: test-e2e-mixed
test-e2e-mixed: CORPUS_ARGS = --built
test-e2e-mixed: deps-e2e-mixed corpus build build/testsummary ## Run the tests on a cluster of three kernels, one of them without BTF
	mkdir -p build/e2e-mixed
	go run ./test/kernels fetch --modules --kernel 6.1 --kernel 5.10-nobtf >build/e2e-mixed/kernels
	bin/btfgen build --quiet --strict --archive $(NODEGADGET_CACHE)/corpus --out build/e2e-mixed/btf.bundle \
		gadgets/*/gadget.*.o pkg/container/bpf/tracker.*.o
	go run ./test/e2e/lab -images build/e2e-mixed build
	$(SUMMARY) test -timeout 20m -count 1 ./test/e2e/mixed

.PHONY: corpus
corpus: deps-kernels ## Collect the types of 50 and more kernels, as BTFHub's archive has them
	go run ./test/kernels corpus $(CORPUS_ARGS)

.PHONY: fuzz
fuzz: build/testsummary ## Fuzz every target with FUZZTIME inputs (50000x)
	hack/fuzz.sh $(FUZZTIME) $(SUMMARY) test

.PHONY: bench
bench: deps-build deps-bench build ## Measure against other tools, and each stage by itself
	$(SUDO) go run ./test/bench $(BENCH_ARGS)
	$(SUDO) go run ./test/bench btf --corpus $(NODEGADGET_CACHE)/corpus $(BENCH_BTF_ARGS)
	go test -run '^$$' -bench . -benchtime $(BENCHTIME) -benchmem ./pkg/...

.PHONY: ci
ci: ## Run the whole gate, as CI does
	.ci/run

build/testsummary: $(wildcard hack/testsummary/*.go)
	@go build -o $@ ./hack/testsummary

.PHONY: deps-build deps-generate deps-lint deps-kernels deps-test deps-image deps-bench deps-e2e deps-e2e-mixed
deps-build deps-generate deps-lint deps-kernels deps-test deps-image deps-bench deps-e2e deps-e2e-mixed: deps-%:
	@hack/deps.sh $*
