# GNU make. On a new Debian 12 with Go and root, `make demo` and `make test` are all
# that is needed: they install what is missing. Everything else is `make help`.

MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.SUFFIXES:

GO       ?= go
TOOL     := $(GO) tool -modfile=tools.mod
# Tests wait for machines more than they compute: six at a time. SQLite is C that was
# translated, with locks of its own; watching each of its accesses takes half the time.
RACE     := CGO_ENABLED=1 $(GO) test -race -shuffle=on -parallel 6 \
            -gcflags=modernc.org/sqlite/...=-race=false -gcflags=modernc.org/libc/...=-race=false
PKGS     ?= ./...
FUZZTIME ?= 60s
COUNT    ?= 10
SOAKTIME ?= 10m

.PHONY: help
help: ## print this list
	@sed -n 's/^\([a-z][a-z\/-]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
	  while IFS='|' read -r name text; do printf '%-11s %s\n' "$$name" "$$text"; done

.PHONY: build
build: ## build bin/runner
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/runner ./cmd/runner

.PHONY: demo
demo: root deps build ## a grant from request to receipt on a throw-away machine (needs root)
	@testdata/setup/demo.sh

.PHONY: test
test: deps/test lint ## install test peers, lint, then every test with the race detector
	$(RACE) -timeout 20m $(PKGS)
	SIM_SEED=100000 SIM_HISTORIES=20000 $(GO) test -timeout 20m ./engine/sim

.PHONY: lint
lint: ## golangci-lint, dead code, go.mod and the programs below testdata
	$(TOOL) golangci-lint run ./...
	@dead=$$($(TOOL) deadcode -test ./...) || exit 1; \
	  test -z "$$dead" || { printf '%s\n' "$$dead" >&2; exit 1; }
	$(GO) vet ./testdata/bench/...
	$(GO) mod tidy -diff

.PHONY: fmt
fmt: ## format, and rewrite to newer idioms
	$(TOOL) golangci-lint fmt ./...
	$(GO) fix ./...

.PHONY: update
update: ## rewrite expected test output; read the diff before it is committed
	UPDATE=1 $(GO) test $(PKGS)

.PHONY: fuzz
fuzz: ## run every fuzz target, each for FUZZTIME (60s)
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' "$$pkg" | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5s "$$pkg" || exit 1; \
	  done; \
	done

.PHONY: bench
bench: root deps build ## micro-benchmarks, the figures of the README, then runner against the floor and, if installed, ansible
	$(GO) test -run '^$$' -bench . -benchmem -count $(COUNT) $(PKGS)
	FIGURES=1 $(GO) test -run '^$$' -bench '^Benchmark(Grants|Delay|Expiry)$$' -benchtime 1x -timeout 30m ./engine
	FIGURES=1 $(GO) test -run '^$$' -bench '^BenchmarkResume$$' -benchtime 1x -timeout 10m ./cmd/runner
	$(GO) run ./testdata/bench/compare
	$(GO) run ./testdata/bench/compare -launch

.PHONY: soak
soak: deps/test ## 100,000 simulated histories, 20,000 each of overlapping grants and of scans, 500 kills of real processes, each benchmark once, then the tests again in random order for SOAKTIME (10m)
	SIM_SEED=$$(date +%s) SIM_HISTORIES=100000 SIM_OVERLAPS=20000 SIM_SCANS=20000 $(GO) test -run '^Test(Histories|Overlaps|Scans)$$' -timeout 2h ./engine/sim
	STORM_KILLS=500 $(GO) test -v -run '^TestKilledProcesses' -timeout 2h ./cmd/runner
	$(GO) test -run '^$$' -bench . -benchtime 1x $(PKGS)
	@end=$$(( $$(date +%s) + $$(echo $(SOAKTIME) | sed 's/h/*3600/; s/m/*60/; s/s//') )); \
	while [ "$$(date +%s)" -lt "$$end" ]; do \
	  $(RACE) -count=1 $(PKGS) || exit 1; \
	done

.PHONY: vuln
vuln: ## known vulnerabilities in what we call (needs the network)
	$(TOOL) govulncheck ./...

.PHONY: deps
deps: ## install what the demo needs and this machine lacks
	@testdata/setup/packages.sh demo

.PHONY: deps/test
deps/test: ## install what the tests need and this machine lacks
	@testdata/setup/packages.sh test

.PHONY: root
root:
	@test "$$(id -u)" -eq 0 || { echo 'this needs root: it makes throw-away machines out of namespaces' >&2; exit 3; }
