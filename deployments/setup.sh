#!/usr/bin/env bash
# Installs what the project needs, and does nothing where it is there: system packages by apt, Python packages from
# requirements.lock into .venv. Every `make` target calls it first.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
fail() {
  printf '\nmake: %s\n' "$1" >&2
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# One set-up at a time: two `make` in one folder would write into the same .venv.
exec 9<deployments/setup.sh
flock 9 2>/dev/null || true

# --- system packages ------------------------------------------------------------------------------------------------
# Fonts, so that a photographed page in any script shows letters and not boxes.
fonts="fonts-noto-core fonts-noto-cjk fonts-noto-color-emoji"
missing=""
need() { missing="$missing $*"; }

has tmux || need tmux
has bwrap || need bubblewrap
has git || need git
case "${1:-}" in
  check | test | test-faults) # the tests run dynamic sites that are written for node, and the README's commands
    has node || need nodejs
    has npm || need npm
    has curl || need curl
    has openssl || need openssl
    ;;
esac
if [ "${1:-}" = test-faults ]; then
  has strace || need strace
  [ -n "$(find /usr/lib -name 'libfaketime.so.1' 2>/dev/null | head -n 1)" ] || need libfaketime
fi
if has dpkg-query; then
  for font in $fonts; do
    [ -e "/var/lib/dpkg/info/$font.list" ] || need "$font"
  done
fi

browser=""
for name in chromium chromium-browser google-chrome google-chrome-stable; do
  if has "$name"; then browser=$name && break; fi
done
for folder in "${PLAYWRIGHT_BROWSERS_PATH:-$HOME/.cache/ms-playwright}"/chromium*; do
  if [ -d "$folder" ]; then browser=$folder && break; fi
done
playwright_browser=""
if [ -z "$browser" ] && [ -z "${TMUX_BUILDER_BROWSER:-}" ]; then
  # Ubuntu's package `chromium` is a snap, which cannot be driven here; Playwright's own build serves there.
  if grep -qs '^ID=debian' /etc/os-release; then need chromium; else playwright_browser=1; fi
fi

# --- Python ---------------------------------------------------------------------------------------------------------
fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
python=""
if [ -x .venv/bin/python ] && fits .venv/bin/python; then
  python=.venv/bin/python
else
  for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if has "$name" && fits "$name"; then python=$(command -v "$name") && break; fi
  done
  [ -n "$python" ] || fail "Python 3.11 or newer is needed, found: $(python3 --version 2>&1 || echo none).
Install it (Debian 12, Ubuntu 24.04: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3.12"
fi

stamp=.venv/.installed
wanted=$(cat requirements.lock deployments/setup.sh | sha256sum | cut -d' ' -f1)
fresh=""
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then fresh=1; fi

if [ -z "$fresh" ] && ! has uv && [ ! -x .venv/uv/bin/uv ] && ! "$python" -c 'import ensurepip' >/dev/null 2>&1; then
  # Debian and Ubuntu keep ensurepip in a package of its own.
  need "$("$python" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")')"
fi

# --- install --------------------------------------------------------------------------------------------------------
if [ -n "$missing" ]; then
  has apt-get || fail "these are needed and not there:$missing
Install them with this system's package manager, then run make again. (Debian and Ubuntu are set up by make itself.)"
  command="apt-get update && apt-get install -y --no-install-recommends$missing"
  if [ "$(id -u)" = 0 ]; then
    become=""
  elif has sudo && sudo -n true 2>/dev/null; then
    become="sudo -n"
  else
    fail "system packages are needed, and this user may not install them:$missing
Type this, then run make again:
  sudo sh -c '$command'"
  fi
  say "installing system packages:$missing"
  log=$(mktemp)
  # shellcheck disable=SC2086  # $become is empty or two words
  if ! $become env DEBIAN_FRONTEND=noninteractive sh -c "$command" >"$log" 2>&1 9<&-; then
    tail -n 15 "$log" >&2
    fail "apt could not install:$missing
Its last lines are above, the whole log is $log. Type this to see more: ${become:+sudo }sh -c '$command'"
  fi
  rm -f "$log"
fi

# --- the sandbox ----------------------------------------------------------------------------------------------------
# Ubuntu from 23.10 on gives user namespaces only to programs with an AppArmor profile that allows them.
forbidden() { ! bwrap --unshare-user --ro-bind / / true >/dev/null 2>&1; }
if forbidden && [ "$(sysctl -n kernel.apparmor_restrict_unprivileged_userns 2>/dev/null)" = 1 ]; then
  profile=$(mktemp)
  printf 'abi <abi/4.0>,\ninclude <tunables/global>\nprofile tmux-builder-bwrap %s flags=(unconfined) {\n  userns,\n}\n' \
    "$(command -v bwrap)" >"$profile"
  target=/etc/apparmor.d/tmux-builder-bwrap
  if [ "$(id -u)" = 0 ]; then become=""; elif has sudo && sudo -n true 2>/dev/null; then become="sudo -n"; else become=no; fi
  if [ "$become" = no ]; then
    fail "this system forbids the sandbox (kernel.apparmor_restrict_unprivileged_userns is 1), and this user may not allow it.
Type this, then run make again:
  sudo sh -c 'install -m 644 $profile $target && apparmor_parser -r $target'"
  fi
  say "allowing bubblewrap its user namespaces: $target"
  # shellcheck disable=SC2086  # $become is empty or two words
  $become install -m 644 "$profile" "$target" && $become apparmor_parser -r "$target" && ! forbidden ||
    fail "this system forbids the sandbox, and the profile in $target does not help; the lines above say why"
  rm -f "$profile"
fi

if [ -z "$fresh" ]; then
  if has uv; then
    uv=$(command -v uv)
  else
    # uv in an environment of its own: the distribution's Python takes no packages (PEP 668), and the
    # synchronisation below removes from .venv whatever is not locked.
    uv=.venv/uv/bin/uv
    [ -x "$uv" ] || { say "installing uv"; "$python" -m venv .venv/uv && .venv/uv/bin/pip install --quiet uv; } ||
      fail "uv could not be installed; the lines above say why. Check that pip reaches a package index, then run make again."
  fi
  [ "$python" = .venv/bin/python ] || "$uv" venv --quiet --allow-existing --python "$python" .venv ||
    fail "no virtual environment could be made from $python in $(pwd)/.venv"
  say "installing Python packages from requirements.lock into .venv"
  "$uv" pip sync --quiet --require-hashes --python .venv/bin/python requirements.lock ||
    fail "the Python packages could not be installed; the lines above say why. Then run make again."
  printf '%s\n' "$wanted" >"$stamp"
fi

if [ -n "$playwright_browser" ]; then
  say "installing Playwright's Chromium"
  .venv/bin/python -m playwright install --with-deps chromium ||
    fail "no browser could be installed. Install Chromium or Chrome yourself, then name it: TMUX_BUILDER_BROWSER=/path/to/chrome make ${1:-demo}"
fi
