# Sourced by deb.sh with `arch`, `triple` and `gnu` set: what cargo needs to build for another architecture than this
# machine's. Compiler and linker are Debian's cross gcc with the sysroot; Rust is rustup's where it has the target, else Debian's.
cross/deps.sh mmdebstrap "gcc-${gnu//_/-}" pkg-config libclang-dev
cross/sysroot.sh "$arch"
sysroot=$PWD/target/cross/sysroot-$arch
under=${triple//-/_}
upper=${under^^}
bin=$PWD/target/cross/bin
mkdir -p "$bin"
printf '#!/bin/sh\nexec %s-gcc --sysroot=%s "$@"\n' "$gnu" "$sysroot" >"$bin/$gnu-sysroot-gcc"
chmod +x "$bin/$gnu-sysroot-gcc"
export "CC_$under=$bin/$gnu-sysroot-gcc" "AR_$under=$gnu-ar" "CARGO_TARGET_${upper}_LINKER=$bin/$gnu-sysroot-gcc"
export PKG_CONFIG_ALLOW_CROSS=1 "PKG_CONFIG_SYSROOT_DIR_$under=$sysroot"
export "PKG_CONFIG_LIBDIR_$under=$sysroot/usr/lib/$gnu/pkgconfig:$sysroot/usr/share/pkgconfig"
export "BINDGEN_EXTRA_CLANG_ARGS_$under=--sysroot=$sysroot -I$sysroot/usr/include/$gnu"
CROSS_ARGS=
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$triple" ]; then
    cross/rust-web.sh
    export RUSTC=$PWD/target/cross/rust-web/rustc
    RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=$PWD/target/cross/rust-web=/usr/src/rust"
    if [ "$arch" = armhf ]; then
        # Debian has no standard library for armv7: it is built from its sources, by its own cargo.
        export RUSTC_BOOTSTRAP=1 PATH=$PWD/target/cross/rust-web:$PATH
        CROSS_ARGS='-Zbuild-std=std,panic_unwind'
    fi
fi
