#!/bin/sh
# Unloads KVM, so that tests can see a machine without it.
. /lab/vendor
rmmod "$VENDOR_MODULE" && rmmod kvm
