//! eBPF arrays as memory: reading them costs no system call, and keeps no program from running.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::{self, NonNull},
};

use aya::{
    Pod,
    maps::{Map, MapData},
};

/// An array map of the kernel side with `BPF_F_MMAPABLE`, mapped.
pub struct Mapped<T> {
    words: NonNull<u64>,
    bytes: usize,
    len: usize,
    /// Keeps the map alive.
    _map: MapData,
    _type: PhantomData<T>,
}

impl<T: Pod> Mapped<T> {
    /// Words of one value: the kernel pads values to whole ones.
    const WORDS: usize = size_of::<T>().div_ceil(8);

    /// Maps the first `len` values. Fails if the map is no array, is smaller, or was made without
    /// `BPF_F_MMAPABLE`.
    pub fn new(map: Map, len: usize) -> io::Result<Self> {
        let Map::Array(map) = map else {
            return Err(io::Error::other("not an array"));
        };
        let bytes = len * Self::WORDS * 8;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = map.fd().as_fd().as_raw_fd();
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let address =
            unsafe { libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { words, bytes, len, _map: map, _type: PhantomData })
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Reads the value at a position below [`Self::len`], word by word in the order of memory, while the
    /// kernel side may be writing it.
    pub fn read(&self, at: usize) -> T {
        self.read_part(at, 0)
    }

    /// Reads the part of a value that begins at a byte offset, which must be a multiple of 8.
    pub fn read_part<P: Pod>(&self, at: usize, offset: usize) -> P {
        assert!(offset.is_multiple_of(8) && offset + size_of::<P>() <= size_of::<T>());
        // SAFETY: all zero bytes are a valid `Pod`.
        let mut part = unsafe { std::mem::zeroed::<P>() };
        let into = (&raw mut part).cast::<u64>();
        for word in 0..size_of::<P>() / 8 {
            // SAFETY: both sides are inside their values. Volatile, as the kernel side writes it.
            unsafe {
                let from = self.place(at).add(offset / 8 + word);
                into.add(word).write_unaligned(from.read_volatile());
            }
        }
        part
    }

    /// Reads the bytes that a value begins with, at most as many as it has.
    pub fn read_bytes(&self, at: usize, into: &mut [u8]) {
        assert!(into.len() <= size_of::<T>());
        let from = self.place(at);
        for (word, part) in into.chunks_mut(8).enumerate() {
            // SAFETY: inside the value. Volatile, as the kernel side writes it.
            let bytes = unsafe { from.add(word).read_volatile() }.to_ne_bytes();
            part.copy_from_slice(&bytes[..part.len()]);
        }
    }

    /// Replaces the value at a position below [`Self::len`], which nobody else writes.
    pub fn write(&mut self, at: usize, value: &T) {
        let from = ptr::from_ref(value).cast::<u64>();
        for word in 0..size_of::<T>() / 8 {
            // SAFETY: as in `read`.
            unsafe { self.place(at).add(word).write_volatile(from.add(word).read_unaligned()) };
        }
    }

    fn place(&self, at: usize) -> *mut u64 {
        assert!(at < self.len, "{at} of {} values", self.len);
        const { assert!(size_of::<T>().is_multiple_of(8), "values are whole words") };
        // SAFETY: inside the mapping, as checked.
        unsafe { self.words.as_ptr().add(at * Self::WORDS) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it any more.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.bytes) };
    }
}
