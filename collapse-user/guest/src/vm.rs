//! A VM: its slots, its vCPUs, and KVM's ioctls on them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use kvm_bindings::{
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_MAX_CPUID_ENTRIES, KVM_MEM_GUEST_MEMFD,
    KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_clear_dirty_log,
    kvm_clear_dirty_log__bindgen_ty_1, kvm_enable_cap, kvm_userspace_memory_region,
    kvm_userspace_memory_region2,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use crate::code;
use crate::file;
use crate::gauges::Gauges;
use crate::kind::{Access, Backing, LogProtect};
use crate::memory::Memory;
use crate::ring::{self, DirtyRing};
use crate::units::{GIB, PAGE};
use crate::vcpu::{Vcpu, VcpuOrder};

/// Opens `/dev/kvm`.
pub fn open_kvm() -> Result<Kvm> {
    Kvm::new().map_err(|error| match error.errno() {
        libc::ENOENT => anyhow!("there is no /dev/kvm: load kvm_amd or kvm_intel"),
        libc::EACCES | libc::EPERM => anyhow!("not permitted to open /dev/kvm"),
        _ => anyhow!(error).context("cannot open /dev/kvm"),
    })
}

/// Id of the slot with the guest's code and page tables; the others hold data.
pub const LOW_SLOT: u32 = 0;
/// Pages per word of a dirty bitmap, to which ranges of `KVM_CLEAR_DIRTY_LOG` are aligned.
pub const CLEAR_RASTER: u64 = 64;

/// A VM with slots of memory and running vCPUs.
pub struct GuestVm {
    // Fields are dropped in order: nothing may run in the guest or map its memory once the memory is
    // unmapped.
    /// vCPUs, by number.
    pub vcpus: Vec<Vcpu>,
    fd: VmFd,
    slots: BTreeMap<u32, GuestSlot>,
    tid: i32,
    free_address: u64,
}

/// A memslot and its host memory, which is kept when the slot is removed from the guest.
pub struct GuestSlot {
    /// Guest-physical address.
    pub address: u64,
    /// Host memory behind the slot.
    pub memory: Memory,
    /// Whether the slot is present in the guest.
    pub present: bool,
    /// Whether dirty logging is on, and whether the guest may only read.
    pub mode: SlotMode,
    /// Bitmap of the last harvest of the dirty log, if it is still valid.
    pub dirty: Option<Vec<u64>>,
}

/// How the guest may use a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotMode {
    /// Dirty logging is on.
    pub logged: bool,
    /// Writes leave to the VMM.
    pub read_only: bool,
}

impl GuestVm {
    /// Creates a VM without data slots.
    pub fn new(kvm: &Kvm, vcpus: usize, protect: LogProtect) -> Result<Self> {
        let fd = kvm.create_vm().context("KVM_CREATE_VM")?;
        protect_log(&fd, protect)?;
        // SAFETY: the call has no preconditions.
        let tid = unsafe { libc::gettid() };
        let mut vm = Self { vcpus: Vec::new(), fd, slots: BTreeMap::new(), tid, free_address: GIB };
        let low = Memory::new(code::LOW_SIZE, Backing::Small)?;
        code::load(&low)?;
        vm.insert(LOW_SLOT, 0, low, SlotMode::default())?;
        for number in 0..vcpus {
            let vcpu = new_vcpu(kvm, &vm.fd, number)?;
            let ring = match protect {
                LogProtect::Ring => Some(Arc::new(DirtyRing::of(&vcpu, &vm.fd)?)),
                _ => None,
            };
            vm.vcpus.push(Vcpu::spawn(number, vcpu, ring)?);
        }
        Ok(vm)
    }

    /// Returns the source of KVM's counts for this VM.
    pub fn gauges(&self) -> Gauges {
        Gauges::of(self.tid, self.fd.as_raw_fd())
    }

    /// Returns the thread id of the creator and the file descriptor, which KVM names the VM by in
    /// debugfs.
    pub fn name_in_debugfs(&self) -> (i32, i32) {
        (self.tid, self.fd.as_raw_fd())
    }

    /// Returns all slots, present or removed, with their ids.
    pub fn slots(&self) -> impl Iterator<Item = (u32, &GuestSlot)> {
        self.slots.iter().map(|(id, slot)| (*id, slot))
    }

    /// Returns the slot with this id, present or removed.
    pub fn slot(&self, id: u32) -> Result<&GuestSlot> {
        self.slots.get(&id).with_context(|| format!("there is no slot {id}"))
    }

    /// Returns whether a slot with this id is or was present.
    pub fn knows_slot(&self, id: u32) -> bool {
        self.slots.contains_key(&id)
    }

    /// Returns the slots that are present in the guest.
    pub fn present_slots(&self) -> impl Iterator<Item = &GuestSlot> {
        self.slots.values().filter(|slot| slot.present)
    }

