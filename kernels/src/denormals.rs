//! Subnormal numbers taken for zero, for a while and on one thread.
//!
//! A subnormal operand or result (below 2^-126 in f32) sends most x86 cores into microcode, at a
//! hundred cycles and more an operation. A model whose activations decay into that range is
//! correct and some thirty times slower; what it gains are digits below 1e-38. The cure of the
//! processors is two bits of the control register, FTZ (a subnormal result becomes zero) and DAZ
//! (a subnormal operand is read as zero).
//!
//! The register belongs to a thread and outlives the function that writes it, hence the form: the
//! bits hold while a closure runs and are put back however it ends. Other threads know nothing of
//! it. Whatever [`crate::join`] hands to another thread runs there with the bits of the one who
//! called `join`; work that comes to a thread in any other way has to enter by itself.
//!
//! The compiler is not told of the mode: it may fold a sum of constants by the rules of IEEE 754,
//! subnormals and all. Kernels compute with what they load, and lose nothing but that corner.

/// Runs `f` with subnormal operands and results taken for zero on this thread: MXCSR's FTZ and DAZ
/// on x86-64, FPCR's FZ on aarch64, nothing elsewhere. The previous setting is back when `f` has
/// returned or unwound. See [`crate::join`] for the work that `f` shares with other threads.
pub fn flush_denormals<R>(f: impl FnOnce() -> R) -> R {
    Denormals::FLUSHED.during(f)
}

/// How a thread treats subnormal numbers: the bits of its control register that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denormals(Register);

impl Denormals {
    const FLUSHED: Denormals = Denormals(FLUSH);

    /// The setting of this thread.
    pub(crate) fn current() -> Denormals {
        Denormals(read() & FLUSH)
    }

    /// Runs `f` with this setting.
    pub(crate) fn during<R>(self, f: impl FnOnce() -> R) -> R {
        struct Restore(Denormals);
        impl Drop for Restore {
            fn drop(&mut self) {
                self.0.set();
            }
        }
        let before = Denormals::current();
        if before == self {
            return f();
        }
        let _restore = Restore(before);
        self.set();
        apart(f)
    }

    /// Changes these bits alone: neither the rounding mode nor the sticky flags.
    fn set(self) {
        write(read() & !FLUSH | self.0);
    }
}

/// A call of its own: nothing that `f` computes is moved to before the register is written.
#[inline(never)]
fn apart<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
mod register {
    use std::arch::asm;

    pub(super) type Register = u32;

    /// Flush to zero, and denormals are zeros. Every x86-64 processor has both.
    pub(super) const FLUSH: Register = 1 << 15 | 1 << 6;

    pub(super) fn read() -> Register {
        let mut value: Register = 0;
        // SAFETY: `stmxcsr` stores the register to the four bytes given.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
        value
    }

    pub(super) fn write(value: Register) {
        // SAFETY: `ldmxcsr` loads the register from the four bytes given. The value is one that was
        // read, with no bit changed but FTZ and DAZ, so no reserved bit is set and no exception is
        // unmasked; the two bits change numbers, and `Denormals::during` puts them back.
        unsafe {
            asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags));
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    use std::arch::asm;

    pub(super) type Register = u64;

    /// FZ: subnormal operands and results of f32 and f64 are zeros.
    pub(super) const FLUSH: Register = 1 << 24;

    pub(super) fn read() -> Register {
        let value: Register;
        // SAFETY: FPCR is readable in user mode.
        unsafe { asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    pub(super) fn write(value: Register) {
        // SAFETY: FPCR is writable in user mode. The value is one that was read, with no bit
        // changed but FZ; that bit changes numbers, and `Denormals::during` puts it back.
        unsafe { asm!("msr fpcr, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod register {
    pub(super) type Register = u32;
    pub(super) const FLUSH: Register = 0;

    pub(super) fn read() -> Register {
        0
    }

    pub(super) fn write(_: Register) {}
}

use register::{FLUSH, Register, read, write};

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use std::hint::black_box;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::*;
    use crate::testing::for_each_level;
    use crate::{Epilogue, Matrix, PackedMatrix, matmul};

    /// Whether a subnormal operand is read as zero, and whether a subnormal result becomes zero.
    fn flushes() -> (bool, bool) {
        let operand = black_box(1e-40_f32) * black_box(1e30);
        let result = black_box(1e-30_f32) * black_box(1e-10);
        (operand == 0.0, result == 0.0)
    }

    #[test]
    fn subnormals_are_zero_inside_and_not_outside() {
        assert_eq!(flushes(), (false, false));
        assert_eq!(flush_denormals(flushes), (true, true));
        assert_eq!(flushes(), (false, false));
    }

    #[test]
    fn the_inner_of_two_scopes_leaves_the_outer_one_as_it_was() {
        let inside = flush_denormals(|| {
            flush_denormals(|| ());
            flushes()
        });
        assert_eq!(inside, (true, true));
        assert_eq!(flushes(), (false, false));
    }

    #[test]
    fn a_panic_puts_the_setting_back() {
        let caught = catch_unwind(|| flush_denormals(|| resume_unwind(Box::new(flushes()))));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&(true, true)));
        assert_eq!(flushes(), (false, false));
    }

    #[test]
    fn rounding_mode_and_sticky_flags_are_left_alone() {
        let control = read();
        let inside = flush_denormals(read);
        assert_eq!(inside & !FLUSH, control & !FLUSH);
        assert_eq!(inside & FLUSH, FLUSH);
        // An inexact result inside may leave its flag, as it would outside.
        flush_denormals(|| black_box(black_box(1.0_f32) / black_box(3.0)));
        assert_eq!(Denormals::current(), Denormals(0));
    }

    #[test]
    fn a_worker_of_a_pool_is_as_before_afterwards() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(pool.install(|| flush_denormals(flushes)), (true, true));
        assert_eq!(pool.install(flushes), (false, false));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            pool.install(|| flush_denormals(|| resume_unwind(Box::new(()))));
        }));
        assert!(panicked.is_err());
        assert_eq!(pool.install(flushes), (false, false));
    }

    #[test]
    fn products_at_every_level_are_flushed() {
        for_each_level(|level| {
            let x = Matrix::from_fn(3, 40, |_, _| 1e-20);
            let w = Matrix::from_fn(50, 40, |_, _| 1e-20);
            let w = PackedMatrix::new(level, w.view());
            let mut y = Matrix::from_fn(3, 50, |_, _| f32::NAN);
            let mut product = || {
                matmul(x.view(), &w, Epilogue::Store, y.view_mut());
                y.as_slice().iter().all(|&y| y == 0.0)
            };
            assert!(!product() && flush_denormals(&mut product) && !product(), "{level}");
        });
    }
}
