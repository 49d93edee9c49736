//! Randomness: per core, seeded by the operating system or, in the simulation, by the world's seed.

pub use rand_core::RngCore;
use rand_core::{OsRng, SeedableRng, TryRngCore};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A fast generator with a specified algorithm, so that a seed means the same on every platform. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(Xoshiro256PlusPlus);

impl Rng {
    /// The generator that `seed` stands for.
    pub fn from_seed(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A number below `bound` (0 when `bound` is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        // Multiply-shift; its bias is below 2^-32 for the bounds used here.
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of 128 bits")
    }

    /// True with probability `per_million` / 1,000,000.
    pub fn chance(&mut self, per_million: u32) -> bool {
        self.below(1_000_000) < u64::from(per_million)
    }
}

impl RngCore for Rng {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.0.fill_bytes(dest);
    }
}

/// The next random number of this core.
pub fn next_u64() -> u64 {
    with(RngCore::next_u64)
}

/// Lends this core's generator to `f`.
pub fn with<R>(f: impl FnOnce(&mut Rng) -> R) -> R {
    f(&mut crate::core::current().rng.borrow_mut())
}

/// Bytes that nobody can guess: from the operating system. In the simulation, from this core's generator.
///
/// # Errors
/// If the system has no randomness to give.
pub fn secret() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    match &crate::core::current().backend {
        crate::driver::Backend::Real(_) => {
            OsRng.try_fill_bytes(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        }
        #[cfg(feature = "sim")]
        crate::driver::Backend::Sim(_) => with(|rng| rng.fill_bytes(&mut bytes)),
    }
    Ok(bytes)
}
