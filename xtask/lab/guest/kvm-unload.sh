#!/bin/sh
# Unloads kvm_amd and kvm, so that tests can see a machine without KVM.
rmmod kvm_amd && rmmod kvm
