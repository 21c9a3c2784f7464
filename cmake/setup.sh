# Sourced by ./demo and ./test: installs the Debian packages that are missing.
packages="g++ cmake ninja-build ccache libeigen3-dev libgtest-dev libcli11-dev libtomlplusplus-dev
          libjpeg62-turbo-dev libpng-dev libstb-dev"

if command -v dpkg-query >/dev/null; then
    missing=
    for package in $packages; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    if [ -n "$missing" ]; then
        as_root=
        if [ "$(id -u)" -ne 0 ]; then
            command -v sudo >/dev/null || { echo "missing packages, and neither root nor sudo:$missing" >&2; exit 1; }
            as_root=sudo
        fi
        echo "== installing:$missing"
        $as_root apt-get update -qq
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    fi
else
    echo "== not a Debian system; these packages are wanted (Debian's names):" $packages
fi
