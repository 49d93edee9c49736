//! A core's own `io_uring`, for files and, on glommio, the readiness of sockets and for sleeping.
//!
//! Operations are queued while tasks run, submitted together when a batch of them has run ([`Ring::turn`]), and reaped
//! there too. A driver that sleeps on this ring is woken by completions or the bell; for one that sleeps on a ring of
//! its own, completions signal an eventfd. Memory that the kernel works on is held here until it says so, whether or
//! not anybody still waits.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use io_uring::{IoUring, opcode, squeue, types};
use nix::sys::eventfd::{EfdFlags, EventFd};
use slab::Slab;

use crate::block::{Block, BlockMut};
use crate::limit::Limit;
use crate::time::Duration;

pub(crate) struct Ring {
    uring: RefCell<IoUring>,
    slots: RefCell<Slab<Slot>>,
    /// Entries written since the last submission.
    queued: Cell<usize>,
    /// Bytes that they read and write.
    queued_bytes: Cell<usize>,
    /// File operations the kernel works on.
    under_way: Limit,
    /// Signalled with each completion, if the driver sleeps elsewhere.
    done: OnceCell<EventFd>,
    /// Ends a sleep on this ring from outside.
    bell: Arc<Bell>,
    /// The slot of the read that waits for the bell.
    bell_slot: Cell<Option<usize>>,
}

/// Wakes a core that sleeps on its ring.
struct Bell(EventFd);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // It holds a small number, so it takes one more.
        let _ = self.0.write(1);
    }
}

/// What the kernel may still read or write, kept until it is done: memory, and the file so that its descriptor
/// isn't another's meanwhile.
#[expect(dead_code, reason = "files are held, not looked at")]
enum Hold {
    Nothing,
    Read(BlockMut, Arc<OwnedFd>),
    Write(Vec<Block>, Arc<OwnedFd>),
    /// The blocks and the vector that points at them.
    WriteVectored(Vec<Block>, Vec<libc::iovec>, Arc<OwnedFd>),
    File(Arc<OwnedFd>),
    /// Where the bell's number is read to.
    Bell(Box<u64>),
}

impl Hold {
    /// Bytes that are read or written.
    fn bytes(&self) -> usize {
        match self {
            Self::Read(block, _) => block.len(),
            Self::Write(blocks, _) | Self::WriteVectored(blocks, ..) => blocks.iter().map(|block| block.len()).sum(),
            Self::Nothing | Self::File(_) | Self::Bell(_) => 0,
        }
    }
}

enum Slot {
    Waiting {
        waker: Waker,
        hold: Hold,
    },
    /// Nobody waits any more; the hold is dropped when the kernel is done.
    #[expect(dead_code, reason = "held, not looked at")]
    Abandoned {
        hold: Hold,
    },
    Done {
        result: i32,
        hold: Hold,
    },
}

/// Queued operations of so many bytes don't wait for the end of a batch of tasks. If they did, tasks that sum up what
/// they read would have the disk idle meanwhile, and then the processor.
const AT_ONCE: usize = 16 << 10;

/// Marks completions that nobody waits for.
const IGNORED: u64 = u64::MAX;

