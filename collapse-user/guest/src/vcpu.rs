//! A vCPU and the thread that runs it.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::thread::JoinHandleExt as _;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use kvm_bindings::KVM_EXIT_DIRTY_RING_FULL;
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::code::{self, Walk};
use crate::kind::Access;
use crate::ring::DirtyRing;
use crate::stop;
use crate::units::PAGE;

/// An order to a vCPU: one or more walks.
pub struct VcpuOrder {
    /// Kind of access.
    pub access: Access,
    /// Walks to carry out, one after another.
    pub walks: Vec<Walk>,
    /// Accesses per second; `None` for no limit.
    pub rate: Option<u64>,
    /// Whether the walks are repeated until the order is stopped.
    pub endless: bool,
}

impl VcpuOrder {
    /// Orders one access to every page of a range of guest addresses.
    pub fn every_page(base: u64, size: u64, access: Access) -> Self {
        let places = size / PAGE;
        let walk = Walk { base, stride: PAGE, places, count: places, seed: None };
        Self { access, walks: vec![walk], rate: None, endless: false }
    }
}

/// The result of an order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Accesses made.
    pub accesses: u64,
    /// Number of times that all walks were completed.
    pub passes: u64,
}

/// A vCPU on its own thread.
pub struct Vcpu {
    index: usize,
    orders: Option<Sender<VcpuOrder>>,
    results: Receiver<Result<Done>>,
    shared: Arc<Shared>,
    busy: bool,
    thread: Option<JoinHandle<()>>,
    ring: Option<Arc<DirtyRing>>,
    /// The vCPU's descriptor, which its thread owns.
    fd: RawFd,
}

/// State that the vCPU's thread and its owner share while an order is carried out.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wish: Wish,
    stage: Stage,
}

/// The owner's request for an order that is being carried out.
#[derive(Clone, Copy, Default, PartialEq)]
enum Wish {
    #[default]
    GoOn,
    Pause,
    Stop,
}

