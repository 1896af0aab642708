# Changes around `collapse`: it starts in the middle of an episode, and KVM is unloaded and loaded again.
set -e
. /lab/vendor
kprobes=/sys/kernel/debug/kprobes/list

# Whether the last hook of all is attached, by anyone.
is_attached() {
    grep ' drop_spte' $kprobes | grep -qv GONE
}
# Waits until everything is attached, and was read for the first time.
attached() {
    until is_attached; do usleep 50000; done
    sleep 3
}
# `collapse` lets KVM go as soon as it notices that it is no longer whole.
unload() {
    rmmod $VENDOR_MODULE
    until rmmod kvm 2>/dev/null; do usleep 50000; done
}
migration() {
    workload failed-migration --size 16M --name $1 >/out/$1.jsonl
}

case $1 in
reloads)
    migration before
    unload
    insmod /lab/modules/kvm.ko
    insmod /lab/modules/$VENDOR_MODULE.ko $SHADOW_PAGING
    attached
    migration shadow
    # The vendor's part alone, as long as it takes `collapse` to notice.
    rmmod $VENDOR_MODULE
    while is_attached; do usleep 50000; done
    insmod /lab/modules/$VENDOR_MODULE.ko
    attached
    migration after
    exit
    ;;
waits)
    unload
    sleep 2
    exit
    ;;
esac

status=0
collapse doctor --format json >/out/doctor.json || status=$?
echo $status

# Stopped while dirty logging is on, and let go once everything is attached. What its descriptors are is asked for, too,
# which some kernels survive only if links are made with care.
workload run 'touch; log-on; touch; hold 5000; get-log; touch; log-off; touch' \
    --size 16M --name middle >/out/middle.jsonl &
export middle=$!
until [ "$(grep -c '"phase":"touch"' /out/middle.jsonl)" = 2 ]; do usleep 50000; done
kill -STOP $middle
collapse report --format json --output /out/middle.json -- sh -c '
    cat /proc/$PPID/fdinfo/* >/out/fdinfo
    kill -CONT $middle
    while [ -d /proc/$middle ] && ! grep -q ") Z" /proc/$middle/stat; do usleep 50000; done'

collapse report --format json --output /out/reloads.json --record /out/reloads.rec -- sh $0 reloads
collapse report --format json --output /out/replayed.json --from /out/reloads.rec

while is_attached; do usleep 50000; done
collapse live --interval 500ms >/out/live.txt &
live=$!
attached
collapse report --format json --output /out/waits.json -- sh $0 waits
kill $live
wait $live
