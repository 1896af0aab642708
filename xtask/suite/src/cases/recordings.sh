# Records in several ways, and leaves recordings and reports in /out. Prints `name status` lines.
run() {
    name=$1
    shift
    "$@" >/out/$name.stdout 2>/out/$name
    echo "$name $?"
}

# grown FILE SIZE: waits until a file exists and is longer than SIZE bytes.
grown() {
    for _ in $(seq 300); do
        [ "$(stat -c %s "$1" 2>/dev/null || echo 0)" -gt "$2" ] && return
        sleep 0.1
    done
    echo "$1 does not grow"
}

hostname web7
run live collapse report -f json -o /out/live.json --record /out/r.rec -- workload race --size 16M
run replayed collapse report -f json -o /out/replayed.json --from /out/r.rec
run recorded collapse record -o /out/migration.rec -- workload failed-migration --quiet
run migration collapse report -f json --from /out/migration.rec

run events collapse events --from /out/migration.rec
run pipe sh -c 'set -o pipefail; collapse events --from /out/migration.rec | head -n 1'

collapse record -o /out/killed.rec &
recorder=$!
grown /out/killed.rec 0
begun=$(stat -c %s /out/killed.rec)
grown /out/killed.rec $begun
kill -9 $recorder
wait $recorder 2>/dev/null
run killed collapse report -f json --from /out/killed.rec

# Room for the beginning of a recording, and little more.
mkdir -p /tmp/tiny
mount -t tmpfs -o size=64k tmpfs /tmp/tiny
dd if=/dev/zero of=/tmp/tiny/filler bs=1k count=60 2>/dev/null
run full collapse record -o /tmp/tiny/r.rec -- sh -c 'for n in 1 2 3 4 5 6; do workload failed-migration --size 4M --quiet; done'
run rest collapse report -f json --from /tmp/tiny/r.rec
umount /tmp/tiny

run missing collapse report --from /out/no.rec
run foreign collapse report --from /bin/recordings.sh
head -c 8 /out/migration.rec >/out/newer.rec
printf '\377\377' >>/out/newer.rec
run newer collapse report --from /out/newer.rec
size=$(stat -c %s /out/migration.rec)
cp /out/migration.rec /out/damaged.rec
printf 'x' | dd of=/out/damaged.rec bs=1 seek=$((size - 40)) conv=notrunc 2>/dev/null
run damaged collapse report -f json --from /out/damaged.rec
run unwritable collapse record -o /out/no/r.rec -- workload list
run latest collapse record -o /out/latest.rec --keep-last 1s --max-size 64k -d 6s
run latest_report collapse report -f json --from /out/latest.rec
ls /out/latest.rec*

# Without eager splitting, guest faults split: a finding, which ends the recording.
echo N >/sys/module/kvm/parameters/eager_page_split
workload failed-migration --size 32M --loop --quiet --name culprit >/dev/null &
guest=$!
run triggered collapse record -o /out/triggered.rec --keep-last 20s --trigger eager_split_off --trigger-after 1s
kill $guest
wait $guest 2>/dev/null
run triggered_report collapse report -f json --from /out/triggered.rec
