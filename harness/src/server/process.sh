# Runs a server in the directory $1 until standard input ends, which is when whoever started it is
# gone, in whatever way. Then the server and the directory are gone too. The rest of the arguments
# is the server's command line. Nothing starts before the first line has come.
directory=$1
shift

# A Ctrl-C is for whoever started this, and reaches this by the end of the input.
trap '' HUP INT QUIT TERM PIPE

if read -r _; then
    exec 3<&0
    "$@" </dev/null >log 2>&1 3<&- &
    server=$!
    (
        while read -r _; do :; done
        kill -QUIT "$server"
    ) <&3 >/dev/null &
    watcher=$!
    wait "$server"
    kill -KILL "$watcher"
    tail -c 4000 log
fi

cd /
tries=0
until rm -rf -- "$directory" || [ "$tries" -eq 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
