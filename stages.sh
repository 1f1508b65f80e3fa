# What chain.sh, demo.sh and own.sh share; they read it with `.`, and have set TOOLKIT and DIR.
# shellcheck shell=bash

# stage COMMAND…: run it, with a line in $DIR/chain.tsv of its time and memory; a signal to this shell ends it, too
stage() {
    local child='' told='' status=0
    # Bash lets no trap act before a command in the foreground has ended, which may take days: hence the background.
    trap 'told=143; [ -z "$child" ] || kill -TERM "$child" 2> /dev/null' TERM
    trap 'told=129; [ -z "$child" ] || kill -HUP "$child" 2> /dev/null' HUP
    trap 'told=130' INT # which the terminal sends to the command, too
    PYTHONPATH=$TOOLKIT${PYTHONPATH:+:$PYTHONPATH} python3 -m tools.stage_log "$DIR/chain.tsv" "$@" &
    child=$!
    [ -z "$told" ] || kill -TERM "$child" 2> /dev/null # it came before there was one to pass it to
    while wait "$child" || status=$?; kill -0 "$child" 2> /dev/null; do status=0; done
    trap - TERM HUP INT
    return "${told:-$status}"
}

# newest NAME: the newest complete model of that name in the directories of the runs
newest() {
    # shellcheck disable=SC2012  # names of runs are hexadecimal digits
    ls -tr "$DIR"/*/"$1" | tail -1
}
