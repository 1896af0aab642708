//! What the host has mapped of a range of a process, by `PAGEMAP_SCAN` (6.7 and later). No page is faulted in.

use std::{fs::File, io, os::fd::AsRawFd as _};

use collapse_report::explain::HostMemory;

/// `PAGE_IS_PRESENT`
const PRESENT: u64 = 1 << 3;
/// `PAGE_IS_HUGE`: mapped by a huge entry; a huge page that is mapped by single pages is not.
const HUGE: u64 = 1 << 6;

/// `_IOWR('f', 16, struct pm_scan_arg)`
const PAGEMAP_SCAN: libc::c_ulong = (3 << 30)
    | ((size_of::<ScanArg>() as libc::c_ulong) << 16)
    | ((b'f' as libc::c_ulong) << 8)
    | 16;

/// Addresses that one call goes through at most, bytes: so that it can be ended in time.
const STEP: u64 = 4 << 30;

/// Regions that one call returns at most.
const REGIONS: usize = 512;

/// `struct pm_scan_arg`
#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// Adds up what is present in a range of addresses of the process whose `/proc/PID/pagemap` this is. `go_on` decides
/// before each part whether there is time for it.
///
/// # Errors
///
/// Where the kernel has no such call, or time ran out.
pub fn scan(
    pagemap: &File,
    (start, end): (u64, u64),
    mut go_on: impl FnMut() -> bool,
) -> io::Result<HostMemory> {
    let mut regions = [PageRegion::default(); REGIONS];
    let (mut memory, mut at) = (HostMemory::default(), start);
    while at < end {
        if !go_on() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start: at,
            end: end.min(at.saturating_add(STEP)),
            vec: regions.as_mut_ptr() as u64,
            vec_len: REGIONS as u64,
            category_mask: PRESENT,
            return_mask: PRESENT | HUGE,
            ..ScanArg::default()
        };
        // SAFETY: the struct is the call's, and it has room for as many regions as it says.
        let found = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        let found = usize::try_from(found).map_err(|_| io::Error::last_os_error())?;
        for region in regions.iter().take(found) {
            let bytes = region.end.saturating_sub(region.start);
            memory.present = memory.present.saturating_add(bytes);
            if region.categories & HUGE != 0 {
                memory.huge = memory.huge.saturating_add(bytes);
            }
        }
        if arg.walk_end <= at {
            return Err(io::ErrorKind::InvalidData.into());
        }
        at = arg.walk_end;
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On ourselves, where the kernel can do that.
    #[test]
    fn touched_pages_are_present() {
        let memory = vec![1_u8; 1 << 20];
        let start = (memory.as_ptr() as u64).next_multiple_of(4096);
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        match scan(&pagemap, (start, start + (1 << 19)), || true) {
            Ok(found) => assert_eq!(found.present, 1 << 19),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOTTY), "{error}"),
        }
        let late = scan(&pagemap, (start, start + 4096), || false);
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
