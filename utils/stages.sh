# What recipes share to run their stages; sourced by run.sh, after its options are known.
# shellcheck shell=bash disable=SC2154

fail() { echo "$0: $1" >&2; exit 1; }

[[ $stage,$stop_stage,$nj =~ ^[0-9]+,[0-9]+,[1-9][0-9]*$ ]] || fail "--stage, --stop-stage and --nj are numbers"
for flag in ${flags:-}; do
    case ${!flag} in
        "" | false) printf -v "$flag" '' ;;
        true) ;;
        *) fail "--${flag//_/-} is true or false, not ${!flag}" ;;
    esac
done
[ $# -eq 0 ] || fail "cannot use $1; values of several words need quotes"

# lists NAME ...: the words of $NAME as the array NAME_list.
lists() {
    local list
    for list; do read -rd '' -a "${list}_list" <<<"${!list}" || true; done
}

# run_stage N "what": whether stage N is asked for; says so.
run_stage() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ] && echo "stage $1: $2"; }

# each CMD NAME LIST COMMAND ...: a job for each line of a list, $nj at once; {1} {2} stand for the line's fields.
each() {
    local cmd=$1 label=$2 list=$3 jobs
    shift 3
    jobs=$(wc -l <"$list")
    [ "$jobs" -eq 0 ] || $cmd --max-jobs-run "$nj" "JOB=1:$jobs" "$log/$label.JOB.log" line.py "$list" JOB "$@"
}
