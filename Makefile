# The recipes; `make help` lists them. Each does all of its own set-up.

SHELL := /bin/bash
TARGET := x86_64-unknown-linux-gnu
BUILD := $(or $(CARGO_TARGET_DIR),target)/$(TARGET)
export PATH := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hyperion/tools/bin:$(PATH)

.PHONY: help demo test bench build lint fmt clean

help: ## list the recipes
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## set up, build, and run MPI as a process, in a container and in a VM
	scripts/setup.sh demo
	cargo build --release --locked --package hyperion-cli
	HYPERION=$(BUILD)/release/hyperion scripts/demo.sh

test: ## set up, then every check and every test
	scripts/setup.sh test
	scripts/test.sh

bench: ## measure beside the peers; writes docs/performance.md
	scripts/setup.sh bench
	cargo build --release --locked --package hyperion-cli --package xtask
	HYPERION=$(BUILD)/release/hyperion $(BUILD)/release/xtask bench

build: ## the static binary
	scripts/setup.sh build
	cargo build --release --locked --package hyperion-cli
	@ls -l $(BUILD)/release/hyperion

lint: ## the checks without the tests
	scripts/setup.sh test
	scripts/test.sh lint

fmt: ## format the sources
	cargo fmt --all

clean: ## remove what was built
	cargo clean
