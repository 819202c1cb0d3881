# shellcheck shell=bash disable=SC2034 # some of these are only for those who source it
# Shared by the beds and the tests that use them. Source it; it turns on `set -euo pipefail`.
set -euo pipefail
shopt -s inherit_errexit

BED_HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Built things: root directories, kernel, image, saved machines. Outside the checkout, so that a fresh clone finds them.
BED_CACHE=${CONSOLESERVER_BED_CACHE:-${HOME:?}/.cache/consoleserver-bed}
# Running things: one directory a container or VM. Short, because unix socket paths end at 107 bytes.
BED_RUN=/run/consoleserver-bed

bed_say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# A bed that cannot run prints the reason and fails; it never passes by skipping.
bed_die() { bed_say "$*"; exit 1; }

bed_usage() { bed_say "$*"; exit 2; }

bed_need_root() { [[ $EUID -eq 0 ]] || bed_die "must run as root: it mounts, chroots and enters namespaces"; }

# bed_check_name NAME: container and VM names become file, host and socket names.
bed_check_name() {
    [[ $1 =~ ^[a-z0-9][a-z0-9-]{0,31}$ ]] || bed_usage "name '$1' is not valid: use 1 to 32 of a-z 0-9 -, beginning with a letter or digit"
}

# bed_hash WORD…: a short key of the given words and of everything on stdin.
bed_hash() { { printf '%s\n' "$@"; cat; } | sha256sum | cut -c1-16; }

# bed_wait SECONDS WHAT COMMAND…: runs COMMAND until it succeeds; dies with WHAT and COMMAND's last words when time is up.
bed_wait() {
    local deadline=$((SECONDS + $1)) what=$2 out
    shift 2
    until out=$("$@" 2>&1); do
        ((SECONDS < deadline)) || bed_die "gave up waiting: $what: $out"
        sleep 0.05
    done
}

# bed_now: seconds since the epoch, with microseconds.
bed_now() { printf '%s' "$EPOCHREALTIME"; }

# bed_since START: seconds since START (a bed_now), two decimals.
bed_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }'; }

# bed_cached KEY BUILDER…: prints the directory of the cache entry KEY; if it does not exist yet, lets BUILDER fill an
# empty directory (its last argument) and renames it into place, under a lock, so that no process finds a half-built entry.
bed_cached() {
    local key=$1 entry=$BED_CACHE/$1 staging=$BED_CACHE/.building-$1 lock
    shift
    mkdir -p "$BED_CACHE"
    exec {lock}>"$BED_CACHE/.lock-$key"
    flock "$lock"
    if [[ ! -d $entry ]]; then
        bed_say "building $entry"
        rm -rf --one-file-system "$staging"
        mkdir "$staging"
        # A builder's children must not inherit the lock, or a daemon among them would hold it.
        # (A plain call, not a condition: inside a condition bash would ignore `set -e` in the builder.)
        ("$@" "$staging" {lock}>&- >&2)
        mv -T "$staging" "$entry"
    fi
    touch "$entry"
    exec {lock}>&-
    printf '%s\n' "$entry"
}

# Removes cache entries that nothing has used for two weeks; a saved VM (200 MB, one for each .deb tried) for half a day.
bed_prune() {
    find "$BED_CACHE" -mindepth 1 -maxdepth 1 \( -mtime +14 -o -name 'vm-saved-*' -mmin +720 \) \
        -exec rm -rf --one-file-system {} +
}

# bed_apt_archive: "MIRROR CODENAME KEYRING" of the Debian archive that this machine itself installs from.
bed_apt_archive() {
    local codename mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    # shellcheck disable=SC2016 # apt fills these in
    mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 'Target-Of: deb' |
        awk -v suite="$codename" '$1 == suite && $2 == "main" { print $3; exit }')
    [[ -n $mirror ]] || bed_die "no apt source of this machine has suite '$codename', component main: the beds take their packages from there"
    [[ -e $keyring ]] || bed_die "$keyring is missing: install debian-archive-keyring"
    printf '%s %s %s\n' "$mirror" "$codename" "$keyring"
}
