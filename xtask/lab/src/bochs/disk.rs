//! The disk that Bochs boots: a boot sector, and behind it the kernel and the initramfs.
//!
//! Bochs has no option for a kernel. Its BIOS runs the boot sector, which reads three pieces to where they
//! are to lie in memory, by Linux' x86 64-bit boot protocol, goes to long mode and enters the kernel:
//!
//! | address | piece |
//! |---|---|
//! | `0x0001_0000` | `boot_params`, the command line, page tables |
//! | `0x0100_0000` | the kernel proper, which needs no decompressor: half of a boot |
//! | `0x1800_0000` | the initramfs |

use anyhow::{Result, ensure};

use super::vmlinux::{KERNEL_AT, Vmlinux};

const BOOT_PARAMS_AT: u32 = 0x1_0000;
const CMDLINE_AT: u32 = 0x1_1000;
const PAGE_TABLES_AT: u32 = 0x1_3000;
/// The end of the page tables: one of each upper level, and four directories for the first 4 GiB.
const LOW_END: u32 = 0x1_9000;
const INITRAMFS_AT: u32 = 0x1800_0000;

const SECTOR: usize = 512;
/// Bytes that one command reads from the disk: 256 sectors.
const CHUNK: usize = 256 * SECTOR;
/// Bytes of a cylinder, in the geometry that Bochs guesses.
const CYLINDER: usize = 16 * 63 * SECTOR;

/// The place of the entry point in the boot sector; the list of pieces follows.
const ENTRY_PLACE: usize = 0x100;
/// The place of the partition table, which the BIOS wants to see.
const PARTITIONS_PLACE: usize = 446;

/// The boot sector's code, which the BIOS puts to 0x7c00.
#[rustfmt::skip]
const BOOT_CODE: &[&[u8]] = &[
    // In real mode: the A20 line on, and to protected mode with flat segments.
    &[0xfa],                                        //   cli
    &[0x31, 0xc0, 0x8e, 0xd8],                      //   ds = 0
    &[0xe4, 0x92, 0x0c, 2, 0x24, 0xfe, 0xe6, 0x92], //   port 0x92: bit 1 (A20) on, bit 0 (reset) off
    &[0x66, 0x0f, 0x01, 0x16, 0xe8, 0x7c],          //   lgdtl 0x7ce8
    &[0x0f, 0x20, 0xc0, 0x0c, 1, 0x0f, 0x22, 0xc0], //   cr0 |= PE
    &[0x66, 0xea, 0x23, 0x7c, 0, 0, 8, 0],          //   ljmpl 8:0x7c23
    &[0x66, 0xb8, 0x18, 0],                         //   ax = 0x18
    &[0x8e, 0xd8, 0x8e, 0xc0],                      //   ds = es = ax
    &[0x66, 0xba, 0xf6, 3, 0xb0, 2, 0xee],          //   port 0x3f6 = 2: the disk is to send no interrupts
    &[0xfc],                                        //   cld
    &[0xbd, 0x04, 0x7d, 0, 0],                      //   ebp = 0x7d04: the list of pieces
    // For each piece:
    &[0x8b, 0x75, 0],                               //   esi = its first sector
    &[0x8b, 0x5d, 4],                               //   ebx = its chunks
    &[0x8b, 0x7d, 8],                               //   edi = its address
    &[0x85, 0xdb, 0x74, 0x47],                      //   if there are none, that was all: 0x7c8c
    // For each chunk: number and LBA of sectors to the disk's ports 0x1f2 to 0x1f6, 0 meaning 256.
    &[0x66, 0xba, 0xf2, 1, 0x30, 0xc0, 0xee],       //   port 0x1f2 = 0
    &[0x89, 0xf0, 0x42, 0xee],                      //   port 0x1f3 = esi
    &[0x42, 0xc1, 0xe8, 8, 0xee],                   //   port 0x1f4 = esi >> 8
    &[0x42, 0xc1, 0xe8, 8, 0xee],                   //   port 0x1f5 = esi >> 16
    &[0x42, 0xb0, 0xe0, 0xee],                      //   port 0x1f6 = 0xe0: first drive, LBA
    &[0x42, 0xb0, 0x20, 0xee],                      //   port 0x1f7 = 0x20: read
    &[0xb4, 0],                                     //   ah = 0: 256 sectors
    // For each sector:
    &[0x66, 0xba, 0xf7, 1],                         //   dx = 0x1f7
    &[0xec, 0x24, 0x88, 0x3c, 8, 0x75, 0xf9],       //   wait until it has data and is not busy
    &[0x66, 0xba, 0xf0, 1],                         //   dx = 0x1f0
    &[0xb9, 128, 0, 0, 0, 0xf3, 0x6d],              //   128 words of 4 bytes to edi
    &[0xfe, 0xcc, 0x75, 0xe6],                      //   the next sector
    &[0x81, 0xc6, 0, 1, 0, 0],                      //   esi += 256
    &[0x4b, 0x75, 0xbe],                            //   the next chunk
    &[0x83, 0xc5, 12, 0xeb, 0xac],                  //   the next piece
    // To long mode, and into the kernel.
    &[0xb8, 0x20, 0, 0, 0, 0x0f, 0x22, 0xe0],       //   cr4 = PAE
    &[0xb8, 0, 0x30, 1, 0, 0x0f, 0x22, 0xd8],       //   cr3 = PAGE_TABLES_AT
    &[0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32],          //   rdmsr EFER
    &[0x80, 0xcc, 1, 0x0f, 0x30],                   //   LME on
    &[0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80],       //   eax = cr0 | PG
    &[0x0f, 0x22, 0xc0],                            //   cr0 = eax
    &[0xea, 0xba, 0x7c, 0, 0, 0x10, 0],             //   ljmpl 0x10:0x7cba
    &[0xbe, 0, 0, 1, 0],                            //   esi = BOOT_PARAMS_AT
    &[0x8b, 0x04, 0x25, 0, 0x7d, 0, 0],             //   eax = the entry point at 0x7d00
    &[0xff, 0xe0],                                  //   jmp *rax
    // At 0x7cc8, the segments: none, 32-bit code, 64-bit code, data.
    &[0; 8],
    &[0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0],
    &[0xff, 0xff, 0, 0, 0, 0x9a, 0xaf, 0],
    &[0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0],
    // At 0x7ce8, their size and place.
    &[31, 0, 0xc8, 0x7c, 0, 0],
];

