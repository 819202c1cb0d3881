# shellcheck shell=bash disable=SC2034,SC2016 # for those who source it; for shells inside
# What the behaviours in a container share.
. "$(dirname "${BASH_SOURCE[0]}")/../behaviour.sh"
HERE=$BED_HERE/container.d

inside() { "$BED_HERE/container" exec "$BED_MACHINE" -- "$@"; }
# push FILE DEST
push() { "$BED_HERE/container" push "$BED_MACHINE" "$@"; }

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

# People, and how they sit at consoles: from inside the container.
people() {
    inside ssh-keygen -q -t ed25519 -N '' -f /root/key
    inside cat /root/key.pub | accounts
    push "$BED_HERE/talk" /usr/local/bin/talk
}
SSH+=(-o UserKnownHostsFile=/root/known_hosts)
# Of whom, on which TCP port: the words of an ssh command.
by_key() { SSH_WORDS=("${SSH[@]}" -i /root/key -o IdentitiesOnly=yes -o PreferredAuthentications=publickey -p "$2" "$1@127.0.0.1"); }
by_password() {
    SSH_WORDS=(env SSH_ASKPASS="/root/ask-$1" SSH_ASKPASS_REQUIRE=force "${SSH[@]}" -o NumberOfPasswordPrompts=1
        -o PreferredAuthentications=password -p "$2" "$1@127.0.0.1")
}
