# Reports for CI: formats, budgets, baselines. Prints `name status` lines; the output of each run is kept
# in /out/NAME (stderr) and /out/NAME.stdout.
run() {
    name=$1
    shift
    "$@" >/out/$name.stdout 2>/out/$name
    echo "$name $?"
}

run formats collapse report -o /out/r.json -o /out/r.md -o /out/r.html -o /out/r.xml -o /out/r.csv \
    -f json -f markdown -f html -f junit -f csv -f text \
    --budget 'recovery_rate >= 0.9' --budget 'time_to_recover.p99 < 1h' \
    --budget 'splits.by_cause.nx_recovery == 0' --budget 'total.splits.by_cause.eager_split == 32' \
    --require full -- workload failed-migration --quiet --name '<b>&"guest"'
run baseline collapse report -f json --baseline /out/r.json --baseline-limit 10000% \
    -- workload failed-migration --quiet --name '<b>&"guest"'
run worse collapse report -f json --baseline /out/r.json \
    -- workload race --quiet --name other
run over_budget collapse report -o /out/over.xml --budget 'splits == 0' \
    -- workload failed-migration --quiet
run unmeasured collapse report --budget 'time_to_recover.p99 < 2s' -d 200ms
run command_first collapse report --budget 'losses.ring_full_changes < 0' -- sh -c 'exit 7'
run killed collapse report -f json --budget 'losses.ring_full_changes < 0' -- sh -c 'kill -9 $$'
run not_found collapse report -o /out/none.html -- /no/such/command
run unwritable collapse report -o /out/kept.json -o /no/such/folder/r.html -d 200ms
run full collapse report -o /dev/full -o /out/written.json -f text -f json -d 200ms
run no_vm collapse report --vm nobody -d 200ms
run usage collapse report --budget 'split == 0' -d 200ms
run schema collapse schema report
collapse report -d 200ms | true
echo "closed_pipe $?"

echo 0 >/sys/kernel/debug/kprobes/enabled
run unseen collapse report --require full -d 200ms
echo 1 >/sys/kernel/debug/kprobes/enabled
