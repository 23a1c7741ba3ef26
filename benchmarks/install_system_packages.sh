#!/bin/sh
# Install what the benchmarks need from Debian or Ubuntu: a C compiler, OpenSSL, zlib, nginx with nchan, and Redis.
set -eu
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "The benchmarks need gcc, libssl-dev, zlib1g-dev, nginx-light, libnginx-mod-nchan, redis-server." >&2
    exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    gcc libc6-dev libssl-dev openssl zlib1g-dev nginx-light libnginx-mod-nchan redis-server
for program in go cargo npm; do
    command -v $program >/dev/null || echo "$program is not installed: the peers that need it are left out." >&2
done
