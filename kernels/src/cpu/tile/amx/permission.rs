//! What must hold before the first tile instruction: the CPU has it (CPUID), the operating system
//! saves the registers (XCR0), and Linux has granted this process the 8 KB for each thread that
//! this takes (`arch_prctl`, since 5.16).

/// Whether the CPU has tiles with bf16 products, and the operating system saves them.
pub(super) fn is_present() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    /// CPUID leaf 7, EDX: AMX-BF16 and AMX-TILE_M.
    const AMX: u32 = 1 << 22 | 1 << 24;
    /// XCR0: tile configuration and tile data.
    const SAVED: u64 = 1 << 17 | 1 << 18;
    // That AVX-512 is usable implies that XGETBV is.
    if !is_x86_feature_detected!("avx512f") || !is_x86_feature_detected!("xsave") || __cpuid(0).eax < 7 {
        return false;
    }
    // SAFETY: `xsave` was detected just above.
    __cpuid_count(7, 0).edx & AMX == AMX && unsafe { _xgetbv(0) } & SAVED == SAVED
}

/// Asks the kernel for the tile registers; whether it grants them.
#[cfg(target_os = "linux")]
pub(super) fn ask() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two integers; it only changes what this process may use, and how large
    // the signal frames are that it gets.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Other systems have other ways to ask, none of which has been tried yet.
#[cfg(not(target_os = "linux"))]
pub(super) fn ask() -> bool {
    false
}
