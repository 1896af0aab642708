//! Facts shared by the kernel and user side of `collapse`.
#![no_std]
