//! Durable writes without us: the least that any log must do, in the cadence of a log.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use io_uring::squeue::Flags;
use io_uring::{opcode, squeue, types};

use super::disk::{Flight, check, check_dir, check_space, explain, file_system_of};
use super::disk::{Load, Offsets, Operation, Order, Scratch, ScratchError};
use super::memory::Buffer;
use super::watch::{Laps, Stop, Tally, Watch};

/// Sequential writes over what was written before, and syncs alongside.
#[derive(Clone, Copy, Debug)]
pub struct Durable {
    /// Bytes of one write.
    pub bytes: usize,
    /// Writes that no finished sync covers yet.
    pub depth: usize,
    /// Bytes from one sync to the next.
    pub sync_bytes: u64,
}

/// How a single durable write is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// A write and a sync linked to it, with one call.
    Ring,
    /// `pwrite`, then `fdatasync`.
    Plain,
}

/// Tells a sync's completion from those of writes.
const SYNC: u64 = u64::MAX;

impl Scratch {
    /// Does `load` as fast as the kernel can. A write counts when a sync covers it; one sync is under way at a time, and
    /// writes go on meanwhile.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn durable(&self, load: &Durable, stop: Stop) -> io::Result<Tally> {
        let mut offsets = self.offsets(load.bytes);
        if !self.uring {
            return self.durable_by_calls(load, &mut offsets, &Buffer::new(load.bytes), stop);
        }
        let mut flight = Flight::new(load.depth, load.bytes, load.depth + 1)?;
        let watch = Watch::start(stop);
        let mut free: Vec<usize> = (0..load.depth).collect();
        // Buffers that are written, and those of them that the sync under way covers.
        let (mut written, mut covered) = (Vec::new(), Vec::new());
        let (mut writing, mut bytes, mut due) = (0, 0, load.sync_bytes);
        loop {
            while !free.is_empty() && watch.another() {
                let at = free.pop().expect("it isn't empty");
                let entry = self.write_entry(&flight.buffers[at], offsets.next_offset()).user_data(at as u64);
                // SAFETY: it works on a buffer of the flight; the file is open as long as `self` is borrowed.
                unsafe { flight.push(&entry) };
                writing += 1;
            }
            if covered.is_empty() && !written.is_empty() && (bytes >= due || writing == 0) {
                // SAFETY: it works on no buffer; the file is open as long as `self` is borrowed.
                unsafe { flight.push(&self.sync_entry().user_data(SYNC)) };
                covered = std::mem::take(&mut written);
                due += load.sync_bytes;
            }
            let is_over = !flight.reap(|number, result| {
                if number == SYNC {
                    free.append(&mut covered);
                    return check(result, 0);
                }
                writing -= 1;
                bytes += load.bytes as u64;
                written.push(number as usize);
                check(result, load.bytes)
            })?;
            if is_over {
                return Ok(watch.finish());
            }
        }
    }

    fn durable_by_calls(
        &self,
        load: &Durable,
        offsets: &mut Offsets,
        buffer: &Buffer,
        stop: Stop,
    ) -> io::Result<Tally> {
        let watch = Watch::start(stop);
        let (mut bytes, mut due) = (0, load.sync_bytes);
        while watch.another() {
            self.file.write_all_at(buffer, offsets.next_offset())?;
            bytes += load.bytes as u64;
            if bytes >= due {
                self.file.sync_data()?;
                due += load.sync_bytes;
            }
        }
        self.file.sync_data()?;
        Ok(watch.finish())
    }

    /// Writes `bytes` and syncs them, one at a time.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn durable_laps(&self, bytes: usize, calls: Calls, stop: Stop) -> io::Result<Tally> {
        let mut offsets = self.offsets(bytes);
        if calls == Calls::Plain || !self.uring {
            let buffer = Buffer::new(bytes);
            let mut laps = Laps::start(stop);
            while laps.another() {
                self.file.write_all_at(&buffer, offsets.next_offset())?;
                self.file.sync_data()?;
            }
            return Ok(laps.finish());
        }
        let mut flight = Flight::new(1, bytes, 2)?;
        let mut laps = Laps::start(stop);
        while laps.another() {
            let write = self.write_entry(&flight.buffers[0], offsets.next_offset()).flags(Flags::IO_LINK);
            // SAFETY: the write works on the flight's buffer; the file is open as long as `self` is borrowed.
            unsafe {
                flight.push(&write);
                flight.push(&self.sync_entry().user_data(SYNC));
            }
            flight.reap_all(|number, result| check(result, if number == SYNC { 0 } else { bytes }))?;
        }
        Ok(laps.finish())
    }

    fn offsets(&self, bytes: usize) -> Offsets {
        let load = Load { operation: Operation::Write, order: Order::Sequential, bytes, depth: 1 };
        Offsets::new(&load, self.bytes())
    }

    fn write_entry(&self, buffer: &Buffer, offset: u64) -> squeue::Entry {
        let file = types::Fd(self.file.as_raw_fd());
        opcode::Write::new(file, buffer.as_ptr(), buffer.len() as u32).offset(offset).build()
    }

    fn sync_entry(&self) -> squeue::Entry {
        opcode::Fsync::new(types::Fd(self.file.as_raw_fd())).flags(types::FsyncFlags::DATASYNC).build()
    }
}

/// A directory to measure or to show something in, removed with all that is in it when this is dropped.
#[derive(Debug)]
pub struct ScratchDir(PathBuf);

impl ScratchDir {
    /// Makes one in `dir`, where so many bytes must be free.
    ///
    /// # Errors
    /// If the directory can't take it.
    pub fn create(dir: &Path, bytes: u64) -> Result<Self, ScratchError> {
        Self::create_as(dir, ".cairn-bench", bytes)
    }

    /// The same under a name that begins so.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_as(dir: &Path, name: &str, bytes: u64) -> Result<Self, ScratchError> {
        check_dir(dir)?;
        check_space(dir, bytes)?;
        let path = dir.join(format!("{name}-{}.d", std::process::id()));
        fs::create_dir(&path).map_err(|error| explain(dir, error))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves it where it is.
    pub fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }

    /// The name of its file system, as far as known.
    pub fn file_system(&self) -> &'static str {
        file_system_of(&self.0)
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // What can't be removed can't be helped; its name says where it comes from.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
