# The one place for people's commands. `make` alone lists them.

CARGO   := $(or $(shell command -v cargo),$(HOME)/.cargo/bin/cargo)
HOST    := $(shell $(CARGO) -vV 2>/dev/null | sed -n 's/^host: //p')
NEXTEST := $(shell command -v cargo-nextest)

# npm builds the page of Cockpit. It may have come with a nodejs of another source, with which Debian's package conflicts.
NPM            := $(if $(shell command -v npm),,nodejs npm)
BUILD_PACKAGES := gcc libc6-dev libpam0g-dev patch pkg-config openssh-client
DEB_PACKAGES   := $(BUILD_PACKAGES) build-essential debhelper dpkg-dev fakeroot lintian $(NPM)
# Packages for the checks before a release.
RELEASE_PACKAGES := autopkgtest qemu-user-static
TEST_PACKAGES  := $(BUILD_PACKAGES) $(NPM) ansible asciinema bind9 bind9-dnsutils bsdutils chromium cockpit-bridge cockpit-ws dbus-daemon dropbear-bin expect faketime fence-agents gensio-bin iproute2 ipmitool knot libpam-oath login lrzsz mandoc openipmi openssh-server passwd perl-base powerman procps \
                  prometheus putty-tools python3-asyncssh python3-cryptography python3-fusepy python3-netmiko python3-paramiko python3-pexpect python3-serial python3-venv \
                  rsync ser2net shellcheck socat ssh-audit sshpass strace systemd tio tmux util-linux xauth

