# shellcheck shell=bash disable=SC2016 # for those who source it; for shells inside
# Shared by the tests of the Cockpit page: the page, accounts, devices, and a Chromium on this machine.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
TOP=$BED_HERE/../..

"$TOP/tests/tools/install-packages" chromium
"$TOP/tests/tools/build-cockpit" --fetch-only

# alice is in sudo and dialout, bob in dialout, eve in neither.
cockpit_people() {
    inside sh -e -c 'useradd --create-home --shell /bin/bash --groups sudo,dialout alice
        useradd --create-home --shell /bin/bash --groups dialout bob
        useradd --create-home --shell /bin/bash eve
        for user in alice bob eve; do echo "$user:secret-$user" | chpasswd; done'
}

# The package that was built beside ours.
cockpit_install() {
    local deb=${BED_DEB%/*}/cockpit-consoleserver_${BED_DEB##*/consoleserver_}
    deb=${deb%_*}_all.deb
    [[ -r $deb ]] || bed_die "cannot read $deb"
    "$BED_HERE/container" install "$BED_MACHINE" "$deb"
    inside systemctl start cockpit.socket
}

# browse FILE: a test of cockpit/test, at the Cockpit of this machine. Screenshots stay in target/cockpit/SUITE. The browser is in the
# container's network: what lies between them otherwise adds to the times that are measured.
browse() {
    local shots=$TOP/target/cockpit/$BED_SUITE
    mkdir -p "$shots"
    URL=https://127.0.0.1:9090 MACHINE=$BED_MACHINE SHOTS=$shots ROWS=$BED_ROWS SUITE=$BED_SUITE \
        nsenter --target "$("$BED_HERE/container" pid "$BED_MACHINE")" --net node "$TOP/cockpit/test/$1"
}