/// Makes the image of a disk that boots a kernel on a machine with `memory` bytes of memory.
pub fn image(vmlinux: &Vmlinux, initramfs: &[u8], cmdline: &str, memory: u64) -> Result<Vec<u8>> {
    let kernel_end = KERNEL_AT as usize + vmlinux.memory.len();
    ensure!(kernel_end <= INITRAMFS_AT as usize, "the kernel is too large for this emulator");
    let initramfs_end = u64::from(INITRAMFS_AT) + initramfs.len() as u64;
    ensure!(
        initramfs_end < memory,
        "the machine needs more than {} MiB of memory",
        initramfs_end.div_ceil(1 << 20)
    );
    let low = low_memory(&vmlinux.setup_header, initramfs.len(), cmdline, memory)?;
    let pieces =
        [(BOOT_PARAMS_AT, &low[..]), (KERNEL_AT, &vmlinux.memory), (INITRAMFS_AT, initramfs)];
    let mut disk = BOOT_CODE.concat();
    disk.resize(ENTRY_PLACE, 0);
    disk.extend(vmlinux.entry.to_le_bytes());
    let mut at = SECTOR;
    for (address, piece) in pieces {
        let chunks = piece.len().div_ceil(CHUNK);
        for number in [at / SECTOR, chunks] {
            disk.extend(u32::try_from(number)?.to_le_bytes());
        }
        disk.extend(address.to_le_bytes());
        at += chunks * CHUNK;
    }
    disk.resize(PARTITIONS_PLACE, 0);
    // One active partition, without a type.
    disk.push(0x80);
    disk.resize(SECTOR - 2, 0);
    disk.extend([0x55, 0xaa]);
    for (_, piece) in pieces {
        disk.extend(piece);
        disk.resize(SECTOR + (disk.len() - SECTOR).next_multiple_of(CHUNK), 0);
    }
    disk.resize(disk.len().next_multiple_of(CYLINDER), 0);
    Ok(disk)
}

