# Every tool watches the same failed migration, from before the guest is there until it is gone.
# usage: compare.sh FOLDER
set -e
cd "$1"

bpftrace -B line -e '
    BEGIN { printf("ready\n") }
    tracepoint:kvmmmu:kvm_tdp_mmu_spte_changed { @changes[args.level, kstack(8)] = count() }' >bpftrace.txt 2>bpftrace.err &
bpftrace=$!
until grep -q ready bpftrace.txt; do sleep 0.2; done

# The second perf starts nothing but what it records; its data has a fixed name.
perf stat -a -o perf-stat.txt -e 'kvmmmu:*' -e 'kvm:*' -- \
    trace-cmd record -q -b 40960 -o /tmp/trace.dat -e kvmmmu -e kvm:kvm_page_fault \
    sh -c 'cd /tmp && exec perf kvm stat record -a -- collapse --budget-overhead off record -o run.rec \
        -- workload failed-migration --quiet' >perf-record.txt 2>&1

kill -INT $bpftrace
wait $bpftrace
trace-cmd report -i /tmp/trace.dat >trace.txt 2>trace.err
trace-cmd dump --options -i /tmp/trace.dat >options.txt
(cd /tmp && perf kvm -i perf.data.guest stat report --event=vmexit) >perf-kvm.txt 2>&1 </dev/null
collapse report --from /tmp/run.rec >report.txt
collapse report --from /tmp/run.rec --format json >report.json
