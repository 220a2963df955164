#!/usr/bin/env bash
# Installs what this project needs on Debian or Ubuntu into the system and into .venv. `make` runs it.
#
#   scripts/setup.sh demo       what `edge-run` needs
#   scripts/setup.sh runtime    the same, and what the tests of edge_runtime and pipelines need
#   scripts/setup.sh test       the same, and what training, export and their tests need
#
# VERSIONS says which Python packages: `locked` (the default) those of constraints.txt, `newest` the newest that
# pyproject.toml allows, `lowest` the oldest.
#
# What is already there is left alone: system packages are looked up each time, Python packages are
# installed again only when one of these files changed. Whatever cannot be installed is said in one
# line, with a non-zero exit; the full output of apt-get and pip is in build/.
set -euo pipefail

profile=${1:-}
case $profile in
    demo | runtime | test) ;;
    *) echo "usage: scripts/setup.sh demo|runtime|test" >&2; exit 2 ;;
esac
target=$profile # what people call
[ "$profile" != runtime ] || target=test-runtime
readonly versions=${VERSIONS:-locked}
case $versions in
    locked | newest | lowest) ;;
    *) echo "setup: VERSIONS must be locked, newest or lowest, not $versions" >&2; exit 2 ;;
esac
if [ "$profile $versions" = "test lowest" ]; then
    echo "setup: VERSIONS=lowest is for demo and runtime" >&2
    exit 2
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly root=$PWD

# The distribution's own interpreter: GStreamer's Python bindings (gi) are built for it and are not on PyPI.
readonly system_python=/usr/bin/python3
readonly venv_python=.venv/bin/python
readonly venv_mark=.venv/.made-by-setup install_mark=.venv/.installed-by-setup
readonly apt_log=build/setup-apt.log pip_log=build/setup-pip.log

apt_packages=(
    python3-venv python3-gst-1.0
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
    gstreamer1.0-libav gstreamer1.0-x gstreamer1.0-python3-plugin-loader
)
pip_steps=("-e .[cpu]")
if [ "$profile" != demo ]; then
    # An RTSP server and an H.264 encoder: the cameras of the tests. An MQTT broker: events are sent to it.
    # strace: what a run sends and looks up. GstAnalytics, on GStreamer 1.24 and newer, is in the introspection of
    # plugins-bad.
    apt_packages+=(
        strace gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly mosquitto gir1.2-gst-plugins-bad-1.0
    )
    pip_steps=("-e .[cpu,dev]")
fi
if [ "$profile" = test ]; then
    # A browser: reports are looked at in it.
    apt_packages+=(chromium chromium-driver)
    pip_steps=(
        "torch"
        "-e .[cpu,train-core,export,bench,docs,dev]"
        "--no-deps -r scripts/no-deps.txt"
    )
    # TensorRT-RTX builds engines without a GPU, where it has wheels: real builds are tested there.
    if [ "$(uname -m)" = x86_64 ]; then pip_steps+=("tensorrt_rtx"); fi
fi

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# LOG COMMAND...: runs it with its output in LOG; on a terminal the newest line is shown, so that one sees it move.
logged() {
    local log=$1 status=0 line columns
    shift
    if [ -t 1 ]; then
        columns=$(tput cols 2>/dev/null || echo 80)
        "$@" </dev/null 2>&1 | tee -a "$log" | while IFS= read -r line; do
            printf '\r\033[K  %.*s' $((columns - 3)) "$line"
        done || status=$?
        printf '\r\033[K'
    else
        "$@" </dev/null >>"$log" 2>&1 || status=$?
    fi
    return "$status"
}

readonly network_errors='could not resolve|temporary failure|name or service not known|could not connect'\
'|unable to connect|cannot initiate the connection|connection (failed|timed out|refused)|network is unreachable'\
'|NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError'

# LOG: why apt-get or pip failed, in a few words.
reason() {
    if grep -q 'No space left on device' "$1"; then
        echo "the disk is full"
    elif grep -qE 'Could not get lock|Unable to acquire the dpkg' "$1"; then
        echo "another package manager is running"
    elif grep -qiE "$network_errors" "$1"; then
        echo "no network"
    else
        local line pattern
        for pattern in '^ *(E|ERROR):' '^ *(error|sudo):'; do
            line=$(grep -E "$pattern" "$1" | tail -n 1 || true)
            if [ -n "$line" ]; then
                read -r line <<<"$line" # without the indentation
                echo "$line"
                return
            fi
        done
        echo "see $1"
    fi
}

start_log() {
    { mkdir -p build && : >"$1"; } 2>/dev/null || fail "cannot write to $root/build"
}

missing_apt_packages() {
    local package present
    present=" $(dpkg-query -W -f='${Package}=${db:Status-Status} ' "${apt_packages[@]}" 2>/dev/null || true)"
    for package in "${apt_packages[@]}"; do
        [[ $present == *" $package=installed "* ]] || echo "$package"
    done
}

# REASON NAMES
fail_apt() {
    fail "cannot install system packages: $1; run \`sudo apt-get install $2\` yourself," \
        "then \`make $target\` again"
}

