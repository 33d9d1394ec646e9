//! Which instruction sets this CPU and operating system really give us.
//!
//! A [`Level`] is a proof: it holds a zero-sized token that only detection makes, and every vector
//! operation needs such a token. Kernels take the level as their first argument,
//! so a result is a function of its arguments alone, and every level that the machine has can be
//! run and compared in one process.
//!
//! The environment variable `FERRITE_LEVEL` (a name such as `avx2`) says which level
//! [`Level::current`] is, or the highest below it that the machine has: the way out when a machine misbehaves, and a way to compare.

use std::fmt;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::amx::Amx;
use crate::simd::Portable;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, Avx512Bf16, Avx512Vnni};

/// The environment variable that asks for a level.
pub const LEVEL_VARIABLE: &str = "FERRITE_LEVEL";

/// An instruction set level that this machine is known to execute:
/// - `portable`: what every CPU of the target has, SSE2 on x86-64, NEON on aarch64;
/// - `avx2`: AVX2 with FMA, 8 lanes;
/// - `avx512`: AVX-512 F, BW, DQ and VL, 16 lanes and 32 registers;
/// - `avx512vnni`: and dot products of bytes;
/// - `avx512bf16`: and dot products of bfloat16;
/// - `amx`: and tiles of both.
///
/// The lanes of the last four are the same: what they add serves the products of one
/// [`Precision`](crate::Precision) or another.
///
/// What a machine chooses by itself is the highest level, but for one case. Intel's cores take so
/// long for `vdpbf16ps` that it does half as much as the multiply-adds of widened numbers that it
/// stands for; so those without the tile unit choose `avx512vnni`.
#[derive(Clone, Copy)]
pub struct Level(pub(crate) Token, Rank);

/// The token of a level; `dispatch!` matches on it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Token {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// The CPU features that the choice of a level looks at, each already confirmed by the operating
/// system's state mask.
#[derive(Clone, Copy, Debug, Default)]
struct Features {
    avx2: bool,
    fma: bool,
    avx512f: bool,
    avx512bw: bool,
    avx512dq: bool,
    avx512vl: bool,
    avx512vnni: bool,
    avx512bf16: bool,
    amx: bool,
    /// The maker is Intel, whose `vdpbf16ps` is no faster than what it replaces.
    intel: bool,
}

/// The names of the levels in ascending order, without any proof that they can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Portable,
    Avx2,
    Avx512,
    Avx512Vnni,
    Avx512Bf16,
    Amx,
}

impl Rank {
    /// Processors came in this order: none has a level without those below it.
    const ALL: [(Rank, &'static str); 6] = [
        (Rank::Portable, "portable"),
        (Rank::Avx2, "avx2"),
        (Rank::Avx512, "avx512"),
        (Rank::Avx512Vnni, "avx512vnni"),
        (Rank::Avx512Bf16, "avx512bf16"),
        (Rank::Amx, "amx"),
    ];

    fn parse(name: &str) -> Result<Rank, UnknownLevel> {
        let name = name.trim().to_ascii_lowercase();
        let found = Rank::ALL.iter().find(|(_, known)| *known == name);
        found.map(|&(rank, _)| rank).ok_or(UnknownLevel { name })
    }

    /// The highest level that `features` allow, no higher than `cap`.
    fn select(features: Features, cap: Rank) -> Rank {
        let f = features;
        let avx2 = f.avx2 && f.fma;
        let avx512 = f.avx512f && f.avx512bw && f.avx512dq && f.avx512vl;
        let ladder = [avx2, avx512, f.avx512vnni, f.avx512bf16, f.amx];
        let steps = ladder.iter().take_while(|&&step| step).count();
        Rank::ALL[steps].0.min(cap)
    }

    /// The level that is chosen unless one is asked for. A function of what CPUID says, never of a
    /// timing: two runs on a machine have the same bits.
    fn choose(features: Features) -> Rank {
        match Rank::select(features, Rank::Amx) {
            Rank::Avx512Bf16 if features.intel => Rank::Avx512Vnni,
            highest => highest,
        }
    }
}

/// `FERRITE_LEVEL` holds a word that is no level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLevel {
    name: String,
}