    /// Adds a slot with new memory, at the next free GiB, in this mode from its first moment.
    pub fn add_slot(&mut self, id: u32, size: u64, backing: Backing, mode: SlotMode) -> Result<()> {
        ensure!(!self.knows_slot(id), "there is a slot {id} already");
        let memory = match backing {
            Backing::GuestMemfd => file::of_guest(&self.fd, size)
                .and_then(|file| Memory::of_file(size, backing, Some(file))),
            _ => Memory::new(size, backing),
        };
        let memory = memory.with_context(|| format!("memory of slot {id}"))?;
        // Sparse memory may go on where the guest cannot reach it.
        let reach = match backing {
            Backing::Sparse => size.min(code::ADDRESS_LIMIT.saturating_sub(self.free_address)),
            _ => size,
        };
        let address = self.reserve(self.free_address, reach)?;
        self.insert(id, address, memory, mode)
    }

    /// Adds a removed slot again, in this mode from its first moment.
    pub fn restore_slot(&mut self, id: u32, mode: SlotMode) -> Result<()> {
        self.change(id, |slot| (slot.present, slot.mode) = (true, mode))
    }

    /// Registers the memory of a slot with userfaultfd.
    pub fn register_userfaultfd(&mut self, id: u32) -> Result<()> {
        let slot = self.slots.get_mut(&id).with_context(|| format!("there is no slot {id}"))?;
        slot.memory.register_userfaultfd()
    }

    /// Removes a slot from the guest.
    pub fn delete_slot(&mut self, id: u32) -> Result<()> {
        self.change(id, |slot| {
            (slot.present, slot.mode.logged) = (false, false);
            slot.dirty = None;
        })
    }

    /// Moves a slot to `address`, or else to the next free GiB. Returns the new address.
    pub fn move_slot(&mut self, id: u32, address: Option<u64>) -> Result<u64> {
        let size = self.slot(id)?.memory.size();
        let address = self.reserve(address.unwrap_or(self.free_address), size)?;
        self.change(id, |slot| slot.address = address)?;
        Ok(address)
    }

    /// Makes the first vCPU access every page of a slot once.
    pub fn touch(&mut self, id: u32, access: Access) -> Result<()> {
        let slot = self.slot(id)?;
        let order = VcpuOrder::every_page(slot.address, slot.memory.size(), access);
        let vcpu = self.vcpus.first_mut().context("the VM has no vCPU")?;
        vcpu.begin(order)?;
        vcpu.finish().map(drop)
    }

    /// Switches the dirty logging of a slot.
    pub fn log(&mut self, id: u32, on: bool) -> Result<()> {
        self.change(id, |slot| {
            slot.mode.logged = on;
            slot.dirty = None;
        })
    }

    /// Harvests the dirty log of a slot. Returns the number of dirty pages.
    pub fn harvest(&mut self, id: u32) -> Result<u64> {
        if let Some(dirty) = self.harvest_rings()? {
            return Ok(dirty);
        }
        let size = self.slot(id)?.memory.size() as usize;
        let bitmap = self.fd.get_dirty_log(id, size).context("KVM_GET_DIRTY_LOG")?;
        let dirty = ones(&bitmap);
        self.change_quietly(id, |slot| slot.dirty = Some(bitmap))?;
        Ok(dirty)
    }

    /// Reads the dirty rings of all vCPUs and resets them; `None` if there are none. Returns the number of
    /// pages, in whatever slot.
    fn harvest_rings(&self) -> Result<Option<u64>> {
        let rings: Vec<_> = self.vcpus.iter().filter_map(Vcpu::ring).collect();
        let read = rings.iter().map(|ring| ring.read()).sum();
        let Some(ring) = rings.first() else { return Ok(None) };
        ring.reset()?;
        Ok(Some(read))
    }

    /// Makes KVM map the memory of a slot in advance, by a vCPU that does not run (6.11 and later).
    pub fn pre_fault(&self, id: u32) -> Result<()> {
        let slot = self.slot(id)?;
        let vcpu = self.vcpus.first().context("there is no vCPU")?;
        vcpu.pre_fault(slot.address, slot.memory.size())
    }

    /// Clears the dirty pages of the last harvest, `step` pages per call. Returns the numbers of
    /// pages and of calls.
    pub fn clear(&self, id: u32, step: Option<u64>) -> Result<(u64, u64)> {
        let slot = self.slot(id)?;
        let pages = slot.memory.size() / PAGE;
        let step = step.unwrap_or(pages.next_multiple_of(CLEAR_RASTER));
        let Some(bitmap) = &slot.dirty else { bail!("slot {id} has no harvest to clear") };
        let mut calls = 0;
        for (words, first) in
            bitmap.chunks((step / CLEAR_RASTER) as usize).zip((0..pages).step_by(step as usize))
        {
            let range = kvm_clear_dirty_log {
                slot: id,
                num_pages: step.min(pages - first) as u32,
                first_page: first,
                __bindgen_anon_1: kvm_clear_dirty_log__bindgen_ty_1 {
                    dirty_bitmap: words.as_ptr().cast_mut().cast(),
                },
            };
            clear_dirty_log(&self.fd, &range)?;
            calls += 1;
        }
        Ok((ones(bitmap), calls))
    }

