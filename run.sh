#!/usr/bin/env bash
#
# How one works on distsql. Every target gets what it needs by itself: a fresh clone and Python are enough.
#
#   ./run.sh install         .venv with the locked dependencies and the project, editable; instant when nothing changed
#   ./run.sh serve [args]    a registry on 127.0.0.1:5000, with a private PostgreSQL; args go to `distsql serve`
#   ./run.sh test [args]     all tests; args go to pytest: ./run.sh test tests/oci -k digest
#   ./run.sh test quick      what takes no real clients, no server but PostgreSQL and no patience, on a machine at rest
#                            within a minute; what is left out, by folder and name, is a list in tests/conftest.py
#   ./run.sh clients         client programs that tests and benchmarks drive, from Debian's packages
#   ./run.sh lint            ruff check, ruff format --check, import-linter
#   ./run.sh typing          mypy --strict
#   ./run.sh docs [--check]  docs/queries.md, written from the statements, and docs/reports.md, from the catalogue's
#                            comments; --check fails when one is stale
#   ./run.sh check           lint, typing, docs --check, and migrations against the tables
#   ./run.sh bench [args]    benchmarks against other registries
#   ./run.sh lock [args]     requirements*.lock from pyproject.toml; --upgrade takes newer versions
#
# PYTHON=/path/to/python picks the interpreter of .venv. CI=true turns a missing client program into an error.

set -euo pipefail

readonly caller=$PWD
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
readonly root
cd -- "$root"

readonly python=$root/.venv/bin/python
# runc and other clients live in sbin, which not every PATH has.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
# Tests start hundreds of processes, and pytest rewrites thousands of asserts: compiled once, and not by each.
unset PYTHONDONTWRITEBYTECODE

say() { printf '%s\n' "$*" >&2; }
fail() { say "run.sh: $*"; exit 1; }
have() { command -v -- "$1" >/dev/null 2>&1; }
help() { sed -n '3,/^$/s/^# \{0,1\}//p' -- "$root/run.sh"; }

# ---------------------------------------------------------------------------------------------------- Debian's packages

may_apt_get() { have apt-get && { [[ $(id -u) -eq 0 ]] || { have sudo && sudo -n true 2>/dev/null; }; }; }

as_root() { if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo -n -- "$@"; fi; }

# Its output is only worth reading when it fails.
apt_get() {
    local log
    log=$(mktemp)
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1; then
        tail -n 25 -- "$log" >&2
        rm -f -- "$log"
        return 1
    fi
    rm -f -- "$log"
}

apt_install() {
    say "installing $*"
    apt_get update || say "apt-get update failed; going on with the package lists that are there"
    apt_get install --no-install-recommends "$@"
}

# ------------------------------------------------------------------------------------------------- the Python environment

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

can_make_environments() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Candidates are run, not only looked up: a shim of pyenv may stand for a version that isn't there. The system's own comes
# first, for distributions build it with the compiler's profile, and what people build for themselves takes a fifth longer.
find_python() {
    local candidate without_venv=""
    for candidate in "${PYTHON:-/usr/bin/python3}" python3 python3.13 python3.12 python3.11 python3.14; do
        new_enough "$candidate" || continue
        if can_make_environments "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
        without_venv=${without_venv:-$candidate}
    done
    [[ -n $without_venv ]] || fail "needs Python 3.11 or newer: install one, or name it: PYTHON=/path/to/python ./run.sh ..."
    # Debian packs ensurepip apart from its Python.
    if may_apt_get && apt_install python3-venv && can_make_environments "$without_venv"; then
        printf '%s\n' "$without_venv"
        return
    fi
    fail "$without_venv lacks venv or ensurepip; on Debian and Ubuntu: apt-get install python3-venv"
}

# Where the environment is, and from which lock it was made. The place counts: an environment can't be moved or copied.
stamp() {
    printf '%s\n' "$root"
    cat -- requirements.lock pyproject.toml | cksum
}

installed() { [[ -f .venv/stamp ]] && [[ "$(stamp)" == "$(<.venv/stamp)" ]] && "$python" -c '' 2>/dev/null; }

install() {
    installed || make_environment
    export PATH="$root/.venv/bin:$PATH"
}

make_environment() {
    # Two installs at once, from two terminals, take turns where the system has flock.
    exec 9>.venv.lock
    if have flock; then flock 9; fi
    if ! installed; then
        # Same place, other lock: what is there is brought up to date, for it may be in use. Otherwise from nothing.
        if [[ ! -f .venv/stamp ]] || [[ "$(head -n 1 .venv/stamp)" != "$root" ]] || ! new_enough "$python"; then
            local interpreter
            interpreter=$(find_python)
            say "making .venv with $("$interpreter" --version), $interpreter"
            rm -rf -- .venv
            "$interpreter" -m venv .venv
        fi
        say "installing the locked dependencies"
        "$python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
        # The lock brought the build backend, so nothing unlocked is fetched here.
        "$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
        stamp >.venv/stamp
    fi
    exec 9>&-
}

