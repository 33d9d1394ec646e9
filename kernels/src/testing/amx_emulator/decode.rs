//! The eight tile instructions as bytes: VEX with three bytes, opcode map 0F38, W = 0, L = 0.
//!
//! | instruction | prefix | opcode | ModRM |
//! |---|---|---|---|
//! | LDTILECFG m512 | none | 49 | memory, reg 0 |
//! | STTILECFG m512 | 66 | 49 | memory, reg 0 |
//! | TILERELEASE | none | 49 | C0 |
//! | TILEZERO t | F2 | 49 | register, reg t, rm 0 |
//! | TILELOADD t, m | F2 | 4B | memory with SIB, reg t |
//! | TILESTORED m, t | F3 | 4B | memory with SIB, reg t |
//! | TDPBF16PS c, a, b | F3 | 5C | register, reg c, rm a, vvvv b |
//! | TDPBUSD c, a, b | 66 | 5E | register, reg c, rm a, vvvv b |

/// One instruction with its operands; tiles by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    LoadConfig(Address),
    StoreConfig(Address),
    Release,
    Zero(usize),
    Load(usize, Address),
    Store(usize, Address),
    Bf16 { c: usize, a: usize, b: usize },
    Int8 { c: usize, a: usize, b: usize },
}

/// An operand in memory: base + displacement, and the index register times two to the scale, which
/// to tile loads and stores is the stride. Registers by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) base: Base,
    pub(super) index: Option<u8>,
    pub(super) scale: u8,
    pub(super) displacement: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Register(u8),
    NextInstruction,
    None,
}

const NONE: u8 = 0;
const P66: u8 = 1;
const F3: u8 = 2;
const F2: u8 = 3;

/// The instruction at `code` and its length in bytes, if it is one of the eight.
///
/// # Safety
/// - A whole instruction is readable at `code`. Of any other than a VEX instruction of the opcode
///   map 0F38, whose shortest has five bytes, no more is read than the first two.
pub(super) unsafe fn decode(code: *const u8) -> Option<(Operation, usize)> {
    // SAFETY: asked for in order, and only while the bytes so far call for one more.
    let byte = |i: usize| unsafe { code.add(i).read() };
    if byte(0) != 0xC4 || byte(1) & 0x1F != 2 {
        return None;
    }
    let (first, second, opcode, modrm) = (byte(1), byte(2), byte(3), byte(4));
    if second & 0x84 != 0 {
        return None;
    }
    // The bits that extend a register's number are stored inverted, as is the third operand.
    let extend = |bit: u8| (!first >> bit & 1) << 3;
    let (extend_reg, extend_index, extend_base) = (extend(7), extend(6), extend(5));
    let third = !(second >> 3) & 0xF;
    let (mode, reg, rm) = (modrm >> 6, modrm >> 3 & 7 | extend_reg, modrm & 7);
    let in_memory = mode != 3;
    let tile = usize::from(reg);

    let address = || {
        let mut length = 5;
        let mut address = Address {
            base: Base::Register(rm | extend_base),
            index: None,
            scale: 0,
            displacement: 0,
        };
        let mut displacement_bytes = [0, 1, 4, 0][usize::from(mode)];
        if rm == 4 {
            let sib = byte(length);
            length += 1;
            let (scale, index, base) = (sib >> 6, sib >> 3 & 7 | extend_index, sib & 7);
            address.scale = scale;
            address.index = (index != 4).then_some(index);
            address.base = Base::Register(base | extend_base);
            if base == 5 && mode == 0 {
                (address.base, displacement_bytes) = (Base::None, 4);
            }
        } else if rm == 5 && mode == 0 {
            (address.base, displacement_bytes) = (Base::NextInstruction, 4);
        }
        address.displacement = match displacement_bytes {
            1 => i64::from(byte(length) as i8),
            4 => {
                let bytes = [0, 1, 2, 3].map(|i| byte(length + i));
                i64::from(i32::from_le_bytes(bytes))
            }
            _ => 0,
        };
        (address, length + displacement_bytes)
    };

    let tiles_fit = reg < 8 && third < 8 && extend_base == 0;
    let (c, a, b) = (tile, usize::from(rm), usize::from(third));
    match (opcode, second & 3) {
        (0x5C, F3) if !in_memory && tiles_fit => Some((Operation::Bf16 { c, a, b }, 5)),
        (0x5E, P66) if !in_memory && tiles_fit => Some((Operation::Int8 { c, a, b }, 5)),
        // All others have two operands at most.
        _ if third != 0 || reg >= 8 => None,
        (0x49, NONE) if modrm == 0xC0 => Some((Operation::Release, 5)),
        (0x49, F2) if !in_memory && rm == 0 => Some((Operation::Zero(tile), 5)),
        (0x49, NONE) if in_memory && reg == 0 => {
            let (address, length) = address();
            Some((Operation::LoadConfig(address), length))
        }
        (0x49, P66) if in_memory && reg == 0 => {
            let (address, length) = address();
            Some((Operation::StoreConfig(address), length))
        }
        (0x4B, F2) if in_memory && rm == 4 => {
            let (address, length) = address();
            Some((Operation::Load(tile, address), length))
        }
        (0x4B, F3) if in_memory && rm == 4 => {
            let (address, length) = address();
            Some((Operation::Store(tile, address), length))
        }
        _ => None,
    }
}
