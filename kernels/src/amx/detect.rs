//! Whether this process may use the tile unit.
//!
//! Three have to agree. The CPU: CPUID tells of the instructions and of the size of the tiles. The
//! operating system: XCR0 tells whether it saves the tile registers. And, on Linux, the permission
//! that a process asks for once (`arch_prctl`, since 5.16): the registers are eight kilobytes a
//! thread, which the kernel sets aside for those alone who asked. A sandbox may refuse it.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// Whether tile instructions can be executed by every thread of this process, now and from here
/// on. Asks for the permission when first called, and only where the CPU has a use for it.
pub(crate) fn permitted() -> bool {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| Cpu::ask().has_tiles() && request_permission())
}

/// The state component of the tile registers' contents, in XCR0 and for `arch_prctl`.
const TILE_DATA: u32 = 18;

/// What CPUID and XCR0 answered.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    /// Leaf 7, EDX: bit 22 is bf16 products, 24 the tiles, 25 the int8 products.
    features: u32,
    /// XCR0, or 0 where it cannot be read: bit 17 is the tiles' configuration, 18 their contents.
    saved: u64,
    /// Leaf 0x1D, subleaf 0: the highest palette.
    palettes: u32,
    /// Leaf 0x1D, subleaf 1, EAX, EBX and ECX: the sizes of palette 1.
    palette: [u32; 3],
    /// Leaf 0x1E, EBX: the sizes that the multiplier takes.
    multiplier: u32,
}

impl Cpu {
    fn ask() -> Cpu {
        let leaves = __cpuid(0).eax;
        let leaf = |leaf: u32, subleaf: u32| match leaf <= leaves {
            true => {
                let found = __cpuid_count(leaf, subleaf);
                [found.eax, found.ebx, found.ecx, found.edx]
            }
            false => [0; 4],
        };
        let [.., features_1, _] = leaf(1, 0);
        let osxsave = features_1 >> 27 & 1 == 1;
        let [eax, ebx, ecx, _] = leaf(0x1D, 1);
        Cpu {
            features: leaf(7, 0)[3],
            saved: if osxsave { xcr0() } else { 0 },
            palettes: leaf(0x1D, 0)[0],
            palette: [eax, ebx, ecx],
            multiplier: leaf(0x1E, 0)[1],
        }
    }

    /// Whether the CPU has all instructions the kernels use, at the sizes they use, and the
    /// operating system saves what they change.
    fn has_tiles(self) -> bool {
        const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
        const SAVED: u64 = 1 << 17 | 1 << TILE_DATA;
        // 8 KiB in all and 1 KiB a tile; 64 bytes a row and 8 tiles; 16 rows.
        const PALETTE: [u32; 3] = [1024 << 16 | 8192, 8 << 16 | 64, 16];
        let (max_k, max_n) = (self.multiplier & 0xFF, self.multiplier >> 8 & 0xFFFF);
        self.features & FEATURES == FEATURES
            && self.saved & SAVED == SAVED
            && self.palettes >= 1
            && [self.palette[0], self.palette[1], self.palette[2] & 0xFFFF] == PALETTE
            && max_k >= 16
            && max_n >= 64
    }
}

