# shellcheck shell=bash
# What the tests of this folder share. They run within Tests/cluster/with-cluster.

[[ ${TMCP_BINDIR-} ]] || { echo "Run this within Tests/cluster/with-cluster" >&2; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

# Says how a claim turned out: outcome STATUS CLAIM
outcome() {
    if [[ $1 -eq 0 ]]; then
        echo "ok - $2"
    else
        echo "not ok - $2"
        failed=1
    fi
}

run_psql() {
    psql --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 "$@"
}

new_database() {
    run_psql --command="DROP DATABASE IF EXISTS $1" --command="CREATE DATABASE $1" 2>/dev/null
}

# Prints all that the catalog says of the extension in a database: catalog DATABASE [EXTENSION [SCHEMA]]
# With an empty EXTENSION it leaves out what belongs to extensions only.
catalog() {
    run_psql --dbname="$1" --set="extension=${2-tmcp_session_manager}" --set="schema=${3-tmcp}" \
        --file=Tests/upgrade/catalog.sql
}

# Claims that two files are alike, and shows how they differ: alike CLAIM FILE FILE
alike() {
    local status=0
    [[ -s $2 ]] && diff --unified=0 "$2" "$3" || status=1
    outcome "$status" "$1"
}
