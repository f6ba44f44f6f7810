# Debian 12 with a cross compiler and armhf's libraries, as cross/deb.sh has them without docker. Both architectures of
# libgstreamer-plugins-base1.0-dev cannot be installed together; only armhf's is.
FROM debian:bookworm-slim
RUN dpkg --add-architecture armhf \
    && apt-get update \
    && apt-get install -qy --no-install-recommends \
        ca-certificates gcc libc6-dev gcc-arm-linux-gnueabihf libc6-dev-armhf-cross pkg-config libclang-14-dev \
        libgstreamer1.0-dev:armhf libgstreamer-plugins-base1.0-dev:armhf \
    && rm -rf /var/lib/apt/lists/*
ENV CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc \
    CC_armv7_unknown_linux_gnueabihf=arm-linux-gnueabihf-gcc \
    AR_armv7_unknown_linux_gnueabihf=arm-linux-gnueabihf-ar \
    PKG_CONFIG_ALLOW_CROSS=1 \
    PKG_CONFIG_LIBDIR_armv7_unknown_linux_gnueabihf=/usr/lib/arm-linux-gnueabihf/pkgconfig:/usr/share/pkgconfig \
    BINDGEN_EXTRA_CLANG_ARGS_armv7_unknown_linux_gnueabihf="--target=arm-linux-gnueabihf -I/usr/arm-linux-gnueabihf/include"
