# shellcheck shell=bash
# Shared by the scripts of this directory; sourced, never run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

MODULE=/usr/lib/softhsm/libsofthsm2.so
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/passportd
PROFILE=${PROFILE:-ci}
BIN=${CARGO_TARGET_DIR:-target}/$PROFILE

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The oldest Rust that builds this, as Cargo.toml says it.
need_rust() {
    command -v cargo >/dev/null || fail "cargo is not installed; see https://rustup.rs"
    local want have
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -1)
    have=$(rustc --version | cut -d' ' -f2)
    if [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -1)" != "$want" ]; then
        fail "rustc $have is too old; passportd needs $want or newer (rustup update stable)"
    fi
}

# need_packages PACKAGE=FILE...: installs the Debian packages whose file is missing.
need_packages() {
    local missing=() pair
    for pair in "$@"; do
        [ -e "${pair#*=}" ] || missing+=("${pair%%=*}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "these packages are missing, and this is no Debian: ${missing[*]}"
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "these packages are missing; install them as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing with apt-get: ${missing[*]}"
    "${as_root[@]}" apt-get update -q >/dev/null
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null
}

# Tests write into this file what they skip, and why; to be listed at the end.
list_skipped() {
    PASSPORTD_SKIPPED=$(mktemp)
    export PASSPORTD_SKIPPED
    trap 'sort -u "$PASSPORTD_SKIPPED"; rm -f "$PASSPORTD_SKIPPED"' EXIT
}

build() {
    say "building (profile $PROFILE) ..."
    cargo build --locked --quiet --profile "$PROFILE" --bins
}
