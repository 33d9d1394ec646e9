//! The tile instructions on a CPU that has none, so that the machine code of the AMX kernels is
//! tested anywhere.
//!
//! [`emulate`] installs a handler for illegal instructions. Where the one that was met is one of
//! the eight that `decode.rs` knows, the handler runs it against the tile registers of its thread,
//! which are a [`Machine`], and lets the program go on behind it. Whatever else is illegal, a tile
//! instruction with operands or a configuration that the CPU would refuse among them, goes to the
//! handler that was there before.
//!
//! Each instruction costs a trap and some ten thousand scalar operations: fit for tests alone.

mod decode;
mod machine;
#[cfg(test)]
mod tests;

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::sync::{Once, OnceLock};

use decode::{Address, Base, Operation, decode};
pub use machine::Machine;

use crate::amx::permitted;

/// What executes the tile instructions of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// The CPU.
    Hardware,
    /// The handler that [`emulate`] installed.
    Emulator,
}

/// Sees to it that tile instructions can be executed from here on, on every thread: by the CPU
/// where this process may use its tile unit, else by the emulator. Says which, once on stdout too.
///
/// # Panics
/// If the operating system refuses a handler.
pub fn emulate() -> Executor {
    static INSTALL: Once = Once::new();
    let executor = if permitted() { Executor::Hardware } else { Executor::Emulator };
    INSTALL.call_once(|| {
        println!("tile instructions are executed by: {executor:?}");
        if executor == Executor::Emulator {
            install();
        }
    });
    executor
}

/// The proof that tile instructions can be executed, by whatever does it.
#[cfg(test)]
pub(crate) fn token() -> crate::amx::Amx {
    emulate();
    // SAFETY: the CPU executes them, or the handler does: every instruction of the kernels is one
    // of those it knows.
    unsafe { crate::amx::Amx::assume_supported() }
}

/// What SIGILL did before.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

thread_local! {
    /// The tile registers of a thread. Without an initialiser and without a destructor, so that a
    /// signal handler may reach them.
    static MACHINE: UnsafeCell<Machine> = const { UnsafeCell::new(Machine::new()) };
}

fn install() {
    // SAFETY: zeroes are a valid `sigaction`; the calls read and write the structs they are given.
    // The handler does nothing that a handler may not: see there.
    unsafe {
        let mut previous: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(libc::SIGILL, std::ptr::null(), &mut previous), 0);
        PREVIOUS.get_or_init(|| previous);
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_illegal;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigemptyset(&mut action.sa_mask);
        assert_eq!(libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()), 0);
    }
}

/// The handler. It allocates nothing, takes no lock, calls nothing of the C library on its way back
/// to the program, and touches the memory that the instruction would touch: where that faults, the
/// process dies of it as it would have. The kernel gives a handler the default rounding mode.
extern "C" fn on_illegal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the third argument is the interrupted thread's context, which is this
    // handler's to change.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let rip = registers[libc::REG_RIP as usize];
    // SAFETY: the CPU has just read the instruction there.
    if let Some((operation, length)) = unsafe { decode(rip as *const u8) } {
        let next = rip.wrapping_add(length as i64);
        let machine = MACHINE.with(UnsafeCell::get);
        // SAFETY: the machine is this thread's, and the handler is the only one to use it: it
        // executes no tile instruction, so it is not entered again on this thread. The interrupted
        // code vouches for the memory, as it does to the CPU.
        if unsafe { execute(&mut *machine, operation, registers, next) } {
            registers[libc::REG_RIP as usize] = next;
            return;
        }
    }
    // SAFETY: these are the arguments of a handler.
    unsafe { hand_on(signal, info, context) }
}

/// Runs an instruction; `false` if the CPU would refuse it.
///
/// # Safety
/// - The memory that the instruction reads and writes is the interrupted code's to read and write.
unsafe fn execute(
    machine: &mut Machine,
    operation: Operation,
    registers: &[libc::greg_t; 23],
    next: i64,
) -> bool {
    let register = |number: u8| registers[REGISTERS[usize::from(number)] as usize];
    let base = |address: Address| {
        let base = match address.base {
            Base::Register(number) => register(number),
            Base::NextInstruction => next,
            Base::None => 0,
        };
        base.wrapping_add(address.displacement)
    };
    let index = |address: Address| address.index.map_or(0, register) << address.scale;
    match operation {
        Operation::LoadConfig(address) => {
            let at = base(address).wrapping_add(index(address)) as *const [u8; 64];
            // SAFETY: the caller's promise.
            let config = unsafe { at.read_unaligned() };
            machine.load_config(&config)
        }
        Operation::StoreConfig(address) => {
            let at = base(address).wrapping_add(index(address)) as *mut [u8; 64];
            // SAFETY: the caller's promise.
            unsafe { at.write_unaligned(machine.config()) };
            true
        }
        Operation::Release => {
            machine.release();
            true
        }
        Operation::Zero(tile) => machine.zero(tile),
        Operation::Load(tile, address) => {
            let (from, stride) = (base(address) as *const u8, index(address) as isize);
            // SAFETY: the caller's promise.
            unsafe { machine.load(tile, from, stride) }
        }
        Operation::Store(tile, address) => {
            let (to, stride) = (base(address) as *mut u8, index(address) as isize);
            // SAFETY: the caller's promise.
            unsafe { machine.store(tile, to, stride) }
        }
        Operation::Bf16 { c, a, b } => machine.multiply_bf16(c, a, b),
        Operation::Int8 { c, a, b } => machine.multiply_int8(c, a, b),
    }
}

/// Where the context keeps the registers, by the numbers that instructions have for them.
const REGISTERS: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Does what would have been done without the emulator. Where that was the default, it is put back
/// and the instruction met again, which ends the process with the right signal.
///
/// # Safety
/// - The arguments are those of a signal handler.
unsafe fn hand_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(previous) = PREVIOUS.get() else { return };
    // SAFETY: a handler that was installed with these flags takes these arguments.
    unsafe {
        match previous.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, std::ptr::null_mut());
            }
            handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                std::mem::transmute::<libc::sighandler_t, Handler>(handler)(signal, info, context)
            }
            handler => {
                type Handler = extern "C" fn(c_int);
                std::mem::transmute::<libc::sighandler_t, Handler>(handler)(signal)
            }
        }
    }
}
