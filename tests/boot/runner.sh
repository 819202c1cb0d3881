# shellcheck shell=bash
# Runs behaviours, each in its own machine in which the package has just been installed, prints one table of figures
# and lists those that fail. test-container and test-vm source it, and define for it:
#   machine_start NAME SUITE DEB BEHAVIOUR   a machine with the package
#   machine_journal NAME                     what is worth reading when a behaviour does not hold
#   machine_stop NAME
# In a behaviour's file "# suites:" lists where it runs, "# with --all also:" where else if it is named, or with --all, "# limit:" after
# how many seconds it hangs (900), "# packages:" which packages of Debian its container has besides, and "# only with --all:" why it is not of the core, which `make test` runs.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Seconds after which a behaviour is taken to hang: many times what the slowest takes, as the machine may be busy.
LIMIT_SECONDS=900

# words_of KEY BEHAVIOUR: the value of that key in its file.
words_of() { sed -n "s/^# $1: //p" "$directory/$2"; }

# Runs one behaviour in one suite; its output is kept until the end.
try() {
    local suite=$1 behaviour=$2 held=1 said=$work/$1-$2 limit began status=0
    began=$(bed_now)
    limit=$(words_of limit "$behaviour")
    machine=t-$$-${behaviour%%-*}-$suite
    bed_say "$suite: $behaviour"
    export BED_MACHINE=$machine BED_SUITE=$suite BED_ROWS=$rows BED_DEB=$deb BED_WORK=$work/$suite-$behaviour.d
    mkdir "$BED_WORK"
    machine_start "$machine" "$suite" "$deb" "$behaviour" >"$said" 2>&1 || held=
    if [[ -n $held ]]; then
        timeout "${limit:-$LIMIT_SECONDS}" "$directory/$behaviour" >>"$said" 2>&1 || { status=$? held=; }
        ((status != 124)) || bed_say "$suite: $behaviour: ended after its limit of ${limit:-$LIMIT_SECONDS} s"
    fi
    if [[ -z $held ]]; then
        printf '%s\t%s\t%s\n' "$suite" "$behaviour" FAILED >>"$rows"
        failed+=("$suite:$behaviour")
        cat "$said"
        machine_journal "$machine" || true
    fi
    machine_stop "$machine"
    rm -rf "$BED_WORK"
    machine=
    bed_say "$suite: $behaviour: ${held:+holds, }$(bed_since "$began") s"
}

stop_all() {
    [[ -z $machine ]] || machine_stop "$machine" || true
    rm -rf "$work"
}

# run_behaviours BED [--deb FILE] [--all] [--suite SUITE] [--part N/OF] [BEHAVIOUR…]
run_behaviours() {
    local bed=$1 behaviour suite all='' only='' part=1 of=1 suites behaviours=() number=0 count=0 started
    shift
    started=$(bed_now)
    directory=$BED_HERE/$bed.d deb=
    while [[ ${1-} = --* ]]; do
        case $1 in
        --deb) (($# >= 2)) || bed_usage "--deb wants a file"; deb=$2; shift 2 ;;
        --all) all=1; shift ;;
        --suite) (($# >= 2)) || bed_usage "--suite wants a suite of Debian"; only=$2; shift 2 ;;
        --part)
            [[ ${2-} =~ ^([1-9])/([1-9])$ ]] || bed_usage "--part wants N/OF, as 1/2"
            part=${BASH_REMATCH[1]} of=${BASH_REMATCH[2]}
            shift 2
            ;;
        *) bed_usage "$1 is not an option; there are --deb FILE, --suite SUITE, --part N/OF and --all" ;;
        esac
    done
    bed_need_root
    for behaviour in "$@"; do
        [[ -x $directory/$behaviour ]] || bed_usage "there is no behaviour '$behaviour' in $bed.d"
        behaviours+=("$behaviour")
    done
    if ((${#behaviours[@]})); then
        all=1
    else
        for behaviour in $(cd "$directory" && find . -maxdepth 1 -name '[0-9]*' -printf '%f\n' | sort); do
            [[ -z $all && -n $(words_of "only with --all" "$behaviour") ]] || behaviours+=("$behaviour")
        done
    fi
    [[ -n $deb ]] || deb=$("$BED_HERE/bed-deb")
    [[ -r $deb ]] || bed_usage "cannot read the package '$deb'"

    work=$(mktemp -d) machine='' failed=()
    rows=$work/rows
    : >"$rows"
    trap stop_all EXIT
    for behaviour in "${behaviours[@]}"; do
        read -r -a suites <<<"$(words_of suites "$behaviour") ${all:+$(words_of "with --all also" "$behaviour")}"
        for suite in "${suites[@]}"; do
            [[ -z $only || $suite = "$only" ]] || continue
            ((number += 1))
            ((number % of == part % of)) || continue
            try "$suite" "$behaviour"
            ((count += 1))
        done
    done
    ((count)) || bed_usage "no behaviour runs in '${only:-part $part/$of}'"
    awk -F '\t' '{ printf "%-10s %-64s %s\n", $1, $2, $3 }' "$rows"
    ((${#failed[@]} == 0)) || bed_die "does not hold: ${failed[*]}"
    echo "$bed: $count behaviours hold${only:+ in $only} (part $part/$of), in $(bed_since "$started") s"
}