impl fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LEVEL_VARIABLE}={:?} is no level; use one of", self.name)?;
        Rank::ALL.iter().try_for_each(|(_, name)| write!(f, " {name}"))
    }
}

impl std::error::Error for UnknownLevel {}

impl Level {
    /// The level that serves this machine best; or, if `cap` names one, the highest of the machine
    /// that is not above it.
    ///
    /// # Errors
    /// [`UnknownLevel`] if `cap` names no level.
    pub fn detect(cap: Option<&str>) -> Result<Level, UnknownLevel> {
        let features = detected_features();
        let rank = match cap {
            None => Rank::choose(features),
            Some(cap) => Rank::select(features, Rank::parse(cap)?),
        };
        Ok(Level::from_rank(rank))
    }

    /// The level everything runs at unless told otherwise: [`Level::detect`] with what
    /// `FERRITE_LEVEL` holds, once per process.
    ///
    /// # Errors
    /// [`UnknownLevel`] if the variable names no level.
    pub fn try_current() -> Result<Level, UnknownLevel> {
        static CURRENT: OnceLock<Result<Level, UnknownLevel>> = OnceLock::new();
        CURRENT
            .get_or_init(|| {
                let cap = std::env::var(LEVEL_VARIABLE).ok().filter(|name| !name.is_empty());
                Level::detect(cap.as_deref())
            })
            .clone()
    }

    /// [`Level::try_current`] for callers who have nobody to hand the error to.
    ///
    /// # Panics
    /// If `FERRITE_LEVEL` names no level.
    pub fn current() -> Level {
        Level::try_current().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Every level this machine can run, lowest first. Ignores `FERRITE_LEVEL`.
    pub fn available() -> Vec<Level> {
        let highest = Rank::select(detected_features(), Rank::Amx);
        let ranks = Rank::ALL.iter().map(|&(rank, _)| rank);
        ranks.filter(|&rank| rank <= highest).map(Level::from_rank).collect()
    }

    /// The names of the levels that exist but that this machine cannot run.
    pub fn missing() -> Vec<&'static str> {
        let highest = Rank::select(detected_features(), Rank::Amx);
        Rank::ALL.iter().filter(|(rank, _)| *rank > highest).map(|&(_, name)| name).collect()
    }

    /// `portable`, `avx2`, `avx512`, `avx512vnni`, `avx512bf16` or `amx`.
    pub fn name(self) -> &'static str {
        Rank::ALL[self.1 as usize].1
    }

    /// The lanes of everything but products: `portable`, `avx2` or `avx512`.
    pub(crate) fn lanes(self) -> &'static str {
        match self.0 {
            Token::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(_) => "avx512",
        }
    }

    /// The proof that this level has dot products of bytes.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn vnni(self) -> Option<Avx512Vnni> {
        // SAFETY: levels of this rank and above exist only where the feature was detected.
        (self.1 >= Rank::Avx512Vnni).then(|| unsafe { Avx512Vnni::assume_supported() })
    }

    /// The proof that this level has dot products of bfloat16.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn bf16(self) -> Option<Avx512Bf16> {
        // SAFETY: levels of this rank and above exist only where the feature was detected.
        (self.1 >= Rank::Avx512Bf16).then(|| unsafe { Avx512Bf16::assume_supported() })
    }

    /// The proof that this level has the tile unit.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn amx(self) -> Option<Amx> {
        // SAFETY: levels of this rank exist only where the unit was detected and is permitted, or
        // its instructions are emulated.
        (self.1 >= Rank::Amx).then(|| unsafe { Amx::assume_supported() })
    }

    /// The level `amx` on a machine without it, its instructions emulated, for tests: slow. `None`
    /// if the machine does not have the level below it.
    #[cfg(all(target_arch = "x86_64", target_os = "linux", any(test, feature = "testing")))]
    pub fn emulated_amx() -> Option<Level> {
        let below = Rank::select(Features { amx: false, ..detected_features() }, Rank::Amx);
        crate::testing::amx_emulator::emulate();
        (below == Rank::Avx512Bf16).then(|| Level::from_rank(Rank::Amx))
    }

    /// The caller has made sure, through [`Rank::select`] on the detected features, that the
    /// machine executes this level.
    fn from_rank(rank: Rank) -> Level {
        let token = match rank {
            Rank::Portable => Token::Portable(Portable::new()),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `rank` came out of `Rank::select` on the detected features.
            Rank::Avx2 => Token::Avx2(unsafe { Avx2::assume_supported() }),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above; this level and those above it have what it needs.
            _ => Token::Avx512(unsafe { Avx512::assume_supported() }),
            #[cfg(not(target_arch = "x86_64"))]
            _ => Token::Portable(Portable::new()),
        };
        Level(token, rank)
    }
}

