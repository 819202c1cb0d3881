# shellcheck shell=bash disable=SC2034,SC2016 # for those who source it; for shells inside
# Shared by the tests in a container.
. "$(dirname "${BASH_SOURCE[0]}")/../behaviour.sh"
HERE=$BED_HERE/container.d

inside() { "$BED_HERE/container" exec "$BED_MACHINE" -- "$@"; }
# push FILE DEST
push() { "$BED_HERE/container" push "$BED_MACHINE" "$@"; }

# far_start MODE PORT [RATE]: attaches a device to PORT (ttyUSB0…), and waits until it is present.
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
# by_key USER TCP_PORT: sets SSH_WORDS to the ssh command.
by_key() { SSH_WORDS=("${SSH[@]}" -i /root/key -o IdentitiesOnly=yes -o PreferredAuthentications=publickey -p "$2" "$1@127.0.0.1"); }
by_password() {
    SSH_WORDS=(env SSH_ASKPASS="/root/ask-$1" SSH_ASKPASS_REQUIRE=force "${SSH[@]}" -o NumberOfPasswordPrompts=1
        -o PreferredAuthentications=password -p "$2" "$1@127.0.0.1")
}

# The same package with a higher version: consoleserver_later.deb in BED_WORK.
later_package() {
    local later=$BED_WORK/later
    rm -rf "$later"
    dpkg-deb -R "$BED_DEB" "$later"
    sed -i 's/^Version: .*/&+later/' "$later/DEBIAN/control"
    dpkg-deb --root-owner-group -Zgzip -b "$later" "$BED_WORK/consoleserver_later.deb" >/dev/null
}
# Makes every later start of console-logrotate.service rotate every log.
rotation_is_forced() {
    inside sh -e -c 'mkdir -p /run/systemd/system/console-logrotate.service.d
        printf "[Service]\nExecStart=\nExecStart=/usr/sbin/logrotate --force --state /var/lib/consoleserver/logrotate/status /usr/lib/consoleserver/logrotate.conf\n" \
            >/run/systemd/system/console-logrotate.service.d/force.conf
        systemctl daemon-reload'
}
# far_ends_start COUNT [INTERVAL]: TCP ports from 7100 up, at which sources are connected and counted.
far_ends_start() {
    push "$HERE/far-ends" /usr/local/bin/far-ends
    inside rm -f /run/far-ends
    inside systemd-run --quiet --collect --unit=far-ends -p StandardOutput=file:/run/far-ends -p LimitNOFILE=4096 far-ends "$@"
    bed_wait 10 "the far ends" listens $((7100 + $1 - 1))
}
count() { inside sh -c 'grep -c "^$1 " /run/far-ends || true' sh "$1"; }
is_count() { local is; is=$(count "$1"); [[ $is = "$2" ]] || { echo "$1: $is instead of $2"; return 1; }; }
# gaps PORT: gaps and duplicates in the numbered lines of its log.
gaps() {
    push "$HERE/numbered-lines" /usr/local/bin/numbered-lines
    inside numbered-lines "$(log_of "$1")" | awk '{ print $3 }'
}
# sources COUNT: that many ports, src0 to src(COUNT - 1), are configured and started, and connected.
sources() {
    inside sh -c '{ for n in $(seq 0 $(($1 - 1))); do printf "[ports.src%d]\nsource = \"tcp:127.0.0.1:%d\"\n" "$n" $((7100 + n)); done; } >/etc/consoleserver/config.toml
        systemctl daemon-reload; systemctl restart consoleserver.target' sh "$1"
    bed_wait 120 "all far ends to be connected" is_count connect "$1"
}
