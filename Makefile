# The one place for people's commands. `make` alone lists them.

CARGO   := $(or $(shell command -v cargo),$(HOME)/.cargo/bin/cargo)
HOST    := $(shell $(CARGO) -vV 2>/dev/null | sed -n 's/^host: //p')
NEXTEST := $(shell command -v cargo-nextest)

BUILD_PACKAGES := gcc libc6-dev libpam0g-dev pkg-config openssh-client
DEB_PACKAGES   := $(BUILD_PACKAGES) debhelper dpkg-dev fakeroot lintian
TEST_PACKAGES  := $(BUILD_PACKAGES) dbus-daemon expect login mandoc openssh-server passwd perl-base procps shellcheck socat \
                  sshpass systemd util-linux

# Clippy and the tests build with the same features, so that dependencies are built once.
FEATURES := --features failpoints
SCRIPTS  := .ci/run $(wildcard tests/tools/*) debian/consoleserver.postinst debian/consoleserver.prerm debian/consoleserver.postrm debian/tests/smoke

# Tests make accounts, mount and drop privileges: they run as root.
export CARGO_TARGET_$(shell echo $(HOST) | tr 'a-z-' 'A-Z_')_RUNNER := $(CURDIR)/tests/tools/as-root

.PHONY: help run build deb test test-boot lint toolchain packages test-packages
.DEFAULT_GOAL := help

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: toolchain packages ## build, start with a demonstration port, print what to paste
	$(CARGO) build --locked --profile quick --bins
	exec target/quick/consoleserver --demo

build: toolchain packages ## the release build, in target/release
	$(CARGO) build --locked --release --bins

# An arm64 package on another machine wants the cross compiler, and libpam of that architecture.
deb: toolchain ## the Debian package, in target/deb; ARCH=arm64 for a Raspberry Pi
	@tests/tools/install-packages $(DEB_PACKAGES)
	@tests/tools/make-deb $(or $(ARCH),$(shell dpkg --print-architecture))

test: toolchain test-packages lint ## everything that must hold, on this machine
ifdef NEXTEST
	$(CARGO) nextest run --locked $(FEATURES)
	$(CARGO) test --locked $(FEATURES) --doc
else
	$(CARGO) test --locked $(FEATURES)
endif

test-boot: toolchain ## what the package must hold, in containers with a systemd of their own (root; 8 minutes)
	tests/boot/check-units
	tests/boot/test-container

lint: toolchain test-packages ## format, clippy, licences, man pages, shell scripts
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets $(FEATURES) -- -D warnings
	command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked --debug --version 0.20.2
	$(CARGO) deny --log-level error check bans licenses sources
	mandoc -T lint -W warning $(wildcard man/*.[1-8])
	shellcheck $(SCRIPTS)

toolchain:
	@tests/tools/check-toolchain $(CARGO)

packages:
	@tests/tools/install-packages $(BUILD_PACKAGES)

test-packages:
	@tests/tools/install-packages $(TEST_PACKAGES)
