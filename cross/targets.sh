# Sourced: target_of ARCH sets `triple` (Rust's name) and `gnu` (Debian's multiarch name) of a Debian architecture.
target_of() {
    case $1 in
    amd64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu ;;
    arm64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu ;;
    armhf) triple=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf ;;
    *)
        echo "unknown architecture $1: amd64, arm64 or armhf" >&2
        return 2
        ;;
    esac
}

# reproducible sets what makes a build independent of where and when it is made: the date is that of the changelog.
reproducible() {
    : "${SOURCE_DATE_EPOCH:=$(dpkg-parsechangelog -l cross/debian/changelog -S Timestamp)}"
    home=${CARGO_HOME:-$HOME/.cargo}
    map="--remap-path-prefix=$PWD=/usr/src/sentrycam --remap-path-prefix=$home/registry/src=/usr/src/crates"
    map="$map --remap-path-prefix=$CARGO_TARGET_DIR=/usr/src/target"
    export SOURCE_DATE_EPOCH RUSTFLAGS="${RUSTFLAGS:-} $map"
    export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$PWD=/usr/src/sentrycam -ffile-prefix-map=$home/registry/src=/usr/src/crates"
    export LC_ALL=C TZ=UTC CARGO_INCREMENTAL=0
    umask 022
}
