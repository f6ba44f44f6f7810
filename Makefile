# make demo [SECONDS=60] [CAMERA=rtsp://… | /dev/video0]   the whole story, on real video
# make test                                               everything that CI runs
# make bench                                              figures, into target/bench/*.json and on the screen
# make bench-motion [RECALL=DIR]                         what detection costs, beside motion and GStreamer; what it misses
# make crash [ROUNDS=100]                                 kill -9 at random moments
# make upload-cuts [ROUNDS=200]                           uploads that are cut at random offsets
# make live-sessions [ROUNDS=1000]                       live sessions started and stopped; what is left of them
# make broker-kills [ROUNDS=200]                          kill -9 of the broker while states are committed

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
CARGO ?= cargo
ROUNDS ?= 100
BIN := target/debug
# What runs and what builds it; Debian 12 and 13.
PACKAGES := gcc pkg-config libclang-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstrtspserver-1.0-dev \
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly \
    gstreamer1.0-libav gstreamer1.0-rtsp gstreamer1.0-x gstreamer1.0-tools glib-networking ca-certificates ffmpeg mosquitto postgresql \
    python3-venv procps util-linux dbus-daemon

.PHONY: demo test bench bench-motion crash broker-kills upload-cuts live-sessions deps deny lint footage

demo: deps footage
	$(CARGO) build -q --workspace --bins
	@SECONDS_TO_RUN=$(SECONDS) tests/demo.sh $(BIN) target/footage/pedestrians.mp4

test: deps footage lint deny
	$(CARGO) test --workspace --no-fail-fast

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy -q --workspace --all-targets -- -D warnings

crash: deps
	ROUNDS=$(ROUNDS) $(CARGO) test --workspace --test it crash -- --nocapture --test-threads 1

live-sessions: ROUNDS = 1000
live-sessions: deps
	LIVE_SESSIONS=$(ROUNDS) $(CARGO) test --workspace --test it many_sessions -- --nocapture --test-threads 1

broker-kills: ROUNDS = 200
broker-kills: deps
	BROKER_KILLS=$(ROUNDS) $(CARGO) test --workspace --test it broker_kills -- --nocapture --test-threads 1

upload-cuts: ROUNDS = 200
upload-cuts: deps
	UPLOAD_CUTS=$(ROUNDS) $(CARGO) test --workspace --test it upload::cut -- --nocapture --test-threads 1

# Some 25 minutes, most of them recording; the figures also go to target/bench/*.json.
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
	$(CARGO) bench --workspace --bench motion --bench outbox --bench signing

# What detection costs and misses; RECALL names a directory of labelled clips (NAME/clip.mp4, NAME/events.json).
bench-motion: deps footage
	cross/deps.sh motion
	$(CARGO) build --release --workspace
	target/release/sentrycam-bench demand
ifdef RECALL
	target/release/sentrycam-bench recall $(RECALL)
endif

footage: deps
	@tests/footage.sh target/footage

deny:
	cross/deny.sh

# Asks apt only for what is not there yet.
deps:
	@cross/deps.sh $(PACKAGES)
