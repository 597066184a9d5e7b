# A thin front door. The build itself is meson's (meson.build); the guests'
# set-up and the tests' order are scripts of tests/. No target needs another
# one to have been run before it.
#
# SPDX-License-Identifier: BSD-3-Clause

BUILD ?= build
SETUP := tests/vm/setup
export RINGBOLT_BUILD = $(abspath $(BUILD))

.PHONY: all build deps demo check check-slow perf install clean help

all: deps build

help:
	@echo 'make            install missing packages, build into $(BUILD)/'
	@echo 'make deps       install missing packages ($(SETUP)/packages.txt)'
	@echo 'make demo       boot Linux in QEMU, on a disk of ringbolt-blk, on a network of ringbolt-net'
	@echo 'make check      every test: units, sanitizers, fuzzers, real guests'
	@echo 'make check-slow the same with every variant of the guests'
	@echo 'make perf       benchmarks, side by side with what others use'
	@echo 'make install    install programs and man pages (DESTDIR=, PREFIX=)'

deps:
	@$(SETUP)/deps.sh

build: | $(BUILD)/build.ninja
	@echo 'build: $(BUILD)'
	@ninja -C $(BUILD) --quiet

$(BUILD)/build.ninja:
	@command -v meson >/dev/null || $(SETUP)/deps.sh
	@meson setup $(BUILD) $(if $(PREFIX),--prefix=$(PREFIX)) >/dev/null

demo: deps build
	@python3 $(SETUP)/assets.py kernel
	@python3 tests/vm/demo.py

check: deps
	@python3 tests/check.py

check-slow: deps
	@python3 tests/check.py --slow

perf: deps
	@perf/run

install: build
	@meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir=$(abspath $(DESTDIR)))

clean:
	@rm -rf $(BUILD) build-*
