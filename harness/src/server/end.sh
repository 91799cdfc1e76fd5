# Waits until standard input ends; then ends the server in the directory $1, which is the working
# directory, and removes it. The server is asked to disconnect everybody, then to abort, and is
# killed in the end; $2 is how often to look, each time, whether it has ended.
#
# It belongs to this shell's process group. The number of a group is nobody else's as long as one
# of its processes is there, and so signal 0's "group of my own" can't hit a stranger, as a number
# that was written down could.
directory=$1
patience=$2

# These are for whoever started this, and reach this by the end of the input.
trap '' HUP INT QUIT TERM PIPE TSTP

while read -r _; do :; done

signal() {
    kill -s "$1" 0
    # A stopped process heeds a signal when it goes on.
    kill -s CONT 0
    left=$patience
    # The last thing that a server does is to remove this file.
    while [ -e data/postmaster.pid ] && [ "$left" -gt 0 ]; do
        left=$((left - 1))
        sleep 0.01
    done
}

# Each process of a server works in its data directory, and most are in groups of their own.
processes() {
    if [ -e /proc/self/cwd ]; then
        for process in /proc/[0-9]*; do
            [ "$process/cwd" -ef data ] && read -r name <"$process/comm" &&
                [ "$name" = postgres ] && echo "${process#/proc/}"
        done
    else
        lsof -a -c postgres -d cwd -t -- "$directory/data"
    fi
}

signal INT
signal QUIT

left=50
while alive=$(processes); [ -n "$alive" ] && [ "$left" -gt 0 ]; do
    kill -s KILL $alive
    left=$((left - 1))
    sleep 0.01
done
if [ -f data/postmaster.pid ]; then
    # A server that was killed leaves its shared memory, whose key is in the seventh line.
    key=$(sed -n '7s/^ *\([0-9][0-9]*\) .*/\1/p' data/postmaster.pid)
    [ -n "$key" ] && ipcrm -M "$key"
fi

cd /
left=50
until rm -rf -- "$directory" || [ "$left" -eq 0 ]; do
    left=$((left - 1))
    sleep 0.01
done
# What was about to become a server, and others like this.
kill -s KILL 0
