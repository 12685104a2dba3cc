#!/bin/sh
# SPDX-License-Identifier: MIT
# What only the bench needs: `make bench-deps`, after `make deps`. The packages by the rules of
# tests/deps.sh (no service is left running), Fastify and pg below $B, where the bench looks for them.
set -eu
here=$(dirname "$0")
B=${B:-build}

packages='wrk php-fpm php-pgsql golang-go golang-github-jackc-pgx-v4-dev gnuplot-nox'
# Any Node.js from 18 on will do, and what is there may be of another origin than Debian's npm.
command -v node >/dev/null || packages="$packages nodejs"
command -v npm >/dev/null || packages="$packages npm"
# shellcheck disable=SC2086  # a list of words
sh "$here/../deps.sh" $packages

node=$B/bench/node
if ! cmp -s "$here/node/package-lock.json" "$node/installed"; then
	mkdir -p "$node"
	cp "$here/node/package.json" "$here/node/package-lock.json" "$node/"
	(cd "$node" && npm ci --omit=dev --no-audit --no-fund --loglevel=error)
	cp "$here/node/package-lock.json" "$node/installed"
fi
