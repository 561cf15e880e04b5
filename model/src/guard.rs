//! Code of others that reads strangers' files, kept from ending the program.
//!
//! Decoders of images, texts and archives are written not to panic, and some do on files that are
//! made for it. A caller who makes a hundred pictures should lose one of them, not the rest.

use std::any::Any;
use std::cell::Cell;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// How many guards this thread is inside of.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Runs `decode`; a panic inside becomes an error made by `damaged` from what the panic said.
///
/// Nothing is printed about it: the process's panic hook is left out for this thread and this call.
/// What `decode` was changing when it panicked must not be used afterwards.
pub(crate) fn guarded<T, E>(
    damaged: impl FnOnce(&dyn Display) -> E,
    decode: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    static SILENCE: Once = Once::new();
    SILENCE.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                hook(info);
            }
        }));
    });
    DEPTH.set(DEPTH.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(decode));
    DEPTH.set(DEPTH.get() - 1);
    result.unwrap_or_else(|panic| Err(damaged(&format_args!("its decoder gave up ({})", message(&*panic)))))
}

/// The words of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.and_then(|text| text.lines().next()).unwrap_or("without a reason")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        guarded(|reason| format!("damaged: {reason}"), decode)
    }

    #[test]
    fn a_panic_becomes_the_error_of_its_file() {
        let bytes: [u8; 0] = [];
        let error = run(|| Ok(*bytes.iter().max().expect("a byte"))).expect_err("it panicked");
        assert_eq!(error, "damaged: its decoder gave up (a byte)");
        assert_eq!(run(|| Ok(7)), Ok(7));
        assert_eq!(run::<u8>(|| Err("no".into())), Err("no".into()));
    }

    /// The hook of this test is the outer one's: it hears of panics outside of a guard, and of
    /// other threads.
    #[test]
    fn a_panic_outside_is_still_told() {
        let _ = run::<()>(|| panic!("inside"));
        assert_eq!(DEPTH.get(), 0, "the depth is as before");
        let nested = run(|| {
            let inner = run::<()>(|| panic!("inner"));
            assert_eq!(DEPTH.get(), 1, "the outer guard is still there");
            inner
        });
        assert!(nested.expect_err("the inner one").contains("inner"));
    }
}
