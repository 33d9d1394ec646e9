//! `encode_into` allocates nothing once its memory has grown.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Rng, random_text, tokenizer_json, vocab};
use ferrite_tokenizer::{EncodeOptions, Encoding, Error, Scratch, Tokenizer, Truncation};

/// Counts the allocations of this thread's steady state.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
thread_local!(static COUNTED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });

// SAFETY: the system's allocator, with a counter beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.try_with(std::cell::Cell::get).unwrap_or(false) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_once_warm() {
    let tokenizer = Tokenizer::from_json_str(&tokenizer_json().to_string()).expect("valid");
    let vocab = vocab();
    let mut rng = Rng(9);
    let texts: Vec<String> = (0..300).map(|_| random_text(&mut rng, &vocab)).collect();
    let truncation = Some(Truncation { stride: 3, ..Truncation::new(16) });
    let options = EncodeOptions { truncation, overflowing: true, ..EncodeOptions::default() };
    let (mut out, mut scratch) = (Encoding::default(), Scratch::new());
    let mut all = || {
        for pair in texts.windows(2) {
            let result =
                tokenizer.encode_into(&pair[0], Some(&pair[1]), &options, &mut out, &mut scratch);
            assert!(matches!(result, Ok(()) | Err(Error::StrideTooLarge { .. })));
        }
    };
    // The windows change places from round to round until each is large enough.
    (0..20).for_each(|_| all());
    COUNTED.set(true);
    all();
    COUNTED.set(false);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), 0);
}
