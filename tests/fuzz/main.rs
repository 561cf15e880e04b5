//! All targets of `tests/src/fuzz.rs` in one libFuzzer binary; the environment chooses:
//! `AQUATINT_FUZZ=prompt cargo fuzz run --fuzz-dir tests/fuzz target tests/fuzz/corpus/prompt`.

#![no_main]

use std::sync::LazyLock;

use aquatint_tests::fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("AQUATINT_FUZZ").unwrap_or_default();
    let names = TARGETS.map(|(name, _)| name).join(", ");
    let target = TARGETS.into_iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("AQUATINT_FUZZ is `{name}`; expected one of {names}")).1
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
