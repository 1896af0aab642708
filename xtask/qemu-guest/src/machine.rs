//! QEMU's process, its guest's console, and the connection for QMP.

use std::{
    io::{BufRead, BufReader},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{Options, qmp::Qmp};

/// Time for the guest to say something. Its boot takes some 20 s where KVM runs in an emulation.
const GUEST_LIMIT: Duration = Duration::from_mins(3);

/// Words of the guest's command line that save it time, and `noxsave`: what an emulated CPU saves by XSAVE differs
/// in size for guests of its guests, of which 7.3 dies.
const CMDLINE: &str = "console=ttyS0 rdinit=/init quiet panic=-1 no_timer_check nokaslr mitigations=off \
     tsc=reliable nowatchdog audit=0 apparmor=0 random.trust_cpu=on cryptomgr.notests=1 noxsave";

/// A running QEMU; dropping it ends it.
pub struct Machine {
    qemu: Child,
    console: Receiver<String>,
    /// The connection for QMP.
    pub qmp: Qmp,
}

impl Machine {
    /// Starts QEMU and greets it.
    pub fn start(options: &Options) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("making a connection for QMP")?;
        let ring = options.dirty_ring.map(|entries| format!(",dirty-ring-size={entries}"));
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-L", "/lab", "-cpu", "host"])
            .args(["-accel", &format!("kvm{}", ring.unwrap_or_default())])
            .args(["-name", &format!("guest={}", options.name), "-m", &options.memory])
            .args(["-kernel", "/lab/guest-kernel", "-initrd", "/lab/guest-initramfs"])
            .args(["-append", &format!("{CMDLINE} {}", options.append)])
            .args(["-chardev", "socket,id=qmp,fd=0", "-mon", "chardev=qmp,mode=control"])
            .args(["-chardev", "file,id=console,path=/proc/self/fd/1"])
            .args(["-serial", "chardev:console"])
            .args(options.device.iter().flat_map(|device| ["-device", device]))
            .args(&options.qemu)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped());
        let mut qemu = qemu.spawn().context(
            "cannot start qemu-system-x86_64: give the machine one by `cargo xtask vm --qemu 7.2`",
        )?;
        let output = qemu.stdout.take().context("QEMU has no stdout")?;
        let (sender, console) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { qemu, console, qmp: Qmp::greet(ours)? })
    }

    /// Waits until the guest's console has a text.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + GUEST_LIMIT;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.console.recv_timeout(left) else {
                bail!("the guest did not say {text:?}, but:\n{}", seen.join("\n"));
            };
            if line.contains(text) {
                return Ok(());
            }
            seen.push(line);
        }
    }

    /// Ends QEMU in an orderly way.
    pub fn quit(mut self) -> Result<()> {
        self.qmp.execute("quit", &json!({}))?;
        let status = self.qemu.wait().context("waiting for QEMU")?;
        ensure!(status.success(), "QEMU ended with {status}");
        Ok(())
    }

    /// Executes a command again and again until its reply has these values.
    pub fn poll(&mut self, command: &str, wanted: &Value) -> Result<Value> {
        const PERIOD: Duration = Duration::from_millis(100);
        let deadline = Instant::now() + GUEST_LIMIT;
        loop {
            let reply = self.qmp.execute(command, &json!({}))?;
            if has(&reply, wanted) {
                return Ok(reply);
            }
            ensure!(Instant::now() < deadline, "{command} stays at {reply}");
            thread::sleep(PERIOD);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Whether each of the wanted values is in the reply.
fn has(reply: &Value, wanted: &Value) -> bool {
    let mut pairs = wanted.as_object().into_iter().flatten();
    pairs.all(|(key, value)| reply.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_have_what_is_wanted_or_not() {
        let reply = json!({"status": "cancelled", "total": 5});
        assert!(has(&reply, &json!({"status": "cancelled"})));
        assert!(!has(&reply, &json!({"status": "active"})));
        assert!(!has(&reply, &json!({"status": "cancelled", "ram": 1})));
        assert!(!has(&json!([]), &json!({"status": "active"})));
    }
}
