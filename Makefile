# SPDX-License-Identifier: Apache-2.0

PREFIX  ?= /usr
DESTDIR ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GO      ?= go
LDFLAGS  = -s -w -X main.version=$(VERSION)
BUILD    = CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)"
PACKAGES = squashfs-tools dbus strace tmux e2fsprogs xfsprogs btrfs-progs acl attr util-linux systemd apparmor

.DEFAULT_GOAL := help
.PHONY: help demo deps build test unit e2e stock soak bench lint install uninstall stage clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what building and testing need, from Debian (root)
	@tests/lib/deps $(PACKAGES)

build: ## bin/snap, bin/snapctl, bin/snapd and the test programs
	@mkdir -p bin
	$(BUILD) -o bin/snap ./cmd/snap
	$(BUILD) -o bin/snapctl ./cmd/snapctl
	$(BUILD) -o bin/snapd ./cmd/snapd
	$(BUILD) -o bin/snapd-apparmor ./cmd/snapd-apparmor
	$(BUILD) -o bin/snapd-content ./cmd/snapd-content
	$(BUILD) -o bin/device ./tests/device
	$(BUILD) -o bin/vm ./tests/vm
	$(BUILD) -o bin/fixture ./tests/lib/fixture

demo: deps build ## the story: two snaps refreshed on a private device (root)
	@tests/demo/demo

test: deps ## everything: unit and race tests, arch, lint, suites on devices and in VMs (root)
	@$(MAKE) --no-print-directory lint unit e2e

unit: ## unit tests with the race detector, and tests/arch
	$(GO) test -race -parallel 8 ./...

stock: ## Debian's own snap command and snapd's Go client library, for tests/stock
	@tests/lib/stock build/stock
	@cd tests/stock/goclient && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o ../../../build/stock/goclient .

e2e: build stage stock ## the suites in tests/, on private devices and in VMs (root)
	$(GO) run ./tests/run -retry 4

soak: deps build stage ## 200 power cuts in the middle of refreshes, and what else make test does less often (root, hours)
	GO=$(GO) tests/lib/soak

stage: ## build/stage: what devices and VMs get, a daemon built for crash tests
	@rm -rf build/stage
	$(BUILD) -tags faults -o bin/snapd-faults ./cmd/snapd
	@$(MAKE) --no-print-directory install DESTDIR=build/stage SNAPD=bin/snapd-faults
	CGO_ENABLED=0 $(GO) test -c -trimpath -ldflags "-s -w" -o bin/systemd.test ./systemd

bench: deps build ## figures of a refresh, as ratios in one run (root)
	@rm -rf build/bench
	@$(MAKE) --no-print-directory install DESTDIR=build/bench >/dev/null
	@$(GO) run ./tests/bench

lint: ## gofmt and go vet
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "not gofmt'ed: $$out" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags faults ./cmd/snapd

SNAPD ?= bin/snapd
install: build ## install below $(DESTDIR)$(PREFIX); refused where another snapd is
	@DESTDIR='$(DESTDIR)' tests/lib/may-install
	install -D -m 755 bin/snap $(DESTDIR)$(PREFIX)/bin/snap
	@rm -rf build/man && bin/snap debug man build/man && gzip -9n build/man/*.1
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 && install -m 644 build/man/*.gz $(DESTDIR)$(PREFIX)/share/man/man1/
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	bin/snap completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/snap
	bin/snap completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_snap
	bin/snap completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/snap.fish
	install -D -m 755 bin/snapctl $(DESTDIR)$(PREFIX)/bin/snapctl
	install -D -m 755 $(SNAPD) $(DESTDIR)$(PREFIX)/lib/snapd/snapd
	install -D -m 755 bin/snapd-apparmor $(DESTDIR)$(PREFIX)/lib/snapd/snapd-apparmor
	install -D -m 755 bin/snapd-content $(DESTDIR)$(PREFIX)/lib/snapd/snapd-content
	for u in snapd.socket snapd.service snapd-refresh-gate@.service snapd-stop-reason.service snapd.apparmor.service snapd-content@.service; do \
		install -d $(DESTDIR)$(PREFIX)/lib/systemd/system && \
		sed 's|/usr/lib/snapd/|$(PREFIX)/lib/snapd/|g' data/systemd/$$u > $(DESTDIR)$(PREFIX)/lib/systemd/system/$$u || exit 1; done
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system/sysinit.target.wants
	ln -sf ../snapd.apparmor.service $(DESTDIR)$(PREFIX)/lib/systemd/system/sysinit.target.wants/
	install -D -m 644 data/profile.d/snapd.sh $(DESTDIR)/etc/profile.d/snapd.sh
	install -D -m 644 data/dbus-1/snapd.system-services.conf $(DESTDIR)/usr/share/dbus-1/system.d/snapd.system-services.conf

uninstall: ## take away what install brought; refused while snaps are installed
	@DESTDIR='$(DESTDIR)' tests/lib/may-uninstall
	rm -f $(DESTDIR)$(PREFIX)/bin/snap $(DESTDIR)$(PREFIX)/bin/snapctl $(DESTDIR)$(PREFIX)/lib/snapd/snapd $(DESTDIR)$(PREFIX)/lib/snapd/snapd-apparmor $(DESTDIR)$(PREFIX)/lib/snapd/snapd-content $(DESTDIR)/etc/profile.d/snapd.sh \
		$(DESTDIR)/usr/share/dbus-1/system.d/snapd.system-services.conf
	rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/snapd.socket $(DESTDIR)$(PREFIX)/lib/systemd/system/snapd.service
	rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/snapd-refresh-gate@.service $(DESTDIR)$(PREFIX)/lib/systemd/system/snapd-stop-reason.service \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/snapd-content@.service $(DESTDIR)$(PREFIX)/lib/systemd/system/snapd.apparmor.service $(DESTDIR)$(PREFIX)/lib/systemd/system/sysinit.target.wants/snapd.apparmor.service
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/snap.1.gz $(DESTDIR)$(PREFIX)/share/man/man1/snap-*.1.gz \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/snap $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_snap \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/snap.fish
	-rmdir $(DESTDIR)$(PREFIX)/lib/snapd

clean: ## what was built
	rm -rf bin build
