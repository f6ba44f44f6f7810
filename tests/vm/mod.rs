//! The real package in a real machine: Debian 12 with systemd, its own camera, button, light and disk, in QEMU; the reference
//! cloud and RTSP cameras are on the host. What boots a machine is ignored by `cargo test`: `make vm-test`,
//! `make vm-test-arm64`, `make powercut`; in short `make vm-short`.

mod arm64;
mod cut;
mod days;
mod figures;
mod machine;
mod powercut;
mod short;
mod story;
