# The words that developers and CI share. `just` alone lists them.

_default:
    @just --list

# Format, lints and documentation, warnings denied; layers and the width of comments.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
    cargo test --package aquatint-tests --locked --test layers

# Every test on every instruction set that this CPU has, then the command line once more on the portable one.
test:
    cargo test --workspace
    AQUATINT_ISA=portable cargo test --workspace --locked --test end_to_end

# Criterion benches; `just bench conv2d` runs one of them.
bench *name:
    cargo bench --package aquatint-benches {{ if name == "" { "" } else { "--bench " + name } }}

# The sheet at the top of README.md, drawn by the embedded model.
demo:
    cargo run --release -- demo --force --output model/embedded/demo.png

# The documentation, in a browser.
docs:
    cargo doc --workspace --no-deps --open
