# Options as in Kaldi: `--some-name value` sets the variable some_name. Give the variable a default before you source this
# file. Words that are not options stay in "$@". --help prints the comment at the top of the script.
# shellcheck shell=bash disable=SC2034

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
            shift 2 ;;
        *) break ;;
    esac
done
