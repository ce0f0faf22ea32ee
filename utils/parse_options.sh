# Options as in Kaldi: `--some-name value` sets the variable some_name. Give the variable a default before you source this
# file. Words that are not options stay in "$@". --help prints the comment at the top of the script.
# The options that $paths names are files or folders; those in _dirs are several, between spaces. Relative ones are taken from
# where the user stands, $OLDPWD after the script's own cd, or from beside the script if they are only there or lie in data/ or
# exp/, which it makes.
# shellcheck shell=bash disable=SC2034

take_path() {
    local word words=()
    local -a given=("${!1}")
    [[ $1 != *_dirs ]] || read -rd '' -a given <<<"${!1}" || true
    for word in "${given[@]}"; do
        if [[ $word == *[[:cntrl:]]* ]]; then
            echo "$0: --${1//_/-}: expected a path without line breaks, found ${word@Q}" >&2
            exit 1
        elif [[ -n $word && $word != /* && $OLDPWD != "$PWD" ]] && { [ -e "$OLDPWD/$word" ] || ! [[ -e ./$word || $word == @(data|exp)/* ]]; }; then
            word=$OLDPWD/$word
        elif [[ $word == -* ]]; then
            word=./$word
        fi
        words+=("$word")
    done
    printf -v "$1" '%s' "${words[*]}"
}

while [ $# -gt 0 ]; do
    case $1 in
        --help | -h)
            sed -n '2,/^$/{/^#/s/^# \{0,1\}//p}' "./${0##*/}"
            echo "defaults:"
            while read -r option; do
                option_name=${option#--}
                option_name=${option_name//-/_}
                [ -z "${!option_name:-}" ] || echo "  $option ${!option_name@Q}"
            done < <(sed -n '2,/^$/p' "./${0##*/}" | grep -o -e '--[a-z][a-z-]*' | sort -u)
            exit 0 ;;
        --*)
            option_name=${1#--}
            option_name=${option_name//-/_}
            if ! [[ $option_name =~ ^[a-z_]+[a-z0-9_]*$ ]] || [ -z "${!option_name+set}" ]; then
                echo "$0: unknown option $1; see $0 --help" >&2
                exit 1
            fi
            if [ $# -lt 2 ]; then
                echo "$0: option $1 needs a value" >&2
                exit 1
            fi
            printf -v "$option_name" '%s' "$2"
            [[ " ${paths:-} " != *" $option_name "* ]] || take_path "$option_name"
            shift 2 ;;
        *) break ;;
    esac
done
