//! Work that one thread offers and another may take: the protocol between two threads, in one
//! word, and all the `unsafe` of it.
//!
//! A [`Slot`] is null (nothing here), the address of a [`Job`] (on offer), or an odd number
//! (taken, and by whom). Only its owner offers; the transitions are
//!
//! ```text
//! null -> job     owner   Release            the job was written before
//! job  -> taken   thief   compare, Acquire   reads the job as it was offered
//! taken -> null   thief   Release            the result was written before; the thief's last touch
//! job  -> null    owner   compare, Relaxed   nobody took it: what the owner wrote is still its own
//! ```
//!
//! Two compare-exchanges on one word, so exactly one of the owner and the thieves gets the job. The
//! owner's load that sees null after taken is an Acquire: it reads the result that the thief wrote.
//! A thief that looked at an address, was held up, and finds the same address again may hold
//! another job than the one it saw; it has read nothing of the first, and its exchange acquires the
//! second.
//!
//! A job lives on its owner's stack. The owner does not leave the frame while the slot is not null,
//! so a thief, which touches the job only between taken and null, never meets a dead one.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread;

use crate::denormals::Denormals;

/// Where work is offered.
#[derive(Debug, Default)]
pub(super) struct Slot(AtomicPtr<Header>);

/// What a thief sees of a job of any type.
#[derive(Debug)]
struct Header {
    /// Runs the job at this address.
    ///
    /// # Safety
    /// The header is that of a live job which this thread has taken and not yet run.
    run: unsafe fn(*const Header),
}

/// A closure, how its thread treats subnormals, and, once it was run by another, its result.
#[repr(C)]
struct Job<F, R> {
    /// At the address of the job.
    header: Header,
    denormals: Denormals,
    state: UnsafeCell<State<F, R>>,
}

enum State<F, R> {
    Waiting(F),
    Running,
    Done(thread::Result<R>),
}

impl Slot {
    /// Runs `a` and `b` and returns both results; `b` is on offer in this slot while `a` runs. If
    /// another member took it, `wait(who)` is called again and again until it is done.
    ///
    /// If `a` panics, so does this, once nobody works on `b`: it may or may not have run. If `b`
    /// panics, so does this, after `a` has returned.
    ///
    /// # Safety
    /// The slot is this thread's and empty. `wait` does not panic.
    pub(super) unsafe fn join<A, B, RA, RB>(
        &self,
        a: A,
        b: B,
        mut wait: impl FnMut(usize),
    ) -> (RA, RB)
    where
        A: FnOnce() -> RA,
        B: FnOnce() -> RB + Send,
        RB: Send,
    {
        let job = Job {
            header: Header { run: Job::<B, RB>::run },
            denormals: Denormals::current(),
            state: UnsafeCell::new(State::Waiting(b)),
        };
        let address = (&raw const job).cast::<Header>().cast_mut();
        debug_assert!(self.0.load(Ordering::Relaxed).is_null(), "the slot is empty");
        self.0.store(address, Ordering::Release);
        // From here to the end of the loop nothing unwinds.
        let a = catch_unwind(AssertUnwindSafe(a));
        let own =
            self.0.compare_exchange(address, ptr::null_mut(), Ordering::Relaxed, Ordering::Acquire);
        if let Err(mut taken) = own {
            while !taken.is_null() {
                wait(taken.addr() >> 1);
                taken = self.0.load(Ordering::Acquire);
            }
        }
        let a = a.unwrap_or_else(|panic| resume_unwind(panic));
        let b = match job.state.into_inner() {
            State::Waiting(b) => b(),
            State::Done(b) => b.unwrap_or_else(|panic| resume_unwind(panic)),
            State::Running => unreachable!("whoever took it has finished"),
        };
        (a, b)
    }

    /// Whether there is something to take. It may be gone at the next moment.
    pub(super) fn on_offer(&self) -> bool {
        is_job(self.0.load(Ordering::Relaxed))
    }

    /// Takes what is on offer and runs it, in the name of member `member`. Whether there was
    /// something. Does not panic.
    pub(super) fn take_and_run(&self, member: usize) -> bool {
        let seen = self.0.load(Ordering::Relaxed);
        let taken = ptr::without_provenance_mut(member << 1 | 1);
        if !is_job(seen) {
            return false;
        }
        match self.0.compare_exchange(seen, taken, Ordering::Acquire, Ordering::Relaxed) {
            Err(_) => false,
            Ok(job) => {
                // SAFETY: the exchange makes this thread the one that has the job, and its owner
                // keeps it alive until the slot is null.
                unsafe { ((*job).run)(job) };
                self.0.store(ptr::null_mut(), Ordering::Release);
                true
            }
        }
    }
}

/// Jobs lie at even addresses: they begin with a pointer.
fn is_job(word: *mut Header) -> bool {
    !word.is_null() && word.addr().is_multiple_of(2)
}

impl<F: FnOnce() -> R + Send, R: Send> Job<F, R> {
    /// # Safety
    /// As [`Header::run`], and the header is that of a job of this type.
    unsafe fn run(header: *const Header) {
        let job = header.cast::<Job<F, R>>();
        // SAFETY: the header is the first field of a live job, and its address was made from that
        // of the whole job. The owner does not touch the state before the slot is null.
        let (denormals, state) = unsafe { ((*job).denormals, &mut *(*job).state.get()) };
        if let State::Waiting(f) = std::mem::replace(state, State::Running) {
            *state = State::Done(denormals.during(|| catch_unwind(AssertUnwindSafe(f))));
        }
    }
}