impl Default for Level {
    /// [`Level::current`].
    fn default() -> Level {
        Level::current()
    }
}

impl PartialEq for Level {
    fn eq(&self, other: &Level) -> bool {
        self.1 == other.1
    }
}

impl Eq for Level {}

impl fmt::Debug for Level {
    /// The name alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// CPUID together with XCR0: std's detection reports a feature only when the operating system
/// saves the registers that it needs.
fn detected_features() -> Features {
    #[cfg(target_arch = "x86_64")]
    return Features {
        avx2: is_x86_feature_detected!("avx2"),
        fma: is_x86_feature_detected!("fma"),
        avx512f: is_x86_feature_detected!("avx512f"),
        avx512bw: is_x86_feature_detected!("avx512bw"),
        avx512dq: is_x86_feature_detected!("avx512dq"),
        avx512vl: is_x86_feature_detected!("avx512vl"),
        avx512vnni: is_x86_feature_detected!("avx512vnni"),
        avx512bf16: is_x86_feature_detected!("avx512bf16"),
        amx: crate::amx::permitted(),
        intel: vendor() == *b"GenuineIntel",
    };
    #[cfg(not(target_arch = "x86_64"))]
    Features::default()
}

/// The maker's name, from CPUID's leaf 0: twelve letters in `ebx`, `edx`, `ecx`.
#[cfg(target_arch = "x86_64")]
fn vendor() -> [u8; 12] {
    let leaf = std::arch::x86_64::__cpuid(0);
    let mut name = [0; 12];
    for (letters, register) in name.chunks_exact_mut(4).zip([leaf.ebx, leaf.edx, leaf.ecx]) {
        letters.copy_from_slice(&register.to_le_bytes());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The choice is a pure function of the features and the cap: all 1024 feature sets.
    #[test]
    fn a_level_needs_every_feature_it_uses() {
        for bits in 0..1024u32 {
            let has = |bit: u32| bits >> bit & 1 == 1;
            let features = Features {
                avx2: has(0),
                fma: has(1),
                avx512f: has(2),
                avx512bw: has(3),
                avx512dq: has(4),
                avx512vl: has(5),
                avx512vnni: has(6),
                avx512bf16: has(7),
                amx: has(8),
                intel: has(9),
            };
            let needs = [0b11, 0b11_1111, 0b111_1111, 0b1111_1111, 0b1_1111_1111];
            let steps = needs.iter().take_while(|&&needed| bits & needed == needed).count();
            let (expected, _) = Rank::ALL[steps];
            for (cap, _) in Rank::ALL {
                assert_eq!(Rank::select(features, cap), expected.min(cap), "{features:?} {cap:?}");
            }
            let slow = expected == Rank::Avx512Bf16 && features.intel;
            let chosen = if slow { Rank::Avx512Vnni } else { expected };
            assert_eq!(Rank::choose(features), chosen, "{features:?}");
        }
    }

    #[test]
    fn a_cap_is_read_or_refused_by_name() {
        assert_eq!(Level::detect(Some(" Portable ")).unwrap().name(), "portable");
        let error = Level::detect(Some("sse9")).unwrap_err();
        assert!(error.to_string().contains("sse9"), "{error}");
    }

    #[test]
    fn available_and_missing_share_out_all_levels() {
        let names: Vec<_> = Level::available().iter().map(|level| level.name()).collect();
        println!("levels here: {names:?}; missing: {:?}", Level::missing());
        assert_eq!(names.len() + Level::missing().len(), Rank::ALL.len());
        assert_eq!(names[0], "portable");
    }
}
