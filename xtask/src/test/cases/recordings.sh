# Records in several ways; what was recorded and what came of it is left in /out. Prints `name status`
# lines.
run() {
    name=$1
    shift
    "$@" >/out/$name.stdout 2>/out/$name
    echo "$name $?"
}

run live collapse report -f json -o /out/live.json --record /out/r.rec -- workload race --size 16M
run replayed collapse report -f json -o /out/replayed.json --from /out/r.rec
run recorded collapse record -o /out/migration.rec -- workload failed-migration --quiet
run migration collapse report -f json --from /out/migration.rec

run events collapse events --from /out/migration.rec
run pipe sh -c 'set -o pipefail; collapse events --from /out/migration.rec | head -n 1'

collapse record -o /out/killed.rec &
recorder=$!
sleep 6
kill -9 $recorder
wait $recorder 2>/dev/null
run killed collapse report -f json --from /out/killed.rec

mkdir -p /tmp/tiny
mount -t tmpfs -o size=4k tmpfs /tmp/tiny
run full collapse record -o /tmp/tiny/r.rec -- workload failed-migration --quiet
run rest collapse report -f json --from /tmp/tiny/r.rec
umount /tmp/tiny
