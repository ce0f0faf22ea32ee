# Helpers of the three recipes. run.sh sets the defaults of its options and sources this file, which reads the options,
# finds the corpus in local/corpora and derives the folder names from the corpus name.
# shellcheck shell=bash disable=SC2034,SC2154

fail() { echo "$0: $1" >&2; exit 1; }

# supervise ARGUMENTS: run the script again as a child with a process group of its own, and end with its status. A shell
# that is told to end would wait for its command first; this one then ends the whole group, and Ctrl-C gives one line.
supervise() {
    child=
    trap 'stop 130' INT
    trap 'stop 143' TERM
    trap 'stop 129' HUP
    set -m
    (cd "$OLDPWD" && IRL_SUPERVISED=true exec "$BASH" "$0" "$@") </dev/null &
    child=$!
    wait "$child" && exit 0 || exit $?
}
stop() {
    trap '' INT TERM HUP
    [ -n "$child" ] && kill -TERM -- "-$child" 2>/dev/null
    echo "$0: interrupted; the same command goes on where it stopped" >&2
    wait "$child" 2>/dev/null || true
    # A training first saves its state.
    tenths=300
    while kill -0 -- "-$child" 2>/dev/null && ((tenths-- > 0)); do sleep 0.1; done
    exit "$1"
}
[ -n "${IRL_SUPERVISED:-}" ] || supervise "$@"
unset IRL_SUPERVISED

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

# plan_draft, plan_final: `plan`, which run.sh defines, before the data are made and once they are there. It writes
# $own/*.list, the commands of the runs without a result, and knows by the data which results are of other data.
plan_draft() { [ "$stage" -ge 4 ] || plan --draft; }
plan_final() {
    [ "$stage" -ge 4 ] || { : >"$exp/data.lock"; exec 9>&-; }
    [ "$stop_stage" -lt 4 ] || plan
}

# jobs CMD NAME: run the commands of $own/NAME.list (written by irl plan), $nj at once; logs are $log/NAME.N.log.
jobs() {
    local count
    count=$(wc -l <"$own/$2.list")
    [ "$count" -eq 0 ] || $1 --max-jobs-run "$nj" "JOB=1:$count" "$log/$2.JOB.log" line.py "$own/$2.list" JOB
}

# here NAME: run the commands of $own/NAME.list one after the other, with their output on the screen.
here() {
    local number count
    count=$(wc -l <"$own/$1.list")
    for ((number = 1; number <= count; number++)); do line.py "$own/$1.list" "$number"; done
}

# report [OPTION ...]: make the table and the figure of the requested runs in $own/report.
report() {
    python -m irl.bin.report "$results" --corpus "$name" --wanted "$own/wanted.jsonl" --note "$note" --out "$own/report" "$@" \
        >"$log/report.log"
}

# finish COMMAND ...: print the table of rates, the path of its picture, and the commands as suggestions for the next step.
finish() {
    [ -n "${stages_run:-}" ] || fail "--stage $stage --stop-stage $stop_stage: there is no such stage; see --help"
    [ "$stop_stage" -ge 6 ] && [ -f "$own/report/table.md" ] || return 0
    sed -n '/^| method /,/^$/{/^$/q;p}' "$own/report/table.md"
    echo "picture: $PWD/$own/report/table.png   page: $own/report/table.md   results: $results"
    [ ! -f "results/$name.jsonl" ] || echo "reference: RESULTS.md and results/$name.jsonl, the runs of the authors"
    # From the root of the repository. `make install` puts irl where only the recipes' PATH has it.
    [ ! -x "$root/.venv/bin/irl" ] || set -- "${@/#irl /.venv/bin/irl }"
    printf 'next: %s\n' "$@"
}

# A file of local/corpora defines make_corpus. It may also set options that the user did not give, and define locate, which
# sets the data folders.
[ -f "local/corpora/$corpus.sh" ] || fail "unknown corpus $corpus, known are $(basename -s .sh local/corpora/*.sh | xargs)"
locate() { :; }
# shellcheck source=/dev/null
. "local/corpora/$corpus.sh"
name=${name:-$corpus} conf=${conf:-conf/$corpus} data=data/$name exp=exp/$name results=${results:-exp/$name/results.jsonl}
# Folders, lists of commands and configurations have the name in them, where blanks, colons or JOB mean something.
[[ $name =~ ^[[:alnum:]_][[:alnum:]_.+-]*$ && ! $name =~ (^|[.+-])JOB([.+-]|$) ]] ||
    fail "--name: expected letters, digits and . _ + -, but not JOB, found ${name@Q}"
[[ $session =~ ^[A-Za-z0-9_.-]*$ ]] || fail "--session: expected letters and digits, found $session"
own=$exp${session:+/sessions/$session}
log=$own/log
locate
mkdir -p "$log"
methods=${methods:-${all_methods:-}}

# Two run.sh do not overwrite each other's lists, and the data stay as they are while a training reads them.
busy=() advice="wait for it, or give this run another --name; other methods on the same data: --session NAME --stage 4"
for lock in "$exp/lock" "$exp"/sessions/*/lock; do [ "$lock" = "$own/lock" ] || busy+=("$lock"); done
exec 8>>"$own/lock"
if [ "$stage" -ge 4 ]; then
    lock.py 8 "$own/lock" "$advice" "$exp/data.lock"
    trap ': >"$own/lock"' EXIT
else
    lock.py 8 "$own/lock" "$advice"
    trap ': >"$own/lock"' EXIT
    exec 9>>"$exp/data.lock"
    lock.py 9 "$exp/data.lock" "$advice" "${busy[@]}"
    trap ': >"$own/lock"; [ ! -e /dev/fd/9 ] || : >"$exp/data.lock"' EXIT
fi
lists methods seeds conditions overrides
[ "${#methods_list[@]}" -gt 0 ] || fail "--methods: expected names of methods, found none"
# On a cluster the devices that jobs will have cannot be seen from here.
elsewhere=()
[[ $decode_cmd == run.py* ]] || elsewhere=(--elsewhere)
