# shellcheck shell=bash disable=SC2034,SC2016 # for those who source it; for shells inside
# What the behaviours share. `test-container` sets BED_CONTAINER, BED_SUITE, BED_ROWS, BED_DEB and BED_WORK.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
: "${BED_CONTAINER:?run this by tests/boot/test-container}"
HERE=$BED_HERE/container.d

inside() { "$BED_HERE/container" exec "$BED_CONTAINER" -- "$@"; }
# push FILE DEST
push() { "$BED_HERE/container" push "$BED_CONTAINER" "$@"; }

# row WHAT FIGURE: a line of the table.
row() { printf '%s\t%s\t%s\n' "$BED_SUITE" "$1" "$2" >>"$BED_ROWS"; }

# expect WHAT IS WANTED
expect() { [[ $2 = "$3" ]] || bed_die "$1: '$2' instead of '$3'"; }
# at_most WHAT IS LIMIT: numbers
at_most() { awk -v is="$2" -v limit="$3" 'BEGIN { exit !(is != "" && is <= limit) }' || bed_die "$1 is '$2', and may be $3"; }
# contains WHAT TEXT PART
contains() { [[ $2 = *"$3"* ]] || bed_die "$1 does not say '$3': $2"; }

# far_start MODE PORT [RATE]: something hangs on PORT (ttyUSB0…) from now on, and is there.
far_start() {
    inside test -x /usr/local/bin/far-end || push "$BED_HERE/far-end" /usr/local/bin/far-end
    inside systemd-run --quiet --unit="far-$2" -p StandardOutput="file:/run/far-$2" far-end "$1" "pty:/dev/$2" "${@:3}"
    bed_wait 10 "the pty of $2" inside test -c "/dev/$2"
}
far_kill() { inside systemctl kill --signal="$2" "far-$1.service"; }

# pace_start PORT BAUD: PORT is set to BAUD, 8N1, and open, and its device talks at that rate.
pace_start() {
    inside sh -c 'sed "s/^baud .*/baud = $1/" /usr/lib/consoleserver/config.toml >/etc/consoleserver/config.toml' sh "$2"
    far_start pace "$1" $(($2 / 10))
    inside systemctl start "console@$1.service"
    is_open "$1"
    far_kill "$1" USR1
}
# pace_end PORT: the device falls silent and stays; prints what it counted.
pace_end() {
    far_kill "$1" INT
    bed_wait 10 "the far end's figures" inside grep -q written "/run/far-$1"
    inside cat "/run/far-$1"
}
# figure JSON KEY
figure() { python3 -c 'import json, sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$1" "$2"; }

status_of() { inside systemctl show --property=StatusText --value "console@$1.service"; }
main_pid() { inside systemctl show --property=MainPID --value "console@$1.service"; }
is_open() { bed_wait 10 "$1 to be open" status_says "$1" 'attached'; }
status_says() {
    local status
    status=$(status_of "$1")
    [[ $status = *"$2"* ]] || { echo "status is: $status"; return 1; }
}
listens() { inside ss -H -ltn "sport = :$1" | grep -q LISTEN; }
log_of() { printf '/var/log/consoleserver/%s/console.log' "$1"; }
log_size() { inside stat -c %s "$(log_of "$1")"; }

# People: alice may use consoles, carol may not. Both have a password and a key.
people() {
    inside sh -e -c 'ssh-keygen -q -t ed25519 -N "" -f /root/key
        for user in alice carol; do
            useradd --create-home --shell /usr/sbin/nologin "$user"
            echo "$user:secret-$user" | chpasswd
            install -d -o "$user" -g "$user" -m 0700 "/home/$user/.ssh"
            install -o "$user" -g "$user" -m 0600 /root/key.pub "/home/$user/.ssh/authorized_keys"
            printf "#!/bin/sh\necho secret-%s\n" "$user" >"/root/ask-$user"
            chmod +x "/root/ask-$user"
        done
        usermod --append --groups dialout alice'
    push "$HERE/talk" /usr/local/bin/talk
}
SSH=(ssh -T -o StrictHostKeyChecking=no -o UserKnownHostsFile=/root/known_hosts -o LogLevel=ERROR)
# Of whom, on which TCP port: the words of an ssh command.
by_key() { SSH_WORDS=("${SSH[@]}" -i /root/key -o IdentitiesOnly=yes -o PreferredAuthentications=publickey -p "$2" "$1@127.0.0.1"); }
by_password() {
    SSH_WORDS=(env SSH_ASKPASS="/root/ask-$1" SSH_ASKPASS_REQUIRE=force "${SSH[@]}" -o NumberOfPasswordPrompts=1
        -o PreferredAuthentications=password -p "$2" "$1@127.0.0.1")
}
