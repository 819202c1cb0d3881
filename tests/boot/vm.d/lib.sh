# shellcheck shell=bash disable=SC2034,SC2016 # for those who source it; for shells inside
# Shared by the tests in a VM.
. "$(dirname "${BASH_SOURCE[0]}")/../behaviour.sh"

vm() { "$BED_HERE/vm" "$1" "$BED_MACHINE" "${@:2}"; }
inside() { vm exec -- "$@"; }

# far_start MODE SERIAL…: attaches devices to these adapters, plugged in or not.
far_start() {
    local mode=$1 lines=() serial
    shift
    for serial in "$@"; do lines+=("$(vm far "$serial")"); done
    "$BED_HERE/far-end" "$mode" "${lines[@]}" >"$BED_WORK/far" &
    bed_wait 10 "the far ends" grep -q ready "$BED_WORK/far"
}
# pace_start SERIAL RATE: the device at a plugged adapter, whose port is open, talks at RATE bytes a second.
pace_start() {
    "$BED_HERE/far-end" pace "$(vm far "$1")" "$2" >"$BED_WORK/far-pace" &
    PACE=$!
}
# pace_end: it falls silent; what it has counted is in FAR.
pace_end() {
    kill -INT "$PACE"
    wait "$PACE" || bed_die "the far end has failed: $?"
    FAR=$(<"$BED_WORK/far-pace")
}
end_jobs() {
    local pids
    mapfile -t pids < <(jobs -p)
    ((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true
}
trap end_jobs EXIT

# People, and how they sit at consoles: from this machine, whose ssh is not emulated.
people() {
    ssh-keygen -q -t ed25519 -N '' -f "$BED_WORK/key"
    accounts <"$BED_WORK/key.pub"
}
SSH+=(-o UserKnownHostsFile=/dev/null)
# by_key USER TCP_PORT: sets SSH_WORDS to the ssh command.
by_key() {
    SSH_WORDS=("${SSH[@]}" -i "$BED_WORK/key" -o IdentitiesOnly=yes -o PreferredAuthentications=publickey
        -p "$(vm forward "$2")" "$1@127.0.0.1")
}
# An emulated machine beside a busy one is slow: what is measured is judged, and what is waited for gets its time.
talk() { TALK_SECONDS=60 "$BED_HERE/talk" "$@"; }
is_open() { bed_wait 60 "$1 to be open" status_says "$1" '8N1, '; }

has_left() { [[ $(main_pid "$1") = 0 ]]; }
# by_path PORT: the link of the adapter that is plugged in at USB port 1 to 15.
by_path() { inside sh -c 'ls /dev/serial/by-path/*-usb-0:$1:1.0-port0' sh "$1"; }
# configure: the configuration on stdin is written down and put into force, as a hand would.
configure() {
    inside sh -c 'cat >/etc/consoleserver/config.toml'
    inside systemctl daemon-reload
    inside systemctl restart consoleserver.target
}
# vendor_with EXPRESSION: the vendor's configuration, changed by sed.
vendor_with() { inside sed "$1" /usr/lib/consoleserver/config.toml | configure; }
