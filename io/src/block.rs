//! Blocks: aligned buffers, pooled per core, shared by reference count.
//!
//! A [`BlockMut`] is the only owner of its bytes and may write them; [`BlockMut::freeze`] makes it a [`Block`],
//! which is shared, sliced and turned into [`bytes::Bytes`] without copying, and becomes a `BlockMut` again when
//! nobody else holds it. Blocks may cross cores; the memory returns to the pool it came from.
//!
//! Each core's pool has a budget. [`alloc`] waits while it is used up: out of buffers means waiting.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Bound, Deref, DerefMut, RangeBounds};
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use crossbeam::queue::SegQueue;
use futures_util::task::AtomicWaker;

use crate::core;

/// Every block starts at a multiple of this and has a capacity that is one: what `O_DIRECT` asks for.
pub const ALIGN: usize = 4096;

/// Waits until this core's budget has room and returns a block of `len` bytes of unspecified content.
///
/// # Errors
/// `InvalidInput` if `len` is 0 or the whole budget couldn't hold it.
pub async fn alloc(len: usize) -> io::Result<BlockMut> {
    let pool = core::current().pool.clone();
    let capacity = capacity_for(len.min(pool.budget));
    if len == 0 || len > pool.budget || capacity > pool.budget {
        let budget = pool.budget;
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a block of {len} bytes can't be had from a budget of {budget}; ask for less or raise the budget"),
        ));
    }
    Ok(Alloc { pool, len, capacity, ticket: None }.await)
}

/// A block of `len` bytes if the budget has room now.
pub fn try_alloc(len: usize) -> Option<BlockMut> {
    let pool = core::current().pool.clone();
    if len == 0 || len > pool.budget || !pool.waiters.borrow().is_empty() {
        return None;
    }
    pool.take(capacity_for(len)).map(|slab| BlockMut::new(slab, len))
}

/// What this core's pool holds.
pub fn usage() -> Usage {
    let pool = core::current().pool.clone();
    pool.collect_returned();
    Usage { budget: pool.budget, lent: pool.lent.get(), cached: pool.cached.get() }
}

/// See [`usage`]. All in bytes of capacity; cached memory that is registered with the kernel stays, whatever is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The most that may be lent and cached together.
    pub budget: usize,
    /// In blocks that somebody holds.
    pub lent: usize,
    /// Kept for reuse.
    pub cached: usize,
}

/// Bytes that only this owner sees and may change.
pub struct BlockMut {
    /// IMPORTANT: the only reference; `Block::try_into_mut` proves it before making one.
    slab: Arc<Slab>,
    len: usize,
}

impl BlockMut {
    fn new(slab: Slab, len: usize) -> Self {
        Self { slab: Arc::new(slab), len }
    }

    /// How long the block may become without moving.
    pub fn capacity(&self) -> usize {
        self.slab.capacity
    }

    /// Sets the length; bytes beyond the old one have unspecified content.
    ///
    /// # Panics
    /// If `len` is more than the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.slab.capacity, "a block's length may not exceed its capacity");
        self.len = len;
    }

    /// Makes the bytes shared and unchangeable.
    #[must_use]
    pub fn freeze(self) -> Block {
        Block { start: 0, end: self.len, slab: self.slab }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.slab.data.as_ptr()
    }

    /// Whether the kernel knows this memory as registered buffer 0.
    pub(crate) fn is_registered(&self) -> bool {
        self.slab.registered
    }
}

