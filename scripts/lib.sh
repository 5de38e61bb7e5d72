# shellcheck shell=bash
# What the scripts share: find a Python, keep .venv in step with requirements/, report each step with the time so far.
#
# Sourced, never run. `setup run` or `setup dev` promises a .venv that holds exactly what the lock files say and the
# checkout itself; when nothing changed it costs some hundredths of a second. It needs bash, a Python >= 3.11 with venv
# and pip, and a package index. It asks nothing, starts nothing that stays, and writes only inside the checkout (and
# pip's and uv's caches).

set -euo pipefail
ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=$ROOT/.venv
cd -- "$ROOT"

now() { printf '%s' "${EPOCHREALTIME//[^0-9]/}"; } # microseconds; the decimal sign is the locale's
STARTED=$(now)

say() {
  local tenths=$((($(now) - STARTED) / 100000))
  printf '[%3d.%d s] %s\n' $((tenths / 10)) $((tenths % 10)) "$*" >&2
}

die() {
  printf 'error: %s\n' "$@" >&2
  exit 1
}

# --- what the caller's environment may not change ---------------------------------------------------------------------

clean_environment() {
  local name
  export PATH # bash makes one up where there is none, for itself alone
  unset PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE VIRTUAL_ENV
  for name in ${!PIP_@}; do # where packages come from is the machine's business; what is done with them is ours
    case $name in
      PIP_*INDEX* | PIP_FIND_LINKS | PIP_CERT | PIP_CLIENT_CERT | PIP_PROXY | PIP_TRUSTED_HOST | PIP_*TIMEOUT) ;;
      PIP_RETRIES | PIP_CONFIG_FILE | PIP_CACHE_DIR | PIP_NO_CACHE_DIR | PIP_KEYRING_PROVIDER) ;;
      *) unset "$name" ;;
    esac
  done
  export PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
  if [[ ! -d ${HOME:-} || ! -w $HOME ]]; then # empty, or still another user's
    unset HOME
    HOME=~ # with HOME unset, bash asks the user database
    if [[ ! -d $HOME || ! -w $HOME ]]; then
      HOME=$ROOT/.home
      mkdir -p -- "$HOME" 2>/dev/null || true # not ours: `own_checkout` says so
    fi
    export HOME
  fi
}

own_checkout() {
  local path owner
  for path in . .venv .venv.lock .home demo-output .pytest_cache .hypothesis .mypy_cache .ruff_cache \
    tests/sdks/js/node_modules; do
    [[ ! -e $path || -w $path ]] && continue
    owner=$(stat -c %U -- "$path")
    [[ $path == . ]] && path=$ROOT || path=$ROOT/$path
    die "$path belongs to $owner and $(id -un) may not write to it." \
      "Run this as $owner, or in a checkout of your own: cp -r '$ROOT' ~/belljar && cd ~/belljar"
  done
}

# --- steps ------------------------------------------------------------------------------------------------------------

CHILD= # the running step: the leader of a process group of its own, so that all of it can be ended
LOG=
stop_step() {
  [[ -z $LOG ]] || rm -f -- "$LOG"
  [[ -z $CHILD ]] || { kill -- "-$CHILD" && wait "$CHILD"; } 2>/dev/null || true
}
trap stop_step EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# try LABEL COMMAND...: say it, run it quietly, say every ten seconds that it still runs; its output is in STEP_OUTPUT.
try() {
  local label=$1 status=0 ticks=0
  shift
  say "$label"
  LOG=$(mktemp)
  set -m
  "$@" >"$LOG" 2>&1 </dev/null 9>&- &
  CHILD=$!
  set +m
  while kill -0 "$CHILD" 2>/dev/null; do
    sleep 0.1
    ((++ticks % 100)) || say "  ... still $label"
  done
  wait "$CHILD" || status=$?
  STEP_OUTPUT=$(<"$LOG")
  rm -f -- "$LOG"
  CHILD='' LOG=''
  return $status
}

step() {
  try "$@" && return
  printf '%s\n' "$STEP_OUTPUT" | tail -n 40 >&2
  die "failed: $1 (the end of its output stands above)."
}

# --- the interpreter --------------------------------------------------------------------------------------------------