impl Ring {
    /// A ring for `entries` file operations at a time, knowing `arena` as registered buffer 0 if the kernel agrees;
    /// the flag says whether it did.
    pub fn new(entries: u32, arena: Option<(*mut u8, usize)>) -> io::Result<(Self, bool)> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(entries * 4)
            .build(entries)
            // Kernels before 6.0 don't know these flags; they only make it faster.
            .or_else(|_| IoUring::builder().setup_cqsize(entries * 4).build(entries))?;
        let bell = Arc::new(Bell(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?));
        let registered = arena.is_some_and(|(start, len)| {
            let buffer = libc::iovec { iov_base: start.cast(), iov_len: len };
            // SAFETY: the arena lives as long as the pool's home, which every block of it keeps, and the ring is
            // drained before its core lets go of the pool.
            unsafe { uring.submitter().register_buffers(&[buffer]) }.is_ok()
        });
        let ring = Self {
            uring: RefCell::new(uring),
            slots: RefCell::default(),
            queued: Cell::new(0),
            queued_bytes: Cell::new(0),
            under_way: Limit::new(entries as usize),
            done: OnceCell::new(),
            bell,
            bell_slot: Cell::new(None),
        };
        Ok((ring, registered))
    }

    /// A descriptor of the caller's own that is readable when something was completed since it was last cleared: for
    /// drivers that sleep elsewhere.
    pub fn done(&self) -> io::Result<OwnedFd> {
        if self.done.get().is_none() {
            let done = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
            self.uring.borrow().submitter().register_eventfd(done.as_raw_fd())?;
            let _ = self.done.set(done);
        }
        self.done.get().expect("it was set just now").as_fd().try_clone_to_owned()
    }

    /// Makes [`Ring::done`] unreadable until the next completion.
    pub fn clear_done(&self) {
        if let Some(done) = self.done.get() {
            // Nothing to read is as good.
            let _ = done.read();
        }
    }

    /// Ends a [`Ring::sleep`] from any thread.
    pub fn waker(&self) -> Waker {
        Waker::from(self.bell.clone())
    }

    /// Submits what is queued and sleeps until something is completed, the bell rings or `limit` is over. Looks for
    /// that without sleeping for the first `spin`.
    pub fn sleep(&self, limit: Option<Duration>, spin: Duration) {
        self.listen_for_bell();
        if !spin.is_zero() && self.spin(limit.map_or(spin, |limit| limit.min(spin))) {
            return;
        }
        let uring = self.uring.borrow();
        let slept = match limit {
            None => uring.submitter().submit_and_wait(1),
            Some(limit) => {
                let limit = types::Timespec::from(limit);
                uring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&limit))
            }
        };
        drop(uring);
        self.submitted(slept);
    }

    fn listen_for_bell(&self) {
        if self.bell_slot.get().is_some() {
            return;
        }
        let mut number = Box::new(0);
        let target = std::ptr::from_mut::<u64>(&mut number).cast();
        let entry = opcode::Read::new(types::Fd(self.bell.0.as_raw_fd()), target, 8).build();
        let slot = Slot::Abandoned { hold: Hold::Bell(number) };
        let key = self.slots.borrow_mut().insert(slot);
        self.bell_slot.set(Some(key));
        self.push_raw(&entry.user_data(key as u64));
    }

    /// Looks for completions for a while; returns whether there are any.
    fn spin(&self, limit: Duration) -> bool {
        self.submit(0);
        let begun = std::time::Instant::now();
        while begun.elapsed() < limit {
            // Where the kernel has work to finish on this thread, it does so when entered.
            if self.uring.borrow_mut().submission().taskrun() {
                self.enter(0);
            }
            if !self.uring.borrow_mut().completion().is_empty() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Submits what is queued and wakes the tasks whose operations are done.
    pub fn turn(&self) {
        self.submit(0);
        self.reap();
        // The kernel takes nothing while completions have piled up; now there is room.
        self.submit(0);
    }

    /// Reads into `block` from byte `from` on, at `offset` of the file.
    pub async fn read(
        &self,
        fd: &Arc<OwnedFd>,
        mut block: BlockMut,
        from: usize,
        offset: u64,
    ) -> (io::Result<usize>, BlockMut) {
        let len = u32::try_from(block.len() - from).expect("blocks are smaller than 4 GiB");
        // SAFETY: `from` is within the block.
        let target = unsafe { block.as_mut_ptr().add(from) };
        let file = types::Fd(fd.as_raw_fd());
        let entry = if block.is_registered() {
            opcode::ReadFixed::new(file, target, len, 0).offset(offset).build()
        } else {
            opcode::Read::new(file, target, len).offset(offset).build()
        };
        match self.operate(entry, Hold::Read(block, fd.clone())).await {
            (result, Hold::Read(block, _)) => (result, block),
            _ => unreachable!("an operation gives back what it was given"),
        }
    }

    /// Writes the blocks one after the other at `offset`; gives them back with the number of bytes written.
    pub async fn write(&self, fd: &Arc<OwnedFd>, blocks: Vec<Block>, offset: u64) -> (io::Result<usize>, Vec<Block>) {
        let (entry, hold) = write_entry(fd, blocks, offset);
        match self.operate(entry, hold).await {
            (result, Hold::Write(blocks, _) | Hold::WriteVectored(blocks, ..)) => (result, blocks),
            _ => unreachable!("an operation gives back what it was given"),
        }
    }

    /// Writes the blocks and makes the file's data durable, without a way to the core and back in between. Gives the
    /// blocks back; false: they were not written as a whole, and nothing was made durable.
    ///
    /// NOTE: `RWF_DSYNC` would be one operation, and faster on an idle machine. But the kernel flushes then on a worker
    /// that is bound to one processor: if something computes there, each write takes until the scheduler's next tick.
    pub async fn write_and_sync(
        &self,
        fd: &Arc<OwnedFd>,
        blocks: Vec<Block>,
        offset: u64,
    ) -> (io::Result<bool>, Vec<Block>) {
        let _permit = self.under_way.permit().await;
        let (write, hold) = write_entry(fd, blocks, offset);
        // A write that is short or fails cancels the sync, whose result is all that is looked at.
        // NOTE: not SKIP_SUCCESS as well: if such a write fails, the kernel doesn't tell of the sync it cancels either,
        // and whoever waits for it would wait for ever.
        let write = write.flags(squeue::Flags::IO_LINK).user_data(IGNORED);
        let mut given = Some((write, hold));
        let key = poll_fn(|cx| {
            let (write, hold) = given.take().expect("polled once");
            Poll::Ready(self.push_linked(&write, &sync_entry(fd), cx.waker(), hold))
        })
        .await;
        let result = match (Operation { ring: self, state: State::Submitted(key) }).await {
            (Ok(_), hold) => (Ok(true), hold),
            (Err(error), hold) if error.raw_os_error() == Some(libc::ECANCELED) => (Ok(false), hold),
            (Err(error), hold) => (Err(error), hold),
        };
        match result {
            (result, Hold::Write(blocks, _) | Hold::WriteVectored(blocks, ..)) => (result, blocks),
            _ => unreachable!("an operation gives back what it was given"),
        }
    }

    /// Makes the file's data durable.
    pub async fn sync_data(&self, fd: &Arc<OwnedFd>) -> io::Result<()> {
        self.operate(sync_entry(fd), Hold::File(fd.clone())).await.0.map(|_| ())
    }

    /// Runs one file operation, after others if too many are under way.
    async fn operate(&self, entry: squeue::Entry, hold: Hold) -> (io::Result<usize>, Hold) {
        let _permit = self.under_way.permit().await;
        Operation { ring: self, state: State::New(entry, hold) }.await
    }

    fn push(&self, entry: squeue::Entry, waker: &Waker, hold: Hold) -> usize {
        let key = self.slots.borrow_mut().insert(Slot::Waiting { waker: waker.clone(), hold });
        self.push_raw(&entry.user_data(key as u64));
        key
    }

    /// Queues `second`, which begins when `first` is done; both work on what is held.
    fn push_linked(&self, first: &squeue::Entry, second: &squeue::Entry, waker: &Waker, hold: Hold) -> usize {
        let bytes = hold.bytes();
        let key = self.slots.borrow_mut().insert(Slot::Waiting { waker: waker.clone(), hold });
        self.push_all(&[first.clone(), second.clone().user_data(key as u64)]);
        self.submit_if_much(bytes);
        key
    }

    fn push_raw(&self, entry: &squeue::Entry) {
        self.push_all(std::slice::from_ref(entry));
    }

    /// Queues entries side by side: a submission between them would break their link.
    fn push_all(&self, entries: &[squeue::Entry]) {
        loop {
            // SAFETY: what the entries point at is kept in its slot until the last one's completion is reaped.
            let pushed = unsafe { self.uring.borrow_mut().submission().push_multiple(entries) };
            if pushed.is_ok() {
                self.queued.set(self.queued.get() + entries.len());
                return;
            }
            self.submit(0);
            // The kernel takes nothing while completions have piled up.
            self.reap();
        }
    }

    fn submit(&self, wait_for: usize) {
        let kernel_waits = {
            let mut uring = self.uring.borrow_mut();
            let queue = uring.submission();
            queue.cq_overflow() || queue.taskrun()
        };
        if self.queued.get() > 0 || wait_for > 0 || kernel_waits {
            self.enter(wait_for);
        }
    }

    /// Submits if so much is queued that the disk had better begin: tasks of this batch may compute for a while.
    fn submit_if_much(&self, bytes: usize) {
        self.queued_bytes.set(self.queued_bytes.get() + bytes);
        if self.queued_bytes.get() >= AT_ONCE {
            self.submit(0);
        }
    }

    fn enter(&self, wait_for: usize) {
        let submitted = self.uring.borrow().submitter().submit_and_wait(wait_for);
        self.submitted(submitted);
    }

    fn submitted(&self, result: io::Result<usize>) {
        self.queued_bytes.set(0);
        match result {
            Ok(count) => self.queued.set(self.queued.get().saturating_sub(count)),
            // Busy: completions must be reaped first. Interrupted, or the time is over: the next turn goes on.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EINTR | libc::ETIME)) => {}
            Err(error) => panic!("io_uring refused a submission: {error}"),
        }
    }

    fn reap(&self) {
        loop {
            let next = self.uring.borrow_mut().completion().next();
            let Some(completion) = next else { return };
            if completion.user_data() != IGNORED {
                self.complete(completion.user_data() as usize, completion.result());
            }
        }
    }

    fn complete(&self, key: usize, result: i32) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(key) else { return };
        let previous = std::mem::replace(slot, Slot::Done { result, hold: Hold::Nothing });
        match previous {
            Slot::Waiting { waker, hold } => {
                *slot = Slot::Done { result, hold };
                drop(slots);
                waker.wake();
            }
            abandoned => {
                slots.remove(key);
                drop(slots);
                if self.bell_slot.get() == Some(key) {
                    self.bell_slot.set(None);
                }
                drop(abandoned);
            }
        }
    }

    fn poll_slot(&self, key: usize, cx: &Context<'_>) -> Poll<(i32, Hold)> {
        let mut slots = self.slots.borrow_mut();
        if let Slot::Waiting { waker, .. } = &mut slots[key] {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        match slots.remove(key) {
            Slot::Done { result, hold } => Poll::Ready((result, hold)),
            _ => unreachable!("an abandoned operation is polled by nobody"),
        }
    }

    /// Nobody waits for `key` any more: keeps what the kernel works on until it is done.
    fn abandon(&self, key: usize) {
        let mut slots = self.slots.borrow_mut();
        let previous = std::mem::replace(&mut slots[key], Slot::Abandoned { hold: Hold::Nothing });
        match previous {
            Slot::Waiting { hold, waker } => {
                slots[key] = Slot::Abandoned { hold };
                drop(slots);
                drop(waker);
            }
            finished => {
                slots.remove(key);
                drop(slots);
                drop(finished);
            }
        }
    }

    fn cancel(&self, key: usize) {
        self.push_raw(&opcode::AsyncCancel::new(key as u64).build().user_data(IGNORED));
    }

    /// Waits until the kernel works on nothing of this ring any more.
    pub fn drain(&self) {
        let keys: Vec<usize> = self.slots.borrow().iter().map(|(key, _)| key).collect();
        for key in keys {
            // A write or sync under way is finished by the kernel all the same; waiting for readiness ends at once.
            self.cancel(key);
        }
        while self.slots.borrow().iter().any(|(_, slot)| !matches!(slot, Slot::Done { .. })) {
            self.submit(1);
            self.reap();
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.drain();
    }
}

fn sync_entry(fd: &Arc<OwnedFd>) -> squeue::Entry {
    opcode::Fsync::new(types::Fd(fd.as_raw_fd())).flags(types::FsyncFlags::DATASYNC).build()
}

/// A write of the blocks one after the other, and what must be held for it.
fn write_entry(fd: &Arc<OwnedFd>, blocks: Vec<Block>, offset: u64) -> (squeue::Entry, Hold) {
    let file = types::Fd(fd.as_raw_fd());
    let vector = vector_of(&blocks);
    if let [one] = vector.as_slice() {
        let (start, len) = (one.iov_base.cast_const().cast(), one.iov_len);
        let len = u32::try_from(len).expect("one write has less than 4 GiB");
        let entry = if blocks.iter().all(Block::is_registered) {
            opcode::WriteFixed::new(file, start, len, 0).offset(offset).build()
        } else {
            opcode::Write::new(file, start, len).offset(offset).build()
        };
        return (entry, Hold::Write(blocks, fd.clone()));
    }
    let count = u32::try_from(vector.len()).expect("fewer blocks than IOV_MAX");
    let entry = opcode::Writev::new(file, vector.as_ptr(), count).offset(offset).build();
    (entry, Hold::WriteVectored(blocks, vector, fd.clone()))
}

/// Where the blocks lie; neighbours within the registered arena are one piece of memory.
fn vector_of(blocks: &[Block]) -> Vec<libc::iovec> {
    let mut vector: Vec<libc::iovec> = Vec::with_capacity(blocks.len());
    let mut is_last_registered = false;
    for block in blocks {
        let start: *mut libc::c_void = block.as_ptr().cast_mut().cast();
        match vector.last_mut() {
            Some(last)
                if is_last_registered
                    && block.is_registered()
                    && last.iov_base.wrapping_byte_add(last.iov_len) == start =>
            {
                last.iov_len += block.len();
            }
            _ => vector.push(libc::iovec { iov_base: start, iov_len: block.len() }),
        }
        is_last_registered = block.is_registered();
    }
    vector
}

/// A file operation, from its entry to its result. Dropped early, it goes on unheard.
struct Operation<'a> {
    ring: &'a Ring,
    state: State,
}

enum State {
    New(squeue::Entry, Hold),
    Submitted(usize),
    Over,
}

impl Unpin for Operation<'_> {}

impl Future for Operation<'_> {
    type Output = (io::Result<usize>, Hold);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::New(entry, hold) => {
                let bytes = hold.bytes();
                self.state = State::Submitted(self.ring.push(entry, cx.waker(), hold));
                self.ring.submit_if_much(bytes);
                Poll::Pending
            }
            State::Submitted(key) => match self.ring.poll_slot(key, cx) {
                Poll::Ready((result, hold)) => Poll::Ready((to_result(result), hold)),
                Poll::Pending => {
                    self.state = State::Submitted(key);
                    Poll::Pending
                }
            },
            State::Over => panic!("polled after it was ready"),
        }
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        if let State::Submitted(key) = self.state {
            self.ring.abandon(key);
        }
    }
}

fn to_result(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// Waits until a socket is ready. Dropped early, it is cancelled in the kernel.
pub(crate) struct PollReady {
    ring: Rc<Ring>,
    key: Option<usize>,
}

impl PollReady {
    /// Starts waiting for `events` (POLLIN or POLLOUT) on `fd`.
    pub fn new(ring: &Rc<Ring>, fd: RawFd, events: u32, cx: &Context<'_>) -> Self {
        let entry = opcode::PollAdd::new(types::Fd(fd), events).build();
        let key = ring.push(entry, cx.waker(), Hold::Nothing);
        Self { ring: ring.clone(), key: Some(key) }
    }

    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let Some(key) = self.key else { return Poll::Ready(Ok(())) };
        let (result, _) = std::task::ready!(self.ring.poll_slot(key, cx));
        self.key = None;
        Poll::Ready(to_result(result).map(|_| ()))
    }
}

impl Drop for PollReady {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let waiting = matches!(self.ring.slots.borrow().get(key), Some(Slot::Waiting { .. }));
            self.ring.abandon(key);
            if waiting {
                self.ring.cancel(key);
            }
        }
    }
}
