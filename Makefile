# What one types here. `make` alone says it.

CARGO ?= cargo

.PHONY: help test histories check demo demo-clean fuzz deny packages

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

# The programs under test are built together with the tests and in their profile: built alone they would have other features
# of their dependencies, and the AWS SDK would be compiled twice. Each test program makes at most two Docker engines at once.
test: packages ## run every test; as root it installs what it needs, otherwise it says what it skips
	$(CARGO) build --workspace --locked --all-targets
	PORTOLAN_BIN="$$(realpath -m "$${CARGO_TARGET_DIR:-target}")/debug" $(CARGO) test --workspace --locked
	fuzz/run 10

# Without HISTORIES the first 100,000; what fails is played again by its seed, PORTOLAN_HISTORY.
histories: ## play random histories against the catalog's model, optimised (HISTORIES=FROM..TO)
	PORTOLAN_HISTORIES=$(or $(HISTORIES),100000) $(CARGO) test --profile quick -p portolan-registry --lib --locked every_history

check: ## format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

demo: ## Kibana finds Elasticsearch by name, for real, on this machine (DEMO=once ends by itself)
	@demo/run

demo-clean: ## take back what the demo made
	@demo/clean

fuzz: ## fuzz every target for five minutes
	fuzz/run 300

deny: ## licences, versions and sources of what we depend on, where cargo-deny is installed
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check bans licenses sources; \
	else echo 'SKIPPED: licences (cargo install --locked cargo-deny); versions and sources are checked by the tests'; fi

packages:
	@tests/install