/// Memory from [`BOOT_PARAMS_AT`] on. Offsets in it are those of `struct boot_params`.
fn low_memory(header: &[u8], initramfs: usize, cmdline: &str, memory: u64) -> Result<Vec<u8>> {
    let mut low = vec![0; (LOW_END - BOOT_PARAMS_AT) as usize];
    let mut put = |at: u32, bytes: &[u8]| low[at as usize..][..bytes.len()].copy_from_slice(bytes);
    put(0x1f1, header);
    // type_of_loader (none that is registered) and loadflags (LOADED_HIGH).
    put(0x210, &[0xff, 1]);
    put(0x218, &INITRAMFS_AT.to_le_bytes());
    put(0x21c, &u32::try_from(initramfs)?.to_le_bytes());
    put(0x228, &CMDLINE_AT.to_le_bytes());
    let areas = memory_map(memory);
    put(0x1e8, &[areas.len() as u8]);
    for (at, (start, size, kind)) in (0x2d0..).step_by(20).zip(areas) {
        put(at, &start.to_le_bytes());
        put(at + 8, &size.to_le_bytes());
        put(at + 16, &kind.to_le_bytes());
    }
    let room = (PAGE_TABLES_AT - CMDLINE_AT) as usize;
    ensure!(cmdline.len() < room, "the kernel's command line is longer than {room} bytes");
    put(CMDLINE_AT - BOOT_PARAMS_AT, cmdline.as_bytes());
    // The first 4 GiB, mapped to themselves: a table, its only entry's table, and four directories of
    // 2 MiB pages.
    let tables = PAGE_TABLES_AT - BOOT_PARAMS_AT;
    let entry = |address: u32, flags: u64| (u64::from(address) | flags).to_le_bytes();
    put(tables, &entry(PAGE_TABLES_AT + 0x1000, 3));
    for directory in 0..4 {
        let address = PAGE_TABLES_AT + 0x2000 + directory * 0x1000;
        put(tables + 0x1000 + directory * 8, &entry(address, 3));
    }
    for page in 0..2048 {
        put(tables + 0x2000 + page * 8, &entry(page << 21, 0x83));
    }
    Ok(low)
}

/// The (start, size, type) areas of memory, as Bochs' BIOS describes them. 1 is memory, 2 is reserved, 3 has
/// the tables of ACPI.
fn memory_map(memory: u64) -> [(u64, u64, u32); 6] {
    const ACPI: u64 = 0x1_0000;
    [
        (0, 0x9_f000, 1),
        (0x9_f000, 0x1000, 2),
        (0xe_8000, 0x1_8000, 2),
        (0x10_0000, memory - 0x10_0000 - ACPI, 1),
        (memory - ACPI, ACPI, 3),
        (0xfffc_0000, 0x4_0000, 2),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_where_the_boot_sector_looks_for_it() {
        let vmlinux = Vmlinux {
            entry: 0x0123_4567,
            memory: vec![1; CHUNK + 1],
            setup_header: b"header".to_vec(),
        };
        let disk = image(&vmlinux, &[2; 10], "console=ttyS0", 1 << 30).unwrap();
        assert_eq!(disk.len() % CYLINDER, 0);
        assert_eq!(disk[510..512], [0x55, 0xaa]);
        assert_eq!(disk[ENTRY_PLACE..][..4], vmlinux.entry.to_le_bytes());
        let number = |at: usize| u32::from_le_bytes(disk[at..at + 4].try_into().unwrap());
        let listed = |n: usize| {
            let at = ENTRY_PLACE + 4 + n * 12;
            let first = number(at) as usize * SECTOR;
            (&disk[first..first + number(at + 4) as usize * CHUNK], number(at + 8))
        };
        let (low, at) = listed(0);
        assert_eq!((&low[0x1f1..0x1f7], at), (&b"header"[..], BOOT_PARAMS_AT));
        assert_eq!(low[0x1000..0x100e], *b"console=ttyS0\0");
        // The second entry of the first directory maps the second 2 MiB.
        assert_eq!(low[0x5008..0x5010], 0x20_0083_u64.to_le_bytes());
        let (kernel, at) = listed(1);
        assert_eq!((&kernel[..=CHUNK], at), (&*vmlinux.memory, KERNEL_AT));
        let (initramfs, at) = listed(2);
        assert_eq!((&initramfs[..11], at), (&[2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0][..], INITRAMFS_AT));
        assert_eq!(number(ENTRY_PLACE + 4 + 3 * 12 + 4), 0, "the list has no end");
    }

    #[test]
    fn jumps_and_addresses_in_the_boot_code_fit() {
        let code = BOOT_CODE.concat();
        assert!(code.len() <= ENTRY_PLACE);
        // The targets of the two far jumps begin as they should, and so does the list of segments.
        assert_eq!(code[0x23..0x27], [0x66, 0xb8, 0x18, 0]);
        assert_eq!(code[0xba..0xbf], [0xbe, 0, 0, 1, 0]);
        assert_eq!(code[0xc8..0xd2], [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        assert_eq!(code[0xe8], 31);
        assert_eq!(BOOT_PARAMS_AT.to_le_bytes(), code[0xbb..0xbf]);
        assert_eq!(PAGE_TABLES_AT.to_le_bytes(), code[0x95..0x99]);
    }

    #[test]
    fn too_little_memory_is_an_error() {
        let vmlinux = Vmlinux { entry: 0, memory: Vec::new(), setup_header: Vec::new() };
        let initramfs = vec![0; 1 << 20];
        assert!(image(&vmlinux, &initramfs, "", 385 << 20).is_err());
        assert!(image(&vmlinux, &initramfs, "", 386 << 20).is_ok());
        assert!(image(&vmlinux, &[], &"x".repeat(0x2000), 1 << 30).is_err());
    }
}
