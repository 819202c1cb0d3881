# shellcheck shell=bash disable=SC2016 # for those who source it; for shells inside
# Shared by the tests of the administration: user accounts, and calls over the bus as one of them.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
NAME=org.consoleserver1
TOP=/org/consoleserver1

# alice is in sudo, bob in dialout, eve in neither.
administrators() {
    inside sh -e -c 'useradd --create-home --groups sudo alice
        useradd --create-home --groups dialout bob
        useradd --create-home eve'
}
# as USER WORDS…
as() {
    inside setpriv --reuid="$1" --regid="$(inside id -g "$1")" --init-groups "${@:2}"
}
# manager USER METHOD…, port USER PORT METHOD…: a call; write USER PORT PROPERTY…, and read PORT PROPERTY.
manager() { as "$1" busctl call "$NAME" "$TOP" "$NAME.Manager" "${@:2}"; }
port() { as "$1" busctl call "$NAME" "$TOP/port/$2" "$NAME.Port" "${@:3}"; }
write() { as "$1" busctl set-property "$NAME" "$TOP/port/$2" "$NAME.Port" "${@:3}"; }
read_of() { inside busctl get-property "$NAME" "$TOP/port/$1" "$NAME.Port" "$2"; }
read_manager() { inside busctl get-property "$NAME" "$TOP" "$NAME.Manager" "$1"; }
# refused WORDS COMMAND…: it fails, and prints WORDS.
refused() {
    local said
    if said=$("${@:2}" 2>&1); then bed_die "not refused: ${*:2}: $said"; fi
    contains "the refusal of ${*:2}" "$said" "$1"
}
etc() { inside cat /etc/consoleserver/config.toml; }
