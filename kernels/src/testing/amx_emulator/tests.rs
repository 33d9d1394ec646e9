//! The emulator against the manual, against the assembler, and against the CPU where it can be.

use std::arch::{asm, global_asm};
use std::ffi::{c_int, c_void};
use std::process::{Command, Output};

use super::decode::{Address, Base, Operation, decode};
use super::machine::{Machine, multiply_add};
use super::{Executor, emulate};
use crate::testing::{Edge, Guarded, Random};

/// A random f32 of any class: denormals, zeroes, infinities and NaN are frequent.
fn any_f32(random: &mut Random) -> f32 {
    let bits = random.bits() as u32;
    f32::from_bits(match random.below(8) {
        0 => bits & 0x807F_FFFF,
        1 => bits & 0x8000_0000,
        2 => bits | 0x7F80_0000,
        3 => bits & 0x80FF_FFFF | 0x0080_0000,
        _ => bits,
    })
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

#[test]
fn a_normal_multiply_add_is_that_of_the_standard_library() {
    let mut random = Random::new(1);
    let mut compared = 0;
    for _ in 0..200_000 {
        let [a, b] = [(); 2].map(|()| any_f32(&mut random));
        // Near the product every other time, or cancellation and ties would be rare.
        let c = match random.below(2) {
            0 => any_f32(&mut random),
            _ => -a * b * (1.0 + random.uniform(-2.0, 2.0) * f32::EPSILON),
        };
        let expected = a.mul_add(b, c);
        let flushed = [a, b, c].iter().any(|x| x.is_subnormal());
        if flushed || expected.abs() <= f32::MIN_POSITIVE && expected != 0.0 {
            continue;
        }
        // A zero that stands for something below the denormals is zero with either.
        assert!(same(multiply_add(a, b, c), expected), "{a:e} * {b:e} + {c:e}");
        compared += 1;
    }
    assert!(compared > 50_000, "{compared}");
}

/// Sums a hair off the middle between two f32, which f64 rounds to the middle itself.
#[test]
fn a_multiply_add_rounds_once() {
    let (ulp, u) = (f32::EPSILON, f32::EPSILON / 2.0);
    let a_little = 2f32.powi(-15);
    let below = multiply_add(1.0 + a_little, (1.0 - a_little) * u, 1.0 + ulp);
    assert_eq!(below, 1.0 + ulp);
    let a_little = 2f32.powi(-12);
    let above = multiply_add(1.0 + a_little, 1.0 + a_little, 2f32.powi(-60));
    assert_eq!(above, 1.0 + 2.0 * a_little + ulp);
    let below = multiply_add(-1.0 - a_little, 1.0 + a_little, 2f32.powi(-60));
    assert_eq!(below, -1.0 - 2.0 * a_little);
}

#[test]
fn denormals_are_zero_with_their_sign() {
    let tiny = f32::from_bits(1);
    let least = f32::MIN_POSITIVE;
    let cases = [
        // Inputs.
        (tiny, f32::MAX, 1.0, 1.0),
        (1.0, -tiny, -0.0, -0.0),
        (1.0, 0.0, -tiny, 0.0),
        (-1.0, 0.0, -tiny, -0.0),
        (f32::INFINITY, tiny, 1.0, f32::NAN),
        // Results.
        (least, 0.5, 0.0, 0.0),
        (-least, 0.5, 0.0, -0.0),
        (1.5, least, -least, 0.0),
        (1.0, least, -1.5 * least, -0.0),
        (1.0, least, 0.0, least),
        // Just below the least normal number: rounded to 24 bits, one is it and the other is not.
        (least, 1.0 - f32::EPSILON / 2.0, 0.0, 0.0),
        (2f32.powi(-52) * least, 1.0, -0.5 * f32::EPSILON * least, 0.0),
        (2f32.powi(-63), -(2f32.powi(-63) * 2f32.powi(-25)), least, least),
    ];
    for (a, b, c, expected) in cases {
        let result = multiply_add(a, b, c);
        assert!(same(result, expected), "{a:e} * {b:e} + {c:e} = {result:e}, not {expected:e}");
    }
}

/// VDPBF16PS has the same arithmetic, and more CPUs have it: of its two products one is nothing.
#[test]
fn a_multiply_add_is_that_of_the_vector_instruction() {
    use std::arch::x86_64::*;
    if !is_x86_feature_detected!("avx512bf16") || !is_x86_feature_detected!("avx512f") {
        println!("missing here: avx512bf16");
        return;
    }
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn vector(a: u16, b: u16, c: f32) -> f32 {
        let [a, b] = [a, b].map(|x| _mm512_set1_epi32(i32::from(x)));
        // SAFETY: both are 64 bytes of which every value is valid.
        let [a, b] = [a, b].map(|x| unsafe { std::mem::transmute::<__m512i, __m512bh>(x) });
        _mm512_cvtss_f32(_mm512_dpbf16_ps(_mm512_set1_ps(c), a, b))
    }
    let mut random = Random::new(2);
    for round in 0..300_000 {
        let [mut a, mut b] = [(); 2].map(|()| (any_f32(&mut random).to_bits() >> 16) as u16);
        // At the least normal number, where it matters when a result is called denormal: a power
        // of two about 24 bits further down is added or subtracted.
        if round % 3 == 2 {
            let power = |exponent: i32| (2f32.powi(exponent).to_bits() >> 16) as u16;
            (a, b) = (power(-75), power(-78 + random.below(7) as i32));
            a |= (random.below(2) as u16) << 15;
        }
        let [x, y] = [a, b].map(|x| f32::from_bits(u32::from(x) << 16));
        let c = match round % 3 {
            0 => any_f32(&mut random),
            // Where results are denormal or cancel.
            1 => -x * y * (1.0 + random.uniform(-1.0, 1.0) * 2f32.powi(-(random.below(24) as i32))),
            _ => f32::from_bits(0x0080_0000 + random.below(4) as u32),
        };
        // SAFETY: just detected.
        let expected = unsafe { vector(a, b, c) };
        let result = multiply_add(x, y, c);
        // The product that is nothing adds +0, which changes the sign of a zero alone.
        let zeroes = result == 0.0 && expected == 0.0;
        assert!(
            same(result, expected) || zeroes,
            "{x:e} * {y:e} + {c:e}: {result:e}, {expected:e}"
        );
    }
}

/// A configuration of tile 0 (m, n), tile 1 (m, k) and tile 2 (k, n), in rows and pairs.
fn config_of(m: usize, n: usize, k: usize) -> [u8; 64] {
    let mut config = [0; 64];
    config[0] = 1;
    for (tile, (rows, columns)) in [(m, n), (m, k), (k, n)].into_iter().enumerate() {
        config[16 + 2 * tile] = 4 * columns as u8;
        config[48 + tile] = rows as u8;
    }
    config
}

/// One product by hand: 1 * 3 + 2 * 5 + 4 * 7 + 8 * 11, of which the even half is 1 * 3 + 4 * 7.
#[test]
fn a_product_by_hand() {
    let pair = |even: f32, odd: f32| odd.to_bits() & 0xFFFF_0000 | even.to_bits() >> 16;
    let mut machine = Machine::new();
    assert!(machine.load_config(&config_of(1, 1, 2)));
    let (a, b) = ([pair(1.0, 2.0), pair(4.0, 8.0)], [pair(3.0, 5.0), pair(7.0, 11.0)]);
    let (c, mut out) = ([0.5f32], [0f32]);
    // SAFETY: each tile is read from as many bytes as it has, or written to.
    unsafe {
        assert!(machine.load(0, c.as_ptr().cast(), 4));
        assert!(machine.load(1, a.as_ptr().cast(), 8));
        assert!(machine.load(2, b.as_ptr().cast(), 4));
        assert!(machine.multiply_bf16(0, 1, 2));
        assert!(machine.store(0, out.as_mut_ptr().cast(), 4));
    }
    assert_eq!(out, [129.5]);

    // Even and odd elements are separate chains: 2^24 + 1 would be lost in one of them.
    let (a, b) = ([pair(4096.0, 1.0), pair(-4096.0, 0.0)], [pair(4096.0, 1.0); 2]);
    let c = [0f32];
    // SAFETY: as above.
    unsafe {
        assert!(machine.load(0, c.as_ptr().cast(), 4));
        assert!(machine.load(1, a.as_ptr().cast(), 8));
        assert!(machine.load(2, b.as_ptr().cast(), 4));
        assert!(machine.multiply_bf16(0, 1, 2));
        assert!(machine.store(0, out.as_mut_ptr().cast(), 4));
    }
    assert_eq!(out, [1.0]);
}

#[test]
fn what_the_cpu_refuses_is_refused() {
    let mut machine = Machine::new();
    assert!(!machine.zero(0) && !machine.multiply_bf16(0, 1, 2));
    let good = config_of(16, 16, 16);
    let with = |at: usize, byte: u8| {
        let mut config = good;
        config[at] = byte;
        config
    };
    // Palette, start row, reserved bytes, row too long (both bytes), half empty, too many rows.
    for (at, byte) in [
        (0, 2),
        (1, 1),
        (2, 1),
        (15, 1),
        (32, 1),
        (56, 1),
        (63, 1),
        (16, 65),
        (17, 1),
        (16, 0),
        (48, 17),
        (51, 1),
    ] {
        assert!(!machine.load_config(&with(at, byte)), "byte {at} = {byte}");
    }
    assert_eq!(machine.config(), [0; 64]);
    assert!(machine.load_config(&good));
    assert_eq!(machine.config(), good);
    assert!(machine.zero(2) && !machine.zero(3) && !machine.zero(8));
    assert!(machine.multiply_int8(0, 1, 2));
    assert!(!machine.multiply_int8(0, 0, 2) && !machine.multiply_int8(0, 1, 1));
    assert!(!machine.multiply_int8(0, 1, 0) && !machine.multiply_int8(0, 1, 3));
    // Sizes that do not fit: 15 rows of c, of b, and a row of b of 15.
    for (at, byte) in [(48, 15), (50, 15), (20, 60)] {
        assert!(machine.load_config(&with(at, byte)));
        assert!(!machine.multiply_bf16(0, 1, 2), "byte {at} = {byte}");
    }
    assert!(machine.load_config(&with(0, 0)));
    assert!(!machine.zero(0));
}

/// Runs c + a b on tiles of any size with instructions that the CPU executes, or the handler.
fn execute(int8: bool, config: &[u8; 64], c: &mut [u8; 1024], a: &[u8; 1024], b: &[u8; 1024]) {
    macro_rules! run {
        ($product:literal) => {
            // SAFETY: rows are 64 bytes at most and 16 at most; nothing else uses the tiles.
            unsafe {
                asm!(
                    "ldtilecfg [{config}]",
                    "tileloadd tmm0, [{c} + {stride}]",
                    "tileloadd tmm1, [{a} + {stride}]",
                    "tileloadd tmm2, [{b} + {stride}]",
                    $product,
                    "tilestored [{c} + {stride}], tmm0",
                    "tilerelease",
                    config = in(reg) config, c = in(reg) c, a = in(reg) a, b = in(reg) b,
                    stride = in(reg) 64usize,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _,
                    options(nostack),
                )
            }
        };
    }
    match int8 {
        true => run!("tdpbusd tmm0, tmm1, tmm2"),
        false => run!("tdpbf16ps tmm0, tmm1, tmm2"),
    }
}

/// On a CPU with tiles this is emulator against hardware; on others it is the handler.
#[test]
fn executed_instructions_do_what_the_machine_does() {
    match emulate() {
        Executor::Hardware => println!("compared with hardware"),
        Executor::Emulator => println!("missing here: hardware to compare with"),
    }
    let mut random = Random::new(3);
    for round in 0..300 {
        let int8 = round % 3 == 0;
        let [m, n, k] = match round % 5 {
            0 => [16; 3],
            _ => [(); 3].map(|()| 1 + random.below(16)),
        };
        let config = config_of(m, n, k);
        let mut bytes = || {
            let mut bytes = [0u8; 1024];
            // Wild numbers in some rounds; tame ones, whose sums stay finite, in others.
            for word in bytes.chunks_exact_mut(4) {
                let number = |random: &mut Random| match round % 2 {
                    0 => any_f32(random),
                    _ => random.uniform(-1.0, 1.0) * 2f32.powi(random.below(130) as i32 - 126),
                };
                let (low, high) = (number(&mut random).to_bits(), number(&mut random).to_bits());
                word.copy_from_slice(&(high & 0xFFFF_0000 | low >> 16).to_le_bytes());
            }
            bytes
        };
        let (mut c, a, b) = (bytes(), bytes(), bytes());
        let mut expected = c;
        let mut machine = Machine::new();
        assert!(machine.load_config(&config));
        // SAFETY: rows are 64 bytes at most and 16 at most.
        unsafe {
            assert!(machine.load(0, c.as_ptr(), 64));
            assert!(machine.load(1, a.as_ptr(), 64) && machine.load(2, b.as_ptr(), 64));
            assert!(match int8 {
                true => machine.multiply_int8(0, 1, 2),
                false => machine.multiply_bf16(0, 1, 2),
            });
            assert!(machine.store(0, expected.as_mut_ptr(), 64));
        }
        execute(int8, &config, &mut c, &a, &b);
        for (i, (found, expected)) in c.chunks_exact(4).zip(expected.chunks_exact(4)).enumerate() {
            let [found, expected] =
                [found, expected].map(|x| u32::from_le_bytes(x.try_into().unwrap()));
            let both_nan =
                !int8 && f32::from_bits(found).is_nan() && f32::from_bits(expected).is_nan();
            assert!(found == expected || both_nan, "{m} x {n} x {k}, {i}: {found:x} {expected:x}");
        }
    }
}

global_asm!(
    ".pushsection .rodata",
    "ferrite_tile_instructions:",
    "ldtilecfg [rax]",
    "ldtilecfg [rip + 0x1234]",
    "sttilecfg [rsp - 64]",
    "sttilecfg [r12 + 8*rcx]",
    "tilerelease",
    "tilezero tmm7",
    "tileloadd tmm0, [rax + rbx]",
    "tileloadd tmm1, [r8 + r9 + 64]",
    "tileloadd tmm2, [r13 + 4*r12 - 128]",
    "tileloadd tmm3, [rbp + 2*r15 + 0x12345678]",
    "tileloadd tmm4, [rdi]",
    "tileloadd tmm5, [8*r10 - 1]",
    "tilestored [rsi + r14], tmm6",
    "tilestored [r11 + rdx - 0x1000], tmm7",
    "tdpbf16ps tmm0, tmm1, tmm2",
    "tdpbf16ps tmm7, tmm6, tmm5",
    "tdpbusd tmm3, tmm4, tmm7",
    "ferrite_tile_instructions_end:",
    ".popsection",
);

unsafe extern "C" {
    static ferrite_tile_instructions: u8;
    static ferrite_tile_instructions_end: u8;
}

/// The decoder agrees with the assembler.
#[test]
fn instructions_are_decoded() {
    let at = |base: Base, index: Option<u8>, scale: u8, displacement: i64| Address {
        base,
        index,
        scale,
        displacement,
    };
    let register = Base::Register;
    let expected = [
        Operation::LoadConfig(at(register(0), None, 0, 0)),
        Operation::LoadConfig(at(Base::NextInstruction, None, 0, 0x1234)),
        Operation::StoreConfig(at(register(4), None, 0, -64)),
        Operation::StoreConfig(at(register(12), Some(1), 3, 0)),
        Operation::Release,
        Operation::Zero(7),
        Operation::Load(0, at(register(0), Some(3), 0, 0)),
        Operation::Load(1, at(register(8), Some(9), 0, 64)),
        Operation::Load(2, at(register(13), Some(12), 2, -128)),
        Operation::Load(3, at(register(5), Some(15), 1, 0x1234_5678)),
        Operation::Load(4, at(register(7), None, 0, 0)),
        Operation::Load(5, at(Base::None, Some(10), 3, -1)),
        Operation::Store(6, at(register(6), Some(14), 0, 0)),
        Operation::Store(7, at(register(11), Some(2), 0, -0x1000)),
        Operation::Bf16 { c: 0, a: 1, b: 2 },
        Operation::Bf16 { c: 7, a: 6, b: 5 },
        Operation::Int8 { c: 3, a: 4, b: 7 },
    ];
    let (mut code, end) =
        (&raw const ferrite_tile_instructions, &raw const ferrite_tile_instructions_end);
    for expected in expected {
        // SAFETY: the assembler put whole instructions between the two labels.
        let (operation, length) = unsafe { decode(code) }.expect("a tile instruction");
        assert_eq!(operation, expected);
        code = code.wrapping_add(length);
    }
    assert_eq!(code, end);
}

#[test]
fn other_instructions_are_left_alone() {
    let others: [&[u8]; 12] = [
        // ud2; vzeroupper; vfmadd213ps xmm0, xmm1, xmm2.
        &[0x0F, 0x0B],
        &[0xC5, 0xF8, 0x77],
        &[0xC4, 0xE2, 0x71, 0xA8, 0xC2],
        // tileloaddt1 tmm0, [rax + rbx]; tdpbssd, tdpbuud, tdpbsud, tdpfp16ps of 0, 1, 2.
        &[0xC4, 0xE2, 0x79, 0x4B, 0x04, 0x18],
        &[0xC4, 0xE2, 0x6B, 0x5E, 0xC1],
        &[0xC4, 0xE2, 0x68, 0x5E, 0xC1],
        &[0xC4, 0xE2, 0x6A, 0x5E, 0xC1],
        &[0xC4, 0xE2, 0x6B, 0x5C, 0xC1],
        // Without SIB; with W; with L; tmm8 (as no assembler writes it).
        &[0xC4, 0xE2, 0x7B, 0x4B, 0x00],
        &[0xC4, 0xE2, 0xEA, 0x5C, 0xC1],
        &[0xC4, 0xE2, 0x6E, 0x5C, 0xC1],
        &[0xC4, 0x62, 0x6A, 0x5C, 0xC1],
    ];
    for code in others {
        // SAFETY: a whole instruction each, and more than two bytes only of VEX instructions.
        assert_eq!(unsafe { decode(code.as_ptr()) }, None, "{code:x?}");
    }
}

/// Runs the test `name` of this file in a process of its own, with `variable` set.
fn child(name: &str, variable: &str, value: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([&format!("testing::amx_emulator::tests::{name}"), "--exact", "--nocapture"])
        .env(variable, value)
        .output()
        .unwrap()
}

/// What is none of the emulator's business ends as it would have without it.
#[test]
fn what_is_not_emulated_kills_the_process() {
    const VARIABLE: &str = "FERRITE_TEST_ILLEGAL";
    if let Ok(which) = std::env::var(VARIABLE) {
        emulate();
        let outside = Guarded::nan(256, Edge::End).as_mut_ptr().wrapping_add(1);
        let config = config_of(16, 16, 16);
        // SAFETY: it is not safe; the process is here to die of this.
        unsafe {
            match which.as_str() {
                "foreign" => asm!("ud2"),
                "unconfigured" => asm!("tilerelease", "tilezero tmm0", out("tmm0") _),
                "fault" => asm!(
                    "ldtilecfg [{}]",
                    "tileloadd tmm0, [{} + {}]",
                    in(reg) &config, in(reg) outside, in(reg) 64usize, out("tmm0") _
                ),
                _ => unreachable!(),
            }
        }
        println!("survived");
        return;
    }
    use std::os::unix::process::ExitStatusExt;
    for (which, signal) in
        [("foreign", libc::SIGILL), ("unconfigured", libc::SIGILL), ("fault", libc::SIGSEGV)]
    {
        let output = child("what_is_not_emulated_kills_the_process", VARIABLE, which);
        assert_eq!(output.status.signal(), Some(signal), "{which}: {output:?}");
    }
}

/// The handler that was there before hears of what is not emulated, and of nothing else.
#[test]
fn an_earlier_handler_is_kept() {
    const VARIABLE: &str = "FERRITE_TEST_EARLIER_HANDLER";
    extern "C" fn plain(_: c_int) {
        // SAFETY: ends the process, which a handler may.
        unsafe { libc::_exit(41) }
    }
    extern "C" fn with_info(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
        // SAFETY: the kernel hands a handler with SA_SIGINFO the reason; ends the process.
        unsafe { libc::_exit(if (*info).si_signo == libc::SIGILL { 42 } else { 43 }) }
    }
    if let Ok(which) = std::env::var(VARIABLE) {
        let (handler, flags) = match which.as_str() {
            "plain" => (plain as extern "C" fn(c_int) as libc::sighandler_t, 0),
            _ => {
                let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = with_info;
                (handler as libc::sighandler_t, libc::SA_SIGINFO)
            }
        };
        // SAFETY: zeroes are a valid `sigaction`; both handlers only end the process.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            (action.sa_sigaction, action.sa_flags) = (handler, flags);
            assert_eq!(libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()), 0);
        }
        emulate();
        // SAFETY: executed by the CPU or by the emulator; then the handler ends the process.
        unsafe { asm!("tilerelease", "ud2") };
    }
    for (which, code) in [("plain", 41), ("with info", 42)] {
        let output = child("an_earlier_handler_is_kept", VARIABLE, which);
        assert_eq!(output.status.code(), Some(code), "{which}: {output:?}");
    }
}
