# make demo [SECONDS=60] [CAMERA=rtsp://… | /dev/video0]   the whole story, on real video
# make test                                               the tests; CI adds cross-short and vm-short (.ci/run)
# make bench                                              figures, into target/bench/*.json and on the screen
# make bench-motion [DIR=footage] [OPTIONS=--fast]        detection beside OpenCV, motion and GStreamer: quality, cost, recall
# make fuzz-motion [ROUNDS=2000]                          the detector on any bytes, decode on demand on any stream
# make fuzz-properties [CASES=2000]                       all property tests with more cases, half an hour
# make deb [ARCH=amd64|arm64|armhf]                        target/deb/sentrycam_VERSION_ARCH.deb
# make package-test                                       its contents, and its life in a clean Debian 12 and 13 (root)
# make readme-test [SUITES="bookworm trixie"]              `make demo` and `make test` in a clean Debian 12 and 13 (root)
# make reproducible                                       builds it twice, in two places, and compares
# make crash [ROUNDS=100]                                 kill -9 at random moments
# make upload-cuts [ROUNDS=200]                           uploads that are cut at random offsets
# make live-sessions [ROUNDS=1000]                       live sessions started and stopped; what is left of them
# make powercut [ROUNDS=30]                               power cuts of a whole machine (QEMU, root), some minutes a round
# make image                                              target/image/sentrycam_VERSION_arm64.img.xz: a card for Raspberry Pi 3 and 4 (root)
# make vm-test-arm64                                      that card in an emulated arm64 machine, minutes in emulation (QEMU, root)
# make vm-test                                            the installed package in a machine with camera, button and light (QEMU, root)
# make vm-short                                           the same in short, in CI: two boots, a claim, an event, a power cut
# make cross-short [ARCH=arm64]                           builds for another architecture, hardly optimised, and starts it (QEMU)
# make broker-kills [ROUNDS=200]                          kill -9 of the broker while states are committed

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
CARGO ?= cargo
ROUNDS ?= 100
ARCH ?= $(shell dpkg --print-architecture)
SUITES ?= bookworm trixie
BIN := target/debug
# What runs and what builds it; Debian 12 and 13.
PACKAGES := gcc pkg-config libclang-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstrtspserver-1.0-dev \
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly \
    gstreamer1.0-libav gstreamer1.0-rtsp gstreamer1.0-x gstreamer1.0-tools glib-networking ca-certificates ffmpeg mosquitto postgresql \
    python3-venv procps util-linux iproute2 curl dbus-daemon systemd
PACKAGING := dpkg-dev gzip python3 $(PACKAGES)

.PHONY: vm cross-short vm-short vm-test vm-test-arm64 powercut image deb package-test readme-test reproducible demo test bench bench-motion fuzz-motion fuzz-properties crash broker-kills upload-cuts live-sessions deps deny lint footage

# With an example, dependencies have the features that the tests want, and are compiled once for both.
demo: deps footage
	$(CARGO) build -q --workspace --bins --example manual
	@SECONDS_TO_RUN=$(SECONDS) tests/demo.sh $(BIN) target/footage/pedestrians.mp4

# Tests mostly wait, for cameras and servers: more of them at once than there are cores.
test: deps footage lint deny
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} $(CARGO) test --workspace --no-fail-fast

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy -q --workspace --all-targets -- -D warnings
	@cross/check.sh

crash: deps
	ROUNDS=$(ROUNDS) $(CARGO) test --workspace --test it crash -- --nocapture --test-threads 1

live-sessions: ROUNDS = 1000
live-sessions: deps
	LIVE_SESSIONS=$(ROUNDS) $(CARGO) test --workspace --test it many_sessions -- --nocapture --test-threads 1

broker-kills: ROUNDS = 200
broker-kills: deps
	BROKER_KILLS=$(ROUNDS) $(CARGO) test --workspace --test it broker_kills -- --nocapture --test-threads 1

# Not part of `make test`: a boot takes up to a minute where there is no KVM.
vm: deb
	@cross/deps.sh mmdebstrap e2fsprogs kmod make
	tests/vm/qemu.sh
	tests/vm/root.sh $$(cross/deb-name.sh amd64)

