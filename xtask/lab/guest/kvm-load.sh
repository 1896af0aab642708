#!/bin/sh
# Loads kvm and what it needs, with the parameters that the lab was started with.
while read -r module parameters; do
    [ -d "/sys/module/$module" ] && continue
    insmod "/lab/modules/$module.ko" $parameters || exit 1
done </lab/kvm
