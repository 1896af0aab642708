# Runs `collapse report` on a command, beside an independent recording of the same run by tracefs.
# usage: observe.sh FOLDER COMMAND...
set -e
folder=$1
shift
mkdir -p "$folder"
tracing=/sys/kernel/tracing
oracle=$tracing/instances/oracle
mkdir "$oracle"
echo 65536 >"$oracle/buffer_size_kb"
echo mono >"$oracle/trace_clock"

# Whether error codes of faults are those of EPT violations.
cat /sys/module/kvm_intel/parameters/ept >"$folder/ept" 2>/dev/null || echo N >"$folder/ept"

# Functions without a tracepoint; those that differ by kernel are in /lab/oracle.
cat /lab/oracle - >"$tracing/kprobe_events" <<EOF
p:oracle/update mmu_spte_update old=+0(%di):x64 new=%si:x64
p:oracle/drop drop_spte
EOF
for routine in kvm_mmu_zap_collapsible_sptes kvm_mmu_recover_huge_pages; do
    if grep -q " $routine\b" /proc/kallsyms; then
        echo "p:oracle/collapse_begin $routine" >>"$tracing/kprobe_events"
        echo "r:oracle/collapse_end $routine" >>"$tracing/kprobe_events"
    fi
done
events="oracle kvmmmu/kvm_tdp_mmu_spte_changed kvmmmu/fast_page_fault kvm/kvm_page_fault
    kvm/kvm_dirty_ring_exit kvm/kvm_pml_full"
# Whether these can be preempted; 5.10, which lacks the first one, keeps no count of what disables preemption.
if [ -d "$oracle/events/kvmmmu/kvm_tdp_mmu_spte_changed" ]; then
    events="$events kvm/kvm_entry kvmmmu/kvm_mmu_set_spte"
fi
for event in $events; do
    if [ -d "$oracle/events/$event" ]; then echo 1 >"$oracle/events/$event/enable"; fi
done

# Waits for rwlocks, by address, where the kernel tells of them: the trace itself would hide the addresses.
contention=$oracle/events/lock/contention_begin
if [ -e "$contention/trigger" ]; then
    echo 'hist:keys=lock_addr.hex,flags if flags==3 || flags==5' >"$contention/trigger"
fi

status=0
# In the emulator, the programs take more than any budget.
collapse --budget-overhead off report --format json --output "$folder/report.json" -- "$@" >"$folder/workload.json" ||
    status=$?
echo 0 >"$oracle/tracing_on"
cat "$oracle/trace" >"$folder/trace"
if [ -e "$contention/hist" ]; then cat "$contention/hist" >"$folder/rwlocks"; fi
cat "$oracle"/per_cpu/cpu*/stats >"$folder/stats"
for event in oracle kvmmmu kvm; do
    if [ -d "$oracle/events/$event" ]; then echo 0 >"$oracle/events/$event/enable"; fi
done
rmdir "$oracle"
echo >"$tracing/kprobe_events"
exit $status
