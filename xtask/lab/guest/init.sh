#!/bin/sh
# PID 1 of the lab: sets the machine up, runs one command, reports over the ports in /run/lab.
export PATH=/bin HOME=/root LANG=C.UTF-8
/bin/busybox --install -s /bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/hugepages /run /tmp /out /root
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /out
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t hugetlbfs hugetlbfs /dev/hugepages
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
chmod 1777 /tmp /out /dev/shm
hostname lab
ifconfig lo 127.0.0.1 up

# Huge pages for those who ask, at the fault that asks: khugepaged would make runs differ.
thp=/sys/kernel/mm/transparent_hugepage
echo madvise >$thp/enabled
echo madvise >$thp/defrag
echo 4294967295 >$thp/khugepaged/scan_sleep_millisecs
echo 4294967295 >$thp/khugepaged/alloc_sleep_millisecs
echo 1 >$thp/khugepaged/pages_to_scan

fail() {
    echo "lab: $*"
    poweroff -f
}

while read -r module; do
    insmod "/lab/modules/$module.ko" || fail "module $module does not load"
done </lab/transport

mkdir /run/lab
. /lab/ports
connect
exec 3<>/run/lab/control

kvm-load || fail "kvm does not load"
. /lab/settings
echo ready >&3

# in_session STDIN STDOUT STDERR COMMAND...: as a session of its own in the foreground, so that no
# signal is ignored in it. A child opens the streams: here, the end of a relay would interrupt the
# wait for a pipe's other end, and the shell would take that for an error.
in_session() {
    sh -c 'echo $$ >/run/lab/session; in=$1 out=$2 err=$3; shift 3
        exec setsid "$@" <"$in" >"$out" 2>"$err" 3>&- 4>&-' sh "$@"
}

# Ends what the command left behind, so that its output has an end.
end_session() {
    read -r session </run/lab/session
    for file in /proc/[0-9]*/stat; do
        read -r stat 2>/dev/null <"$file" || continue
        pid=${stat%% *}
        set -- ${stat##*) }
        [ "$4" = "$session" ] && kill -9 "$pid" 2>/dev/null
    done
}

if [ "$TERMINAL" = 1 ]; then
    export TERM COLORTERM
    # A terminal that nobody has open forgets its size.
    exec 4<>/run/lab/terminal
    stty -F /run/lab/terminal rows "$ROWS" cols "$COLUMNS"
    while read -r word rows columns; do
        [ "$word" = size ] && stty -F /run/lab/terminal rows "$rows" cols "$columns"
    done <&3 &
    in_session /run/lab/terminal /run/lab/terminal /run/lab/terminal -c /lab/command
    status=$?
    end_session
else
    mkfifo /run/lab/in /run/lab/out /run/lab/err
    cat /run/lab/out >>/run/lab/stdout &
    relays=$!
    cat /run/lab/err >>/run/lab/stderr &
    relays="$relays $!"
    input=/dev/null
    if [ "$STDIN" = 1 ]; then
        input=/run/lab/in
        cat /run/lab/stdin >$input &
    fi
    in_session $input /run/lab/out /run/lab/err /lab/command
    status=$?
    end_session
    # A process that made itself another session may still hold the other end.
    (sleep 5 && kill $relays) 2>/dev/null &
    wait $relays
fi

echo "exit $status" >&3
printf %s "$MARK" >>/run/lab/stdout
printf %s "$MARK" >>/run/lab/stderr
{ tar -C /out -cf - . && printf %s "$MARK"; } | cat >/run/lab/files
leave
