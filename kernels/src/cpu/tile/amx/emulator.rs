//! AMX on CPUs that do not have it, for tests: the same instructions, executed slowly.
//!
//! A CPU without AMX raises SIGILL at a tile instruction. The handler below does its work on
//! registers of its own, one set for each thread, and continues behind it. `mod.rs` and `tiles.rs`
//! use six instructions of one form, a VEX prefix of three bytes:
//!
//! ```text
//! C4  R̅X̅B̅mmmmm  Wv̅v̅v̅v̅Lpp  opcode  ModRM  [SIB  [displacement]]
//!
//! pp  opcode  ModRM                     instruction
//! --  49      memory                    ldtilecfg    [m]
//! --  49      11 000 000                tilerelease
//! F2  49      11 reg 000                tilezero     reg
//! F2  4B      memory with SIB           tileloadd    reg, [base + row·index + displacement]
//! F3  4B      memory with SIB           tilestored   [base + row·index + displacement], reg
//! F3  5C      11 reg rm                 tdpbf16ps    reg, rm (A), vvvv (B)
//! ```
//!
//! What is not one of these ends the program as it would have without the handler. Source: Intel,
//! *64 and IA-32 Architectures Software Developer's Manual*, volume 2.

use std::cell::UnsafeCell;
use std::sync::Once;

const REGISTERS: usize = 8;
const ROWS: usize = 16;
const BYTES: usize = 64;

/// What a thread has.
struct State {
    configured: bool,
    bytes_per_row: [usize; REGISTERS],
    rows: [usize; REGISTERS],
    tiles: [[[u8; BYTES]; ROWS]; REGISTERS],
}

const RELEASED: State = State {
    configured: false,
    bytes_per_row: [0; REGISTERS],
    rows: [0; REGISTERS],
    tiles: [[[0; BYTES]; ROWS]; REGISTERS],
};

thread_local! {
    // Constant and without a destructor: the first use in a signal handler needs no allocation.
    static STATE: UnsafeCell<State> = const { UnsafeCell::new(RELEASED) };
}

/// From now on, tile instructions work in this process.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: an all-zero `sigaction` is a valid one without flags and with an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handle as extern "C" fn(_, _, _) as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: `action` is complete; `handle` has the signature that SA_SIGINFO asks for and
        // calls nothing that a signal handler must not.
        let result = unsafe { libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()) };
        assert_eq!(result, 0, "a handler for SIGILL");
    });
}

