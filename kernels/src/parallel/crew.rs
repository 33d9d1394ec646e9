//! Threads that stay together for a while.
//!
//! A pool hands each piece of work to a thread by way of queues and, when that thread sleeps, of
//! the kernel: microseconds, paid for every operator of every layer. A crew pays once. Its helpers
//! are ordinary jobs of the pool which look at the slots of the crew's members, without rest, and
//! run what they find there. In the slots lies what [`super::join`] offers: some nanoseconds to
//! put there and to take back, a few times a cache line's way to another core to give away.
//!
//! Nobody waits for anybody who has not taken work:
//! - A helper's job that never begins, since its thread is busy, takes nothing. It holds the
//!   [`Station`] by an `Arc`; whenever it begins, it sees whether a crew is at work then.
//! - A thread has one station, for all the crews it will lead, and the jobs that have not ended are
//!   counted: they never exceed the pool, whatever becomes of its other threads.
//! - A helper ends when the leader's closure has returned, and also when it has found nothing for
//!   [`PATIENCE`]. The latter matters because a thread may begin a helper's job in the middle of
//!   another job that others wait for, maybe the leader: a pool runs what it finds while it waits.
//!   The next `join` calls for another helper.
//! - Who waits for a taken `b` runs meanwhile what its taker offers: nearly always parts of `b`, so
//!   that little unrelated work is stacked on a thread that others wait for. There is no circle of
//!   threads that wait: whoever waits, waits for a job that was begun after the waiting one, and a
//!   job is put off only by one that was begun after it on the same thread.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{hint, thread};

use super::offer::Slot;
use crate::denormals::Denormals;

/// How long a helper that finds nothing goes on looking. The longest part of a pass that a single
/// thread does alone should be shorter.
const PATIENCE: Duration = Duration::from_micros(500);

/// How long a thread looks without rest; after that it lets others have the core between two looks.
const EAGER: Duration = Duration::from_micros(50);

/// How long a thread that waits for work under way keeps its core; after that it sleeps between two
/// looks.
const AWAKE: Duration = Duration::from_millis(2);

/// How often `join` may be nested on one thread and still offer: a cache line of slots. Deeper
/// down, both closures run where they are.
const SLOTS: usize = 8;

thread_local! {
    /// The station of the crews that this thread leads.
    static STATION: RefCell<Option<Arc<Station>>> = const { RefCell::new(None) };
    /// This thread's place in a crew, of its own or another's.
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// Where the members of a crew meet.
#[derive(Debug)]
struct Station {
    /// Whether a crew is at work. No more than a hint: offers are safe by themselves.
    open: AtomicBool,
    /// Helpers whose jobs have not ended, begun or not.
    called: AtomicUsize,
    /// One for each thread of the pool; the leader's is the first.
    seats: Box<[Seat]>,
    /// Those of the called who are not running anything.
    spare: Aligned<AtomicIsize>,
}

/// A member's.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Seat {
    /// What the member offers, the oldest first.
    slots: [Slot; SLOTS],
    taken: AtomicBool,
}

/// On cache lines of its own: two, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Aligned<T>(T);

/// A thread's place in a crew. It never leaves its thread.
#[derive(Debug)]
struct Place {
    station: Arc<Station>,
    /// Of the seat, which is this thread's alone.
    index: usize,
    /// The slots of the seat that are in use: the first ones.
    depth: Cell<usize>,
}

/// Runs `f` with the idle threads of the current rayon pool standing by: each [`super::join`]
/// inside costs a fraction of a microsecond instead of several. For passes of many short parallel
/// sections, such as the layers of a model over a few tokens; while `f` runs, an idle thread of the
/// pool may be kept busy looking for work.
///
/// `f` never waits for a thread that is busy elsewhere, and runs alone if all are. Called inside a
/// crew, it just runs `f`; called outside any pool, it runs in the global one.
pub fn crew<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_none() {
        let denormals = Denormals::current();
        return rayon::scope(|_| denormals.during(|| crew(f)));
    }
    let threads = rayon::current_num_threads();
    if threads == 1 || in_crew() {
        return f();
    }
    let station = STATION.with_borrow_mut(|station| match station {
        Some(station) if station.seats.len() == threads => Arc::clone(station),
        _ => Arc::clone(station.insert(Station::new(threads))),
    });
    struct Close<'a>(&'a Station);
    impl Drop for Close<'_> {
        fn drop(&mut self) {
            self.0.open.store(false, Ordering::Relaxed);
        }
    }
    station.open.store(true, Ordering::Relaxed);
    let _close = Close(&station);
    station.call();
    Place { station: Arc::clone(&station), index: 0, depth: Cell::new(0) }.hold(f)
}

/// Whether this thread is a member of a crew at work.
pub(super) fn in_crew() -> bool {
    PLACE.with_borrow(Option::is_some)
}

/// [`super::join`] on a member of a crew.
pub(super) fn join<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    // Borrowed while the closures run, which may come here again, and may come to `crew` or to a
    // helper's job, which leave a place that is held as it is.
    PLACE.with_borrow(|place| place.as_ref().expect("in a crew").join(a, b))
}

impl Station {
    fn new(threads: usize) -> Arc<Station> {
        Arc::new(Station {
            open: AtomicBool::new(false),
            called: AtomicUsize::new(0),
            seats: (0..threads).map(|_| Seat::default()).collect(),
            spare: Aligned::default(),
        })
    }