# suits PYTHON: it runs, is new enough, and can create environments (Debian ships venv apart).
suits() { "$1" -I -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# identity PYTHON: version and true path; of an environment's python, those of the one that made it.
identity() {
  "$1" -I -c 'import os, sys; print("%d.%d" % sys.version_info[:2], os.path.realpath(sys._base_executable))' 2>/dev/null
}

# others_reach PYTHON: no folder on the way to it is closed to other users. Sandboxes of root run under ids of their own, and
# in the container profile they use the interpreter where it lies.
others_reach() {
  local path
  path=$("$1" -I -c 'import os, sys; print(os.path.realpath(sys.base_prefix))' 2>/dev/null) || return 1
  while [[ $path == /?* ]]; do
    [[ $(stat -c %a -- "$path") == *[1357] ]] || return 1
    path=${path%/*}
  done
}

find_python() {
  local candidate
  if [[ -n ${PYTHON:-} ]]; then
    suits "$PYTHON" && printf '%s' "$PYTHON" && return
    die "PYTHON=$PYTHON does not run, is older than 3.11, or lacks the venv module."
  fi
  for candidate in python3.14 python3.13 python3.12 python3.11 python3 python /usr/bin/python3; do
    others_reach "$candidate" && suits "$candidate" && printf '%s' "$candidate" && return
  done
  for candidate in python3.14 python3.13 python3.12 python3.11 python3 python; do
    suits "$candidate" && printf '%s' "$candidate" && return
  done
  die "no Python that suits was found: Belljar needs 3.11 or newer, with venv and pip." \
    "On Debian or Ubuntu: apt-get install python3 python3-venv" \
    "If you have one elsewhere, name it: PYTHON=/path/to/python3 $0"
}

# --- the environment --------------------------------------------------------------------------------------------------

locks() { # locks LEVEL: the lock files that hold for it; `dev` is a superset of `run`
  case $1 in
    run) printf '%s\n' requirements/uv.txt requirements/run.txt ;;
    dev) printf '%s\n' requirements/uv.txt requirements/run.txt requirements/dev.txt ;;
  esac
}

wanted_stamp() { # what .venv must have been made from
  local files
  mapfile -t files < <(locks "$1")
  printf '%s\n%s\n' "$ROOT" "$(cat -- "${files[@]}" pyproject.toml | sha256sum)"
}

venv_usable() { # made here, by the Python that is still there and (if one was named) the one named
  local made
  [[ -f $VENV/made-from && -x $VENV/bin/python ]] || return
  made=$(identity "$VENV/bin/python") || return
  [[ $(<"$VENV/made-from") == "$ROOT $made" ]] || return
  [[ -z ${PYTHON:-} || $(identity "$PYTHON") == "$made" ]]
}

fresh() { [[ -f $VENV/stamp-$1 && $(<"$VENV/stamp-$1") == "$(wanted_stamp "$1")" ]] && venv_usable; }

# Both replace the subshell that `try` and $( ) start, so that a signal to it reaches them.
pip() { exec "$VENV/bin/python" -I -m pip "$@"; }

configured_index() { # the index that pip was told to use, for uv, which does not read pip's settings
  printf '%s' "${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null || true)}"
}

uv() {
  local index certs=/etc/ssl/certs/ca-certificates.crt
  index=$(configured_index)
  [[ -z $index ]] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
  [[ -z ${PIP_CERT:-} ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}
  # The system's certificates know a company's proxy; a bare system has none, and uv brings its own.
  [[ ! -e ${SSL_CERT_FILE:-$certs} ]] || export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1}
  exec "$VENV/bin/uv" --no-config --no-progress "$@"
}

install_from() { # install_from LABEL ARGUMENTS...: with uv where it works, else with pip
  local label=$1
  shift
  if [[ -x $VENV/bin/uv ]]; then
    try "$label" uv pip install --python "$VENV/bin/python" --compile-bytecode "$@" && return
    step "$label, with pip (uv did not manage)" pip install "$@"
  else
    step "$label, with pip" pip install "$@"
  fi
}

install() {
  local level=$1 python
  if ! venv_usable; then
    python=$(find_python)
    rm -f -- "$VENV"/stamp-* "$VENV/made-from"
    step "creating .venv with Python $(identity "$python")" "$python" -I -m venv --clear "$VENV"
    printf '%s %s' "$ROOT" "$(identity "$VENV/bin/python")" >"$VENV/made-from"
  fi
  rm -f -- "$VENV"/stamp-*
  try "fetching uv, a faster installer" pip install --only-binary :all: --require-hashes -r requirements/uv.txt ||
    say "  no uv for this machine; going on without"
  install_from "installing $(grep -c == "requirements/$level.txt") packages" --require-hashes -r "requirements/$level.txt"
  install_from "installing belljar from this checkout" --no-deps --no-build-isolation -e .
  [[ $level == run ]] || wanted_stamp run >"$VENV/stamp-run"
  wanted_stamp "$level" >"$VENV/stamp-$level"
}

# setup run: what Belljar needs; setup dev: the tools of its tests as well.
setup() {
  [[ $(uname -s) == Linux ]] || die "Belljar's sandbox needs Linux; this is $(uname -s)."
  clean_environment
  own_checkout
  fresh "$1" && return
  exec 9>"$ROOT/.venv.lock"
  flock -n 9 || {
    say "waiting for another script that sets up this checkout"
    flock 9
  }
  fresh "$1" || install "$1"
  exec 9>&-
  say "set-up done"
}

# The JavaScript SDKs that judge the server, in step with their lock file. Without Node.js, npm or a registry their tests
# are skipped; that is said here, and again at the end of the tests.
JAVASCRIPT=tests/sdks/js

npm_ci() { exec npm --prefix "$JAVASCRIPT" ci --no-audit --no-fund; }

javascript_stamp() { cat -- "$JAVASCRIPT/package.json" "$JAVASCRIPT/package-lock.json" | sha256sum; }

javascript_fresh() {
  local stamp=$JAVASCRIPT/node_modules/.stamp
  [[ -f $stamp && $(<"$stamp") == "$(javascript_stamp)" ]]
}

setup_javascript() {
  if ! type -P node >/dev/null || ! type -P npm >/dev/null; then
    say "WARNING: no Node.js with npm here, so the JavaScript SDKs will not be tested"
    return
  fi
  javascript_fresh && return
  exec 9>"$ROOT/$JAVASCRIPT/.lock"
  flock 9
  if javascript_fresh; then
    :
  elif try "installing $(grep -c '"node_modules/' "$JAVASCRIPT/package-lock.json") JavaScript packages" npm_ci; then
    javascript_stamp >"$JAVASCRIPT/node_modules/.stamp"
  else
    printf '%s\n' "$STEP_OUTPUT" | tail -n 10 >&2
    say "WARNING: npm did not manage, so the JavaScript SDKs will not be tested"
    rm -rf -- "$JAVASCRIPT/node_modules"
  fi
  exec 9>&-
}

# The sandboxes' default image: instant when it is up to date; it reports its own progress.
build_image() { "$VENV/bin/belljar" image build; }

# run TOOL ARGUMENTS...: a Python tool of .venv in this shell's place.
run() { exec "$VENV/bin/python" -m "$@"; }
