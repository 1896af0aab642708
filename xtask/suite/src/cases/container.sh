# Runs `collapse` as the DaemonSet in docs/contrib does: in the host's PID namespace, with nothing but its own file, /proc
# and parts of /sys, and with the capabilities $1, while the guest has a PID namespace of its own.
unshare -p -f workload failed-migration --loop --quiet --name elsewhere &
sleep 1
mkdir -p /box/proc /box/sys /box/out
cp /bin/collapse /bin/unprivileged /box
chmod 777 /box/out
exec unshare -m sh -c '
mount -t proc proc /box/proc
mount -t sysfs -o ro sysfs /box/sys
for folder in tracing debug; do
    mount -o bind /sys/kernel/$folder /box/sys/kernel/$folder
    mount -o bind,remount,ro /box/sys/kernel/$folder
done
chroot /box /unprivileged $0 /collapse report --format json --duration 5s' "$1"
