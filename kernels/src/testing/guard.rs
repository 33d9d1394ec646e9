//! Memory between two pages that fault.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Which end of a [`Guarded`] lies directly at a faulting page. The other end is up to a page
/// away, so a test runs with both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The first element begins where a faulting page ends.
    Start,
    /// The last element ends where a faulting page begins.
    End,
}

impl Edge {
    /// Both edges.
    pub const BOTH: [Edge; 2] = [Edge::Start, Edge::End];
}

/// A slice of `f32` that begins or ends at a page without any access right: a kernel that reads or
/// writes beyond it dies with a segmentation fault. Filled with NaN at first, so that a result
/// shows what was not written or was read too early.
#[derive(Debug)]
pub struct Guarded {
    map: NonNull<u8>,
    map_bytes: usize,
    data: NonNull<f32>,
    len: usize,
}

impl Guarded {
    /// `len` elements of NaN, at `edge`.
    ///
    /// # Panics
    /// If the operating system refuses.
    pub fn nan(len: usize, edge: Edge) -> Guarded {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let bytes = len * size_of::<f32>();
        let inner = bytes.next_multiple_of(page);
        let map_bytes = inner + 2 * page;
        // SAFETY: a new anonymous mapping at an address of the system's choice.
        let map = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), map_bytes, libc::PROT_NONE, flags, -1, 0)
        };
        assert_ne!(map, libc::MAP_FAILED, "no memory for a guarded buffer");
        let map = NonNull::new(map.cast::<u8>()).expect("mmap gives no null");
        let offset = match edge {
            Edge::Start => page,
            Edge::End => page + inner - bytes,
        };
        // SAFETY: the pages between the first and the last of the mapping just made; `data` lies
        // in them, on a multiple of four bytes.
        let data = unsafe {
            let pages = map.add(page).as_ptr().cast();
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(libc::mprotect(pages, inner, rights), 0, "no access to a guarded buffer");
            map.add(offset).cast::<f32>()
        };
        let mut guarded = Guarded { map, map_bytes, data, len };
        guarded.fill(f32::NAN);
        guarded
    }

    /// A copy of `x`, at `edge`.
    pub fn copy(x: &[f32], edge: Edge) -> Guarded {
        let mut guarded = Guarded::nan(x.len(), edge);
        guarded.copy_from_slice(x);
        guarded
    }
}

impl Deref for Guarded {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len` elements between the guards, initialised, owned by this value.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: `len` elements between the guards, owned by this value. The pages come zeroed, so
        // they are initialised from the start.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `nan` with this length and is not used any more.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.map_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_hold_what_they_are_given() {
        for edge in Edge::BOTH {
            for len in [0, 1, 17, 1024, 1025] {
                let mut x = Guarded::nan(len, edge);
                assert!(x.len() == len && x.iter().all(|x| x.is_nan()));
                x.fill(2.5);
                assert_eq!(Guarded::copy(&x, edge)[..], vec![2.5; len]);
            }
        }
    }

    /// The guard that guards nothing would let every test pass: a child process reads across each
    /// edge and must die of it.
    #[test]
    fn reading_across_an_edge_kills_the_process() {
        const VARIABLE: &str = "FERRITE_TEST_CROSS_EDGE";
        let name = "reading_across_an_edge_kills_the_process";
        let read = |edge| {
            let x = Guarded::nan(5, edge);
            let outside = match edge {
                Edge::Start => x.as_ptr().wrapping_sub(1),
                Edge::End => x.as_ptr().wrapping_add(5),
            };
            // SAFETY: it is not; the process is here to die of this.
            let value = unsafe { outside.read_volatile() };
            println!("read {value}");
        };
        match std::env::var(VARIABLE).as_deref() {
            Ok("start") => read(Edge::Start),
            Ok("end") => read(Edge::End),
            _ => {
                for edge in ["start", "end"] {
                    let child = std::process::Command::new(std::env::current_exe().unwrap())
                        .args([name, "--test-threads=1"])
                        .env(VARIABLE, edge)
                        .output()
                        .unwrap();
                    use std::os::unix::process::ExitStatusExt;
                    assert_eq!(child.status.signal(), Some(libc::SIGSEGV), "{edge}: {child:?}");
                }
            }
        }
    }
}
