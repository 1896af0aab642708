#!/bin/sh
# PID 1 of a guest of QEMU in the lab. Words of the kernel's command line are its variables: write=N fills
# N MiB of memory, and again=N writes them again and again, every N ms.
export PATH=/bin
/bin/busybox --install -s /bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do
    insmod "/modules/$module.ko" || echo "guest: module $module does not load"
done </modules/order
mount -t tmpfs -o size=100%,huge=always tmpfs /memory

fill() {
    dd if=/dev/zero of=/memory/file bs=1M count="${write:-32}" conv=notrunc 2>/dev/null
}

fill
echo "guest: ready"
while [ -n "$again" ]; do
    fill
    usleep $((again * 1000))
done
rm /memory/file
echo "guest: idle"
while :; do sleep 1000; done
