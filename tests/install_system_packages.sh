#!/bin/sh
# Install what the tests need besides Python packages: Chromium, Firefox, certutil for the authorities that they trust,
# Redis, Node and Java for SDKs, nginx, HAProxy and Caddy, curl for the documented examples, openssl, libfaketime for a
# system clock that jumps, Prometheus, systemd's programs that check units and pass sockets, and the headers that the load
# generator is compiled with.
set -eu
missing=""
command -v caddy >/dev/null || missing="$missing caddy"
command -v certutil >/dev/null || missing="$missing libnss3-tools"
command -v chromium >/dev/null || missing="$missing chromium"
command -v curl >/dev/null || missing="$missing curl"
command -v firefox-esr >/dev/null || missing="$missing firefox-esr"
command -v faketime >/dev/null || missing="$missing faketime"
command -v go >/dev/null || missing="$missing golang-go"
command -v haproxy >/dev/null || missing="$missing haproxy"
command -v javac >/dev/null || missing="$missing default-jdk-headless"
command -v mvn >/dev/null || missing="$missing maven"
command -v node >/dev/null || missing="$missing nodejs"
command -v nginx >/dev/null || missing="$missing nginx"
command -v npm >/dev/null || missing="$missing npm"
command -v openssl >/dev/null || missing="$missing openssl"
command -v promtool >/dev/null || missing="$missing prometheus"
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v systemd-analyze >/dev/null || missing="$missing systemd"
[ -e /usr/include/openssl/ssl.h ] || missing="$missing libssl-dev"
[ -e /usr/include/zlib.h ] || missing="$missing zlib1g-dev"
# Only the screenshots need it.
[ "${1:-}" != screenshots ] || fc-list :lang=zh | grep -q . || missing="$missing fonts-wqy-microhei"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
else
    echo "The tests need these programs:$missing. On Debian or Ubuntu: sudo apt-get install$missing" >&2
    exit 1
fi