impl Deref for BlockMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len <= capacity`, the memory was zeroed when allocated, and only `self` may write it.
        unsafe { std::slice::from_raw_parts(self.slab.data.as_ptr(), self.len) }
    }
}

impl DerefMut for BlockMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `slab` is the only reference, so no shared slice of it exists.
        unsafe { std::slice::from_raw_parts_mut(self.slab.data.as_ptr(), self.len) }
    }
}

impl fmt::Debug for BlockMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockMut({} of {} bytes)", self.len, self.capacity())
    }
}

/// Shared, unchangeable bytes; a clone or a slice copies nothing.
#[derive(Clone)]
pub struct Block {
    slab: Arc<Slab>,
    start: usize,
    end: usize,
}

impl Block {
    /// A part of the block, sharing its memory.
    ///
    /// # Panics
    /// If the range reaches outside the block.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let from = match range.start_bound() {
            Bound::Included(&at) => at,
            Bound::Excluded(&at) => at + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&at) => at + 1,
            Bound::Excluded(&at) => at,
            Bound::Unbounded => self.len(),
        };
        assert!(from <= to && to <= self.len(), "slice {from}..{to} of a block of {} bytes", self.len());
        Self { slab: self.slab.clone(), start: self.start + from, end: self.start + to }
    }

    /// The whole memory for writing again, if nobody else holds a part of it.
    ///
    /// # Errors
    /// Gives the block back while it is shared. A slice that does not start at the front is copied nowhere either:
    /// it is given back too.
    pub fn try_into_mut(mut self) -> Result<BlockMut, Self> {
        if self.start != 0 || Arc::get_mut(&mut self.slab).is_none() {
            return Err(self);
        }
        Ok(BlockMut { slab: self.slab, len: self.end })
    }

    /// The same bytes as [`Bytes`], without a copy; the memory returns to its pool with the last clone.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Whether address and length suit `O_DIRECT` at `align`.
    pub(crate) fn is_aligned(&self, align: usize) -> bool {
        self.start.is_multiple_of(align) && self.len().is_multiple_of(align)
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.slab.registered
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies within the slab, which was initialised when allocated; no `BlockMut` of it
        // exists while a `Block` does, so nothing writes it.
        unsafe { std::slice::from_raw_parts(self.slab.data.as_ptr().add(self.start), self.end - self.start) }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Block> for Bytes {
    fn from(block: Block) -> Self {
        block.into_bytes()
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.len())
    }
}

/// One piece of aligned memory and the pool it belongs to.
struct Slab {
    data: NonNull<u8>,
    capacity: usize,
    /// Part of the arena that the core's ring knows as registered buffer 0.
    registered: bool,
    home: Arc<Home>,
}

// SAFETY: a slab is plain memory; who may write it is governed by `BlockMut` and `Block`, and dropping it on a
// foreign thread only hands the pointer to a concurrent queue.
unsafe impl Send for Slab {}
// SAFETY: as above; shared access through `Block` only reads.
unsafe impl Sync for Slab {}

impl Drop for Slab {
    fn drop(&mut self) {
        let piece = Piece { data: self.data, capacity: self.capacity, registered: self.registered };
        match core::try_current().filter(|core| Arc::ptr_eq(&core.pool.home, &self.home)) {
            Some(core) => core.pool.give_back(piece),
            None => self.home.give_back(piece),
        }
    }
}

/// Memory that nobody holds.
struct Piece {
    data: NonNull<u8>,
    capacity: usize,
    registered: bool,
}

// SAFETY: a piece is unowned memory on its way to its pool; only one thread has it at a time.
unsafe impl Send for Piece {}
// SAFETY: nothing reads or writes the memory through a shared piece.
unsafe impl Sync for Piece {}

impl Piece {
    fn allocate(capacity: usize) -> Self {
        let layout = layout_of(capacity);
        // SAFETY: the layout has a size above zero: capacities are at least `ALIGN`.
        let data = unsafe { alloc_zeroed(layout) };
        let data = NonNull::new(data).unwrap_or_else(|| std::alloc::handle_alloc_error(layout));
        Self { data, capacity, registered: false }
    }

    fn free(self) {
        if !self.registered {
            // SAFETY: allocated by `allocate` with the same layout and owned by nobody else.
            unsafe { dealloc(self.data.as_ptr(), layout_of(self.capacity)) };
        }
    }
}

fn layout_of(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, ALIGN).expect("a capacity is a multiple of ALIGN below isize::MAX")
}

/// The part of a pool that outlives its core and that other threads may touch.
struct Home {
    returned: SegQueue<Piece>,
    /// The core is gone: pieces are freed where they are dropped.
    closed: AtomicBool,
    /// Woken when a piece comes back from another thread while somebody waits for memory.
    waiter: AtomicWaker,
    /// Keeps the registered arena until the last block of it is gone.
    arena: Option<Piece>,
}

impl Home {
    fn give_back(&self, piece: Piece) {
        self.returned.push(piece);
        if self.closed.load(Ordering::SeqCst) {
            self.free_returned();
        }
        self.waiter.wake();
    }

    fn free_returned(&self) {
        while let Some(piece) = self.returned.pop() {
            piece.free();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.free_returned();
        if let Some(arena) = self.arena.take() {
            arena.free();
        }
    }
}

/// A core's memory for blocks.
pub(crate) struct Pool {
    budget: usize,
    lent: Cell<usize>,
    cached: Cell<usize>,
    /// Free pieces by size class, most recently used last.
    free: RefCell<Vec<Vec<Piece>>>,
    waiters: RefCell<VecDeque<(u64, Waker)>>,
    next_ticket: Cell<u64>,
    /// Bytes of the arena not yet cut into pieces.
    arena_left: Cell<usize>,
    home: Arc<Home>,
}

/// Only small blocks are cut from the registered arena: pinning and mapping cost them most.
const REGISTERED_PIECE_MAX: usize = 64 << 10;

impl Pool {
    /// A pool that lends and caches at most `budget` bytes, `registered` of them from one arena.
    pub fn new(budget: usize, registered: usize) -> Self {
        let registered = registered / ALIGN * ALIGN;
        let arena = (registered > 0).then(|| Piece::allocate(registered));
        Self {
            budget,
            lent: Cell::new(0),
            cached: Cell::new(0),
            free: RefCell::default(),
            waiters: RefCell::default(),
            next_ticket: Cell::new(0),
            arena_left: Cell::new(registered),
            home: Arc::new(Home {
                returned: SegQueue::new(),
                closed: AtomicBool::new(false),
                waiter: AtomicWaker::new(),
                arena,
            }),
        }
    }

    /// The arena to register with the core's ring: address and length.
    pub fn arena(&self) -> Option<(*mut u8, usize)> {
        self.home.arena.as_ref().map(|arena| (arena.data.as_ptr(), arena.capacity))
    }

    /// The kernel refused the arena: it is used as ordinary memory, so that nothing claims to be registered.
    pub fn forget_arena(&self) {
        self.arena_left.set(0);
    }

    fn take(&self, capacity: usize) -> Option<Slab> {
        self.collect_returned();
        if self.lent.get() + capacity > self.budget {
            return None;
        }
        let piece = self.reuse(capacity).or_else(|| self.cut(capacity)).unwrap_or_else(|| {
            self.evict(capacity);
            Piece::allocate(capacity)
        });
        self.lent.set(self.lent.get() + capacity);
        Some(Slab { data: piece.data, capacity, registered: piece.registered, home: self.home.clone() })
    }

    fn reuse(&self, capacity: usize) -> Option<Piece> {
        let piece = self.free.borrow_mut().get_mut(class_of(capacity))?.pop()?;
        self.cached.set(self.cached.get() - capacity);
        Some(piece)
    }

    fn cut(&self, capacity: usize) -> Option<Piece> {
        let (start, len) = self.arena()?;
        let left = self.arena_left.get();
        if capacity > REGISTERED_PIECE_MAX || capacity > left {
            return None;
        }
        self.arena_left.set(left - capacity);
        // SAFETY: `left <= len`, so the offset stays within the arena.
        let data = unsafe { NonNull::new_unchecked(start.add(len - left)) };
        Some(Piece { data, capacity, registered: true })
    }

    /// Frees cached pieces, largest first, until `capacity` more bytes fit the budget.
    fn evict(&self, capacity: usize) {
        let mut free = self.free.borrow_mut();
        for class in free.iter_mut().rev() {
            while self.lent.get() + self.cached.get() + capacity > self.budget {
                let Some(at) = class.iter().position(|piece| !piece.registered) else { break };
                let piece = class.swap_remove(at);
                self.cached.set(self.cached.get() - piece.capacity);
                piece.free();
            }
        }
    }

    fn give_back(&self, piece: Piece) {
        self.lent.set(self.lent.get() - piece.capacity);
        self.cached.set(self.cached.get() + piece.capacity);
        let class = class_of(piece.capacity);
        let mut free = self.free.borrow_mut();
        if free.len() <= class {
            free.resize_with(class + 1, Vec::new);
        }
        free[class].push(piece);
        drop(free);
        self.wake_next();
    }

    fn collect_returned(&self) {
        while let Some(piece) = self.home.returned.pop() {
            self.give_back(piece);
        }
    }

    fn wake_next(&self) {
        if let Some((_, waker)) = self.waiters.borrow().front() {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.home.closed.store(true, Ordering::SeqCst);
        self.home.free_returned();
        for piece in self.free.get_mut().drain(..).flatten() {
            piece.free();
        }
    }
}

/// Waits, first come first served, for memory of this core's pool.
struct Alloc {
    pool: Rc<Pool>,
    len: usize,
    capacity: usize,
    /// The place in the queue, once one had to wait.
    ticket: Option<u64>,
}

impl Alloc {
    fn is_next(&self) -> bool {
        let waiters = self.pool.waiters.borrow();
        waiters.front().is_none_or(|(first, _)| Some(*first) == self.ticket)
    }

    fn queue(&mut self, waker: &Waker) {
        let mut waiters = self.pool.waiters.borrow_mut();
        let queued = self.ticket.and_then(|ticket| waiters.iter_mut().find(|(held, _)| *held == ticket));
        if let Some((_, held)) = queued {
            held.clone_from(waker);
            return;
        }
        let ticket = self.pool.next_ticket.replace(self.pool.next_ticket.get() + 1);
        waiters.push_back((ticket, waker.clone()));
        self.ticket = Some(ticket);
    }
}

impl Future for Alloc {
    type Output = BlockMut;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BlockMut> {
        if self.is_next() {
            // Registered before looking, so that a block returned by another thread in between is not missed.
            self.pool.home.waiter.register(cx.waker());
            if let Some(slab) = self.pool.take(self.capacity) {
                return Poll::Ready(BlockMut::new(slab, self.len));
            }
        }
        self.queue(cx.waker());
        Poll::Pending
    }
}

impl Drop for Alloc {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.pool.waiters.borrow_mut().retain(|(held, _)| *held != ticket);
            self.pool.wake_next();
        }
    }
}

/// Capacities grow in quarters of a power of two, so that at most a fifth of a large block is unused.
fn capacity_for(len: usize) -> usize {
    let pages = len.div_ceil(ALIGN).max(1);
    if pages <= 4 {
        return pages * ALIGN;
    }
    let step = pages.next_power_of_two() / 8;
    pages.div_ceil(step) * step * ALIGN
}

/// The free list of a capacity made by [`capacity_for`].
fn class_of(capacity: usize) -> usize {
    let pages = capacity / ALIGN;
    if pages <= 4 {
        return pages - 1;
    }
    let half = pages.next_power_of_two() / 2;
    let quarter = (pages - half).div_ceil(half / 4);
    half.trailing_zeros() as usize * 4 - 5 + quarter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_have_one_class_each_and_little_waste() {
        let mut previous = (0, None);
        for pages in 1..5000 {
            let capacity = capacity_for(pages * ALIGN - 7);
            assert!(capacity >= pages * ALIGN && capacity <= pages * ALIGN * 5 / 4 + ALIGN, "{pages} pages");
            let class = class_of(capacity);
            match previous {
                (held, Some(held_class)) if held == capacity => assert_eq!(class, held_class),
                (_, Some(held_class)) => assert_eq!(class, held_class + 1, "{pages} pages"),
                _ => assert_eq!(class, 0),
            }
            previous = (capacity, Some(class));
        }
    }
}
