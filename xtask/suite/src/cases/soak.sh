# VMs that come and go, scrapes, a flight recorder that begins a file every two minutes, and KVM unloaded and loaded again now
# and then, for as many rounds of two minutes as are asked for. `meter` counts what the two programs hold while a VM is there,
# and at the end of each round, when none is.
set -e
. /lab/vendor

# `collapse` lets KVM go as soon as it notices that it is no longer whole, and attaches within a second of its return.
reload() {
    rmmod $VENDOR_MODULE
    until rmmod kvm 2>/dev/null; do usleep 50000; done
    insmod /lab/modules/kvm.ko
    insmod /lab/modules/$VENDOR_MODULE.ko
    sleep 5
}

now() { cut -d. -f1 /proc/uptime; }

get() { wget -q -O "$1" http://127.0.0.1:9753/"$2"; }

ifconfig lo up
collapse metrics --listen --ready-file /tmp/exporter.ready 2>/out/exporter.err &
exporter=$!
collapse record --keep-last 2m -o /tmp/last.rec --ready-file /tmp/recorder.ready 2>/out/recorder.err &
recorder=$!
while [ ! -e /tmp/exporter.ready ] || [ ! -e /tmp/recorder.ready ]; do sleep 1; done

end=$(now)
for round in $(seq "$1"); do
    end=$((end + 120))
    if [ $((round % 5)) = 0 ]; then reload; fi
    workload failed-migration --size 4M --quiet --name "short-$round"
    workload run 'touch; hold 15000' --size 4M --vcpus 2 --quiet --name "held-$round" &
    held=$!
    for _ in 1 2 3 4; do
        sleep 2
        get /tmp/scrape metrics
    done
    meter census $exporter $recorder >>/out/busy.jsonl
    wait $held
    left=$((end - $(now)))
    if [ $left -gt 0 ]; then sleep $left; fi
    meter census $exporter $recorder >>/out/census.jsonl
done

get /out/last.prom metrics
get /out/healthz healthz
cat /tmp/last.rec.old /tmp/last.rec >/tmp/cut.rec
collapse report --from /tmp/cut.rec --format json -o /out/cut.json 2>/out/cut.err
kill $exporter $recorder
wait $exporter
wait $recorder
collapse report --from /tmp/last.rec --format json -o /out/last.json