    /// Calls for a helper if all are busy and the pool has more threads. Only on a thread of the
    /// crew's pool, which is the one that the job goes to.
    fn call(self: &Arc<Station>) {
        let most = self.seats.len() - 1;
        let short = || {
            self.called.load(Ordering::Relaxed) < most && self.spare.0.load(Ordering::Relaxed) <= 0
        };
        let one_more = |called| (called < most).then_some(called + 1);
        if short()
            && self.called.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
        {
            self.spare.0.fetch_add(1, Ordering::Relaxed);
            let station = Arc::clone(self);
            rayon::spawn(move || station.help());
        }
    }

    /// A helper's job, on any thread of the pool.
    fn help(self: Arc<Station>) {
        let member = in_crew();
        if self.is_open() && !member {
            let index = self.sit_down();
            let place = Place { station: Arc::clone(&self), index, depth: Cell::new(0) };
            place.hold(|| PLACE.with_borrow(|place| place.as_ref().expect("held").serve()));
            // Whoever sits here next finds the slots as they were left: empty.
            self.seats[index].taken.store(false, Ordering::Release);
        }
        self.spare.0.fetch_sub(1, Ordering::Relaxed);
        self.called.fetch_sub(1, Ordering::Relaxed);
        // Whoever offered in the meantime counted on this helper. (No fence makes sure that one of
        // the two sees the other; what is missed here, the next `join` makes good.) A member that
        // waits in the pool would only find the new job itself.
        if !member && self.is_open() && self.seats.iter().any(Seat::offers) {
            self.call();
        }
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// A free seat. There is one for each helper called for.
    fn sit_down(&self) -> usize {
        loop {
            for (index, seat) in self.seats.iter().enumerate().skip(1) {
                if !seat.taken.load(Ordering::Relaxed) && !seat.taken.swap(true, Ordering::Acquire)
                {
                    return index;
                }
            }
            hint::spin_loop();
        }
    }
}

impl Seat {
    fn offers(&self) -> bool {
        self.slots.iter().any(Slot::on_offer)
    }
}

impl Place {
    /// Runs `f` with this thread in this place.
    fn hold<R>(self, f: impl FnOnce() -> R) -> R {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                PLACE.set(None);
            }
        }
        PLACE.set(Some(self));
        let _leave = Leave;
        f()
    }

    fn join<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA,
        B: FnOnce() -> RB + Send,
        RB: Send,
    {
        struct Depth<'a>(&'a Cell<usize>, usize);
        impl Drop for Depth<'_> {
            fn drop(&mut self) {
                self.0.set(self.1);
            }
        }
        let depth = self.depth.get();
        let Some(slot) = self.station.seats[self.index].slots.get(depth) else {
            return (a(), b());
        };
        self.depth.set(depth + 1);
        let _depth = Depth(&self.depth, depth);
        let mut pause = Pause::default();
        let a = || {
            // With the offer in its place, where those who are about to leave find it.
            self.station.call();
            a()
        };
        // SAFETY: the seat is this thread's, and the slots from `depth` on are not in use: a job
        // that runs on top of this one finds `depth` raised, and `Slot::join` leaves the slot
        // empty, also by unwinding. `wait` runs jobs, which do not panic, and pauses.
        unsafe {
            slot.join(a, b, |taker| {
                if self.take_from(taker) {
                    pause = Pause::default();
                } else if pause.wait() > AWAKE {
                    thread::sleep(EAGER);
                }
            })
        }
    }

    /// Runs what is on offer until there is no crew or no prospect.
    fn serve(&self) {
        let station = &*self.station;
        let members = station.seats.len();
        let mut pause = Pause::default();
        while station.is_open() {
            let mut others = (1..members).map(|i| (self.index + i) % members);
            let found = others.any(|other| {
                station.seats[other].offers() && {
                    station.spare.0.fetch_sub(1, Ordering::Relaxed);
                    // There may be more to take, or soon will be.
                    self.station.call();
                    let ran = self.take_from(other);
                    station.spare.0.fetch_add(1, Ordering::Relaxed);
                    ran
                }
            });
            if found {
                pause = Pause::default();
            } else if pause.wait() > PATIENCE {
                return;
            }
        }
    }

    /// Runs one thing that another member offers, the oldest: the largest, if work is halved.
    fn take_from(&self, other: usize) -> bool {
        let slots = &self.station.seats[other].slots;
        slots.iter().any(|slot| slot.take_and_run(self.index))
    }
}

/// Waiting, ever less eagerly.
#[derive(Default)]
struct Pause {
    times: u32,
    since: Option<Instant>,
    waited: Duration,
}

impl Pause {
    /// Waits a little. Returns for how long it has gone on, about: the clock costs more than a look
    /// at the slots, and is not read each time.
    fn wait(&mut self) -> Duration {
        self.times = self.times.wrapping_add(1);
        if self.waited > EAGER {
            thread::yield_now();
        } else {
            hint::spin_loop();
            if !self.times.is_multiple_of(64) {
                return self.waited;
            }
        }
        self.waited = self.since.get_or_insert_with(Instant::now).elapsed();
        self.waited
    }
}
