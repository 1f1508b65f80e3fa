# What chain.sh, demo.sh and own.sh share. They read it with `.`, and set TOOLKIT and DIR before they use it.
# shellcheck shell=bash

# comments_and_settings FILE: the help of a script, which is the comments at its top, and its settings as they stand
comments_and_settings() {
    sed -nE '2,/^case/{/^# /{s/^# ?//p;d};/^#$/{s/.*//p;d};/^: /{s/^: /    /;s/"\$\{([A-Z_]+):=([^}]*)\}"/\1=\2/gp}}' "$1"
}

# say WORDS…: what begins now
say() {
    printf '\n== %s\n' "$*" >&2
}

# stage COMMAND…: run it, with a line in $DIR/chain.tsv of its time and memory; a signal to this shell ends it, too
stage() {
    local child='' stopped='' status=0
    # Bash lets no trap act before a command in the foreground has ended, which may take days: hence the background.
    trap 'stopped=143; [ -z "$child" ] || kill -TERM "$child" 2> /dev/null' TERM
    trap 'stopped=129; [ -z "$child" ] || kill -HUP "$child" 2> /dev/null' HUP
    trap 'stopped=130' INT # which the terminal sends to the command, too
    PYTHONPATH=$TOOLKIT${PYTHONPATH:+:$PYTHONPATH} python3 -m tools.stage_log "$DIR/chain.tsv" "$@" &
    child=$!
    [ -z "$stopped" ] || kill -TERM "$child" 2> /dev/null # it came before there was one to pass it to
    while wait "$child" || status=$?; kill -0 "$child" 2> /dev/null; do status=0; done
    trap - TERM HUP INT
    return "${stopped:-$status}"
}

# newest NAME: the newest complete model of that name in the directories of the runs
newest() {
    # shellcheck disable=SC2012  # names of runs are hexadecimal digits
    ls -tr "$DIR"/*/"$1" | tail -1
}
