# What rights `collapse` keeps while it watches, and which a command gets that it starts.
watching() {
    name=$1
    shift
    "$@" --ready-file /tmp/$name.ready 2>/out/$name.err &
    watcher=$!
    for _ in $(seq 600); do
        [ -e /tmp/$name.ready ] && break
        sleep 0.1
    done
    sleep 1
    cat /proc/$watcher/task/*/status >/out/$name
    kill $watcher
    wait $watcher
    echo $? >/out/$name.status
}

# For another user.
chmod 1777 /tmp
cat /proc/self/status >/out/own
watching metrics collapse metrics --listen
watching textfile collapse metrics --textfile /tmp/collapse.prom
watching live collapse live >/dev/null
collapse report -o /out/report -- sh -c 'sleep 1; cat /proc/self/status >/out/command; cat /proc/$PPID/status >/out/watcher'
echo $? >/out/command.status

# A command that has become another user ends by the signal that is passed on to it.
collapse report -o /out/report -- unprivileged '' sh -c 'touch /tmp/started; exec sleep 1000' &
watcher=$!
for _ in $(seq 600); do
    [ -e /tmp/started ] && break
    sleep 0.1
done
kill $watcher
wait $watcher
echo $? >/out/stranger.status
