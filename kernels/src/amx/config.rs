//! The tile registers of a thread: configured while a value lives, released after.

use std::arch::asm;
use std::cell::Cell;
use std::marker::PhantomData;

/// The proof that this process may execute the tile instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx(());

impl Amx {
    /// # Safety
    /// - Every thread of this process can execute AMX-TILE, AMX-BF16 and AMX-INT8 instructions
    ///   with tiles of 16 rows of 64 bytes: [`permitted`](super::permitted) said so.
    pub(crate) unsafe fn assume_supported() -> Amx {
        Amx(())
    }
}

/// The layout that LDTILECFG reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Palette 1; all eight tiles have 16 rows of 64 bytes. There is one configuration for everything:
/// what has fewer rows or columns is computed in full and stored in part.
static CONFIG: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

thread_local! {
    /// How many [`Tiles`] live on this thread.
    static ALIVE: Cell<usize> = const { Cell::new(0) };
}

/// The eight tile registers of this thread, at 16 rows of 64 bytes each. What they hold is anything.
///
/// While tiles are in use the kernel saves and restores eight kilobytes more at each switch of
/// threads, and some CPUs do not sleep as deeply; so they are released when the last value of the
/// thread is dropped, on unwinding too. Values may nest, as they do when a thread that waits for
/// others takes up another piece of work: the outermost loads and releases.
pub(crate) struct Tiles {
    /// Registers belong to a thread: neither `Send` nor `Sync`.
    _thread: PhantomData<*mut ()>,
}

impl Tiles {
    /// Configures the tiles of this thread.
    pub(crate) fn new(_: Amx) -> Tiles {
        let alive = ALIVE.get();
        if alive == 0 {
            // SAFETY: the token proves the instruction; the configuration is 64 bytes that it
            // accepts; no other code of this crate keeps anything in a tile.
            unsafe {
                asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(readonly, nostack, preserves_flags));
            }
        }
        ALIVE.set(alive + 1);
        Tiles { _thread: PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        let alive = ALIVE.get() - 1;
        ALIVE.set(alive);
        if alive == 0 {
            // SAFETY: a token made this value, which proves the instruction; nobody else on this
            // thread uses the tiles any more.
            unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
        }
    }
}
