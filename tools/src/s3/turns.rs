//! How many pieces of bodies are in memory at a time.

use std::cell::Cell;

use cairn_io::Bell;

/// A number of turns: who takes one while none is left waits.
#[derive(Debug)]
pub struct Turns {
    free: Cell<usize>,
    freed: Bell,
}

/// A turn; dropping it gives it back.
#[derive(Debug)]
pub struct Turn<'a>(&'a Turns);

impl Turns {
    /// So many, at least one.
    pub fn new(count: usize) -> Self {
        Self { free: Cell::new(count.max(1)), freed: Bell::default() }
    }

    /// Waits for one.
    pub async fn take(&self) -> Turn<'_> {
        while self.free.get() == 0 {
            self.freed.rung().await;
        }
        self.free.set(self.free.get() - 1);
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        self.0.freed.ring();
    }
}