/// The progress of the thread with its order.
#[derive(Clone, Copy, Default, PartialEq)]
enum Stage {
    #[default]
    Waiting,
    Running,
    Resting,
    Ended,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait_while(&self, condition: impl Fn(&State) -> bool) {
        // A signal handler cannot notify, so its request is polled.
        const LOOK_AGAIN: Duration = Duration::from_millis(50);
        let mut state = self.lock();
        while condition(&state) && !stop::requested() {
            state = match self.changed.wait_timeout(state, LOOK_AGAIN) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Waits while the order is paused. Called between two chunks; returns false if the order is to
    /// end.
    fn go_on(&self) -> bool {
        self.rest();
        self.lock().wish != Wish::Stop && !stop::requested()
    }

    /// Waits while the order is paused.
    fn rest(&self) {
        if self.lock().wish == Wish::Pause {
            self.update(|state| state.stage = Stage::Resting);
            self.wait_while(|state| state.wish == Wish::Pause);
            self.update(|state| state.stage = Stage::Running);
        }
    }

    fn has_begun(&self) {
        if self.lock().stage == Stage::Waiting {
            self.update(|state| state.stage = Stage::Running);
        }
    }
}

impl Vcpu {
    /// Starts a thread for a vCPU.
    pub fn spawn(index: usize, mut fd: VcpuFd, ring: Option<Arc<DirtyRing>>) -> Result<Self> {
        let raw_fd = fd.as_raw_fd();
        let own_ring = ring.clone();
        let (orders, inbox) = mpsc::channel::<VcpuOrder>();
        let (outbox, results) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        // QEMU names its vCPU threads like this, and users look for that.
        let thread = thread::Builder::new()
            .name(format!("CPU {index}/KVM"))
            .spawn(move || {
                for order in inbox {
                    let outcome = carry_out(&mut fd, &order, &seen, own_ring.as_deref());
                    seen.update(|state| state.stage = Stage::Ended);
                    if outbox.send(outcome).is_err() {
                        return;
                    }
                }
            })
            .context("cannot start a vCPU thread")?;
        let thread = Some(thread);
        let orders = Some(orders);
        Ok(Self { index, orders, results, shared, busy: false, thread, ring, fd: raw_fd })
    }

    /// Returns its dirty ring, if it has one.
    pub fn ring(&self) -> Option<&DirtyRing> {
        self.ring.as_deref()
    }

    /// Makes KVM map guest memory in advance, without running the vCPU, which must be at rest.
    pub fn pre_fault(&self, address: u64, size: u64) -> Result<()> {
        /// `struct kvm_pre_fault_memory`
        #[repr(C)]
        struct PreFault {
            gpa: u64,
            size: u64,
            flags: u64,
            padding: [u64; 5],
        }
        /// `_IOWR(0xAE, 0xD5, struct kvm_pre_fault_memory)`
        const KVM_PRE_FAULT_MEMORY: libc::c_ulong =
            (3 << 30) | ((size_of::<PreFault>() as libc::c_ulong) << 16) | (0xae << 8) | 0xd5;
        let mut range = PreFault { gpa: address, size, flags: 0, padding: [0; 5] };
        while range.size > 0 {
            // SAFETY: the descriptor is open as long as the thread; KVM writes to the range only.
            let done = unsafe { libc::ioctl(self.fd, KVM_PRE_FAULT_MEMORY, &raw mut range) };
            let error = io::Error::last_os_error();
            if done < 0 && !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) {
                return Err(error).context("KVM_PRE_FAULT_MEMORY (6.11 and later)");
            }
        }
        Ok(())
    }

    /// Begins an order. An endless one has made its first accesses when this returns.
    pub fn begin(&mut self, order: VcpuOrder) -> Result<()> {
        let endless = order.endless;
        *self.shared.lock() = State::default();
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        ensure!(sent, "vCPU {} has ended", self.index);
        self.busy = true;
        if endless {
            self.shared.wait_while(|state| state.stage == Stage::Waiting);
        }
        Ok(())
    }

    /// Waits for the order that was begun.
    pub fn finish(&mut self) -> Result<Done> {
        self.busy = false;
        let outcome = self.results.recv().map_err(|_| anyhow!("its thread ended"));
        outcome.and_then(|done| done).with_context(|| format!("vCPU {}", self.index))
    }

    /// Ends the current order, and returns its result; `None` if there is none.
    pub fn stop(&mut self) -> Option<Result<Done>> {
        self.shared.update(|state| state.wish = Wish::Stop);
        self.busy.then(|| self.finish())
    }

    /// Pauses the current order. The vCPU is at rest when this returns: like other VMMs, a signal takes it out
    /// of its guest, wherever it is.
    pub fn pause(&mut self) {
        if self.busy {
            self.shared.update(|state| state.wish = Wish::Pause);
            if let Some(thread) = &self.thread {
                kick(thread);
            }
            self.shared.wait_while(|state| state.stage == Stage::Running);
        }
    }

    /// Resumes a paused order.
    pub fn resume(&mut self) {
        self.shared.update(|state| state.wish = Wish::GoOn);
    }

    /// Returns whether an order is being carried out.
    pub fn busy(&self) -> bool {
        self.busy
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.shared.update(|state| state.wish = Wish::Stop);
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

/// Interrupts `KVM_RUN` of a thread.
fn kick(thread: &JoinHandle<()>) {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing, and without SA_RESTART the call is interrupted; the thread has not
    // been joined.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as libc::sighandler_t;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
        libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1);
    }
}

fn carry_out(
    fd: &mut VcpuFd,
    order: &VcpuOrder,
    shared: &Shared,
    ring: Option<&DirtyRing>,
) -> Result<Done> {
    let mut done = Done::default();
    let pace = Pace::new(order.rate);
    loop {
        for walk in &order.walks {
            let mut regs = walk.registers(order.access);
            let mut left = walk.count;
            while left > 0 {
                if !shared.go_on() {
                    return Ok(done);
                }
                let chunk = pace.chunk().min(left);
                code::go_on(&mut regs, order.access, chunk);
                fd.set_regs(&regs).context("KVM_SET_REGS")?;
                run_to_halt(fd, ring, shared)?;
                regs = fd.get_regs().context("KVM_GET_REGS")?;
                left -= chunk;
                done.accesses += chunk;
                pace.wait(done.accesses);
                shared.has_begun();
            }
        }
        done.passes += 1;
        if !order.endless {
            return Ok(done);
        }
    }
}

fn run_to_halt(fd: &mut VcpuFd, ring: Option<&DirtyRing>, shared: &Shared) -> Result<()> {
    loop {
        match fd.run() {
            Ok(VcpuExit::Unsupported(KVM_EXIT_DIRTY_RING_FULL)) => {
                // As QEMU does, in the vCPU's own thread.
                let ring = ring.context("a full dirty ring, but no ring")?;
                ring.read();
                ring.reset()?;
            }
            Ok(VcpuExit::Hlt) => return Ok(()),
            Ok(VcpuExit::Intr) => {}
            Ok(VcpuExit::MmioWrite(address, _) | VcpuExit::MmioRead(address, _)) => {
                bail!("the guest accessed {address:#x}, where there is no slot")
            }
            Ok(VcpuExit::Shutdown) => bail!("the guest's code failed (triple fault)"),
            Ok(other) => bail!("the guest stopped for an unexpected reason: {other:?}"),
            Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => {
                shared.rest();
            }
            Err(error) if error.errno() == libc::EFAULT => {
                bail!("the guest accessed memory that the host does not let it have (EFAULT)")
            }
            Err(error) => return Err(error).context("KVM_RUN"),
        }
    }
}

/// Keeps accesses to a rate.
struct Pace {
    rate: Option<u64>,
    start: Instant,
}

impl Pace {
    /// Chunks per second of a limited order: fine enough to look steady, coarse enough to be cheap.
    const CHUNKS_PER_SECOND: u64 = 50;
    /// Accesses between two safe points of an unlimited order.
    const CHUNK: u64 = 1 << 12;

    fn new(rate: Option<u64>) -> Self {
        Self { rate, start: Instant::now() }
    }

    fn chunk(&self) -> u64 {
        self.rate.map_or(Self::CHUNK, |rate| rate.div_ceil(Self::CHUNKS_PER_SECOND))
    }

    fn wait(&self, accesses: u64) {
        let Some(rate) = self.rate else { return };
        let due = self.start + Duration::from_secs_f64(accesses as f64 / rate as f64);
        stop::sleep(due.saturating_duration_since(Instant::now()));
    }
}
