//! The mappings of a VMM, from the text of `/proc/PID/smaps`. Pure, apart from reading lines.

use std::io::{self, BufRead};

/// A mapping of the VMM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Inode of the file behind it; 0 for none.
    pub inode: u64,
    /// Path of the file, or a name in brackets; empty for none.
    pub path: String,
    /// Memory that is present, bytes.
    pub present: u64,
    /// Of that, mapped huge.
    pub huge: u64,
    /// Size of the pages that it is made of, bytes.
    pub page_bytes: u64,
    /// `VmFlags`
    pub flags: Vec<String>,
}

impl Mapping {
    /// Whether a flag of two letters is set.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|set| set == flag)
    }

    /// Bytes that it has in common with a range of addresses.
    pub fn overlap(&self, start: u64, end: u64) -> u64 {
        self.end.min(end).saturating_sub(self.start.max(start))
    }
}

/// Reads the mappings that touch one of these ranges of addresses. Before each further one, `go_on` decides
/// whether there is time for it: the kernel goes through its page tables.
pub fn read(
    lines: impl BufRead,
    ranges: &[(u64, u64)],
    mut go_on: impl FnMut() -> bool,
) -> io::Result<Vec<Mapping>> {
    let mut mappings: Vec<Mapping> = Vec::new();
    let mut wanted = false;
    for line in lines.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(mapping) = head(&line) {
            if !go_on() {
                // The one before is complete.
                break;
            }
            wanted = ranges.iter().any(|(start, end)| mapping.overlap(*start, *end) > 0);
            if wanted {
                mappings.push(mapping);
            }
        } else if let (true, Some(mapping)) = (wanted, mappings.last_mut()) {
            detail(&line, mapping);
        }
    }
    Ok(mappings)
}

/// Parses the head of a mapping's entry: `START-END RIGHTS OFFSET DEVICE INODE PATH`.
fn head(line: &str) -> Option<Mapping> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let mut words = rest.split_ascii_whitespace().skip(3);
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        inode: words.next()?.parse().ok()?,
        path: words.collect::<Vec<_>>().join(" "),
        ..Mapping::default()
    })
}

fn detail(line: &str, mapping: &mut Mapping) {
    let Some((key, value)) = line.split_once(':') else { return };
    let bytes = || {
        let kib = value.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok());
        kib.unwrap_or_default().saturating_mul(1024)
    };
    match key {
        "Rss" => mapping.present = mapping.present.saturating_add(bytes()),
        "AnonHugePages" | "ShmemPmdMapped" | "FilePmdMapped" => {
            mapping.huge = mapping.huge.saturating_add(bytes());
        }
        // Not among the above.
        "Shared_Hugetlb" | "Private_Hugetlb" => {
            mapping.present = mapping.present.saturating_add(bytes());
            mapping.huge = mapping.huge.saturating_add(bytes());
        }
        "KernelPageSize" => mapping.page_bytes = bytes(),
        "VmFlags" => mapping.flags = value.split_whitespace().map(str::to_owned).collect(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
7f0000000000-7f0004000000 rw-p 00000000 00:00 0 
Size:              65536 kB
KernelPageSize:        4 kB
Rss:               65536 kB
AnonHugePages:      2048 kB
ShmemPmdMapped:        0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:       0 kB
THPeligible:           1
VmFlags: rd wr mr mw me nr sd hg 
7f1000000000-7f1000400000 rw-s 00000000 00:0f 1234 /memfd:guest memory (deleted)
KernelPageSize:     2048 kB
Rss:                   0 kB
Shared_Hugetlb:     4096 kB
VmFlags: rd wr sh mr mw me ms de ht sd um 
7f2000000000-7f2000001000 r--p 00000000 fe:00 7 /lib/ld.so
Rss:                   4 kB
VmFlags: rd mr mw me 
";

    fn all() -> Vec<(u64, u64)> {
        vec![(0, u64::MAX)]
    }

    #[test]
    fn mappings_are_read_with_what_decides_on_them() {
        let mappings = read(SMAPS.as_bytes(), &all(), || true).unwrap();
        let [anonymous, hugetlb, file] = &mappings[..] else { panic!("{mappings:?}") };
        assert_eq!((anonymous.present, anonymous.huge, anonymous.inode), (64 << 20, 2 << 20, 0));
        assert!(anonymous.has("hg") && !anonymous.has("nh"));
        assert_eq!(
            (hugetlb.present, hugetlb.huge, hugetlb.page_bytes),
            (4 << 20, 4 << 20, 2 << 20)
        );
        assert_eq!(hugetlb.path, "/memfd:guest memory (deleted)");
        assert!(hugetlb.has("ht") && hugetlb.has("um"));
        assert_eq!((file.inode, file.page_bytes), (7, 0));
    }

    #[test]
    fn only_what_is_asked_for_is_read_and_as_long_as_there_is_time() {
        let slot = vec![(0x7f10_0010_0000, 0x7f10_0020_0000)];
        assert_eq!(read(SMAPS.as_bytes(), &slot, || true).unwrap().len(), 1);
        let mut times = 2;
        let stop = || {
            times -= 1;
            times >= 0
        };
        let read = read(SMAPS.as_bytes(), &all(), stop).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].page_bytes, 2 << 20, "what was read is complete");
    }

    #[test]
    fn ranges_overlap_by_bytes() {
        let mapping = Mapping { start: 100, end: 200, ..Mapping::default() };
        let cases =
            [((0, 100), 0), ((0, 150), 50), ((120, 130), 10), ((150, 999), 50), ((0, 999), 100)];
        for ((start, end), bytes) in cases {
            assert_eq!(mapping.overlap(start, end), bytes, "{start} {end}");
        }
    }
}
