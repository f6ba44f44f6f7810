# Debian 12 with a cross compiler and arm64's libraries, as cross/deb.sh has them without docker. Both architectures of
# libgstreamer-plugins-base1.0-dev cannot be installed together; only arm64's is.
FROM debian:bookworm-slim
RUN dpkg --add-architecture arm64 \
    && apt-get update \
    && apt-get install -qy --no-install-recommends \
        ca-certificates gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross pkg-config libclang-14-dev \
        libgstreamer1.0-dev:arm64 libgstreamer-plugins-base1.0-dev:arm64 \
    && rm -rf /var/lib/apt/lists/*
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar \
    PKG_CONFIG_ALLOW_CROSS=1 \
    PKG_CONFIG_LIBDIR_aarch64_unknown_linux_gnu=/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig \
    BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu="--target=aarch64-linux-gnu -I/usr/aarch64-linux-gnu/include"
