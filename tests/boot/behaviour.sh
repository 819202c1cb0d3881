# shellcheck shell=bash disable=SC2034,SC2016 # for those who source it; for shells inside
# Shared by the behaviours of both beds. container.d/lib.sh and vm.d/lib.sh source it, and define `inside COMMAND…` for it.
# `run_behaviours` (runner.sh) sets BED_MACHINE, BED_SUITE, BED_ROWS, BED_DEB and BED_WORK.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
: "${BED_MACHINE:?run this by tests/boot/test-container or test-vm}"

# row WHAT FIGURE: a line of the table.
row() { printf '%s\t%s\t%s\n' "$BED_SUITE" "$1" "$2" >>"$BED_ROWS"; }

# expect WHAT IS WANTED
expect() { [[ $2 = "$3" ]] || bed_die "$1: '$2' instead of '$3'"; }
# at_most WHAT IS LIMIT: numbers
at_most() { awk -v is="$2" -v limit="$3" 'BEGIN { exit !(is != "" && is <= limit) }' || bed_die "$1 is '$2', and may be $3"; }
# contains WHAT TEXT PART
contains() { [[ $2 = *"$3"* ]] || bed_die "$1 does not say '$3': $2"; }

# figure JSON KEY
figure() { python3 -c 'import json, sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$1" "$2"; }

status_of() { inside systemctl show --property=StatusText --value "console@$1.service"; }
main_pid() { inside systemctl show --property=MainPID --value "console@$1.service"; }
is_open() { bed_wait 10 "$1 to be open" status_says "$1" 'attached'; }
# status_says PORT TEXT: its service runs and has TEXT in its STATUS. (systemd keeps the last status of a stopped one.)
status_says() {
    local status
    [[ $(main_pid "$1") != 0 ]] || { echo "console@$1.service does not run"; return 1; }
    status=$(status_of "$1")
    [[ $status = *"$2"* ]] || { echo "status is: $status"; return 1; }
}
listens() { inside ss -H -ltn "sport = :$1" | grep -q LISTEN; }
log_of() { printf '/var/log/consoleserver/%s/console.log' "$1"; }
log_size() { inside stat -c %s "$(log_of "$1")"; }
log_has() { inside grep -q -- "$2" "$(log_of "$1")"; }

# After an installation or a boot without a device: all configured listeners exist, and no process of consoleserver runs.
nothing_but_listeners() {
    local listening running
    listening=$(inside ss -H -ltn | awk '{ sub(/.*:/, "", $4); if ($4 >= 8023 && $4 <= 8054) print $4 }' | sort -u | wc -l)
    expect "ports that listen" "$listening" 32
    expect "local sockets" "$(inside sh -c 'ls /run/consoleserver/attach | wc -l')" 32
    # (At the first boot of an image a key is made for a while.)
    # shellcheck disable=SC2317 # bed_wait calls it
    no_key_is_made() { ! inside pgrep console-hostkey >/dev/null; }
    bed_wait 60 "the host keys to be made" no_key_is_made
    running=$(inside ps -e -o comm= | grep -c '^console' || true)
    expect "our processes without a device" "$running" 0
    row "$1: listeners / processes" "$listening / $running"
}

# accounts: alice may use consoles, carol may not. Both have a password, and the public key on stdin.
accounts() {
    inside sh -e -c 'key=$(cat)
        for user in alice carol; do
            useradd --create-home --shell /usr/sbin/nologin "$user"
            echo "$user:secret-$user" | chpasswd
            install -d -o "$user" -g "$user" -m 0700 "/home/$user/.ssh"
            echo "$key" | install -o "$user" -g "$user" -m 0600 /dev/stdin "/home/$user/.ssh/authorized_keys"
            printf "#!/bin/sh\necho secret-%s\n" "$user" >"/root/ask-$user"
            chmod +x "/root/ask-$user"
        done
        usermod --append --groups dialout alice'
}
SSH=(ssh -T -F none -o StrictHostKeyChecking=no -o LogLevel=ERROR)