install_system_packages() {
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        "$system_python" -c 'import ensurepip, gi; gi.require_version("Gst", "1.0"); from gi.repository import Gst' \
            2>/dev/null ||
            fail "cannot install GStreamer: no apt-get here; install GStreamer 1.20 or newer, its Python bindings" \
                "(gi) and Python's venv for $system_python yourself, then run \`make $target\` again"
        return
    fi

    local missing=() as_root=() names
    mapfile -t missing < <(missing_apt_packages)
    [ ${#missing[@]} -gt 0 ] || return 0
    names=${missing[*]}

    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            fail "cannot install system packages: neither root nor sudo;" \
                "let root run \`apt-get install $names\`, then \`make $target\` again"
        say "sudo is needed for: apt-get install $names"
        if [ -t 0 ]; then sudo -v; else sudo -n true 2>/dev/null; fi || fail_apt "sudo was refused" "$names"
        as_root=(sudo)
    fi

    start_log "$apt_log"
    say "installing ${#missing[@]} system packages with apt-get (about a minute)"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120)
    # A third-party source that cannot be read must not stop us: what counts is whether the install works.
    logged "$apt_log" "${apt[@]}" update || true
    logged "$apt_log" "${apt[@]}" install -y --no-install-recommends "${missing[@]}" ||
        fail_apt "$(reason "$apt_log")" "$names"
}

check_python() {
    "$system_python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
        fail "$system_python must be Python 3.10 or newer: use Debian 12, Ubuntu 22.04, JetPack 6 or newer"
    [ "$profile" != test ] || "$system_python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "training and export need Python 3.11 or newer; \`make demo\` and \`make test-runtime\` work here"
}

make_venv() {
    "$venv_python" -c 'import gi, pip' 2>/dev/null && return
    [ ! -e .venv ] || [ -e "$venv_mark" ] ||
        fail "the .venv here was made by something else and does not see GStreamer's Python bindings;" \
            "remove it (rm -r .venv), then run \`make $target\` again"
    rm -rf .venv
    # Marked first, so that a half-made one is known as ours and made anew.
    mkdir .venv && touch "$venv_mark"
    "$system_python" -m venv --system-site-packages .venv >/dev/null || fail "cannot make $root/.venv"
    "$venv_python" -c 'import gi, pip' 2>/dev/null ||
        fail "$system_python does not see GStreamer's Python bindings (import gi); reinstall python3-gi"
}

# PROFILE: changes whenever the installed packages might have to.
digest() {
    {
        cat pyproject.toml constraints.txt scripts/setup.sh scripts/no-deps.txt
        echo "$1 $versions $root"
        "$system_python" -V
    } | sha256sum | cut -d ' ' -f 1
}

# True when what is installed contains the packages of `profile`.
installed() {
    local mark wider
    mark=$(cat "$install_mark" 2>/dev/null) || return 1
    for wider in "$profile" runtime test; do
        if [ "$wider" = runtime ] && [ "$profile" = test ]; then continue; fi
        if [ "$mark" = "$(digest "$wider")" ]; then return 0; fi
    done
    return 1
}

# COMMAND...: pip with its output in the log. Packages in ~/.local would satisfy it here and be missing for the
# next user.
pip_install() {
    logged "$pip_log" env PYTHONNOUSERSITE=1 PIP_USER=0 PIP_RETRIES="${PIP_RETRIES:-2}" "$venv_python" \
        -m pip install --no-input --disable-pip-version-check --progress-bar off "$@"
}

# The options that make pip take the wanted versions, into `version_options`.
choose_versions() {
    case $versions in
        locked) version_options=(-c constraints.txt) ;;
        newest) version_options=(--upgrade --upgrade-strategy eager) ;;
        lowest)
            # What the runtime needs alone: PyTorch, its kin and the tools are tested as locked and newest.
            grep -E '^(dependencies|cpu) = ' pyproject.toml | grep -oE '"[A-Za-z0-9_-]+>=[0-9.]+' |
                sed 's/"//; s/>=/==/' | sort -u >build/lowest.txt
            version_options=(-c build/lowest.txt)
            ;;
    esac
}

# Where pip would take PyTorch with CUDA, add PyTorch's index of CPU builds, or say what that costs.
# A machine with an NVIDIA driver gets CUDA.
choose_torch() {
    local index=https://download.pytorch.org/whl/cpu chosen
    [ ! -e /proc/driver/nvidia/version ] || return 0
    # What is there stays, unless the newest is asked for.
    [ "$versions" = newest ] || ! "$venv_python" -c 'import torch' 2>/dev/null || return 0
    chosen=$("$venv_python" -m pip install --dry-run --quiet --no-deps --ignore-installed \
        --disable-pip-version-check --report - "${version_options[@]}" torch 2>>"$pip_log" |
        "$venv_python" -c 'import json, sys; print(json.load(sys.stdin)["install"][0]["metadata"]["version"])' \
        2>/dev/null) || return 0
    [[ $chosen != *+cpu ]] || return 0
    if "$venv_python" -c "import urllib.request as r; r.urlopen('$index/torch/', timeout=5)" 2>/dev/null; then
        version_options+=(--extra-index-url "$index")
    else
        say "PyTorch's index of CPU builds cannot be reached: the build with CUDA is installed," \
            "a download of about 3 GB"
    fi
}

install_python_packages() {
    local step words version_options=() started=$SECONDS
    if installed; then return; fi
    start_log "$pip_log"
    say "installing Python packages (first run takes a few minutes)"
    rm -f "$install_mark"
    choose_versions
    if [ "$profile" = test ]; then choose_torch; fi
    for step in "${pip_steps[@]}"; do
        read -ra words <<<"$step"
        pip_install "${version_options[@]}" "${words[@]}" ||
            fail "cannot install Python packages ($step): $(reason "$pip_log");" \
                "run \`make $target\` again when that is fixed"
    done
    digest "$profile" >"$install_mark"
    say "Python packages are ready after $((SECONDS - started)) s"
}

install_system_packages
check_python
make_venv
install_python_packages