/// The states that the operating system saves. To be called where CPUID says OSXSAVE.
fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the only caller has seen OSXSAVE, so the instruction exists; it reads one register.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Asks the kernel for the tile registers and whether it means it. `false` for a kernel that does
/// not know the question, for a refusal, and on every other operating system.
pub(crate) fn request_permission() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_GET_XCOMP_PERM: libc::c_long = 0x1022;
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        let mut mask = 0u64;
        // SAFETY: the first call takes a number; the second writes eight bytes to `mask`.
        let (requested, asked) = unsafe {
            let component = libc::c_long::from(TILE_DATA);
            let requested = libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, component);
            let asked = libc::syscall(libc::SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &raw mut mask);
            (requested, asked)
        };
        granted(requested, asked, mask)
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// What the two answers of the kernel and the mask of granted components amount to.
#[cfg(target_os = "linux")]
fn granted(requested: libc::c_long, asked: libc::c_long, mask: u64) -> bool {
    requested == 0 && asked == 0 && mask >> TILE_DATA & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Sapphire Rapids answers.
    const WITH_TILES: Cpu = Cpu {
        features: 1 << 22 | 1 << 24 | 1 << 25,
        saved: 0x6_02E7,
        palettes: 1,
        palette: [0x0400_2000, 0x0008_0040, 0x10],
        multiplier: 0x4010,
    };

    /// All 32 combinations of the five bits.
    #[test]
    fn tiles_need_every_feature_and_both_saved_states() {
        for bits in 0..32u32 {
            let on = |bit: u32| bits >> bit & 1;
            let features = !(1 << 22 | 1 << 24 | 1 << 25) | on(0) << 22 | on(1) << 24 | on(2) << 25;
            let saved = 0x2E7 | u64::from(on(3)) << 17 | u64::from(on(4)) << 18;
            let cpu = Cpu { features, saved, ..WITH_TILES };
            assert_eq!(cpu.has_tiles(), bits == 31, "{bits:05b}");
        }
    }

    #[test]
    fn tiles_of_another_size_are_refused() {
        let refused = [
            Cpu { palettes: 0, ..WITH_TILES },
            Cpu { palette: [0x0400_1000, 0x0008_0040, 0x10], ..WITH_TILES },
            Cpu { palette: [0x0200_2000, 0x0008_0040, 0x10], ..WITH_TILES },
            Cpu { palette: [0x0400_2000, 0x0004_0040, 0x10], ..WITH_TILES },
            Cpu { palette: [0x0400_2000, 0x0008_0020, 0x10], ..WITH_TILES },
            Cpu { palette: [0x0400_2000, 0x0008_0040, 0x08], ..WITH_TILES },
            Cpu { multiplier: 0x4008, ..WITH_TILES },
            Cpu { multiplier: 0x2010, ..WITH_TILES },
        ];
        assert!(WITH_TILES.has_tiles());
        // More palettes, and bits that are reserved today, take nothing away.
        let palette = [0x0400_2000, 0x0008_0040, 0xABCD_0010];
        assert!(Cpu { palettes: 2, palette, ..WITH_TILES }.has_tiles());
        for cpu in refused {
            assert!(!cpu.has_tiles(), "{cpu:x?}");
        }
    }

    #[test]
    fn the_answer_here_is_one_of_this_cpu() {
        let cpu = Cpu::ask();
        println!("permitted: {}, {cpu:x?}", permitted());
        assert!(cpu.has_tiles() || !permitted());
        assert_eq!(permitted(), permitted());
        // SSE is saved wherever these tests can run, so XCR0 was read where it can be.
        assert!(cpu.saved == 0 || cpu.saved & 0b11 == 0b11);
        assert_eq!(cpu.saved != 0, is_x86_feature_detected!("xsave"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_has_to_grant_and_to_confirm() {
        let mask = 1 << 18;
        for requested in [0, -1, 1] {
            for asked in [0, -1, 1] {
                let agreed = requested == 0 && asked == 0;
                assert_eq!(granted(requested, asked, mask), agreed);
                assert_eq!(granted(requested, asked, !0), agreed);
                assert!(!granted(requested, asked, !mask));
            }
        }
    }

    /// A sandbox that refuses the permission: a child process under a filter of system calls finds
    /// no tiles and works without them.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_refusal_is_survived() {
        const VARIABLE: &str = "FERRITE_TEST_REFUSE_TILES";
        if std::env::var_os(VARIABLE).is_some() {
            refuse_tiles();
            assert!(!request_permission());
            assert!(!permitted());
            multiply_at_the_current_level();
            println!("worked without");
            return;
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["amx::detect::tests::a_refusal_is_survived", "--exact", "--nocapture"])
            .env(VARIABLE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("worked without"), "{child:?}");
    }

    /// From here on `arch_prctl(ARCH_REQ_XCOMP_PERM, ..)` fails with EPERM in this thread and in
    /// those that it starts.
    #[cfg(target_os = "linux")]
    fn refuse_tiles() {
        let step =
            |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
        let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        let jump_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        let answer = libc::BPF_RET | libc::BPF_K;
        // Offsets in `seccomp_data`: the number of the call at 0, the first argument at 16.
        let mut program = [
            step(load, 0, 0, 0),
            step(jump_equal, libc::SYS_arch_prctl as u32, 0, 3),
            step(load, 16, 0, 0),
            step(jump_equal, 0x1023, 0, 1),
            step(answer, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
            step(answer, libc::SECCOMP_RET_ALLOW, 0, 0),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the filter lives until the call that copies it is over; it concerns one question
        // alone, whose refusal is what this process is here for.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            let mode = libc::SECCOMP_MODE_FILTER;
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
            assert_eq!(libc::syscall(libc::SYS_arch_prctl, 0x1023, 18), -1);
        }
        // A kernel that has no tiles to give says EINVAL: this refusal is the filter's.
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EPERM));
    }

    #[cfg(target_os = "linux")]
    fn multiply_at_the_current_level() {
        use crate::{Epilogue, Level, Matrix, PackedMatrix, matmul};
        let x = Matrix::from_fn(33, 70, |row, col| ((row * 7 + col) % 5) as f32 - 2.0);
        let w = Matrix::from_fn(35, 70, |row, col| ((row + col * 3) % 7) as f32 - 3.0);
        let weight = PackedMatrix::new(Level::current(), w.view());
        let mut y = Matrix::zeros(33, 35);
        matmul(x.view(), &weight, Epilogue::Store, y.view_mut());
        for row in 0..33 {
            for col in 0..35 {
                let products = x.row(row).iter().zip(w.row(col)).map(|(x, w)| x * w);
                assert_eq!(y.row(row)[col], products.sum::<f32>());
            }
        }
    }
}
