# Functions to install Debian packages; sourced by the scripts beside this file.
# shellcheck shell=bash

say() {
  printf 'musedask: %s\n' "$*" >&2
}

# Runs a command as root: as it is for root, through sudo for anybody else.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

# apt_install PACKAGE...: nonzero, with the reason said, if that is impossible.
apt_install() {
  local output
  if ! command -v apt-get >/dev/null; then
    say "there is no apt-get here to install $*"
    return 1
  fi
  if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
    say "you are not root and there is no sudo to install $*"
    return 1
  fi
  say "installing with apt-get: $*"
  # A source of this machine may be out of reach while the package is not: go on.
  as_root apt-get update -qq >/dev/null 2>&1 || true
  # Recommended packages of the pipeline are gigabytes of calibration frames.
  if ! output=$(as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
    -o DPkg::Lock::Timeout=120 --no-install-recommends "$@" 2>&1); then
    tail -n 5 <<<"$output" >&2
    return 1
  fi
}