# Clippy and the tests build with the same features, so that dependencies are built once.
FEATURES := --features failpoints
SCRIPTS  := .ci/run patches/rustc $(wildcard tests/tools/* units/power/power-*) debian/consoleserver.postinst debian/consoleserver.prerm debian/consoleserver.postrm debian/tests/smoke \
            $(shell grep -lE '^\#!.*sh$$|shellcheck shell=' tests/boot/* tests/boot/container.d/* benches/peers/* 2>/dev/null)

# Packages, as tests/tools/make-deb names them. The beds' is built in a third of the time, as `make run` is.
ARCH    := $(shell dpkg --print-architecture)
VERSION := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
DEB     := target/deb/consoleserver_$(VERSION)_$(ARCH).deb
BED_DEB := target/deb/quick/consoleserver_$(VERSION)_$(ARCH).deb
AS_ROOT := tests/tools/as-root
# An emulated machine takes one processor and containers mostly wait, so they run side by side; make prints each when it ends.
VM_PARTS     := test-vm-1 test-vm-2
TRIXIE_PARTS := test-trixie-1 test-trixie-2
BED_PARTS    := $(VM_PARTS) $(TRIXIE_PARTS) test-bookworm

# A clean clone builds everything once: what would make the next build quicker costs half a minute.
ifdef CI
export CARGO_INCREMENTAL := 0
endif

# Tests make accounts, mount and drop privileges: they run as root.
export CARGO_TARGET_$(shell echo $(HOST) | tr 'a-z-' 'A-Z_')_RUNNER := $(CURDIR)/tests/tools/as-root

# The package given to `make soak DEB=FILE`.
GIVEN_DEB := $(if $(findstring command,$(origin DEB)),$(DEB))

.PHONY: help run try build deb bed-deb picture bench bench-loops fuzz soak test test-boot $(BED_PARTS) test-russh release-check lint toolchain packages test-packages deb-packages
.DEFAULT_GOAL := help

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: toolchain packages ## build and start with a demonstration port; prints commands to paste
	@programs=$$(tests/tools/cargo-build --quick $(CARGO) build --locked --bins) && exec "$$programs/consoleserver" --demo

build: toolchain packages ## the release build, in target/release
	@tests/tools/cargo-build $(CARGO) build --locked --release --bins

# An arm64 package on another machine wants the cross compiler, and libpam of that architecture.
deb: toolchain deb-packages ## the Debian packages, in target/deb; ARCH=arm64 for a Raspberry Pi
	@tests/tools/make-deb $(ARCH)

bed-deb: toolchain deb-packages
	@tests/tools/make-deb $(ARCH) quick

try: bed-deb ## try the package in a container with four ports; prints commands to paste
	$(AS_ROOT) tests/boot/try --deb $(BED_DEB)

picture: toolchain test-packages ## regenerate README's picture
	@tests/tools/install-packages python3-rich
	DRAW_PICTURE=1 $(CARGO) test --locked $(FEATURES) --test picture

# A part: make bench SYSTEMS="consoleserver conserver" WHAT="memory echo"; ROUNDS=1 for a quick look. Results of a whole run are for the repository.
bench: deb ## consoleserver beside conserver, ser2net, conman, sshd and dropbear, measured in a container (25 minutes)
	$(AS_ROOT) benches/peers/run --deb $(DEB) --systems "$(SYSTEMS)" --what "$(WHAT)" --rounds "$(ROUNDS)"

fuzz: toolchain packages ## fuzz for MINUTES=10 each of TARGETS (fuzz/README.md)
	@tests/tools/fuzz $(or $(MINUTES),10) $(TARGETS)

bench-loops: toolchain packages ## throughput of the loops that every byte passes
	$(CARGO) bench --locked --bench loops

# Cheap first: what fails soon has cost little.
test: toolchain test-packages lint ## all tests, also in containers and VMs (25 minutes)
ifdef NEXTEST
	$(CARGO) nextest run --locked $(FEATURES)
else
	$(CARGO) test --locked $(FEATURES)
endif
	$(MAKE) test-boot

test-boot: bed-deb ## the tests of the package in containers and VMs (9 minutes)
	$(AS_ROOT) tests/boot/check-units
	$(AS_ROOT) tests/boot/test-try --deb $(BED_DEB)
	$(MAKE) --jobs=$(words $(BED_PARTS)) --output-sync=target --keep-going $(BED_PARTS)

$(VM_PARTS): test-vm-%:
	$(AS_ROOT) tests/boot/test-vm --part $*/2 --deb $(BED_DEB)

$(TRIXIE_PARTS): test-trixie-%:
	$(AS_ROOT) tests/boot/test-container --suite trixie --part $*/2 --deb $(BED_DEB)

test-bookworm:
	$(AS_ROOT) tests/boot/test-container --suite bookworm --deb $(BED_DEB)

soak: $(if $(GIVEN_DEB),,bed-deb) ## random faults and clients at sixteen ports for MINUTES=60; SEED= repeats a run, DEB= uses another package
	$(AS_ROOT) tests/boot/soak --deb $(or $(GIVEN_DEB),$(BED_DEB)) --minutes $(or $(MINUTES),60) $(SEED:%=--seed %)

test-russh: toolchain packages ## russh's own tests, with our patch (patches/README.md)
	tests/tools/test-russh $(CARGO)

# In the end the packages that people get: arm64's is only smoked, for want of such a machine.
release-check: test ## all tests and further checks before a release (hours)
	@tests/tools/install-packages $(RELEASE_PACKAGES)
	$(AS_ROOT) tests/boot/bare-debian
	CROWD_SECONDS=60 $(CARGO) test --locked $(FEATURES) --test ssh crowd -- --nocapture
	ATTACK_SECONDS=120 TIMING_TRIES=200 $(CARGO) test --locked $(FEATURES) --test ssh -- --nocapture --test-threads=1 attack:: timing::
	CERTIFICATE_CASES=500 CERTIFICATE_SEED=2 CERTIFICATE_LOGINS=50 $(CARGO) test --locked $(FEATURES) --test ssh certificates:: -- --nocapture
	CERTIFICATE_CASES=500 CERTIFICATE_SEED=3 $(AS_ROOT) tests/boot/with-usr trixie $(CARGO) test --locked $(FEATURES) --test ssh certificates:: -- --nocapture
	$(CARGO) test --locked $(FEATURES) --test guest --test source -- --ignored --nocapture
	SWEEP_KILLS=2500 $(CARGO) test --locked $(FEATURES) --test sweep -- --nocapture --test-threads=1
	PYSERIAL_TESTS=1 $(CARGO) test --locked $(FEATURES) --test rfc2217 pyserials_own_tests -- --nocapture
	TRANSFER_BYTES=1048576 $(CARGO) test --locked $(FEATURES) --test clients rate_of_the_line -- --nocapture
	FLEET_HOSTS=1000 FLEET_SECONDS=15 $(CARGO) test --locked $(FEATURES) --test gateway fleet::many -- --nocapture
	NAME_SERVERS=1000 $(CARGO) test --locked $(FEATURES) --test gateway many_names:: -- --nocapture --test-threads=1
	NAME_FAULT_SECONDS=3600 $(CARGO) test --locked $(FEATURES) --test gateway name_faults:: -- --nocapture
	$(MAKE) test-russh
	$(MAKE) fuzz MINUTES=10
	$(MAKE) deb
	tests/tools/audit-cockpit
	$(AS_ROOT) tests/boot/cockpit-from-bare --deb $(DEB)
	$(AS_ROOT) tests/boot/autopkgtest $(DEB)
	$(AS_ROOT) tests/boot/test-container --all --deb $(DEB)
	$(AS_ROOT) tests/boot/soak --deb $(DEB) --minutes 60
	BED_ADAPTERS=32 BED_REPLUGS=100 BED_POWER_CUTS=5 $(AS_ROOT) tests/boot/test-vm --all --deb $(DEB)
	$(MAKE) deb ARCH=arm64
	tests/boot/smoke-arm64 target/deb/consoleserver_$(VERSION)_arm64.deb

# Not across files (hence without SC1091 and SC2034): with lib.sh and behaviour.sh followed, shellcheck takes minutes and a gigabyte.
lint: toolchain test-packages ## format, clippy, licences, man pages, shell scripts
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets $(FEATURES) -- -D warnings
	command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked --debug --version 0.20.2
	$(CARGO) deny --log-level error check bans licenses sources
	mandoc -T lint -W warning $(wildcard man/*.[1-8])
	shellcheck --exclude=SC1091,SC2034 $(SCRIPTS)

toolchain:
	@tests/tools/check-toolchain $(CARGO)

packages:
	@tests/tools/install-packages $(BUILD_PACKAGES)

deb-packages:
	@tests/tools/install-packages $(DEB_PACKAGES)

test-packages:
	@tests/tools/install-packages $(TEST_PACKAGES)
