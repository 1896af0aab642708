# `collapse` where things are not as they should be. Prints `name status` lines; the stderr of each run is
# kept in /out/NAME.
run() {
    name=$1
    shift
    "$@" >/out/$name.stdout 2>/out/$name
    echo "$name $?"
}

run ok collapse report -d 200ms
run doctor collapse doctor
run usage collapse report --no-such-option
run conflict collapse report -d 1s -- true
run unwritable collapse report -d 200ms -o /no/such/folder/report
run full collapse report -d 200ms -o /dev/full
run not_found collapse report -- /no/such/command
run not_executable collapse report -- /etc
run status collapse report -- sh -c 'echo from the command; exit 7'
run file collapse report -o /out/report.txt -- sh -c 'echo from the command'
run killed collapse report -- sh -c 'kill -9 $$'
run interrupt timeout -s INT 8 collapse report -f json
run terminate timeout -s TERM 8 collapse report -f json
run live timeout -s INT 8 collapse live -i 500ms

(
    ulimit -n 64
    run few_files collapse report -d 200ms
)

echo 0 >/proc/sys/kernel/ftrace_enabled
run no_ftrace collapse report -d 200ms
echo 1 >/proc/sys/kernel/ftrace_enabled

echo 0 >/sys/kernel/debug/kprobes/enabled
run no_kprobes collapse report -d 200ms
echo 1 >/sys/kernel/debug/kprobes/enabled

mkdir /tmp/empty
mount -o bind /tmp/empty /sys/kernel/btf
run no_btf collapse report -d 200ms
umount /sys/kernel/btf

kvm-unload
run no_kvm collapse report -d 200ms
run no_kvm_doctor collapse doctor
