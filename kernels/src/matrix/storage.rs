//! Memory for a matrix: zeroed, aligned, and on huge pages where there is much of it.
//!
//! A product streams its weights, and with pages of 4 KB every 64th cache line needs a new address
//! translation, which a virtual machine walks twice. On pages of 2 MB the same product of 128 rows
//! with weights from memory ran 1.2 times as fast, with 512 rows 1.5 times.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::Element;

/// A cache line: the alignment of small buffers.
const LINE: usize = 64;

/// A huge page: the alignment of buffers that are at least half as large.
const HUGE_PAGE: usize = 2 << 20;

/// A zeroed buffer whose bytes may be read as any [`Element`]s.
pub(super) struct Storage {
    bytes: NonNull<u8>,
    layout: Layout,
    /// It owns plain bytes.
    owned: PhantomData<[u8]>,
}

// SAFETY: the buffer is owned, and its bytes are plain data.
unsafe impl Send for Storage {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Storage {}

impl Storage {
    /// `len` bytes of zero.
    ///
    /// # Panics
    /// If `len` is beyond what the address space can hold.
    pub(super) fn zeroed(len: usize) -> Storage {
        let align = if len >= HUGE_PAGE / 2 { HUGE_PAGE } else { LINE };
        let layout = Layout::from_size_align(len, align).expect("a size within the address space");
        if len == 0 {
            let bytes = NonNull::<Aligned>::dangling().cast();
            return Storage { bytes, layout, owned: PhantomData };
        }
        // SAFETY: the size is not zero.
        let Some(bytes) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        if align == HUGE_PAGE {
            advise_huge_pages(bytes, len);
        }
        // SAFETY: `len` bytes that were just allocated.
        unsafe { bytes.write_bytes(0, len) };
        Storage { bytes, layout, owned: PhantomData }
    }

    /// The size in bytes.
    pub(super) fn len(&self) -> usize {
        self.layout.size()
    }

    /// All whole elements.
    pub(super) fn as_slice<T: Element>(&self) -> &[T] {
        let len = self.len() / size_of::<T>();
        // SAFETY: the bytes are initialised and owned, aligned for any element (a line at least),
        // and any bits are a valid element, which is plain data.
        unsafe { std::slice::from_raw_parts(self.bytes.cast().as_ptr(), len) }
    }

    /// All whole elements.
    pub(super) fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        let len = self.len() / size_of::<T>();
        // SAFETY: as for `as_slice`, and `&mut self` makes this the only access.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.cast().as_ptr(), len) }
    }
}

/// A type of the alignment of a line, for the address of an empty buffer.
#[repr(align(64))]
struct Aligned;

impl Drop for Storage {
    fn drop(&mut self) {
        if self.len() > 0 {
            // SAFETY: allocated in `zeroed` with this layout.
            unsafe { dealloc(self.bytes.as_ptr(), self.layout) };
        }
    }
}

impl Clone for Storage {
    fn clone(&self) -> Storage {
        let mut copy = Storage::zeroed(self.len());
        copy.as_mut_slice::<u32>().copy_from_slice(self.as_slice());
        copy
    }
}

/// Asks for huge pages behind memory that has not been touched yet. Advice: that the system does not
/// follow it is no error.
fn advise_huge_pages(bytes: NonNull<u8>, len: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: inside an allocation of this process, from an address aligned to any page size on; a
    // length that is no multiple of it is refused or rounded, and the advice changes no contents.
    unsafe {
        libc::madvise(bytes.as_ptr().cast(), len / 4096 * 4096, libc::MADV_HUGEPAGE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (bytes, len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zeroed_and_aligned() {
        for len in [0, 4, 64, 4096, HUGE_PAGE / 2 - 4, HUGE_PAGE / 2, 3 * HUGE_PAGE + 8] {
            let mut storage = Storage::zeroed(len);
            let address = storage.as_slice::<u8>().as_ptr() as usize;
            assert_eq!(address % LINE, 0, "{len}");
            assert!(len < HUGE_PAGE / 2 || address.is_multiple_of(HUGE_PAGE), "{len}");
            assert!(storage.as_slice::<u8>().iter().all(|&byte| byte == 0));
            storage.as_mut_slice::<f32>().fill(1.5);
            let copy = storage.clone();
            drop(storage);
            assert!(copy.as_slice::<f32>().len() == len / 4);
            assert!(copy.as_slice::<f32>().iter().all(|&x| x == 1.5));
        }
    }
}
