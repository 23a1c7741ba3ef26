#!/bin/sh
# Install what the benchmarks need besides Python and npm packages: a C compiler, OpenSSL, zlib, Go with gorilla/websocket, nginx with
# nchan, and Redis.
set -eu
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "The benchmarks need gcc, libssl-dev, zlib1g-dev, golang-go, golang-github-gorilla-websocket-dev, nginx-light," \
        "libnginx-mod-nchan, redis-server." >&2
    exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    gcc libc6-dev libssl-dev openssl zlib1g-dev golang-go golang-github-gorilla-websocket-dev \
    nginx-light libnginx-mod-nchan redis-server
