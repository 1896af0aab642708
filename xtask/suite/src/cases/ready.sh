# Waits until `collapse` says that it watches, in each of the ways, and only then starts a guest.
await() {
    for _ in $(seq 600); do
        [ -e "$1" ] && return
        sleep 0.1
    done
    echo "$1 is never there"
}

# stopped PID: ends what was started in the background.
stopped() {
    kill $1
    wait $1
}

touch /tmp/report.ready
collapse report -f json -o /out/report.json --ready-file /tmp/report.ready 2>/out/report.err &
watcher=$!
sleep 0.2
await /tmp/report.ready
workload run 'touch' --size 16M --quiet
stopped $watcher
cp /tmp/report.ready /out/report.ready

mkfifo /tmp/pipe
collapse events -o /out/events --ready-fd 3 3>/tmp/pipe 2>/out/events.err &
watcher=$!
read begun </tmp/pipe
workload run 'touch' --size 16M --quiet
stopped $watcher
echo $begun >/out/events.ready

collapse record -o /out/run.rec --ready-file /tmp/record.ready 2>/dev/null &
watcher=$!
await /tmp/record.ready
workload run 'touch' --size 16M --quiet
stopped $watcher
collapse report -f json --from /out/run.rec -o /out/record.json

collapse live -i 200ms --ready-file /tmp/live.ready >/out/live 2>/out/live.err &
watcher=$!
await /tmp/live.ready
workload run 'touch; hold 2000' --size 16M --quiet --name seen
stopped $watcher