# requirements.lock is made from pyproject.toml, with everything; the other two are parts of it, in the same versions.
lock() {
    install
    local compile=("$root/.venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-config
        --custom-compile-command "./run.sh lock")
    "${compile[@]}" pyproject.toml --group dev --output-file requirements.lock "$@"
    "${compile[@]}" pyproject.toml --extra s3 --constraints requirements.lock --no-annotate --output-file requirements-serve.lock
    "${compile[@]}" --group build --constraints requirements.lock --no-annotate --output-file requirements-build.lock
    if grep -nE '(https?|file|git\+[a-z]+)://|--(extra-)?index-url|--find-links' requirements*.lock; then
        fail "the lock names a host or a path of this machine"
    fi
}

# --------------------------------------------------------------------------------------------------------- real clients

# program:package. `ab` does HEAD requests, on which wrk hangs, and takes new connections; docker-registry is whom the benchmarks compare with.
readonly client_programs=(
    skopeo:skopeo podman:podman buildah:buildah runc:runc umoci:umoci docker-registry:docker-registry
    wrk:wrk ab:apache2-utils psql:postgresql-client pgbouncer:pgbouncer
)

missing_packages() {
    local pair
    for pair in "${client_programs[@]}"; do
        have "${pair%%:*}" || printf '%s\n' "${pair##*:}"
    done
    # A server with TLS, which the packaged one is built without; its programs are in no PATH.
    compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null || printf 'postgresql\n'
}

# Debian's services start themselves, docker-registry on port 5000, which is ours. Masked until they are installed, then
# disabled.
install_packages() {
    local package services=()
    for package in docker-registry pgbouncer postgresql; do
        [[ " $* " != *" $package "* || ! -d /run/systemd/system ]] || services+=("$package.service")
    done
    if [[ ${#services[@]} -gt 0 ]]; then
        as_root systemctl mask --runtime --quiet "${services[@]}" || true
    fi
    local status=0
    apt_install "$@" || status=$?
    if [[ ${#services[@]} -gt 0 ]]; then
        as_root systemctl unmask --runtime --quiet "${services[@]}" || true
        as_root systemctl disable --now --quiet "${services[@]}" || true
    fi
    return "$status"
}

clients() {
    local missing
    missing=$(missing_packages)
    [[ -n $missing ]] || return 0
    # shellcheck disable=SC2086  # one word for each package
    if may_apt_get; then install_packages $missing || true; fi
    missing=$(missing_packages)
    [[ -n $missing ]] || return 0
    say "missing; as root on Debian or Ubuntu: apt-get install --no-install-recommends ${missing//$'\n'/ }"
    [[ ${CI:-} != true ]] || fail "CI needs all of them"
    say "going on without: tests that need them can't run"
}

# -------------------------------------------------------------------------------------------------------------- targets

serve() {
    install
    cd -- "$caller" # --data ./here means the caller's here
    exec "$root/.venv/bin/distsql" serve "$@"
}

test() {
    install
    local selection=()
    if [[ ${1:-} == quick ]]; then
        shift
        selection=(-m "not clients and not slow")
    else
        clients
    fi
    # loadgroup: tests marked xdist_group share a worker, the rest go wherever there is room. How many workers auto is, and
    # what goes first, is said in tests/conftest.py.
    "$python" -m pytest -n auto --dist loadgroup ${selection[@]+"${selection[@]}"} "$@"
}

lint() {
    install
    "$python" -m ruff check .
    "$python" -m ruff format --check .
    "$root/.venv/bin/lint-imports" --no-cache
}

typing() {
    install
    "$python" -m mypy --strict
}

docs() {
    install
    "$python" -m distsql.sql.docs "$@"
    "$python" -m tests.report_docs "$@"
}

# All of them, whatever fails: one run tells everything.
check() {
    install
    local failed=() part
    for part in lint typing "docs --check" migrations; do
        say "== $part"
        # A process of its own, because errexit doesn't reach into a function that is part of a condition.
        # shellcheck disable=SC2086  # "docs --check" is two words
        "$root/run.sh" $part || failed+=("$part")
    done
    [[ ${#failed[@]} -eq 0 ]] || fail "failed: $(printf '%s; ' "${failed[@]}")"
    say "all checks passed"
}

# `alembic check` on a throwaway database: the migrations end where distsql/sql's tables are.
migrations() {
    install
    "$python" -m tests.alembic_check
}

bench() {
    install
    clients
    "$python" -m benchmarks "$@"
}

target=${1:-help}
[[ $# -eq 0 ]] || shift
case $target in
    install | serve | test | clients | lint | typing | docs | check | migrations | bench | lock) "$target" "$@" ;;
    help | -h | --help) help ;;
    *) help >&2; say; fail "no target $target" ;;
esac
