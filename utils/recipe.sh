# Helpers of the three recipes. run.sh sets the defaults of its options and sources this file, which reads the options,
# finds the corpus in local/corpora and derives the folder names from the corpus name.
# shellcheck shell=bash disable=SC2034,SC2154

fail() { echo "$0: $1" >&2; exit 1; }

# shellcheck source=utils/parse_options.sh
. ../../utils/parse_options.sh
# shellcheck source=utils/cmd.sh
. ./cmd.sh

[[ $stage,$stop_stage,$nj =~ ^[0-9]{1,4},[0-9]{1,4},[1-9][0-9]{0,4}$ ]] ||
    fail "--stage, --stop-stage and --nj: expected numbers, found $stage, $stop_stage and $nj"
[[ $seeds =~ ^\ *-?[0-9]+(\ +-?[0-9]+)*\ *$ ]] || fail "--seeds: expected whole numbers, found \"$seeds\""
for flag in ${flags:-}; do
    case ${!flag} in
        "" | false) printf -v "$flag" '' ;;
        true) ;;
        *) fail "--${flag//_/-}: expected true or false, found ${!flag}" ;;
    esac
done
[ $# -eq 0 ] || fail "cannot use $1; values of several words need quotes"

# lists NAME ...: split $NAME into words, as the array NAME_list.
lists() {
    local list
    for list; do read -rd '' -a "${list}_list" <<<"${!list}" || true; done
}

# needs OPTION ...: the corpus is made of what these options name. unused OPTION ...: it would leave them out without a word.
needs() {
    local option
    for option; do [ "$stage" -gt 0 ] || [ -n "${!option}" ] || fail "--corpus $corpus needs --${option//_/-} DIR, see README.md"; done
}
unused() {
    local option
    for option; do [ -z "${!option}" ] || fail "--corpus $corpus has no use for --${option//_/-}"; done
}

# run_stage N "title": succeed if stage N is requested, and print its title.
run_stage() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ] && stages_run+=" $1" && echo "stage $1: $2"; }

# jobs CMD NAME: run the commands of $exp/NAME.list (written by irl plan), $nj at once; logs are $log/NAME.N.log.
jobs() {
    local count
    count=$(wc -l <"$exp/$2.list")
    [ "$count" -eq 0 ] || $1 --max-jobs-run "$nj" "JOB=1:$count" "$log/$2.JOB.log" line.py "$exp/$2.list" JOB
}

# here NAME: run the commands of $exp/NAME.list one after the other, with their output on the screen.
here() {
    local number count
    count=$(wc -l <"$exp/$1.list")
    for ((number = 1; number <= count; number++)); do line.py "$exp/$1.list" "$number"; done
}

# report [OPTION ...]: make the table and the figure of the requested runs in $exp/report.
report() {
    python -m irl.bin.report "$results" --corpus "$name" --wanted "$exp/wanted.jsonl" --note "$note" --out "$exp/report" "$@" \
        >"$log/report.log"
}

# finish COMMAND ...: print the table of rates, the path of its picture, and the commands as suggestions for the next step.
finish() {
    [ -n "${stages_run:-}" ] || fail "--stage $stage --stop-stage $stop_stage: there is no such stage; see --help"
    [ "$stop_stage" -ge 6 ] && [ -f "$exp/report/table.md" ] || return 0
    sed -n '/^| method /,/^$/{/^$/q;p}' "$exp/report/table.md"
    echo "picture: $PWD/$exp/report/table.png   page: $exp/report/table.md   results: $results"
    printf 'next: %s\n' "$@"
}

# A file of local/corpora defines make_corpus. It may also set options that the user did not give, and define locate, which
# sets the data folders.
[ -f "local/corpora/$corpus.sh" ] || fail "unknown corpus $corpus, known are $(basename -s .sh local/corpora/*.sh | xargs)"
locate() { :; }
# shellcheck source=/dev/null
. "local/corpora/$corpus.sh"
name=${name:-$corpus} conf=${conf:-conf/$corpus} results=${results:-results/$name.jsonl} data=data/$name exp=exp/$name log=exp/$name/log
locate
mkdir -p "$log"
methods=${methods:-${all_methods:-}}
lists methods seeds conditions overrides
[ "${#methods_list[@]}" -gt 0 ] || fail "--methods: expected names of methods, found none"
# On a cluster the devices that jobs will have cannot be seen from here.
elsewhere=()
[[ $decode_cmd == run.py* ]] || elsewhere=(--elsewhere)
