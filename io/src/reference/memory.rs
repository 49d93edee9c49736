//! Aligned memory from the standard allocator.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::hint::black_box;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use crate::block::ALIGN;

/// How long it takes to allocate and free `bytes` aligned ones, `times` times.
pub fn alloc_and_free(bytes: usize, times: u64) -> Duration {
    let layout = layout(bytes);
    let started = Instant::now();
    for _ in 0..times {
        // SAFETY: the layout's size isn't zero; what is allocated is freed with the same layout.
        unsafe {
            let memory = black_box(alloc(layout));
            assert!(!memory.is_null(), "out of memory");
            dealloc(memory, layout);
        }
    }
    started.elapsed()
}

fn layout(bytes: usize) -> Layout {
    assert!(bytes > 0, "no memory is no buffer");
    Layout::from_size_align(bytes, ALIGN).expect("a buffer smaller than the address space")
}

/// From here on a buffer asks for huge pages. A disk takes only so many pieces of memory in one request (254 on the
/// virtio disk this was written on), and 1 MiB of scattered small pages is 256. Whether that is what makes large
/// writes differ from run to run has not been shown.
const LARGE: usize = 1 << 20;

const HUGE_PAGE: usize = 2 << 20;

/// One aligned buffer.
pub(super) struct Buffer {
    data: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Every page of it is written, so that no measured operation pays for its first touch.
    pub fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, if bytes < LARGE { ALIGN } else { HUGE_PAGE });
        let layout = layout.expect("a buffer smaller than the address space");
        assert!(bytes > 0, "no memory is no buffer");
        // SAFETY: the layout's size isn't zero.
        let data = unsafe { alloc_zeroed(layout) };
        let Some(data) = NonNull::new(data) else { handle_alloc_error(layout) };
        if bytes >= LARGE {
            // SAFETY: the range is this allocation's. Advice only: refused, the pages are small and nothing else changes.
            unsafe { libc::madvise(data.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        }
        let mut buffer = Self { data, layout };
        fill(&mut buffer);
        buffer
    }
}

/// Bytes that neither a disk nor a file system can compress or leave out.
fn fill(bytes: &mut [u8]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for word in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: initialised when allocated, and only its owner writes it.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once.
        unsafe { dealloc(self.data.as_ptr(), self.layout) }
    }
}