    /// Reserves guest addresses for a slot, and maps them in the guest's page tables.
    fn reserve(&mut self, address: u64, size: u64) -> Result<u64> {
        code::map(&self.slot(LOW_SLOT)?.memory, address, size)?;
        self.free_address = self.free_address.max((address + size).next_multiple_of(GIB));
        Ok(address)
    }

    fn insert(&mut self, id: u32, address: u64, memory: Memory, mode: SlotMode) -> Result<()> {
        let slot = GuestSlot { address, memory, present: false, mode, dirty: None };
        self.slots.insert(id, slot);
        self.restore_slot(id, mode)
    }

    /// Changes a slot, and updates it in KVM.
    fn change(&mut self, id: u32, change: impl FnOnce(&mut GuestSlot)) -> Result<()> {
        self.change_quietly(id, change)?;
        let slot = self.slot(id)?;
        let SlotMode { logged, read_only } = slot.mode;
        let logged = if logged { KVM_MEM_LOG_DIRTY_PAGES } else { 0 };
        let read_only = if read_only { KVM_MEM_READONLY } else { 0 };
        let region = kvm_userspace_memory_region {
            slot: id,
            flags: logged | read_only,
            guest_phys_addr: slot.address,
            memory_size: if slot.present { slot.memory.size() } else { 0 },
            userspace_addr: slot.memory.address(),
        };
        let set = match slot.memory.guest_memfd() {
            // SAFETY: the memory lives as long as the slot, which ends after the VM.
            None => unsafe { self.fd.set_user_memory_region(region) },
            Some(file) => {
                let region = kvm_userspace_memory_region2 {
                    slot: id,
                    flags: region.flags | KVM_MEM_GUEST_MEMFD,
                    guest_phys_addr: region.guest_phys_addr,
                    memory_size: region.memory_size,
                    userspace_addr: region.userspace_addr,
                    guest_memfd: file.as_raw_fd() as u32,
                    ..Default::default()
                };
                // SAFETY: as above.
                unsafe { self.fd.set_user_memory_region2(region) }
            }
        };
        set.with_context(|| format!("KVM_SET_USER_MEMORY_REGION for slot {id}"))
    }

    /// Changes a slot without updating it in KVM.
    fn change_quietly(&mut self, id: u32, change: impl FnOnce(&mut GuestSlot)) -> Result<()> {
        let slot = self.slots.get_mut(&id).with_context(|| format!("there is no slot {id}"))?;
        change(slot);
        Ok(())
    }
}

fn ones(bitmap: &[u64]) -> u64 {
    bitmap.iter().map(|word| u64::from(word.count_ones())).sum()
}

fn protect_log(fd: &VmFd, protect: LogProtect) -> Result<()> {
    let bits = match protect {
        LogProtect::Off => return Ok(()),
        LogProtect::Ring => return ring::enable(fd),
        LogProtect::Manual => 1,
        LogProtect::InitiallySet => 3,
    };
    let mut cap = kvm_enable_cap { cap: KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, ..Default::default() };
    cap.args[0] = bits;
    fd.enable_cap(&cap).context("KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2")
}

fn new_vcpu(kvm: &Kvm, vm: &VmFd, number: usize) -> Result<VcpuFd> {
    let vcpu = vm.create_vcpu(number as u64).context("KVM_CREATE_VCPU")?;
    let cpuid =
        kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).context("KVM_GET_SUPPORTED_CPUID")?;
    // New kernels check EFER and CR4 against the guest's CPUID, so it must come first.
    vcpu.set_cpuid2(&cpuid).context("KVM_SET_CPUID2")?;
    let mut sregs = vcpu.get_sregs().context("KVM_GET_SREGS")?;
    code::enter_long_mode(&mut sregs);
    vcpu.set_sregs(&sregs).context("KVM_SET_SREGS")?;
    Ok(vcpu)
}

fn clear_dirty_log(vm: &VmFd, range: &kvm_clear_dirty_log) -> Result<()> {
    // _IOWR(0xAE, 0xC0, struct kvm_clear_dirty_log), which kvm-ioctls does not wrap.
    const REQUEST: libc::c_ulong = (3 << 30)
        | ((size_of::<kvm_clear_dirty_log>() as libc::c_ulong) << 16)
        | (0xae << 8)
        | 0xc0;
    // SAFETY: KVM reads the bitmap only for the range's pages, all of which it has words for.
    match unsafe { libc::ioctl(vm.as_raw_fd(), REQUEST, std::ptr::from_ref(range)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).context("KVM_CLEAR_DIRTY_LOG"),
    }
}