vm vm-short vm-test powercut: ARCH = amd64
vm-test: vm deps
	$(CARGO) test --workspace --test it vm:: -- --ignored --nocapture --test-threads 1 --skip powercut --skip arm64 --skip vm::short

# Two boots, one power cut: some minutes. Its program is not the release's, which takes longer than the rest together.
vm-short: export QUICK = 1
vm-short: export DEB_VERSION = 0.0.1~quick
vm-short: vm deps
	$(CARGO) test --workspace --test it vm::short -- --ignored --nocapture

# The recipe for another architecture, and that its program starts.
cross-short: export QUICK = 1
cross-short: export DEB_VERSION = 0.0.1~quick
cross-short: ARCH = arm64
cross-short: deb
	cross/runs.sh $$(cross/deb-name.sh $(ARCH))

vm-test-arm64: image deps
	@cross/deps.sh mtools e2fsprogs
	tests/vm/qemu.sh arm64
	$(CARGO) test --workspace --test it vm::arm64 -- --ignored --nocapture --test-threads 1

powercut: ROUNDS = 30
powercut: vm deps
	ROUNDS=$(ROUNDS) $(CARGO) test --workspace --test it vm::powercut -- --ignored --nocapture --test-threads 1

upload-cuts: ROUNDS = 200
upload-cuts: deps
	UPLOAD_CUTS=$(ROUNDS) $(CARGO) test --workspace --test it upload::cut -- --nocapture --test-threads 1

# Some 35 minutes, most of them recording; the figures also go to target/bench/*.json.
bench: deps footage
	cross/deps.sh motion
	$(CARGO) build --release --workspace
	target/release/sentrycam-bench agent --cameras 1,2,4
	target/release/sentrycam-bench latency
	target/release/sentrycam-bench commands
	target/release/sentrycam-bench claim
	target/release/sentrycam-bench live
	target/release/sentrycam-bench drain
	target/release/sentrycam-bench upload
	target/release/sentrycam-bench flash
	$(CARGO) bench --workspace --bench motion --bench outbox --bench signing

# DIR: labelled footage as `sentrycam motion eval` reads it.
bench-motion: deps footage
	cross/deps.sh motion
	$(CARGO) build --release --workspace
	@rm -f target/bench/demand.json target/bench/recall.json
	target/release/sentrycam-bench demand
ifdef DIR
	target/release/sentrycam-bench recall $(DIR)
endif
	tests/bench/motion.sh target/release/sentrycam $(DIR) $(OPTIONS)

fuzz-motion: ROUNDS = 2000
fuzz-motion:
	MOTION_ROUNDS=$(ROUNDS) $(CARGO) test --workspace --lib -- --nocapture motion::tests::no_ demand::fuzz demand::pace media::awaited

fuzz-properties: CASES = 2000
fuzz-properties:
	PROPTEST_CASES=$(CASES) $(CARGO) test --workspace --lib

deb:
	@cross/deps.sh $(PACKAGING)
	cross/deb.sh $(ARCH)

# Another than this machine's architecture: compiled in a sysroot, which takes minutes once. XZ=0 leaves the compression out.
image vm-test-arm64: ARCH = arm64
vm-test-arm64: export XZ = 0
image: deb
	cross/image/build.sh $$(cross/deb-name.sh $(ARCH))

package-test: deb
	@cross/deps.sh mmdebstrap lintian man-db
	tests/packages/contents.sh $$(cross/deb-name.sh $(ARCH))
	DEB_VERSION=0.0.1-1 SKIP_BUILD=1 cross/deb.sh $(ARCH)
	for suite in $(SUITES); do \
	    tests/packages/lifecycle.sh $$suite $$(DEB_VERSION=0.0.1-1 cross/deb-name.sh $(ARCH)) $$(cross/deb-name.sh $(ARCH)); \
	done

readme-test:
	@cross/deps.sh mmdebstrap
	for suite in $(SUITES); do tests/packages/readme.sh $$suite; done

reproducible:
	cross/reproducible.sh $(ARCH)

footage: deps
	@tests/footage.sh target/footage

deny:
	cross/deny.sh

# Asks apt only for what is not there yet.
deps:
	@cross/deps.sh $(PACKAGES)
