# Runs `collapse` as a user without rights but for some capabilities: those of $1, and with each of them missing, where
# the kernel lets CAP_PERFMON have kprobes; and where it does not, as on Debian.
workload failed-migration --loop --quiet --name guest &
guest=$!
sleep 1

# attempt NAME DURATION CAPABILITIES: what is reported.
attempt() {
    unprivileged $3 collapse report --format json --duration $2 >/out/$1.json 2>/out/$1.err
    echo $? >/out/$1.status
}

# without NAME CAPABILITIES: what is reported without one, and what `doctor` says.
without() {
    attempt $1 1s $2
    unprivileged $2 collapse doctor >/out/$1.doctor 2>&1
}

collapse report --format json --duration 1s >/out/root.json
echo 2 >/proc/sys/kernel/perf_event_paranoid
attempt usual 5s $1
for missing in $(echo $1 | tr , ' '); do
    without $missing $(echo $1 | tr , '\n' | grep -vx $missing | paste -sd , -)
done
echo 3 >/proc/sys/kernel/perf_event_paranoid
attempt debian 5s $1,CAP_SYS_ADMIN
without CAP_SYS_ADMIN $1
kill $guest