/// What the kernel calls at an instruction that the CPU does not know.
extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO, the third argument is the interrupted thread's context, which is
    // ours until we return.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let code = registers[libc::REG_RIP as usize] as *const u8;
    let executed = STATE.with(|state| {
        // SAFETY: the state is this thread's, and the thread is interrupted at a tile instruction,
        // which holds no reference to it.
        let state = unsafe { &mut *state.get() };
        // SAFETY: `code` is where the CPU has just read an instruction.
        unsafe { Instruction::decode(code, registers) }
            .and_then(|found| state.execute(found.0).then_some(found.1))
    });
    match executed {
        Some(length) => registers[libc::REG_RIP as usize] += length,
        // Back to the default; the instruction is tried again, and ends the program.
        // SAFETY: restores the default action of one signal.
        None => unsafe {
            libc::signal(libc::SIGILL, libc::SIG_DFL);
        },
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Instruction {
    Configure { from: *const u8 },
    Release,
    Zero { tile: usize },
    Load { tile: usize, from: *const u8, stride: isize },
    Store { tile: usize, to: *mut u8, stride: isize },
    Multiply { sums: usize, a: usize, b: usize },
}

impl Instruction {
    /// The instruction at `code`, and its length.
    ///
    /// # Safety
    /// There is a whole instruction at `code`.
    unsafe fn decode(code: *const u8, registers: &[libc::greg_t; 23]) -> Option<(Self, i64)> {
        // SAFETY: bytes are only asked for where an instruction that began as it did must go on.
        let byte = |i: usize| unsafe { code.wrapping_add(i).read() };
        if byte(0) != 0xC4 || byte(1) & 0x1F != 2 || byte(2) & 0x84 != 0 {
            return None; // not a VEX prefix of map 0F 38 with W = 0 and L = 0
        }
        // R, X and B extend the numbers of registers; they and vvvv are stored inverted.
        let [r, x, b] = [0x80, 0x40, 0x20].map(|bit| usize::from(byte(1) & bit == 0) * 8);
        let vvvv = usize::from(!byte(2) >> 3 & 0xF);
        let (prefix, opcode, modrm) = (byte(2) & 3, byte(3), byte(4));
        let (mode, reg, rm) = (modrm >> 6, usize::from(modrm >> 3 & 7) + r, usize::from(modrm & 7) + b);
        if mode == 3 {
            let found = match (prefix, opcode) {
                (0, 0x49) if modrm == 0xC0 => Self::Release,
                (3, 0x49) if rm == 0 => Self::Zero { tile: reg },
                (2, 0x5C) => Self::Multiply { sums: reg, a: rm, b: vvvv },
                _ => return None,
            };
            return Some((found, 5));
        }

        let general = |number: usize| {
            use libc::*;
            let order = [
                REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9,
                REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
            ];
            registers[order[number] as usize]
        };
        let mut length = 5;
        let (mut base, mut index) = (rm, None);
        if modrm & 7 == 4 {
            let sib = byte(5);
            length += 1;
            base = usize::from(sib & 7) + b;
            let number = usize::from(sib >> 3 & 7) + x;
            index = (number != 4).then(|| general(number) << (sib >> 6)); // number 4 means no index
        }
        let (displacement, bytes) = match mode {
            0 if base & 7 == 5 => return None, // no base, or relative to the instruction
            0 => (0, 0),
            1 => (i64::from(byte(length).cast_signed()), 1),
            _ => (i64::from(i32::from_le_bytes([0, 1, 2, 3].map(|i| byte(length + i)))), 4),
        };
        length += bytes;
        let address = general(base) + displacement;
        // For tiles the index is the distance of rows, for the configuration it would be part of
        // the address.
        let found = match (prefix, opcode, index) {
            (0, 0x49, index) => Self::Configure { from: (address + index.unwrap_or(0)) as *const u8 },
            (3, 0x4B, Some(stride)) => {
                Self::Load { tile: reg, from: address as *const u8, stride: stride as isize }
            }
            (2, 0x4B, Some(stride)) => {
                Self::Store { tile: reg, to: address as *mut u8, stride: stride as isize }
            }
            _ => return None,
        };
        Some((found, length as i64))
    }
}

impl State {
    /// Does the work; false where a real CPU would raise an exception.
    fn execute(&mut self, instruction: Instruction) -> bool {
        match instruction {
            Instruction::Configure { from } => {
                // SAFETY: a real CPU reads the same 64 bytes.
                let bytes = unsafe { &*from.cast::<[u8; 64]>() };
                *self = RELEASED;
                for i in 0..REGISTERS {
                    self.bytes_per_row[i] =
                        usize::from(u16::from_le_bytes([bytes[16 + 2 * i], bytes[17 + 2 * i]]));
                    self.rows[i] = usize::from(bytes[48 + i]);
                }
                self.configured = true;
                bytes[0] == 1
                    && bytes[1..16].iter().all(|&byte| byte == 0)
                    && self.bytes_per_row.iter().all(|&n| n <= BYTES)
                    && self.rows.iter().all(|&n| n <= ROWS)
            }
            Instruction::Release => {
                *self = RELEASED;
                true
            }
            _ if !self.configured => false,
            Instruction::Zero { tile } => {
                self.tiles[tile] = RELEASED.tiles[0];
                true
            }
            Instruction::Load { tile, from, stride } => {
                self.tiles[tile] = RELEASED.tiles[0];
                for row in 0..self.rows[tile] {
                    let to = &mut self.tiles[tile][row][..self.bytes_per_row[tile]];
                    let from = from.wrapping_offset(row as isize * stride);
                    // SAFETY: a real CPU reads the same bytes.
                    unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
                }
                true
            }
            Instruction::Store { tile, to, stride } => {
                for row in 0..self.rows[tile] {
                    let from = &self.tiles[tile][row][..self.bytes_per_row[tile]];
                    let to = to.wrapping_offset(row as isize * stride);
                    // SAFETY: a real CPU writes the same bytes.
                    unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
                }
                true
            }
            Instruction::Multiply { sums, a, b } => {
                self.multiply(sums, a, b);
                true
            }
        }
    }

    /// `sums[m][n] += Σₖ a[m][k]·b[k][n]`: even and odd k apart, then both together, as the manual
    /// has it; denormals are zero.
    fn multiply(&mut self, sums: usize, a: usize, b: usize) {
        let bf16 = |bytes: &[u8], i: usize| {
            flushed(f32::from_bits(u32::from_le_bytes([0, 0, bytes[2 * i], bytes[2 * i + 1]])))
        };
        for m in 0..self.rows[sums] {
            for n in 0..self.bytes_per_row[sums] / 4 {
                let (mut even, mut odd) = (0.0, 0.0);
                for k in 0..self.bytes_per_row[a] / 4 {
                    let (a, b) = (&self.tiles[a][m], &self.tiles[b][k]);
                    even = flushed(even + bf16(a, 2 * k) * bf16(b, 2 * n));
                    odd = flushed(odd + bf16(a, 2 * k + 1) * bf16(b, 2 * n + 1));
                }
                let sum: &mut [u8; 4] = &mut self.tiles[sums][m].as_chunks_mut().0[n];
                let before = flushed(f32::from_le_bytes(*sum));
                *sum = flushed(before + flushed(even + odd)).to_le_bytes();
            }
        }
    }
}

/// Numbers too small for a full significand count as zero.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0 } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodings as the GNU assembler writes them.
    #[test]
    fn instructions_are_read_as_the_assembler_writes_them() {
        let mut registers = [0; 23];
        registers[libc::REG_RAX as usize] = 0x1000;
        registers[libc::REG_RCX as usize] = 64;
        registers[libc::REG_R9 as usize] = 0x9000;
        registers[libc::REG_R10 as usize] = 128;
        let decode = |code: &[u8]| {
            // SAFETY: the slices below hold whole instructions.
            unsafe { Instruction::decode(code.as_ptr(), &registers) }
        };
        use Instruction::*;
        let cases: [(&[u8], Instruction); 7] = [
            (&[0xC4, 0xE2, 0x78, 0x49, 0x00], Configure { from: 0x1000 as _ }),
            (&[0xC4, 0xE2, 0x78, 0x49, 0xC0], Release),
            (&[0xC4, 0xE2, 0x7B, 0x49, 0xD8], Zero { tile: 3 }),
            (&[0xC4, 0xE2, 0x7B, 0x4B, 0x34, 0x08], Load { tile: 6, from: 0x1000 as _, stride: 64 }),
            (
                &[0xC4, 0x82, 0x7B, 0x4B, 0xBC, 0x11, 0x40, 0x08, 0x00, 0x00],
                Load { tile: 7, from: 0x9840 as _, stride: 128 },
            ),
            (&[0xC4, 0xE2, 0x7A, 0x4B, 0x44, 0x08, 0x40], Store { tile: 0, to: 0x1040 as _, stride: 64 }),
            (&[0xC4, 0xE2, 0x4A, 0x5C, 0xC1], Multiply { sums: 0, a: 1, b: 6 }),
        ];
        for (code, expected) in cases {
            assert_eq!(decode(code), Some((expected, code.len() as i64)), "{code:x?}");
        }
        assert_eq!(decode(&[0x0F, 0x0B]), None); // ud2
    }

    #[test]
    fn a_product_of_small_tiles_by_hand() {
        let mut state = RELEASED;
        state.rows[..3].copy_from_slice(&[1, 1, 2]);
        state.bytes_per_row[..3].copy_from_slice(&[4, 8, 4]); // 1×1 sums, 1×4 of A, 4×1 of B
        let set = |bytes: &mut [u8], numbers: &[f32]| {
            for (bytes, x) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
                let [_, _, lo, hi] = x.to_le_bytes();
                *bytes = [lo, hi];
            }
        };
        set(&mut state.tiles[1][0], &[1.0, 2.0, 3.0, 4.0]);
        set(&mut state.tiles[2][0], &[5.0, 6.0]);
        set(&mut state.tiles[2][1], &[7.0, 8.0]);
        state.tiles[0][0][..4].copy_from_slice(&100f32.to_le_bytes());
        state.multiply(0, 1, 2);
        assert_eq!(state.tiles[0][0][..4], 170f32.to_le_bytes()); // 100 + 5 + 12 + 21 + 32
    }
}
